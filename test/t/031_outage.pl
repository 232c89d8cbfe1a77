# Twilio cannot be reached and the queue is long: the worker neither grows nor holds anything back, and
# afterwards everything is sent.
#
# MESSAGES and OUTAGE (seconds) say how much and for how long.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use TwilioTest::Chaos;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC usleep);

my $messages = $ENV{MESSAGES} || 3000;
my $outage = $ENV{OUTAGE} || 10;

my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin);
my $pid = wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 2;

# Memory and descriptors are as they are after work has been done.
write_messages($node, 1, 'warm up', 1000);
wait_until { sent($node, 'warm up') == 1000 } 60, 'a thousand messages are sent';
my $descriptors = descriptors($pid);

$standin->listener('closed');
$standin->listener('cut');
write_messages($node, 1, 'backlog', $messages);
my $memory = anonymous_memory($pid);
my $longest = 0;
my ($most_descriptors, $most_memory) = (0, 0);
my $end = clock_gettime(CLOCK_MONOTONIC) + $outage;
while (clock_gettime(CLOCK_MONOTONIC) < $end)
{
	my $age = $node->safe_psql('template1', "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)
		FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker'");
	$longest = $age if $age > $longest;
	my ($now_open, $now_used) = (descriptors($pid), anonymous_memory($pid));
	$most_descriptors = $now_open if $now_open > $most_descriptors;
	$most_memory = $now_used if $now_used > $most_memory;
	usleep(100_000);
}
is(sent($node, 'backlog'), 0, "while Twilio cannot be reached for $outage s, $messages messages wait");
is($node->safe_psql('postgres', "SELECT count(*) FROM twilio_messages WHERE body LIKE 'backlog %' AND status IN ('pending', 'submitting')"), $messages, '... and none has failed');
is($node->safe_psql('template1', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_twilio worker'"), $pid, '... it is the same worker all the time');
cmp_ok($longest, '<', 1, '... none of its transactions takes a second');
cmp_ok($most_memory - $memory, '<', 20 * 1024, '... its memory grows by less than 20 MB') or diag("from $memory kB to $most_memory kB");
cmp_ok($most_descriptors, '<=', $descriptors + 80, '... its descriptors stay what they are') or diag("$descriptors, at most $most_descriptors");
like($node->safe_psql('postgres', "SELECT last_error FROM twilio_private.worker_stats()"), qr/could not be reached/, '... and twilio_status says what is wrong');

$node->safe_psql('postgres', 'CREATE TABLE elsewhere AS SELECT 1 AS n FROM generate_series(1, 1000); DELETE FROM elsewhere');
my ($out, $vacuumed) = ('', '');
$node->psql('postgres', 'VACUUM VERBOSE elsewhere', stdout => \$out, stderr => \$vacuumed);
like($vacuumed, qr/\b0 are dead but not yet removable/, 'vacuum elsewhere is not held back') or diag($vacuumed);

write_messages($node, 2, 'newcomer', 1);
$standin->listener('open');
wait_until { sent($node, 'newcomer') == 1 } 20, "when it can be reached again, another user's message is sent soon";
wait_until { sent($node, 'backlog') == $messages } 150 + 2 * $outage + $messages / 200, '... and all that waited';
is(accepted($standin, account => account_sid(1)), $messages + 1000, '... once each');
cmp_ok(anonymous_memory($pid) - $memory, '<', 20 * 1024, '... with no more memory than before');
wait_until { descriptors($pid) <= $descriptors + 2 } 60, "... and no more descriptors ($descriptors)";
is(duplicates($standin), 0, 'nothing was accepted twice');
TwilioTest::finish();
