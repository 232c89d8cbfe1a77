# Whoever may call something calls it with random and nasty values: every function of the extension, and INSERT,
# UPDATE and DELETE on its tables, as a tenant, as twilio_webhook, as twilio_admin and as a superuser. Nothing crashes,
# hangs, or fails in a way that is not meant for the caller.
#
# SEED repeats a run's random choices; DURATION (seconds) says how long.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Chaos;
use TwilioTest::Messages;
use TwilioTest::Nasty;
use PostgreSQL::Test::Utils;
use Test::More;

my $duration = $ENV{DURATION} || 8;
my $seed = $ENV{SEED} || time;
my $batch = 200;    # statements of one session
srand $seed;
diag("SEED=$seed, $duration s");

# log_statement is off so that no statement of ours looks like an accident in the log.
my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin, conf => <<END);
log_statement = none
log_min_error_statement = panic
log_error_verbosity = verbose
statement_timeout = 60s
twilio.webhook_url = '@{[ webhook_url() ]}'
twilio.api_rate_limit = 0
twilio.ask_timeout = 2s
twilio.reconcile_after = 1s
END
my $worker = wait_for_worker($node, 'postgres');

# ---- what there is to call -----------------------------------------------------------------------

sub rows { my ($sql) = @_; return map { [ split /\|/, $_, -1 ] } split /\n/, $node->safe_psql('postgres', $sql) }

# [name, how many arguments may be left out, argument, type, argument, type...]; of the private ones those that are
# written in C, where a value that nobody has thought of is a crash.
my @functions = rows(<<'END');
SELECT concat_ws('|', p.oid::regproc, p.pronargdefaults,
    (SELECT string_agg(coalesce(p.proargnames[n], '') || '|' || format_type(t, NULL), '|' ORDER BY n) FROM unnest(p.proargtypes) WITH ORDINALITY u (t, n)))
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_twilio' JOIN pg_language l ON l.oid = p.prolang
WHERE p.prorettype <> 'trigger'::regtype AND (p.pronamespace = e.extnamespace OR l.lanname = 'c') ORDER BY 1
END
my @private = grep { $_->[0] =~ /^twilio_private/ } @functions;
my @public = grep { $_->[0] !~ /^twilio_private/ } @functions;
# [kind, name, column, type, whether an INSERT needs it, column...]
my @relations = rows(<<'END');
SELECT c.relkind, c.oid::regclass, string_agg(concat_ws('|', a.attname, format_type(a.atttypid, NULL), (a.attnotnull AND NOT a.atthasdef)::int), '|' ORDER BY a.attnum)
FROM pg_class c JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_twilio' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = e.extnamespace AND c.relkind IN ('r', 'v') GROUP BY 1, 2 ORDER BY 2
END
my @tables = grep { $_->[0] eq 'r' } @relations;
cmp_ok(scalar @public, '>', 15, scalar(@public) . ' public functions, ' . @private . ' private ones written in C, ' . @relations . ' tables and views');

my @sids;    # of messages that were sent as the first tenant

# ---- statements ----------------------------------------------------------------------------------

# Some statements have one bad value among good ones, others have none that is good.
sub fits { return one_of(1, 0.9, 0.7, 0.2) }

sub call
{
	my ($name, $optional, @arguments) = @{ one_of(@_) };
	my $fits = fits();
	my ($url, $body, $signature) = nasty_webhook(@sids);
	return 'BEGIN; SET LOCAL "request.headers" = ' . webhook_headers($url, $signature) . "; SELECT * FROM twilio_webhook(" . bytes_literal($body) . '); COMMIT'
	  if $name eq 'twilio_webhook' && rand() < 0.8;
	my @values = map { literal($arguments[ 2 * $_ + 1 ], $arguments[ 2 * $_ ], $fits) } 0 .. @arguments / 2 - 1;
	splice @values, @values - int rand($optional + 1);
	@values[ 0 .. 2 ] = (text_literal($url), bytes_literal($body), text_literal($signature)) if $name eq 'twilio_handle_webhook' && rand() < 0.8;
	return surround("SELECT * FROM $name(" . join(', ', @values) . ')');
}

sub change
{
	my (undef, $name, @columns) = @{ one_of(@tables) };
	my ($fits, $share, @chosen, @values) = (fits(), one_of(0, 0.2, 0.5, 0.9));
	while (my ($column, $type, $needed) = splice @columns, 0, 3)
	{
		next unless $needed || rand() < $share && ($column ne 'user_id' || rand() < 0.2);
		push @chosen, $column;
		push @values, literal($type, $column, $fits);
	}
	my $where = "WHERE ctid IN (SELECT ctid FROM $name ORDER BY random() LIMIT 3)";
	return 'SELECT * FROM ' . one_of(@relations)->[1] if rand() < 0.1;
	return surround("DELETE FROM $name $where") if rand() < 0.05 || !@chosen;
	return surround("UPDATE $name SET " . join(', ', map { "$chosen[$_] = $values[$_]" } 0 .. $#chosen) . " $where") if rand() < 0.4;
	return surround("INSERT INTO $name (" . join(', ', @chosen) . ') SELECT ' . join(', ', @values)
		. ' FROM generate_series(1, ' . one_of(1, 1, 5) . ')' . one_of('', ' ON CONFLICT DO NOTHING', ' RETURNING *'));
}

# What surrounds a statement: nothing mostly, or a transaction that ends in either way, reads only, or is somebody else's.
sub surround
{
	my ($statement) = @_;
	return "BEGIN; $statement; ROLLBACK" if $statement =~ /delete_settings|DELETE FROM twilio_settings/;    # too little would be left to do
	return $statement if rand() < 0.6;
	my @setting = map { "SET LOCAL $_ = " . text_literal(nasty_text()) } one_of('twilio.user_id', '"request.jwt.claims"', '"request.headers"');
	return join '; ', one_of('BEGIN', 'BEGIN', 'BEGIN READ ONLY', 'BEGIN ISOLATION LEVEL SERIALIZABLE'), (rand() < 0.3 ? @setting : ()), one_of(
		"$statement; COMMIT", "$statement; ROLLBACK", "SAVEPOINT a; $statement; ROLLBACK TO a; COMMIT", "SAVEPOINT a; $statement; RELEASE a; COMMIT");
}

my %statement_of = (
	twilio_user => sub { rand() < 0.6 ? call(@public) : change() },
	twilio_admin => sub { rand() < 0.6 ? call(@public) : change() },
	twilio_webhook => sub { rand() < 0.9 ? call(grep { $_->[0] =~ /webhook/ } @public) : change() },
	postgres => sub { my $which = rand; $which < 0.4 ? call(@private) : $which < 0.7 ? call(@public) : change() });

# ---- run -----------------------------------------------------------------------------------------

# Whatever was done to them, the tenants can send again.
sub restore
{
	$node->safe_psql('postgres', 'DELETE FROM twilio_settings; DELETE FROM twilio_opt_outs; SELECT twilio_arm()');
	enable_sending($node, $standin, $_) for 1 .. 2;
	send_sms($node, 1, body => 'meanwhile');
	@sids = split /\n/, $node->safe_psql('postgres', "SELECT sid FROM twilio_messages WHERE sid ~ '^SM' AND user_id = '" . user_id(1) . "' ORDER BY id DESC LIMIT 5");
	return;
}

# What anybody may see: no right, our own errors, and what they asked for themselves (read-only, a setting that is
# nonsense, an aborted transaction, 40001 where they want to be serializable). All but twilio_webhook also that input is bad; what Twilio has signed is taken as it is.
my $expected = qr/^(?:25006|25P02|3B001|42501|PT\d\d\d) |^22023 invalid value for parameter|^22P02 invalid input syntax for type json/;
my $bad_input = qr/^(?:22...|23502|23503|23505|23514|428C9|54000|55000) /;
my (%states, %odd, $statements, $lost);

sub run_batch
{
	my ($role) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir('sql') . '/batch.sql';
	my @lines = ("\\set VERBOSITY verbose", "SET ROLE $role; SET twilio.user_id = '" . user_id(1 + int rand 2) . "'; SET client_min_messages = error;",
		map { $statement_of{$role}->() . ';' } 1 .. $batch);
	open my $out, '>', $file or die $!;
	print $out "$_\n" for @lines;
	close $out;
	my ($seen, $errors) = ('', '');
	my $ended = $node->psql('postgres', undef, extra_params => [ '-f', $file ], stdout => \$seen, stderr => \$errors, on_error_stop => 0, timeout => 600);
	$statements += $batch;
	$lost++ if $ended;
	while ($errors =~ /^psql:[^\n]*?:(\d+): (?:ERROR|FATAL|PANIC):  (\w{5}): ([^\n]*)/gm)
	{
		my ($line, $state, $message) = ($1, $2, $3);
		$states{$state}++;
		next if "$state $message" =~ $expected || $state eq '40001' && $lines[ $line - 1 ] =~ /SERIALIZABLE/ || $role ne 'twilio_webhook' && "$state " =~ $bad_input;
		$odd{"$state $message"} //= "as $role: " . substr($lines[ $line - 1 ], 0, 2000);
	}
	return;
}

my $end = time + $duration;
for (my $n = 0; $n % 4 || time < $end; $n++)
{
	my $role = (qw(twilio_user twilio_webhook twilio_admin postgres))[ $n % 4 ];
	restore();
	run_batch($role);
}
is($lost, undef, "$statements statements, and no session lost its connection");
is(join("\n", map { "$_\n  $odd{$_}" } sort keys %odd), '', 'every error was one that is meant for the caller');
diag("$statements statements; " . join ', ', map { "$_ $states{$_}" } sort keys %states);

restore();
my $id = send_sms($node, 1, body => 'after all that');
wait_until { message($node, $id, 'sid') } 30, 'afterwards messages are sent';
is(process_id($node, 'pg_twilio worker', 'postgres'), $worker, '... by the same worker');
my @accidents = grep { /PANIC|TRAP:|terminated by signal|failed unexpectedly|: XX\d\d\d:/ } split /\n/, slurp_file($node->logfile);
is(join("\n", @accidents[ 0 .. ($#accidents < 9 ? $#accidents : 9) ]), '', 'the log has no accident');
TwilioTest::finish();
