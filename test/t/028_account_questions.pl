# What a user asks Twilio besides the numbers: usage, balance, what is known about a phone number.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => "twilio.log_requests = on\ntwilio.ask_timeout = 3s\n");
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, 1, numbers => 2, balance => '12.3456', any_from => 1);
configure($node, $standin, 2);

# ---- usage --------------------------------------------------------------------------------------

send_sms($node, 1, body => 'x' x 200);
wait_until { messages_with($node, 'x%', 'queued') == 1 } 20, 'a message of two segments is sent';
my $usage = as_user($node, 1, 'SELECT category, count, usage, usage_unit, price, price_unit FROM twilio_usage()');
is($usage->{out}, <<'END' =~ s/\n\z//r, 'the usage of the current month, without what was not used');
phonenumbers|2|2|numbers|2.3000|USD
sms|1|2|segments|0.0158|USD
sms-outbound|1|2|segments|0.0158|USD
totalprice||2.3158|usd|2.3158|USD
END
is(as_user($node, 1, "SELECT category, usage FROM twilio_usage(only_category => 'calls')")->{out}, 'calls|0', 'a category that is asked for is shown, unused or not');
is(as_user($node, 1, "SELECT start_date, end_date FROM twilio_usage('2024-02-01', '2024-02-29', 'sms')")->{out}, '2024-02-01|2024-02-29', 'of other days');
is($standin->ledger(path => 'Usage')->[-1]{query}[1][1], '2024-02-29', '... Twilio is asked for these');
is(as_user($node, 1, "SELECT * FROM twilio_usage('2024-02-01', '2024-01-01')")->{state}, '22023', 'days in the wrong order are refused');
is(as_user($node, 1, "SELECT * FROM twilio_usage('-infinity')")->{state}, '22023', '... and what is no day');
is(as_user($node, 2, 'SELECT * FROM twilio_usage()')->{state}, 'PT409', 'before verifying there is no answer');
is(as_user($node, 3, 'SELECT * FROM twilio_usage()')->{state}, 'PT404', '... nor without settings');

$standin->behave('status', status => 200, match => { path => 'Usage' }, times => 1, body_json => { next_page_uri => undef, usage_records => [
	{ category => 'sms', start_date => '0000-99-99', end_date => '2024-02-29T00:00:00Z', count => 'many', usage => 2, price => 0.5, price_unit => 'eur' },
	{ category => 'mms', start_date => 'yesterday', usage => 'NaN', price => '1e9' }, { price => '1' }, 'none', undef, [] ] });
is(as_user($node, 1, 'SELECT category, start_date, end_date, count, usage, price, price_unit FROM twilio_usage()')->{out}, "sms||||2|0.5|EUR\n|||||1|",
	'what is no day and no number in an answer is left out');
$standin->behave('status', status => 200, match => { path => 'Usage' }, times => 1, body_json => { usage_records => {} });
is(as_user($node, 1, 'SELECT * FROM twilio_usage()')->{state}, 'PT502', 'what is no list is not taken for one');

# ---- balance ------------------------------------------------------------------------------------

is(as_user($node, 1, 'SELECT * FROM twilio_balance()')->{out}, '12.3456|USD', 'the balance of the account');
$standin->behave('status', status => 200, body_json => { balance => 'a lot' }, match => { path => 'Balance' }, times => 1);
is(as_user($node, 1, 'SELECT * FROM twilio_balance()')->{state}, 'PT502', 'what is no balance is not taken for one');
$standin->behave('hang', match => { path => 'Balance' }, times => 1);
is(as_user($node, 1, 'SELECT * FROM twilio_balance()')->{state}, 'PT504', 'a Twilio that does not answer is said so');

# ---- lookup -------------------------------------------------------------------------------------

is(as_user($node, 1, "SELECT phone_number, valid, country_code, national_format, line_type FROM twilio_lookup('+1 (202) 555-0123')")->{out},
	'+12025550123|t|US|(202) 555-0123|', 'a number as people write it');
is(as_user($node, 1, "SELECT line_type, carrier_name FROM twilio_lookup('+12025550123', '{line_type_intelligence}')")->{out}, 'mobile|Sample Wireless', 'with details');
is(as_user($node, 1, "SELECT valid, validation_errors FROM twilio_lookup('+1202555')")->{out}, 'f|{TOO_SHORT}', 'one that is too short');
is(as_user($node, 1, "SELECT phone_number, valid FROM twilio_lookup('(((')")->{out}, '(((|f', 'one that Twilio cannot read');
is(as_user($node, 1, "SELECT * FROM twilio_lookup('../../Accounts')")->{state}, '22023', 'what is no number leads nowhere');
is(as_user($node, 1, "SELECT * FROM twilio_lookup(NULL)")->{state}, '22023', '... nor does nothing');
is($standin->count(host => 'lookups.twilio.com', user => account_sid(1)), 4, 'each asked once, of the host that knows');

# ---- rights, log --------------------------------------------------------------------------------

$standin->change(account_sid(1), token => token(9));
is(as_user($node, 1, 'SELECT * FROM twilio_balance()')->{state}, 'PT409', 'refused credentials are said so');
my $log = slurp_file($node->logfile);
like($log, qr{twilio: GET /v2/PhoneNumbers/… 200}, 'the log has the lookup') or diag(join "\n", grep { /lookups|PhoneNumbers/ } split /\n/, $log);
unlike($log =~ s/^.*(?:STATEMENT|statement).*$//mgr, qr/2025550123/, '... without the number');
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT action, ' ' ORDER BY action) FROM twilio_audit_log WHERE action IN ('usage', 'balance', 'lookup')"), 'balance lookup usage', 'the audit log has all three');
unlike($node->safe_psql('postgres', 'SELECT a FROM twilio_audit_log a'), qr/2025550123/, '... without the number');

TwilioTest::finish();
