# What a standby knows when it takes over. A claim is on the synchronous standby before a byte of it leaves; a worker
# that waits for that can be ended, and sends nothing of what nobody else knows. An asynchronous standby may have
# missed the last claims, so what is next in the queue is looked for at Twilio before it is sent.
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
wal_keep_size = 1GB
wal_log_hints = on
twilio.poll_interval = 1h
twilio.reconcile_after = 1s
END
wait_for_worker($primary, 'postgres');
enable_sending($primary, $standin, $_) for 1 .. 2;

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
write_messages($primary, 1, 'claimed', 20);
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

# ---- the former primary comes back as a standby --------------------------------------------------------

# As an administrator does it. In between no server runs there.
sub rejoin
{
	my ($former, $leader) = @_;
	$former->{_pid} = undef;
	my $configuration = slurp_file($former->data_dir . '/postgresql.conf');
	$leader->safe_psql('postgres', 'CHECKPOINT'); # pg_rewind looks for the new timeline in pg_control
	command_ok([ 'pg_rewind', '--target-pgdata', $former->data_dir, '--source-server', $leader->connstr('postgres') ], 'pg_rewind makes the former primary a standby');
	open my $file, '>', $former->data_dir . '/postgresql.conf' or die;
	print $file $configuration;
	close $file;
	$former->enable_streaming($leader);
	$former->append_conf('postgresql.conf', "synchronous_standby_names = ''\ntwilio.enabled = on");
	chmod 0600, $former->data_dir . '/pg_twilio.key';
	$former->start;
	return;
}

my $so_far = posts($standin);
rejoin($primary, $standby);
write_messages($standby, 1, 'elsewhere', 5);
wait_until { sent($standby, 'elsewhere') == 5 } 10, 'the new primary sends';
$standby->wait_for_catchup($primary);
is($primary->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_twilio%'"), 0, '... and nothing of pg_twilio runs on the former one');
is(posts($standin) - $so_far, 5, '... which sends nothing');

# ---- claims that an asynchronous standby has missed ---------------------------------------------------

sub states { my ($prefix) = @_; return $primary->safe_psql('postgres', "SELECT count(*), count(sid), count(DISTINCT sid) FROM twilio_messages WHERE body LIKE '$prefix%'") }

$standby->safe_psql('postgres', "UPDATE twilio_settings SET resend_unknown = false WHERE user_id = '" . user_id(2) . "'");
configured($standby, 'twilio.enabled', 'off');
write_messages($standby, 1, 'missed', 300); # more than a worker has claimed at once
write_messages($standby, 1, 'the same', 1) for 1 .. 3;
write_messages($standby, 2, 'refused for now', 5);
$standby->wait_for_catchup($primary);
$walsender = process($standby, 'walsender');
kill STOP => $walsender;
$standin->behave('429', match => { method => 'POST', body => 'refused' });
configured($standby, 'twilio.enabled', 'on');
wait_until { sent($standby, 'missed') + sent($standby, 'the same') == 303 } 20, 'a primary sends what its standby knows only as queued';
wait_until { posts($standin, account => account_sid(2)) >= 5 } 10, '... and tries what Twilio does not take';
$worker = worker_pid($standby);
$standby->kill9;
kill KILL => $walsender;
wait_until { !kill 0, $worker } 10, 'it dies';
$standin->calm;

$primary->promote;
wait_until { states('missed') eq '300|300|300' } 30, 'whoever takes over finds at Twilio what was sent';
wait_until { states('the same') eq '3|3|3' } 20, '... also messages that read the same, one to one';
wait_until { states('refused') eq '5|5|5' } 20, '... and sends what was not';
is(accepted($standin, body => 'the same 1'), 3, 'those that read the same were sent once each');
is(duplicates($standin), 2, '... and nothing else reads the same: nothing was sent twice');

TwilioTest::finish();
