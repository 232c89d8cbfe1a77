# A psql that stays open, so that a test can do something else while a statement runs.
package TwilioTest::Session;

use strict;
use warnings;
use IPC::Run;

my $marks = 0;

sub new
{
	my ($class, $node, $db) = @_;
	my $self = bless { in => '', out => '', err => '' }, $class;
	my @psql = ($node->installed_command('psql'), '-XAtq', '-f', '-', '-d', $node->connstr($db));
	$self->{psql} = IPC::Run::start(\@psql, '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		IPC::Run::timeout(120));
	$self->run('\set VERBOSITY verbose');
	$self->{pid} = $self->run('SELECT pg_backend_pid()');
	return $self;
}

# The server process.
sub pid { return shift->{pid} }

# Starts statements; result() waits for them.
sub send
{
	my ($self, $sql) = @_;
	my $mark = 'mark ' . ++$marks;
	$self->{mark} = $mark;
	$self->{out} = $self->{err} = '';
	$self->{in} .= "$sql\n;\n\\echo $mark\n\\warn $mark\n";
	$self->{psql}->pump_nb;
	return;
}

# Whether they have ended.
sub ended
{
	my ($self) = @_;
	$self->{psql}->pump_nb if $self->{psql}->pumpable;
	return !$self->{psql}->pumpable || !grep { !/^$self->{mark}\n/m } $self->{out}, $self->{err};
}

# What they printed; errors are in error() afterwards.
sub result
{
	my ($self) = @_;
	$self->{psql}->pump until $self->ended;
	my $mark = delete $self->{mark};
	s/^$mark\n//m for $self->{out}, $self->{err};
	(my $out = $self->{out}) =~ s/\n\z//;
	return $out;
}

sub error { return shift->{err} }

sub run { my ($self, $sql) = @_; $self->send($sql); return $self->result }

sub quit
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{psql}->finish };
	return;
}

1;
