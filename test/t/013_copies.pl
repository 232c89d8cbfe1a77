# Messages and the other lives of a database: a standby that takes over, a dump that is restored, tokens
# that do not open. Only one of the copies sends, and it sends each message once.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use File::Copy;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $primary = new_cluster('primary', standin => $standin, streaming => 1, conf => <<'END');
twilio.request_timeout = 60s
twilio.reconcile_after = 1s
twilio.poll_interval = 1h
END
wait_for_worker($primary, 'postgres');
enable_sending($primary, $standin, $_) for 1 .. 4;

# ---- tokens that do not open --------------------------------------------------------------------

my @broken = (
	"sealed = (SELECT sealed FROM twilio_private.credential WHERE user_id = '" . user_id(1) . "')",
	'sealed = substr(sealed, 1, 30)',
	"sealed = decode(repeat('a5', 200), 'hex')",
	"key_id = 'no such key'");
$primary->safe_psql('postgres', "CREATE TABLE good AS SELECT * FROM twilio_private.credential WHERE user_id = '" . user_id(2) . "'");
my $way = 0;
for my $change (@broken)
{
	my $name = 'broken ' . ++$way;
	$primary->safe_psql('postgres', "UPDATE twilio_private.credential SET $change WHERE user_id = '" . user_id(2) . "'");
	my $requests = $standin->count(account => account_sid(2));
	write_messages($primary, 2, $name, 3);
	write_messages($primary, 1, "beside $name", 20);
	wait_until { sent($primary, "beside $name") == 20 } 10, "with $change of one tenant, the others go on";
	is($standin->count(account => account_sid(2)), $requests, '... and nothing is sent for that one');
	is(sent($primary, $name), 0, '... whose messages wait');
	$primary->safe_psql('postgres', "UPDATE twilio_private.credential c SET key_id = g.key_id, sealed = g.sealed FROM good g WHERE c.user_id = g.user_id;
		UPDATE twilio_private.outbox SET due_at = now(); SELECT twilio_private.wake_worker()");
	wait_until { sent($primary, $name) == 3 } 15, '... until it opens again';
}

# ---- a snapshot of the files, an hour later in the place of its original --------------------------

# CRC-32C of a text, and of each of its beginnings.
sub checksums
{
	my ($text) = @_;
	my ($sum, @sums) = 0xffffffff;
	for my $byte (unpack 'C*', $text)
	{
		push @sums, $sum ^ 0xffffffff;
		$sum ^= $byte;
		$sum = $sum & 1 ? ($sum >> 1) ^ 0x82f63b78 : $sum >> 1 for 1 .. 8;
	}
	return @sums;
}

# Lets pg_control say that it was written so many seconds earlier. Its checksum covers what stands before it.
sub set_back_control_file
{
	my ($node, $seconds) = @_;
	my $file = $node->data_dir . '/global/pg_control';
	my $control = slurp_file($file);
	my @sums = checksums(substr $control, 0, 512);
	my ($end) = grep { $_ > 32 && unpack('L', substr $control, $_, 4) == $sums[$_] } 0 .. $#sums or die 'pg_control has no checksum';
	substr($control, 24, 8) = pack 'q', unpack('q', substr $control, 24, 8) - $seconds;
	substr($control, $end, 4) = pack 'L', (checksums(substr $control, 0, $end + 1))[$end];
	open my $out, '>:raw', $file or die $!;
	print $out $control;
	close $out;
	return;
}

configured($primary, 'twilio.enabled', 'off');
write_messages($primary, 1, 'in the snapshot', 5);
$primary->backup('snapshot');
configured($primary, 'twilio.enabled', 'on');
wait_until { sent($primary, 'in the snapshot') == 5 } 10, 'after a snapshot was made, the original goes on';
my $snapshot = PostgreSQL::Test::Cluster->new('snapshot');
$snapshot->init_from_backup($primary, 'snapshot');
chmod 0600, $snapshot->data_dir . '/pg_twilio.key';
$snapshot->append_conf('postgresql.conf', 'twilio.enabled = on');
my $sent_so_far = posts($standin);
set_back_control_file($snapshot, 3600);
$snapshot->start;
wait_until { sent($snapshot, 'in the snapshot') == 5 } 20, '... and started an hour later, it finds at Twilio what the original has sent since';
is(posts($standin), $sent_so_far, '... and sends none of it again');
write_messages($snapshot, 1, 'new in the snapshot', 3);
wait_until { sent($snapshot, 'new in the snapshot') == 3 } 10, '... but what is new';
$snapshot->stop;

# ---- a dump with messages that wait ---------------------------------------------------------------

my $dir = PostgreSQL::Test::Utils::tempdir('dump');
$standin->behave('hang', match => { method => 'POST', body => 'under(%20|\+)way' });
write_messages($primary, 1, 'under way', 3);
wait_until { posts($standin, body => 'under way 3') == 1 } 10, 'three messages are under way';
run_sql($primary, 'SELECT twilio_disarm()', role => 'twilio_admin');
write_messages($primary, 1, 'pending in the dump', 5);
write_messages($primary, 4, 'long queue', 20_000);
as_user($primary, 4, 'UPDATE twilio_settings SET is_active = false');
$primary->command_ok([ 'pg_dump', '--format=custom', '-f', "$dir/dump", '-d', $primary->connstr('postgres') ], 'a database with pending messages is dumped');
run_sql($primary, 'SELECT twilio_arm()', role => 'twilio_admin');
wait_until { sent($primary, 'pending in the dump') == 5 } 10, '... and sends them';
my $copy = new_cluster('copy', standin => $standin, extension => 0, conf => "autovacuum = off\ntwilio.poll_interval = 1s\ntwilio.reconcile_after = 1s\n");
$copy->stop;
copy($primary->data_dir . '/pg_twilio.key', $copy->data_dir . '/pg_twilio.key') or die;
chmod 0600, $copy->data_dir . '/pg_twilio.key';
$copy->start;
my $posts = posts($standin);
$copy->command_ok([ 'pg_restore', '--exit-on-error', '-d', $copy->connstr('postgres'), "$dir/dump" ], 'restored elsewhere');
wait_for_worker($copy, 'postgres');
my $cycles = $copy->safe_psql('template1', "SELECT xact_commit FROM pg_stat_database WHERE datname = 'postgres'");
$copy->poll_query_until('template1', "SELECT xact_commit > $cycles + 3 FROM pg_stat_database WHERE datname = 'postgres'") or die;
is(posts($standin), $posts, '... the copy sends nothing, however often it looks');
is(as_user($copy, 1, "SELECT DISTINCT reason FROM twilio_queue WHERE state = 'queued'")->{out}, 'disarmed: see twilio_status', '... and twilio_queue says why');
write_messages($copy, 1, 'written in the copy', 2);
is(sent($copy, 'written in the copy'), 0, '... also what is written there waits');
is(run_sql($copy, 'SELECT count(*) FROM twilio_messages m WHERE sid IS NOT NULL')->{out}, run_sql($primary, "SELECT count(*) FROM twilio_messages WHERE sid IS NOT NULL AND body NOT LIKE 'pending%'")->{out},
	'... and the history is the same');
ok(run_sql($copy, 'SELECT twilio_arm()', role => 'twilio_admin', within => 45)->{ok}, 'an administrator arms it, however long the queue and before any ANALYZE');
wait_until { sent($copy, 'written in the copy') == 2 } 10, '... and it sends';
wait_until { sent($copy, 'under way') == 3 } 20, '... and finds at Twilio what was under way when the dump was made';
wait_until { sent($copy, 'pending in the dump') == 5 } 20, '... and what the original has sent since';
is(posts($standin) - $posts, 2, '... so that nothing is sent a second time');

$copy->safe_psql('postgres', 'CREATE DATABASE disarmed TEMPLATE template0');
$copy->command_ok([ 'pg_restore', '--exit-on-error', '-d', $copy->connstr('disarmed'), "$dir/dump" ], 'a copy that is disarmed');
run_sql($copy, "SELECT twilio_$_()", role => 'twilio_admin', db => 'disarmed') for qw(disarm arm);
wait_until { $copy->safe_psql('disarmed', 'SELECT count(*) FROM twilio_messages WHERE sid IS NULL AND body NOT LIKE $$long queue%$$') == 0 } 20, '... before it is armed';
is(posts($standin) - $posts, 2, '... sends nothing a second time, either');

configured($copy, 'twilio.enabled', 'off');
write_messages($copy, 1, 'pending in its own dump', 3);
$copy->command_ok([ 'pg_dump', '--format=custom', '-f', "$dir/own", '-d', $copy->connstr('postgres') ], 'it is dumped');
configured($copy, 'twilio.enabled', 'on');
wait_until { sent($copy, 'pending in its own dump') == 3 } 10, '... goes on sending';
$posts = posts($standin);
$copy->command_ok([ 'pg_restore', '--clean', '--if-exists', '--exit-on-error', '-d', $copy->connstr('postgres'), "$dir/own" ], '... and is restored into the same database');
wait_for_worker($copy, 'postgres');
is(as_user($copy, 1, "SELECT DISTINCT reason FROM twilio_queue WHERE state = 'queued'")->{out}, 'disarmed: see twilio_status', '... where it is disarmed, although it was armed when it was dumped');
run_sql($copy, 'SELECT twilio_arm()', role => 'twilio_admin');
wait_until { sent($copy, 'pending in its own dump') == 3 } 20, '... and, armed, finds at Twilio what it has sent since';
is(posts($standin), $posts, '... so that nothing is sent a second time there either');
$copy->stop;

# ---- a standby that takes over ------------------------------------------------------------------

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
chmod 0600, $standby->data_dir . '/pg_twilio.key';
$standby->start;
$standin->calm;
$posts = posts($standin);
$standin->behave('hang', match => { method => 'POST', body => 'failover' }, times => 16);
write_messages($primary, 3, 'failover', 60);
wait_until { posts($standin) - $posts == 16 } 10, 'sixteen of sixty messages are on their way';
$primary->wait_for_catchup($standby);
for my $statement (q{SELECT twilio_send_sms('+12025550199', 'x')}, q{INSERT INTO twilio_messages (to_number, body) VALUES ('+12025550199', 'x')})
{
	is(as_user($standby, 3, $statement)->{state}, '25006', "on the standby fails with 25006: $statement");
}
is(as_user($standby, 3, 'SELECT count(*) FROM twilio_queue WHERE state = \'sending\'')->{out} > 0, 1, '... where twilio_queue can be read');
is(posts($standin) - $posts, 16, '... and nothing is sent from there');
$primary->stop('immediate');
$standby->promote;
wait_until { sent($standby, 'failover') == 60 } 30, 'after promotion all are sent';
is(accepted($standin) - $posts, 60, '... once each');

is(duplicates($standin), 0, 'nothing was accepted twice');
TwilioTest::finish();
