# The clock of this server and Twilio's may differ by minutes. What is looked for at Twilio by the time of its creation
# is found all the same, and what was created earlier is not taken for it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

# Twilio's clock, in seconds before or after ours.
my $clock = PostgreSQL::Test::Utils::tempdir('clock') . '/offset';
sub set_clock { my ($offset) = @_; open my $file, '>', $clock or die $!; print $file "$offset\n"; close $file; return }
set_clock('+0');
my $standin = do {
	my %environment = other_clock(FAKETIME_TIMESTAMP_FILE => $clock, FAKETIME_NO_CACHE => 1);
	local @ENV{keys %environment} = values %environment;
	start_standin();
};
my $node = new_cluster('main', standin => $standin, conf => "twilio.poll_interval = 1h\ntwilio.reconcile_after = 1s\n");
wait_for_worker($node, 'postgres');
my $service = 'MG' . 'a' x 32;
enable_sending($node, $standin, 1, messaging_services => [$service]);
send_sms($node, 1, body => 'first of all');
wait_until { sent($node, 'first of') == 1 } 30, 'everything is ready';

sub lose { my ($action, $text, %more) = @_; return $standin->behave($action, match => { method => 'POST', body => $text }, %more) }

set_clock('-300');
lose('accept-then-drop', 'ahead');
my $id = send_sms($node, 1, body => 'ahead');
wait_until { message($node, $id, 'sid') } 25, 'a server whose clock is five minutes ahead finds the message that Twilio took';
is(posts($standin, body => 'ahead'), 1, '... and does not send it again');

set_clock('+120');
$id = send_sms($node, 1, body => 'behind');
wait_until { message($node, $id, 'sid') } 10, 'Twilio has a message';
$node->safe_psql('postgres', "DELETE FROM twilio_messages WHERE id = '$id'");
set_clock('+300');
lose('500', 'behind', times => 1);
$id = send_sms($node, 1, body => 'behind');
wait_until { message($node, $id, 'sid') } 25, 'a server whose clock is five minutes behind sends again what Twilio did not take';
is(accepted($standin, body => 'behind'), 2, '... and does not take an earlier one for it');

# Twilio keeps a message for at most 35 days by its own clock, and refuses for good what is for later.
set_clock('-300');
as_user($node, 1, "UPDATE twilio_settings SET messaging_service_sid = '$service'");
$id = send_sms($node, 1, body => 'far ahead', send_at => $node->safe_psql('postgres', "SELECT now() + '35 days'"));
my $planned = send_sms($node, 1, body => 'planned', send_at => $node->safe_psql('postgres', "SELECT now() + '30 days'"));
wait_until { message($node, $planned) eq 'scheduled' } 10, 'a message for a day of the next month is kept at Twilio';
is(message($node, $id), 'pending', '... and one for the last that Twilio might keep waits here');

set_clock('+120');
$id = send_sms($node, 1, body => 'near', send_at => $node->safe_psql('postgres', "SELECT now() + '16 minutes'"));
wait_until { posts($standin, body => 'near') == 1 && message($node, $id) eq 'pending' } 10, 'one that is too near by Twilio\'s clock waits here'
  or diag(message($node, $id, 'status, error_message'));
$node->safe_psql('postgres', "UPDATE twilio_messages SET send_at = now() WHERE id = '$id'");
set_due_now($node, 'message');
wait_until { message($node, $id, 'sid') } 10, '... for its time, and is sent then';

TwilioTest::finish();
