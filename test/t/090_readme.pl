# What README.md shows works: its SQL runs from top to bottom, with an account of the stand-in in place of the reader's.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $sender = '+15005550006';
my $readme = PostgreSQL::Test::Utils::slurp_file("$FindBin::RealBin/../../README.md");
my @blocks = $readme =~ /^```sql\n(.*?)^```$/msg;
cmp_ok(scalar @blocks, '>=', 3, 'README.md has examples in SQL');

my $standin = start_standin();
$standin->account({ sid => account_sid(1), token => token(1), numbers => [$sender] });
my $node = new_cluster('main', standin => $standin, extension => 0);
my $session = connect_session($node);

# The placeholders that a reader replaces.
my %mine = ('AC' . 'x' x 32 => account_sid(1), 'your_auth_token' => token(1), '+1234567890' => $sender);

for my $block (@blocks)
{
	(my $title = $block) =~ s/\n.*//s;
	(my $sql = $block) =~ s/(\QAC\Ex{32}|your_auth_token|\+1234567890)/$mine{$1}/g;
	$session->run($sql);
	unlike($session->error, qr/^(?:psql:.*?)?(?:ERROR|FATAL|WARNING): .*/m, "README.md: $title") or last;
}
$session->quit;

is($node->safe_psql('postgres', 'SELECT is_verified FROM twilio_settings'), 't', 'the account of README.md is verified');
is($node->safe_psql('postgres', 'SELECT phone_number FROM twilio_numbers'), $sender, '... and its numbers are known');
wait_until { $node->safe_psql('postgres', 'SELECT count(*) FROM twilio_messages WHERE sid IS NOT NULL') == 3 } 20,
  '... and what it sends is at Twilio';
is($standin->count(accepted => 'true', body => 'Hello from PostgreSQL'), 1, '... the first SMS once');
is($standin->count(body => 'Sorry, tomorrow is cancelled.'), 0, '... and what was rolled back, never');
is($node->safe_psql('postgres', "SELECT status FROM twilio_messages WHERE idempotency_key = 'reminder-4711'"), 'canceled',
	'... and what was planned is canceled');

# The trigger of README.md: a recipient that Twilio refuses.
run_sql($node, "SELECT twilio_send_sms('+15005550001', 'invalid')", user => '018f4a3e-0000-7000-8000-000000000001');
wait_until { $node->safe_psql('postgres', 'SELECT what FROM tasks') =~ /^Call \+15005550001: / } 20, 'the trigger of README.md works';

TwilioTest::finish();
