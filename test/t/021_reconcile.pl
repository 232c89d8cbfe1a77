# A message whose answer was lost is never sent again blindly: a callback or Twilio's lists tell what
# became of it, and only what Twilio never took goes out once more.
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
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.webhook_url = 'https://crm.example.com/twilio/webhook'
twilio.poll_interval = 1h
twilio.request_timeout = 4s
twilio.reconcile_after = 1s
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 3;
# The stand-in compiles its rules with the first request of a kind, which may take longer than the timeout.
send_sms($node, 2, body => 'first of all');
wait_until { messages_with($node, 'first of all', 'queued') == 1 } 30, 'everything is ready';
$standin->control(DELETE => 'ledger');
as_user($node, 3, 'UPDATE twilio_settings SET resend_unknown = false');

sub set { my ($name, $value) = @_; $node->append_conf('postgresql.conf', "$name = $value"); $node->reload; return $node->poll_query_until('postgres', "SELECT current_setting('$name') = '$value'") }
sub becomes
{
	my ($id, $status, $what, $deadline) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until { message($node, $id) eq $status } $deadline // 25, $what or diag(message($node, $id, 'status, error_code, error_message'));
	return;
}
sub sources
{
	my ($id) = @_;
	return $node->safe_psql('postgres', "SELECT string_agg(status || '/' || source, ' ' ORDER BY id) FROM twilio_message_events WHERE message_id = '$id'");
}
sub waiting { return $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE kind IN ('message', 'message_look')") }
sub lose { my ($action, $text, %more) = @_; return $standin->behave($action, match => { method => 'POST', body => $text }, %more) }
my $sid_at_twilio = sub { $standin->ledger(method => 'POST', body => shift, accepted => 'true')->[0]{sid} };

# ---- by callback --------------------------------------------------------------------------------

set('twilio.reconcile_after', '1h');
lose('hang', 'by-callback');
my $id = send_sms($node, 1, body => 'by-callback');
becomes($id, 'unknown', 'a message that Twilio takes and does not answer is unknown');
is(posts($standin, body => 'by-callback'), 1, '... after exactly one POST');
is(message($node, $id, 'sid'), '', '... its SID is not known');
is(as_user($node, 1, "SELECT state FROM twilio_queue WHERE kind = 'message'")->{out}, 'unknown', '... and twilio_queue shows it');
is(as_user($node, 1, "SELECT twilio_cancel_message('$id')")->{out}, 'f', '... it cannot be cancelled');
my $sid = $sid_at_twilio->('by-callback');
ok(callback($node, $standin, 1, $sid, 'sent')->{ok}, 'the callback, which carries our id');
is(message($node, $id, 'status, sid'), "sent|$sid", '... brings SID and status');
is(waiting(), 0, '... and ends the doubt');
is(posts($standin, body => 'by-callback'), 1, '... with one POST all in all');

# ---- by the lists -------------------------------------------------------------------------------

set('twilio.reconcile_after', '1s');
for my $case ([ 'accept-then-drop', 'dropped', only_stream => JSON::PP::true ], [ 'truncate', 'cut-off' ], [ 'bad-json', 'garbled' ], [ '500', 'error-but-accepted', accept => JSON::PP::true ])
{
	my ($action, $text, %more) = @$case;
	lose($action, $text, %more);
	$id = send_sms($node, 1, body => $text);
	wait_until { message($node, $id, 'sid') } 25, "$text: a message that Twilio took is found in its lists";
	is(message($node, $id, 'sid'), $sid_at_twilio->($text), '... with its SID');
	like(sources($id), qr{^pending/local unknown/local \w+/poll}, '... having been unknown');
	is(posts($standin, body => $text), 1, '... after exactly one POST');
}

my $text = "Grüße an O'Neil & Söhne + 100% 😀\nzweite Zeile";
lose('accept-then-drop', 'S%C3%B6hne', only_stream => JSON::PP::true);
$id = send_sms($node, 1, body => $text);
wait_until { message($node, $id, 'sid') } 15, 'a text with emoji, quotes and lines is found as well';

# ---- not found: sent again, or left -------------------------------------------------------------

lose('drop-before', 'never-taken', times => 1, only_stream => JSON::PP::true);
$id = send_sms($node, 1, body => 'never-taken');
becomes($id, 'unknown', 'a message that Twilio never took is unknown, too');
my $looks = $standin->count(method => 'GET', path => 'Messages.json', account => account_sid(1));
becomes($id, 'queued', '... and is sent again');
cmp_ok($standin->count(method => 'GET', path => 'Messages.json', account => account_sid(1)) - $looks, '>=', 1, '... after it was looked for');
is(posts($standin, body => 'never-taken'), 2, '... which makes two POSTs');
is(accepted($standin, body => 'never-taken'), 1, '... of which one was accepted');
my ($first, $second) = map { $_->{at} } @{ $standin->ledger(method => 'POST', body => 'never-taken') };
my ($look1, $look2) = map { $_->{at} } grep { $_->{at} gt $first && $_->{at} lt $second } @{ $standin->ledger(method => 'GET', path => 'Messages.json', account => account_sid(1)) };
ok($look1 && $look2 && $look1 lt $look2, '... with two looks between them');

lose('500', 'five-hundred', times => 1);
$id = send_sms($node, 1, body => 'five-hundred');
becomes($id, 'queued', 'after a 500 a message is sent again when it was not found');
is(accepted($standin, body => 'five-hundred'), 1, '... once');

lose('drop-before', 'leave-it', times => 1, only_stream => JSON::PP::true);
$id = send_sms($node, 3, body => 'leave-it');
becomes($id, 'unresolved', 'where resend_unknown is false, such a message is left unresolved');
is(posts($standin, body => 'leave-it'), 1, '... after exactly one POST');
is(as_user($node, 3, 'SELECT count(*) FROM twilio_queue')->{out}, '0', '... and nothing waits');
is(as_user($node, 3, "SELECT status FROM twilio_retry_message('$id')")->{out}, 'pending', '... but its user may retry it');
becomes($id, 'queued', '... and it is sent');

# ---- identical messages -------------------------------------------------------------------------

# Of ten that read the same, Twilio takes six and answers none.
lose('drop-before', 'identical', times => 4, only_stream => JSON::PP::true);
lose('accept-then-drop', 'identical', times => 6, only_stream => JSON::PP::true);
as_user($node, 1, "INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', 'identical' FROM generate_series(1, 10)");
wait_until { accepted($standin, body => 'identical') >= 10 && messages_with($node, 'identical', 'queued') + messages_with($node, 'identical', 'delivered')
	  + messages_with($node, 'identical', 'sending') + messages_with($node, 'identical', 'sent') == 10 } 40, 'ten identical messages, six taken, are ten messages in the end'
  or diag($node->safe_psql('postgres', "SELECT id, status, sid FROM twilio_messages WHERE body = 'identical'"));
is(accepted($standin, body => 'identical'), 10, '... at Twilio, too');
is($node->safe_psql('postgres', "SELECT count(DISTINCT sid) FROM twilio_messages WHERE body = 'identical'"), '10', '... matched one to one');

# A message with the same text that was sent before is not taken for the lost one.
send_sms($node, 1, body => 'same again');
wait_until { messages_with($node, 'same again') == 1 && accepted($standin, body => 'same again') == 1 } 10, 'a message is sent';
lose('drop-before', 'same(\+|%20)again', times => 1, only_stream => JSON::PP::true);
$id = send_sms($node, 1, body => 'same again');
wait_until { accepted($standin, body => 'same again') == 2 } 20, 'one that reads the same and is lost is not taken for it';
is($node->safe_psql('postgres', "SELECT count(DISTINCT sid) FROM twilio_messages WHERE body = 'same again'"), '2', '... but gets its own SID');

# Nor is one that another user of the same account has sent.
my $shared = sprintf "INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('%s', '%s', '%s'); SELECT verified FROM twilio_verify()",
  account_sid(1), token(1), number_of(1);
is(as_user($node, 4, $shared)->{out}, 't', 'two users share an account');
send_sms($node, 1, body => 'shared text');
wait_until { messages_with($node, 'shared text', 'queued') == 1 } 10, '... one sends a message';
lose('drop-before', 'shared(\+|%20)text', times => 1, only_stream => JSON::PP::true);
$id = send_sms($node, 4, body => 'shared text');
becomes($id, 'queued', '... the other\'s, which reads the same and is lost, is not taken for it');
is(accepted($standin, body => 'shared text'), 2, '... but sent again');

# ---- clocks -----------------------------------------------------------------------------------------

set('twilio.reconcile_after', '3s');
lose('accept-then-drop', 'clock-ahead', only_stream => JSON::PP::true);
$id = send_sms($node, 1, body => 'clock-ahead');
becomes($id, 'unknown', 'a message is unknown');
$node->safe_psql('postgres', "UPDATE twilio_messages SET submitted_at = submitted_at + interval '30 seconds' WHERE id = '$id'");
wait_until { message($node, $id, 'sid') } 25, '... and found, though our clock is half a minute ahead of Twilio\'s';
is(posts($standin, body => 'clock-ahead'), 1, '... after exactly one POST');
set('twilio.reconcile_after', '1s');

# ---- long lists, and lists that fail --------------------------------------------------------------

lose('accept-then-drop', 'in-the-crowd', only_stream => JSON::PP::true);
$standin->behave('503', match => { method => 'GET', path => 'Messages.json' }, times => 2);
$id = send_sms($node, 2, body => 'in-the-crowd');
becomes($id, 'unknown', 'a message is unknown');
as_user($node, 2, "INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', 'crowd ' || i FROM generate_series(1, 170) i");
wait_until { accepted($standin, account => account_sid(2)) == 171 } 10, '... and 170 more go to the same number';
wait_until { message($node, $id, 'sid') eq $sid_at_twilio->('in-the-crowd') } 30, '... it is found, on whichever page, though the list fails at first';
is(posts($standin, body => 'in-the-crowd'), 1, '... and was sent once');

# ---- read late ------------------------------------------------------------------------------------

# The worker dies when the request is in the network, and Twilio comes to read it when looks have found nothing.
$standin->calm;
set('twilio.request_timeout', '8s');
set('twilio.reconcile_after', '4s');
lose('hang', 'read-late', late => 6000);
$id = send_sms($node, 1, body => 'read-late');
wait_until { $standin->stats->{in_flight} == 1 } 10, 'a request is in the network';
kill_worker($node, 'postgres');
wait_until { message($node, $id, 'sid') } 30, 'a message that Twilio reads after the worker has died is found';
is(posts($standin, body => 'read-late'), 1, '... and not sent a second time');
set('twilio.request_timeout', '4s');
set('twilio.reconcile_after', '1s');

# ---- another account meanwhile --------------------------------------------------------------------

$standin->calm;
set('twilio.reconcile_after', '1h');
lose('accept-then-drop', 'old-account', only_stream => JSON::PP::true);
$id = send_sms($node, 3, body => 'old-account');
becomes($id, 'unknown', 'a message is unknown');
set('twilio.reconcile_after', '1s');
$standin->account({ sid => account_sid(33), token => token(33), numbers => [ number_of(3) ] });
my ($new_sid, $new_token) = (account_sid(33), token(33));
lose('hang', 'under-way');
my $under_way = send_sms($node, 3, body => 'under-way');
wait_until { posts($standin, body => 'under-way') == 1 } 10, '... and another is under way';
ok(as_user($node, 3, "UPDATE twilio_settings SET account_sid = '$new_sid', auth_token = '$new_token', resend_unknown = true; SELECT verified FROM twilio_verify()")->{ok},
	'its user goes to another Twilio account');
becomes($id, 'unresolved', '... which knows nothing of it, so it is left unresolved');
is(posts($standin, body => 'old-account'), 1, '... and not sent from there');
becomes($under_way, 'unresolved', '... just as the one that was under way, and is lost');
is(posts($standin, body => 'under-way'), 1, '... after exactly one POST');
set('twilio.reconcile_after', '1h');
lose('accept-then-drop', 'deleted-account', only_stream => JSON::PP::true);
$id = send_sms($node, 3, body => 'deleted-account');
becomes($id, 'unknown', 'a message is unknown');
as_user($node, 3, 'DELETE FROM twilio_settings');
becomes($id, 'unresolved', '... and unresolved when its account is deleted');

$standin->calm;
wait_until { waiting() == 0 } 20, 'nothing is in doubt at the end';
TwilioTest::finish();
