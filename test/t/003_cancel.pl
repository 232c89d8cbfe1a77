# A question that is given up, by whom and why ever, ends at once and leaves nothing behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.api_rate_limit = 0
twilio.ask_timeout = 60s
twilio.request_timeout = 60s
twilio.max_in_flight = 200
twilio.user_max_in_flight = 200
END
wait_for_worker($node);
configure($node, $standin, 1);
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'a question is answered');

my $ask = 'SELECT verified FROM twilio_verify()';
my $good = sub { as_user($node, 1, $ask)->{out} eq 't' };

# What may leak: descriptors of the worker, segments of dynamic shared memory, requests, ring slots.
sub descriptors { my @open = glob '/proc/' . worker_pid($node) . '/fd/*'; return scalar @open }
# Those that a process of this cluster has mapped: other clusters may be at work on this machine.
sub segments
{
	my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
	my %mapped;
	for my $pid ($postmaster, split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children"))
	{
		my $maps = eval { slurp_file("/proc/$pid/maps") } // '';
		$mapped{$_} = 1 for $maps =~ m{/dev/shm/(PostgreSQL\.\d+)}g;
	}
	return join ' ', sort keys %mapped;
}
# Memory of its own: the pages of shared_buffers that it has touched count as resident too.
sub resident { return slurp_file('/proc/' . worker_pid($node) . '/status') =~ /^RssAnon:\s+(\d+) kB/m ? $1 : 0 }
sub ends { my ($session, $what) = @_; return wait_until { $session->ended } 5, "$what ends at once" }
sub in_flight { return $node->safe_psql('postgres', 'SELECT in_flight FROM twilio_private.worker_stats()') }

# ---- one by one -------------------------------------------------------------------------------

$standin->behave('hang');
my $session = connect_session($node, user => 1);

$session->run("SET statement_timeout = '1s'");
$session->send($ask);
ends($session, 'a question for which there is a statement_timeout');
$session->result;
like($session->error, qr/57014/, '... as any statement does');
is($session->run('SET statement_timeout = 0; SELECT 1'), '1', '... and leaves the session usable');
$standin->calm;
is($session->run($ask), 't', '... whose next question is answered');
$standin->behave('hang');

my $asked = $standin->stats->{requests};
$session->send($ask);
wait_until { $standin->stats->{requests} > $asked } 10, 'another question is open';
$node->safe_psql('template1', 'SELECT pg_cancel_backend(' . $session->pid . ')');
ends($session, 'one that pg_cancel_backend is told about');
$session->result;
like($session->error, qr/57014/, '... as any statement does');
wait_until { in_flight() eq '0' } 10, '... and its request';

$asked = $standin->stats->{requests};
$session->send($ask);
wait_until { $standin->stats->{requests} > $asked } 10, 'a third question is open';
$node->safe_psql('template1', 'SELECT pg_terminate_backend(' . $session->pid . ')');
wait_until { in_flight() eq '0' } 10, 'pg_terminate_backend ends the request of a question';
$session->quit;
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_audit_log WHERE action = 'verify' AND outcome = 'canceled'") eq '3' }
  10, 'the audit log has the three as canceled';
# libcurl tells the other side that an HTTP/2 request was given up together with the next one.
$standin->calm;
ok($good->(), 'the next question is answered');
wait_until { $standin->stats->{in_flight} == 0 } 10, '... and nothing is open at Twilio any more';
$standin->behave('hang');

# ---- the worker dies --------------------------------------------------------------------------

$session = connect_session($node, user => 1);
$session->send($ask);
wait_until { $standin->stats->{in_flight} > 0 } 10, 'a question is open';
my $worker = worker_pid($node);
$node->safe_psql('template1', "SELECT pg_terminate_backend($worker)");
ends($session, 'a question whose worker is terminated');
$session->result;
like($session->error, qr/PT502/, '... with PT502');
is($session->run('SELECT 1'), '1', '... and leaves the session usable');
$standin->calm;
wait_until { $good->() } 10, 'the next worker answers';

$standin->behave('hang');
$session->send($ask);
wait_until { $standin->stats->{in_flight} > 0 } 10, 'a question is open';
kill KILL => worker_pid($node);
ends($session, 'a question whose worker is killed');
$session->quit;
$standin->calm;
wait_until { eval { $good->() } } 20, 'after the restart that PostgreSQL makes, questions are answered';

# ---- a thousand times -------------------------------------------------------------------------

wait_until { in_flight() eq '0' } 10, 'nothing is in flight';
my $segments = segments();
my $descriptors = descriptors();

$standin->behave('hang');
# One session asks 20 times 50 questions; each ends by its statement_timeout, and every other by ask_timeout.
my @sessions = map { connect_session($node, user => 1) } 1 .. 10;
my $loop = <<'END';
DO $$
BEGIN
    FOR i IN 1..100 LOOP
        BEGIN
            PERFORM set_config('twilio.ask_timeout', (5 + i % 40)::text || 'ms', false);
            PERFORM twilio_verify();
        EXCEPTION WHEN SQLSTATE 'PT504' THEN
            NULL;
        END;
    END LOOP;
END $$
END
$_->send($loop) for @sessions;
$_->result for @sessions;
is(join('', map { $_->error } @sessions), '', '1,000 questions that time out raise PT504 and nothing else');

# Cancelled from outside, at a random moment.
for my $round (1 .. 20)
{
	$_->send("SET twilio.ask_timeout = '60s'; $ask") for @sessions;
	$node->safe_psql('template1', 'SELECT pg_sleep(random() * 0.05), pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid IN ('
		. join(', ', map { $_->pid } @sessions) . ')') for 1 .. 2;
	# One that was between two statements when it was told is told again.
	$node->poll_query_until('template1', 'SELECT count(pg_cancel_backend(pid)) = 0 FROM pg_stat_activity WHERE state = \'active\' AND pid IN ('
		. join(', ', map { $_->pid } @sessions) . ')');
	$_->result for @sessions;
}
$standin->calm;
wait_until { in_flight() eq '0' } 10, 'after 200 more were cancelled nothing is in flight';
$_->quit for @sessions;

ok($good->(), 'the worker answers as before');
wait_until { $standin->stats->{in_flight} == 0 } 10, '... and nothing is open at Twilio';
wait_until { descriptors() <= $descriptors + 2 } 10, "its descriptors are as many as before ($descriptors)";
wait_until { segments() eq $segments } 10, 'no segment of dynamic shared memory is left';

# ---- memory -----------------------------------------------------------------------------------

my $many = 'DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM twilio_verify(); END LOOP; END $$';
as_user($node, 1, $many, timeout => 120);
my $warm = resident();
as_user($node, 1, $many, timeout => 120) for 1 .. 2;
cmp_ok(resident() - $warm, '<', 2048, '4,000 more questions do not make the worker grow by 2 MB')
  or diag("from $warm kB to " . resident() . ' kB');

TwilioTest::finish();
