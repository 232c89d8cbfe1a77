# A release says one version everywhere, and its META.json is what PGXN accepts (its specification 1.0.0).
use strict;
use warnings;
use FindBin;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $root = "$FindBin::RealBin/../..";
my $meta = decode_json(slurp_file("$root/META.json"));

my ($version) = slurp_file("$root/pg_twilio.control") =~ /^default_version *= *'(.*)'/m;
is($meta->{version}, $version, 'the version in META.json');
is($meta->{provides}{pg_twilio}{version}, $version, '... of the extension, too');
like(slurp_file("$root/debian/changelog"), qr/\Apg-twilio \(\Q$version\E-\d+\) /, '... in debian/changelog');
like(slurp_file("$root/CHANGELOG.md"), qr/^## \Q$version\E \(/m, '... and in CHANGELOG.md');

my $text = sub { defined $_[0] && !ref $_[0] && length $_[0] };
my $semantic = qr/\A(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}(?:[a-zA-Z][-0-9A-Za-z]*)?\z/;
my %required = (
	name => sub { $_[0] =~ m{\A[^\s/\\[:cntrl:]]{2,}\z} },
	version => sub { $_[0] =~ $semantic },
	abstract => $text,
	maintainer => $text,
	license => sub { $_[0] =~ /\A(?:agpl_3|apache_\d_\d|artistic_\d|bsd|gpl_\d|lgpl_\d_\d|mit|mozilla_\d_\d|open_source|postgresql|restricted|unrestricted|unknown)\z/ },
	provides => sub { ref $_[0] eq 'HASH' && %{ $_[0] } },
	'meta-spec' => sub { $_[0]{version} eq '1.0.0' });
ok($required{$_}->($meta->{$_}), "META.json: $_") for sort keys %required;

my %allowed = map { $_ => 1 } keys %required, qw(description generated_by prereqs no_index release_status resources tags);
is_deeply([ grep { !$allowed{$_} && !/^[xX]_/ } sort keys %$meta ], [], '... and no other keys');
for my $extension (values %{ $meta->{provides} })
{
	like($extension->{version}, $semantic, '... what it provides has a version');
	ok(-e "$root/$extension->{$_}", "... and the $_ is there") for qw(file docfile);
}
for my $phase (values %{ $meta->{prereqs} })
{
	like($_, qr/\A(?:0|\d+\.\d+\.\d+)\z/, '... what it requires is a version') for map { values %$_ } values %$phase;
}
is_deeply([ grep { !m{\A[^/\\[:cntrl:]]{1,255}\z} } @{ $meta->{tags} } ], [], '... its tags are tags');

done_testing();
