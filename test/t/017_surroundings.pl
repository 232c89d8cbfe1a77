# What a server may have otherwise than those of the other tests: few processes, settings of a database that reach the
# worker, Turkish letters, an owner who has lost the rights.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin('--no-validate');
# One process is left for all databases; the others are the launcher and that of logical replication.
my $node = new_cluster('main', standin => $standin, extension => 0, conf => "max_worker_processes = 3\ntwilio.poll_interval = 1h\n");
$node->safe_psql('postgres', 'CREATE ROLE owner SUPERUSER LOGIN');
my $turkish = $node->pg_version < 15 ? '' : q{LOCALE_PROVIDER icu ICU_LOCALE 'tr'};
$node->safe_psql('postgres', "CREATE DATABASE crm TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' $turkish");
$node->safe_psql('crm', 'CREATE EXTENSION pg_twilio CASCADE', extra_params => [ '-U', 'owner' ]);
sub crm { my ($sql) = @_; return run_sql($node, $sql, db => 'crm', before => 'RESET ROLE') }
sub goes_out
{
	my ($body, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $id = send_sms($node, 1, body => $body, db => 'crm');
	wait_until { as_user($node, 1, "SELECT sid IS NOT NULL FROM twilio_messages WHERE id = '$id'", db => 'crm')->{out} eq 't' } 10, $what;
	return $id;
}

# ---- one process --------------------------------------------------------------------------------------

for (1 .. 3)
{
	$node->restart;
	wait_for_worker($node, 'crm', 5, 'where one process is left, databases without the extension do not keep it');
}
enable_sending($node, $standin, 1, db => 'crm');
goes_out('usual', '... and messages are sent');

my $launcher = launcher_pid($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($launcher)") for 1 .. 3;
$node->safe_psql('postgres', 'CREATE DATABASE another; DROP DATABASE another' =~ s/; /;\n/r);
is(launcher_pid($node), $launcher, 'the launcher has nothing to cancel');

# ---- settings of the database -------------------------------------------------------------------------

$node->safe_psql('postgres', "ALTER DATABASE crm SET $_")
  for 'role = twilio_webhook', q{default_transaction_isolation = 'serializable'}, 'enable_nestloop = off', 'enable_indexscan = off',
  q{DateStyle = 'German'}, q{IntervalStyle = 'sql_standard'}, q{TimeZone = 'America/St_Johns'}, 'bytea_output = escape', 'extra_float_digits = -15',
  'standard_conforming_strings = off', 'array_nulls = off', 'transform_null_equals = on', q{statement_timeout = '30ms'}, q{work_mem = '64kB'}, 'temp_file_limit = 0';
kill TERM => worker_pid($node, 'crm');
wait_for_worker($node, 'crm', 10, 'a database has settings of its own');
{
	local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c temp_file_limit=-1'; # for the sessions of this test
	goes_out('beside them', '... and its worker its own');
	as_user($node, 1, "INSERT INTO twilio_messages (to_number, body) SELECT '+12025550199', 'much ' || repeat(chr(128512), 790) FROM generate_series(1, 40)", db => 'crm');
	wait_until { as_user($node, 1, "SELECT count(sid) FROM twilio_messages WHERE body LIKE 'much %'", db => 'crm')->{out} == 40 } 10, '... and room for what it claims';
}
$node->safe_psql('postgres', 'ALTER DATABASE crm RESET ALL');

# ---- Turkish letters ----------------------------------------------------------------------------------

sub says
{
	my ($word, $n) = @_;
	my ($body, $signature) = signed_form(token(1), webhook_url(), AccountSid => account_sid(1), MessageSid => sprintf('SM%032x', $n),
		From => '+12025550177', To => number_of(1), Body => $word);
	run_sql($node, "SELECT twilio_handle_webhook('" . webhook_url() . "', '$body', '$signature')", db => 'crm', role => 'twilio_webhook');
	return as_user($node, 1, "SELECT opted_in_at IS NULL FROM twilio_opt_outs WHERE phone_number = '+12025550177'", db => 'crm')->{out};
}
SKIP:
{
	skip 'PostgreSQL 14 has no ICU locale for a database', 1 if !$turkish;
	is(crm(q{SELECT upper('i') = 'I'})->{out}, 'f', 'the letters of the database are Turkish');
}
my $n = 0;
for my $word (qw(quit unsubscribe))
{
	is(says($word, ++$n), 't', "whoever says $word gets no more messages");
	is(says('start', ++$n), 'f', '... until they say start');
}

# ---- the owner ----------------------------------------------------------------------------------------

$node->safe_psql('postgres', 'ALTER ROLE owner NOSUPERUSER');
like(as_user($node, 1, 'SELECT reason, hint FROM twilio_status', db => 'crm')->{out}, qr/owner.*superuser.*\|.*ALTER ROLE owner SUPERUSER/,
	'an owner who is no superuser any more is named as what is wrong');
$node->safe_psql('postgres', 'ALTER ROLE owner SUPERUSER');
goes_out('owned again', '... and when it is one again, messages are sent');

# ---- encodings ----------------------------------------------------------------------------------------

$node->safe_psql('postgres', "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'");
my $refused = run_sql($node, 'CREATE EXTENSION pg_twilio CASCADE', db => 'bytes');
is($refused->{state}, '0A000', 'a database that does not know its encoding is refused');
like($refused->{hint}, qr/UTF8/, '... and the hint says which is needed');

TwilioTest::finish();
