-- What became of messages whose answer was lost: the order kind `message_look` lists what Twilio has between the two
-- numbers and adopts what fits. Two looks that find nothing, both at least twilio.reconcile_after later than the
-- attempt's end, mean that Twilio never took the message. After a crash that end is yet to come, for the network may
-- still hold the request; then there is a look before these two, which may find but proves nothing.
--
-- The first look asks for the day alone; the second, which may lead to sending it again, for all that Twilio has,
-- because a message that waits in a queue of Twilio has not been sent on any day yet.
-- A message that another server may have sent, a former primary or the original of this copy, is looked for once, before
-- it is sent.
-- subject of an order: which look it is, `0` (early), `1`, `2` or `b` (before sending), then the path of the page if it is
-- not the first.

CREATE FUNCTION twilio_private.look_delay() RETURNS interval
LANGUAGE sql STABLE
RETURN current_setting('twilio.reconcile_after')::interval;
COMMENT ON FUNCTION twilio_private.look_delay() IS 'How long an attempt must be over before its message is looked for.';
REVOKE ALL ON FUNCTION twilio_private.look_delay() FROM PUBLIC;

CREATE FUNCTION twilio_private.look_for_messages(user_ids uuid[], ids uuid[], ended_at timestamptz[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    -- What has a SID, which a callback has told, is in no doubt.
    WITH doubtful AS (
        SELECT m.user_id, m.id, u.ended_at
        FROM unnest(user_ids, ids, ended_at) AS u (user_id, id, ended_at)
        JOIN @extschema@.twilio_messages m ON m.user_id = u.user_id AND m.id = u.id
        WHERE m.sid IS NULL AND m.status IN ('pending', 'submitting', 'unknown')
        FOR NO KEY UPDATE OF m
    )
    SELECT array_agg(d.user_id), array_agg(d.id), array_agg(d.ended_at) INTO user_ids, ids, ended_at FROM doubtful d;
    PERFORM twilio_private.set_waiting(user_ids, ids, 'unknown');
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    SELECT u.user_id, 'message_look', u.id, look.number, look.after + twilio_private.look_delay()
    FROM unnest(user_ids, ids, ended_at) AS u (user_id, id, ended_at)
    CROSS JOIN LATERAL (VALUES ('0', clock_timestamp()), ('1', u.ended_at)) AS look (number, after)
    WHERE look.number = '1' OR look.after < u.ended_at;
END
$$;
COMMENT ON FUNCTION twilio_private.look_for_messages(uuid[], uuid[], timestamptz[]) IS
    'Marks messages as unknown, whose attempts have ended or will have at these times, and orders the first looks for them.';
REVOKE ALL ON FUNCTION twilio_private.look_for_messages(uuid[], uuid[], timestamptz[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.look_for_due_messages() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan -- as in a worker: a long queue in tables that were never analyzed would take hours
SET jit = off
AS $$
DECLARE
    user_ids uuid[];
    ids uuid[];
BEGIN
    WITH doubtful AS (
        UPDATE twilio_private.outbox o
        SET state = 'unknown', due_at = 'infinity', attempted_at = coalesce(o.attempted_at, clock_timestamp()),
            note = 'another server may have sent it'
        WHERE o.state = 'queued' AND o.kind = 'message' AND o.due_at <= clock_timestamp()
        RETURNING o.user_id, o.ref
    )
    SELECT array_agg(d.user_id), array_agg(d.ref) INTO user_ids, ids FROM doubtful d;
    PERFORM twilio_private.set_waiting(user_ids, ids, 'unknown');
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject)
    SELECT u.user_id, 'message_look', u.id, 'b' FROM unnest(user_ids, ids) AS u (user_id, id);
END
$$;
COMMENT ON FUNCTION twilio_private.look_for_due_messages() IS
    'Has all messages that are due looked for at Twilio before they are sent.';
REVOKE ALL ON FUNCTION twilio_private.look_for_due_messages() FROM PUBLIC;

CREATE FUNCTION twilio_private.end_doubt(user_id uuid, message_id uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM twilio_private.outbox o WHERE o.id IN (
        SELECT d.id FROM twilio_private.outbox d
        WHERE d.ref = end_doubt.message_id AND d.user_id = end_doubt.user_id AND d.kind IN ('message', 'message_look')
          AND d.state <> 'sending'
        FOR UPDATE SKIP LOCKED);
END
$$;
COMMENT ON FUNCTION twilio_private.end_doubt(uuid, uuid) IS
    'Ends the orders of a message that Twilio turned out to have. One that is being claimed now finds the SID by itself.';
REVOKE ALL ON FUNCTION twilio_private.end_doubt(uuid, uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_look_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    look record;
BEGIN
    method := 'GET';
    host := 'api.twilio.com';
    FOR look IN
        SELECT o.id, o.subject, m.user_id, m.id AS message_id, m.sid, m.status, m.to_number,
               CASE WHEN m.messaging_service_sid IS NULL THEN m.from_number END AS from_number,
               twilio_private.earliest_creation(m) AS earliest
        FROM unnest(orders) o
        JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
    LOOP
        CONTINUE WHEN look.status <> 'unknown' AND look.sid IS NULL;
        IF look.sid IS NOT NULL THEN
            PERFORM twilio_private.end_doubt(look.user_id, look.message_id);
            CONTINUE;
        END IF;
        order_id := look.id;
        path := coalesce(substring(look.subject FROM '^. (.*)$'),
            '/2010-04-01/Accounts/{AccountSid}/Messages.json?' || twilio_private.form_encode(ARRAY[
                'To', look.to_number, 'From', look.from_number,
                'DateSent>', CASE WHEN left(look.subject, 1) IN ('0', '1')
                                  THEN to_char(look.earliest AT TIME ZONE 'UTC', 'YYYY-MM-DD') END,
                'PageSize', '20']));
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.message_look_requests(twilio_private.outbox[]) IS
    'The GETs that look for messages whose answer was lost.';
REVOKE ALL ON FUNCTION twilio_private.message_look_requests(twilio_private.outbox[]) FROM PUBLIC;

-- Nothing that an answer says may lead to another host or account.
CREATE FUNCTION twilio_private.next_page(resource text, body jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT '/2010-04-01/Accounts/{AccountSid}/' || resource || '.json'
           || substring(body ->> 'next_page_uri' FROM '^/2010-04-01/Accounts/AC[0-9A-Za-z]{32}/' || resource || '[.]json([?][!-~]+)$')
$$;
COMMENT ON FUNCTION twilio_private.next_page(text, jsonb) IS
    'The path of the next page of a list of Messages or Calls, null at its end.';
REVOKE ALL ON FUNCTION twilio_private.next_page(text, jsonb) FROM PUBLIC;

CREATE FUNCTION twilio_private.may_go_on(listed jsonb, since timestamptz) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(newest >= since OR first < last, true)
    FROM (SELECT twilio_private.parse_rfc2822(listed -> 0 ->> 'date_created') AS first,
                 twilio_private.parse_rfc2822(listed -> -1 ->> 'date_created') AS last,
                 (SELECT max(twilio_private.parse_rfc2822(l.object ->> 'date_created'))
                  FROM jsonb_array_elements(listed) AS l (object)) AS newest) page
$$;
COMMENT ON FUNCTION twilio_private.may_go_on(jsonb, timestamptz) IS
    'Whether pages behind this one may have messages created since that time: Twilio lists the newest first, be it by their
creation or by their sending, which for one that was planned is long after.';
REVOKE ALL ON FUNCTION twilio_private.may_go_on(jsonb, timestamptz) FROM PUBLIC;

-- Users may share an account, and then each sees in its lists what the others sent.
CREATE FUNCTION twilio_private.users_of_account(user_id uuid) RETURNS SETOF uuid
LANGUAGE sql STABLE ROWS 2
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.user_id FROM @extschema@.twilio_settings s
    WHERE lower(s.account_sid) = (SELECT lower(own.account_sid) FROM @extschema@.twilio_settings own
                                  WHERE own.user_id = users_of_account.user_id)
$$;
COMMENT ON FUNCTION twilio_private.users_of_account(uuid) IS 'The users who have the same Twilio account as this one, itself among them.';
REVOKE ALL ON FUNCTION twilio_private.users_of_account(uuid) FROM PUBLIC;

-- How far our clock is ahead of Twilio's is known, to a second or two, when it has answered.
CREATE FUNCTION twilio_private.earliest_creation(message @extschema@.twilio_messages, ahead interval DEFAULT NULL) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN coalesce(message.submitted_at, message.created_at) - coalesce(ahead, '0') - interval '1 minute';
COMMENT ON FUNCTION twilio_private.earliest_creation(@extschema@.twilio_messages, interval) IS
    'When Twilio may have created this message at the earliest, by its own clock, with ours so far ahead of it.';
REVOKE ALL ON FUNCTION twilio_private.earliest_creation(@extschema@.twilio_messages, interval) FROM PUBLIC;

-- Smart Encoding, which a new Messaging Service has, puts look-alikes of GSM-7 in the place of quotes, dashes, dots and
-- blanks, if that makes the whole text GSM-7.
CREATE FUNCTION twilio_private.smartly_encoded(body text, listed text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN (twilio_private.sms_segments(listed)).encoding = 'GSM-7'
       AND (SELECT regexp_replace(listed, replaced, '', 'g') = regexp_replace(body, replaced, '', 'g')
            FROM (VALUES ('[-[:space:]"''`´<>«».\u2000-\u206F\u3000\uFEFF]+')) AS look_alikes (replaced));
COMMENT ON FUNCTION twilio_private.smartly_encoded(text, text) IS
    'Whether Twilio may list a text so: all in GSM-7, and the same but for quotes, dashes, dots and blanks.';
REVOKE ALL ON FUNCTION twilio_private.smartly_encoded(text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.found_among(wanted @extschema@.twilio_messages, listed jsonb, since timestamptz) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN (
        SELECT l.object
        FROM jsonb_array_elements(CASE jsonb_typeof(listed) WHEN 'array' THEN listed ELSE '[]' END) AS l (object)
        WHERE twilio_private.is_message(l.object) AND l.object ->> 'direction' = 'outbound-api'
          AND l.object ->> 'to' = wanted.to_number
          -- Trial accounts put a sentence before every text.
          AND (coalesce(l.object ->> 'body', '') = coalesce(wanted.body, '')
               OR l.object ->> 'body' = 'Sent from your Twilio trial account - ' || coalesce(wanted.body, '')
               OR (wanted.messaging_service_sid IS NOT NULL AND wanted.encoding = 'UCS-2'
                   AND twilio_private.smartly_encoded(wanted.body, l.object ->> 'body')))
          AND coalesce(twilio_private.whole(l.object ->> 'num_media'), 0) = wanted.num_media
          AND twilio_private.parse_rfc2822(l.object ->> 'date_created') >= since
          AND NOT EXISTS (SELECT FROM twilio_private.users_of_account(wanted.user_id) u
                          JOIN @extschema@.twilio_messages m ON m.user_id = u AND m.sid = l.object ->> 'sid')
          AND NOT EXISTS (SELECT FROM twilio_private.users_of_account(wanted.user_id) u
                          JOIN @extschema@.twilio_messages m ON m.user_id = u
                              AND m.former_sids IS NOT NULL AND l.object ->> 'sid' = ANY (m.former_sids))
        ORDER BY l.object ->> 'body' = wanted.body DESC, twilio_private.parse_rfc2822(l.object ->> 'date_created'), l.object ->> 'sid' LIMIT 1);
END
$$;
COMMENT ON FUNCTION twilio_private.found_among(@extschema@.twilio_messages, jsonb, timestamptz) IS
    'The first of these messages of Twilio, created since that time, that may be the wanted one and that no row of a user of the account has or had.';
REVOKE ALL ON FUNCTION twilio_private.found_among(@extschema@.twilio_messages, jsonb, timestamptz) FROM PUBLIC;

-- Orders are claimed as they are due, so these are among the first, and a backlog behind them need not be read. What has
-- been done since the last VACUUM is passed over all the same, so this is asked once for many looks.
CREATE FUNCTION twilio_private.messages_under_way(user_ids uuid[]) RETURNS @extschema@.twilio_messages[]
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off -- it would sort all that is due
AS $$
BEGIN
    RETURN ARRAY(
        SELECT m.message
        FROM (SELECT DISTINCT a.user_id FROM unnest(user_ids) i, twilio_private.users_of_account(i) AS a (user_id)) u
        CROSS JOIN LATERAL (SELECT q.* FROM twilio_private.outbox q WHERE q.user_id = u.user_id AND q.due_at <= now()
                            ORDER BY q.due_at, q.id LIMIT 1000 + twilio_private.most_claimed()) o
        -- OFFSET 0 fixes the order of the join: the other way round, it reads all messages.
        CROSS JOIN LATERAL (SELECT m AS message FROM @extschema@.twilio_messages m
                            WHERE m.user_id = o.user_id AND m.id = o.ref OFFSET 0) m
        WHERE o.state = 'sending' AND o.kind = 'message' AND (m.message).sid IS NULL);
END
$$;
COMMENT ON FUNCTION twilio_private.messages_under_way(uuid[]) IS
    'The messages that are being sent at the moment from the accounts of these users.';
REVOKE ALL ON FUNCTION twilio_private.messages_under_way(uuid[]) FROM PUBLIC;

-- Whose SID is it, where several messages read the same? Those that are being sent right now will learn theirs.
CREATE FUNCTION twilio_private.twin_is_among(wanted @extschema@.twilio_messages, under_way @extschema@.twilio_messages[]) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(under_way) m
        WHERE m.id <> wanted.id AND m.to_number = wanted.to_number AND m.body IS NOT DISTINCT FROM wanted.body
          AND m.user_id IN (SELECT twilio_private.users_of_account(wanted.user_id)));
END
$$;
COMMENT ON FUNCTION twilio_private.twin_is_among(@extschema@.twilio_messages, @extschema@.twilio_messages[]) IS
    'Whether one of these messages reads the same and is sent from the same account.';
REVOKE ALL ON FUNCTION twilio_private.twin_is_among(@extschema@.twilio_messages, @extschema@.twilio_messages[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.look_again(result twilio_private.order_result, subject text, due_at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    VALUES (result.user_id, 'message_look', result.ref, subject, due_at)
$$;
COMMENT ON FUNCTION twilio_private.look_again(twilio_private.order_result, text, timestamptz) IS
    'Orders another look for a message.';
REVOKE ALL ON FUNCTION twilio_private.look_again(twilio_private.order_result, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.give_up_looking(wanted @extschema@.twilio_messages, resend boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT resend THEN
        PERFORM twilio_private.end_doubt(wanted.user_id, wanted.id);
        PERFORM twilio_private.set_waiting(ARRAY[wanted.user_id], ARRAY[wanted.id], 'unresolved');
        RETURN;
    END IF;
    PERFORM twilio_private.set_waiting(ARRAY[wanted.user_id], ARRAY[wanted.id], 'pending');
    PERFORM twilio_private.order_again(wanted.user_id, wanted.id, 'message', wanted.expires_at);
END
$$;
COMMENT ON FUNCTION twilio_private.give_up_looking(@extschema@.twilio_messages, boolean) IS
    'Twilio does not have the message: it is queued again, or left unresolved.';
REVOKE ALL ON FUNCTION twilio_private.give_up_looking(@extschema@.twilio_messages, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_look_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result twilio_private.order_result;
    wanted @extschema@.twilio_messages;
    earliest timestamptz;
    match jsonb;
    under_way @extschema@.twilio_messages[];
    next_page text;
BEGIN
    -- One by one: what one message has taken is no longer there for the next.
    FOREACH result IN ARRAY results LOOP
        CONTINUE WHEN result.outcome = 'retry';
        SELECT * INTO wanted FROM @extschema@.twilio_messages m
        WHERE m.user_id = result.user_id AND m.id = result.ref FOR NO KEY UPDATE;
        CONTINUE WHEN NOT FOUND;
        IF wanted.sid IS NOT NULL THEN
            PERFORM twilio_private.end_doubt(wanted.user_id, wanted.id);
            CONTINUE;
        END IF;
        CONTINUE WHEN wanted.status <> 'unknown';
        -- It began before the message was sent again, and proves nothing about that; what does, is ordered.
        CONTINUE WHEN result.attempted_at < wanted.submitted_at AND EXISTS (
            SELECT FROM twilio_private.outbox o
            WHERE o.ref = wanted.id AND o.kind = 'message_look' AND o.id <> result.order_id);

        IF result.outcome <> 'sent' OR jsonb_typeof(result.body -> 'messages') IS DISTINCT FROM 'array' THEN
            PERFORM twilio_private.look_again(result, left(result.subject, 1), clock_timestamp() + interval '5 minutes');
        ELSE
            earliest := twilio_private.earliest_creation(wanted, ahead => result.at - result.twilio_at);
            match := twilio_private.found_among(wanted, result.body -> 'messages', earliest);
            next_page := twilio_private.next_page('Messages', result.body);
            IF match IS NOT NULL AND under_way IS NULL THEN
                under_way := twilio_private.messages_under_way(ARRAY(SELECT r.user_id FROM unnest(results) r));
            END IF;
            IF match IS NOT NULL AND twilio_private.twin_is_among(wanted, under_way) THEN
                PERFORM twilio_private.look_again(result, left(result.subject, 1), clock_timestamp() + interval '5 seconds');
            ELSIF match IS NOT NULL THEN
                PERFORM twilio_private.apply_messages(ARRAY[wanted.user_id], ARRAY[wanted.id], ARRAY[match], 'poll');
                PERFORM twilio_private.follow_messages(ARRAY[wanted.user_id], ARRAY[wanted.id], ARRAY[match]);
                PERFORM twilio_private.follow_repeated(wanted.user_id, wanted.id);
                PERFORM twilio_private.end_doubt(wanted.user_id, wanted.id);
            ELSIF next_page IS NOT NULL AND result.subject <> left(result.subject, 1) || ' ' || next_page
                  AND twilio_private.may_go_on(result.body -> 'messages', earliest) THEN
                PERFORM twilio_private.look_again(result, left(result.subject, 1) || ' ' || next_page, clock_timestamp());
            ELSIF left(result.subject, 1) = '0' THEN
                CONTINUE;
            ELSIF left(result.subject, 1) = '1' THEN
                PERFORM twilio_private.look_again(result, '2',
                                                  clock_timestamp() + least(twilio_private.look_delay(), interval '15 seconds'));
            ELSE
                PERFORM twilio_private.give_up_looking(wanted, left(result.subject, 1) = 'b'
                                                               OR twilio_private.may_repeat(wanted.user_id, wanted.id, 'message'));
            END IF;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.message_look_results(twilio_private.order_result[]) IS
    'Adopts what a look has found, or decides what follows when it has found nothing.';
REVOKE ALL ON FUNCTION twilio_private.message_look_results(twilio_private.order_result[]) FROM PUBLIC;

-- SECURITY DEFINER: touches orders and messages of the user whose settings were changed. Only the former account could
-- tell what became of what it was given; looked for in the new one, it would be missing there, and be sent again. What is
-- under way is not touched: its order knows the account, and the worker does not wait for this transaction.
CREATE FUNCTION twilio_private.leave_account() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.give_up_looking(m, false)
    FROM @extschema@.twilio_messages m
    WHERE m.user_id = OLD.user_id AND m.status = 'unknown'
      AND m.id IN (SELECT o.ref FROM twilio_private.outbox o
                   WHERE o.user_id = OLD.user_id AND (o.kind = 'message_look' OR (o.kind = 'message' AND o.state = 'unknown')));
    IF TG_OP = 'DELETE' THEN
        -- Nobody can be asked any more.
        DELETE FROM twilio_private.outbox o
        WHERE o.user_id = OLD.user_id AND o.state = 'queued'
          AND o.kind IN (SELECT k.kind FROM twilio_private.order_kind k WHERE k.repeatable);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.leave_account() IS 'Leaves messages unresolved whose fate only the user''s former account knows, and ends what was to be asked of a deleted one.';
REVOKE ALL ON FUNCTION twilio_private.leave_account() FROM PUBLIC;
CREATE TRIGGER messages_of_former_account AFTER UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW WHEN (OLD.account_sid <> NEW.account_sid)
    EXECUTE FUNCTION twilio_private.leave_account();
CREATE TRIGGER messages_of_deleted_account AFTER DELETE ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.leave_account();

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function) VALUES
    ('message_look', true, 'message_look_requests', 'message_look_results');
