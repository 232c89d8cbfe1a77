# Between tenants: nobody waits behind another's backlog, another's refused account or another's 429s;
# and nobody gets more requests in flight, or a faster pace, than is allowed.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Orders;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin, conf => "twilio.poll_interval = 1h\ntwilio.api_rate_limit = 0\n");
install_parcels($node);
wait_for_worker($node, 'postgres');
configure($node, $standin, $_, any_from => JSON::PP::true, callbacks => 'none') for 1 .. 9;
is(as_user($node, $_, 'SELECT verified FROM twilio_verify()')->{out}, 't', "account $_ is verified") for 3 .. 4;

sub set_for
{
	my ($n, $change) = @_;
	my $done = run_sql($node, "UPDATE twilio_settings SET $change WHERE user_id = '" . user_id($n) . "'", role => 'twilio_admin');
	BAIL_OUT($done->{error}) unless $done->{ok};
	return;
}
sub account_stats { return $standin->stats->{accounts}{ account_sid(shift) } }
sub reset_stats { return $standin->control(DELETE => 'stats') }

# ---- fairness -----------------------------------------------------------------------------------

my $slow = $standin->behave('delay', ms => 50);
order($node, 1, 'backlog', 5000);
wait_until { posts($standin, account => account_sid(1)) > 100 } 10, 'a backlog of 5,000 is being sent';
my $before = posts($standin);
order($node, 2, 'single');
wait_until { posts($standin, account => account_sid(2)) == 1 } 5, "another tenant's single order is sent";
cmp_ok(posts($standin) - $before, '<', 300, '... among the next few hundred');
cmp_ok(parcels($node, 'backlog', 'sent'), '<', 4000, '... while most of the backlog still waits');
$standin->control(DELETE => "behave/$slow->{id}");
wait_until { parcels($node, 'backlog', 'sent') == 5000 } 30, 'the backlog is sent too';
cmp_ok(account_stats(1)->{max_in_flight}, '<=', 16, '... with no more in flight than twilio.user_max_in_flight');

# ---- ceilings -----------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', "twilio.max_in_flight = 20\ntwilio.user_max_in_flight = 8\n");
$node->reload;
set_for(7, 'max_in_flight = 2');
$standin->behave('delay', ms => 100);
wait_until { $node->safe_psql('postgres', 'SHOW twilio.max_in_flight') eq '20' } 5, 'max_in_flight is 20, 8 for each tenant and 2 for one of them';
reset_stats();
$node->safe_psql('postgres', join ';', map { order_sql($_, "crowd$_", 60) } 5 .. 8);
wait_until { queued($node) == 0 } 20, 'four tenants have sent 60 each';
is($standin->stats->{max_in_flight}, 20, '... with 20 in flight at most, and at times as many');
is(account_stats(5)->{max_in_flight}, 8, '... 8 of one tenant');
is(account_stats(7)->{max_in_flight}, 2, '... 2 of the tenant that an administrator has limited');
is(accepted($standin, account => account_sid($_)), 60, "... all of tenant $_, once") for 5 .. 8;
$standin->calm;

# ---- pace ---------------------------------------------------------------------------------------

set_for(9, 'rate_limit_per_second = 10');
my $begun = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
order($node, 9, 'paced', 31);
wait_until { parcels($node, 'paced', 'sent') == 31 } 20, 'a tenant with a pace of 10 per second sends 31';
my $last = $standin->ledger(account => account_sid(9), path => 'Messages')->[-1]{at};
is($node->safe_psql('postgres', "SELECT timestamptz '$last' - timestamptz '$begun' >= interval '2.9 s'"), 't', '... the last of them not before 3 s');
set_for(9, 'rate_limit_per_second = 0.01');
order($node, 9, 'slow', 3);
my $why = "SELECT reason FROM twilio_queue WHERE state = 'queued' LIMIT 1";
is(as_user($node, 9, $why)->{out}, 'paced: 0.01 per second', '... and twilio_queue says why they wait');
configured($node, 'twilio.rate_limit_per_second', 0.02);
is(as_user($node, 9, $why)->{out}, 'paced: 0.01 per second', '... by the own pace, whatever is usual');
set_for(9, 'rate_limit_per_second = NULL');
is(as_user($node, 9, $why)->{out}, 'paced: 0.02 per second', '... or by the usual one');
set_for(9, 'rate_limit_per_second = 0');
wait_until { parcels($node, 'slow', 'sent') == 3 } 10, '... while 0 is no limit';
configured($node, 'twilio.rate_limit_per_second', 0);

# ---- an account that Twilio refuses -------------------------------------------------------------

sub breaker_holds
{
	my ($n, $prefix, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $so_far = posts($standin, account => account_sid($n));
	$node->safe_psql('postgres', order_sql($n, $prefix, 1000) . ';' . order_sql(1, "beside $prefix", 100));
	wait_until { parcels($node, "beside $prefix", 'sent') == 100 } 10, "$name: the others go on";
	wait_until { $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.breaker") == 1 && queued($node, 'sending') == 0 } 10, '... a breaker opens';
	cmp_ok(posts($standin, account => account_sid($n)) - $so_far, '<=', 16, '... after a few requests');
	is(queued($node, 'queued'), 1000, '... and the rest wait, the refused ones with them');
	like(as_user($node, $n, 'SELECT is_verified, verification_error FROM twilio_settings')->{out}, qr/^f\|.*\w{5}.*20003/,
		'... the settings say why');
	return;
}

my $new = 'f' x 32;
$standin->change(account_sid(3), token => $new);
breaker_holds(3, 'revoked', 'a revoked token');
as_user($node, 3, "UPDATE twilio_settings SET auth_token = '$new'");
wait_until { parcels($node, 'revoked', 'sent') == 1000 } 30, 'with a new token all are sent';
is(accepted($standin, account => account_sid(3)), 1000, '... once each');

$standin->change(account_sid(4), status => 'suspended');
breaker_holds(4, 'suspended', 'a suspended account');
is(as_user($node, 4, 'SELECT verified FROM twilio_verify()')->{out}, 'f', 'while it is suspended, verifying does not help');
is(queued($node, 'queued'), 1000, '... and the orders wait on');
$standin->change(account_sid(4), status => 'active');
is(as_user($node, 4, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'when it is active again and verified');
wait_until { parcels($node, 'suspended', 'sent') == 1000 } 30, '... all are sent';
is(accepted($standin, account => account_sid(4)), 1000, '... once each');

# ---- 429 ----------------------------------------------------------------------------------------

reset_stats();
$standin->behave('429', match => { account => account_sid(6) });
$standin->behave('delay', ms => 20);
$node->safe_psql('postgres', order_sql(6, 'storm', 1000) . ';' . order_sql(2, 'beside the storm', 200));
wait_until { parcels($node, 'beside the storm', 'sent') == 200 } 15, "one tenant's 429s do not hold up another";
wait_until { posts($standin, account => account_sid(6), status => 429) > 200 } 10, 'the storm has hit hundreds of orders';
reset_stats();
my $refused = posts($standin, account => account_sid(6));
wait_until { posts($standin, account => account_sid(6)) > $refused + 50 } 10, 'after that';
cmp_ok(account_stats(6)->{max_in_flight}, '<=', 4, '... requests in flight are fewer: the ceiling has come down');
wait_until { $node->safe_psql('postgres', "SELECT max(cardinality(outcomes)) FROM parcel WHERE body LIKE 'storm %'") >= 3 } 30, 'some have been refused three times';
$standin->calm;
$standin->behave('delay', ms => 20);
reset_stats();
wait_until { parcels($node, 'storm', 'sent') == 1000 } 60, 'when it is over, all are sent';
is(accepted($standin, account => account_sid(6)) - 60, 1000, '... once each');
cmp_ok(posts($standin, account => account_sid(6), status => 429), '<', 8000, '... with time between the attempts');
$standin->calm;

is(duplicates($standin), 0, 'nothing was accepted twice');
TwilioTest::finish();
