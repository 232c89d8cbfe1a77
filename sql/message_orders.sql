-- The order kinds `message` (the sending) and `message_cancel`: what is posted to Twilio, and what its answer means.
-- subject of a message: `again` if it was sent before.

CREATE FUNCTION twilio_private.message_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    callback CONSTANT text := nullif(current_setting('twilio.webhook_url'), '') || '?m=';
    built bigint;
BEGIN
    -- What has a SID is at Twilio already: a callback was faster than the news that it is to be sent again.
    RETURN QUERY
        WITH submitted AS (
            UPDATE @extschema@.twilio_messages m
            SET status = CASE WHEN (m.send_at IS NULL OR m.send_at <= clock_timestamp()
                                    OR twilio_private.planned_at_twilio(m.messaging_service_sid, m.send_at, m.expires_at))
                                   AND NOT EXISTS (SELECT FROM @extschema@.twilio_opt_outs p
                                                   WHERE p.user_id = m.user_id AND p.phone_number = m.to_number
                                                     AND p.opted_in_at IS NULL)
                              THEN 'submitting' ELSE 'pending' END,
                submitted_at = clock_timestamp(), updated_at = clock_timestamp()
            FROM unnest(orders) o
            WHERE m.user_id = o.user_id AND m.id = o.ref AND m.sid IS NULL AND m.status IN ('pending', 'submitting', 'unknown')
            RETURNING o.id AS order_id, m.id, m.status, m.to_number, m.from_number, m.messaging_service_sid, m.body, m.media_urls,
                      CASE WHEN m.send_at > clock_timestamp() THEN m.send_at END AS planned_at,
                      extract(epoch FROM m.expires_at - clock_timestamp())::int AS seconds_left
        )
        SELECT s.order_id, 'POST', 'api.twilio.com', '/2010-04-01/Accounts/{AccountSid}/Messages.json',
               twilio_private.form_encode(
                   ARRAY['To', s.to_number, 'From', s.from_number, 'MessagingServiceSid', s.messaging_service_sid, 'Body', s.body,
                         'StatusCallback', callback || s.id,
                         'ScheduleType', CASE WHEN s.planned_at IS NOT NULL THEN 'fixed' END,
                         'SendAt', to_char(s.planned_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                         -- Twilio keeps a message for ten hours by itself.
                         'ValidityPeriod', CASE WHEN s.planned_at IS NULL AND s.seconds_left < 35900
                                                THEN greatest(s.seconds_left, 10)::text END]
                   || CASE WHEN s.media_urls IS NOT NULL THEN
                          (SELECT array_agg(p.pair ORDER BY u.n, p.n)
                           FROM unnest(s.media_urls) WITH ORDINALITY AS u (url, n),
                                LATERAL unnest(ARRAY['MediaUrl', u.url]) WITH ORDINALITY AS p (pair, n)) END)
        FROM submitted s WHERE s.status = 'submitting';
    GET DIAGNOSTICS built = ROW_COUNT;

    IF built < cardinality(orders) THEN
        -- The recipient has opted out since they were ordered.
        PERFORM twilio_private.fail_messages(ARRAY[m.user_id], ARRAY[m.id], ARRAY[21610], ARRAY['The recipient has opted out.'], 'local')
        FROM unnest(orders) o
        JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
        JOIN @extschema@.twilio_opt_outs p ON p.user_id = m.user_id AND p.phone_number = m.to_number AND p.opted_in_at IS NULL
        WHERE m.sid IS NULL AND m.status = 'pending';
        -- Planned at Twilio when they were ordered, too close to their time by now: kept here until then.
        INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at, expires_at)
        SELECT o.user_id, 'message', m.id, o.subject, coalesce(m.send_at, clock_timestamp()), o.expires_at
        FROM unnest(orders) o JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
        WHERE m.sid IS NULL AND m.status = 'pending';
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.message_requests(twilio_private.outbox[]) IS
    'The POSTs that send these messages; marks them as submitting. To whom has opted out meanwhile nothing is sent.';
REVOKE ALL ON FUNCTION twilio_private.message_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.fail_messages(user_ids uuid[], ids uuid[], codes int[], reasons text[], source text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    told bigint;
BEGIN
    WITH failed AS (
        UPDATE @extschema@.twilio_messages m
        SET status = 'failed', error_code = f.code, error_message = left(f.reason, 1000), updated_at = clock_timestamp()
        FROM unnest(user_ids, ids, codes, reasons) AS f (user_id, id, code, reason)
        WHERE m.user_id = f.user_id AND m.id = f.id AND m.sid IS NULL AND m.status IN ('pending', 'submitting', 'unknown')
        RETURNING m.user_id, m.id, m.status, m.error_code
    ), noted AS (
        INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, error_code, source)
        SELECT f.user_id, f.id, f.status, f.error_code, fail_messages.source FROM failed f
        ON CONFLICT (user_id, message_id, status, coalesce(error_code, 0)) DO NOTHING
    )
    SELECT count(twilio_private.notify_at_commit(twilio_private.notice(f.user_id, f.id, f.status))) INTO told FROM failed f;
END
$$;
COMMENT ON FUNCTION twilio_private.fail_messages(uuid[], uuid[], int[], text[], text) IS
    'Marks messages that Twilio has not taken as failed.';
REVOKE ALL ON FUNCTION twilio_private.fail_messages(uuid[], uuid[], int[], text[], text) FROM PUBLIC;

CREATE FUNCTION twilio_private.set_waiting(user_ids uuid[], ids uuid[], status text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    told bigint;
BEGIN
    WITH changed AS (
        UPDATE @extschema@.twilio_messages m SET status = set_waiting.status, updated_at = clock_timestamp()
        FROM unnest(user_ids, ids) AS u (user_id, id)
        WHERE m.user_id = u.user_id AND m.id = u.id AND m.sid IS NULL AND m.status IN ('pending', 'submitting', 'unknown')
          AND m.status <> set_waiting.status
        RETURNING m.user_id, m.id, m.status
    ), noted AS (
        INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, source)
        SELECT c.user_id, c.id, c.status, 'local' FROM changed c
        ON CONFLICT (user_id, message_id, status, coalesce(error_code, 0)) DO NOTHING
    )
    SELECT count(twilio_private.notify_at_commit(twilio_private.notice(c.user_id, c.id, c.status))) INTO told FROM changed c;
END
$$;
COMMENT ON FUNCTION twilio_private.set_waiting(uuid[], uuid[], text) IS
    'Gives messages without SID a status of our own: pending, unknown or unresolved.';
REVOKE ALL ON FUNCTION twilio_private.set_waiting(uuid[], uuid[], text) FROM PUBLIC;

-- Where a look has given a message's SID to another that reads the same, Twilio's own answer is right.
CREATE FUNCTION twilio_private.apply_answers(user_ids uuid[], ids uuid[], objects jsonb[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.apply_messages(user_ids, ids, objects, 'api');
EXCEPTION WHEN unique_violation THEN
    FOR n IN 1 .. cardinality(ids) LOOP
        IF twilio_private.is_message(objects[n])
           AND NOT EXISTS (SELECT FROM @extschema@.twilio_messages m
                           WHERE m.user_id = user_ids[n] AND m.id = ids[n] AND objects[n] ->> 'sid' = ANY (m.former_sids)) THEN
            PERFORM twilio_private.adopt_sid(user_ids[n], ids[n], objects[n] ->> 'sid');
            PERFORM twilio_private.apply_messages(user_ids[n:n], ids[n:n], objects[n:n], 'api');
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.apply_answers(uuid[], uuid[], jsonb[]) IS
    'Puts Twilio''s answers to our POSTs into the rows of the messages.';
REVOKE ALL ON FUNCTION twilio_private.apply_answers(uuid[], uuid[], jsonb[]) FROM PUBLIC;

-- The request has waited its turn, or Twilio's clock is ahead: what it refuses may be too close to its time to be planned.
-- What is wrong with sender, recipient or text has a code of 21000 and more.
CREATE FUNCTION twilio_private.keep_planned(results twilio_private.order_result[]) RETURNS uuid[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    user_ids uuid[];
    ids uuid[];
BEGIN
    IF EXISTS (SELECT FROM unnest(results) r WHERE r.outcome = 'rejected') THEN
        WITH kept AS (
            INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at, expires_at)
            SELECT m.user_id, 'message', m.id, r.subject, m.send_at, m.expires_at
            FROM unnest(results) r JOIN @extschema@.twilio_messages m ON m.user_id = r.user_id AND m.id = r.ref
            WHERE r.outcome = 'rejected' AND (r.error_code BETWEEN 21000 AND 21999) IS NOT TRUE AND m.messaging_service_sid IS NOT NULL
              AND m.sid IS NULL AND m.send_at > r.at AND m.send_at < r.at + interval '20 minutes'
            RETURNING user_id, ref
        )
        SELECT array_agg(k.user_id), array_agg(k.ref) INTO user_ids, ids FROM kept k;
        PERFORM twilio_private.set_waiting(user_ids, ids, 'pending');
    END IF;
    RETURN coalesce(ids, '{}');
END
$$;
COMMENT ON FUNCTION twilio_private.keep_planned(twilio_private.order_result[]) IS
    'Keeps messages here until their time that Twilio has refused to plan so shortly before it, and returns them.';
REVOKE ALL ON FUNCTION twilio_private.keep_planned(twilio_private.order_result[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    said record;
    kept uuid[] := twilio_private.keep_planned(results);
BEGIN
    FOR said IN
        -- What Twilio has accepted without a word about the message, it may have or not.
        SELECT CASE WHEN r.outcome = 'sent' AND NOT twilio_private.is_message(r.body) THEN 'unknown' ELSE r.outcome END AS outcome,
               array_agg(r.order_id) AS order_ids, array_agg(r.user_id) AS user_ids, array_agg(r.ref) AS ids, array_agg(r.body) AS objects,
               array_agg(r.error_code) AS codes, array_agg(r.error_message) AS messages, array_agg(r.at) AS ended_at
        FROM unnest(results) r WHERE r.ref <> ALL (kept) GROUP BY 1
    LOOP
        CASE said.outcome
        WHEN 'sent' THEN
            PERFORM twilio_private.apply_answers(said.user_ids, said.ids, said.objects);
            PERFORM twilio_private.follow_messages(said.user_ids, said.ids, said.objects);
            PERFORM twilio_private.follow_alone(r.user_id, r.ref, 0, clock_timestamp())
            FROM unnest(results) r WHERE r.outcome = 'sent' AND r.subject = 'again';
        WHEN 'rejected' THEN
            PERFORM twilio_private.fail_messages(said.user_ids, said.ids, said.codes, said.messages, 'api');
            IF 21610 = ANY (said.codes) THEN
                PERFORM twilio_private.opt_out(array_agg(m.user_id), array_agg(m.to_number), '21610')
                FROM unnest(said.user_ids, said.ids, said.codes) AS u (user_id, id, code)
                JOIN @extschema@.twilio_messages m ON m.user_id = u.user_id AND m.id = u.id
                WHERE u.code = 21610;
            END IF;
        WHEN 'retry' THEN
            PERFORM twilio_private.set_waiting(said.user_ids, said.ids, 'pending');
        WHEN 'unknown' THEN
            -- What has been sent again since has another order; what is locked here cannot be before this is written down.
            PERFORM FROM unnest(said.user_ids, said.ids) AS u (user_id, id)
            JOIN @extschema@.twilio_messages m ON m.user_id = u.user_id AND m.id = u.id FOR NO KEY UPDATE OF m;
            PERFORM twilio_private.look_for_messages(array_agg(u.user_id), array_agg(u.id), array_agg(u.ended_at))
            FROM unnest(said.order_ids, said.user_ids, said.ids, said.ended_at) AS u (order_id, user_id, id, ended_at)
            WHERE EXISTS (SELECT FROM twilio_private.outbox o WHERE o.id = u.order_id);
            -- What is in no doubt, because a callback was faster, is done.
            DELETE FROM twilio_private.outbox o
            WHERE o.ctid = ANY (twilio_private.places(ARRAY(
                SELECT u.order_id
                FROM unnest(said.order_ids, said.user_ids, said.ids) AS u (order_id, user_id, id)
                JOIN @extschema@.twilio_messages m ON m.user_id = u.user_id AND m.id = u.id
                WHERE m.status <> 'unknown')));
            UPDATE twilio_private.outbox o
            SET state = 'unknown', due_at = 'infinity', note = coalesce(u.message, 'Twilio has accepted something, and does not say what')
            FROM (SELECT u.message, o.place
                  FROM unnest(said.order_ids, said.messages) AS u (order_id, message)
                  CROSS JOIN LATERAL (SELECT o.ctid AS place FROM twilio_private.outbox o WHERE o.id = u.order_id OFFSET 0) o) u
            WHERE o.ctid = u.place AND o.state = 'sending';
        WHEN 'expired' THEN
            PERFORM twilio_private.fail_messages(said.user_ids, said.ids, array_fill(NULL::int, ARRAY[cardinality(said.ids)]),
                ARRAY(SELECT 'Not sent: Twilio could not be given it in time' || coalesce(' (' || m || ').', '.')
                      FROM unnest(said.messages) m),
                'local');
        ELSE
            PERFORM twilio_private.fail_messages(said.user_ids, said.ids, said.codes, said.messages, 'local');
        END CASE;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.message_results(twilio_private.order_result[]) IS
    'Takes what came of sending messages.';
REVOKE ALL ON FUNCTION twilio_private.message_results(twilio_private.order_result[]) FROM PUBLIC;

-- ---- cancelling what Twilio keeps for later ---------------------------------------------------------------------------

CREATE FUNCTION twilio_private.message_cancel_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
        SELECT o.id, 'POST', 'api.twilio.com', format('/2010-04-01/Accounts/{AccountSid}/Messages/%s.json', m.sid), 'Status=canceled'
        FROM unnest(orders) o
        JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
        WHERE m.sid IS NOT NULL AND m.status IN ('scheduled', 'accepted');
END
$$;
COMMENT ON FUNCTION twilio_private.message_cancel_requests(twilio_private.outbox[]) IS
    'The POSTs that cancel messages planned at Twilio.';
REVOKE ALL ON FUNCTION twilio_private.message_cancel_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_cancel_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.apply_messages(array_agg(r.user_id), array_agg(r.ref), array_agg(r.body), 'api')
    FROM unnest(results) r WHERE r.outcome = 'sent';
    -- Not to be cancelled any more (30409): look what it has become.
    INSERT INTO twilio_private.outbox (user_id, kind, ref)
    SELECT r.user_id, 'message_fetch', r.ref FROM unnest(results) r WHERE r.outcome = 'rejected';
    -- Twilio could not be told, or does not know the message yet, as may be while it is new: it is tried on until it would
    -- be too late.
    INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at)
    SELECT m.user_id, 'message_cancel', m.id, clock_timestamp() + interval '1 minute'
    FROM unnest(results) r JOIN @extschema@.twilio_messages m ON m.user_id = r.user_id AND m.id = r.ref
    WHERE (r.outcome NOT IN ('sent', 'rejected', 'retry')
           OR (r.http_status = 404 AND m.submitted_at > clock_timestamp() - interval '10 minutes'))
      AND m.status IN ('scheduled', 'accepted') AND m.send_at > clock_timestamp();
END
$$;
COMMENT ON FUNCTION twilio_private.message_cancel_results(twilio_private.order_result[]) IS
    'Takes what came of cancelling messages at Twilio.';
REVOKE ALL ON FUNCTION twilio_private.message_cancel_results(twilio_private.order_result[]) FROM PUBLIC;

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function, answer_members, doubt_function) VALUES
    ('message', false, 'message_requests', 'message_results', twilio_private.message_members(), 'look_for_due_messages'),
    ('message_cancel', true, 'message_cancel_requests', 'message_cancel_results', twilio_private.message_members(), NULL);
