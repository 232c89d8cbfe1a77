# What becomes known late is read again behind what is due: a crowd of re-readings, as there is when nothing was sent for a
# day, holds up no message and does not keep the worker awake, and is done all the same, each once, over a crash, too.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin();
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.poll_interval = 1h
twilio.user_max_in_flight = 8
twilio.request_timeout = 5s
twilio.reconcile_after = 1s
track_functions = all
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, 1);
send_sms($node, 1, body => 'first of all');
wait_until { posts($standin) == 1 } 20, 'everything is ready';

# The last step of re-readings, so nothing follows them.
my $path = "'/2010-04-01/Accounts/{AccountSid}/Messages.json?PageSize=50&DateSent%3C='";
sub make_overdue
{
	my ($count) = @_;
	$node->safe_psql('postgres', "INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
		SELECT '" . user_id(1) . "', 'message_reread', gen_random_uuid(), concat_ws(' ', 5, 1600000000 + 10 * i, 4, $path || date '2000-01-01' + i),
			now() - interval '1 day' + i * interval '10 s' FROM generate_series(1, $count) i");
	return;
}
sub listings { return map { map { $$_[0] eq 'DateSent<' && $$_[1] =~ /^200\d-/ ? $$_[1] : () } @{ $_->{query} } } @{ $standin->ledger(method => 'GET', path => 'Messages.json') } }
sub waiting { return $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox WHERE kind = 'message_reread' AND subject LIKE '5 %'") }
sub claims { return $node->safe_psql('postgres', "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'claim_orders'") }

# ---- a crowd that is slow ------------------------------------------------------------------------

configured($node, 'twilio.enabled', 'off');
make_overdue(600);
$standin->behave('delay', ms => 1500, match => { method => 'GET' });
my $before = claims();
configured($node, 'twilio.enabled', 'on');
wait_until { waiting() == 600 && $node->safe_psql('postgres', "SELECT count(*) > 0 FROM twilio_private.outbox WHERE state = 'sending'") eq 't' } 5,
  'of 600 re-readings that are overdue the first are asked, which takes long';
my $id = send_sms($node, 1, body => 'beside a crowd');
wait_until { message($node, $id, 'sid') } 2, 'a message leaves at once'
  or diag($node->safe_psql('postgres', 'SELECT kind, state, count(*), min(due_at), max(due_at) FROM twilio_private.outbox GROUP BY 1, 2'));
wait_until { (() = listings()) >= 3 } 10, '... and they go on';
cmp_ok($standin->stats->{accounts}{ account_sid(1) }{max_in_flight}, '<=', 2, '... one at a time');
cmp_ok(waiting(), '>', 550, '... while the others wait');
cmp_ok(claims() - $before, '<', 30, '... without being claimed again and again');

# ---- over a crash, and beside a stream of messages -------------------------------------------------

$standin->calm;
$standin->behave('delay', ms => 20);
write_messages($node, 1, 'stream', 600);
wait_until { sent($node, 'stream') > 50 } 10, 'many messages are sent';
my $asked = () = listings();
kill_worker($node, 'postgres');
wait_until { sent($node, 'stream') == 600 } 30, '... and, the worker killed meanwhile, all of them';
cmp_ok((() = listings()) - $asked, '>', 5, '... re-readings beside them');
wait_until { waiting() == 0 } 60, 'in the end all are read again'
  or diag($node->safe_psql('postgres', 'SELECT kind, state, count(*), min(due_at), max(due_at) FROM twilio_private.outbox GROUP BY 1, 2'));
my %times;
$times{$_}++ for listings();
is(scalar keys %times, 600, '... each');
cmp_ok((() = listings()) - 600, '<=', 2, '... once, but for those that were under way at the crash');
is(duplicates($standin), 0, 'no message was sent twice');

TwilioTest::finish();
