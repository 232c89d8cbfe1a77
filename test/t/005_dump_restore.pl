# A dump restored into another cluster is the same, opens with the key file, and sends nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $original = new_cluster('original', standin => $standin);
wait_for_worker($original);

configure($original, $standin, 1, friendly_name => 'First', numbers => 3);
configure($original, $standin, 2, keys => [ { sid => 'SK' . '2' x 32, secret => 's' x 32 } ]);
my $prepared = as_user($original, 1, "SELECT verified FROM twilio_verify(); SELECT count(*) FROM twilio_phone_numbers();
	UPDATE twilio_settings SET phone_number = '+15005550006', sms_enabled = false");
is($prepared->{out}, "t\n3", 'the original works');
as_user($original, 2, "UPDATE twilio_settings SET api_key_sid = 'SK" . '2' x 32 . "', api_key_secret = '" . 's' x 32 . "'");
is(as_user($original, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... for a user with an API key too');
run_sql($original, "INSERT INTO twilio_role_map VALUES ('someone', '" . user_id(1) . "')");
is(run_sql($original, 'SELECT armed FROM twilio_status')->{out}, 't', 'the first token armed it');

my @tables = qw(twilio_settings twilio_numbers twilio_audit_log twilio_role_map twilio_private.credential twilio_private.arming);

sub catalog
{
	my ($node, $db) = @_;
	return $node->safe_psql($db, <<'END');
SELECT relname, relacl, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname ~ '^twilio' ORDER BY 1;
SELECT proname, proacl, prosecdef FROM pg_proc WHERE proname ~ '^twilio' ORDER BY 1;
SELECT polrelid::regclass, polname, pg_get_expr(polqual, polrelid) FROM pg_policy ORDER BY 1, 2;
END
}

my $dir = PostgreSQL::Test::Utils::tempdir('dump');
my $expected = table_contents($original, 'postgres', @tables);
isnt($expected->{$_}, '', "$_ has something to dump") for @tables;

my $copy = new_cluster('copy', standin => $standin, extension => 0);
$copy->stop;
copy($original->data_dir . '/pg_twilio.key', $copy->data_dir . '/pg_twilio.key') or die;
chmod 0600, $copy->data_dir . '/pg_twilio.key';
$copy->start;

for my $format (qw(plain custom))
{
	my $db = "restored_$format";
	my $dump = "$dir/$format";
	my $sent = $standin->stats->{requests};
	$original->command_ok([ 'pg_dump', "--format=$format", '-f', $dump, '-d', $original->connstr('postgres') ], "pg_dump writes a $format dump");
	$copy->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0");
	my @restore = $format eq 'plain' ? ('psql', '-X', '-v', 'ON_ERROR_STOP=1', '-f', $dump) : ('pg_restore', '--exit-on-error', $dump);
	$copy->command_ok([ @restore, '-d', $copy->connstr($db) ], "a $format dump is restored without an error");
	is_deeply(table_contents($copy, $db, @tables), $expected, '... and all rows are as they were');
	is(catalog($copy, $db), catalog($original, 'postgres'), '... and so are rights and policies');
	wait_for_worker($copy, $db, 10, '... and a worker runs there');
	is(as_user($copy, 1, 'SELECT is_verified, phone_number, sms_enabled FROM twilio_settings', db => $db)->{out}, 't|+15005550006|f',
		'verified stays verified');

	my $status = run_sql($copy, 'SELECT armed, reason, hint FROM twilio_status', db => $db);
	like($status->{out}, qr/^f\|.*copy.*\|.*twilio_arm/, 'a restored database is disarmed and says why');
	is($standin->stats->{requests}, $sent, '... and has sent nothing');
	is(as_user($copy, 1, 'SELECT verified FROM twilio_verify()', db => $db)->{out}, 't', 'the tokens open with the key file');
	is(as_user($copy, 2, 'SELECT verified FROM twilio_verify()', db => $db)->{out}, 't', '... the API keys too');
	as_user($copy, 1, sprintf("UPDATE twilio_settings SET auth_token = '%s'", token(1)), db => $db);
	is(run_sql($copy, 'SELECT armed FROM twilio_status', db => $db)->{out}, 'f', 'a token that is stored there does not arm it');
	ok(run_sql($copy, 'SELECT twilio_arm()', db => $db, role => 'twilio_admin')->{ok}, 'an administrator');
	is(run_sql($copy, 'SELECT armed FROM twilio_status', db => $db)->{out}, 't', '... arms it');
}

# ---- without the key file -----------------------------------------------------------------------

my $keyless = new_cluster('keyless', standin => $standin, extension => 0);
$keyless->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain", '-d', $keyless->connstr('postgres') ],
	'a dump is restored where the key file is not');
wait_for_worker($keyless);
my $result = as_user($keyless, 1, 'SELECT * FROM twilio_verify()');
isnt($result->{state}, '', 'without the key a token cannot be opened');
like($result->{error}, qr/pg_twilio\.key/, '... and the error names the file');
is_deeply(table_contents($keyless, 'postgres', @tables)->{'twilio_private.credential'}, $expected->{'twilio_private.credential'}, '... and nothing is destroyed');

# ---- data only, into a database that has the extension --------------------------------------------

create_database($copy, 'data_only');
$original->command_ok([ 'pg_dump', '--data-only', '--format=custom', '-f', "$dir/data", '-d', $original->connstr('postgres') ], 'pg_dump writes the data alone');
$copy->command_ok([ 'pg_restore', '--data-only', '--exit-on-error', '-d', $copy->connstr('data_only'), "$dir/data" ], '... and it is restored beside an extension that is there');
is_deeply(table_contents($copy, 'data_only', @tables), $expected, '... with all rows as they were');

TwilioTest::finish();
