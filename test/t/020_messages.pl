# The life of a message: ordered by a row, sent as committed, followed to its end.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => "max_prepared_transactions = 5\ntwilio.poll_interval = 1h\ntwilio.webhook_url = '" . webhook_url() . "'\n");
wait_for_worker($node, 'postgres');
my $service = 'MG' . 'a' x 32;
enable_sending($node, $standin, 1, messaging_services => [$service]);
enable_sending($node, $standin, 2);

sub events
{
	my ($id) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(concat_ws('/', status, error_code, source), ' ' ORDER BY id)
		FROM twilio_message_events WHERE message_id = '$id'");
}
sub becomes
{
	my ($id, $status, $what, $deadline) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until { message($node, $id) eq $status } $deadline // 10, $what or diag(message($node, $id, 'status, error_code, error_message'));
	return;
}

# ---- from pending to delivered ------------------------------------------------------------------

my $listener = connect_session($node);
$listener->run('LISTEN twilio');
my $id = send_sms($node, 1, body => 'Hello');
wait_until { message($node, $id, 'sid') } 5, 'a message is sent when it is committed';
is(message($node, $id, 'direction, from_number, to_number, body, num_segments'), 'outbound|' . number_of(1) . '|+12025550199|Hello|1', '... as it was written');
my ($post) = @{ $standin->ledger(method => 'POST', path => 'Messages') };
is_deeply({ map { @$_ } @{ $post->{params} } }, { To => '+12025550199', From => number_of(1), Body => 'Hello', StatusCallback => webhook_url() . "?m=$id" },
	'... with a callback that names it');
my $sid = message($node, $id, 'sid');
ok(callback($node, $standin, 1, $sid, $_)->{ok}, "the callback $_ is taken") for qw(sent delivered);
is(message($node, $id, 'status, sent_at IS NOT NULL, delivered_at IS NOT NULL'), 'delivered|t|t', 'it is delivered');
is(events($id), 'pending/local queued/api sent/callback delivered/callback', 'its events tell its life');
like(join("\n", $listener->run('SELECT 1')), qr/notification "twilio" with payload "\{"user_id" : ".*"message_id" : "$id", "status" : "delivered"\}"/,
	'listeners of the channel twilio are told');
unlike($listener->run('SELECT 2'), qr/Hello/, '... without the text');
as_user($node, 1, "INSERT INTO twilio_opt_outs (phone_number) VALUES ('+12025550152')");
$id = as_user($node, 1, "INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550152', 'No more') RETURNING id")->{out};
like(join("\n", $listener->run('SELECT 3')), qr/"message_id" : "$id", "status" : "failed"\}"/, '... also of one that fails at once');
$id = send_sms($node, 1, body => 'For a callback');
wait_until { message($node, $id, 'sid') } 5, 'a message waits for its callback';
ok(handle_webhook($node, $standin->control(POST => 'callback', { account => account_sid(1), message => message($node, $id, 'sid'), status => 'delivered' }),
	prepare => 'callback')->{ok}, 'a transaction can be prepared that takes a callback');
ok(as_user($node, 1, "BEGIN; INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550152', 'Prepared'), ('+12025550199', 'Prepared, too');
	SELECT twilio_cancel_message(id) FROM twilio_send_sms('+12025550199', 'Prepared and withdrawn'); PREPARE TRANSACTION 'messages'")->{ok},
	'... and one that sends to somebody who has opted out, or cancels');
run_sql($node, "COMMIT PREPARED '$_'") for qw(callback messages);
is($node->safe_psql('postgres', "SELECT string_agg(status, ' ' ORDER BY id) FROM twilio_messages WHERE body IN ('Prepared', 'Prepared and withdrawn')"), 'failed canceled', 'committed, it has failed and is canceled');
is(message($node, $id), 'delivered', '... and delivered');
unlike($listener->run('SELECT 4'), qr/"(failed|canceled|delivered)"/, '... but nobody is notified');
$node->safe_psql('postgres', "SET ROLE twilio_user; SET twilio.user_id = '" . user_id(1) . "'; BEGIN; SAVEPOINT a; SAVEPOINT b;
	INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550152', 'kept'); RELEASE b; SAVEPOINT c;
	INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550152', 'dropped'); ROLLBACK TO c; RELEASE a; SAVEPOINT d; ROLLBACK TO d; COMMIT");
is(scalar(() = $listener->run('SELECT 5') =~ /"failed"/g), 1, 'what is rolled back to a savepoint notifies nobody, the rest does');
as_user($node, 1, "UPDATE twilio_opt_outs SET opted_in_at = now() WHERE phone_number = '+12025550152'");
$listener->quit;

# ---- without callbacks: read again --------------------------------------------------------------

$id = send_sms($node, 2, body => 'Without callbacks');
becomes($id, 'queued', 'a message is queued at Twilio');
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE kind = 'message_reread'") > 0 } 5, '... and will be read again';
wait_until { set_due_now($node, 'message_reread'); message($node, $id, 'status, price IS NOT NULL, price_unit') eq 'delivered|t|USD' } 10,
  '... which brings its final status and price';
like(events($id), qr{delivered/poll}, '... with an event');
my @many = map { send_sms($node, 2, body => "Many $_") } 1 .. 3;
$node->safe_psql('postgres', "SET ROLE twilio_user; SET twilio.user_id = '" . user_id(2) . "';
	INSERT INTO twilio_messages (to_number, body) SELECT '+12025551' || i, 'Listed ' || i FROM generate_series(100, 199) i");
wait_until { accepted($standin, account => account_sid(2)) == 104 } 10, 'a hundred more are sent';
# A re-reading has six steps, which would be used up before the stand-in has a price.
wait_until { $node->safe_psql('postgres', "SELECT bool_and(sid IS NOT NULL AND submitted_at < now() - interval '1 second') FROM twilio_messages WHERE body LIKE 'Listed %'") eq 't' } 20,
  '... and have come to their end at Twilio';
wait_until { set_due_now($node, 'message_reread'); messages_with($node, 'Listed %', 'delivered') == 100 } 20, 'many are read again in pages'
  or diag($node->safe_psql('postgres', "SELECT kind, state, subject, attempts, due_at - now(), note FROM twilio_private.outbox; SELECT status, count(*), min(submitted_at), max(submitted_at) FROM twilio_messages GROUP BY 1;
	SELECT at, action, outcome, http_status, error_code FROM twilio_audit_log WHERE action LIKE 'message_%'"));
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE body LIKE 'Listed %' AND price IS NULL"), '0', '... with their prices');
cmp_ok($standin->count(method => 'GET', path => 'Messages/', account => account_sid(2)), '<', 50, '... not one by one');

# ---- settings of a database or role that change how SQL is read -----------------------------------

for my $setting ('standard_conforming_strings = off', "DateStyle = 'SQL, DMY'", 'transform_null_equals = on', "plpgsql.extra_errors = 'all'")
{
	my $sent = as_user($node, 1, "SELECT id FROM twilio_send_sms('+12025550199', 'With ' || " . quote($setting) . ')', before => "SET $setting");
	ok($sent->{ok}, "a message is ordered with $setting") or diag($sent->{error});
}
$node->safe_psql('template1', 'ALTER DATABASE postgres SET standard_conforming_strings = off');
my $former = worker_pid($node, 'postgres');
kill TERM => $former;
wait_until { my $pid = worker_pid($node, 'postgres'); $pid && $pid ne $former } 10, 'a worker starts in a database with such a setting';
wait_until { messages_with($node, 'With %', 'queued') == 4 } 10, '... and they are sent';
wait_until { set_due_now($node, 'message_reread'); messages_with($node, 'With %', 'delivered') == 4 } 20, '... and followed';
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE body LIKE 'With %' AND price IS NULL"), '0', '... with their prices');
$node->safe_psql('template1', 'ALTER DATABASE postgres RESET standard_conforming_strings');

# ---- transactions -------------------------------------------------------------------------------

my $before = posts($standin);
as_user($node, 1, "BEGIN; SELECT twilio_send_sms('+12025550199', 'never'); ROLLBACK");
as_user($node, 1, "BEGIN; INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', 'never' FROM generate_series(1, 100); ROLLBACK");
my $pooled = run_sql($node, "BEGIN; SET LOCAL twilio.user_id = '" . user_id(1) . "'; INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550199', 'pooled'); COMMIT",
	role => 'twilio_user');
ok($pooled->{ok}, 'behind a transaction pooler a row is inserted') or diag($pooled->{error});
wait_until { messages_with($node, 'pooled', 'queued') == 1 } 5, '... and sent without waiting for the safety poll';
is(posts($standin) - $before, 1, '... and what was rolled back is not');

# ---- idempotency --------------------------------------------------------------------------------

$before = posts($standin);
my @sessions = map { connect_session($node, user => 1) } 1 .. 20;
$_->send("SELECT id FROM twilio_send_sms('+12025550199', 'once', idempotency_key => 'key 1')") for @sessions;
my %ids = map { $_->result => 1 } @sessions;
is(join('', map { $_->error } @sessions), '', 'twenty connections use the same idempotency key');
is(scalar keys %ids, 1, '... and get the same row');
$_->quit for @sessions;
wait_until { messages_with($node, 'once', 'queued') == 1 } 5, '... which is one';
is(posts($standin) - $before, 1, '... and sent once');
is(as_user($node, 1, "SELECT twilio_send_sms('+12025550199', 'other', idempotency_key => 'key 1')")->{state}, 'PT409', '... with other content it is PT409');
is(as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, idempotency_key) VALUES ('+12025550199', 'once', 'key 1')")->{state}, '23505',
	'... and inserted again 23505');
ok(as_user($node, 2, "SELECT twilio_send_sms('+12025550199', 'once', idempotency_key => 'key 1')")->{ok}, 'another tenant may use the same key');
is(as_user($node, 2, "SELECT count(DISTINCT s.id) FROM generate_series(1, 2) i,
	LATERAL twilio_send_sms('+12025550199', left('empty', i + 10), from_number => '', idempotency_key => 'key 2') s")->{out}, '1', 'an empty sender is none, each time');

# ---- refused by Twilio, retry -------------------------------------------------------------------

$id = send_sms($node, 1, to_number => '+15005550001', body => 'bad number');
becomes($id, 'failed', 'a message that Twilio refuses is failed');
is(message($node, $id, 'error_code, error_message'), "21211|Invalid 'To' Phone Number", "... with Twilio's code and sentence");
is(events($id), 'pending/local failed/21211/api', '... and an event');
is(as_user($node, 2, "SELECT twilio_retry_message('$id')")->{state}, 'PT404', 'nobody else can retry it');
$standin->behave('status', match => { body => 'at\+first|at%20first' }, times => 1, status => 400, body_json => { code => 21606, message => 'Not now', status => 400 });
$id = send_sms($node, 1, body => 'at first refused');
becomes($id, 'failed', 'another is refused');
is(as_user($node, 1, "SELECT status FROM twilio_retry_message('$id')")->{out}, 'pending', '... and retried');
becomes($id, 'queued', '... and accepted');
is(message($node, $id, 'error_code'), '', '... without the old error');
is(as_user($node, 1, "SELECT twilio_retry_message('$id')")->{state}, 'PT409', 'a message that has not failed cannot be retried');

$id = send_sms($node, 1, from_number => '+15005550008', body => 'no room');
wait_until { as_user($node, 1, "SELECT attempts, reason FROM twilio_queue WHERE message_id = '$id'")->{out} =~ /^1\|will be tried again \(.*queued messages\)/ } 10,
  'what the queue of a sender at Twilio has no room for is tried again' or diag(message($node, $id, 'status, error_code, error_message'));
is(as_user($node, 1, "SELECT due_at > now() + interval '4 minutes' FROM twilio_queue")->{out}, 't', '... some minutes later');
is(as_user($node, 1, "SELECT twilio_cancel_message('$id')")->{out}, 't', '... unless it is cancelled');

# ---- later, and cancelled -----------------------------------------------------------------------

$id = send_sms($node, 1, body => 'in two seconds', send_at => $node->safe_psql('postgres', "SELECT now() + '2 s'"));
my $canceled = send_sms($node, 1, body => 'never sent', send_at => $node->safe_psql('postgres', "SELECT now() + '2 s'"));
is(message($node, $id), 'pending', 'a message for later waits');
is(as_user($node, 1, 'SELECT DISTINCT reason FROM twilio_queue')->{out}, 'due later', '... and twilio_queue says why');
is(as_user($node, 2, "SELECT twilio_cancel_message('$canceled')")->{out}, 'f', 'nobody else can cancel one');
is(as_user($node, 1, "SELECT twilio_cancel_message('$canceled')")->{out}, 't', 'its user can');
is(as_user($node, 1, "SELECT twilio_cancel_message('$canceled')")->{out}, 'f', '... once');
is(as_user($node, 1, "SELECT twilio_cancel_message('" . user_id(77) . "')")->{out}, 'f', 'an unknown id is false');
becomes($id, 'queued', 'at its time it is sent');
is(message($node, $canceled), 'canceled', '... and the cancelled one is canceled');
is(posts($standin, body => 'never sent'), 0, '... and was not sent');

$canceled = send_sms($node, 1, body => 'never sent', send_at => $node->safe_psql('postgres', "SELECT now() + '1 h'"));
my $failed = send_sms($node, 1, to_number => '+15005550001', body => 'retried twice');
becomes($failed, 'failed', 'a message is failed');
my $repeatable = connect_session($node, user => 1);
$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM twilio_messages');
as_user($node, 1, "SELECT twilio_cancel_message('$canceled'), twilio_retry_message('$failed')");
is($repeatable->run("SAVEPOINT s; SELECT twilio_cancel_message('$canceled')"), 'f', 'who is late in a repeatable read does not cancel');
like($repeatable->run("SELECT twilio_retry_message('$failed')") . $repeatable->error, qr/PT409: the message has changed meanwhile/, '... nor retry, and sees no 40001');
$repeatable->run('ROLLBACK');
becomes($failed, 'failed', '... which was done once');
$node->safe_psql('postgres', "INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at) VALUES ('" . user_id(1) . "', 'message_fetch', '$failed', now() + '1 h')");
$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM twilio_messages');
$node->safe_psql('postgres', "UPDATE twilio_private.outbox SET note = 'claimed' WHERE ref = '$failed'");
like($repeatable->run("SELECT twilio_retry_message('$failed')") . $repeatable->error, qr/PT409: the message has changed meanwhile/, 'nor does who is late retry one whose order the worker has taken since');
$repeatable->run('ROLLBACK');
$node->safe_psql('postgres', "DELETE FROM twilio_private.outbox WHERE ref = '$failed'");
for my $call ("twilio_update_settings('{\"sms_enabled\": true}')", 'twilio_delete_settings()')
{
	$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM twilio_settings');
	as_user($node, 1, 'UPDATE twilio_settings SET voice_enabled = true');
	like($repeatable->run("SELECT $call") . $repeatable->error, qr/PT409: Twilio settings have changed meanwhile/, "nor does $call let 40001 out");
	$repeatable->run('ROLLBACK');
}
$repeatable->quit;

$id = send_sms($node, 1, body => 'in an hour', send_at => $node->safe_psql('postgres', "SELECT now() + '1 h'"));
is(message($node, $id), 'pending', 'without a Messaging Service the message waits here');
as_user($node, 1, "UPDATE twilio_settings SET messaging_service_sid = '$service'");
$id = send_sms($node, 1, body => 'kept at Twilio', send_at => $node->safe_psql('postgres', "SELECT now() + '1 h'"));
becomes($id, 'scheduled', 'with one, Twilio keeps it');
is(as_user($node, 1, "SELECT twilio_cancel_message('$id')")->{out}, 't', '... and it can be cancelled there');
becomes($id, 'canceled', '... and is canceled');
as_user($node, 1, 'UPDATE twilio_settings SET messaging_service_sid = NULL');

# ---- MMS ----------------------------------------------------------------------------------------

$id = send_sms($node, 1, media_urls => [ 'https://example.com/b.png', 'https://example.com/a.png?x=1&y=2' ]);
becomes($id, 'queued', 'a message with media and without text is sent');
like(message($node, $id, 'sid'), qr/^MM/, '... as an MMS');
($post) = grep { ($_->{sid} // '') eq message($node, $id, 'sid') } @{ $standin->ledger(method => 'POST', path => 'Messages') };
is_deeply([ map { $_->[1] } grep { $_->[0] eq 'MediaUrl' } @{ $post->{params} } ], [ 'https://example.com/b.png', 'https://example.com/a.png?x=1&y=2' ],
	'... with its media in order');

# ---- opt-outs -----------------------------------------------------------------------------------

$standin->change(account_sid(1), opt_outs => [ { from => number_of(1), to => '+12025550150', opted_out => JSON::PP::true } ]);
$id = send_sms($node, 1, to_number => '+12025550150', body => 'first');
becomes($id, 'failed', 'a recipient who has opted out at Twilio');
$before = posts($standin);
$id = send_sms($node, 1, to_number => '+12025550150', body => 'second');
is(message($node, $id, 'status, error_code'), 'failed|21610', '... is known from then on');
$id = send_sms($node, 1, body => 'to another number');
my $message = $standin->ledger(method => 'POST', path => 'Messages', body => 'Hello')->[0]{sid};
callback($node, $standin, 1, $message, 'failed', error_code => 21610, url => webhook_url());
is(as_user($node, 1, "SELECT phone_number, reason FROM twilio_opt_outs WHERE opted_in_at IS NULL ORDER BY 1")->{out}, "+12025550150|21610\n+12025550199|21610",
	'one who has opted out by what a callback says, too');
for my $case ([ 'STOP', 't' ], [ 'hello', 't' ], [ 'START', 'f' ])
{
	my ($text, $opted_out) = @$case;
	handle_webhook($node, $standin->control(POST => 'inbound', { account => account_sid(1), from => '+12025550150', to => number_of(1), body => $text, url => webhook_url() }));
	is(as_user($node, 1, "SELECT opted_in_at IS NULL FROM twilio_opt_outs WHERE phone_number = '+12025550150'")->{out}, $opted_out,
		"after $text the recipient " . ($opted_out eq 't' ? 'has opted out' : 'is in again'));
}
becomes(send_sms($node, 1, to_number => '+12025550150', body => 'third'), 'queued', 'after START messages are sent again');
is(posts($standin, to => '+12025550150'), 2, '... and before it none was but the first');
handle_webhook($node, $standin->control(POST => 'inbound', { account => account_sid(1), from => '+12025550199', to => number_of(1), body => 'START', url => webhook_url() }));
callback($node, $standin, 1, $message, 'failed', error_code => 21610, url => webhook_url());
is(as_user($node, 1, 'SELECT count(*) FROM twilio_opt_outs WHERE opted_in_at IS NULL')->{out}, '0', 'a callback that comes again after START opts nobody out');

# Who says STOP gets nothing that was ordered before either.
configured($node, 'twilio.enabled', 'off');
$id = send_sms($node, 1, to_number => '+12025550151', body => 'ordered before');
as_user($node, 1, "INSERT INTO twilio_opt_outs (phone_number) VALUES ('+12025550151')");
configured($node, 'twilio.enabled', 'on');
becomes($id, 'failed', 'a message to somebody who opted out after it was ordered fails');
is(message($node, $id, 'error_code, error_message'), '21610|The recipient has opted out.', '... and says why');
is(events($id), 'pending/local failed/21610/local', '... and has an event');
is(posts($standin, to => '+12025550151'), 0, '... and is not sent');

# ---- switched off -------------------------------------------------------------------------------

configured($node, 'twilio.enabled', 'off');
$id = send_sms($node, 2, body => 'while it is off');
is(as_user($node, 2, 'SELECT reason FROM twilio_queue')->{out}, 'twilio.enabled is off', 'while it is switched off, messages are accepted and wait');
configured($node, 'twilio.enabled', 'on');
becomes($id, 'queued', '... and are sent afterwards');

run_sql($node, "UPDATE twilio_settings SET max_in_flight = 2 WHERE user_id = '" . user_id(2) . "'", role => 'twilio_admin');
$standin->behave('delay', match => { body => 'Claimed' }, ms => 3000);
$before = posts($standin);
write_messages($node, 2, 'Claimed', 10);
wait_until { messages_with($node, 'Claimed %', 'submitting') > 2 } 10, 'messages are claimed, two of them under way';
configured($node, 'twilio.enabled', 'off');
wait_until { messages_with($node, 'Claimed %', 'submitting') == 0 } 10, 'those that it finds claimed and not under way do not stay submitting';
is(messages_with($node, 'Claimed %', 'pending') + posts($standin) - $before, 10, '... but are pending, as they were not sent');
$standin->calm;
configured($node, 'twilio.enabled', 'on');
wait_until { sent($node, 'Claimed') == 10 } 10, '... until it is on again';

# Claimed while Twilio could keep them, given back when the server stops, and claimed again too close to their time for that.
run_sql($node, "UPDATE twilio_settings SET max_in_flight = 1 WHERE user_id = '" . user_id(1) . "'", role => 'twilio_admin');
$standin->behave('delay', match => { body => 'Planned' }, ms => 3000);
as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, messaging_service_sid, send_at)
	SELECT '+12025550199', 'Planned ' || i, '$service', now() + interval '16 minutes' FROM generate_series(1, 3) i");
wait_until { messages_with($node, 'Planned %', 'submitting') == 3 } 10, 'planned messages are claimed, one of them under way';
$node->stop;
$node->append_conf('postgresql.conf', 'twilio.enabled = off');
$node->start;
$node->safe_psql('postgres', "UPDATE twilio_messages SET send_at = now() + interval '5 seconds' WHERE body LIKE 'Planned %' AND status = 'submitting'");
$standin->calm;
configured($node, 'twilio.enabled', 'on');
wait_until { messages_with($node, 'Planned %', 'pending') == 2 } 5, 'when the server is there again, the others wait for their time';
wait_until { sent($node, 'Planned') >= 2 } 15, '... and are sent';

# What is due much later is not read by every claim.
configured($node, 'twilio.enabled', 'off');
as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, send_at) SELECT '+12025550199', 'Tomorrow', now() + '1 day' FROM generate_series(1, 1000)");
as_user($node, 1, "INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550199', 'Today')");
my ($claimed, $read) = split /\|/, $node->safe_psql('postgres', "SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan;
	BEGIN; SELECT count(*) || '|' || pg_stat_get_xact_tuples_fetched('twilio_private.outbox'::regclass)
	FROM twilio_private.claim_orders(ARRAY['" . user_id(1) . "']::uuid[], '{500}', '{-infinity}'); ROLLBACK");
is($claimed, 1, 'one of a thousand is due');
cmp_ok($read, '<', 100, '... and the others are not read');

is(duplicates($standin), 0, 'no message was accepted twice') or diag(explain($standin->control(GET => 'ledger/duplicates?method=POST&key=To,Body')));
TwilioTest::finish();
