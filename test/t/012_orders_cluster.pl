# Orders and what a cluster goes through: crashes, shutdowns, DDL, locks, switches. Nothing is sent
# twice or lost, and nobody waits for Twilio.
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
my $node = new_cluster('main', standin => $standin, conf => <<'END');
autovacuum = off
twilio.poll_interval = 1h
twilio.request_timeout = 60s
twilio.user_max_in_flight = 64
END
install_parcels($node);
wait_for_worker($node, 'postgres');
configure($node, $standin, $_, any_from => JSON::PP::true, callbacks => 'none') for 1 .. 2;

sub configured
{
	my (%settings) = @_;
	$node->append_conf('postgresql.conf', join '', map { "$_ = $settings{$_}\n" } keys %settings);
	$node->reload;
	for my $name (keys %settings)
	{
		$node->poll_query_until('postgres', "SELECT setting = '$settings{$name}' FROM pg_settings WHERE name = '$name'") or die;
	}
	return;
}

# ---- switches -----------------------------------------------------------------------------------

run_sql($node, 'SELECT twilio_disarm()', role => 'twilio_admin');
order($node, 1, 'disarmed', 3);
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'while disarmed, questions are answered');
is(posts($standin), 0, '... and orders wait');
run_sql($node, 'SELECT twilio_arm()', role => 'twilio_admin');
wait_until { parcels($node, 'disarmed', 'sent') == 3 } 5, '... until it is armed';

configured('twilio.enabled' => 'off');
order($node, 1, 'switched off', 3);
is(as_user($node, 1, 'SELECT * FROM twilio_verify()')->{state}, 'PT409', 'while enabled is off, questions are refused');
is(posts($standin), 3, '... and orders wait');
configured('twilio.enabled' => 'on');
wait_until { parcels($node, 'switched off', 'sent') == 3 } 5, '... until it is on again';

$node->safe_psql('postgres', "UPDATE twilio_settings SET is_active = false WHERE user_id = '" . user_id(1) . "'");
$node->safe_psql('postgres', order_sql(1, 'inactive', 3) . ';' . order_sql(2, 'active', 3));
wait_until { parcels($node, 'active', 'sent') == 3 } 5, 'an account that is not active does not hold up others';
is(parcels($node, 'inactive', 'sent'), 0, '... and its orders wait');
$node->safe_psql('postgres', "UPDATE twilio_settings SET is_active = true WHERE user_id = '" . user_id(1) . "'");
wait_until { parcels($node, 'inactive', 'sent') == 3 } 5, '... until it is active again';

# ---- a library that does not fit the SQL ----------------------------------------------------------

my $version = $node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'pg_twilio'");
sub set_version
{
	my ($to) = @_;
	# ALTER EXTENSION makes the worker look at the version.
	my $change = "UPDATE pg_extension SET extversion = '$to' WHERE extname = 'pg_twilio'";
	my $look = 'ALTER EXTENSION pg_twilio UPDATE';
	$node->safe_psql('postgres', join ';', 'BEGIN', $to eq $version ? ($change, $look) : ($look, $change), 'COMMIT');
	return;
}
set_version('99.9');
wait_until { $node->safe_psql('postgres', 'SELECT state FROM twilio_status') =~ /^paused/ } 5, 'a worker whose library does not fit the SQL is paused';
like($node->safe_psql('postgres', 'SELECT hint FROM twilio_status'), qr/ALTER EXTENSION pg_twilio UPDATE/, '... and twilio_status says what to do');
my $so_far = posts($standin);
order($node, 1, 'paused', 3);
my $pid = worker_pid($node);
kill TERM => $pid;
wait_until { my $now = worker_pid($node, 'postgres'); $now && $now ne $pid } 10, '... also when it starts anew';
is(posts($standin), $so_far, '... and sends nothing');
is(run_sql($node, 'SELECT DISTINCT reason FROM twilio_queue')->{out}, 'the worker is not running: see twilio_status', '... which twilio_queue says');
set_version($version);
wait_until { parcels($node, 'paused', 'sent') == 3 } 5, '... until they fit';

# ---- a table that somebody locks ------------------------------------------------------------------

$standin->behave('delay', ms => 100);
my $session = connect_session($node);
order($node, 1, 'locked out', 1000);
wait_until { parcels($node, 'locked out', 'sent') > 50 } 10, 'a thousand orders are on their way';
$session->run('BEGIN; LOCK TABLE twilio_private.outbox, parcel');
my $offset = -s $node->logfile;
wait_until { slurp_file($node->logfile, $offset) =~ /lock timeout/ } 10, 'the worker gives up waiting for a lock';
$session->run('COMMIT');
wait_until { parcels($node, 'locked out', 'sent') == 1000 } 20, '... and goes on when it is released';
is(accepted($standin, account => account_sid(1)), 12 + 1000, '... with nothing lost or doubled');
$standin->calm;

# ---- drop, rename, template, with 50 requests in flight --------------------------------------------

my $databases = 0;

# A new database with 50 orders that Twilio is slow to answer.
sub busy_database
{
	my $db = 'busy' . ++$databases;
	create_database($node, $db);
	install_parcels($node, $db);
	configure($node, $standin, 1, db => $db, any_from => JSON::PP::true, callbacks => 'none');
	my $before = posts($standin);
	order($node, 1, $db, 50, db => $db);
	wait_until { posts($standin) - $before == 50 } 10, "50 slow requests are in flight in $db";
	return $db;
}

$standin->behave('hang');
for my $case (
	[ 'DROP DATABASE %s', 'drop database' ],
	[ 'DROP DATABASE %s WITH (FORCE)', 'drop database with force' ],
	[ 'ALTER DATABASE %s RENAME TO renamed', 'rename database' ],
	[ 'CREATE DATABASE copied TEMPLATE %s', 'use as a template' ],
	[ 'DROP EXTENSION pg_twilio CASCADE', 'drop extension' ])
{
	my ($statement, $what) = @$case;
	my $db = busy_database();
	my $done = run_sql($node, sprintf($statement, $db), db => $statement =~ /EXTENSION/ ? $db : 'template1', within => 5);
	ok($done->{ok}, "$what succeeds within 5 s") or diag($done->{error});
	next unless $what =~ /rename|template/;
	my $now = $what =~ /rename/ ? 'renamed' : $db;
	wait_for_worker($node, $now, 10, '... and a worker goes on');
	wait_until { queued($node, 'unknown', $now) == 50 } 10, '... which knows that the 50 may have arrived';
}
wait_for_worker($node, 'copied', 10, 'the copy has a worker, too');
is(run_sql($node, 'SELECT armed FROM twilio_status', db => 'copied')->{out}, 'f', '... which is not armed');
$node->safe_psql('template1', "DROP DATABASE $_ WITH (FORCE)") for qw(renamed copied busy4 busy5);

$standin->calm;
$standin->behave('delay', ms => 20);
$so_far = posts($standin);
order($node, 1, 'under load', 4000);
wait_until { posts($standin) - $so_far > 100 } 10, 'while four thousand orders are being sent';
$node->safe_psql('template1', 'CREATE DATABASE cycles');
my $cycles = run_sql($node, "CREATE EXTENSION pg_twilio CASCADE;\n" . "DROP EXTENSION pg_twilio; CREATE EXTENSION pg_twilio;\n" x 20, db => 'cycles', within => 5, timeout => 120);
ok($cycles->{ok}, 'create and drop extension work 20 times in another database, none longer than 5 s') or diag($cycles->{error});
wait_for_worker($node, 'cycles', 10, '... which has a worker in the end');
wait_until { parcels($node, 'under load', 'sent') == 4000 } 60, '... and all orders are sent';
is(posts($standin) - $so_far, 4000, '... once each');
$node->safe_psql('template1', 'DROP DATABASE cycles WITH (FORCE)');

# ---- crashes --------------------------------------------------------------------------------------

# Ends the worker, in one way or another, with ten requests in flight. Where it ends without a word, what
# was claimed to come next is in doubt as well, though it was not sent.
sub crash_with
{
	my ($name, $most, $crash) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$standin->behave('hang');
	$so_far = posts($standin);
	order($node, 1, $name, 100);
	wait_until { posts($standin) - $so_far == 10 } 10, "$name: ten requests are in flight";
	$standin->calm;
	$crash->();
	takes_connections($node, '... the server recovers');
	wait_until { eval { parcels($node, $name, 'sent') + parcels($node, $name, 'unknown') == 100 && queued($node, 'unknown') == queued($node) } } 30,
	  '... after recovery the queued ones are sent, and what was under way is unknown';
	my $unknown = queued($node, 'unknown');
	cmp_ok($unknown, '>=', 10, '... the ten are');
	cmp_ok($unknown, '<=', $most, "... and no more than $most");
	is(parcels($node, $name, 'sent') + 10, posts($standin) - $so_far, '... nothing was sent twice');
	$node->safe_psql('postgres', "DELETE FROM twilio_private.outbox WHERE state = 'unknown'");
	return;
}

$standin->calm;
configured('twilio.user_max_in_flight' => 10);
crash_with('worker terminated', 10, sub { kill TERM => worker_pid($node) });
crash_with('worker killed', 30, sub { kill KILL => worker_pid($node) });
crash_with('immediate shutdown', 30, sub { $node->stop('immediate'); $node->start });
crash_with('fast shutdown', 10, sub { stops_within($node, 10, '... it takes less than 10 s'); $node->start });

# ---- idle -----------------------------------------------------------------------------------------

wait_until { worker_pid($node, 'postgres') } 10, 'all is done';
$session->quit;
sub transactions
{
	return $node->safe_psql('template1', "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'postgres'");
}
my $quiet = 3;
wait_until { my $before = transactions(); sleep $quiet; $before == transactions() } 20, "the worker comes to rest: for $quiet s not one transaction";

is(duplicates($standin), 0, 'nothing was accepted twice');
TwilioTest::finish();
