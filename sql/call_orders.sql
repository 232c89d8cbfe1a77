-- The order kinds `call` (placing it), `call_end` (hanging up) and `call_fetch` (what becomes known late: the final status
-- where no callback brings it, and the price). There are few calls beside messages, so they are handled one by one.
-- subject of a call_fetch: step and beginning, as reread.sql counts them.

CREATE FUNCTION twilio_private.call_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    callback CONSTANT text := nullif(current_setting('twilio.webhook_url'), '') || '?m=';
BEGIN
    -- What has a SID is at Twilio already: a callback was faster than the news that it is to be placed again.
    RETURN QUERY
        WITH submitted AS (
            UPDATE @extschema@.twilio_calls c
            SET status = 'submitting', submitted_at = clock_timestamp(), updated_at = clock_timestamp()
            FROM unnest(orders) o
            WHERE c.user_id = o.user_id AND c.id = o.ref AND c.sid IS NULL AND c.status IN ('pending', 'submitting', 'unknown')
            RETURNING o.id AS order_id, c.id, c.to_number, c.from_number, c.twiml, c.url, c.record
        )
        SELECT s.order_id, 'POST', 'api.twilio.com', '/2010-04-01/Accounts/{AccountSid}/Calls.json',
               twilio_private.form_encode(
                   ARRAY['To', s.to_number, 'From', s.from_number, 'Twiml', s.twiml, 'Url', s.url,
                         'Record', CASE WHEN s.record THEN 'true' END, 'StatusCallback', callback || s.id]
                   || CASE WHEN callback IS NOT NULL THEN
                          ARRAY['StatusCallbackEvent', 'initiated', 'StatusCallbackEvent', 'ringing',
                                'StatusCallbackEvent', 'answered', 'StatusCallbackEvent', 'completed'] END)
        FROM submitted s;
END
$$;
COMMENT ON FUNCTION twilio_private.call_requests(twilio_private.outbox[]) IS
    'The POSTs that place these calls; marks them as submitting.';
REVOKE ALL ON FUNCTION twilio_private.call_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.call_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result twilio_private.order_result;
BEGIN
    FOREACH result IN ARRAY results LOOP
        CASE result.outcome
        WHEN 'sent', 'unknown' THEN
            -- What Twilio has accepted without a word about the call, it may have or not.
            IF result.outcome = 'sent' AND twilio_private.is_call(result.body) THEN
                PERFORM twilio_private.apply_call(result.user_id, result.ref, result.body, 'api');
            ELSIF twilio_private.doubt_call(result.user_id, result.ref, result.at) THEN
                UPDATE twilio_private.outbox o
                SET state = 'unknown', due_at = 'infinity',
                    note = coalesce(result.error_message, 'Twilio has accepted something, and does not say what')
                WHERE o.id = result.order_id AND o.state = 'sending';
            ELSE
                DELETE FROM twilio_private.outbox o WHERE o.id = result.order_id; -- a callback was faster
            END IF;
        WHEN 'rejected' THEN
            PERFORM twilio_private.set_call_waiting(result.user_id, result.ref, 'failed', result.error_code, result.error_message, 'api');
        WHEN 'retry' THEN
            PERFORM twilio_private.set_call_waiting(result.user_id, result.ref, 'pending');
        WHEN 'expired' THEN
            PERFORM twilio_private.set_call_waiting(result.user_id, result.ref, 'failed', error_message =>
                concat('Not placed: Twilio could not be given it in time', ' (' || result.error_message || ')', '.'));
        ELSE
            PERFORM twilio_private.set_call_waiting(result.user_id, result.ref, 'failed', error_message => result.error_message);
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.call_results(twilio_private.order_result[]) IS 'Takes what came of placing calls.';
REVOKE ALL ON FUNCTION twilio_private.call_results(twilio_private.order_result[]) FROM PUBLIC;

-- ---- what becomes known late -----------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.follow_call(user_id uuid, call_id uuid, step int, start timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    SELECT c.user_id, 'call_fetch', c.id, concat_ws(' ', step, extract(epoch FROM start)::bigint),
           twilio_private.reread_at(step, start)
    FROM @extschema@.twilio_calls c
    WHERE c.user_id = follow_call.user_id AND c.id = call_id AND twilio_private.reread_at(step, start) IS NOT NULL
      AND (twilio_private.call_rank(c.status) < 5 OR (c.status = 'completed' AND c.price IS NULL))
      AND NOT EXISTS (SELECT FROM twilio_private.outbox o
                      WHERE o.ref = c.id AND o.kind = 'call_fetch' AND o.state = 'queued'
                        AND (o.due_at <= twilio_private.reread_at(step, start) OR o.due_at = 'infinity')) -- or has its turn soon
$$;
COMMENT ON FUNCTION twilio_private.follow_call(uuid, uuid, int, timestamptz) IS
    'Orders the n-th fetching of a call whose end or price is not known, unless one is ordered already that comes no later.';
REVOKE ALL ON FUNCTION twilio_private.follow_call(uuid, uuid, int, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.call_fetch_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT o.id, 'GET', 'api.twilio.com', format('/2010-04-01/Accounts/{AccountSid}/Calls/%s.json', c.sid), NULL::text
        FROM unnest(orders) o
        JOIN @extschema@.twilio_calls c ON c.user_id = o.user_id AND c.id = o.ref
        WHERE c.sid IS NOT NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.call_fetch_requests(twilio_private.outbox[]) IS 'The GETs that fetch calls once more.';
REVOKE ALL ON FUNCTION twilio_private.call_fetch_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.call_fetch_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    result twilio_private.order_result;
    start timestamptz;
BEGIN
    FOREACH result IN ARRAY results LOOP
        CONTINUE WHEN result.outcome = 'retry';
        IF result.outcome = 'sent' THEN
            PERFORM twilio_private.apply_call(result.user_id, result.ref, result.body, 'poll');
        END IF;
        start := to_timestamp(split_part(result.subject, ' ', 2)::bigint);
        PERFORM twilio_private.follow_call(
            result.user_id, result.ref, twilio_private.reread_step(split_part(result.subject, ' ', 1)::int, start) + 1, start);
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.call_fetch_results(twilio_private.order_result[]) IS 'Takes calls that were fetched once more.';
REVOKE ALL ON FUNCTION twilio_private.call_fetch_results(twilio_private.order_result[]) FROM PUBLIC;

-- ---- hanging up ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.call_end_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT o.id, 'POST', 'api.twilio.com', format('/2010-04-01/Accounts/{AccountSid}/Calls/%s.json', c.sid), 'Status=completed'
        FROM unnest(orders) o
        JOIN @extschema@.twilio_calls c ON c.user_id = o.user_id AND c.id = o.ref
        WHERE c.sid IS NOT NULL AND twilio_private.call_rank(c.status) < 5;
END
$$;
COMMENT ON FUNCTION twilio_private.call_end_requests(twilio_private.outbox[]) IS 'The POSTs that end calls, whatever they are at.';
REVOKE ALL ON FUNCTION twilio_private.call_end_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.call_end_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.apply_call(r.user_id, r.ref, r.body, 'api') FROM unnest(results) r WHERE r.outcome = 'sent';
    -- Twilio does not know the call yet, as may be while it is new: it is told again.
    INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at, expires_at)
    SELECT c.user_id, 'call_end', c.id, clock_timestamp() + interval '10 seconds', clock_timestamp() + interval '1 day'
    FROM unnest(results) r JOIN @extschema@.twilio_calls c ON c.user_id = r.user_id AND c.id = r.ref
    WHERE r.outcome = 'rejected' AND r.http_status = 404 AND c.submitted_at > clock_timestamp() - interval '10 minutes'
      AND twilio_private.call_rank(c.status) < 5;
    -- Not to be ended any more: look what it has become.
    INSERT INTO twilio_private.outbox (user_id, kind, ref)
    SELECT r.user_id, 'call_fetch', r.ref FROM unnest(results) r WHERE r.outcome = 'rejected' AND r.http_status IS DISTINCT FROM 404;
END
$$;
COMMENT ON FUNCTION twilio_private.call_end_results(twilio_private.order_result[]) IS 'Takes what came of ending calls.';
REVOKE ALL ON FUNCTION twilio_private.call_end_results(twilio_private.order_result[]) FROM PUBLIC;

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function, doubt_function, gives_way) VALUES
    ('call', false, 'call_requests', 'call_results', 'look_for_due_calls', false),
    ('call_end', true, 'call_end_requests', 'call_end_results', NULL, false),
    ('call_fetch', true, 'call_fetch_requests', 'call_fetch_results', NULL, true);
