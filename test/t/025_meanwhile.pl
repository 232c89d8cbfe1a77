# What tenants and administrators do while requests are under way: a transaction left open, another account or token,
# the extension dropped and created again. It holds up nobody else, and nothing is lost or sent twice.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.poll_interval = 1s
twilio.request_timeout = 4s
twilio.reconcile_after = 1s
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 4;

sub goes_out
{
	my ($body, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	send_sms($node, 2, body => $body);
	return wait_until { messages_with($node, $body, 'queued') == 1 } 8, $what;
}
sub order_state { my ($id) = @_; return $node->safe_psql('postgres', "SELECT state FROM twilio_private.outbox WHERE ref = '$id' AND kind = 'message'") }
sub breakers { my ($n) = @_; return $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.breaker WHERE user_id = '" . user_id($n) . "'") }
sub under_way
{
	my ($n, $body) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = send_sms($node, $n, body => $body);
	wait_until { posts($standin, body => $body) == 1 } 10, "a request is under way ($body)";
	return $id;
}
sub change_account { my ($n) = @_; return "UPDATE twilio_settings SET account_sid = '" . account_sid($n) . "', auth_token = '" . token($n) . "'" }
sub verified { my ($n) = @_; return as_user($node, $n, 'SELECT verified FROM twilio_verify()')->{out} }
$standin->account({ sid => account_sid(9), token => token(9), numbers => [ number_of(1) ], callbacks => 'manual' });

# ---- a transaction that is left open --------------------------------------------------------------

$standin->behave('429', match => { method => 'POST', body => 'taken' }, ms => 1000, times => 1);
my $id = under_way(1, 'taken');
my $open = connect_session($node, user => 1);
$open->run('BEGIN; ' . change_account(9));
wait_until { order_state($id) ne 'sending' } 5, 'what comes of it is recorded while its tenant changes the account in an open transaction';
goes_out('beside a new account', '... others go on');
$open->run('COMMIT');
is(verified(1), 't', '... the new account is verified');
wait_until { message($node, $id, 'sid') } 10, '... and the message is sent';

# The claim reads the former account, and is not seen by whoever changes it.
$open->run('BEGIN; ' . change_account(1));
$standin->behave('accept-then-drop', match => { method => 'POST', body => 'between' }, times => 1, only_stream => JSON::PP::true);
$id = send_sms($node, 1, body => 'between');
wait_until { message($node, $id) eq 'unknown' } 10, 'a message is sent and lost while its tenant changes the account';
my $due = $node->safe_psql('postgres', "UPDATE twilio_private.outbox SET due_at = now() + interval '3 seconds' WHERE kind = 'message_look' RETURNING ref");
$open->run('COMMIT');
is(verified(1), 't', '... the other account is verified');
wait_until { message($node, $id) eq 'unresolved' || posts($standin, body => 'between') > 1 } 20, '... which does not know it';
is(posts($standin, body => 'between'), 1, '... and that proves nothing, so it is not sent again');

$standin->behave('status', match => { method => 'POST', body => 'void' }, ms => 1500, times => 1, status => 201, body_text => '{}', accept => JSON::PP::true);
$id = under_way(1, 'void');
$open->run(change_account(9));
is(verified(1), 't', 'another account is verified while a request is under way that is answered with nothing');
wait_until { order_state($id) eq 'unknown' } 10, '... whose order is unknown as the message is';
is(message($node, $id), 'unknown', '... which is so, too');
wait_until { message($node, $id) eq 'unresolved' || posts($standin, body => 'void') > 1 } 20, '... which the other account does not know';
is(posts($standin, body => 'void'), 1, '... and so it is not sent again');
$open->run(change_account(1));
is(verified(1), 't', '... the former account is back');

$id = send_sms($node, 1, body => 'undelivered');
wait_until { message($node, $id, 'sid') } 10, 'a message is sent';
$node->safe_psql('postgres', "UPDATE twilio_messages SET status = 'undelivered' WHERE id = '$id'");
wait_until { message($node, $id, "submitted_at < now() - interval '1 second'") eq 't' } 5, '... which Twilio has a price for by now';
$open->run("BEGIN; SELECT twilio_retry_message('$id')");
wait_until { set_due_now($node, 'message_reread'); $standin->count(method => 'GET', path => 'Messages/', account => account_sid(1)) > 0 } 10,
  'it is read again while its tenant sends it again in an open transaction';
goes_out("beside a repetition $_", '... others go on') for 1 .. 3;
$open->run('ROLLBACK');
wait_until { message($node, $id, 'price IS NOT NULL') eq 't' } 10, '... and what was read is recorded in the end';

# ---- sent again while something about the attempt before is under way -----------------------------

sub retried { my ($n, $id) = @_; return as_user($node, $n, "SELECT status FROM twilio_retry_message('$id')")->{out} }
sub sid_of_post { my ($body, $n) = @_; return $standin->ledger(method => 'POST', path => 'Messages', body => $body)->[$n]{sid} }
$id = send_sms($node, 2, body => 'fetched');
wait_until { message($node, $id, 'sid') } 10, 'a message is sent';
my $sid = message($node, $id, 'sid');
$node->safe_psql('postgres', "UPDATE twilio_messages SET status = 'undelivered' WHERE id = '$id'");
$standin->behave('delay', match => { method => 'GET', path => $sid }, ms => 1500, times => 1);
$standin->behave('delay', match => { method => 'POST', body => 'fetched' }, ms => 2500, times => 1);
wait_until { set_due_now($node, 'message_reread'); $standin->count(method => 'GET', path => $sid) > 0 } 10, '... and read again';
is(retried(2, $id), 'pending', '... while its tenant sends it again');
wait_until { message($node, $id, 'sid') } 10, '... it has a SID';
is(message($node, $id, 'sid, status, former_sids'), sid_of_post('fetched', 1) . "|queued|{$sid}", '... the new one');

$standin->behave('delay', match => { method => 'POST', body => 'soon' }, ms => 1500, times => 1);
$standin->behave('delay', match => { method => 'POST', body => 'soon' }, ms => 2500, times => 1);
$id = under_way(2, 'soon');
$sid = sid_of_post('soon', 0);
ok(handle_webhook($node, $standin->control(POST => 'callback', { account => account_sid(2), message => $sid, status => 'failed', error_code => 30008,
	url => webhook_url() . "?m=$id" }))->{ok}, 'a callback that a message failed is faster than the answer to its sending');
is(message($node, $id, 'sid, status'), "$sid|failed", '... and taken');
is(retried(2, $id), 'pending', '... and the message is sent again before that answer');
wait_until { message($node, $id, 'sid') } 10, '... it has a SID';
is(message($node, $id, 'sid, status, former_sids'), sid_of_post('soon', 1) . "|queued|{$sid}", '... the new one');

# The worker writes down that an answer was lost, and is held up on its way by somebody's lock.
sub lost_and_failed
{
	my ($body) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$standin->behave('hang', match => { method => 'POST', body => $body }, times => 1);
	my $id = under_way(2, $body);
	$node->safe_psql('postgres', 'SELECT twilio_disarm()');    # so that what is ordered stays
	ok(handle_webhook($node, $standin->control(POST => 'callback', { account => account_sid(2), message => sid_of_post($body, 0), status => 'failed', error_code => 30008,
		url => webhook_url() . "?m=$id" }))->{ok}, "a callback says that a message failed whose answer will be lost ($body)");
	return $id;
}
sub worker_waits { return $node->safe_psql('postgres', "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = " . worker_pid_now()) }
sub worker_pid_now { return $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker' AND datname = 'postgres'") }
sub has_one_order
{
	my ($id, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE ref = '$id' AND state = 'sending'") eq '0' } 10, '... the end of the first attempt is recorded';
	is($node->safe_psql('postgres', "SELECT string_agg(kind || ' ' || state, ', ') FROM twilio_private.outbox WHERE ref = '$id'"), 'message queued', "... $what has one order");
	is(message($node, $id), 'pending', '... and waits to be sent');
	$node->safe_psql('postgres', 'SELECT twilio_arm()');
	wait_until { message($node, $id, 'status, former_sids') eq "queued|{" . sid_of_post(message($node, $id, 'body'), 0) . '}' } 10, '... and is sent';
	return;
}
my ($holder, $app) = (connect_session($node));
$id = lost_and_failed('overtaken');
$holder->run('BEGIN; LOCK twilio_private.order_kind');
wait_until { worker_waits() } 10, '... the worker has read the order of the first attempt';
is(retried(2, $id), 'pending', '... when the message is sent again');
$holder->run('COMMIT');
has_one_order($id, 'what is sent again before its loss is written down');

$id = lost_and_failed('overtaking');
$holder->run("BEGIN; SELECT FROM twilio_private.outbox WHERE ref = '$id' FOR UPDATE");
wait_until { worker_waits() } 10, '... the worker writes down what came of the first attempt';
$app = connect_session($node, user => 2);
$app->send("SELECT status FROM twilio_retry_message('$id')");
wait_until { $node->safe_psql('postgres', 'SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = ' . $app->pid) } 5, '... when the message is sent again';
$holder->run('COMMIT');
is($app->result, 'pending', '... which waits for that');
has_one_order($id, 'what is sent again while its loss is written down');

# A status that it had before is no new event.
$id = send_sms($node, 2, body => 'repeated');
wait_until { message($node, $id, 'sid') } 10, 'a message is sent';
$node->safe_psql('postgres', "UPDATE twilio_messages SET status = 'failed', error_code = 30008 WHERE id = '$id';
	DELETE FROM twilio_private.outbox WHERE kind = 'message_reread'; SET session_replication_role = replica;
	UPDATE twilio_message_events SET id = overlay(id::text PLACING '0190' FROM 1)::uuid WHERE message_id = '$id'");
is(retried(2, $id), 'pending', '... and sent again later');
wait_until { message($node, $id, 'sid') } 10, '... and accepted as before';
wait_until { set_due_now($node, $_) for qw(message_reread message_fetch); message($node, $id, 'status, price IS NOT NULL') eq 'delivered|t' } 10,
  '... and read again until its final status and price are known';

$id = send_sms($node, 2, body => 'planned');
wait_until { message($node, $id, 'sid') } 10, 'a message is sent';
# As if Twilio had kept it for later, and a callback had told that it was delivered.
$sid = message($node, $id, 'sid');
$standin->behave('status', match => { method => 'GET', path => $sid }, times => 1, status => 200, body_json => { sid => $sid, status => 'delivered', price => undef });
$node->safe_psql('postgres', "UPDATE twilio_messages SET status = 'delivered' WHERE id = '$id'; DELETE FROM twilio_private.outbox WHERE kind = 'message_reread';
	UPDATE twilio_private.outbox SET due_at = now() WHERE kind = 'message_fetch';
	INSERT INTO twilio_message_events (user_id, message_id, status, source) VALUES ('" . user_id(2) . "', '$id', 'delivered', 'callback');
	INSERT INTO twilio_private.outbox (user_id, kind, ref, subject) VALUES ('" . user_id(2) . "', 'message_fetch', '$id', 'scheduled'); SET session_replication_role = replica;
	UPDATE twilio_message_events SET id = overlay(id::text PLACING '0190' FROM 1)::uuid WHERE message_id = '$id'");
wait_until { $node->safe_psql('postgres', "SELECT subject LIKE '0 %' FROM twilio_private.outbox WHERE ref = '$id' AND kind = 'message_fetch' AND due_at > now()") eq 't' } 10,
  'one that Twilio kept for later, and whose status a callback was first to tell, is read alone';
wait_until { set_due_now($node, $_) for qw(message_reread message_fetch); message($node, $id, 'price IS NOT NULL') eq 't' } 10, '... until its price is known';
$standin->calm;

# ---- an account that is refused -------------------------------------------------------------------

$standin->change(account_sid(1), token => token(11));
$open->run("BEGIN; UPDATE twilio_settings SET phone_number = '" . number_of(8) . "'");
$id = send_sms($node, 1, body => 'refused');
wait_until { posts($standin, body => 'refused') == 1 } 10, 'an account is refused while its tenant changes the settings in an open transaction';
goes_out("beside a refusal $_", '... others go on') for 1 .. 3;
is(posts($standin, body => 'refused'), 1, '... and it is not tried over and over');
$open->run('ROLLBACK');
wait_until { breakers(1) eq '1' } 10, '... its breaker opens in the end';

$app = connect_session($node);
$id = send_sms($node, 2, body => 'locked', send_at => $node->safe_psql('postgres', "SELECT now() + '1 s'"));
$app->run("BEGIN; SELECT FROM twilio_messages WHERE id = '$id' FOR UPDATE");
wait_until { $node->safe_psql('postgres', "SELECT note FROM twilio_private.outbox WHERE ref = '$id'") =~ /lock timeout/ } 10, 'a message is due that an app has locked';
goes_out("beside a locked message $_", '... others go on') for 1 .. 3;
$app->run('ROLLBACK');
set_due_now($node, 'message');
wait_until { message($node, $id, 'sid') } 10, '... and it is sent in the end';

sub note_of { my ($id) = @_; return $node->safe_psql('postgres', "SELECT note FROM twilio_private.outbox WHERE ref = '$id' AND kind = 'message'") }
$id = send_sms($node, 2, body => 'late', send_at => $node->safe_psql('postgres', "SELECT now() + '1 s'"));
$app->run("BEGIN; SELECT FROM twilio_messages WHERE id = '$id' FOR UPDATE");
$node->safe_psql('postgres', "UPDATE twilio_private.outbox SET expires_at = now() WHERE ref = '$id'");
wait_until { note_of($id) =~ /lock timeout/ } 10, 'a message expires that an app has locked';
goes_out("beside an expired message $_", '... others go on') for 1 .. 3;
$app->run('ROLLBACK');
set_due_now($node, 'message');
wait_until { message($node, $id) eq 'failed' } 10, '... and it fails in the end';

$standin->behave('delay', match => { method => 'POST', body => 'severed' }, ms => 3000, times => 1);
$id = under_way(2, 'severed');
$app->run("BEGIN; SELECT FROM twilio_messages WHERE id = '$id' FOR UPDATE");
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker'");
wait_until { note_of($id) =~ /lock timeout/ } 10, 'a worker finds a message in doubt that an app has locked';
goes_out("beside a message in doubt $_", '... others go on') for 1 .. 3;
$app->run('ROLLBACK');
wait_until { message($node, $id, 'sid') } 20, '... and it is looked up in the end';
is(accepted($standin, body => 'severed'), 1, '... and not sent again');

# ---- a token that is replaced ---------------------------------------------------------------------

# Twilio looks at the token when the answer is due.
$standin->behave('status', match => { method => 'POST', body => 'stale' }, status => 401, body_json => { code => 20003, message => 'Authenticate' }, ms => 2500, times => 1);
$id = under_way(3, 'stale');
$standin->change(account_sid(3), token => token(33));
is(as_user($node, 3, "UPDATE twilio_settings SET auth_token = '" . token(33) . "'; SELECT verified FROM twilio_verify()")->{out}, 't',
	'a new token is verified while a request with the former one is under way');
wait_until { message($node, $id, 'sid') } 15, '... the message is sent with the new one';
is($node->safe_psql('postgres', "SELECT is_verified FROM twilio_settings WHERE user_id = '" . user_id(3) . "'"), 't', '... which stays verified');
is(breakers(3), '0', '... and its breaker closed');
$standin->calm;

# ---- told to stop ---------------------------------------------------------------------------------

my $at_once = $node->safe_psql('postgres', 'SHOW twilio.user_max_in_flight');
for my $case (
	[ 'disarmed', 'SELECT twilio_disarm()', 'SELECT twilio_arm()' ],
	[ 'inactive', 'UPDATE twilio_settings SET is_active = false', 'UPDATE twilio_settings SET is_active = true' ])
{
	my ($what, $stop, $go_on) = @$case;
	my $before = posts($standin);
	$standin->behave('delay', match => { method => 'POST', body => $what }, ms => 1500, times => $at_once);
	write_messages($node, 4, $what, $at_once + 20);
	wait_until { messages_with($node, "$what %", 'submitting') == $at_once + 20 && posts($standin) == $before + $at_once } 10, 'some messages are under way and some are claimed';
	$node->safe_psql('postgres', $stop);
	wait_until { sent($node, $what) == $at_once } 10, "what is under way ends ($what)";
	wait_until { messages_with($node, "$what %", 'pending') == 20 } 10, '... and the others are pending again';
	is(posts($standin), $before + $at_once, '... and were not sent');
	$node->safe_psql('postgres', $go_on);
	wait_until { sent($node, $what) == $at_once + 20 } 20, '... until they may be';
	is(posts($standin), $before + $at_once + 20, '... each once');
}

# The worker waits for one locked message, and the answer to another one comes meanwhile.
enable_sending($node, $standin, $_) for 11 .. 13;
my $so_far = posts($standin);
my $many = 3 * $at_once;
$standin->behave('delay', match => { method => 'POST', body => $_->[0] }, ms => $_->[1]) for [ many => 3500 ], [ first => 2000 ], [ second => 2200 ];
write_messages($node, 11, 'many', $many);
my @locked = (send_sms($node, 12, body => 'first'), send_sms($node, 13, body => 'second'));
my $locks = connect_session($node);
$locks->run("BEGIN; SELECT FROM twilio_messages WHERE id = ANY ('{" . join(',', @locked) . "}') FOR UPDATE");
sub blocked { my ($by) = @_; return $node->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_activity WHERE ' . $by->pid . ' = ANY (pg_blocking_pids(pid))') }
wait_until { posts($standin) >= $so_far + $at_once + 2 && blocked($locks) } 10, 'some messages are under way, some are claimed, and an app has locked one';
configured($node, 'twilio.enabled', 'off');
wait_until { $node->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM twilio_private.outbox WHERE user_id = '" . user_id(11) . "' AND kind = 'message'") eq 'queued' } 15,
	'... and traffic is switched off: what is not started waits again';
$locks->run('COMMIT');
$locks->quit;
wait_until { message($node, $_, 'sid') } 20, '... what was under way is recorded' for @locked;
configured($node, 'twilio.enabled', 'on');
wait_until { sent($node, 'many') == $many } 30, '... and the rest is sent when it is switched on';
is(posts($standin), $so_far + $many + 2, '... each once');
$standin->calm;

# ---- locked in another order ------------------------------------------------------------------------

$standin->behave('delay', match => { method => 'POST', body => 'crossed' }, ms => 1000);
$so_far = posts($standin);
write_messages($node, 11, 'crossed', 5);
wait_until { posts($standin) == $so_far + 5 } 10, 'five messages are under way';
my $crossed = connect_session($node);
$crossed->run("BEGIN; SELECT FROM twilio_messages WHERE body = 'crossed 5' FOR UPDATE");
# As if it had waited longer than the worker has.
$crossed->run("SET LOCAL deadlock_timeout = '800ms'");
my $worker = worker_pid($node);
$crossed->run("DO \$\$ BEGIN
	WHILE pg_backend_pid() <> ALL (pg_blocking_pids($worker)) LOOP PERFORM pg_sleep(0.005); END LOOP;
	PERFORM FROM twilio_messages WHERE body LIKE 'crossed %' FOR UPDATE; END \$\$");
is($crossed->error, '', 'an app that wants the others, too, does not have to give way');
$crossed->run('COMMIT');
$crossed->quit;
wait_until { sent($node, 'crossed') == 5 } 20, '... and all are recorded afterwards';
is(posts($standin), $so_far + 5, '... sent once each');
$standin->calm;

# ---- about to be dropped --------------------------------------------------------------------------

$worker = worker_pid($node);
$standin->behave('delay', match => { method => 'POST', body => 'kept' }, ms => 3000);
$id = under_way(4, 'kept');
my $drop = connect_session($node);
$drop->run('BEGIN; DROP EXTENSION pg_twilio CASCADE');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_trgm');
wait_until { slurp_file($node->logfile) =~ /looking for the extension failed/ } 3, 'a worker looks for an extension that is locked to be dropped';
$drop->run('ROLLBACK');
wait_until { message($node, $id, 'sid') } 15, 'when it is not, a message that was under way is sent';
is(worker_pid($node), $worker, '... by the same worker');
is(accepted($standin, body => 'kept'), 1, '... once');

# ---- dropped and created again --------------------------------------------------------------------

# The new orders get the numbers of the old ones.
sub restart_numbers { $node->safe_psql('postgres', "DELETE FROM twilio_private.outbox; SELECT setval('twilio_private.outbox_id_seq', 1, false)"); return }
restart_numbers();
$standin->behave('429', match => { method => 'POST', body => 'before' }, ms => 3000, times => 1);
$standin->behave('delay', match => { method => 'POST', body => 'after' }, ms => 3500);
under_way(4, 'before');
my $again = run_sql($node, 'BEGIN; DROP EXTENSION pg_twilio CASCADE; CREATE EXTENSION pg_twilio; COMMIT');
ok($again->{ok}, 'the extension is dropped and created in one transaction') or diag($again->{error});
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, 4);
restart_numbers();
$id = under_way(4, 'after');
wait_until { message($node, $id, 'sid') } 15, 'a message of the new one is sent';
is(accepted($standin, body => 'after'), 1, '... once');
TwilioTest::finish();
