# A claim is on the synchronous standby before a byte of it leaves, so whoever takes over knows of it. A worker
# that waits for a standby can be ended, and sends nothing of what nobody else knows.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $primary = new_cluster('primary', standin => $standin, streaming => 1, conf => <<'END');
autovacuum = off
wal_log_hints = on
twilio.poll_interval = 1h
twilio.reconcile_after = 1s
END
wait_for_worker($primary, 'postgres');
enable_sending($primary, $standin, 1);

sub configured
{
	my ($node, $name, $value) = @_;
	$node->append_conf('postgresql.conf', "$name = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT setting = '$value' FROM pg_settings WHERE name = '$name'") or die;
	return;
}

sub write_messages
{
	my ($node, $prefix, $count) = @_;
	my $done = as_user($node, 1, "INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', '$prefix ' || i FROM generate_series(1, $count) i");
	BAIL_OUT($done->{error}) unless $done->{ok};
	return;
}

sub process { my ($node, $type) = @_; return $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'") }
sub worker_waiting_for_standby { return $primary->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker' AND wait_event = 'SyncRep'") }

# ---- a standby that is synchronous ----------------------------------------------------------------

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
chmod 0600, $standby->data_dir . '/pg_twilio.key';
$standby->start;
configured($primary, 'synchronous_standby_names', 'standby');
$primary->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication") or die;
# However little the database's sessions wait for, claims wait for the standby.
$primary->safe_psql('template1', 'ALTER DATABASE postgres SET synchronous_commit = off');
kill TERM => worker_pid($primary);
wait_for_worker($primary, 'postgres', 10, 'the database commits without waiting');

configured($primary, 'twilio.enabled', 'off');
write_messages($primary, 'claimed', 20);
$primary->wait_for_catchup($standby);
my $walsender = process($primary, 'walsender');
kill STOP => $walsender;
configured($primary, 'twilio.enabled', 'on');
my $worker = wait_until { worker_waiting_for_standby() } 10, 'the worker waits for the standby to know what it has claimed';
is(posts($standin), 0, '... and has sent nothing');

kill TERM => $worker;
wait_until { !kill 0, $worker } 5, 'a worker that waits for a standby can be ended';
is(posts($standin), 0, '... and sends nothing on its way out');
$worker = wait_until { worker_waiting_for_standby() } 10, 'its successor waits likewise';

$primary->kill9;
kill KILL => $walsender;
wait_until { !kill 0, $worker } 10, 'when the postmaster dies, the waiting worker ends';
is(posts($standin), 0, '... and sends nothing that no standby knows');

$standby->promote;
wait_until { messages_with($standby, 'claimed%') - messages_with($standby, 'claimed%', 'pending') == 20 } 20, 'the promoted standby sends it';
wait_until { $standby->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE sid IS NOT NULL") == 20 } 20, '... all of it';
is(accepted($standin), 20, '... once each');

TwilioTest::finish();
