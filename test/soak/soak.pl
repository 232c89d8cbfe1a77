# Many tenants send, ask and receive for minutes or hours, while Twilio misbehaves, everything is killed in turn, and
# another database makes and drops the extension: `make soak`. It ends with a table of what was tried, what it cost, and
# what was lost or doubled, by comparing what clients were told, what the tables say, and the ledger of the stand-in.
#
# MINUTES (of load; waiting for the end of the queue comes on top), RATE (messages a second), BATCH (messages of one
# INSERT), TENANTS, CRASHES, FAIR (seconds of fair weather between two troubles at Twilio), SEED, HTTP1=1 (no HTTP/2).
# Samples of memory, descriptors and sizes are left in soak.tsv beside the server's log.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t/lib";
use TwilioTest;
use TwilioTest::Chaos;
use TwilioTest::Messages;
use List::Util qw(max shuffle sum0);
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $minutes = $ENV{MINUTES} || 5;
my $rate = $ENV{RATE} || 100;
my $tenants = $ENV{TENANTS} || 20;
my $crashes = $ENV{CRASHES} || 20;
my $seed = $ENV{SEED} || int time;
my $senders = 4;       # processes, each with its share of the tenants
my $batch = $ENV{BATCH} || 20;
my $fair = $ENV{FAIR} || 0;
my $other = 999;       # the tenant of the other database
my $in_flight = 96;    # twilio.max_in_flight is changed, up to this
my $dir = PostgreSQL::Test::Utils::tempdir('clients');
srand $seed;
diag("$minutes minutes, $rate messages/s of $tenants tenants, $crashes crashes, SEED=$seed");

# In files the segments of dynamic shared memory can be counted. What is lost after request_timeout is looked for when
# the stand-in, too, has long read what was in its sockets.
my $standin = start_standin('--no-validate', $ENV{HTTP1} ? '--http1' : ());
my $node = new_cluster('main', standin => $standin, conf => <<END);
fsync = on
log_statement = none
log_autovacuum_min_duration = 0
autovacuum_naptime = 10s
dynamic_shared_memory_type = mmap
max_wal_size = 4GB
twilio.webhook_url = '@{[ webhook_url() ]}'
twilio.api_rate_limit = 0
twilio.request_timeout = 5s
twilio.reconcile_after = 10s
twilio.poll_interval = 5s
END
$node->safe_psql('postgres', 'CREATE DATABASE other');
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. $tenants;
$standin->account({ sid => account_sid($other), token => token($other), numbers => [ number_of($other) ] });
my $end = time + 60 * $minutes;

# ---- clients: processes that run script after script, whatever happens to the server ------------------

# psql prints a row only when its statement is committed, so what stands in a client's output was promised.
sub start_client
{
	my ($name, $script) = @_;
	my $pid = fork // die $!;
	return $pid if $pid;
	srand($seed + unpack '%32C*', $name);
	my $psql = join ' ', map { quotemeta } $node->installed_command('psql'), '-XAtq', '-d', $node->connstr($name eq 'churn' ? 'other' : 'postgres'), '-f', "$dir/$name.sql";
	for (my $n = 1; time < $end; $n++)
	{
		open my $sql, '>', "$dir/$name.sql" or POSIX::_exit(1);
		print $sql "\\set VERBOSITY verbose\n", $script->($n);
		close $sql;
		system("$psql >>$dir/$name.out 2>>$dir/$name.err");
		sleep 0.2 if $?;
	}
	POSIX::_exit(0);
}

sub tenant { my ($n) = @_; return "RESET ROLE;\nSET ROLE twilio_user;\nSET twilio.user_id = '" . user_id($n) . "';\n" }

# Sends as each of the tenants in turn, takes something back, asks something.
sub sender
{
	my ($name, @mine) = @_;
	my $pause = $senders * $batch / $rate;
	return start_client($name, sub {
		my ($n) = @_;
		my $script = '';
		for my $tenant (shuffle @mine)
		{
			my $body = "soak $name/$n/$tenant/";
			$script .= tenant($tenant);
			$script .= "INSERT INTO twilio_messages (to_number, body) SELECT '+1202556' || lpad((random() * 9999)::int::text, 4, '0'), '$body' || i FROM generate_series(1, $batch) i RETURNING 'committed ' || body;\n";
			$script .= "BEGIN;\nINSERT INTO twilio_messages (to_number, body) VALUES ('+12025550199', 'rolled back $body');\nROLLBACK;\n" if rand() < 0.2;
			$script .= "SELECT 'asked ' || verified FROM twilio_verify();\n" if rand() < 0.1;
			$script .= "SELECT 'listed ' || count(*) FROM twilio_phone_numbers();\n" if rand() < 0.05;
			$script .= "SELECT pg_sleep($pause * (0.5 + random()));\n";
		}
		return $script;
	});
}

# Hands webhooks in: statuses of what was sent lately, in any order and repeatedly, and messages from outside.
sub webhooks
{
	my ($name) = @_;
	return start_client($name, sub {
		my ($n) = @_;
		my $tenant = 1 + int rand $tenants;
		my @recent = split /\n/, try_sql($node, "SELECT id || ' ' || sid FROM twilio_messages WHERE user_id = '" . user_id($tenant)
			. "' AND created_at > now() - interval '20 seconds' AND sid IS NOT NULL ORDER BY random() LIMIT 50")->{out};
		my $script = "SET ROLE twilio_webhook;\n";
		my $hand_in = sub {
			my ($told, $url, %param) = @_;
			my ($body, $signature) = signed_form(token($tenant), $url, AccountSid => account_sid($tenant), %param);
			$script .= "SELECT '$told' FROM twilio_handle_webhook('$url', '\\x" . unpack('H*', $body) . "', '$signature');\n";
		};
		for (@recent)
		{
			my ($id, $sid) = split / /;
			$hand_in->('status', webhook_url() . "?m=$id", MessageSid => $sid, MessageStatus => $_, To => '+12025550199', From => number_of($tenant))
			  for (shuffle qw(sent delivered delivered))[ 0 .. int rand 3 ];
		}
		for my $i (1 .. 10)
		{
			my $sid = sprintf 'SM%08x%012x%012x', ord substr($name, -1), $n, $i;
			$hand_in->("received $sid", webhook_url(), MessageSid => $sid, From => '+12025550150', To => number_of($tenant), Body => "inbound $n/$i", NumMedia => 0)
			  for 0 .. (rand() < 0.2);
		}
		return "$script SELECT pg_sleep(1);\n";
	});
}

# Makes the extension in the other database, sends there, and drops it all, sometimes before it is sent.
sub churn
{
	return start_client('churn', sub {
		my ($n) = @_;
		my ($sid, $token, $number) = (account_sid($other), token($other), number_of($other));
		return <<"END" . tenant($other) . <<"END" . sprintf "SELECT pg_sleep(%f);\nRESET ROLE;\nDROP EXTENSION pg_twilio CASCADE;\nSELECT 'dropped';\n", rand 4;
DROP EXTENSION IF EXISTS pg_twilio CASCADE;
CREATE EXTENSION pg_twilio CASCADE;
END
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('$sid', '$token', '$number');
SELECT 'asked ' || verified FROM twilio_verify();
INSERT INTO twilio_messages (to_number, body) SELECT '+12025550198', 'elsewhere $n/' || i FROM generate_series(1, 20) i;
END
	});
}

# Lines of all clients' outputs or errors that fit, without what precedes them.
sub told
{
	my ($what, $kind) = @_;
	return map { /^(?:psql:[^ ]+ )?(?:$what)(.*)/ ? $1 : () } map { split /\n/, slurp_file($_) } glob "$dir/*." . ($kind // 'out');
}

# ---- what happens meanwhile -----------------------------------------------------------------------------

my %weather = (
	'fair' => sub { },
	'a bad day' => sub { misbehave($standin) },
	'a storm of 429' => sub { $standin->behave('429', match => { method => 'POST' }, probability => 0.9, retry_after => 1) },
	'a storm of 500, some accepted' => sub { $standin->behave('500', match => { method => 'POST' }, probability => 0.2, accept => JSON::PP::true); $standin->behave('500', probability => 0.5) },
	'hanging' => sub { $standin->behave('hang', match => { method => 'POST' }, probability => 0.05) },
	'accepted, then dropped' => sub { $standin->behave('accept-then-drop', match => { method => 'POST' }, probability => 0.3) },
	'slow' => sub { $standin->behave('delay', ms => 300) },
	'nobody listens' => sub { $standin->listener('closed'); $standin->listener('cut') });
my %accident = accidents($node, $standin);
# Crashes first, then what is less than a crash, as often as all of it fits.
my @crash = ('the worker is killed', 'the postmaster is killed', 'immediate shutdown');
my @lesser = grep { my $name = $_; !grep { $_ eq $name } @crash } sort keys %accident;
my (%tried, @sample);

sub try { my ($what, $action) = @_; $action->(); $tried{$what}++; return }

open my $samples, '>', "$PostgreSQL::Test::Utils::log_path/soak.tsv" or die $!;
my @figure = qw(worker outbox_kb outbox_dead messages_kb messages_index_kb events_kb audit_kb oldest_s);
print $samples join("\t", qw(at memory_kb descriptors segments), @figure), "\n";
sub sample
{
	my %now;
	@now{@figure} = split /\|/, try_sql($node, <<'END')->{out};
SELECT (SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker' AND datname = 'postgres'),
	pg_total_relation_size('twilio_private.outbox') / 1024, (SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'twilio_private.outbox'::regclass),
	pg_table_size('twilio_messages') / 1024, pg_indexes_size('twilio_messages') / 1024, pg_total_relation_size('twilio_message_events') / 1024,
	pg_total_relation_size('twilio_audit_log') / 1024,
	(SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::numeric(9, 3) FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker')
END
	my @segments = glob $node->data_dir . '/pg_dynshmem/*';
	@now{qw(at memory_kb descriptors segments)} = (sprintf('%.1f', time), anonymous_memory($now{worker}), descriptors($now{worker}), scalar @segments) if $now{worker};
	return unless $now{memory_kb};    # there is a worker
	push @sample, \%now;
	print $samples join("\t", @now{qw(at memory_kb descriptors segments)}, @now{@figure}), "\n";
	return;
}

my @clients;
END { kill TERM => @clients }
@clients = ((map { my $s = $_; sender("sender$s", grep { $_ % $senders == $s } 1 .. $tenants) } 0 .. $senders - 1),
	webhooks('webhook0'), webhooks('webhook1'), churn());
my ($started, $clears_up) = (time, 0);
my ($next_weather, $next_crash, $next_reload, $next_rotation) = ($started + 5, $started + 60 * $minutes / ($crashes + 1), $started + 3, $started + 15);
while (time < $end)
{
	if (time > $next_weather)
	{
		$standin->calm;
		$standin->listener('open');
		if ($fair && ($clears_up = !$clears_up))
		{
			$next_weather = time + $fair;
			next;
		}
		my $name = (sort keys %weather)[ rand keys %weather ];
		try($name, $weather{$name});
		$next_weather = time + 4 + rand 8;
	}
	if (time > $next_crash)
	{
		my $n = sum0(@tried{ grep { $tried{$_} } @crash });
		try($crash[ $n % @crash ], $accident{ $crash[ $n % @crash ] });
		my $name = $lesser[ rand @lesser ];
		try($name, $accident{$name}) if $n % 2;
		$next_crash += 60 * $minutes / ($crashes + 1);
	}
	if (time > $next_reload)
	{
		try('SIGHUP', sub { try_sql($node, 'ALTER SYSTEM SET twilio.max_in_flight = ' . ($in_flight - int rand 64)); try_sql($node, 'SELECT pg_reload_conf()') });
		$next_reload = time + 5;
	}
	if (time > $next_rotation)
	{
		$tried{'key rotation'}++ if try_sql($node, 'SELECT twilio_rotate_key()', role => 'twilio_admin')->{ok};
		$next_rotation = time + 30;
	}
	sample();
	sleep 1;
}
my $loaded = time - $started;
$standin->calm;
$standin->listener('open');
waitpid $_, 0 for splice @clients;
takes_connections($node, 'the server is back') or BAIL_OUT('the server is not back');
try_sql($node, 'DROP EXTENSION IF EXISTS pg_twilio CASCADE', db => 'other');

my $backlog = $node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE sid IS NULL AND status <> 'failed'");
wait_until { sample(); try_sql($node, "SELECT count(*) FROM twilio_private.outbox WHERE kind IN ('message', 'message_look')")->{out} eq '0' } 900 + $backlog / 50,
	'in the end nothing is queued or in doubt'
  or diag($node->safe_psql('postgres', 'SELECT kind, state, count(*), min(due_at) - now(), max(note) FROM twilio_private.outbox GROUP BY 1, 2'));
my $drained = time - $started - $loaded;

# ---- what was lost, what was doubled ---------------------------------------------------------------------

load_ledger($node, $standin);
append_to_file("$dir/promised", join '', map { "$_\n" } told('committed '));
append_to_file("$dir/received", join '', map { "$_\n" } told('received '));
$node->safe_psql('postgres', "CREATE TABLE promised (body text); COPY promised FROM '$dir/promised'; CREATE TABLE received (sid text); COPY received FROM '$dir/received'");
my $elsewhere = account_sid($other);
my @twice = sent_twice($node);
my %bad = (
	'promised to a client, but not there' => "SELECT p.body FROM promised p WHERE NOT EXISTS (SELECT FROM twilio_messages m WHERE m.body = p.body)",
	'committed, but not sent' => "SELECT m.body FROM twilio_messages m WHERE direction = 'outbound' AND sid IS NULL",
	'a SID that Twilio has not given for it' => "SELECT m.body FROM twilio_messages m WHERE direction = 'outbound' AND sid IS NOT NULL
		AND NOT EXISTS (SELECT FROM ledger l WHERE l.accepted AND l.sid = m.sid AND l.body = m.body AND l.to_number = m.to_number)",
	'sent, but not committed' => "SELECT l.body FROM ledger l WHERE l.accepted AND l.account <> '$elsewhere'
		AND NOT EXISTS (SELECT FROM twilio_messages m WHERE m.sid = l.sid)",
	'received and answered, but not there' => "SELECT r.sid FROM received r WHERE NOT EXISTS (SELECT FROM twilio_messages m WHERE m.sid = r.sid)",
	'received twice' => "SELECT sid FROM twilio_messages WHERE direction = 'inbound' GROUP BY sid HAVING count(*) > 1");
my %count;
for my $what (sort keys %bad)
{
	my @found = split /\n/, $node->safe_psql('postgres', $bad{$what});
	$count{$what} = @found;
	is(join(', ', @found[ 0 .. ($#found < 9 ? $#found : 9) ]), '', "none: $what") or tell_about($node, @found[ 0 .. ($#found < 4 ? $#found : 4) ]);
}
$count{'sent twice'} = @twice;
is(join(', ', @twice), '', 'none: sent twice') or tell_about($node, @twice[ 0 .. ($#twice < 9 ? $#twice : 9) ]);

# A worker's memory is compared with what it was when it had begun to work.
my (%life, $growth);
push @{ $life{ $_->{worker} } }, $_->{memory_kb} for @sample;
for (values %life) { my (undef, undef, $first, @rest) = @$_; $growth = max($growth // 0, map { $_ - $first } @rest) if defined $first }
my $log = slurp_file($node->logfile);
my $vacuums = () = $log =~ /automatic vacuum of table "postgres\.twilio_private\.outbox"/g;
my %most = map { my $name = $_; $name => max(map { $_->{$name} } @sample) } keys %{ $sample[0] };
my $last = $sample[-1];
cmp_ok($growth // 0, '<', 20 * 1024, 'no worker grew by 20 MB');
# A request that begins may have a connection of its own and two descriptors of curl's resolver.
cmp_ok($most{descriptors}, '<', 100 + 3 * $in_flight, 'descriptors were bounded by the requests in flight');
cmp_ok($last->{segments}, '<=', 2, 'no segment of dynamic shared memory is left');
cmp_ok($vacuums, '>', 0, 'autovacuum has been at the outbox') if $most{outbox_dead} > 10_000;
my @accidents = grep { /PANIC|TRAP:|failed unexpectedly|signal 11|signal 6/ } split /\n/, $log;
is(join("\n", @accidents[ 0 .. ($#accidents < 9 ? $#accidents : 9) ]), '', 'nothing panicked or crashed by itself');

# ---- the table -------------------------------------------------------------------------------------------

my %sql = map { $_->[0] => $node->safe_psql('postgres', $_->[1]) } (
	[ 'messages committed' => "SELECT count(*) FROM twilio_messages WHERE direction = 'outbound'" ],
	[ 'POSTs at Twilio' => "SELECT count(*) FROM ledger WHERE account <> '$elsewhere'" ],
	[ 'POSTs not accepted, or without an answer' => "SELECT count(*) FROM ledger WHERE account <> '$elsewhere' AND (NOT accepted OR status / 100 <> 2)" ],
	[ 'messages whose fate was unknown for a while' => "SELECT count(DISTINCT (user_id, message_id)) FROM twilio_message_events WHERE status = 'unknown'" ],
	[ 'messages received' => "SELECT count(*) FROM twilio_messages WHERE direction = 'inbound'" ]);
my ($asked, $refused) = (scalar(my @asked = told('asked|listed')), scalar(my @refused = told('ERROR:  (?:PT\d\d\d)', 'err')));
my @table = (
	[ 'load', sprintf('%.0f s, then %.0f s until all was sent', $loaded, $drained) ],
	(map { [ $_, $sql{$_} ] } 'messages committed', 'POSTs at Twilio', 'POSTs not accepted, or without an answer', 'messages whose fate was unknown for a while', 'messages received'),
	[ 'callbacks applied', scalar(my @statuses = told('status')) ],
	[ 'questions answered / refused', "$asked / $refused" ],
	[ 'extension created and dropped elsewhere', scalar(my @dropped = told('dropped')) ],
	(map { [ $_, $tried{$_} // 0 ] } sort(keys %accident), 'SIGHUP', 'key rotation'),
	(map { [ "weather: $_", $tried{$_} // 0 ] } sort keys %weather),
	[ 'workers seen', scalar keys %life ],
	[ 'worker memory (RssAnon) at most, growth at most', sprintf('%.1f MB, %.1f MB', $most{memory_kb} / 1024, ($growth // 0) / 1024) ],
	[ 'descriptors at most, at the end', "$most{descriptors}, $last->{descriptors}" ],
	[ 'DSM segments at most, at the end', "$most{segments}, $last->{segments}" ],
	[ 'oldest transaction of a worker', "$most{oldest_s} s" ],
	[ 'outbox with indexes at most, at the end; dead rows at most, at the end', "$most{outbox_kb} kB, $last->{outbox_kb} kB; $most{outbox_dead}, $last->{outbox_dead}" ],
	[ 'autovacuum runs on the outbox', $vacuums ],
	[ 'messages, their indexes, events, audit log', join ', ', map { sprintf '%.1f MB', $last->{$_} / 1024 } qw(messages_kb messages_index_kb events_kb audit_kb) ],
	(map { [ "found: $_", $count{$_} ] } sort keys %count));
my $width = max(map { length $_->[0] } @table);
diag(join "\n", '', map { sprintf "%-${width}s  %s", @$_ } @table);
TwilioTest::finish();
