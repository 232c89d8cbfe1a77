# The launcher and its workers come, go and come back as databases, extensions and processes do.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, extension => 0, conf => "max_worker_processes = 16\nmax_prepared_transactions = 1\n");

# ---- CREATE and DROP EXTENSION ----------------------------------------------------------------

wait_until { launcher_pid($node) } 10, 'the launcher runs';
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_twilio launcher'"),
	'1', 'there is one launcher');
wait_for_no_worker($node, 'postgres', 5, 'a database without the extension has no worker');

$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE');
wait_for_worker($node, 'postgres', 5, 'create extension starts a worker without a restart');

$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION pg_twilio; ROLLBACK');
wait_for_worker($node, 'postgres', 5, 'a drop extension that is rolled back leaves a worker');

$node->safe_psql('postgres', 'DROP EXTENSION pg_twilio');
wait_for_no_worker($node, 'postgres', 5, 'drop extension ends the worker');

$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION pg_twilio; ROLLBACK');
wait_for_no_worker($node, 'postgres', 5, 'a create extension that is rolled back starts none');

$node->safe_psql('postgres', "BEGIN; CREATE EXTENSION pg_twilio; PREPARE TRANSACTION 'it'");
wait_for_no_worker($node, 'postgres', 5, 'a create extension that is prepared starts none');
$node->safe_psql('postgres', "COMMIT PREPARED 'it'");
wait_for_worker($node, 'postgres', 5, '... but when it is committed');
$node->safe_psql('postgres', "BEGIN; DROP EXTENSION pg_twilio; PREPARE TRANSACTION 'it'");
$node->safe_psql('postgres', "COMMIT PREPARED 'it'");
wait_for_no_worker($node, 'postgres', 5, '... and a drop extension ends it likewise');

my $log_before = -s $node->logfile;
# DDL that waited for a worker would be cancelled.
my $cycles = run_sql($node, "DROP EXTENSION IF EXISTS pg_twilio;\n" . "CREATE EXTENSION pg_twilio; DROP EXTENSION pg_twilio;\n" x 50, within => 5, timeout => 120);
ok($cycles->{ok}, 'create and drop extension work 50 times in a row, none longer than 5 s') or diag($cycles->{error});
$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio');
wait_for_worker($node, 'postgres', 10, 'a worker runs after that');
my $said = substr(slurp_file($node->logfile), $log_before);
unlike($said, qr/PANIC|terminated by signal|server process .* was terminated/, 'no process crashed meanwhile');

$node->safe_psql('postgres', "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
isnt(run_sql($node, 'CREATE EXTENSION pg_twilio CASCADE', db => 'latin')->{state}, '', 'a database that cannot hold the mask is refused');

# ---- several databases ------------------------------------------------------------------------

create_database($node, 'one', 'two', 'three');
wait_for_worker($node, $_, 5, "database $_ has its worker") for qw(one two three);
configure($node, $standin, 1, db => 'two');
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()', db => 'two')->{out}, 't',
	'a question asked in a database is answered by its worker');

sub reported { my ($db) = @_; return $node->safe_psql($db, 'SELECT asks_answered, last_error FROM twilio_private.worker_stats()') }
create_database($node, 'noisy');
configure($node, $standin, 1, db => 'noisy');
$standin->behave('drop-before', times => 10);
isnt(as_user($node, 1, 'SELECT twilio_verify()', db => 'noisy')->{ok}, 1, 'a question that fails ...');
$standin->calm;
like(reported('noisy'), qr/^1\|./, '... is reported in its database');
kill TERM => wait_for_worker($node, 'noisy');
wait_until { reported('noisy') =~ /^1\|./ && worker_pid($node, 'noisy') } 10, '... also when its worker is another';
$node->safe_psql('template1', 'DROP DATABASE noisy');
create_database($node, 'quiet');
wait_for_worker($node, 'quiet');
is(reported('quiet'), '0|', '... and not in one that comes after it');

# ---- kills ------------------------------------------------------------------------------------

for my $signal (qw(TERM KILL))
{
	my $pid = worker_pid($node, 'one');
	$node->safe_psql('postgres', 'CHECKPOINT');
	kill $signal, $pid;
	# After SIGKILL PostgreSQL itself recovers first.
	takes_connections($node, "the server takes connections after a worker's SIG$signal");
	wait_until { my $now = eval { worker_pid($node, 'one') }; $now && $now ne $pid } 10,
	  '... and the worker is back';
}
{
	my $locker = connect_session($node, db => 'one', role => 'twilio_user');
	$locker->send("SELECT pg_advisory_lock(x'7477696c696f'::bigint), pg_advisory_lock(x'7477'::int, x'696c696f'::int)");
	$node->poll_query_until('template1', 'SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = \'advisory\' AND pid = ' . $locker->pid . ')');
	my $pid = wait_for_worker($node, 'one');
	kill TERM => $pid;
	wait_until { my $now = worker_pid($node, 'one'); $now && $now ne $pid } 10, 'no advisory lock of a user keeps the worker out';
	$locker->quit;
}
for my $signal (qw(TERM KILL))
{
	my $pid = wait_until { eval { launcher_pid($node) } } 10, 'the launcher runs';
	kill $signal, $pid;
	takes_connections($node, "the server takes connections after the launcher's SIG$signal");
	wait_until { my $now = eval { launcher_pid($node) }; $now && $now ne $pid } 10,
	  "a launcher killed with SIG$signal is back";
	wait_until { eval { worker_pid($node, 'one') } } 10, '... and so is the worker';
}

# ---- a busy worker does not block what needs the database for itself ----------------------------

$standin->behave('hang', match => { method => 'GET' });
configure($node, $standin, $_, db => 'one') for 1 .. 10;
my @waiting;

sub ask_slowly
{
	my ($db) = @_;
	for my $n (1 .. 10)
	{
		my $session = connect_session($node, db => $db, user => $n);
		$session->send("SET twilio.ask_timeout = '60s'; SELECT verified FROM twilio_verify()");
		push @waiting, $session;
	}
	wait_until { $standin->stats->{in_flight} >= 10 } 15, "ten slow questions are open in $db";
	return;
}

sub end_sessions
{
	kill TERM => map { $_->pid } @waiting;
	$_->quit for @waiting;
	@waiting = ();
	return;
}

ask_slowly('one');
my $forced = run_sql($node, 'DROP DATABASE one WITH (FORCE)', db => 'template1', within => 5);
ok($forced->{ok}, 'drop database with force succeeds within 5 s while questions are open') or diag($forced->{error});
end_sessions();

configure($node, $standin, $_, db => 'three') for 1 .. 10;
ask_slowly('three');
end_sessions();    # the sessions end; the worker may still be busy with their requests
for my $case (
	[ 'CREATE DATABASE copy TEMPLATE three', 'use as a template' ],
	[ 'ALTER DATABASE three RENAME TO renamed', 'rename database' ],
	[ 'DROP DATABASE renamed', 'drop database' ])
{
	my ($statement, $what) = @$case;
	# Sessions that were terminated need a moment to be gone; that is not the worker's doing.
	$node->poll_query_until('template1',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname IN ('three', 'renamed')");
	my $done = run_sql($node, $statement, db => 'template1', within => 5);
	ok($done->{ok}, "$what is not blocked by the worker for 5 s") or diag($done->{error});
	wait_for_worker($node, 'renamed', 10, 'the renamed database has a worker') if $statement =~ /RENAME/;
}
wait_for_worker($node, 'copy', 10, 'the copy of a database with the extension has a worker');

$node->safe_psql('postgres', 'ALTER DATABASE copy IS_TEMPLATE true; CREATE ROLE maker CREATEDB; CREATE ROLE other');
my $made = run_sql($node, 'CREATE DATABASE made TEMPLATE copy', db => 'template1', role => 'maker', within => 5);
ok($made->{ok}, 'a database that is marked as a template can be copied by others than its owner') or diag($made->{error});
my $kept = wait_for_worker($node, 'copy');
is(run_sql($node, 'CREATE DATABASE made TEMPLATE copy', db => 'template1', role => 'other')->{state}, '42501', '... who may create databases');
is(worker_pid($node, 'copy'), $kept, '... and nobody else sends its worker away');
$node->safe_psql('postgres', 'ALTER DATABASE copy IS_TEMPLATE false');

$standin->calm;
my $aborted = run_sql($node, 'DROP DATABASE nowhere_to_be_found', db => 'template1');
is($aborted->{state}, '3D000', 'a drop database that fails fails as it always did');
my $in_use = connect_session($node, db => 'copy');
is(run_sql($node, 'DROP DATABASE copy', db => 'template1')->{state}, '55006', 'a session still keeps its database from being dropped');
wait_for_worker($node, 'copy', 10, '... and the worker is back after that');
$in_use->quit;

# ---- shutdown ---------------------------------------------------------------------------------

$standin->behave('hang', match => { method => 'GET' });
configure($node, $standin, $_, db => 'two') for 2 .. 10;
ask_slowly('two');
stops_within($node, 10, 'fast shutdown takes less than 10 s with questions open');
$_->quit for @waiting;
$standin->calm;
$node->start;
wait_for_worker($node, 'two', 10, 'workers are back after a restart');

$node->safe_psql('postgres', "BEGIN; ALTER DATABASE two RENAME TO second; PREPARE TRANSACTION 'it'");
wait_until { $node->safe_psql('postgres', 'SELECT count(*) FROM pg_locks WHERE NOT granted') == 1 } 10, 'a worker waits for a database that somebody is renaming';
stops_within($node, 10, '... which holds up no shutdown');
$node->start;
$node->safe_psql('postgres', "COMMIT PREPARED 'it'");
wait_for_worker($node, 'second', 10, '... and has it in the end');

# ---- no room ----------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', 'max_worker_processes = 3');
my $offset = -s $node->logfile;
$node->restart;
create_database($node, map { "crowd$_" } 1 .. 3);
wait_until { slurp_file($node->logfile, $offset) =~ /no background worker is free.*?HINT:.*?max_worker_processes/s } 10,
  'a database without a free worker slot is named in a warning, with the setting to raise';
is(scalar(() = slurp_file($node->logfile) =~ /no background worker is free/g), 1, '... said once');
$node->safe_psql('postgres', "CREATE DATABASE passing;\nDROP DATABASE passing;\n" x 64);
create_database($node, 'last');
wait_until { $node->safe_psql('last', 'SELECT state FROM twilio_private.worker_stats()') eq 'no worker slot' } 10,
  'databases that are gone leave their places to others';

TwilioTest::finish();
