-- What Twilio says about messages, put into their rows. Everything comes through here or, for callbacks, through
-- webhook_messages.sql, with the same rules: a status never goes back, the first error stays, a SID once known stays.
--
--   pending ─► submitting ─► accepted | scheduled | queued ─► sending ─► sent ─► delivered | undelivered ─► read
--      ▲            │                                                       failed, canceled: from any of these
--      └────────────┴─► unknown ─► (found at Twilio) one of the above | pending, again | unresolved

-- Parsed when it is created, so its search_path is closed; inlined, because it has none of its own; and short, because
-- what is inlined is compiled anew for each statement. Rank 2: sending, and what Twilio may invent.
CREATE FUNCTION twilio_private.status_rank(status text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((jsonb '{"pending": -1, "submitting": -1, "unknown": -1, "unresolved": -1,
                         "accepted": 0, "scheduled": 0, "receiving": 0, "queued": 1, "sending": 2, "sent": 3, "partially_delivered": 4,
                         "delivered": 5, "undelivered": 5, "failed": 5, "canceled": 5, "received": 5, "read": 6}' -> status)::int, 2);
COMMENT ON FUNCTION twilio_private.status_rank(text) IS 'How far a status is: a message only goes on to a higher rank.';
REVOKE ALL ON FUNCTION twilio_private.status_rank(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.notice(user_id uuid, message_id uuid, status text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN '{"user_id" : "' || user_id || '", "message_id" : "' || message_id || '", "status" : ' || to_json(status) || '}';
COMMENT ON FUNCTION twilio_private.notice(uuid, uuid, text) IS
    'What listeners of the channel twilio are told when a message has a new status.';
REVOKE ALL ON FUNCTION twilio_private.notice(uuid, uuid, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.decimal(value text) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN value ~ '^-?[0-9]{1,12}([.][0-9]{1,12})?$' THEN value::numeric END;
COMMENT ON FUNCTION twilio_private.decimal(text) IS 'The number that a text is, null if it is none.';
REVOKE ALL ON FUNCTION twilio_private.decimal(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.whole(value text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(value) BETWEEN 1 AND 9 AND translate(value, '0123456789', '') = '' THEN value::int END;
COMMENT ON FUNCTION twilio_private.whole(text) IS 'The whole number that a text is, null if it is none.';
REVOKE ALL ON FUNCTION twilio_private.whole(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.is_message(object jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(octet_length(object ->> 'sid') = 34 AND object ->> 'status' <> '', false);
COMMENT ON FUNCTION twilio_private.is_message(jsonb) IS 'Whether this is Twilio''s description of a message.';
REVOKE ALL ON FUNCTION twilio_private.is_message(jsonb) FROM PUBLIC;

CREATE FUNCTION twilio_private.message_members() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY['sid', 'status', 'error_code', 'error_message', 'from', 'messaging_service_sid', 'num_segments', 'num_media',
             'price', 'price_unit', 'date_sent', 'date_updated'];
COMMENT ON FUNCTION twilio_private.message_members() IS 'What apply_messages() reads of Twilio''s description of a message.';
REVOKE ALL ON FUNCTION twilio_private.message_members() FROM PUBLIC;

-- The plans must not depend on how large the tables were when the worker made them.
CREATE FUNCTION twilio_private.apply_messages(user_ids uuid[], ids uuid[], objects jsonb[], source text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    told bigint;
    refused uuid[];
BEGIN
    WITH said AS MATERIALIZED (
        SELECT u.user_id, u.id, u.object ->> 'sid' AS sid, left(u.object ->> 'status', 64) AS status,
               nullif(twilio_private.whole(u.object ->> 'error_code'), 0) AS error_code,
               left(nullif(u.object ->> 'error_message', ''), 1000) AS error_message,
               nullif(u.object ->> 'from', '') AS from_number,
               nullif(u.object ->> 'messaging_service_sid', '') AS messaging_service_sid,
               nullif(twilio_private.whole(u.object ->> 'num_segments'), 0) AS num_segments,
               twilio_private.whole(u.object ->> 'num_media') AS num_media,
               twilio_private.decimal(u.object ->> 'price') AS price, left(upper((u.object ->> 'price_unit') COLLATE "C"), 8) AS price_unit,
               CASE WHEN u.object ->> 'date_sent' <> '' THEN twilio_private.parse_rfc2822(u.object ->> 'date_sent') END AS sent_at,
               CASE WHEN u.object ->> 'status' IN ('delivered', 'read')
                    THEN twilio_private.parse_rfc2822(u.object ->> 'date_updated') END AS changed_at
        FROM unnest(user_ids, ids, objects) AS u (user_id, id, object)
        WHERE twilio_private.is_message(u.object)
    ), changed AS (
        UPDATE @extschema@.twilio_messages m
        SET sid = coalesce(m.sid, s.sid),
            status = CASE WHEN m.sid IS NULL OR twilio_private.status_rank(s.status) > twilio_private.status_rank(m.status)
                          THEN s.status ELSE m.status END,
            error_code = CASE WHEN m.sid IS NULL THEN s.error_code ELSE coalesce(m.error_code, s.error_code) END,
            error_message = CASE WHEN m.sid IS NULL OR m.error_code IS NULL THEN s.error_message
                                 WHEN m.error_code = s.error_code THEN coalesce(m.error_message, s.error_message)
                                 ELSE m.error_message END,
            from_number = coalesce(m.from_number, s.from_number),
            messaging_service_sid = coalesce(m.messaging_service_sid, s.messaging_service_sid),
            num_segments = coalesce(s.num_segments, m.num_segments),
            num_media = coalesce(s.num_media, m.num_media),
            price = coalesce(m.price, s.price),
            price_unit = CASE WHEN m.price IS NULL AND s.price IS NOT NULL THEN s.price_unit ELSE m.price_unit END,
            sent_at = coalesce(s.sent_at, m.sent_at),
            delivered_at = CASE WHEN s.status IN ('delivered', 'read') THEN coalesce(m.delivered_at, s.changed_at, clock_timestamp())
                                ELSE m.delivered_at END,
            updated_at = clock_timestamp()
        FROM said s
        -- What is said of an attempt before the message was sent again is not about this one.
        WHERE m.user_id = s.user_id AND m.id = s.id
          AND (m.sid = s.sid OR (m.sid IS NULL AND s.sid <> ALL (coalesce(m.former_sids, '{}'))))
          AND (m.sid IS NULL OR twilio_private.status_rank(s.status) > twilio_private.status_rank(m.status)
               OR (m.price IS NULL AND s.price IS NOT NULL) OR (m.sent_at IS NULL AND s.sent_at IS NOT NULL)
               OR (m.error_code IS NULL AND s.error_code IS NOT NULL)
               OR (m.error_code = s.error_code AND m.error_message IS NULL AND s.error_message IS NOT NULL)
               OR (m.from_number IS NULL AND s.from_number IS NOT NULL))
        RETURNING m.user_id, m.id, m.status, s.status AS said_status, s.error_code AS said_error_code
    ), noted AS (
        INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, error_code, source)
        SELECT c.user_id, c.id, c.said_status, c.said_error_code, apply_messages.source FROM changed c
        ON CONFLICT (user_id, message_id, status, coalesce(error_code, 0)) DO NOTHING
        RETURNING message_id, error_code
    )
    SELECT count(twilio_private.notify_at_commit(twilio_private.notice(c.user_id, c.id, c.status))),
           (SELECT array_agg(n.message_id) FROM noted n WHERE n.error_code = 21610)
    INTO told, refused FROM changed c;
    IF refused IS NOT NULL THEN
        -- A Messaging Service says it later than in its answer, and START may have come since.
        PERFORM twilio_private.opt_out(array_agg(m.user_id), array_agg(m.to_number), '21610')
        FROM @extschema@.twilio_messages m
        WHERE m.user_id = ANY (user_ids) AND m.id = ANY (refused)
          AND NOT EXISTS (SELECT FROM @extschema@.twilio_opt_outs o
                          WHERE o.user_id = m.user_id AND o.phone_number = m.to_number AND o.opted_in_at >= m.submitted_at);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.apply_messages(uuid[], uuid[], jsonb[], text) IS
    'Puts Twilio''s message objects into the rows of these messages, records events, notifies listeners and follows a 21610.';
REVOKE ALL ON FUNCTION twilio_private.apply_messages(uuid[], uuid[], jsonb[], text) FROM PUBLIC;
