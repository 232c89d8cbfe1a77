# A token and a key never show: not in tables, WAL, logs, dumps, views or the memory of an idle worker.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;

my $canary = 'c4na2y' . '0123456789abcdef0123456789';
my $next_canary = 'c4na2z' . '0123456789abcdef0123456789';
my $canary_key = 'c4na2k' . '0123456789abcdef0123456789';
my $key_sid = 'SK' . 'a' x 32;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
shared_preload_libraries = 'pg_stat_statements, auto_explain, pg_twilio'
log_statement = all
log_min_duration_statement = 0
log_min_messages = debug2
log_error_verbosity = verbose
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_verbose = on
pg_stat_statements.track = all
track_activity_query_size = 16kB
wal_level = replica
full_page_writes = on
twilio.log_requests = on
END
wait_for_worker($node);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_stat_statements');

# The statement that enters a token contains it when it is typed in; so that the test can tell what
# pg_twilio itself gives away, the tokens are entered here from files, by a statement without them.
my $files = PostgreSQL::Test::Utils::tempdir('canary');
my %file = (token => $canary, next => $next_canary, key => $canary_key, wrong => 'x' x 32);
append_to_file("$files/$_", $file{$_}) for keys %file;
$node->safe_psql('postgres', <<"END");
CREATE FUNCTION entered(name text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
	\$\$ SELECT pg_catalog.pg_read_file('$files/' || name) \$\$;
END

sub secrets_found_in
{
	my (@places) = @_;
	my $sid = account_sid(1);
	my @forms;
	for my $secret ($canary, $next_canary, $canary_key)
	{
		my $user = $secret eq $canary_key ? $key_sid : $sid;
		# as it is, as bytea prints it, and as it travels in a header
		push @forms, $secret, unpack('H*', $secret), substr(encode_base64("$user:$secret", ''), 0, -4);
	}
	for my $line (split /\n/, slurp_file($node->data_dir . '/pg_twilio.key'))
	{
		my (undef, $key) = split / /, $line;
		push @forms, $key, unpack('H*', decode_base64($key));
	}
	return map { files_containing($_, @places) } @forms;
}

# ---- the key file -----------------------------------------------------------------------------

my $key_file = $node->data_dir . '/pg_twilio.key';
is(sprintf('%04o', (stat $key_file)[2] & 07777), '0600', 'the launcher makes the key file with mode 0600');
like(slurp_file($key_file), qr/\A\S+ [A-Za-z0-9+\/]{43}=\n\z/, '... with one key of 32 bytes');

# ---- configure, verify, fail, rotate ------------------------------------------------------------

$standin->account({ sid => account_sid(1), token => $canary, keys => [ { sid => $key_sid, secret => $canary_key } ] });
my @steps = (
	[ 'configure', sprintf("INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', entered('token'))", account_sid(1)) ],
	[ 'verify', 'SELECT * FROM twilio_verify()' ],
	[ 'an API key', "UPDATE twilio_settings SET api_key_sid = '$key_sid', api_key_secret = entered('key')" ],
	[ 'verify with the key', 'SELECT * FROM twilio_verify()' ],
	[ 'numbers', 'SELECT * FROM twilio_phone_numbers()' ],
	[ 'a wrong token', "UPDATE twilio_settings SET auth_token = entered('wrong')" ],
	[ 'a verify that fails', 'SELECT * FROM twilio_verify()' ],
	[ 'upsert', sprintf("INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', entered('next'))
		ON CONFLICT (user_id) DO UPDATE SET account_sid = excluded.account_sid, auth_token = excluded.auth_token", account_sid(1)) ],
	[ 'the mask written back', "UPDATE twilio_settings SET auth_token = '••••••••', phone_number = '+15005550006'" ]);
for my $step (@steps)
{
	my $done = as_user($node, 1, $step->[1]);
	ok($done->{ok}, "canary: $step->[0]") or diag($done->{error});
}
$standin->change(account_sid(1), token => $next_canary);
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'canary: the token that was stored last is used');

# A value that is refused is not repeated.
my $refused = as_user($node, 1, "UPDATE twilio_settings SET account_sid = entered('token')");
is($refused->{state}, '22023', 'a token in the wrong field is refused');
unlike($refused->{error}, qr/\Q$canary/, '... without repeating it');
$refused = as_user($node, 1, "UPDATE twilio_settings SET auth_token = left(entered('token'), 31)");
is($refused->{state}, '22023', 'a token that is too short is refused');
unlike($refused->{error}, qr/\Q@{[substr $canary, 0, 31]}/, '... without repeating it');
unlike(as_user($node, 1, "COPY twilio_settings TO STDOUT")->{out}, qr/c4na2/, 'a user who reads the row sees the mask');

my $rotated = run_sql($node, 'SELECT twilio_rotate_key()', role => 'twilio_admin');
ok($rotated->{ok}, 'an administrator rotates the key') or diag($rotated->{error});
is(scalar(split /\n/, slurp_file($key_file)), 2, '... and the key file has a key more');
is(sprintf('%04o', (stat $key_file)[2] & 07777), '0600', '... and still mode 0600');
is($node->safe_psql('postgres', 'SELECT count(DISTINCT key_id) FROM twilio_private.credential'), '1', '... and all is sealed with one key');
is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... which the worker opens');

# ---- looking for it -----------------------------------------------------------------------------

$node->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
my $data = $node->data_dir;
is_deeply([ secrets_found_in("$data/base", "$data/global") ], [], 'no secret is in any table or index');
is_deeply([ secrets_found_in("$data/pg_wal") ], [], 'no secret is in the WAL');
is_deeply([ secrets_found_in($node->logfile) ], [],
	'no secret is in the log, with every statement, nested plans and debug2') or diag(leaks());
is_deeply([ secrets_found_in("$data/pg_stat", "$data/pg_stat_tmp", "$data/pg_replslot", glob "$data/postgresql.*") ], [],
	'no secret is elsewhere in the data directory');

sub leaks { return join "\n", map { substr $_, 0, 400 } grep { /c4na2/ } split /\n/, slurp_file($node->logfile) }

my $dump = "$files/dump.sql";
$node->command_ok([ 'pg_dumpall', '-f', $dump, '-d', $node->connstr('postgres') ], 'the cluster is dumped');
is_deeply([ secrets_found_in($dump) ], [], 'no secret is in a dump');

my $seen = $node->safe_psql('postgres', <<'END');
SELECT 'statements', query FROM pg_stat_statements WHERE query ~ 'c4na2';
SELECT 'activity', query FROM pg_stat_activity WHERE query ~ 'c4na2' AND pid <> pg_backend_pid();
SELECT 'settings', s FROM twilio_settings s WHERE s::text ~ 'c4na2';
SELECT 'audit', a FROM twilio_audit_log a WHERE a::text ~ 'c4na2';
SELECT 'status', s FROM twilio_status s WHERE s::text ~ 'c4na2';
SELECT 'guc', name FROM pg_settings WHERE setting ~ 'c4na2';
END
# The question itself is in pg_stat_statements only after it has run.
is($seen, '', 'no secret is in a view');
like($node->safe_psql('postgres', "SELECT string_agg(query, ' ') FROM pg_stat_statements"), qr/twilio_verify/, '... where statements are');

# ---- memory of the worker -----------------------------------------------------------------------

SKIP:
{
	my $pid = worker_pid($node);
	defined process_memory($pid) or skip 'this system does not let a user read the memory of own processes', 2;
	my @needles = ($canary, $next_canary, $canary_key,
		map { substr encode_base64($_, ''), 0, -4 } account_sid(1) . ":$next_canary", "$key_sid:$canary_key");
	push @needles, map { my $key = (split / /)[1]; ($key, decode_base64($key)) } split /\n/, slurp_file($key_file);
	is(as_user($node, 1, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'the worker has just used the token');
	wait_until { my $all = process_memory($pid); !grep { index($all, $_) >= 0 } @needles } 5,
	  'within 5 s its memory holds neither token nor key';
	cmp_ok(index(process_memory($pid), 'pg_twilio worker'), '>=', 0, '... where other things are found');
}

# ---- sealed values that were tampered with ------------------------------------------------------

configure($node, $standin, 2);
configure($node, $standin, 3);
is(as_user($node, $_, 'SELECT verified FROM twilio_verify()')->{out}, 't', "user $_ is verified") for 2, 3;
my ($two, $three) = map { user_id($_) } 2, 3;
$node->safe_psql('postgres', "CREATE TABLE kept AS SELECT * FROM twilio_private.credential");
sub seal_becomes { $node->safe_psql('postgres', "UPDATE twilio_private.credential SET $_[0] WHERE user_id = '$two'") }

for my $case (
	[ "sealed = (SELECT sealed FROM kept WHERE user_id = '$three')", 'swapped with another user\'s' ],
	[ 'sealed = substr(sealed, 1, length(sealed) - 1)', 'cut off' ],
	[ 'sealed = set_byte(sealed, length(sealed) - 3, (get_byte(sealed, length(sealed) - 3) + 1) % 256)', 'changed by a byte' ],
	[ 'sealed = decode(repeat(md5(\'x\'), 8), \'hex\')', 'replaced by random bytes' ],
	[ 'sealed = \'\'', 'emptied' ],
	[ 'key_id = \'nokey\'', 'sealed with a key that is lost' ])
{
	my ($change, $what) = @$case;
	my $requests = $standin->stats->{requests};
	seal_becomes($change);
	my $result = as_user($node, 2, 'SELECT * FROM twilio_verify()');
	isnt($result->{state}, '', "a sealed token that was $what is an error");
	like("$result->{detail} $result->{hint}", qr/nokey.*pg_twilio\.key|pg_twilio\.key.*nokey/s, '... that names the key and the file') if $what =~ /lost/;
	is($standin->stats->{requests}, $requests, '... and nothing was sent');
	is(as_user($node, 3, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... and the others go on');
	$node->safe_psql('postgres', "UPDATE twilio_private.credential c SET sealed = k.sealed, key_id = k.key_id FROM kept k
		WHERE (c.user_id, c.kind) = (k.user_id, k.kind)");
}
is(as_user($node, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'once it is back as it was, it works');

# ---- a key file that is wrong, missing, back ------------------------------------------------------

my $keys = slurp_file($key_file);
chmod 0644, $key_file;
$node->restart;
wait_for_worker($node, 'postgres', 10, 'the server starts with a key file of the wrong mode');
like(slurp_file($node->logfile), qr/WARNING.*pg_twilio\.key/, '... and warns');
my $open = as_user($node, 2, 'SELECT * FROM twilio_verify()');
isnt($open->{state}, '', 'nothing is opened with it');
like($open->{error}, qr/pg_twilio\.key/, '... and the error names the file');
like(as_user($node, 4, sprintf "INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('%s', '%s')", account_sid(4), token(4))->{error},
	qr/pg_twilio\.key/, '... and nothing is sealed');
like(as_user($node, 2, 'SELECT reason, hint FROM twilio_status')->{out}, qr/the key file cannot be used\|.*pg_twilio\.key.*0600/, '... and twilio_status says so');
chmod 0600, $key_file;
$node->restart;
wait_for_worker($node);
is(as_user($node, 2, 'SELECT verified FROM twilio_verify()')->{out}, 't', 'with the mode corrected it works');

$node->stop;
rename $key_file, "$key_file.away";
symlink "$key_file.nowhere", $key_file;
my $said_before = -s $node->logfile;
$node->start;
wait_for_worker($node);
like(slurp_file($node->logfile, $said_before), qr/WARNING.*key file cannot be created\n.*pg_twilio\.key/, 'a key file that is a link to nowhere is warned of');
unlike(slurp_file($node->logfile, $said_before), qr/created key file/, '... and not said to be made');

$node->stop;
unlink $key_file;
$node->start;
wait_for_worker($node);
wait_until { -e $key_file } 5, 'a missing key file is made anew';
my $lost = as_user($node, 2, 'SELECT * FROM twilio_verify()');
isnt($lost->{state}, '', '... which does not open what was sealed with the old one');
my ($lost_key) = $keys =~ /\A(\S+)/;
like($lost->{error}, qr/\Q$lost_key\E.*pg_twilio\.key/, '... and the error names the key and the file');
like(run_sql($node, 'SELECT reason, hint FROM twilio_status', role => 'twilio_admin')->{out}, qr/no credential can be opened.*\|.*\Q$lost_key\E.*Put them back/,
	'... and twilio_status says to whoever watches the server what is missing');
ok(as_user($node, 2, "SELECT twilio_send_sms('+12025550199', 'no key', '+15005550006')")->{ok}, '... a message is accepted');
wait_until { as_user($node, 2, 'SELECT reason FROM twilio_queue')->{out} =~ /again \(the stored Twilio credential cannot be opened: .*\Q$lost_key\E.*pg_twilio\.key/ } 10,
	'... and twilio_queue why a message waits';
my $warned = run_sql($node, 'SELECT twilio_rotate_key()', role => 'twilio_admin')->{error};
like($warned, qr/WARNING.*\n.*\Q$lost_key\E.*pg_twilio\.key/, '... and a rotation warns of it by the same names');
is(scalar(() = $warned =~ /WARNING/g), 1, '... once');
configure($node, $standin, 5);
is(as_user($node, 5, 'SELECT verified FROM twilio_verify()')->{out}, 't', '... while new tokens are sealed and opened');
my $new_key = slurp_file($key_file);
open my $both, '>', $key_file or die;
print $both $new_key, $keys;
close $both;
is(as_user($node, $_, 'SELECT verified FROM twilio_verify()')->{out}, 't', "with the old keys put back user $_ is served without a restart") for 2, 5;
is(run_sql($node, 'SELECT twilio_rotate_key()', role => 'twilio_user')->{state}, '42501', 'a user may not rotate keys');

TwilioTest::finish();
