# twilio_verify() and twilio_phone_numbers(): every way in which Twilio may answer, or not.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => "twilio.api_rate_limit = 0\ntwilio.connect_timeout = 2s\n");
wait_for_worker($node);

my $verify = 'SELECT verified, account_status, account_type, error_code FROM twilio_verify()';

sub settings
{
	my ($n, $columns) = @_;
	return as_user($node, $n, "SELECT $columns FROM twilio_settings")->{out};
}

sub last_audit
{
	my ($n, $columns) = @_;
	return $node->safe_psql('postgres',
		"SELECT $columns FROM twilio_audit_log WHERE user_id = '" . user_id($n) . "' ORDER BY id DESC LIMIT 1");
}

# ---- answers ----------------------------------------------------------------------------------

configure($node, $standin, 1, friendly_name => 'Good & Sons');
is(as_user($node, 1, $verify)->{out}, 't|active|Full|', 'a good account is verified');
is(settings(1, 'is_verified, account_name, account_status, account_type, verification_error, last_verified_at > now() - interval \'1 minute\''),
	't|Good & Sons|active|Full||t', '... and its settings say so');
is(last_audit(1, 'action, outcome, http_status, actor, twilio_request_id ~ \'^RQ\', duration_ms IS NOT NULL'),
	'verify|ok|200|twilio_user|t|t', '... and the audit log has the request');

configure($node, $standin, 2, type => 'Trial');
is(as_user($node, 2, $verify)->{out}, 't|active|Trial|', 'a trial account is verified, and called a trial');

my $n = 10;
for my $case (
	[ 'a suspended account that refuses',      { status => 'suspended' },                               qr/^f\|.*\|20003$/ ],
	[ 'a suspended account that can be read',  { status => 'suspended', suspended_as => 'readable' },   qr/^f\|suspended\|Full\|$/ ],
	[ 'a closed account that can be read',     { status => 'closed', suspended_as => 'readable' },      qr/^f\|closed\|Full\|$/ ],
	[ 'an account answered with 20403',        { status => 'suspended', suspended_as => 20403 },        qr/^f\|.*\|20403$/ ],
	[ 'an account answered with 20005',        { status => 'suspended', suspended_as => 20005 },        qr/^f\|.*\|20005$/ ],
	[ 'an account answered with 10001',        { status => 'suspended', suspended_as => 10001 },        qr/^f\|.*\|10001$/ ],
	[ 'a wrong token',                         { token => token(99) },                                  qr/^f\|\|\|20003$/ ])
{
	my ($what, $account, $expected) = @$case;
	$n++;
	configure($node, $standin, $n, %$account);
	like(as_user($node, $n, $verify)->{out}, $expected, "$what is an answer, not an error");
	like(settings($n, 'is_verified, verification_error'), qr/^f\|\w.+/, '... recorded with a reason');
}

configure($node, undef, 20);
is(as_user($node, 20, $verify)->{out}, 'f|||20003', 'an Account SID that Twilio does not know is an answer');

# A Standard API key may not fetch the account, so the token is tried there and the key on a list.
configure($node, $standin, 21, keys => [ { sid => 'SK' . '1' x 32, secret => 's' x 32 } ]);
as_user($node, 21, "UPDATE twilio_settings SET api_key_sid = 'SK" . '1' x 32 . "', api_key_secret = '" . 's' x 32 . "'");
is(as_user($node, 21, $verify)->{out}, 't|active|Full|', 'a Standard API key that may not fetch the account is verified');
is($standin->count(account => account_sid(21), user => 'SK' . '1' x 32, path => 'IncomingPhoneNumbers'), 1, '... by one request of its own');
as_user($node, 21, "UPDATE twilio_settings SET api_key_secret = '" . 'x' x 32 . "'");
is(settings(21, 'is_verified'), 'f', 'changing the secret of a key resets is_verified');
is(as_user($node, 21, $verify)->{out}, 'f|active|Full|20003', 'a wrong secret of an API key is an answer');
configure($node, $standin, 23, keys => [ { sid => 'SK' . '2' x 32, secret => 's' x 32 } ]);
as_user($node, 21, "UPDATE twilio_settings SET api_key_sid = 'SK" . '2' x 32 . "', api_key_secret = '" . 's' x 32 . "'");
is(as_user($node, 21, $verify)->{out}, 'f|active|Full|20404', 'a key of another account is an answer');
like(settings(21, 'verification_error'), qr/API key/, '... that says so');
as_user($node, 21, "UPDATE twilio_settings SET api_key_sid = 'SK" . '1' x 32 . "', api_key_secret = '" . 's' x 32 . "'");
is(as_user($node, 21, $verify)->{out}, 't|active|Full|', 'a key is verified');
$standin->change(account_sid(21), drop_keys => [ 'SK' . '1' x 32 ]);
like(as_user($node, 21, 'SELECT * FROM twilio_phone_numbers()')->{detail}, qr/API key/, '... and deleted at Twilio, which the list says');
as_user($node, 21, "SELECT twilio_send_sms('+12025550199', 'Hello', from_number => '+12025550100')");
wait_until { settings(21, 'is_verified') eq 'f' } 10, '... a message finds it out, too';
like(settings(21, 'verification_error'), qr/API key/, '... and says that it is the key');

is(as_user($node, 22, 'SELECT * FROM twilio_verify()')->{state}, 'PT404', 'without settings it is PT404');
is(run_sql($node, 'SELECT * FROM twilio_verify()', role => 'twilio_user')->{state}, '42501', 'without a user it is 42501');

# ---- no answer --------------------------------------------------------------------------------

my $before = settings(1, 't');

sub fails_with
{
	my ($state, $outcome, $what, %options) = @_;
	my $requests = $standin->count(account => account_sid(1));
	my $result = as_user($node, 1, ($options{before} // '') . 'SELECT * FROM twilio_verify()', within => 8);
	is($result->{state}, $state, "$what is $state") or diag($result->{out}, $result->{error});
	isnt($result->{hint}, '', '... with a hint');
	is(settings(1, 'is_verified, verification_error'), 't|', '... and changes nothing');
	is(last_audit(1, 'outcome'), $outcome, "... and the audit log says: $outcome");
	$standin->calm;
	return;
}

for my $case (
	[ 'PT429', 'rate limited', 'an answer 429',          429 ],
	[ 'PT502', 'server error', 'an answer 500',          500 ],
	[ 'PT502', 'server error', 'an answer 503',          503 ],
	[ 'PT504', 'timeout',      'an answer 408, a proxy that has given up', 'status', status => 408, body_text => '' ],
	[ 'PT502', 'server error', 'an HTML page (502)',     'html' ],
	[ 'PT502', 'broken',       'an HTML page (200)',     'html', status => 200 ],
	[ 'PT502', 'broken',       'an answer that is cut off', 'truncate' ],
	[ 'PT502', 'broken',       'half a JSON document',   'bad-json' ],
	[ 'PT502', 'broken',       'an answer of 10 MB',     'huge' ],
	[ 'PT502', 'broken',       'a connection that drops', 'drop-before' ])
{
	my ($state, $outcome, $what, $action, %order) = @$case;
	$standin->behave($action, %order);
	fails_with($state, $outcome, $what);
}

$standin->behave('huge');
like(as_user($node, 1, $verify)->{detail}, qr/larger than twilio\.max_response_size/, 'a cut-off answer names the setting that cuts');
$standin->calm;

$standin->behave('hang');
fails_with('PT504', 'timeout', 'a Twilio that says nothing until ask_timeout has passed', before => "SET twilio.ask_timeout = '1s'; ");

$standin->listener('closed');
fails_with('PT502', 'unreachable', 'a Twilio that cannot be reached');
$standin->listener('open');
is(as_user($node, 1, $verify)->{out}, 't|active|Full|', 'afterwards it works again');

$node->append_conf('postgresql.conf', "twilio.ca_file = '/etc/ssl/certs/ca-certificates.crt'");
$node->reload;
wait_until { as_user($node, 1, 'SELECT * FROM twilio_verify()')->{state} eq 'PT502' } 10,
  'a certificate that nobody vouches for is PT502';
$node->append_conf('postgresql.conf', $standin->configuration);
$node->reload;
wait_until { as_user($node, 1, $verify)->{out} eq 't|active|Full|' } 10, 'settings are reloaded without a restart';

# ---- transactions -----------------------------------------------------------------------------

my $audited = $node->safe_psql('postgres', 'SELECT count(*) FROM twilio_audit_log WHERE action = \'verify\'');
as_user($node, 1, 'BEGIN; SELECT verified FROM twilio_verify(); ROLLBACK');
is($node->safe_psql('postgres', 'SELECT count(*) FROM twilio_audit_log WHERE action = \'verify\''), $audited + 1,
	'the audit row of a request survives the rollback of the caller');

$standin->account({ sid => account_sid(30), token => token(30) });
my $at_once = as_user($node, 30, sprintf(
	"BEGIN; INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', '%s'); SELECT verified FROM twilio_verify(); COMMIT",
	account_sid(30), token(30)));
is($at_once->{out}, 't', 'insert and verify work in one transaction');
is(settings(30, 'is_verified'), 't', '... and both are kept');

# What only confirms the last verification can be had again at any time, so its commit does not wait for the disk. What
# else the transaction did must not suffer by that.
$node->safe_psql('postgres', 'CREATE TABLE written (n int); ALTER SYSTEM SET wal_writer_delay = \'10s\'');
$node->reload;
sub on_disk
{
	my ($before, $after) = @_;
	my $out = $node->safe_psql('postgres', "SET twilio.user_id = '" . user_id(1) . "';\n" . <<"END");
BEGIN;
$before;
SELECT FROM twilio_verify();
$after;
SELECT pg_current_wal_insert_lsn() AS own \\gset
COMMIT;
SELECT pg_current_wal_flush_lsn() >= :'own';
END
	return (split /\n/, $out)[-1];
}
my $write = 'INSERT INTO written VALUES (1)';
wait_until { on_disk('', '') eq 'f' } 30, 'a verification that confirms the last one does not wait for the disk';
is(on_disk($write, ''), 't', '... it does where the transaction wrote something before');
is(on_disk('', $write), 't', '... or after it');
is(on_disk('', "SAVEPOINT a; $write; RELEASE a"), 't', '... or in a subtransaction');
is(on_disk('DO \'BEGIN PERFORM twilio_verify(); END\'', ''), 't', '... or verified twice');
$node->safe_psql('postgres', "SELECT twilio_private.record_verification('" . user_id(1) . "', true, 'Another', 'active', 'Full', NULL, now())");
is(on_disk('', ''), 't', '... or where it found something new');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET wal_writer_delay');

my $sent = $standin->stats->{requests};
is(as_user($node, 1, 'BEGIN READ ONLY; SELECT * FROM twilio_verify()')->{state}, '25006', 'a read-only transaction is refused with 25006');
is(as_user($node, 1, 'BEGIN READ ONLY; SELECT * FROM twilio_phone_numbers()')->{state}, '25006', '... for the list of numbers too');
is($standin->stats->{requests}, $sent, '... before any request');

# ---- numbers ----------------------------------------------------------------------------------

configure($node, $standin, 40, numbers => 1200);
as_user($node, 40, $verify);
my $numbers = as_user($node, 40, 'SELECT count(*), count(DISTINCT sid), count(DISTINCT phone_number), bool_and(sms) FROM twilio_phone_numbers()', within => 10);
is($numbers->{out}, '1200|1200|1200|t', '1,200 numbers are listed, over all pages, within the time of one question');
is(as_user($node, 40, 'SELECT count(*) FROM twilio_numbers')->{out}, '1200', '... and kept in twilio_numbers');
$node->safe_psql('postgres', "INSERT INTO twilio_numbers (user_id, sid, phone_number) VALUES ('" . user_id(1) . "', 'PN" . '1' x 32 . "', '+12025550101')");
is(as_user($node, 1, 'SELECT string_agg(phone_number, \',\') FROM twilio_numbers')->{out}, '+12025550101', '... where another user sees none of them');
$standin->change(account_sid(40), numbers => [ '+15005550006' ]);
is(as_user($node, 40, 'SELECT string_agg(phone_number, \',\') FROM twilio_phone_numbers()')->{out}, '+15005550006', 'numbers that are gone at Twilio');
is(as_user($node, 40, 'SELECT string_agg(phone_number, \',\') FROM twilio_numbers')->{out}, '+15005550006', '... are gone here too');
is(as_user($node, 1, 'SELECT count(*) FROM twilio_numbers')->{out}, '1', '... and those of another user are not');
$standin->behave('status', status => 400, body_json => { code => 21481, message => 'Invalid PageToken', status => 400 }, match => { path => 'PageSize' });
my $stale = as_user($node, 40, 'SELECT * FROM twilio_phone_numbers()');
is($stale->{state}, 'PT502', 'a page that Twilio refuses says nothing against the credentials');
like($stale->{detail}, qr/21481: Invalid PageToken/, '... but what Twilio said');
$standin->calm;
my $repeatable = connect_session($node, user => 40);
$repeatable->run('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM twilio_numbers');
as_user($node, 40, 'SELECT * FROM twilio_phone_numbers()');
like($repeatable->run('SELECT * FROM twilio_phone_numbers()') . $repeatable->error, qr/PT409: Twilio settings have changed meanwhile/,
	'who lists in a repeatable read what somebody else has listed since sees no 40001');
$repeatable->quit;
is(as_user($node, 11, 'SELECT * FROM twilio_phone_numbers()')->{state}, 'PT409', 'before the account is verified the list is PT409');
is(as_user($node, 40, 'SELECT twilio_configure_webhooks()')->{message}, 'this server has no webhook URL', 'where nothing is taken, nothing is told to report');
$standin->change(account_sid(40), token => token(99));
my $revoked = as_user($node, 40, 'SELECT * FROM twilio_phone_numbers()');
is($revoked->{state}, 'PT409', 'with credentials that Twilio no longer takes the list is PT409');
like($revoked->{detail}, qr/20003/, '... with the code of Twilio');
is(as_user($node, 40, 'SELECT count(*) FROM twilio_numbers')->{out}, '1', '... and the numbers are kept');

# ---- changed while Twilio is asked ------------------------------------------------------------

my ($key, $secret) = ('SK' . '2' x 32, 'k' x 32);
configure($node, $standin, 41, keys => [ { sid => $key, secret => $secret } ]);
my ($session, $other) = map { connect_session($node, user => 41) } 1 .. 2;
my %change = (
	'the Account SID' => "account_sid = '" . account_sid(42) . "'",
	'the token' => "auth_token = '" . token(42) . "'",
	'the secret of the API key' => "api_key_secret = '" . 's' x 32 . "'");
for my $what (sort keys %change)
{
	for my $call ('twilio_verify()', 'twilio_phone_numbers()')
	{
		as_user($node, 41, sprintf "UPDATE twilio_settings SET account_sid = '%s', auth_token = '%s', api_key_sid = '$key', api_key_secret = '$secret'",
			account_sid(41), token(41));
		is(as_user($node, 41, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'an account is verified');
		$other->run("BEGIN; UPDATE twilio_settings SET $change{$what}");
		$session->send("SELECT * FROM $call");
		wait_until { $node->safe_psql('postgres', 'SELECT wait_event_type FROM pg_stat_activity WHERE pid = ' . $session->pid) eq 'Lock' } 10,
		  "... and $what is being changed when the answer to $call is recorded";
		$other->run('COMMIT');
		$session->result;
		like($session->error, qr/PT409: Twilio settings have changed meanwhile/, '... which says so');
		is(settings(41, 'is_verified'), 'f', '... and what has come in its place is not verified');
	}
}
$standin->behave('status', status => 200, body_json => { sid => account_sid(42), status => 'active', type => 'Full', friendly_name => 'Another' }, times => 1);
like(as_user($node, 40, $verify)->{error}, qr/PT502: Twilio gave an unusable answer/, 'an answer about another account is none');

# ---- rate limit -------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', 'twilio.api_rate_limit = 3');
$node->reload;
configure($node, $standin, 50, numbers => 600);
configure($node, $standin, 51);
wait_until { $node->safe_psql('postgres', 'SHOW twilio.api_rate_limit') eq '3' } 5, 'the limit is set';
my @states = map { as_user($node, 50, $_)->{state} } $verify, ('SELECT count(*) FROM twilio_phone_numbers()') x 3;
is("@states", '   PT429', 'api_rate_limit refuses the fourth call in a minute, and counts no pages');
is(as_user($node, 51, $verify)->{out}, 't|active|Full|', '... and leaves other tenants alone');
configured($node, 'twilio.api_rate_limit', 60);
is(as_user($node, 50, $verify)->{out}, 't|active|Full|', '... and a higher one lets it ask again');

TwilioTest::finish();
