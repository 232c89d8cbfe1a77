# On a standby nothing runs and nothing is sent; promoted, it goes on where the primary stopped.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $primary = new_cluster('primary', standin => $standin, streaming => 1);
wait_for_worker($primary);
configure($primary, $standin, 1);
is(as_user($primary, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'the primary works');

$primary->backup('base');
is(sprintf('%04o', (stat $primary->backup_dir . '/base/pg_twilio.key')[2] & 07777), '0600', 'a base backup carries the key file, with its mode');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
chmod 0600, $standby->data_dir . '/pg_twilio.key';    # the framework copies without modes
$standby->start;
configure($primary, $standin, 2);
$primary->wait_for_catchup($standby);

my $sent = $standin->stats->{requests};
is(run_sql($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ 'pg_twilio'")->{out}, '0', 'nothing of pg_twilio runs on a standby');
is(as_user($standby, 1, 'SELECT account_sid, is_verified FROM twilio_settings')->{out}, account_sid(1) . '|t', 'a standby shows the settings');
is(as_user($standby, 1, 'SELECT * FROM twilio_verify()')->{state}, '25006', 'twilio_verify() fails with 25006 there');
is(as_user($standby, 1, 'SELECT * FROM twilio_phone_numbers()')->{state}, '25006', '... and so does twilio_phone_numbers()');
is(run_sql($standby, 'SELECT twilio_rotate_key()', role => 'twilio_admin')->{state}, '25006', '... and twilio_rotate_key()');
is(as_user($standby, 3, 'SELECT * FROM twilio_verify()')->{state}, '25006', '... also for a user without settings');
my $status = run_sql($standby, 'SELECT running, reason FROM twilio_status');
is($status->{out}, 'f|this server is a standby', 'twilio_status says what this is') or diag($status->{error});
is($standin->stats->{requests}, $sent, 'and nothing was sent');

$primary->stop;
$standby->promote;
wait_for_worker($standby, 'postgres', 10, 'promotion starts the worker');
is(as_user($standby, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'a token that was sealed on the primary opens');
is(as_user($standby, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... also one that came by streaming');
is(run_sql($standby, 'SELECT armed FROM twilio_status')->{out}, 't', 'a failover keeps it armed');

TwilioTest::finish();
