# What the server tests share: clusters with pg_twilio in them, sessions of tenants, waiting, workers.
#
# Built on PostgreSQL's own framework. Nothing here sleeps for a fixed time: wait_until() polls a
# condition and fails the test when its deadline passes.
package TwilioTest;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC usleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use TwilioTest::Standin;
use TwilioTest::Session;

our @EXPORT = qw(
  new_cluster create_database connect_session start_standin other_clock
  run_sql as_user table_contents configure user_id account_sid token
  wait_until takes_connections stops_within configured
  launcher_pid worker_pid wait_for_worker kill_worker wait_for_no_worker files_containing process_memory
);

my @standins;

# A stand-in for Twilio that ends with the test.
sub start_standin
{
	my $standin = TwilioTest::Standin->new(@_);
	push @standins, $standin;
	return $standin;
}

# The environment of a process that is to see another time than this test; %how is for libfaketime.
sub other_clock
{
	my (%how) = @_;
	my ($library) = glob '/usr/lib/*/faketime/libfaketimeMT.so.1';
	return (LD_PRELOAD => $library // BAIL_OUT('there is no libfaketime'), DONT_FAKE_MONOTONIC => 1, %how);
}

# The settings of a server that preloads pg_twilio and finds the stand-in where Twilio would be.
sub configuration
{
	my ($standin) = @_;
	my $conf = "shared_preload_libraries = 'pg_twilio'\nrestart_after_crash = on\nmax_connections = 100\n";
	$conf .= $standin->configuration if $standin;
	return $conf;
}

# A running cluster whose database `postgres` has the extension.
#   standin => the stand-in to use, conf => further settings, streaming => 1 for a standby's primary,
#   extension => 0 to leave the database empty, start => 0 to leave the server stopped,
#   install_path => another PostgreSQL than that of the PATH
sub new_cluster
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $options{install_path} ? (install_path => $options{install_path}) : ());
	$node->init(allows_streaming => $options{streaming} ? 1 : 0);
	$node->append_conf('postgresql.conf', configuration($options{standin}) . ($options{conf} // ''));
	return $node unless $options{start} // 1;
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE') if $options{extension} // 1;
	return $node;
}

sub create_database
{
	my ($node, @names) = @_;
	for my $name (@names)
	{
		$node->safe_psql('postgres', "CREATE DATABASE $name");
		$node->safe_psql($name, 'CREATE EXTENSION pg_twilio CASCADE');
	}
	return;
}

# Names that tests give to their tenants: the n-th user, account and token.
sub user_id { return sprintf '00000000-0000-7000-8000-%012x', shift }
sub account_sid { return sprintf 'AC%032x', shift }
sub token { return sprintf '%032x', 0xfeed0000 + shift }

# Runs SQL in a psql of its own. Returns a hash: out, state ('' or SQLSTATE), message, detail, hint,
# error (all of stderr), ok. db, role and user choose who runs it; within => the seconds after which a
# statement is cancelled.
sub run_sql
{
	my ($node, $sql, %options) = @_;
	my $prelude = "\\set VERBOSITY verbose\n";
	$prelude .= "SET ROLE $options{role};\n" if $options{role};
	$prelude .= "SET twilio.user_id = '$options{user}';\n" if $options{user};
	$prelude .= "SET statement_timeout = '$options{within}s';\n" if $options{within};
	$prelude .= $options{before} . ";\n" if $options{before};
	my ($out, $error) = ('', '');
	my $rc = $node->psql($options{db} // 'postgres', $prelude . $sql, stdout => \$out, stderr => \$error,
		on_error_stop => 1, timeout => $options{timeout} // 60);
	my %result = (
		out => $out,
		error => $error,
		ok => $rc == 0,
		state => '', message => '', detail => '', hint => '');
	@result{qw(state message)} = ($1, $2) if $error =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5}): (.*)/;
	$result{detail} = $1 if $error =~ /^DETAIL:\s+(.*)/m;
	$result{hint} = $1 if $error =~ /^HINT:\s+(.*)/m;
	return \%result;
}

# As a tenant does: with the rights of twilio_user and nothing else.
sub as_user
{
	my ($node, $n, $sql, %options) = @_;
	return run_sql($node, $sql, role => 'twilio_user', user => user_id($n), %options);
}

# The rows of tables, to be compared: a reference to a hash.
sub table_contents
{
	my ($node, $db, @tables) = @_;
	return { map { $_ => $node->safe_psql($db, "SELECT t FROM $_ t ORDER BY t::text") } @tables };
}

# Makes the n-th account known at the stand-in (with what else %account says) and stores it as the
# settings of the n-th user.
sub configure
{
	my ($node, $standin, $n, %account) = @_;
	my $db = delete $account{db};
	$standin->account({ sid => account_sid($n), token => token($n), %account }) if $standin;
	my $stored = as_user($node, $n, sprintf(
		"INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', '%s')", account_sid($n), token($n)),
		db => $db);
	BAIL_OUT("settings were not stored: $stored->{error}") unless $stored->{ok};
	return;
}

# A session that stays open: see TwilioTest::Session.
sub connect_session
{
	my ($node, %options) = @_;
	my $session = TwilioTest::Session->new($node, $options{db} // 'postgres');
	$session->run("SET ROLE $options{role}") if $options{role};
	$session->run("SET ROLE twilio_user; SET twilio.user_id = '" . user_id($options{user}) . "'") if $options{user};
	return $session;
}

# wait_until { condition } SECONDS, 'what is awaited': a test that passes once the condition holds.
# Returns what the condition returned.
sub wait_until (&$$)
{
	my ($condition, $deadline, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $end = clock_gettime(CLOCK_MONOTONIC) + $deadline;
	my $found;
	do
	{
		$found = $condition->();
		if ($found) { pass($what); return $found; }
		usleep(50_000);
	} while (clock_gettime(CLOCK_MONOTONIC) < $end);
	fail("$what (not within $deadline s)");
	return $found;
}

# Waits for a server that recovers. Where psql is refused before it has read the statement, poll_query_until dies.
sub takes_connections
{
	my ($node, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until { eval { $node->safe_psql('postgres', 'SELECT true') } } 60, $what;
}

# Changes a setting of the server, and waits until it holds.
sub configured
{
	my ($node, $name, $value) = @_;
	$node->append_conf('postgresql.conf', "$name = '$value'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT setting = '$value' FROM pg_settings WHERE name = '$name'") or die;
	return;
}

# A test that passes when a fast shutdown ends in time.
sub stops_within
{
	my ($node, $deadline, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	local $ENV{PGCTLTIMEOUT} = $deadline;
	return ok($node->stop('fast', fail_ok => 1), $what);
}

sub launcher_pid
{
	my ($node) = @_;
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio launcher'");
}

# The worker that is ready in a database, '' when there is none. Asked from template1, so that the
# question keeps no database busy.
sub worker_pid
{
	my ($node, $db) = @_;
	$db //= 'postgres';
	return $node->safe_psql('template1', "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'pg_twilio worker' AND datname = '$db' AND wait_event IN ('Extension', 'TwilioWorkerMain')");
}

sub wait_for_worker
{
	my ($node, $db, $deadline, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until { worker_pid($node, $db) } $deadline // 10, $what // "a worker runs in $db";
}

# Kills the worker, which takes the whole server down for a moment, and waits until another one runs.
sub kill_worker
{
	my ($node, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $killed = wait_for_worker($node, $db, 10, 'a worker is killed') or return;
	kill KILL => $killed;
	return wait_until { my $pid = eval { worker_pid($node, $db) }; $pid && $pid ne $killed } 30, '... and another one runs';
}

sub wait_for_no_worker
{
	my ($node, $db, $deadline, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until { worker_pid($node, $db) eq '' } $deadline // 10, $what // "no worker runs in $db";
}

# The files below a directory (or the file itself) that contain a string, as it is.
sub files_containing
{
	my ($string, @places) = @_;
	my ($out, $error);
	my @files = grep { -e } @places;
	return () unless @files;
	PostgreSQL::Test::Utils::run_log([ 'grep', '-rlaF', '-e', $string, @files ], '>', \$out, '2>', \$error);
	return split /\n/, $out;
}

# What a process can write to, of its memory; undef where the system does not show it.
sub process_memory
{
	my ($pid) = @_;
	open my $maps, '<', "/proc/$pid/maps" or return;
	open my $memory, '<:raw', "/proc/$pid/mem" or return;
	my $all = '';
	while (<$maps>)
	{
		next unless /^([0-9a-f]+)-([0-9a-f]+) rw/;
		no warnings 'portable';
		my ($from, $to) = (hex $1, hex $2);
		sysseek $memory, $from, 0;
		while ($from < $to)
		{
			my $got = sysread $memory, my $part, ($to - $from > 1 << 20 ? 1 << 20 : $to - $from);
			last unless $got;
			$all .= $part;
			$from += $got;
		}
	}
	return $all;
}

# What every test that used a stand-in has promised: nothing it said differs from Twilio's OpenAPI.
sub finish
{
	for my $standin (@standins)
	{
		is_deeply($standin->mismatches, [], 'requests and answers are as in the OpenAPI document of Twilio');
		$standin->stop;
	}
	Test::More::done_testing();
	return;
}

1;
