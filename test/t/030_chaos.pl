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
use TwilioTest::Chaos;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

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

my %crash = accidents($node, $standin);
# The three that hurt most come first and as often as all others together.
my @hard = ('the worker is killed', 'the postmaster is killed', 'immediate shutdown');
my @soft = grep { my $name = $_; !grep { $_ eq $name } @hard } sort keys %crash;

for my $round (1 .. $rounds)
{
	my $name = $round % 4 == 0 ? $soft[rand @soft] : $hard[($round - 1) % 4 % 3];
	misbehave($standin);
	my $before = accepted($standin);
	my @clients = map { start_client($round, $_) } 1 .. $tenants;
	my $moment = 1 + int rand($each * $tenants * 0.7);
	wait_until { accepted($standin) - $before >= $moment } 60, "round $round: $name after $moment messages";
	$crash{$name}->();
	waitpid $_, 0 for @clients;
	takes_connections($node, "... the server is back") or BAIL_OUT('the server is not back');
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
load_ledger($node, $standin);
my @twice = sent_twice($node);
is(join(', ', @twice), '', 'Twilio has accepted none of them twice') or tell_about($node, @twice[ 0 .. ($#twice < 9 ? $#twice : 9) ]);
my $only = $node->safe_psql('postgres', 'SELECT * FROM (SELECT sid, to_number, body FROM ledger WHERE accepted) l
	FULL JOIN (SELECT sid, to_number, body FROM twilio_messages) m USING (sid, to_number, body) WHERE l IS NULL OR m IS NULL LIMIT 10');
is($only, '', 'ledger and table agree, SID by SID, and nothing was sent that was rolled back');
cmp_ok($standin->count(method => 'POST', path => 'Messages.json', accepted => 'false'), '>', 0, '... although Twilio has refused or dropped some');
unlike(slurp_file($node->logfile), qr/PANIC/, 'no process panicked');

TwilioTest::finish();
