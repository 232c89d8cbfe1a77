# Webhooks, signed by Twilio's official SDK: what is signed is believed, whatever the order in which it
# comes; of anything else no row is written.
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
my $node = new_cluster('main', standin => $standin, conf => "twilio.webhook_url = '" . webhook_url() . "'\ntwilio.request_timeout = 60s\n");
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 4;

sub signed { my (%order) = @_; return $standin->control(POST => 'callback', { account => account_sid(1), url => webhook_url(), %order }) }
sub rows
{
	return $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM twilio_messages), (SELECT count(*) FROM twilio_message_events),
		(SELECT count(*) FROM twilio_opt_outs), (SELECT count(*) FROM twilio_audit_log), (SELECT count(*) FROM twilio_private.outbox)');
}
sub sent_message
{
	my ($n, $body) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = send_sms($node, $n, body => $body);
	my $sid = wait_until { message($node, $id, 'sid') } 10, "$body: a message is sent";
	return ($id, $sid);
}

# ---- signatures ---------------------------------------------------------------------------------

my %base = (AccountSid => account_sid(1), MessageSid => 'SM' . '1' x 32, From => '+12025550150', To => number_of(1), NumMedia => '0');
my @corpus = (
	[ 'plain text', params => { %base, Body => 'Hello' } ],
	[ 'an empty value', params => { %base, Body => '', Empty => '' } ],
	[ 'UTF-8', params => { %base, Body => 'Grüße 😀 你好' } ],
	[ 'punctuation', params => { %base, Body => q{'@:;,/?!*()~-_. +&=%"<>#[]{}|\^`} } ],
	[ 'a plus and a space', params => { %base, Body => '1 + 1 = 2' } ],
	[ 'lines', params => { %base, Body => "one\r\ntwo\n" } ],
	[ 'a repeated name', params => [ (map { [ $_ => $base{$_} ] } sort keys %base), [ Body => 'b' ], [ Again => '2' ], [ Again => '1' ], [ Again => '2' ] ] ],
	[ 'unknown parameters', params => { %base, Body => 'x', Zukunft => 'ja', 'with space' => 'y', 'ö' => 'z' } ],
	[ 'names that sort by case', params => { %base, Body => 'x', b => '1', B => '2', a => '3', A => '4' } ],
	[ 'a long text', params => { %base, Body => 'x' x 1600 } ],
	[ 'a query', url => webhook_url() . '?a=1&b=zwei%20drei', params => { %base, Body => 'x' } ],
	[ 'a path below', url => webhook_url() . '/sms', params => { %base, Body => 'x' } ],
	[ 'a port', url => 'https://crm.example.com:443/twilio/webhook', params => { %base, Body => 'x' } ],
	[ 'GET', method => 'GET', params => { %base, Body => 'über + mehr' } ],
	[ 'JSON', json => '{"account_sid":"' . account_sid(1) . '","x":"ü"}' ]);
for my $case (@corpus)
{
	my ($name, %order) = @$case;
	my $request = signed(%order);
	my $done = handle_webhook($node, $request);
	ok($done->{ok}, "signed and believed: $name") or diag($done->{error});
}
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE direction = 'inbound'"), '1', 'the same MessageSid makes one row');
is($node->safe_psql('postgres', "SELECT body FROM twilio_messages WHERE direction = 'inbound'"), 'Hello', '... with what came first');

my $request = signed(params => { %base, MessageSid => 'SM' . '2' x 32, Body => 'signed' });
my $before = rows();
my %changed = (
	'another body' => { body => $request->{body} =~ s/signed/forged/r },
	'one byte more' => { body => $request->{body} . 'x' },
	'one parameter more' => { body => $request->{body} . '&X=1' },
	'one byte less' => { body => substr($request->{body}, 0, -1) },
	'another case' => { body => $request->{body} =~ s/signed/Signed/r },
	'another host' => { url => $request->{url} =~ s/crm/crn/r },
	'another path' => { url => $request->{url} . '/' },
	'another query' => { url => $request->{url} . '?x' },
	'another scheme' => { url => $request->{url} =~ s/https/http/r },
	'no signature' => { signature => undef },
	'an empty signature' => { signature => '' },
	'a longer signature' => { signature => $request->{headers}{'x-twilio-signature'} . '=' },
	'a shorter signature' => { signature => substr($request->{headers}{'x-twilio-signature'}, 0, -1) },
	'another case of the signature' => { signature => lc $request->{headers}{'x-twilio-signature'} },
	'another method' => { method => 'GET' },
	'another type' => { content_type => 'application/json' });
for my $name (sort keys %changed)
{
	is(handle_webhook($node, $request, %{ $changed{$name} })->{state}, 'PT403', "refused: $name");
}
# Each byte of the body, one after the other: in one call, as it is many.
my $bytes = unpack 'H*', $request->{body};
my $wrong = $node->safe_psql('postgres', sprintf(<<'END', $bytes, $bytes, quote($request->{url}), quote($request->{headers}{'x-twilio-signature'})));
CREATE FUNCTION taken(url text, body bytea, signature text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN PERFORM twilio_handle_webhook(url, body, signature); RETURN true; EXCEPTION WHEN SQLSTATE 'PT403' THEN RETURN false; END $$;
SELECT count(*) FROM generate_series(0, length('\x%s'::bytea) - 1) n, LATERAL (SELECT set_byte('\x%s'::bytea, n, 1)) c (body) WHERE taken(%s, c.body, %s);
END
is($wrong, '0', 'refused: any byte of the body changed');
is(rows(), $before, '... and not a row is written');
ok(handle_webhook($node, $request)->{ok}, 'unchanged it is believed');

# ---- who ----------------------------------------------------------------------------------------

my ($id, $sid) = sent_message(2, 'message of B');
$before = rows();
my %said = (AccountSid => account_sid(1), MessageSid => $sid, MessageStatus => 'failed', ErrorCode => '30001');
is(handle_webhook($node, signed(url => webhook_url() . "?m=$id", params => \%said))->{state}, 'PT403', "A's valid signature on B's message is refused");
is(handle_webhook($node, signed(params => \%said))->{state}, 'PT403', '... by its SID as well');
$said{AccountSid} = account_sid(2);
is(handle_webhook($node, signed(url => webhook_url() . "?m=$id", params => \%said))->{state}, 'PT403', "... and with B's account named");
is(handle_webhook($node, signed(account => account_sid(2), token => token(1), params => \%said))->{state}, 'PT403', "... and signed with A's token");
is(rows(), $before, '... without a row');
is(message($node, $id), 'queued', '... and the message is as it was');
my $forge = "DO \$\$ BEGIN FOR i IN 1..10000 LOOP BEGIN
	PERFORM twilio_handle_webhook('" . webhook_url() . "', convert_to('AccountSid=" . account_sid(1) . "&MessageSid=SM' || i || '&From=%2B1&To=%2B2&Body=x', 'UTF8'), 'AAAAAAAAAAAAAAAAAAAAAAAAAAA=');
	RAISE 'accepted'; EXCEPTION WHEN SQLSTATE 'PT403' THEN NULL; END; END LOOP; END \$\$";
my $unsigned = run_sql($node, $forge, timeout => 120);
ok($unsigned->{ok}, '10,000 requests with a wrong signature are refused') or diag($unsigned->{error});
is(rows(), $before, '... without a row');
my $refusals = () = slurp_file($node->logfile) =~ /webhook refused: /g;
cmp_ok($refusals, '<', 100, '... and with few lines in the log');
is(run_sql($node, "SELECT twilio_handle_webhook('x', '', 'x')", role => 'twilio_user', user => user_id(1))->{state}, '42501', 'a tenant may not call it');

my $repeatable = connect_session($node);
$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM twilio_messages; SET LOCAL ROLE twilio_webhook');
$node->safe_psql('postgres', "UPDATE twilio_messages SET updated_at = now() WHERE id = '$id'");
my $late = signed(account => account_sid(2), token => token(2), params => { %said, MessageStatus => 'sent', ErrorCode => '' });
like($repeatable->run(webhook_call($late)) . $repeatable->error, qr/PT409: the message has changed meanwhile/, 'whoever is late in a repeatable read sees no 40001');
$repeatable->run('ROLLBACK');
$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL ROLE twilio_webhook');
is($repeatable->run(webhook_call($late)), '<Response/>', '... and who repeats it is heard');
$repeatable->run('ROLLBACK');
$repeatable->quit;

# Through PostgREST: what it is told of the URL is what a proxy has seen. The host is that of twilio.webhook_url.
sub response_status
{
	my ($seen, $request) = @_;
	my $headers = encode_json({ 'x-twilio-url' => $seen, 'x-twilio-signature' => $request->{headers}{'x-twilio-signature'},
		'x-original-method' => 'POST', 'x-original-content-type' => $request->{headers}{'content-type'} });
	my $body = unpack 'H*', $request->{body};
	return $node->safe_psql('postgres', <<"END");
SET request.headers = '$headers';
SET ROLE twilio_webhook;
BEGIN;
SELECT FROM twilio_webhook('\\x$body'::bytea);
SELECT coalesce(nullif(current_setting('response.status', true), ''), '200');
END
}
my $elsewhere = 'https://evil.example.com/twilio/webhook';
is(response_status($elsewhere, signed(url => $elsewhere, params => { %base, Body => 'x' })), '403', 'what Twilio has signed for another host is refused, wherever it comes in');
is(response_status('http://127.0.0.1:8080/twilio/webhook?a=1', signed(url => webhook_url() . '?a=1', params => { %base, Body => 'x' })), '200',
	'... and what it has signed for ours is believed');

# ---- a key file that cannot be read -------------------------------------------------------------

my $key_file = $node->data_dir . '/pg_twilio.key';
my $said_before = -s $node->logfile;
chmod 0644, $key_file;
is(handle_webhook($node, $request)->{state}, 'PT403', 'where the key file cannot be read a webhook is refused');
my $told = qr/LOG:  twilio: a webhook cannot be checked: .* cannot be used: .*pg_twilio\.key.*\n.*HINT:  .*mode 0600/;
like(slurp_file($node->logfile, $said_before), $told, '... and the log says why');
$said_before = -s $node->logfile;
ok(run_sql($node, $forge, timeout => 120)->{ok}, '... as are 10,000');
is(scalar(() = slurp_file($node->logfile, $said_before) =~ /$told/g), 1, '... with one such line of each session');
chmod 0600, $key_file;
ok(handle_webhook($node, $request)->{ok}, '... until it can be read again');

# ---- statuses in any order ----------------------------------------------------------------------

my @orders = ([qw(queued sent delivered)], [qw(queued delivered sent)], [qw(sent queued delivered)], [qw(sent delivered queued)], [qw(delivered queued sent)], [qw(delivered sent queued)]);
for my $order (@orders)
{
	my ($id, $sid) = sent_message(1, "order @$order");
	for (@$order, reverse @$order) { ok(callback($node, $standin, 1, $sid, $_)->{ok}, "$_ is taken") }
	is(message($node, $id, 'status, sent_at IS NOT NULL, delivered_at IS NOT NULL'), 'delivered|t|t', "... and it is delivered in the end");
	is($node->safe_psql('postgres', "SELECT string_agg(status, ' ' ORDER BY status) FROM twilio_message_events WHERE message_id = '$id'"), 'delivered pending queued sent',
		'... with one event for each');
}
($id, $sid) = sent_message(1, 'errors');
callback($node, $standin, 1, $sid, 'undelivered', error_code => 30003);
callback($node, $standin, 1, $sid, 'undelivered', error_code => 30005);
callback($node, $standin, 1, $sid, 'sent');
is(message($node, $id, 'status, error_code'), 'undelivered|30003', 'the first error is kept');
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_message_events WHERE message_id = '$id' AND status = 'undelivered'"), '2', '... and each has its event');
($id, $sid) = sent_message(1, 'future');
ok(callback($node, $standin, 1, $sid, 'teleported')->{ok}, 'a status that Twilio may invent is taken');
is(message($node, $id), 'teleported', '... as it is');

($id, $sid) = sent_message(1, 'at once');
my $delivered = signed(message => $sid, status => 'delivered', url => undef);
my $call = "SELECT twilio_handle_webhook('$delivered->{url}', convert_to('$delivered->{body}', 'UTF8'), '$delivered->{headers}{'x-twilio-signature'}')";
my @sessions = map { connect_session($node, role => 'twilio_webhook') } 1 .. 8;
for (1 .. 5) { $_->send($call) for @sessions; $_->result for @sessions }
is(join('', map { $_->error } @sessions), '', 'the same callback forty times, eight at a time, is taken');
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_message_events WHERE message_id = '$id' AND status = 'delivered'"), '1', '... with one event');
$_->quit for @sessions;

# ---- before our own result ----------------------------------------------------------------------

$standin->behave('delay', match => { body => 'slow' }, ms => 5000);
$id = send_sms($node, 1, body => 'slow');
my $posted = wait_until { $standin->ledger(method => 'POST', body => 'slow')->[0] } 10, 'Twilio has taken a message and has not answered yet';
my $done = callback($node, $standin, 1, $posted->{sid}, 'delivered');
ok($done->{ok}, '... the callback comes before the answer');
is($standin->stats->{in_flight}, 1, '... and does not wait for it');
is(message($node, $id, 'status, sid'), "delivered|$posted->{sid}", '... and linked');
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE kind = 'message'") == 0 } 10, '... when the answer comes';
is(message($node, $id, 'status, sid'), "delivered|$posted->{sid}", '... it does not lower the status');

# Twilio's sentence is seldom in a callback.
for my $status (qw(failed undelivered))
{
	$standin->control(POST => 'fates', { match => { body => $status }, status => $status, error_code => 30003 });
	($id, $sid) = sent_message(1, $status);
	ok(callback($node, $standin, 1, $sid, $status, error_code => 30003)->{ok}, "a callback says $status and a code");
	is(message($node, $id, 'status, error_code'), "$status|30003", '... which is kept');
	wait_until { message($node, $id, "submitted_at < now() - interval '1 second'") eq 't' } 5, '... which Twilio shows by now';
	wait_until { set_due_now($node, $_) for qw(message_reread message_fetch); message($node, $id, 'error_message') } 10, '... and its sentence follows';
	is(message($node, $id, 'status, error_code, error_message'), "$status|30003|Unreachable destination handset", '... with nothing else changed');
}

# ---- tokens -------------------------------------------------------------------------------------

($id, $sid) = sent_message(3, 'rotation');
my $new = 'e' x 32;
$standin->change(account_sid(3), token => $new);
for my $step (
	[ "UPDATE twilio_settings SET auth_token = '$new'", 'before a new token is verified' ],
	[ 'SELECT verified FROM twilio_verify()', 'afterwards' ])
{
	as_user($node, 3, $step->[0]);
	ok(callback($node, $standin, 3, $sid, 'sent', token => token(3))->{ok}, "$step->[1], callbacks signed with the old one are believed");
	ok(callback($node, $standin, 3, $sid, 'delivered', token => $new)->{ok}, '... and those signed with the new one');
}
$node->safe_psql('postgres', "UPDATE twilio_private.credential SET previous_until = now() WHERE user_id = '" . user_id(3) . "'");
is(callback($node, $standin, 3, $sid, 'delivered', token => token(3))->{state}, 'PT403', '... the old one only for twilio.token_grace');
as_user($node, 3, 'UPDATE twilio_settings SET is_active = false');
is(callback($node, $standin, 3, $sid, 'delivered', token => $new)->{state}, 'PT403', 'an account that is switched off gets none');

# Mistyped first, and saved twice.
($id, $sid) = sent_message(4, 'mistyped');
$standin->change(account_sid(4), token => $new);
as_user($node, 4, "UPDATE twilio_settings SET auth_token = '$_'") for 'd' x 32, $new, $new;
is(as_user($node, 4, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'a token that was mistyped is corrected');
ok(callback($node, $standin, 4, $sid, 'sent', token => token(4))->{ok}, '... and the one that worked before is still believed');
is(callback($node, $standin, 4, $sid, 'sent', token => 'd' x 32)->{state}, 'PT403', '... the mistyped one no more');
as_user($node, 4, "UPDATE twilio_settings SET account_sid = 'AC" . '9' x 32 . "'");
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.credential WHERE user_id = '" . user_id(4) . "' AND previous_sealed IS NOT NULL"), '0',
	'one of another account is forgotten');

# An API key that Twilio refuses says nothing about the token, with which it signs.
my $key = 'SK' . '1' x 32;
$standin->change(account_sid(2), keys => [ { sid => $key, secret => 's' x 32 } ]);
is(as_user($node, 2, "UPDATE twilio_settings SET api_key_sid = '$key', api_key_secret = '" . 's' x 32 . "'; SELECT verified FROM twilio_verify()")->{out}, 't', 'an API key is verified');
($id, $sid) = sent_message(2, 'by key');
$standin->change(account_sid(2), drop_keys => [$key]);
send_sms($node, 2, body => 'by a key that is gone');
wait_until { as_user($node, 2, 'SELECT is_verified FROM twilio_settings')->{out} eq 'f' } 10, '... and deleted at Twilio';
ok(callback($node, $standin, 2, $sid, 'delivered')->{ok}, '... callbacks are still believed');
ok(handle_webhook($node, $standin->control(POST => 'inbound', { account => account_sid(2), from => '+12025550170', to => number_of(2), body => 'STOP', url => webhook_url() }))->{ok},
	'... and what is received is not lost');
is(as_user($node, 2, 'SELECT phone_number FROM twilio_opt_outs')->{out}, '+12025550170', '... such as a STOP');
as_user($node, 2, "UPDATE twilio_settings SET api_key_sid = NULL");
is(callback($node, $standin, 2, $sid, 'delivered')->{state}, 'PT403', 'settings that were changed and not verified since get none');
is(as_user($node, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... until they are');

# ---- received -----------------------------------------------------------------------------------

sub inbound { my (%order) = @_; return $standin->control(POST => 'inbound', { account => account_sid(1), from => '+12025550160', to => number_of(1), url => webhook_url(), %order }) }
$request = inbound(body => 'Hallo 😀', media => 2);
is(handle_webhook($node, $request)->{out}, '<Response/>', 'a received message is answered with an empty response') for 1 .. 2;
is($node->safe_psql('postgres', "SELECT direction, from_number, to_number, body, status, num_media, cardinality(media_urls) FROM twilio_messages WHERE sid = '$request->{sid}'"),
	'inbound|+12025550160|' . number_of(1) . '|Hallo 😀|received|2|2', '... and is one row, although it came twice') ;
as_user($node, 1, q{UPDATE twilio_settings SET auto_reply = 'We <answer> & soon'});
is(handle_webhook($node, inbound(body => 'Hi'))->{out}, '<Response><Message>We &lt;answer&gt; &amp; soon</Message></Response>', 'the automatic reply is TwiML');
is(handle_webhook($node, inbound(body => 'stop'))->{out}, '<Response/>', '... which STOP does not get');

# A number's application goes before its SmsUrl.
$standin->change(account_sid(1), numbers => [ { phone_number => number_of(1), sms_url => 'https://other.example.com/', sms_application_sid => 'AP' . '0' x 32 } ]);
is(as_user($node, 1, 'SELECT count(*) FROM twilio_phone_numbers(); SELECT twilio_configure_webhooks()')->{out}, "1\n1", 'a number is told to report here');
wait_until { as_user($node, 1, 'SELECT sms_url FROM twilio_numbers')->{out} eq webhook_url() } 10, '... which Twilio says that it does';
is_deeply([ map { $_->[1] } grep { $_->[0] eq 'SmsApplicationSid' } @{ $standin->ledger(method => 'POST', path => 'IncomingPhoneNumbers')->[-1]{params} } ], [''],
	'... having taken its application away');
is(handle_webhook($node, inbound(body => 'start', url => undef))->{out}, '<Response/>', '... and does');

# ---- to the disk --------------------------------------------------------------------------------

# A status that a crash loses is read again, so a callback's commit does not wait for the disk. What else the transaction
# did must not suffer by that, nor what comes after it.
my $messages = 30;
write_messages($node, 2, 'Status', $messages);
wait_until { sent($node, 'Status') == $messages } 20, 'messages are sent';
my @sids = split /\n/, $node->safe_psql('postgres', "SELECT sid FROM twilio_messages WHERE body LIKE 'Status %'");
$node->safe_psql('postgres', 'CREATE TABLE written (n int); ALTER SYSTEM SET wal_writer_delay = \'10s\'');
$node->reload;

# What a session says that takes a webhook as PostgREST does: whether it is on disk when its COMMIT returns.
sub on_disk
{
	my ($request, $before, $after, $next) = @_;
	my $headers = encode_json({ 'x-twilio-url' => $request->{url}, 'x-twilio-signature' => $request->{headers}{'x-twilio-signature'},
		'x-original-method' => 'POST', 'x-original-content-type' => $request->{headers}{'content-type'} });
	my $body = unpack 'H*', $request->{body};
	my $out = $node->safe_psql('postgres', "SET request.headers = '$headers';\n" . <<"END");
BEGIN;
$before;
SET LOCAL ROLE twilio_webhook;
SELECT twilio_webhook('\\x$body'::bytea);
RESET ROLE;
$after;
SELECT pg_current_wal_insert_lsn() AS own \\gset
COMMIT;
$next;
SELECT pg_current_wal_flush_lsn() >= :'own';
END
	return (split /\n/, $out)[-1];
}
sub status { return $standin->control(POST => 'callback', { account => account_sid(2), message => shift @sids, status => 'delivered' }) }

my $write = 'INSERT INTO written VALUES (1)';
SKIP:
{
	skip 'PostgreSQL 14 does not tell what a transaction has changed', 1 if $node->pg_version < 15;
	wait_until { @sids > 10 && on_disk(status(), '', '', '') eq 'f' } 30, 'a status callback does not wait for the disk';
}
is(on_disk(status(), $write, '', ''), 't', '... it does where the transaction wrote something before');
is(on_disk(status(), '', $write, ''), 't', '... or after it');
is(on_disk(status(), "SAVEPOINT a; $write; RELEASE a", '', ''), 't', '... or in a subtransaction');
is(on_disk(status(), '', 'UPDATE twilio_settings SET auto_reply = NULL', ''), 't', '... or changed what is no message');
is(on_disk(status(), '', "DELETE FROM twilio_messages WHERE body = 'errors'", ''), 't', '... or deleted one');
is(on_disk(status(), '', '', $write), 't', '... and what the session writes next is on disk');
is(on_disk(inbound(body => 'kept'), '', '', ''), 't', 'a received message waits for the disk');
is(messages_with($node, 'Status %', 'delivered'), $messages - @sids, '... and all are applied');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET wal_writer_delay');

TwilioTest::finish();
