# Idle means idle: no statements, no wake-ups, no snapshot; and the log has requests only when asked for.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => "autovacuum = off\n");
wait_for_worker($node);
configure($node, $standin, 1);
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'the worker has had work');

sub wakeups { return slurp_file("/proc/$_[0]/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m ? $1 : die }
sub transactions
{
	return $node->safe_psql('template1',
		"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'");
}

my %pid = (worker => worker_pid($node), launcher => launcher_pid($node));
my %before;
# What is left to do after work (a connection kept alive, the statistics) is done within 20 s.
my $quiet = 5;
wait_until {
	%before = (transactions => transactions(), map { $_ => wakeups($pid{$_}) } keys %pid);
	sleep $quiet;
	$before{transactions} == transactions() && !grep { wakeups($pid{$_}) - $before{$_} > 1 } keys %pid;
} 20, "worker and launcher come to rest: for $quiet s no transaction, and at most one wake-up each, the safety poll's";
is($node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity
	WHERE backend_type ~ '^pg_twilio' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL OR xact_start IS NOT NULL)"),
	'0', 'and neither holds a transaction or a snapshot');

unlike(slurp_file($node->logfile), qr/twilio: GET/, 'requests are not logged unless that is asked for');
$node->append_conf('postgresql.conf', 'twilio.log_requests = on');
$node->reload;
my $sid = account_sid(1);
wait_until {
	as_user($node, 1, 'SELECT verified FROM twilio_verify()');
	slurp_file($node->logfile) =~ m{LOG: .*twilio: GET /2010-04-01/Accounts/$sid\.json 200 \d+ ms RQ};
} 10, 'with log_requests each request is one line';
my $logged = -s $node->logfile;
my @paths = map { "/v2/PhoneNumbers/$_" } '%2B12025550199?To=%2B12025550199', '+12025550199/Line', '2025550199';
$node->safe_psql('postgres', join ';', map { "SELECT twilio_private.ask_account(twilio_private.require_account('" . user_id(1) . "'), 'lookup', 'GET', 'lookups.twilio.com', '$_')" } @paths);
$standin->listener('closed');
$standin->listener('cut');
is(as_user($node, 1, 'SELECT * FROM twilio_verify()')->{state}, 'PT502', '... one that nobody answers, too');
$standin->listener('open');
my @lines = slurp_file($node->logfile, $logged) =~ /LOG: .*twilio: (.*)/g;
like($lines[$_], qr{^GET /v2/PhoneNumbers/… \d+ \d+ ms RQ\w+$}, "... without the phone number: $paths[$_]") for 0, 2;
like($lines[1], qr{^GET /v2/PhoneNumbers/…/Line \d+ \d+ ms RQ\w+$}, '... and with what is behind it');
like($lines[3], qr{^GET /2010-04-01/Accounts/$sid\.json unreachable \d+ ms $}, '... which says what became of it');
is(scalar @lines, 4, '... and nothing else');
$standin->control(DELETE => 'mismatches');    # Twilio has no such paths

sub threads { my @tasks = glob "/proc/$pid{worker}/task/*"; return scalar @tasks }
enable_sending($node, $standin, 2);
write_messages($node, 2, 'many', 200);
wait_until { threads() == 2 } 10, 'with many messages under way, a second thread goes on with them';
wait_until { threads() == 1 } 20, '... and ends when they are sent';

$node->append_conf('postgresql.conf', 'twilio.enabled = off');
$node->reload;
wait_until { as_user($node, 1, 'SELECT * FROM twilio_verify()')->{state} eq 'PT409' } 10, 'with enabled = off a question is refused';
my $sent = $standin->stats->{requests};
as_user($node, 1, 'SELECT * FROM twilio_verify()');
is($standin->stats->{requests}, $sent, '... and not sent');
is(run_sql($node, 'SELECT enabled FROM twilio_status')->{out}, 'f', '... and twilio_status says so');

TwilioTest::finish();
