# What the engine promises about an order of any kind: it is sent exactly when its transaction commits,
# at most once where the end is unclear, and again where Twilio did not take it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Orders;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
max_prepared_transactions = 5
twilio.poll_interval = 1h
twilio.connect_timeout = 2s
twilio.request_timeout = 5s
END
install_parcels($node);
wait_for_worker($node, 'postgres');
configure($node, $standin, $_, any_from => JSON::PP::true, callbacks => 'none') for 1 .. 2;

# The stand-in compiles its rules with the first request of a kind, which may take longer than the timeout.
as_user($node, 1, 'SELECT verified FROM twilio_verify()');
order($node, 2, 'first of all');
wait_until { queued($node) == 0 || queued($node, 'unknown') } 20, 'everything is ready';
$node->safe_psql('postgres', "DELETE FROM twilio_private.outbox WHERE state = 'unknown'");
$standin->control(DELETE => 'ledger');

# What was ordered before and is not meant to be sent would be sent before this is.
my $markers = 0;
sub nothing_but
{
	my ($expected, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $marker = 'marker' . ++$markers;
	order($node, 1, $marker);
	$node->poll_query_until('postgres', "SELECT outcome = 'sent' FROM parcel WHERE body = '$marker 1'")
	  or BAIL_OUT('the marker was not sent');
	is(posts($standin) - $markers, $expected, $what);
	return;
}

# ---- commit and rollback ------------------------------------------------------------------------

order($node, 1, 'committed', 3);
wait_until { parcels($node, 'committed', 'sent') == 3 } 10, 'what is committed is sent';
is(posts($standin), 3, '... once each');
is(queued($node), 0, '... and leaves the queue');
like($node->safe_psql('postgres', "SELECT sid FROM parcel WHERE body = 'committed 1'"), qr/^SM[0-9a-f]{32}$/, "... with Twilio's SID");

run_sql($node, 'BEGIN; ' . order_sql(1, 'rolled back') . '; ROLLBACK');
run_sql($node, 'BEGIN; SAVEPOINT s; ' . order_sql(1, 'rolled back') . '; ROLLBACK TO s; COMMIT');
run_sql($node, 'CREATE TABLE checked (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)');
is(run_sql($node, 'BEGIN; ' . order_sql(1, 'rolled back') . '; INSERT INTO checked VALUES (1), (1); COMMIT')->{state}, '23505',
	'a deferred constraint fails at commit');
my $session = connect_session($node);
$session->run('BEGIN; ' . order_sql(1, 'rolled back'));
$node->safe_psql('template1', 'SELECT pg_terminate_backend(' . $session->pid . ', 5000)');
$session->quit;
nothing_but(3, 'rollback, rollback to a savepoint, a failed commit and a terminated session send nothing');

$session = connect_session($node);
$session->run('BEGIN; SAVEPOINT s; ' . order_sql(1, 'kept') . '; RELEASE s; SAVEPOINT t; ' . order_sql(1, 'rolled back') . '; ROLLBACK TO t');
nothing_but(3, 'nothing is sent before the commit');
$session->run('COMMIT');
wait_until { parcels($node, 'kept', 'sent') == 1 } 10, 'after it, what was not rolled back is sent';
nothing_but(4, '... and nothing else');

run_sql($node, 'BEGIN; ' . order_sql(1, 'prepared') . "; PREPARE TRANSACTION 'one'");
run_sql($node, 'BEGIN; ' . order_sql(1, 'never') . "; PREPARE TRANSACTION 'two'");
nothing_but(4, 'a prepared transaction sends nothing');
run_sql($node, "COMMIT PREPARED 'one'");
run_sql($node, "ROLLBACK PREPARED 'two'");
wait_until { parcels($node, 'prepared', 'sent') == 1 } 5, 'commit prepared sends without waiting for the safety poll';
nothing_but(5, '... and rollback prepared does not');

$node->safe_psql('postgres', "SELECT order_parcels('" . user_id(1) . "', '{withdrawn}')");
nothing_but(5, 'an order for which nothing is to be sent is dropped');
is(queued($node), 0, '... and leaves the queue');

# ---- times --------------------------------------------------------------------------------------

order($node, 1, 'due later', 1, due => "clock_timestamp() + '2 s'");
nothing_but(5, 'an order that is due later waits');
wait_until { parcels($node, 'due later', 'sent') == 1 } 10, '... and is sent when it is due, without waiting for the safety poll';
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_audit_log a, parcel p
	WHERE p.body = 'due later 1' AND a.object = p.sid AND a.action = 'parcel' AND a.outcome = 'ok'"), '1', '... with a line in the audit log');

# ---- not accepted: again ------------------------------------------------------------------------

my $before = posts($standin);
$standin->listener('closed');
$standin->listener('cut');
order($node, 1, 'refused', 5);
wait_until { parcels($node, 'refused', 'retry') == 5 } 10, 'while connections are refused, orders wait';
$standin->listener('open');
wait_until { parcels($node, 'refused', 'sent') == 5 } 30, '... and are sent when Twilio can be reached again';
is(posts($standin) - $before, 5, '... once each');

$node->append_conf('postgresql.conf', "twilio.connect_to = 'no-such-host.invalid:443'");
$node->reload;
wait_until { $node->safe_psql('postgres', 'SHOW twilio.connect_to') =~ /invalid/ } 5, 'the name is not to be found';
$before = posts($standin);
# Connections that are open are used as long as they are; this ends them.
$standin->listener('cut');
order($node, 1, 'nameless', 2);
wait_until { parcels($node, 'nameless', 'retry') == 2 } 20, '... and orders wait';
$node->append_conf('postgresql.conf', "twilio.connect_to = '127.0.0.1:$standin->{port}'");
$node->reload;
wait_until { parcels($node, 'nameless', 'sent') == 2 } 30, '... and are sent when the name is found again';
is(posts($standin) - $before, 2, '... once each');

# ---- unclear: not again -------------------------------------------------------------------------

my %unclear = (
	'server error' => { action => '500' },
	'accepted and dropped' => { action => 'accept-then-drop', only_stream => JSON::PP::true },
	'answer cut off' => { action => 'truncate' },
	'answer not JSON' => { action => 'bad-json' },
	'page of a proxy' => { action => 'html' },
	'never answered' => { action => 'hang' });
for my $name (sort keys %unclear)
{
	$standin->control(POST => 'behave', { %{ $unclear{$name} }, match => { body => $name =~ s/ /(%20|\\+)/gr } });
	order($node, 1, $name);
	wait_until { parcels($node, $name, 'unknown') == 1 } 15, "$name: the order is unknown";
}
nothing_but(posts($standin) - $markers, '... and no other order is held up');
is(posts($standin, body => "$_ 1"), 1, "$_: exactly one POST") for sort keys %unclear;
is(queued($node, 'unknown'), scalar keys %unclear, '... and they stay in the queue as unknown');

order($node, 1, $_, 1, kind => 'query') for 'server error', 'answer cut off';
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM parcel WHERE 'retry' = ANY (outcomes) AND body IN ('server error 1', 'answer cut off 1')") == 2 }
  10, 'an order that may be repeated is repeated';
$standin->calm;
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM parcel WHERE outcome = 'sent' AND body IN ('server error 1', 'answer cut off 1')") == 2 }
  20, '... until it succeeds';

# ---- other contents and methods -----------------------------------------------------------------

# Two kinds that are nothing but SQL: a letter is JSON, recalling it is a DELETE, which Twilio answers with nothing.
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION twilio_private.letter_requests(orders twilio_private.outbox[]) RETURNS SETOF twilio_private.order_request LANGUAGE sql AS $$
	SELECT o.id, 'POST', 'numbers.twilio.com', '/v1/Porting/PortIn', jsonb_build_object(
		'account_sid', s.account_sid, 'documents', '["RD00000000000000000000000000000001"]'::jsonb, 'phone_numbers', '[{"phone_number": "+12025550177"}]'::jsonb,
		'losing_carrier_information', jsonb_build_object('customer_type', 'Individual', 'customer_name', p.body, 'authorized_representative', 'Ms "Ö" & Co',
			'authorized_representative_email', 'a@example.com', 'address_sid', 'AD00000000000000000000000000000001'))::text
	FROM unnest(orders) o JOIN public.parcel p ON p.id = o.ref JOIN public.twilio_settings s ON s.user_id = o.user_id
$$;
CREATE FUNCTION twilio_private.recall_requests(orders twilio_private.outbox[]) RETURNS SETOF twilio_private.order_request LANGUAGE sql AS $$
	SELECT o.id, 'DELETE', 'numbers.twilio.com', '/v1/Porting/PortIn/' || p.sid, NULL FROM unnest(orders) o JOIN public.parcel p ON p.id = o.ref
$$;
CREATE FUNCTION twilio_private.letter_results(results twilio_private.order_result[]) RETURNS void LANGUAGE sql AS $$
	UPDATE public.parcel p SET outcome = r.outcome, outcomes = p.outcomes || r.outcome, code = r.http_status, error = r.body::text,
		sid = coalesce(r.body ->> 'port_in_request_sid', p.sid)
	FROM unnest(results) r WHERE p.id = r.ref
$$;
INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function, answer_members, content_type) VALUES
	('letter', false, 'letter_requests', 'letter_results', '{port_in_request_sid}', 'application/json'),
	('recall', true, 'recall_requests', 'letter_results', NULL, DEFAULT);
END
order($node, 1, 'letter', 3, kind => 'letter');
wait_until { parcels($node, 'letter', 'sent') == 3 } 10, 'an order whose content is JSON is sent, and accepted with 202';
my @letters = @{ $standin->ledger(method => 'POST', path => 'PortIn') };
is(scalar @letters, 3, '... once each');
is(decode_json($letters[0]{body})->{losing_carrier_information}{authorized_representative}, "Ms \"\x{d6}\" & Co", '... as it is');
like($node->safe_psql('postgres', "SELECT DISTINCT code, regexp_replace(error, 'KW[0-9a-f]{32}', 'KW') FROM parcel WHERE body LIKE 'letter %'"), qr/^202\|\{"port_in_request_sid": "KW"\}$/,
	'... and its kind has of the answer what it wants');
$node->safe_psql('postgres', "INSERT INTO twilio_private.outbox (user_id, kind, ref) SELECT user_id, 'recall', id FROM parcel WHERE body LIKE 'letter %'");
wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM parcel WHERE outcomes = '{sent,sent}' AND code = 204 AND error IS NULL") == 3 } 10,
	'a DELETE that is answered with nothing is done';
is($standin->count(method => 'DELETE', path => $_->{sid}, accepted => 'true'), 1, '... once each') for @letters;
$standin->behave('accept-then-drop', match => { path => 'PortIn' });
order($node, 1, 'lost letter', 1, kind => 'letter');
wait_until { parcels($node, 'lost letter', 'unknown') == 1 } 15, 'one that is lost is unknown';
is($standin->count(method => 'POST', path => 'PortIn'), 4, '... and sent once');
$standin->calm;
$node->safe_psql('postgres', "DELETE FROM twilio_private.outbox WHERE kind = 'letter'");

# ---- orders that cannot be built -----------------------------------------------------------------

my $requests = $standin->stats->{requests};
$node->safe_psql('postgres', join ';', map { order_sql(1, @$_) } (
	[ 'good', 20 ], [ 'poison', 2 ],
	[ 'elsewhere', 1, path => '@127.0.0.1:1/x' ],
	[ 'elsewhere', 1, path => 'http://127.0.0.1:1/x' ],
	[ 'elsewhere', 1, path => '/with space' ],
	[ 'elsewhere', 1, host => 'evil.example' ],
	[ 'elsewhere', 1, host => 'evil-twilio.com' ],
	[ 'elsewhere', 1, host => 'api.twilio.com.evil.example' ],
	[ 'elsewhere', 1, host => 'api.twilio.com@evil.example' ],
	[ 'elsewhere', 1, host => '169.254.169.254' ],
	[ 'good too', 20 ]));
wait_until { parcels($node, 'good', 'sent') + parcels($node, 'good too', 'sent') == 60 } 10,
  'orders that cannot be built do not hold up the others';
wait_until { parcels($node, 'poison', 'poisoned') == 2 } 10, '... and fail alone';
is($node->safe_psql('postgres', "SELECT DISTINCT error FROM parcel WHERE body ~ '^poison'"), 'this parcel cannot be built', '... with the reason');
wait_until { parcels($node, 'elsewhere', 'poisoned') == 8 } 10, 'an order for another host, or with no path of Twilio, fails'
  or diag($node->safe_psql('postgres', "SELECT path, host, outcomes, error FROM parcel WHERE body ~ 'elsewhere'"));
is($standin->stats->{requests} - $requests, 40, '... and is sent to nobody');

# ---- until it expires ---------------------------------------------------------------------------

$standin->behave('429', match => { body => 'too(%20|\+)late' });
order($node, 1, 'too late', 3, expires => "now() + '3 s'");
wait_until { parcels($node, 'too late', 'expired') == 3 } 20, 'an order that is not accepted ends when it expires';
is(accepted($standin, body => 'too late 1'), 0, '... unsent');
$standin->calm;

as_user($node, 2, 'UPDATE twilio_settings SET is_active = false');
order($node, 2, 'kept back', 1, expires => "now() + '1 s'");
configured($node, 'twilio.poll_interval', 1);
wait_until { parcels($node, 'kept back', 'expired') == 1 } 10, 'one of an account that is switched off ends at the next safety poll, which a reload brings forward';

my $twice = $standin->control(GET => 'ledger/duplicates?path=Messages&key=To,Body');
is_deeply([ map { $_->{values}[1] } @{ $twice->{examples} } ], ['answer cut off 1'],
	'nothing was accepted twice, but what may be repeated and was cut off');

$session->quit;
TwilioTest::finish();
