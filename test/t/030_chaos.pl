# Under load, with Twilio misbehaving, everything is killed at random moments, round after round. In the
# end the stand-in's ledger and the table agree: no message lost, none sent twice, none sent that was
# not committed.
#
# ROUNDS and MESSAGES (all rounds together) say how long; SEED repeats a run's random choices.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $rounds = $ENV{ROUNDS} || 4;
my $messages = $ENV{MESSAGES} || 1000;
my $seed = $ENV{SEED} || time;
my $tenants = 4;
my $each = int($messages / $rounds / $tenants) || 1;    # messages of one tenant in one round
my $dir = PostgreSQL::Test::Utils::tempdir('clients');
srand $seed;
diag("$rounds rounds, $messages messages, SEED=$seed");

my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.request_timeout = 2s
twilio.reconcile_after = 1s
twilio.poll_interval = 5s
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. $tenants;

# All at once, in the proportions of a bad day.
sub misbehave
{
	my %post = (match => { method => 'POST' });
	$standin->behave('429', %post, probability => 0.05);
	$standin->behave('500', %post, probability => 0.03);
	$standin->behave('500', %post, probability => 0.02, accept => JSON::PP::true);
	$standin->behave('accept-then-drop', %post, probability => 0.02);
	$standin->behave('accept-then-drop', %post, probability => 0.02, only_stream => JSON::PP::true);
	$standin->behave('drop-before', %post, probability => 0.02, only_stream => JSON::PP::true);
	$standin->behave('truncate', %post, probability => 0.02);
	$standin->behave('bad-json', %post, probability => 0.01);
	$standin->behave('html', %post, probability => 0.01);
	$standin->behave('hang', %post, probability => 0.005);
	$standin->behave('503', match => { method => 'GET' }, probability => 0.05);
	$standin->behave('delay', ms => 20);
	return;
}

# The rows of a tenant in a round that are not there yet. Texts are unique, recipients are not.
sub insert
{
	my ($round, $n, $from, $to) = @_;
	return "INSERT INTO twilio_messages (to_number, body) SELECT '+1202555' || (1000 + i % 40), 'chaos $round/$n/' || i FROM generate_series($from, $to) i"
	  . " WHERE NOT EXISTS (SELECT FROM twilio_messages m WHERE m.body = 'chaos $round/$n/' || i)";
}

# A client that writes its rows in small transactions, some of which it rolls back, until the server goes away.
sub start_client
{
	my ($round, $n) = @_;
	my $script = "SET ROLE twilio_user;\nSET twilio.user_id = '" . user_id($n) . "';\n";
	for (my $i = 1; $i <= $each; $i += 10)
	{
		$script .= "BEGIN;\nINSERT INTO twilio_messages (to_number, body) VALUES ('+12025550199', 'rolled back $round/$n/$i');\nROLLBACK;\n";
		$script .= insert($round, $n, $i, $i + 9 > $each ? $each : $i + 9) . ";\n";
	}
	my $file = "$dir/$round.$n.sql";
	append_to_file($file, $script);
	my $pid = fork // die $!;
	return $pid if $pid;
	open STDERR, '>', "$file.log";
	open STDOUT, '>', "$file.log";
	exec($node->installed_command('psql'), '-XAtq', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr('postgres'))
	  or POSIX::_exit(1);
}

sub start_again
{
	# Processes of the former server may still be on their way out; a start that fails because of them has
	# read the process id that the former server left behind.
	for (1 .. 100)
	{
		return if $node->start(fail_ok => 1);
		$node->{_pid} = undef;
		usleep(100_000);
	}
	BAIL_OUT('the server does not start again');
}

sub pid_of { my ($type) = @_; return eval { $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' LIMIT 1") } }
my %crash = (
	'the worker is killed' => sub { my $pid = pid_of('pg_twilio worker'); kill KILL => $pid if $pid },
	'the postmaster is killed' => sub { $node->kill9; start_again() },
	'immediate shutdown' => sub { $node->stop('immediate'); start_again() },
	'fast shutdown' => sub { $node->stop('fast'); start_again() },
	'the worker is terminated' => sub { my $pid = pid_of('pg_twilio worker'); kill TERM => $pid if $pid },
	'the launcher is killed' => sub { my $pid = pid_of('pg_twilio launcher'); kill KILL => $pid if $pid },
	'all connections are cut' => sub { $standin->listener('cut') },
	'nobody listens for a while' => sub { $standin->listener('closed'); $standin->listener('cut'); usleep(300_000); $standin->listener('open') });
# The three that hurt most come first and as often as all others together.
my @hard = ('the worker is killed', 'the postmaster is killed', 'immediate shutdown');
my @soft = grep { my $name = $_; !grep { $_ eq $name } @hard } sort keys %crash;

# All that is known of a message that was sent twice: the requests, and the row with its events.
sub diag_twice
{
	for my $body (@_)
	{
		diag("$body: " . join ' ', map { $_ // '-' } @$_{qw(n at http status accepted sid)}) for @{ $standin->ledger(method => 'POST', body => $body) };
		diag($node->safe_psql('postgres', "SELECT m.sid, m.submitted_at, e.status, e.source, e.occurred_at FROM twilio_messages m
			JOIN twilio_message_events e ON e.message_id = m.id WHERE m.body = " . quote($body) . ' ORDER BY e.id'));
	}
	return;
}

for my $round (1 .. $rounds)
{
	my $name = $round % 4 == 0 ? $soft[rand @soft] : $hard[($round - 1) % 4 % 3];
	misbehave();
	my $before = accepted($standin);
	my @clients = map { start_client($round, $_) } 1 .. $tenants;
	my $moment = 1 + int rand($each * $tenants * 0.7);
	wait_until { accepted($standin) - $before >= $moment } 60, "round $round: $name after $moment messages";
	$crash{$name}->();
	waitpid $_, 0 for @clients;
	BAIL_OUT('the server is not back') unless $node->poll_query_until('postgres', 'SELECT true');
	for my $n (1 .. $tenants)
	{
		wait_until { as_user($node, $n, insert($round, $n, 1, $each))->{ok} } 30, "tenant $n writes what is missing";
	}
	$standin->calm if rand() < 0.5;
}

$standin->calm;
my $deadline = 60 + $messages / 50;
my $open = "SELECT count(*) FROM twilio_private.outbox WHERE kind IN ('message', 'message_look')";
wait_until { eval { $node->safe_psql('postgres', $open) eq '0' } } $deadline, 'in the end nothing is queued or in doubt'
  or diag($node->safe_psql('postgres', 'SELECT kind, state, count(*), min(due_at) - now(), max(note) FROM twilio_private.outbox GROUP BY 1, 2'));

my $total = $each * $tenants * $rounds;
is($node->safe_psql('postgres', 'SELECT count(*) FROM twilio_messages'), $total, 'all messages that were committed are there');
is($node->safe_psql('postgres', 'SELECT count(*) FROM twilio_messages WHERE sid IS NOT NULL'), $total, '... each with a SID')
  or diag($node->safe_psql('postgres', 'SELECT status, error_code, error_message, count(*) FROM twilio_messages WHERE sid IS NULL GROUP BY 1, 2, 3'));
my $ledger = $standin->control(GET => 'ledger/duplicates?method=POST&key=To,Body');
is($ledger->{extra}, 0, 'Twilio has accepted none of them twice') or diag_twice(map { $_->{values}[1] } @{ $ledger->{examples} });
is($ledger->{distinct}, $total, '... and each of them');
my $at_twilio = join "\n", sort map { my %p = map { @$_ } @{ $_->{params} }; "$_->{sid} $p{To} $p{Body}" }
  @{ $standin->ledger(method => 'POST', path => 'Messages.json', accepted => 'true', limit => 10 * $total) };
is($at_twilio eq join("\n", sort split /\n/, $node->safe_psql('postgres', "SELECT concat_ws(' ', sid, to_number, body) FROM twilio_messages")), 1,
	'ledger and table agree, SID by SID, and nothing was sent that was rolled back');
cmp_ok($standin->count(method => 'POST', path => 'Messages.json', accepted => 'false'), '>', 0, '... although Twilio has refused or dropped some');
unlike(slurp_file($node->logfile), qr/PANIC/, 'no process panicked');

TwilioTest::finish();
