# Without shared_preload_libraries nothing runs, and whatever needs the worker or the key file names the line to add;
# without a process for the launcher neither.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE');

my $line = qr/shared_preload_libraries = 'pg_twilio'/;
my $store = sprintf "INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', '%s')", account_sid(1), token(1);
for my $call ('SELECT * FROM twilio_verify()', 'SELECT * FROM twilio_phone_numbers()', $store)
{
	my $result = as_user($node, 1, $call);
	isnt($result->{state}, '', "refused: $call");
	like($result->{hint}, $line, '... with the line to add');
}
like(run_sql($node, 'SELECT twilio_rotate_key()', role => 'twilio_admin')->{hint}, $line, 'so is twilio_rotate_key()');
like(as_user($node, 1, 'SELECT hint FROM twilio_status')->{out}, $line, 'twilio_status names it too');
is(as_user($node, 1, 'SELECT count(*) FROM twilio_settings')->{out}, '0', 'the tables can be read');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_twilio'\nmax_worker_processes = 0");
$node->restart;
like(as_user($node, 1, 'SELECT reason, hint FROM twilio_status')->{out}, qr/not running: starting\|.*raise max_worker_processes/,
	'where the launcher finds no process, twilio_status says what to raise');

TwilioTest::finish();
