# Triggers of an app on twilio_messages: they see each change, and one that raises holds up its own
# message and no other.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/lib";
use TwilioTest;
use TwilioTest::Messages;
use PostgreSQL::Test::Utils;
use Test::More;

my $standin = start_standin('--no-validate');
my $node = new_cluster('main', standin => $standin, conf => <<'END');
twilio.poll_interval = 1s
twilio.request_timeout = 2s
twilio.reconcile_after = 1s
END
wait_for_worker($node, 'postgres');
enable_sending($node, $standin, $_) for 1 .. 2;

$node->safe_psql('postgres', <<'END');
CREATE TABLE seen (body text, status text);
GRANT ALL ON seen TO PUBLIC;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.body LIKE 'raises when ' || NEW.status || '%' OR (TG_OP = 'UPDATE' AND NEW.status = 'pending' AND NEW.body LIKE 'raises when released%')
	   OR (NEW.status NOT IN ('pending', 'submitting') AND NEW.body = 'raises when answered') THEN
		RAISE EXCEPTION 'an app is surprised';
	END IF;
	INSERT INTO public.seen VALUES (NEW.body, NEW.status);
	RETURN CASE WHEN NEW.body <> 'skipped' THEN NEW END;
END $$;
CREATE TRIGGER look BEFORE INSERT OR UPDATE ON twilio_messages FOR EACH ROW EXECUTE FUNCTION look();
END

sub goes_out
{
	my ($body, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	send_sms($node, 2, body => $body);
	return wait_until { messages_with($node, $body, 'queued') == 1 } 15, $what;
}

goes_out('usual', 'a message is sent where an app has a trigger');
is($node->safe_psql('postgres', "SELECT string_agg(status, ' ') FROM seen WHERE body = 'usual'"), 'pending submitting queued', '... which saw each status');

my $refused = as_user($node, 1, "SELECT twilio_send_sms('+12025550199', 'raises when pending')");
is($refused->{message}, 'an app is surprised', 'a trigger may refuse a message');
is(posts($standin, body => 'raises when pending'), 0, '... which is not sent');

for my $key (q{}, q{, idempotency_key => 'skipped'})
{
	my $skipped = as_user($node, 1, "SELECT id IS NULL FROM twilio_send_sms('+12025550199', 'skipped'$key)");
	is($skipped->{out}, 't', 'a trigger may skip one' . ($key && ', with a key too')) or diag($skipped->{error});
}
is(posts($standin, body => 'skipped'), 0, '... which is not sent');

send_sms($node, 1, body => 'raises when submitting');
goes_out('after submitting', 'a message that cannot be claimed does not hold up others');
is(posts($standin, body => 'raises when submitting'), 0, '... nor is it sent');

send_sms($node, 1, body => 'raises when queued');
wait_until { accepted($standin, body => 'raises when queued') == 1 } 10, 'a message is sent whose answer cannot be written down';
goes_out('after queued', '... others go on');

# Expired before it is claimed, and while its account is switched off.
for my $active (qw(true false))
{
	as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, send_at, expires_at)
		VALUES ('+12025550199', 'raises when failed, $active', now() + interval '1 second', now() + interval '2 seconds');
		UPDATE twilio_settings SET is_active = $active") if $active eq 'false';
	as_user($node, 1, "INSERT INTO twilio_messages (to_number, body, expires_at) VALUES ('+12025550199', 'raises when failed, $active', now() + interval '1 millisecond')")
	  if $active eq 'true';
	as_user($node, 2, "INSERT INTO twilio_messages (to_number, body, expires_at) VALUES ('+12025550199', 'expires, $active', now() + interval '1 millisecond')");
	wait_until { messages_with($node, "expires, $active", 'failed') == 1 } 15, 'a message whose end cannot be written down does not hold up the end of others';
	goes_out("after failed, $active", '... nor their sending');
}
as_user($node, 1, 'UPDATE twilio_settings SET is_active = true');

# What Twilio says cannot be written down at all.
sub set_aside
{
	my ($id, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until { as_user($node, 1, "SELECT state, reason FROM twilio_queue WHERE message_id = '$id'")->{out} =~ /^$state\|.*an app is surprised/ } 10, $what
	  or diag(as_user($node, 1, 'SELECT * FROM twilio_queue')->{out});
	return;
}
my $answered = send_sms($node, 1, body => 'raises when answered');
set_aside($answered, 'sending', 'a message whose sending cannot be written down in any way stays in doubt');
my $rejected = send_sms($node, 1, to_number => '+15005550001', body => 'raises when failed, rejected');
set_aside($rejected, 'queued', '... one that Twilio rejects waits');
$standin->behave('429', match => { body => 'refused' }, times => 1);
my $again = send_sms($node, 1, body => 'raises when released, refused');
set_aside($again, 'queued', '... and so does one that it does not accept yet');
$node->safe_psql('postgres', 'ALTER TABLE twilio_messages DISABLE TRIGGER look');
wait_until { message($node, $answered, 'sid') } 20, 'when the trigger is gone, the first is looked up, by the same worker';
set_due_now($node, 'message');
wait_until { message($node, $rejected) eq 'failed' } 10, '... the second fails';
wait_until { message($node, $again, 'sid') } 10, '... and the third is sent';
is(posts($standin, body => $_), 1, "$_: sent once") for 'raises when answered';
$node->safe_psql('postgres', 'ALTER TABLE twilio_messages ENABLE TRIGGER look');

# One that is deferred raises at the end of the transaction, in which there are others.
$node->safe_psql('postgres', <<'END');
ALTER TABLE twilio_messages DISABLE TRIGGER look;
CREATE FUNCTION look_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.body = 'raises late when ' || NEW.status OR (NEW.status NOT IN ('pending', 'submitting') AND NEW.body = 'raises late when answered') THEN
		RAISE EXCEPTION 'an app is surprised';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER look_late AFTER INSERT OR UPDATE ON twilio_messages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION look_late();
END
send_sms($node, 1, body => 'raises late when submitting');
goes_out('after submitting, late', 'a message whose claim a deferred trigger refuses does not hold up others');
is(posts($standin, body => 'raises late when submitting'), 0, '... nor is it sent');
$answered = send_sms($node, 1, body => 'raises late when answered');
set_aside($answered, 'sending', 'one whose sending cannot be written down stays in doubt');
goes_out('after answered, late', '... others go on');
$node->safe_psql('postgres', 'DROP TRIGGER look_late ON twilio_messages; ALTER TABLE twilio_messages ENABLE TRIGGER look');
wait_until { message($node, $answered, 'sid') } 20, '... and it is looked up when the trigger is gone, by the same worker';
is(posts($standin, body => 'raises late when answered'), 1, '... having been sent once');

# As a full disk raises, or one that a queue of notifications has filled: nobody is to blame, and it passes.
$node->safe_psql('postgres', <<'END');
CREATE TABLE trouble (code text);
CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM public.trouble)
	   AND (NEW.body, NEW.status) IN (('no room to claim', 'submitting'), ('no room to record', 'unknown'), ('no room to record', 'queued'), ('no state to record', 'queued')) THEN
		RAISE EXCEPTION 'no room is left' USING ERRCODE = (SELECT code FROM public.trouble);
	END IF;
	RETURN NULL;
END $$;
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS public.stumble DEFERRED; RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER stumble AFTER UPDATE ON twilio_messages DEFERRABLE FOR EACH ROW EXECUTE FUNCTION stumble();
INSERT INTO trouble VALUES ('53100');
END
# How it became known that Twilio has the message: api, where its answer was recorded; a look would be a poll.
sub learned_from { my ($id) = @_; return $node->safe_psql('postgres', "SELECT source FROM twilio_message_events WHERE message_id = '$id' AND source <> 'local' ORDER BY id LIMIT 1") }
my $waiting = send_sms($node, 1, body => 'no room to claim');
wait_until { as_user($node, 1, "SELECT reason FROM twilio_queue WHERE message_id = '$waiting'")->{out} =~ /no room is left/ } 10, 'a message waits that cannot be claimed for want of room';
goes_out('beside no room', '... others go on');
$node->safe_psql('postgres', "UPDATE trouble SET code = '55000'");
my $stateless = send_sms($node, 1, body => 'no state to record');
wait_until { slurp_file($node->logfile) =~ /recording an order failed: no room is left/ } 10, 'what comes of another cannot be recorded, for a reason that passes';
goes_out('beside no state', '... others go on');
$node->safe_psql('postgres', 'TRUNCATE trouble');
wait_until { message($node, $stateless, 'sid') } 10, '... and when it has passed, it is written down by the same worker';
is(learned_from($stateless), 'api', '... as Twilio has answered it');
my $so_far = -s $node->logfile;
$node->safe_psql('postgres', "INSERT INTO trouble VALUES ('54000'); CREATE TRIGGER put_off BEFORE UPDATE ON twilio_messages FOR EACH ROW EXECUTE FUNCTION put_off()");
my $unwritten = send_sms($node, 1, body => 'no room to record');
wait_until { slurp_file($node->logfile, $so_far) =~ /recording an order failed: no room is left/ } 10, 'what comes of another is refused by the commit alone';
goes_out('beside no room to commit', '... others go on');
$node->safe_psql('postgres', 'TRUNCATE trouble');
wait_until { message($node, $unwritten, 'sid') } 10, 'when there is room again, it is written down by the same worker';
is(learned_from($unwritten), 'api', '... as Twilio has answered it');
set_due_now($node, 'message');
wait_until { message($node, $waiting, 'sid') } 10, '... and what has waited is sent';
is(posts($standin, body => "no room to $_"), 1, "... once ($_)") for qw(claim record);
is(posts($standin, body => 'no state to record'), 1, '... once (state)');
$node->safe_psql('postgres', 'DROP TRIGGER stumble ON twilio_messages; DROP TRIGGER put_off ON twilio_messages');

# It asks Twilio where the worker would wait for itself.
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('twilio.user_id', NEW.user_id::text, true), public.twilio_verify();
	RETURN NEW;
END $$;
CREATE TRIGGER ask BEFORE UPDATE ON twilio_messages FOR EACH ROW WHEN (NEW.body = 'asks' AND NEW.status = 'queued') EXECUTE FUNCTION ask();
END
my $asking = send_sms($node, 1, body => 'asks');
wait_until { slurp_file($node->logfile) =~ /Twilio cannot be asked from here/ } 5, 'a trigger that asks Twilio in the worker is refused';
goes_out('beside what asks', '... others go on');
$node->safe_psql('postgres', 'DROP TRIGGER ask ON twilio_messages');
wait_until { message($node, $asking, 'sid') } 20, '... and what it kept from being recorded is looked up when the trigger is gone';
is(posts($standin, body => 'asks'), 1, '... having been sent once');

# Claimed and not under way when it is switched off.
sub waiting { return $node->safe_psql('postgres', "SELECT count(*) FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref WHERE o.state = 'queued' AND m.status = 'submitting'") }
run_sql($node, "UPDATE twilio_settings SET max_in_flight = 1 WHERE user_id = '" . user_id(1) . "'", role => 'twilio_admin');
$standin->behave('delay', match => { method => 'POST', body => 'released' }, ms => 1500);
write_messages($node, 1, 'raises when released', 6);
wait_until { messages_with($node, 'raises when released%', 'submitting') > 1 } 10, 'messages are claimed, one of them under way';
configured($node, 'twilio.enabled', 'off');
wait_until { waiting() > 0 } 10, 'the others wait again when it is switched off, though their status cannot be written down';
$standin->calm;
configured($node, 'twilio.enabled', 'on');
wait_until { sent($node, 'raises when released') == 6 } 10, '... and are sent when it is on again';

# Cut off, and the doubt about it cannot be written down.
$standin->behave('hang', match => { method => 'POST', body => 'raises' });
my $id = send_sms($node, 1, body => 'raises when unknown');
wait_until { accepted($standin, body => 'raises when unknown') == 1 } 10, 'a request is under way';
kill_worker($node, 'postgres');
goes_out('after unknown', 'after a crash a message that cannot be marked as unknown does not hold up others');
$node->safe_psql('postgres', 'DROP TRIGGER look ON twilio_messages');
wait_until { message($node, $id, 'sid') } 20, '... and is looked up when the trigger is gone';
is(posts($standin, body => 'raises when unknown'), 1, '... and was sent once');
is(duplicates($standin), 0, 'nothing was accepted twice');
TwilioTest::finish();
