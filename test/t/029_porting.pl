# Numbers of other carriers: whether they can be ported, requests to port them, what becomes of these. A request is made
# once, whatever becomes of its answer, and its PINs and account numbers are found nowhere but at Twilio.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
shared_preload_libraries = 'pg_stat_statements, auto_explain, pg_twilio'
log_statement = all
log_min_messages = debug2
log_error_verbosity = verbose
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
pg_stat_statements.track = all
track_activity_query_size = 16kB
twilio.log_requests = on
twilio.ask_timeout = 5s
twilio.api_rate_limit = 0
END
wait_for_worker($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');
configure($node, $standin, $_) for 1 .. 3;
is(as_user($node, $_, 'SELECT verified FROM twilio_verify()')->{out}, 't', "user $_ is verified") for 1 .. 2;

# What is secret comes from files, so that the statements of the test do not contain it.
my ($pin, $account_number) = ('p1nc4n4ry77', '4cc0untc4n4ry99');
my $files = PostgreSQL::Test::Utils::tempdir('canary');
append_to_file("$files/pin", $pin);
append_to_file("$files/account_number", $account_number);
$node->safe_psql('postgres', <<"END");
CREATE FUNCTION entered(name text) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS
	\$\$ BEGIN RETURN to_jsonb(pg_catalog.pg_read_file('$files/' || name)); END \$\$;
CREATE FUNCTION request(more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS \$\$ BEGIN RETURN jsonb_set(jsonb_set('{
	"documents": ["RD00000000000000000000000000000001"], "phone_numbers": [{"phone_number": "+12025550177"}, {"phone_number": "+12025550178"}],
	"losing_carrier_information": {"customer_type": "Business", "customer_name": "Jörg & \\"Söhne\\"", "authorized_representative": "A. Person",
		"authorized_representative_email": "a\@example.com", "account_telephone_number": "+12025550177",
		"address": {"street": "Main Street 1", "city": "Springfield", "state": "CA", "zip": "94103", "country": "US"}}}',
	'{phone_numbers,1,pin}', entered('pin')), '{losing_carrier_information,account_number}', entered('account_number')) || more; END \$\$;
END
sub port_in { my ($n, $more, %options) = @_; return as_user($node, $n, 'SELECT sid FROM twilio_port_in(request(' . ($more // '') . '))', %options) }
sub posts { return $standin->count(method => 'POST', path => 'PortIn', @_) }
sub listed { my ($n, $what) = @_; return as_user($node, $n, 'SELECT ' . ($what // 'count(*)') . ' FROM twilio_port_ins()')->{out} }

# ---- can it be ported? --------------------------------------------------------------------------

is(as_user($node, 1, "SELECT * FROM twilio_portability('+12025550177')")->{out}, '+12025550177|t|||LOCAL|US|f', 'a number that can be ported');
is(as_user($node, 1, "SELECT portable, reason, reason_code FROM twilio_portability('+4930123456')")->{out}, 'f|MANUAL_PORTING_AVAILABLE|22133', 'one that cannot, and why');
is(as_user($node, 1, "SELECT portable, reason FROM twilio_portability('12')")->{out}, 'f|Twilio does not know this number.', 'one that is none');

# ---- a request ----------------------------------------------------------------------------------

is(listed(1), 0, 'before there is a request, none is listed');
my $done = as_user($node, 1, "SELECT sid, status, signature_request_url, raw ->> 'support_ticket_id', raw FROM twilio_port_in(request())");
like($done->{out}, qr/^KW[0-9a-f]{32}\|in_review\|\|123456\|/, 'numbers are to be ported') or diag($done->{error});
my ($sid) = $done->{out} =~ /^(KW\w+)/;
my ($asked) = @{ $standin->ledger(method => 'POST', path => 'PortIn') };
my $body = decode_json($asked->{body});
is($body->{account_sid}, account_sid(1), 'Twilio gets the account');
is($body->{phone_numbers}[1]{pin}, $pin, '... the PIN');
is($body->{losing_carrier_information}{account_number}, $account_number, '... and the account number');
is($body->{losing_carrier_information}{customer_name}, "J\x{f6}rg & \"S\x{f6}hne\"", '... and letters as they are');
unlike($done->{out}, qr/c4n4ry/, '... which are not in its answer');
$standin->behave('status', status => 202, times => 1, match => { method => 'POST' }, body_json => {
	port_in_request_sid => $sid, port_in_request_status => 'waiting for-Signature', signature_request_url => 'https://example.com/sign', pin => 1,
	phone_numbers => [ { phone_number => '+1', pin => 1234, more => [ { port_out_pin => 5, pin => 'x' } ] }, 'none', undef ],
	losing_carrier_information => { account_number => $account_number, customer_name => 'Acme' } });
is(as_user($node, 1, 'SELECT * FROM twilio_port_in(request())')->{out}, "$sid|waiting_for_signature|https://example.com/sign|"
	. qq({"phone_numbers": [{"more": [{}], "phone_number": "+1"}, "none", null], "port_in_request_sid": "$sid", "signature_request_url": "https://example.com/sign",)
	. qq( "port_in_request_status": "waiting for-Signature", "losing_carrier_information": {"customer_name": "Acme"}}), '... even where Twilio repeats them');
ok(port_in(1, "jsonb_build_object('account_sid', '" . account_sid(1) . "', 'target_port_in_date', (now() + '9 days')::date, 'notification_emails', '[\"b\@example.com\"]'::jsonb)")->{ok},
	'the own account may be named, and what Twilio leaves to the user');
is(as_user($node, 1, q[SELECT jsonb_array_length(raw -> 'phone_numbers') FROM twilio_port_in(request(jsonb_build_object('phone_numbers',
	ARRAY(SELECT jsonb_build_object('phone_number', '+12025550177', 'pin', '1234567890') FROM generate_series(1, 100)))))])->{out}, 100, 'a hundred numbers in one request');
run_sql($node, 'BEGIN; SELECT twilio_port_in(request()); ROLLBACK', role => 'twilio_user', user => user_id(1));
is(listed(1), 4, 'a rollback does not take a request back');

# ---- what is not asked --------------------------------------------------------------------------

my $posts = posts();
for my $case (
	[ "NULL::jsonb - 'x'", 'nothing' ],
	[ "'{\"account_sid\": \"" . account_sid(2) . "\"}'", 'another account', qr/account_sid is another/ ],
	[ q('{"phone_numbers": null}'), 'no numbers', qr/phone_numbers is an array/ ], [ q('{"phone_numbers": []}'), 'not one number' ], [ q('{"phone_numbers": "+12025550177"}'), 'a number alone' ],
	[ q('{"phone_numbers": ["+12025550177"]}'), 'a number that is no object', qr/E\.164/ ], [ q('{"phone_numbers": [{"phone_number": "+12025550177"}, {"phone_number": "2025550177"}]}'), 'a number without country' ],
	[ q('{"phone_numbers": [null]}'), 'a null' ],
	[ q[jsonb_build_object('phone_numbers', ARRAY(SELECT jsonb_build_object('phone_number', '+12025550177') FROM generate_series(1, 170)))], 'too many numbers', qr/longer than 6000 bytes/ ],
	[ q('{"documents": null}'), 'no documents', qr/documents is an array/ ], [ q('{"documents": []}'), 'not one document' ], [ q('{"documents": ["bill.pdf"]}'), 'a file', qr/RD/ ], [ q('{"documents": [null]}'), 'no document' ],
	[ q('{"losing_carrier_information": null}'), 'no other carrier', qr/losing_carrier_information is/ ], [ q('{"losing_carrier_information": {"customer_name": "Acme"}}'), 'nobody who signs', qr/authorized_representative/ ],
	[ q('{"target_port_in_date": "soon"}'), 'a day that is none', qr/is a day/ ], [ q('{"target_port_in_date": "2030-02-30"}'), 'a day that is in no calendar' ], [ q('{"target_port_in_date": 20300201}'), 'a number as day' ])
{
	my ($more, $what, $words) = @$case;
	my $refused = port_in(1, $more);
	is("$refused->{state} $refused->{message}", '22023 invalid port-in request', "$what is refused");
	like($refused->{detail}, $words, '... and said') if $words;
}
is(as_user($node, 1, "SELECT twilio_port_in('$_')")->{state}, '22023', "$_ is refused") for 'null', '[]', '"x"';
is(port_in(3)->{state}, 'PT409', 'before verifying nothing is asked');
is(port_in(4)->{state}, 'PT404', '... nor without settings');
is(port_in(1, '', before => 'SET default_transaction_read_only = on')->{state}, '25006', '... nor in a read-only transaction');
for my $call ('twilio_port_in(request())', 'twilio_port_ins()', "twilio_port_in_numbers('$sid')", "twilio_cancel_port_in('$sid')")
{
	is(run_sql($node, "SELECT $call", role => 'twilio_webhook', user => user_id(1))->{state}, '42501', "$call is not for everybody");
}
is(posts(), $posts, 'of all that Twilio has heard nothing');

# ---- what Twilio refuses ------------------------------------------------------------------------

my $refused = port_in(1, q('{"target_port_in_date": "2024-02-29"}'));
is("$refused->{state} $refused->{message}", '22023 Twilio refused the port-in request', 'what Twilio refuses is the caller\'s');
like($refused->{detail}, qr/\(error 20001: target_port_in_date must be at least 7 days ahead\)/, '... with its words');
for my $status (400, 401, 500)
{
	$standin->behave('status', status => $status, times => 1, match => { method => 'POST' },
		body_json => { code => 22100 + $status, message => "$account_number has no $pin", status => $status });
	$refused = port_in(1);
	is($refused->{state}, { 400 => '22023', 401 => 'PT409', 500 => 'PT502' }->{$status}, "a refusal that repeats the secrets: $status");
	like($refused->{detail}, qr/… has no …/, '... is said without them');
	unlike($refused->{error}, qr/c4n4ry/, '... all over');
}
$standin->behave('429', times => 1, match => { method => 'POST' });
is(port_in(1)->{state}, 'PT429', 'a Twilio that asks to slow down is said so');

# ---- answers that are lost ----------------------------------------------------------------------

for my $case (
	[ 'accept-then-drop', 'PT502', 1, only_stream => JSON::PP::true ],
	[ 'accept-then-drop', 'PT502', 1 ],
	[ 'drop-before', 'PT502', 0 ],
	[ 'truncate', 'PT502', 1 ],
	[ 'bad-json', 'PT502', 1 ],
	[ 'html', 'PT502', 0 ],
	[ '503', 'PT502', 0 ],
	[ 'hang', 'PT504', 1 ],
	[ 'status', 'PT502', 0, status => 202, body_json => { support_ticket_id => 1 } ],
	[ 'status', 'PT504', 0, status => 408, body_json => {} ])
{
	my ($action, $state, $taken, %order) = @$case;
	my ($before, $known) = (posts(), listed(1)); # which leaves a connection that the request goes over
	$standin->behave($action, %order, match => { method => 'POST' });
	my $lost = port_in(1);
	is($lost->{state}, $state, "$action: the answer is lost");
	like("$lost->{detail} / $lost->{hint}", qr/Twilio may have the port-in request all the same\. .*twilio_port_ins\(\)/s, '... and what to do is said');
	is(posts() - $before, 1, '... Twilio has been asked once');
	$standin->calm;
	is(listed(1) - $known, $taken, '... and the list tells whether it has the request');
}
$standin->listener('closed');
$standin->listener('cut');
my $unreachable = port_in(1);
is("$unreachable->{state} $unreachable->{message}", 'PT502 Twilio cannot be reached', 'what has never left is told apart');
unlike($unreachable->{error}, qr/may have|twilio_port_ins/, '... and may be asked again');
$standin->listener('open');
configured($node, 'twilio.edge', 'ashburn');
my $misconfigured = port_in(1);
is("$misconfigured->{state} $misconfigured->{hint}", 'PT502 Correct the setting and reload the server.', '... as is what was not to be sent at all');
configured($node, 'twilio.edge', '');

my $session = connect_session($node);
$standin->behave('hang', match => { method => 'POST' });
my $before = posts();
is(port_in(1, '', within => 1)->{state}, '57014', 'a request can be given up');
$standin->calm;
is(listed(1, "count(*) > 0"), 't', '... and the next question is answered');
is(posts() - $before, 1, '... without another request');
$session->quit;

# ---- the requests of an account -----------------------------------------------------------------

is(as_user($node, 1, "SELECT count(sid) FROM generate_series(1, 110) i, LATERAL twilio_port_in(request(jsonb_build_object('auto_cancel_approval_numbers', i::text)))")->{out}, 110, 'many requests');
my $all = $standin->count(method => 'POST', path => 'PortIn', accepted => 'true');
cmp_ok($all, '>', 100, 'more than one page');
is(listed(1, "count(*), count(DISTINCT sid), min(status), max(status), min(numbers), max(ported), max(suggested_action), bool_and(updated_at > now() - interval '1 hour')"),
	"$all|$all|in_review|in_review|2|0||t", 'all are listed') or diag($all);
is(listed(2), 0, '... for nobody else');
my @pages = map { $_->{query} } @{ $standin->ledger(path => 'PortInRequests', user => account_sid(1)) };
is_deeply($pages[-1][0], [ Size => 100 ], '... a hundred at a time');
like($pages[-1][1][1], qr/^KW/, '... by the token that Twilio gives');
$standin->behave('status', status => 200, times => 1, match => { path => 'PortInRequests.Size=100$' }, body_json => { meta => { next_token => 'a&b=../c d' }, port_in_requests => [
	{ port_in_request_sid => 'KW1', port_in_request_status => 'Action Required', suggested_action => 'Sign it', phone_numbers_requested => 'many', status_last_updated_timestamp => '2025-04-30' },
	{ port_in_request_sid => 'KW2', status_last_updated_timestamp => '2025-02-30T10:00:00Z' }, {}, 'none', undef ] });
$standin->behave('status', status => 200, times => 1, match => { path => 'Token=a%26b%3D..%2Fc%20d$' }, body_json => { port_in_requests => [ { port_in_request_sid => 'KW2' }, { port_in_request_sid => 'KW3', status_last_updated_timestamp => '2025-04-30T10:00:00+02:00' } ] });
is(as_user($node, 1, "SET TimeZone = 'Asia/Tokyo'; SELECT * FROM twilio_port_ins()")->{out}, "KW1|action_required|||Sign it|2025-04-30 09:00:00+09\nKW2|||||\nKW3|||||2025-04-30 17:00:00+09",
	'what cannot be read is unknown, and a token leads nowhere else');
$standin->behave('status', status => 200, match => { path => 'PortInRequests' }, body_json => { meta => { next_token => 'x' }, port_in_requests => [] });
is(as_user($node, 1, 'SELECT * FROM twilio_port_ins()')->{state}, 'PT502', 'pages that go round in circles are none');
$standin->calm;
$standin->behave('status', status => 200, match => { path => 'PortInRequests' }, body_json => { port_in_requests => {} });
is(as_user($node, 1, 'SELECT * FROM twilio_port_ins()')->{state}, 'PT502', 'what is no list is not taken for one');
$standin->calm;

# ---- one request --------------------------------------------------------------------------------

is(as_user($node, 1, "SELECT * FROM twilio_port_in_numbers('$sid')")->{out}, "+12025550177|in_review||||in_review||\n+12025550178|in_review||||in_review||", 'the numbers of a request');
$standin->behave('status', status => 200, match => { path => $sid, method => 'GET' }, body_json => {
	port_in_request_status => 'Action Required', order_cancellation_reason => 'Not signed', signature_request_url => 'https://example.com/sign', phone_numbers => [
		{ phone_number => '+12025550177', port_in_phone_number_status => 'pending', port_date => '2030-01-31T15:00:00Z', pin => $pin, port_out_pin => 4711 },
		{ phone_number => '+12025550178', port_in_phone_number_status => 'Rejected', rejection_reason => 'Wrong PIN', rejection_reason_code => '21' },
		{ phone_number => '+12025550179', not_portability_reason => 'NOT_OURS', not_portability_reason_code => 22130 }, {}, 'none', undef ] });
is(as_user($node, 1, "SET TimeZone = 'UTC'; SELECT * FROM twilio_port_in_numbers('$sid')")->{out}, <<'END' =~ s/\n\z//r, '... and what becomes of them');
+12025550177|pending|2030-01-31 15:00:00+00|||action_required|https://example.com/sign|Not signed
+12025550178|rejected||Wrong PIN|21|action_required|https://example.com/sign|Not signed
+12025550179|||NOT_OURS|22130|action_required|https://example.com/sign|Not signed
|||||action_required|https://example.com/sign|Not signed
|||||action_required|https://example.com/sign|Not signed
|||||action_required|https://example.com/sign|Not signed
END
$standin->calm;
my $unknown = 'KW' . 'f' x 32;
for my $case ([ 2, $sid, 'PT404', 'f' ], [ 1, $unknown, 'PT404', 'f' ])
{
	my ($n, $which, $state, $canceled) = @$case;
	is(as_user($node, $n, "SELECT * FROM twilio_port_in_numbers('$which')")->{state}, $state, "user $n: a request that is not the account's is unknown");
	is(as_user($node, $n, "SELECT twilio_cancel_port_in('$which')")->{out}, $canceled, '... and not canceled');
}
my $requests = $standin->stats->{requests};
for my $which ("'../Configuration/Webhook'", "'KW/" . 'a' x 31 . "'", "'" . $sid . "?x'", 'NULL')
{
	is(as_user($node, 1, "SELECT $_($which)")->{state}, '22023', "$_: $which is no request") for 'twilio_port_in_numbers', 'twilio_cancel_port_in';
}
is($standin->stats->{requests}, $requests, '... and Twilio is not asked');

$standin->behave('status', status => 400, times => 1, match => { method => 'DELETE' }, body_json => { code => 20001, message => 'It is completed', status => 400 });
my $late = as_user($node, 1, "SELECT twilio_cancel_port_in('$sid')");
is($late->{state}, 'PT409', 'what is too late to cancel is said so');
like($late->{detail}, qr/It is completed/, '... with Twilio\'s words');
is(as_user($node, 1, "SELECT twilio_cancel_port_in('$sid')")->{out}, 't', 'a request is canceled');
is($standin->count(method => 'DELETE', path => $sid, accepted => 'true'), 1, '... once');
is(as_user($node, 1, "SELECT status FROM twilio_port_ins() WHERE sid = '$sid'")->{out}, 'canceled', '... as the list says');
is(as_user($node, 1, "SELECT DISTINCT status, request_status FROM twilio_port_in_numbers('$sid')")->{out}, 'canceled|canceled', '... and its numbers');

# ---- memory of the worker, and what it shares -----------------------------------------------------

SKIP:
{
	my $pid = worker_pid($node);
	defined process_memory($pid) or skip 'this system does not let a user read the memory of own processes', 2;
	ok(port_in(1)->{ok}, 'the worker has just had the secrets');
	wait_until { my $all = process_memory($pid); !grep { index($all, $_) >= 0 } $pin, $account_number } 5, 'within 5 s no memory that is left holds them';
}

# ---- looking for what is secret -----------------------------------------------------------------

is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT action, ' ' ORDER BY action) FROM twilio_audit_log WHERE action LIKE '%port_in%'"),
	'cancel_port_in port_in port_in_numbers port_ins', 'the audit log has all');
is($node->safe_psql('postgres', "SELECT DISTINCT object FROM twilio_audit_log WHERE action = 'cancel_port_in' AND outcome = 'ok'"), $sid, '... and what was canceled');
like(slurp_file($node->logfile), qr{twilio: POST /v1/Porting/PortIn 202 }, 'the log has the requests');
like(slurp_file($node->logfile), qr/plan:\n.*Function Scan on pg_catalog\.jsonb_array_elements/s, '... and the plans of the functions');
$node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
my $data = $node->data_dir;
my $dump = "$files.sql";
$node->command_ok([ 'pg_dumpall', '-f', $dump, '-d', $node->connstr('postgres') ], 'the cluster is dumped');
for my $secret ($pin, $account_number)
{
	for my $form ($secret, unpack('H*', $secret))
	{
		is_deeply([ files_containing($form, "$data/base", "$data/global", "$data/pg_wal", "$data/pg_stat", "$data/pg_stat_tmp", $node->logfile, $dump) ], [], 'a secret is in no table, log or dump')
		  or diag(join "\n", map { substr $_, 0, 400 } grep { /\Q$form/ } split /\n/, slurp_file($node->logfile));
	}
}
is($node->safe_psql('postgres', <<'END'), '', '... and in no view');
SELECT 'statements', query FROM pg_stat_statements WHERE query ~ 'c4n4ry';
SELECT 'audit', a FROM twilio_audit_log a WHERE a::text ~ 'c4n4ry';
SELECT 'status', s FROM twilio_status s WHERE s::text ~ 'c4n4ry';
END

TwilioTest::finish();
