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

$standin->change(account_sid(1), token => token(11));
$open->run("BEGIN; UPDATE twilio_settings SET phone_number = '" . number_of(8) . "'");
$id = send_sms($node, 1, body => 'refused');
wait_until { posts($standin, body => 'refused') == 1 } 10, 'an account is refused while its tenant changes the settings in an open transaction';
goes_out("beside a refusal $_", '... others go on') for 1 .. 3;
is(posts($standin, body => 'refused'), 1, '... and it is not tried over and over');
$open->run('ROLLBACK');
wait_until { breakers(1) eq '1' } 10, '... its breaker opens in the end';

my $app = connect_session($node);
$id = send_sms($node, 2, body => 'locked', send_at => $node->safe_psql('postgres', "SELECT now() + '1 s'"));
$app->run("BEGIN; SELECT FROM twilio_messages WHERE id = '$id' FOR UPDATE");
wait_until { $node->safe_psql('postgres', "SELECT note FROM twilio_private.outbox WHERE ref = '$id'") =~ /lock timeout/ } 10, 'a message is due that an app has locked';
goes_out("beside a locked message $_", '... others go on') for 1 .. 3;
$app->run('ROLLBACK');
set_due_now($node, 'message');
wait_until { message($node, $id, 'sid') } 10, '... and it is sent in the end';

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

# ---- about to be dropped --------------------------------------------------------------------------

my $worker = worker_pid($node);
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
