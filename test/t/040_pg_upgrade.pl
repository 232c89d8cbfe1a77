# After pg_upgrade everything is as it was, tokens open with the key file, and what was queued waits
# until it is armed, and goes out once.
#
# OLD_INSTALL names an older PostgreSQL (the directory with its bin/) that has pg_twilio; else the
# upgrade is from this PostgreSQL to itself.
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
my $conf = "twilio.poll_interval = 1h\ntwilio.reconcile_after = 1h\n";
my $old = new_cluster('old', standin => $standin, conf => $conf, install_path => $ENV{OLD_INSTALL});
wait_for_worker($old);

enable_sending($old, $standin, 1);
my $key = { sid => 'SK' . '2' x 32, secret => 's' x 32 };
enable_sending($old, $standin, 2, keys => [$key]);
as_user($old, 2, "UPDATE twilio_settings SET api_key_sid = '$key->{sid}', api_key_secret = '$key->{secret}'");
is(as_user($old, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'a user with an API key is verified');
is(as_user($old, 1, 'SELECT count(*) FROM twilio_phone_numbers()')->{out}, '1', 'numbers are listed');
run_sql($old, "INSERT INTO twilio_role_map VALUES ('someone', '" . user_id(1) . "')");

send_sms($old, 1, body => 'sent before');
wait_until { messages_with($old, 'sent before', 'queued') == 1 } 30, 'a message is sent';
$standin->behave('accept-then-drop', match => { method => 'POST', body => 'lost' }, times => 1, only_stream => JSON::PP::true);
my $lost = send_sms($old, 1, body => 'lost');
wait_until { message($old, $lost) eq 'unknown' } 20, 'the answer to another is lost';

$old->append_conf('postgresql.conf', 'twilio.enabled = off');
$old->reload;
$old->poll_query_until('postgres', "SELECT current_setting('twilio.enabled') = 'off'");
send_sms($old, $_ % 2 + 1, body => "pending $_") for 1 .. 10;
is(messages_with($old, 'pending %', 'pending'), 10, '10 more wait');

my @tables = qw(twilio_settings twilio_numbers twilio_messages twilio_message_events twilio_audit_log twilio_role_map
  twilio_opt_outs twilio_private.credential twilio_private.arming);
my $expected = table_contents($old, 'postgres', @tables);
# (Row types count as members in newer versions only.)
my $objects = "SELECT string_agg(pg_describe_object(classid, objid, 0), E'\\n' ORDER BY pg_describe_object(classid, objid, 0) COLLATE \"C\") FROM pg_depend
	WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_twilio') AND classid <> 'pg_type'::regclass";
my $belongs = $old->safe_psql('postgres', $objects);
my $identifier = $old->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my $posts = posts($standin);
$old->stop;

# ---- the upgrade --------------------------------------------------------------------------------

my $new = new_cluster('new', standin => $standin, conf => $conf, start => 0);
my $work = PostgreSQL::Test::Utils::tempdir('pg_upgrade');
chdir $work or die;    # where an older pg_upgrade leaves its logs
command_ok([ $new->installed_command('pg_upgrade'), '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
		'--old-bindir', $old->config_data('--bindir'), '--new-bindir', $new->config_data('--bindir'),
		'--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port ],
	'pg_upgrade');
ok(!-e $new->data_dir . '/pg_twilio.key', 'nothing of pg_twilio ran: no key file was made');
copy($old->data_dir . '/pg_twilio.key', $new->data_dir . '/pg_twilio.key') or die;
chmod 0600, $new->data_dir . '/pg_twilio.key';
$new->start;
wait_for_worker($new);

isnt($new->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()'), $identifier, 'the new cluster has a system identifier of its own');
is($new->safe_psql('postgres', $objects), $belongs, 'all objects belong to the extension');
is_deeply(table_contents($new, 'postgres', @tables), $expected, 'all rows are as they were');
is(as_user($new, $_, 'SELECT is_verified FROM twilio_settings')->{out}, 't', "verified stays verified (user $_)") for 1, 2;

like(run_sql($new, 'SELECT armed, reason, hint FROM twilio_status')->{out}, qr/^f\|.*copy.*\|.*twilio_arm/, 'it is disarmed and says why');
$new->safe_psql('postgres', 'SELECT twilio_private.wake_worker()');
is(as_user($new, $_, 'SELECT verified FROM twilio_verify()')->{out}, 't', "the token opens with the key file (user $_)") for 1, 2;
is(posts($standin), $posts, '... and nothing was sent');
is(messages_with($new, 'pending %', 'pending'), 10, '... what was queued waits');

# ---- armed --------------------------------------------------------------------------------------

ok(run_sql($new, 'SELECT twilio_arm()', role => 'twilio_admin')->{ok}, 'an administrator arms it');
wait_until { messages_with($new, 'pending %', 'queued') == 10 } 30, 'what was queued is sent';
set_due_now($new, 'message_look');
wait_until { message($new, $lost, 'sid') } 30, '... and the lost message is found at Twilio';
is(posts($standin) - $posts, 10, '... each once');
is(duplicates($standin), 0, '... and nothing twice');

send_sms($new, 2, body => 'sent after');
wait_until { messages_with($new, 'sent after', 'queued') == 1 } 10, 'new messages are sent';

TwilioTest::finish();
