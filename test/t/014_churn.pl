# Databases and extensions that come and go faster than workers start: never two workers for one
# database, none where there is no extension, and nobody waits for a worker that does not leave.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('main', extension => 0, conf => "max_worker_processes = 16\ntwilio.poll_interval = 1s\n");

# Databases with more than one worker, ever.
my %crowded;
sub look
{
	my $found = $node->safe_psql('template1', "SELECT datname || ' ' || count(*) FROM pg_stat_activity
		WHERE backend_type = 'pg_twilio worker' AND datname IS NOT NULL GROUP BY datname HAVING count(*) > 1");
	$crowded{$found}++ if $found;
	return;
}

my @create = ('CREATE EXTENSION pg_twilio CASCADE', 'DROP EXTENSION pg_twilio');
my %churn = (
	'create and drop in one session' => join('; ', @create),
	'create, drop and create' => join('; ', @create, $create[0]),
	'drop rolled back' => "$create[0]; BEGIN; $create[1]; ROLLBACK",
	'drop and create in a transaction' => "$create[0]; BEGIN; $create[1]; $create[0]; COMMIT",
	'create rolled back' => "BEGIN; $create[0]; ROLLBACK",
	'five times' => join('; ', (@create) x 5));
for my $round (1 .. 3)
{
	for my $what (sort keys %churn)
	{
		$node->safe_psql('template1', 'CREATE DATABASE churn');
		my $done = run_sql($node, $churn{$what}, db => 'churn');
		ok($done->{ok}, "round $round, $what") or diag($done->{error});
		look();
		my $has = run_sql($node, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_twilio'", db => 'churn')->{out};
		if ($round > 1)
		{
			wait_until { $node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker' AND datname = 'churn'") eq $has } 15,
			  $has ? '... there is one worker' : '... there is no worker';
		}
		look();
		my $dropped = run_sql($node, 'DROP DATABASE churn', db => 'template1', within => 5);
		ok($dropped->{ok}, '... and the database can be dropped within 5 s') or diag($dropped->{error});
	}
}
wait_until { $node->safe_psql('template1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker'") eq '0' } 10, 'no worker is left';
$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE');
wait_for_worker($node, 'postgres', 10, 'and a database that stays has its worker');
for my $mode (qw(fast immediate fast))
{
	$node->stop($mode);
	$node->start;
	my $first = wait_for_worker($node, 'postgres', 10, "after a restart ($mode) there is a worker");
	my $looks = 0;
	wait_until { look(); ++$looks == 40 } 30, '... and for a while';
	is($node->safe_psql('template1', "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker'"), $first, '... it is the only one');
}
is(join(', ', sort keys %crowded), '', 'never has a database had two workers');
unlike(slurp_file($node->logfile), qr/no background worker is free/, 'there was a free slot at any time');
TwilioTest::finish();
