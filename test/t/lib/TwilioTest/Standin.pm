# The stand-in for Twilio, from a test's side: starts it, gives it orders, reads its ledger.
# What it understands is described in test/standin.
package TwilioTest::Standin;

use strict;
use warnings;
use HTTP::Tiny;
use JSON::PP;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC usleep);

use PostgreSQL::Test::Utils;

my $made = 0;
my $json = JSON::PP->new->canonical;

sub new
{
	my ($class, @arguments) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir('standin');
	my $main = $ENV{TWILIO_STANDIN} or BAIL_OUT('TWILIO_STANDIN names no stand-in');

	# It ends when this pipe does, so it never outlives the test.
	my $pid = open(my $pipe, '|-', 'node', $main, '--dir', $dir, '--with-parent', @arguments)
	  or BAIL_OUT("the stand-in did not start: $!");
	my $deadline = clock_gettime(CLOCK_MONOTONIC) + 30;
	until (-s "$dir/standin.json")
	{
		BAIL_OUT('the stand-in is not ready') if clock_gettime(CLOCK_MONOTONIC) > $deadline;
		usleep(20_000);
	}
	my $ready = $json->decode(PostgreSQL::Test::Utils::slurp_file("$dir/standin.json"));
	return bless { %$ready, pipe => $pipe, http => HTTP::Tiny->new(timeout => 120, keep_alive => 0) }, $class;
}

sub stop
{
	my ($self) = @_;
	close delete $self->{pipe} if $self->{pipe};
	return;
}

# The server's settings that lead to it.
sub configuration
{
	my ($self) = @_;
	return "twilio.ca_file = '$self->{ca}'\ntwilio.connect_to = '127.0.0.1:$self->{port}'\n";
}

# What the control API answers, as text and decoded.
sub text
{
	my ($self, $method, $route, $body) = @_;
	my $base = $self->{control} =~ /^http/ ? $self->{control} : "http://127.0.0.1:$self->{control}";
	my $answer = $self->{http}->request($method, "$base/$route",
		defined $body ? { content => $json->encode($body), headers => { 'content-type' => 'application/json' } } : {});
	BAIL_OUT("$method $route: $answer->{status} $answer->{content}") unless $answer->{success};
	return $answer->{content};
}
sub control { my ($self, @request) = @_; return $json->decode($self->text(@request)) }

sub query
{
	my (%filter) = @_;
	return %filter ? '?' . HTTP::Tiny->new->www_form_urlencode(\%filter) : '';
}

sub account { my ($self, $account) = @_; return $self->control(POST => 'accounts', $account) }
sub change { my ($self, $sid, %change) = @_; return $self->control(PATCH => "accounts/$sid", \%change) }

# behave('hang', match => {...}, times => 1) from now on; calm() ends all of it.
sub behave { my ($self, $action, %order) = @_; return $self->control(POST => 'behave', { action => $action, %order }) }
sub calm { my ($self) = @_; return $self->control(DELETE => 'behave') }

# open, closed (nobody listens) or cut (drops every connection)
sub listener { my ($self, $state) = @_; return $self->control(POST => 'listener', { state => $state }) }

sub ledger { my ($self, %filter) = @_; return $self->control(GET => 'ledger' . query(%filter)) }
sub count { my ($self, %filter) = @_; return $self->control(GET => 'ledger/count' . query(%filter))->{count} }
sub stats { my ($self) = @_; return $self->control(GET => 'stats') }
sub mismatches { my ($self) = @_; return $self->control(GET => 'mismatches')->{mismatches} }

1;
