# The ways to enter a token that docs/security.md recommends leave it in no log, whatever the server logs.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_cluster('main', conf => <<'END');
shared_preload_libraries = 'auto_explain, pg_twilio'
log_statement = all
log_min_duration_statement = 0
auto_explain.log_min_duration = 0
auto_explain.log_analyze = on
auto_explain.log_nested_statements = on
END
$node->safe_psql('postgres', <<'END');
CREATE ROLE app LOGIN IN ROLE twilio_user;
ALTER ROLE app SET log_parameter_max_length = 0;
CREATE ROLE explained LOGIN IN ROLE twilio_user;
ALTER ROLE explained SET log_parameter_max_length = 0;
ALTER ROLE explained SET auto_explain.log_verbose = on;
CREATE ROLE careless LOGIN IN ROLE twilio_user;
END
my $dir = PostgreSQL::Test::Utils::tempdir('token');

sub is_logged { my ($token) = @_; return index(PostgreSQL::Test::Utils::slurp_file($node->logfile), $token) >= 0 }

# An UPDATE with the token as a bind parameter.
sub bind_token
{
	my ($role, $token) = @_;
	PostgreSQL::Test::Utils::append_to_file("$dir/bind.sql", "SET twilio.user_id = '" . user_id(1) . "';\nUPDATE twilio_settings SET auth_token = :token;\n")
	  unless -e "$dir/bind.sql";
	$node->command_ok([ 'pgbench', '-n', '-t', '1', '-M', 'extended', '-D', "token=$token", '-f', "$dir/bind.sql", '-U', $role, 'postgres' ],
		"$role enters a token as a bind parameter");
	is(stored(), 't', '... and it is stored');
	return;
}

my $last_change = '';
sub stored
{
	my $change = $node->safe_psql('postgres', 'SELECT md5(sealed::text) FROM twilio_private.credential');
	my $is_new = $change ne $last_change;
	$last_change = $change;
	return $is_new ? 't' : 'f';
}

# ---- by a temporary table, as in the document -----------------------------------------------------

my $document = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/security.md");
my ($by_table) = $document =~ /^```\n(CREATE TEMP TABLE entry .*?)^```$/ms;
ok($by_table, 'docs/security.md shows how to enter a token by a temporary table');
my $token = 'b' . substr(token(1), 1);
PostgreSQL::Test::Utils::append_to_file("$dir/token.txt", "$token\n");
$by_table =~ s/token\.txt/$dir\/token.txt/;
$by_table =~ s/AC…/account_sid(1)/e;
my $entered = as_user($node, 1, $by_table);
ok($entered->{ok}, '... and it works') or diag($entered->{error});
is(stored(), 't', '... and it is stored');
ok(!is_logged($token), '... and the token is in no log');

# ---- as a bind parameter --------------------------------------------------------------------------

bind_token('app', 'c' . substr(token(2), 1));
ok(!is_logged('c' . substr(token(2), 1)), '... and is in no log, with log_parameter_max_length = 0');
bind_token('careless', 'd' . substr(token(3), 1));
ok(is_logged('d' . substr(token(3), 1)), '... and is logged without that, as the document says');
bind_token('explained', 'f' . substr(token(5), 1));
ok(is_logged('f' . substr(token(5), 1)), '... and is logged with auto_explain.log_verbose, as the document says');

# ---- as a literal ---------------------------------------------------------------------------------

$node->append_conf('postgresql.conf', "log_statement = none\nlog_min_duration_statement = -1\n");
$node->reload;
wait_until { $node->safe_psql('postgres', 'SHOW log_statement') eq 'none' } 10, 'the server logs no statements';
$token = 'e' . substr(token(4), 1);
is(as_user($node, 1, "UPDATE twilio_settings SET auth_token = '$token', phone_number = '12'")->{state}, '22023', 'a statement with a token fails');
ok(is_logged($token), '... and is logged with PostgreSQL\'s defaults, as the document says');

done_testing();
