# Calls are placed exactly as committed, once, from the tenant's own number and account; what becomes of them is a row.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => "twilio.webhook_url = '" . webhook_url() . "'\n" . <<'END');
twilio.poll_interval = 1h
twilio.request_timeout = 4s
twilio.reconcile_after = 1s
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 2;
my $hello = '<Response><Say>Hello &amp; welcome</Say></Response>';

sub placed { my (%filter) = @_; return $standin->count(method => 'POST', path => 'Calls.json', %filter) }
sub call { my ($id, $columns) = @_; return $node->safe_psql('postgres', 'SELECT ' . ($columns // 'status') . " FROM twilio_calls WHERE id = '$id'") }
sub place
{
	my ($n, %arguments) = @_;
	$arguments{to_number} //= '+12025550199';
	$arguments{twiml} //= $hello;
	my $done = as_user($node, $n, 'SELECT id FROM twilio_place_call(' . join(', ', map { "$_ => " . quote($arguments{$_}) } sort keys %arguments) . ')');
	BAIL_OUT("not placed: $done->{error}") unless $done->{ok};
	return $done->{out};
}
sub becomes
{
	my ($id, $status, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until { call($id) eq $status } 25, $what or diag(call($id, 'status, error_code, error_message'));
	return;
}

# ---- in the transaction -------------------------------------------------------------------------

my $id = place(1);
becomes($id, 'queued', 'a call is placed when its transaction commits');
my $request = $standin->ledger(method => 'POST', path => 'Calls.json')->[0];
my %param;
push @{ $param{ $_->[0] } }, $_->[1] for @{ $request->{params} };
is_deeply(\%param, {
	To => ['+12025550199'], From => [ number_of(1) ], Twiml => [$hello], StatusCallback => [ webhook_url() . "?m=$id" ],
	StatusCallbackEvent => [qw(initiated ringing answered completed)] }, '... with what was asked for, and nothing else');
is($request->{account}, account_sid(1), "... billed to the tenant's own account");
is(call($id, 'sid'), $request->{sid}, '... its SID is known');
as_user($node, 1, "BEGIN; SELECT twilio_place_call('+12025550100', '$hello'); ROLLBACK");
as_user($node, 1, "BEGIN; SAVEPOINT s; SELECT twilio_place_call('+12025550101', '$hello'); ROLLBACK TO s; COMMIT");
becomes(place(1, to_number => '+12025550102'), 'queued', 'a later one is placed');
is(placed(to => $_), 0, "... and $_, which was rolled back, is not called") for '+12025550100', '+12025550101';
is($node->safe_psql('postgres', "SELECT action, outcome FROM twilio_audit_log WHERE action = 'call' ORDER BY at LIMIT 1"), 'call|ok', 'the audit log has the request');
unlike($node->safe_psql('postgres', 'SELECT a FROM twilio_audit_log a'), qr/Hello|0199/, '... and neither whom it calls nor what it says');

# ---- its life, told by signed callbacks ---------------------------------------------------------

my $hook = sub {
	my (%params) = @_;
	return handle_webhook($node, $standin->control(POST => 'callback', { account => account_sid(1), url => webhook_url() . "?m=$id",
		params => { AccountSid => account_sid(1), CallSid => $request->{sid}, From => number_of(1), To => '+12025550199', Direction => 'outbound-api', %params } }));
};
ok($hook->(CallStatus => 'completed', CallDuration => '49', Duration => '1', SequenceNumber => '3')->{ok}, 'a signed callback is believed');
ok($hook->(CallStatus => 'ringing', SequenceNumber => '1')->{ok}, '... a late one, too');
is(call($id, 'status, duration'), 'completed|49', '... and does not lower the status');
is($hook->(CallStatus => 'failed', AccountSid => account_sid(2))->{state}, 'PT403', 'one in the name of another account is refused');

# ---- hanging up ---------------------------------------------------------------------------------

$standin->change(account_sid(1), life => { sent_after => 60_000 });
$id = place(1, to_number => '+12025550110');
becomes($id, 'queued', 'a call waits to be answered');
is(as_user($node, 2, "SELECT twilio_hang_up('$id')")->{out}, 'f', 'another tenant cannot end it');
is(as_user($node, 1, "SELECT twilio_hang_up('$id')")->{out}, 't', 'its own can');
becomes($id, 'completed', '... and Twilio ends it');

# ---- answers that are lost ----------------------------------------------------------------------

for my $case ([ 'hang', 'dropped after the request' ], [ 'accept-then-drop', 'broken', only_stream => JSON::PP::true ], [ '500', 'an error', accept => JSON::PP::true ])
{
	my ($action, $name, %more) = @$case;
	my $to = sprintf '+120255502%02d', length $name;
	$standin->behave($action, match => { method => 'POST', body => "To=%2B" . substr($to, 1) }, %more);
	$id = place(1, to_number => $to);
	wait_until { call($id, 'sid') } 30, "$name: a call that Twilio took is found in its lists";
	is(placed(to => $to), 1, '... and was placed once');
	like($node->safe_psql('postgres', "SELECT string_agg(status || '/' || source, ' ' ORDER BY id) FROM twilio_call_events WHERE call_id = '$id'"),
		qr{^pending/local unknown/local \w+/poll}, '... having been unknown');
	$standin->calm;
}
$standin->behave('500', match => { method => 'POST', body => '0300' }, times => 1);
$id = place(1, to_number => '+12025550300');
becomes($id, 'queued', 'a call that Twilio never took is placed after two looks');
is(placed(to => '+12025550300', accepted => 'true'), 1, '... once');
cmp_ok($standin->count(method => 'GET', path => 'Calls.json'), '>=', 2, '... which were made');
$standin->behave('429', match => { method => 'POST', body => '0301' }, times => 2);
becomes($id = place(1, to_number => '+12025550301'), 'queued', 'a call refused with 429 is tried again');
is(placed(to => '+12025550301', accepted => 'true'), 1, '... and placed once');

# ---- killed in the middle -----------------------------------------------------------------------

$standin->behave('delay', ms => 20, match => { method => 'POST', path => 'Calls' });
as_user($node, 1, "INSERT INTO twilio_calls (to_number, twiml) SELECT '+1202556' || lpad(n::text, 4, '0'), '$hello' FROM generate_series(1, 300) n");
for my $round (1 .. 3)
{
	wait_until { placed() >= 40 * $round } 30, 'calls are being placed';
	kill_worker($node, 'postgres');
}
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_calls WHERE to_number LIKE '+1202556%' AND sid IS NOT NULL") == 300 } 90,
	'after three crashes of the worker, all 300 calls are placed';
is($standin->control(GET => 'ledger/duplicates?method=POST&path=Calls.json&since=0&key=To')->{extra}, 0, '... and none of them twice');

# ---- refused ------------------------------------------------------------------------------------

$id = place(1, to_number => '+15005550001');
becomes($id, 'failed', 'a number that Twilio cannot call');
like(call($id, 'error_code, error_message'), qr/^21217\|\S/, '... says why');
TwilioTest::finish();
