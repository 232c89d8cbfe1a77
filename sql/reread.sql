-- What becomes known late: the price of a message, its final status where no callback brings it, and Twilio's sentence to
-- an error code that one has brought.
--
-- What Twilio accepted within the same ten seconds is read again together, half a minute later, then at growing
-- distances until two days have passed or nothing is missing: the order kind `message_reread`. A few messages are fetched
-- one by one (`message_fetch`), many are listed. Which messages these are, the events of that time say. Twilio sends most
-- of them at once; for the others, which wait in a queue of Twilio's for their turn, later spans of time are listed.
-- One that may have no event of that time, because an attempt before had the same status or a callback was faster, is
-- read alone, as often.
-- All of this gives way to messages, so it may come late.
-- subject of a message_reread: step, the window's beginning in seconds since 1970, which span, the page if not the first;
-- of a message_fetch: step and beginning where it is read alone, `scheduled` while Twilio keeps it for later.

CREATE FUNCTION twilio_private.reread_at(step int, window_start timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN window_start + (ARRAY['40 seconds', '10 minutes', '1 hour', '6 hours', '24 hours', '48 hours']::interval[])[step + 1];
COMMENT ON FUNCTION twilio_private.reread_at(int, timestamptz) IS
    'When messages are read again for the n-th time, null when it was enough.';
REVOKE ALL ON FUNCTION twilio_private.reread_at(int, timestamptz) FROM PUBLIC;

-- After a day without traffic one does what five have not done.
CREATE FUNCTION twilio_private.reread_step(step int, window_start timestamptz) RETURNS int
LANGUAGE sql
RETURN greatest(step, (SELECT max(n) FROM generate_series(0, 5) n WHERE twilio_private.reread_at(n, window_start) <= clock_timestamp()));
COMMENT ON FUNCTION twilio_private.reread_step(int, timestamptz) IS
    'Which re-reading it is, planned as the n-th, by now: the last one whose time has come.';
REVOKE ALL ON FUNCTION twilio_private.reread_step(int, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.order_reread(user_id uuid, step int, window_start timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    key CONSTANT uuid := md5(concat_ws(' ', order_reread.user_id, step, extract(epoch FROM window_start)::bigint))::uuid;
BEGIN
    IF twilio_private.reread_at(step, window_start) IS NOT NULL
       AND NOT EXISTS (SELECT FROM twilio_private.outbox o WHERE o.ref = key) THEN
        INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
        VALUES (order_reread.user_id, 'message_reread', key, concat_ws(' ', step, extract(epoch FROM window_start)::bigint, 1),
                twilio_private.reread_at(step, window_start));
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.order_reread(uuid, int, timestamptz) IS
    'Orders the n-th re-reading of what Twilio accepted in a window of ten seconds, unless it is ordered already.';
REVOKE ALL ON FUNCTION twilio_private.order_reread(uuid, int, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.unfinished(message @extschema@.twilio_messages) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN message.sid IS NOT NULL AND message.direction = 'outbound' AND message.status <> 'scheduled'
       AND (twilio_private.status_rank(message.status) < 5
            OR (message.price IS NULL AND message.status NOT IN ('failed', 'canceled'))
            OR (message.error_code IS NOT NULL AND message.error_message IS NULL));
COMMENT ON FUNCTION twilio_private.unfinished(@extschema@.twilio_messages) IS
    'Whether Twilio has the message and its final status, its price or the sentence to its error is not known yet.';
REVOKE ALL ON FUNCTION twilio_private.unfinished(@extschema@.twilio_messages) FROM PUBLIC;

CREATE FUNCTION twilio_private.follow_alone(user_id uuid, message_id uuid, step int, start timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    SELECT m.user_id, 'message_fetch', m.id, concat_ws(' ', step, extract(epoch FROM start)::bigint),
           twilio_private.reread_at(step, start)
    FROM @extschema@.twilio_messages m
    WHERE m.user_id = follow_alone.user_id AND m.id = message_id
      AND twilio_private.unfinished(m) AND twilio_private.reread_at(step, start) IS NOT NULL
      AND NOT EXISTS (SELECT FROM twilio_private.outbox o
                      WHERE o.ref = m.id AND o.kind = 'message_fetch' AND o.state = 'queued' AND o.subject IS NOT NULL)
$$;
COMMENT ON FUNCTION twilio_private.follow_alone(uuid, uuid, int, timestamptz) IS
    'Orders the n-th re-reading of one message, unless it is ordered already or nothing is missing.';
REVOKE ALL ON FUNCTION twilio_private.follow_alone(uuid, uuid, int, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.follow_repeated(user_id uuid, message_id uuid) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT twilio_private.follow_alone(m.user_id, m.id, 0, clock_timestamp())
    FROM @extschema@.twilio_messages m
    WHERE m.user_id = follow_repeated.user_id AND m.id = message_id AND m.former_sids IS NOT NULL
$$;
COMMENT ON FUNCTION twilio_private.follow_repeated(uuid, uuid) IS 'Orders that a message is read again alone, if it was sent again.';
REVOKE ALL ON FUNCTION twilio_private.follow_repeated(uuid, uuid) FROM PUBLIC;

CREATE FUNCTION twilio_private.follow_messages(user_ids uuid[], ids uuid[], objects jsonb[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    PERFORM twilio_private.order_reread(u.user_id, 0, date_bin('10 seconds', clock_timestamp(), 'epoch'))
    FROM (SELECT DISTINCT unnest(user_ids) AS user_id) u;
    IF EXISTS (SELECT FROM unnest(objects) o WHERE o ->> 'status' = 'scheduled') THEN
        INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
        SELECT m.user_id, 'message_fetch', m.id, 'scheduled', greatest(m.send_at, clock_timestamp()) + interval '2 minutes'
        FROM unnest(user_ids, ids, objects) AS u (user_id, id, object)
        JOIN @extschema@.twilio_messages m ON m.user_id = u.user_id AND m.id = u.id
        WHERE u.object ->> 'status' = 'scheduled';
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.follow_messages(uuid[], uuid[], jsonb[]) IS
    'Orders that these messages, which Twilio has just accepted, are read again later.';
REVOKE ALL ON FUNCTION twilio_private.follow_messages(uuid[], uuid[], jsonb[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.first_uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rpad(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid
$$;
COMMENT ON FUNCTION twilio_private.first_uuid_at(timestamptz) IS
    'The value below all UUIDs of version 7 made from that time on.';
REVOKE ALL ON FUNCTION twilio_private.first_uuid_at(timestamptz) FROM PUBLIC;

-- The last one ends with the last re-reading.
CREATE FUNCTION twilio_private.sending_span(span int, window_start timestamptz, OUT sent_since timestamptz, OUT sent_before timestamptz)
LANGUAGE sql STABLE
RETURN (window_start + (ARRAY['-10 seconds', '30 seconds', '10 minutes', '6 hours']::interval[])[span],
        window_start + (ARRAY['30 seconds', '10 minutes', '6 hours', '48 hours']::interval[])[span]);
COMMENT ON FUNCTION twilio_private.sending_span(int, timestamptz) IS
    'The n-th span of time, from 1, in which Twilio may have sent what it accepted in a window.';
REVOKE ALL ON FUNCTION twilio_private.sending_span(int, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.unfinished_messages(user_id uuid, window_start timestamptz, sent_since timestamptz, at_most int)
RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
        SELECT DISTINCT u.id
        FROM (SELECT m.id
              FROM @extschema@.twilio_message_events e
              JOIN @extschema@.twilio_messages m ON m.user_id = e.user_id AND m.id = e.message_id
              WHERE e.user_id = unfinished_messages.user_id AND e.source <> 'local'
                AND e.id >= twilio_private.first_uuid_at(window_start - interval '3 seconds')
                AND e.id < twilio_private.first_uuid_at(window_start + interval '11 seconds')
                AND twilio_private.unfinished(m) AND (m.sent_at IS NULL OR m.sent_at >= unfinished_messages.sent_since)
              LIMIT at_most) u;
END
$$;
COMMENT ON FUNCTION twilio_private.unfinished_messages(uuid, timestamptz, timestamptz, int) IS
    'Some of the messages accepted in that window about which something is not known yet, and which were not sent before sent_since.';
REVOKE ALL ON FUNCTION twilio_private.unfinished_messages(uuid, timestamptz, timestamptz, int) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_reread_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    few CONSTANT int := 20;
    reread record;
    unfinished uuid[];
BEGIN
    method := 'GET';
    host := 'api.twilio.com';
    FOR reread IN
        SELECT o.id, o.user_id, twilio_private.reread_step(split_part(o.subject, ' ', 1)::int, w.start) AS step,
               w.start AS window_start, split_part(o.subject, ' ', 3)::int AS span, sending.sent_since, sending.sent_before,
               nullif(split_part(o.subject, ' ', 4), '') AS page
        FROM unnest(orders) o
        CROSS JOIN LATERAL (SELECT to_timestamp(split_part(o.subject, ' ', 2)::bigint) AS start) w
        CROSS JOIN LATERAL twilio_private.sending_span(split_part(o.subject, ' ', 3)::int, w.start) sending
    LOOP
        order_id := reread.id;
        path := reread.page;
        IF path IS NULL THEN
            unfinished := ARRAY(SELECT twilio_private.unfinished_messages(reread.user_id, reread.window_start,
                CASE WHEN reread.span = 1 THEN '-infinity' ELSE reread.sent_since END, few + 1));
            CONTINUE WHEN unfinished = '{}' AND reread.span = 1;
            IF cardinality(unfinished) <= few THEN
                INSERT INTO twilio_private.outbox (user_id, kind, ref)
                SELECT reread.user_id, 'message_fetch', u FROM unnest(unfinished) u;
                PERFORM twilio_private.order_reread(reread.user_id, reread.step + 1, reread.window_start);
                CONTINUE;
            END IF;
            path := '/2010-04-01/Accounts/{AccountSid}/Messages.json?' || twilio_private.form_encode(ARRAY[
                'DateSent>', to_char(reread.sent_since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                'DateSent<', to_char(reread.sent_before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                'PageSize', '50']);
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.message_reread_requests(twilio_private.outbox[]) IS
    'The GETs that list messages again; a few are fetched one by one instead.';
REVOKE ALL ON FUNCTION twilio_private.message_reread_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_reread_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    result twilio_private.order_result;
    step int;
    start bigint;
    span int;
    next_page text;
    clock_is_right boolean;
BEGIN
    FOREACH result IN ARRAY results LOOP
        CONTINUE WHEN result.outcome = 'retry';
        start := split_part(result.subject, ' ', 2)::bigint;
        step := twilio_private.reread_step(split_part(result.subject, ' ', 1)::int, to_timestamp(start));
        span := split_part(result.subject, ' ', 3)::int;
        next_page := NULL;
        clock_is_right := coalesce(result.at - result.twilio_at BETWEEN '-10 seconds' AND '10 seconds', true);
        IF result.outcome = 'sent' AND jsonb_typeof(result.body -> 'messages') = 'array' THEN
            PERFORM twilio_private.apply_messages(array_agg(m.user_id), array_agg(m.id), array_agg(l.object), 'poll')
            FROM (SELECT DISTINCT ON (e ->> 'sid') e AS object FROM jsonb_array_elements(result.body -> 'messages') e) l
            JOIN @extschema@.twilio_messages m ON m.user_id = result.user_id AND m.sid = l.object ->> 'sid'
            WHERE m.direction = 'outbound';
            next_page := twilio_private.next_page('Messages', result.body);
        END IF;
        IF next_page IS NOT NULL AND split_part(result.subject, ' ', 4) <> next_page THEN
            INSERT INTO twilio_private.outbox (user_id, kind, ref, subject)
            VALUES (result.user_id, 'message_reread', result.ref, concat_ws(' ', step, start, span, next_page));
        ELSIF (step < 2 OR clock_is_right) AND (twilio_private.sending_span(span + 1, to_timestamp(start))).sent_since < clock_timestamp() THEN
            INSERT INTO twilio_private.outbox (user_id, kind, ref, subject)
            VALUES (result.user_id, 'message_reread', result.ref, concat_ws(' ', step, start, span + 1));
        ELSE
            IF step >= 4 OR (step >= 2 AND NOT clock_is_right) THEN
                -- No list has shown these as sent. Where our clock is not right, lists are of other times than callbacks say.
                INSERT INTO twilio_private.outbox (user_id, kind, ref)
                SELECT result.user_id, 'message_fetch', u
                FROM twilio_private.unfinished_messages(result.user_id, to_timestamp(start),
                                                        CASE WHEN clock_is_right THEN timestamptz 'infinity' ELSE '-infinity' END, NULL) u;
            END IF;
            PERFORM twilio_private.order_reread(result.user_id, step + 1, to_timestamp(start));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.message_reread_results(twilio_private.order_result[]) IS
    'Takes a page of messages that were listed again.';
REVOKE ALL ON FUNCTION twilio_private.message_reread_results(twilio_private.order_result[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_fetch_requests(orders twilio_private.outbox[])
RETURNS TABLE (order_id bigint, method text, host text, path text, content text)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    RETURN QUERY
        SELECT o.id, 'GET', 'api.twilio.com', format('/2010-04-01/Accounts/{AccountSid}/Messages/%s.json', m.sid), NULL::text
        FROM unnest(orders) o
        JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
        WHERE m.sid IS NOT NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.message_fetch_requests(twilio_private.outbox[]) IS 'The GETs that fetch messages once more.';
REVOKE ALL ON FUNCTION twilio_private.message_fetch_requests(twilio_private.outbox[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_fetch_results(results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.apply_messages(array_agg(r.user_id), array_agg(r.ref), array_agg(r.body), 'poll')
    FROM unnest(results) r WHERE r.outcome = 'sent';
    PERFORM twilio_private.follow_alone(p.user_id, p.ref, twilio_private.reread_step(p.step, p.start) + 1, p.start)
    FROM (SELECT r.user_id, r.ref, split_part(r.subject, ' ', 1)::int AS step, to_timestamp(split_part(r.subject, ' ', 2)::bigint) AS start
          FROM unnest(results) r WHERE r.outcome <> 'retry' AND r.subject <> 'scheduled') p;
    -- What was planned is still planned, or now goes the way of all others.
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
    SELECT r.user_id, 'message_fetch', r.ref, r.subject, clock_timestamp() + interval '30 minutes'
    FROM unnest(results) r JOIN @extschema@.twilio_messages m ON m.user_id = r.user_id AND m.id = r.ref
    WHERE r.subject = 'scheduled' AND r.outcome <> 'retry' AND m.status = 'scheduled'
      AND m.send_at > clock_timestamp() - interval '48 hours';
    PERFORM twilio_private.follow_alone(r.user_id, r.ref, 0, clock_timestamp())
    FROM unnest(results) r WHERE r.subject = 'scheduled' AND r.outcome = 'sent' AND r.body ->> 'status' <> 'scheduled';
END
$$;
COMMENT ON FUNCTION twilio_private.message_fetch_results(twilio_private.order_result[]) IS
    'Takes messages that were fetched once more.';
REVOKE ALL ON FUNCTION twilio_private.message_fetch_results(twilio_private.order_result[]) FROM PUBLIC;

INSERT INTO twilio_private.order_kind (kind, repeatable, request_function, result_function, answer_members, gives_way) VALUES
    ('message_reread', true, 'message_reread_requests', 'message_reread_results', NULL, true),
    ('message_fetch', true, 'message_fetch_requests', 'message_fetch_results', twilio_private.message_members(), true);
