# The settings of the server are the ones that docs/operations.md lists: no other names, defaults, ranges or contexts.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %context = (user => 'session', sighup => 'reload', postmaster => 'restart', superuser => 'superuser');

# A table row of the document: | `name` | default | set by | range | what it is |
my %documented;
my $document = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../docs/operations.md");
while ($document =~ /^\| `(twilio\.\w+)` \| ([^|]*) \| (\w+) \| ([^|]*)\|/mg)
{
	my ($name, $default, $set_by, $range) = ($1, $2, $3, $4);
	$range =~ s/\s+$//;
	ok(!$documented{$name}, "$name is listed once");
	$documented{$name} = { default => $default eq 'empty' ? '' : $default, set_by => $set_by, range => $range };
}

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_twilio'");
$node->start;

my $rows = $node->safe_psql('postgres', <<'END');
SELECT name, boot_val, context, vartype, unit, min_val, max_val, array_to_string(enumvals, ',')
FROM pg_settings WHERE name LIKE 'twilio.%' ORDER BY name
END

my %seconds = (ms => 0.001, s => 1, min => 60, h => 3600, d => 86400);
my %bytes = (B => 1, kB => 1 << 10, MB => 1 << 20);

# '10min' or '1MB' in the unit of the server, a plain number as it is.
sub in_unit
{
	my ($text, $unit) = @_;
	return $text unless $text =~ /^(\d+)([A-Za-z]+)$/;
	my $scale = exists $bytes{$2} ? \%bytes : \%seconds;
	return sprintf '%.0f', $1 * $scale->{$2} / ($scale->{$unit} // 1);
}

for my $row (split /\n/, $rows)
{
	my ($name, $default, $set_by, $type, $unit, $least, $most, $choices) = split /\|/, $row, -1;
	my $said = delete $documented{$name};
	ok($said, "$name is documented") or next;
	is(in_unit($said->{default}, $unit), $default, "... with its default");
	is($said->{set_by}, $context{$set_by}, '... and who sets it');
	if ($type eq 'integer' || $type eq 'real')
	{
		my ($from, $to) = split / to /, $said->{range};
		is(in_unit($from, $unit) . ' to ' . in_unit($to, $unit), "$least to $most", '... and its range');
	}
	is(join(',', sort $said->{range} =~ /\w+/g), join(',', sort split /,/, $choices), '... and its choices') if $type eq 'enum';
}
is_deeply([ sort keys %documented ], [], 'no setting is documented that does not exist');

# ---- what is no value is refused when it is set ---------------------------------------------------

for my $case (
	[ key_file => '' ],
	[ webhook_url => 'crm.example.com/twilio/webhook', 'ftp://crm.example.com/', 'https://', 'https:///twilio/webhook',
		'https://crm.example.com/?a=1', 'https://crm.example.com/a b', 'https://crm_test.example.com/twilio/webhook', 'https://u_1:p@crm_test/' ],
	[ connect_to => 'localhost', 'localhost:', ':443', 'localhost:0', 'localhost:65536', 'https://localhost:443' ],
	[ proxy => 'http://a b:80', "http://a\tb", 'ftp://proxy:3128', 'http://' ],
	[ edge => 'Dublin', 'a.b' ],
	[ region => 'ie1/', 'a' x 33 ],
	[ identity => 'claim', '' ],
	[ user_id => 'alice', '1' ],
	[ enabled => 'perhaps' ],
	[ ask_timeout => '0', '-1', '1 fortnight' ],
	[ max_in_flight => '0', '10001', 'many' ],
	[ rate_limit_per_second => '-1', 'NaN' ],
	[ max_response_size => '1', '1GB' ])
{
	my ($name, @values) = @$case;
	for my $value (@values)
	{
		my $result = run_sql($node, "ALTER SYSTEM SET twilio.$name = '$value'");
		is($result->{state}, '22023', "twilio.$name = '$value' is refused") or diag($result->{out}, $result->{error});
	}
}
is(run_sql($node, 'SET twilio.no_such_setting = 1')->{state}, '42602', 'a setting that does not exist is refused');
is(run_sql($node, "ALTER SYSTEM SET twilio.webhook_url = 'https://u_1:p\@crm.example.com/twilio_web/hook_'")->{state} // '', '',
	'an underscore is refused in the host alone');

$node->safe_psql('postgres', 'CREATE EXTENSION pg_twilio CASCADE');
wait_for_worker($node);
configured($node, 'twilio.edge', 'dublin');
is(run_sql($node, 'SELECT reason FROM twilio_status')->{out}, 'of twilio.edge and twilio.region only one is set',
	'twilio_status says that an edge without a region is half a setting');
configured($node, 'twilio.region', 'ie1');
unlike(run_sql($node, 'SELECT reason FROM twilio_status')->{out}, qr/region/, '... which the region completes');

done_testing();
