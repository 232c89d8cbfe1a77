# Three servers under Patroni with etcd, all on the loopback interface, under load: the leader is changed in an
# orderly way and dies with all its processes, turn about. With synchronous replication the stand-in's ledger and
# the table agree in the end: no message that was committed is lost, none is sent twice, and a former leader is silent.
#
# ROUNDS (half of them switchovers, half of them deaths) and MESSAGES (all rounds together) say how long.
# SYNCHRONOUS=off measures asynchronous replication instead; what is lost or doubled is told, not judged.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t/lib";
use TwilioTest;
use TwilioTest::Messages;
use JSON::PP;
use HTTP::Tiny;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC usleep);

my $rounds = $ENV{ROUNDS} || 4;
my $messages = $ENV{MESSAGES} || 4000;
my $synchronous = ($ENV{SYNCHRONOUS} // 'on') ne 'off';
my $tenants = 4;
my $each = int($messages / $rounds / $tenants) || 1;    # messages of one tenant in one round
my $dir = PostgreSQL::Test::Utils::tempdir('patroni');
my $http = HTTP::Tiny->new(timeout => 60);
my %process;    # by name: the pid of what this test has started

# The server that takes writes, whichever it is.
package Leader
{
	our @ISA = ('PostgreSQL::Test::Cluster');
	sub connstr
	{
		my ($self, $dbname) = @_;
		return sprintf "host=%s port=%s dbname=%s target_session_attrs=read-write connect_timeout=3",
		  join(',', map { $_->host } @{ $self->{members} }), join(',', map { $_->port } @{ $self->{members} }), $dbname;
	}
	sub host { return $_[0]{members}[0]->host }
	sub port { return $_[0]{members}[0]->port }
}

sub start_process
{
	my ($name, @command) = @_;
	my $log = "$PostgreSQL::Test::Utils::log_path/$name.log";
	my $pid = fork // die $!;
	if (!$pid)
	{
		open STDOUT, '>>', $log;
		open STDERR, '>&', \*STDOUT;
		exec(@command) or POSIX::_exit(1);
	}
	$process{$name} = $pid;
	return;
}

sub end_process
{
	my ($name, $signal) = @_;
	my $pid = delete $process{$name} or return;
	kill $signal => $pid;
	waitpid $pid, 0;
	return;
}

sub slurp { my ($file) = @_; return -e $file ? slurp_file($file) : '' }

# ---- etcd and the members -----------------------------------------------------------------------------

my $standin = start_standin('--no-validate');
my ($etcd, $etcd_peers) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 2;
start_process('etcd', 'etcd', '--name', 'one', '--data-dir', "$dir/etcd",
	'--listen-client-urls', "http://127.0.0.1:$etcd", '--advertise-client-urls', "http://127.0.0.1:$etcd",
	'--listen-peer-urls', "http://127.0.0.1:$etcd_peers", '--initial-advertise-peer-urls', "http://127.0.0.1:$etcd_peers",
	'--initial-cluster', "one=http://127.0.0.1:$etcd_peers");
wait_until { $http->get("http://127.0.0.1:$etcd/health")->{success} } 30, 'etcd is there';

my %settings = (
	shared_preload_libraries => 'pg_twilio',
	max_connections => 50,
	wal_log_hints => 'on',
	'twilio.ca_file' => $standin->{ca},
	'twilio.connect_to' => "127.0.0.1:$standin->{port}",
	'twilio.request_timeout' => '2s',
	'twilio.reconcile_after' => '1s',
	'twilio.log_requests' => 'on');

sub configuration
{
	my ($member) = @_;
	my $trust = [ 'local all all trust', 'local replication all trust', 'host all all 127.0.0.1/32 trust', 'host replication all 127.0.0.1/32 trust' ];
	my %user = (username => getpwuid($<) . '');
	return {
		scope => 'twilio',
		name => $member->name,
		restapi => { listen => "127.0.0.1:$member->{api}", connect_address => "127.0.0.1:$member->{api}" },
		etcd3 => { host => "127.0.0.1:$etcd" },
		bootstrap => {
			dcs => {
				ttl => 20, loop_wait => 1, retry_timeout => 3,
				synchronous_mode => $synchronous ? JSON::PP::true : JSON::PP::false,
				postgresql => { use_pg_rewind => JSON::PP::true, use_slots => JSON::PP::true, parameters => \%settings } },
			initdb => [ { encoding => 'UTF8' }, { locale => 'C.UTF-8' } ] },
		postgresql => {
			listen => '127.0.0.1:' . $member->port,
			connect_address => '127.0.0.1:' . $member->port,
			data_dir => $member->data_dir,
			pgpass => "$dir/" . $member->name . '.pgpass',
			use_unix_socket => JSON::PP::true,
			authentication => { superuser => \%user, replication => \%user, rewind => \%user },
			pg_hba => $trust,
			parameters => { unix_socket_directories => $member->host, log_line_prefix => '%m [%p] ' } } };
}

my @members = map { PostgreSQL::Test::Cluster->new("member$_") } 1 .. 3;
for my $member (@members)
{
	$member->{api} = PostgreSQL::Test::Cluster::get_free_port();
	append_to_file("$dir/" . $member->name . '.json', encode_json(configuration($member)));
}
my $leader = bless { %{ $members[0] }, members => \@members }, 'Leader';

sub start_member { my ($member) = @_; start_process($member->name, 'patroni', "$dir/" . $member->name . '.json'); return }
sub state_of { my ($member) = @_; my $answer = $http->get("http://127.0.0.1:$member->{api}/patroni"); return $answer->{status} == 599 ? {} : eval { decode_json($answer->{content}) } // {} }
sub is_leader { my ($member) = @_; return $http->get("http://127.0.0.1:$member->{api}/leader")->{success} }
sub leading { return (grep { is_leader($_) } @members)[0] }
# Replicas that stream; one of them synchronous, where that is asked for.
sub complete
{
	my $leading = leading() or return 0;
	my $standbys = eval { $leading->safe_psql('postgres', "SELECT count(*) FILTER (WHERE state = 'streaming') >= 2 AND (NOT bool_or(sync_state = 'sync') = NOT " . ($synchronous ? 'true' : 'false') . ') FROM pg_stat_replication') } // '';
	return $standbys eq 't' && (!$synchronous || $http->get("http://127.0.0.1:$leading->{api}/cluster")->{content} =~ /"sync_standby"/); # Patroni's note follows
}
sub log_of { my ($member) = @_; return "$PostgreSQL::Test::Utils::log_path/" . $member->name . '.log' }
sub processes_of_twilio { my ($member) = @_; return $member->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_twilio%'") }

start_member($members[0]);
wait_until { is_leader($members[0]) } 60, 'the first member leads';
start_member($_) for @members[ 1, 2 ];
wait_until { complete() } 90, 'the others follow';

$leader->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE');
# The key file is not replicated: an administrator brings it to where the others expect it.
for my $member (@members[ 1, 2 ])
{
	append_to_file($member->data_dir . '/pg_twilio.key', slurp($members[0]->data_dir . '/pg_twilio.key')) unless -e $member->data_dir . '/pg_twilio.key';
	chmod 0600, $member->data_dir . '/pg_twilio.key';
}
wait_for_worker($leader, 'postgres');
enable_sending($leader, $standin, $_) for 1 .. $tenants;
$standin->behave('delay', ms => 50);

# ---- load ---------------------------------------------------------------------------------------------------

# A client that writes its rows in small transactions at whichever server leads, and repeats each until it is told that
# it was committed.
sub start_client
{
	my ($round, $n) = @_;
	my $pid = fork // die $!;
	return $pid if $pid;
	open STDERR, '>', "$dir/client.$round.$n";
	for (my $from = 1; $from <= $each; $from += 10)
	{
		my $to = $from + 9 > $each ? $each : $from + 9;
		my $insert = "SET ROLE twilio_user; SET twilio.user_id = '" . user_id($n) . "';\n"
		  . "INSERT INTO twilio_messages (to_number, body) SELECT '+1202555' || (1000 + i % 40), 'round $round/$n/' || i FROM generate_series($from, $to) i"
		  . " WHERE NOT EXISTS (SELECT FROM twilio_messages m WHERE m.body = 'round $round/$n/' || i)";
		usleep(100_000) until system('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-c', $insert, '-d', $leader->connstr('postgres')) == 0;
	}
	POSIX::_exit(0);
}

# The death of a machine: Patroni and the server at once, without a word.
sub kill_member
{
	my ($member) = @_;
	my ($postmaster) = split /\n/, slurp($member->data_dir . '/postmaster.pid');
	kill KILL => $postmaster, $process{ $member->name };
	end_process($member->name, 'KILL');
	return;
}

my $started = clock_gettime(CLOCK_MONOTONIC);
my @pauses;
for my $round (1 .. $rounds)
{
	my $former = leading();
	my $dies = $round % 2 == 0;
	my $what = "round $round: " . $former->name . ($dies ? ' dies' : ' is switched over');
	my $before = accepted($standin);
	my @clients = map { start_client($round, $_) } 1 .. $tenants;
	wait_until { accepted($standin) - $before >= $each * $tenants / 4 } 120, "$what, under load";

	my $since = clock_gettime(CLOCK_MONOTONIC);
	if ($dies)
	{
		kill_member($former);
	}
	else
	{
		wait_until {
			my ($sync) = grep { ($_->{sync_state} // '') eq 'sync' } @{ state_of($former)->{replication} // [] };
			my ($to) = grep { $sync ? $_->name eq $sync->{application_name} : $_ != $former } @members;
			$http->post("http://127.0.0.1:$former->{api}/switchover", { content => encode_json({ leader => $former->name, candidate => $to->name }) })->{success};
		} 20, '... Patroni agrees';
	}
	wait_until { my $now = leading(); $now && $now != $former } 90, '... another member leads';
	my $so_far = accepted($standin);
	wait_until { accepted($standin) > $so_far } 60, '... and sends';
	push @pauses, sprintf '%s %.0f s', $dies ? 'death' : 'switchover', clock_gettime(CLOCK_MONOTONIC) - $since;

	my $offset = -s log_of($former);
	start_member($former) if $dies;
	waitpid $_, 0 for @clients;
	wait_until { complete() && defined eval { processes_of_twilio($former) } } 120, '... the former leader comes back as a standby';
	is(processes_of_twilio($former), 0, '... where nothing of pg_twilio runs');
	unlike(slurp_file(log_of($former), $offset), qr/twilio: POST/, '... and nothing was sent from there') if $dies;
}

# ---- the reckoning ------------------------------------------------------------------------------------------

wait_until { eval { $leader->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE kind IN ('message', 'message_look')") eq '0' } } 120, 'in the end nothing is queued or in doubt';
my $total = $each * $tenants * $rounds;
my $rows = $leader->safe_psql('postgres', 'SELECT count(*), count(sid) FROM twilio_messages');
my $ledger = $standin->control(GET => 'ledger/duplicates?method=POST&key=To,Body');
my $doubted = $leader->safe_psql('postgres', "SELECT count(DISTINCT message_id) FROM twilio_message_events WHERE status = 'unknown'");
diag(sprintf '%s replication, %d rounds, %d messages in %.0f s: %s rows|with SID, %d at Twilio, %d doubled, %d were looked up; until the next leader sent: %s',
	$synchronous ? 'synchronous' : 'asynchronous', $rounds, $total, clock_gettime(CLOCK_MONOTONIC) - $started, $rows, $ledger->{distinct}, $ledger->{extra}, $doubted, join ', ', @pauses);
if ($synchronous)
{
	is($rows, "$total|$total", 'all messages that were committed are there, each with a SID');
	is($ledger->{distinct}, $total, '... Twilio has each of them');
	is($ledger->{extra}, 0, '... and none twice');
}

end_process($_->name, 'TERM') for @members;
end_process('etcd', 'TERM');
TwilioTest::finish();

END { my $status = $?; kill TERM => values %process; waitpid $_, 0 for values %process; $? = $status }
