# A worker that runs an app's trigger or waits: it can be cancelled, terminated and shut down. One that was stopped sends
# nothing that has expired since.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Chaos;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.poll_interval = 1h
twilio.reconcile_after = 1s
twilio.max_in_flight = 20
twilio.user_max_in_flight = 20
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, 1);

# ---- between transactions -----------------------------------------------------------------------------

$standin->behave('hang', times => 1);
my $id = send_sms($node, 1, body => 'under way');
wait_until { posts($standin) == 1 } 10, 'a request is under way';
my $worker = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)");
send_sms($node, 1, body => 'after the cancel');
wait_until { messages_with($node, 'after the cancel', 'queued') == 1 } 10, 'a worker that is cancelled while it waits for Twilio goes on';
is(worker_pid($node), $worker, '... as the same process');
is(message($node, $id), 'submitting', '... with its request');
$standin->calm;
kill TERM => $worker;
wait_until { message($node, $id, 'sid IS NOT NULL') eq 't' } 20, 'terminated, it leaves the message to its successor';

# ---- stopped, as a machine is that sleeps --------------------------------------------------------------

my $so_far = posts($standin) + 20;
$standin->behave('delay', ms => 2000, match => { method => 'POST' });
as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, expires_at)
	SELECT '+12025550199', 'asleep ' || i, now() + interval '3 seconds' FROM generate_series(1, 50) i");
$worker = worker_pid($node);
wait_until { posts($standin) == $so_far } 10, 'as much is under way as may be';
kill STOP => $worker;
is(messages_with($node, 'asleep %', 'submitting'), 50, '... and more is claimed');
wait_until { $node->safe_psql('postgres', q{SELECT max(expires_at) < now() FROM twilio_messages WHERE body LIKE 'asleep %'}) eq 't' } 10, 'the worker is stopped until it has expired';
kill CONT => $worker;
wait_until { messages_with($node, 'asleep %', 'failed') == 30 } 10, 'when it goes on, what was not under way has failed';
is(messages_with($node, 'asleep %', 'queued'), 20, '... and what was is sent');
is(posts($standin), $so_far, '... and nothing else');
$standin->calm;

# ---- in an app's trigger that does not end ------------------------------------------------------------

# What the app's trigger does.
sub app { my ($does) = @_; return $node->safe_psql('postgres', "CREATE OR REPLACE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN $does; RETURN NULL; END'") }
app('PERFORM pg_sleep(600)');
$node->safe_psql('postgres', <<'END');
CREATE TRIGGER dawdle AFTER UPDATE OF status ON twilio_messages
	FOR EACH ROW WHEN (NEW.body = 'dawdle') EXECUTE FUNCTION dawdle();
END
sub dawdling { return $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker' AND wait_event = 'PgSleep'") }
send_sms($node, 1, body => 'dawdle');
$worker = wait_until { dawdling() } 10, q{a worker is in an app's trigger that does not end};
$node->safe_psql('postgres', "SELECT pg_terminate_backend($worker)");
wait_until { !kill 0, $worker } 5, 'it can be terminated';
wait_until { dawdling() } 10, 'its successor gets there, too';
stops_within($node, 10, 'a fast shutdown does not wait for the trigger');

$node->start;
$worker = wait_until { dawdling() } 10, 'after the start the worker is in it again';
app('NULL');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)");
wait_until { messages_with($node, 'dawdle', 'queued') == 1 } 20, 'cancelled there, it goes on, and the message is sent';
is(worker_pid($node), $worker, '... by the same process');

# ---- in an app's trigger, with others under way -------------------------------------------------------

app('PERFORM pg_sleep(600)');
$node->safe_psql('postgres', <<'END');
CREATE TRIGGER linger AFTER UPDATE OF sid ON twilio_messages
	FOR EACH ROW WHEN (NEW.body = 'beside 1') EXECUTE FUNCTION dawdle();
END
my $before = posts($standin);
$standin->behave('delay', ms => 100, match => { method => 'POST' });
write_messages($node, 1, 'beside', 60);
$worker = wait_until { dawdling() } 10, q{a worker is in an app's trigger for one of sixty messages};
wait_until { posts($standin) == $before + 60 } 10, 'what it has claimed is sent meanwhile';
is(dawdling(), $worker, '... while it is there');
app('NULL');
$node->safe_psql('postgres', "SELECT pg_cancel_backend($worker)");
wait_until { messages_with($node, 'beside %', 'queued') == 60 } 20, 'and when it goes on, all of it is recorded';
is(duplicates($standin), 0, 'nothing was sent twice');

# ---- busy, when its postmaster is killed --------------------------------------------------------------

app('PERFORM count(*) FROM generate_series(1, 100000)'); # not asleep: who sleeps is told of it
$node->safe_psql('postgres', <<'END');
CREATE TRIGGER slow AFTER UPDATE OF sid ON twilio_messages
	FOR EACH ROW WHEN (NEW.body LIKE 'busy %') EXECUTE FUNCTION dawdle();
END
$standin->calm;
$before = posts($standin);
write_messages($node, 1, 'busy', 1000);
wait_until { posts($standin) > $before + 100 } 30, 'a worker has one transaction after the other';
$worker = process_id($node, 'pg_twilio worker');
$node->kill9;
wait_until { !kill 0, $worker } 4, '... and ends with its postmaster';
cmp_ok(posts($standin), '<', $before + 1000, '... before it has done it all');

TwilioTest::finish();
