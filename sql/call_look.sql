-- What became of calls whose answer was lost: the order kind `call_look` lists the account's calls between the two numbers
-- and adopts what fits. Looks prove by the same rules as those for messages (reconcile.sql). A list of calls does not tell
-- two calls to the same number apart. Where they say the same, it need not; where not, one that may have been taken for the
-- other is not placed again.
-- subject of an order: `1`, `2` or `b` (before placing it), then the path of the page if it is not the first.

CREATE FUNCTION twilio_private.look_for_call(user_id uuid, call_id uuid, subject text, due_at timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM twilio_private.outbox o
    WHERE o.ref = call_id AND o.user_id = look_for_call.user_id AND o.kind = 'call_look' AND o.state = 'queued';
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    VALUES (look_for_call.user_id, 'call_look', call_id, look_for_call.subject, look_for_call.due_at)
$$;
COMMENT ON FUNCTION twilio_private.look_for_call(uuid, uuid, text, timestamptz) IS
    'Orders a look for a call, in the place of one that was ordered before.';
REVOKE ALL ON FUNCTION twilio_private.look_for_call(uuid, uuid, text, timestamptz) FROM PUBLIC;

-- The row stays locked until this is written down, so no callback comes between.
CREATE FUNCTION twilio_private.doubt_call(user_id uuid, call_id uuid, ended_at timestamptz) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM @extschema@.twilio_calls c
    WHERE c.user_id = doubt_call.user_id AND c.id = call_id AND c.sid IS NULL AND c.status IN ('pending', 'submitting', 'unknown')
    FOR NO KEY UPDATE;
    IF FOUND THEN
        PERFORM twilio_private.set_call_waiting(user_id, call_id, 'unknown');
        PERFORM twilio_private.look_for_call(user_id, call_id, '1', ended_at + twilio_private.look_delay());
        RETURN true;
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION twilio_private.doubt_call(uuid, uuid, timestamptz) IS
    'Marks a call as unknown, whose attempt has ended or will have at that time, and has it looked for; false where it is in no doubt.';
REVOKE ALL ON FUNCTION twilio_private.doubt_call(uuid, uuid, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.end_call_doubt(user_id uuid, call_id uuid) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM twilio_private.outbox o WHERE o.id IN (
        SELECT d.id FROM twilio_private.outbox d
        WHERE d.ref = call_id AND d.user_id = end_call_doubt.user_id AND d.kind IN ('call', 'call_look') AND d.state <> 'sending'
        FOR UPDATE SKIP LOCKED)
$$;
COMMENT ON FUNCTION twilio_private.end_call_doubt(uuid, uuid) IS
    'Ends the orders of a call that Twilio turned out to have. One that is being claimed now finds the SID by itself.';
REVOKE ALL ON FUNCTION twilio_private.end_call_doubt(uuid, uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.look_for_due_calls() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    due record;
BEGIN
    FOR due IN
        UPDATE twilio_private.outbox o
        SET state = 'unknown', due_at = 'infinity', attempted_at = coalesce(o.attempted_at, clock_timestamp()),
            note = 'another server may have placed it'
        WHERE o.state = 'queued' AND o.kind = 'call' AND o.due_at <= clock_timestamp()
        RETURNING o.user_id, o.ref
    LOOP
        PERFORM twilio_private.set_call_waiting(due.user_id, due.ref, 'unknown');
        PERFORM twilio_private.look_for_call(due.user_id, due.ref, 'b', clock_timestamp());
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.look_for_due_calls() IS 'Has all calls that are due looked for at Twilio before they are placed.';
REVOKE ALL ON FUNCTION twilio_private.look_for_due_calls() FROM PUBLIC;

CREATE FUNCTION twilio_private.call_look_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- By To and From alone: a call that waits at Twilio for its turn has no StartTime yet.
    RETURN QUERY
        SELECT o.id, 'GET', 'api.twilio.com',
               coalesce(substring(o.subject FROM '^. (.*)$'),
                        '/2010-04-01/Accounts/{AccountSid}/Calls.json?'
                        || twilio_private.form_encode(ARRAY['To', c.to_number, 'From', c.from_number, 'PageSize', '20'])),
               NULL::text
        FROM unnest(orders) o
        JOIN @extschema@.twilio_calls c ON c.user_id = o.user_id AND c.id = o.ref
        WHERE c.sid IS NULL AND c.status = 'unknown';
END
$$;
COMMENT ON FUNCTION twilio_private.call_look_requests(twilio_private.outbox[]) IS
    'The GETs that look for calls whose answer was lost.';
REVOKE ALL ON FUNCTION twilio_private.call_look_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.found_call(wanted @extschema@.twilio_calls, listed jsonb, since timestamptz) RETURNS jsonb
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.object
    FROM jsonb_array_elements(listed) AS l (object)
    WHERE twilio_private.is_call(l.object) AND l.object ->> 'direction' = 'outbound-api'
      AND l.object ->> 'to' = wanted.to_number AND l.object ->> 'from' = wanted.from_number
      AND twilio_private.parse_rfc2822(l.object ->> 'date_created') >= since
      AND NOT EXISTS (SELECT FROM twilio_private.users_of_account(wanted.user_id) u
                      JOIN @extschema@.twilio_calls c ON c.user_id = u AND c.sid = l.object ->> 'sid')
    ORDER BY twilio_private.parse_rfc2822(l.object ->> 'date_created'), l.object ->> 'sid' LIMIT 1
$$;
COMMENT ON FUNCTION twilio_private.found_call(@extschema@.twilio_calls, jsonb, timestamptz) IS
    'The first of these calls of Twilio, created since that time, that may be the wanted one and that no row of a user of the account has.';
REVOKE ALL ON FUNCTION twilio_private.found_call(@extschema@.twilio_calls, jsonb, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.other_calls(wanted @extschema@.twilio_calls) RETURNS SETOF @extschema@.twilio_calls
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET plan_cache_mode = force_custom_plan -- PostgreSQL 18 keeps plans of SQL functions, and while the table is small, takes the primary key
AS $$
    SELECT c.*
    FROM twilio_private.users_of_account(wanted.user_id) u
    -- OFFSET 0 fixes the order of the join: the other way round, it reads all calls of a day.
    CROSS JOIN LATERAL (
        SELECT c.* FROM @extschema@.twilio_calls c
        WHERE c.user_id = u AND c.to_number = wanted.to_number AND c.id <> wanted.id AND c.direction = 'outbound'
          AND c.created_at BETWEEN wanted.created_at - interval '1 day 1 hour' AND wanted.created_at + interval '1 day 1 hour'
        OFFSET 0) c
$$;
COMMENT ON FUNCTION twilio_private.other_calls(@extschema@.twilio_calls) IS
    'The calls to the same number, placed from the same account, with which this one may be mixed up.';
REVOKE ALL ON FUNCTION twilio_private.other_calls(@extschema@.twilio_calls) FROM PUBLIC;

CREATE FUNCTION twilio_private.other_call_is_under_way(wanted @extschema@.twilio_calls) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
    SELECT EXISTS (
        SELECT FROM twilio_private.other_calls(wanted) c
        JOIN twilio_private.outbox o ON o.ref = c.id AND o.kind = 'call' AND o.state = 'sending' AND o.due_at < 'infinity'
        WHERE c.sid IS NULL)
$$;
COMMENT ON FUNCTION twilio_private.other_call_is_under_way(@extschema@.twilio_calls) IS
    'Whether another call to the same number is being placed at the moment, which will learn its SID.';
REVOKE ALL ON FUNCTION twilio_private.other_call_is_under_way(@extschema@.twilio_calls) FROM PUBLIC;

-- A look gave it that one's SID, and no callback has confirmed it: this one may be at Twilio, and that one not.
CREATE FUNCTION twilio_private.taken_for_another(wanted @extschema@.twilio_calls) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
    SELECT EXISTS (
        SELECT FROM twilio_private.other_calls(wanted) c
        CROSS JOIN LATERAL (SELECT min(e.occurred_at) FILTER (WHERE e.source = 'poll') AS found_at,
                                   min(e.occurred_at) FILTER (WHERE e.source = 'api') AS answered_at,
                                   bool_or(e.source = 'callback') AS confirmed
                            FROM @extschema@.twilio_call_events e WHERE e.user_id = c.user_id AND e.call_id = c.id) event
        WHERE c.sid IS NOT NULL AND c.from_number = wanted.from_number
          AND (c.twiml, c.url, c.record) IS DISTINCT FROM (wanted.twiml, wanted.url, wanted.record)
          AND event.found_at >= coalesce(wanted.submitted_at, wanted.created_at)
          AND event.found_at < coalesce(event.answered_at, 'infinity') AND NOT event.confirmed)
$$;
COMMENT ON FUNCTION twilio_private.taken_for_another(@extschema@.twilio_calls) IS
    'Whether what a look has taken for another call, which says something else, may be this one.';
REVOKE ALL ON FUNCTION twilio_private.taken_for_another(@extschema@.twilio_calls) FROM PUBLIC;

CREATE FUNCTION twilio_private.give_up_call(wanted @extschema@.twilio_calls, again boolean) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT again THEN
        PERFORM twilio_private.end_call_doubt(wanted.user_id, wanted.id);
        PERFORM twilio_private.set_call_waiting(wanted.user_id, wanted.id, 'unresolved');
        RETURN;
    END IF;
    PERFORM twilio_private.set_call_waiting(wanted.user_id, wanted.id, 'pending');
    PERFORM twilio_private.order_again(wanted.user_id, wanted.id, 'call', wanted.expires_at);
END
$$;
COMMENT ON FUNCTION twilio_private.give_up_call(@extschema@.twilio_calls, boolean) IS
    'Twilio does not have the call: it is queued again, or left unresolved.';
REVOKE ALL ON FUNCTION twilio_private.give_up_call(@extschema@.twilio_calls, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.call_look_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result twilio_private.order_result;
    number text;
    wanted @extschema@.twilio_calls;
    earliest timestamptz;
    match jsonb;
    next_page text;
BEGIN
    -- One by one: what one call has taken is no longer there for the next.
    FOREACH result IN ARRAY results LOOP
        CONTINUE WHEN result.outcome = 'retry';
        SELECT * INTO wanted FROM @extschema@.twilio_calls c
        WHERE c.user_id = result.user_id AND c.id = result.ref FOR NO KEY UPDATE;
        CONTINUE WHEN wanted.sid IS NOT NULL OR wanted.status IS DISTINCT FROM 'unknown';
        -- It began before the call was placed again, and proves nothing about that; what does, is ordered.
        CONTINUE WHEN result.attempted_at < wanted.submitted_at AND EXISTS (
            SELECT FROM twilio_private.outbox o WHERE o.ref = wanted.id AND o.kind = 'call_look' AND o.id <> result.order_id);

        number := left(result.subject, 1);
        IF result.outcome <> 'sent' OR jsonb_typeof(result.body -> 'calls') IS DISTINCT FROM 'array' THEN
            PERFORM twilio_private.look_for_call(wanted.user_id, wanted.id, number, clock_timestamp() + interval '1 minute');
            CONTINUE;
        ELSIF twilio_private.other_call_is_under_way(wanted) THEN
            PERFORM twilio_private.look_for_call(wanted.user_id, wanted.id, number, clock_timestamp() + interval '5 seconds');
            CONTINUE;
        END IF;
        earliest := coalesce(wanted.submitted_at, wanted.created_at) - coalesce(result.at - result.twilio_at, '0') - interval '1 minute';
        match := twilio_private.found_call(wanted, result.body -> 'calls', earliest);
        next_page := twilio_private.next_page('Calls', result.body);
        IF match IS NOT NULL THEN
            PERFORM twilio_private.apply_call(wanted.user_id, wanted.id, match, 'poll');
        ELSIF next_page IS NOT NULL AND result.subject <> number || ' ' || next_page
              AND twilio_private.may_go_on(result.body -> 'calls', earliest) THEN
            PERFORM twilio_private.look_for_call(wanted.user_id, wanted.id, number || ' ' || next_page, clock_timestamp());
        ELSIF number = '1' THEN
            PERFORM twilio_private.look_for_call(wanted.user_id, wanted.id, '2',
                                                 clock_timestamp() + least(twilio_private.look_delay(), interval '15 seconds'));
        ELSE
            PERFORM twilio_private.give_up_call(
                wanted, NOT twilio_private.taken_for_another(wanted)
                        AND (number = 'b' OR twilio_private.may_repeat(wanted.user_id, wanted.id, 'call')));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.call_look_results(twilio_private.order_result[]) IS
    'Adopts what a look has found, or decides what follows when it has found nothing.';
REVOKE ALL ON FUNCTION twilio_private.call_look_results(twilio_private.order_result[]) FROM PUBLIC;

-- SECURITY DEFINER: touches orders and calls of the user whose settings were changed.
CREATE FUNCTION twilio_private.leave_account_with_calls() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.give_up_call(c, false)
    FROM @extschema@.twilio_calls c
    WHERE c.user_id = OLD.user_id AND c.status = 'unknown'
      AND c.id IN (SELECT o.ref FROM twilio_private.outbox o
                   WHERE o.user_id = OLD.user_id AND (o.kind = 'call_look' OR (o.kind = 'call' AND o.state = 'unknown')));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.leave_account_with_calls() IS
    'Leaves calls unresolved whose fate only the user''s former account knows.';
REVOKE ALL ON FUNCTION twilio_private.leave_account_with_calls() FROM PUBLIC;
CREATE TRIGGER calls_of_former_account AFTER UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW WHEN (OLD.account_sid <> NEW.account_sid)
    EXECUTE FUNCTION twilio_private.leave_account_with_calls();
CREATE TRIGGER calls_of_deleted_account AFTER DELETE ON @extschema@.twilio_settings
    FOR EACH ROW EXECUTE FUNCTION twilio_private.leave_account_with_calls();

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function) VALUES
    ('call_look', true, 'call_look_requests', 'call_look_results');
