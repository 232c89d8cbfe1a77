-- What Twilio says about calls, put into their rows, whether it answers our request, calls back or is asked again: by the
-- same rules as for messages (message_status.sql). A status never goes back, the first error stays, a SID once known stays.
--
--   pending ─► submitting ─► queued ─► initiated ─► ringing ─► in-progress ─► completed
--      ▲            │                                             busy, no-answer, failed, canceled: from any of these
--      └────────────┴─► unknown ─► (found at Twilio) one of the above | pending, again | unresolved

-- Rank 3: in-progress, and what Twilio may invent.
CREATE FUNCTION twilio_private.call_rank(status text) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce((jsonb '{"pending": -1, "submitting": -1, "unknown": -1, "unresolved": -1, "queued": 0, "initiated": 1, "ringing": 2,
                         "completed": 5, "busy": 5, "no-answer": 5, "failed": 5, "canceled": 5}' -> status)::int, 3);
COMMENT ON FUNCTION twilio_private.call_rank(text) IS 'How far a status is: a call only goes on to a higher rank; 5 is the end.';
REVOKE ALL ON FUNCTION twilio_private.call_rank(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.note_call(user_id uuid, call_id uuid, status text, source text, error_code int DEFAULT NULL,
                                         raw jsonb DEFAULT NULL, is_new boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO @extschema@.twilio_call_events (user_id, call_id, status, error_code, source, raw)
    VALUES (note_call.user_id, note_call.call_id, note_call.status, note_call.error_code, note_call.source, note_call.raw)
    ON CONFLICT (user_id, call_id, status, coalesce(error_code, 0)) DO NOTHING;
    IF is_new THEN
        PERFORM twilio_private.notify_at_commit(json_build_object('user_id', note_call.user_id, 'call_id', note_call.call_id,
                                                                  'status', note_call.status)::text);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.note_call(uuid, uuid, text, text, int, jsonb, boolean) IS
    'Records an event of a call once, and tells the listeners of the channel twilio of a new status.';
REVOKE ALL ON FUNCTION twilio_private.note_call(uuid, uuid, text, text, int, jsonb, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.is_call(object jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(object ->> 'sid' ~ '^CA[0-9A-Za-z]{32}$' AND object ->> 'status' <> '', false);
COMMENT ON FUNCTION twilio_private.is_call(jsonb) IS 'Whether this is Twilio''s description of a call.';
REVOKE ALL ON FUNCTION twilio_private.is_call(jsonb) FROM PUBLIC;

-- Sets a status of our own, while Twilio has not got the call as far as we know.
CREATE FUNCTION twilio_private.set_call_waiting(user_id uuid, call_id uuid, status text, error_code int DEFAULT NULL,
                                                error_message text DEFAULT NULL, source text DEFAULT 'local') RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.twilio_calls c
    SET status = set_call_waiting.status, error_code = set_call_waiting.error_code,
        error_message = left(set_call_waiting.error_message, 1000), updated_at = clock_timestamp()
    WHERE c.user_id = set_call_waiting.user_id AND c.id = call_id AND c.sid IS NULL
      AND c.status IN ('pending', 'submitting', 'unknown') AND c.status <> set_call_waiting.status;
    IF FOUND THEN
        PERFORM twilio_private.note_call(user_id, call_id, status, source, error_code);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.set_call_waiting(uuid, uuid, text, int, text, text) IS
    'Gives a call without SID a status of our own: pending, unknown, unresolved, or failed with the reason.';
REVOKE ALL ON FUNCTION twilio_private.set_call_waiting(uuid, uuid, text, int, text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.adopt_call_sid(user_id uuid, call_id uuid, sid text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    other record;
BEGIN
    -- A look has taken this call for another one to the same number: that is in doubt again, and nothing is known of it.
    UPDATE @extschema@.twilio_calls c
    SET sid = NULL, status = 'submitting', duration = NULL, recording_sid = NULL, recording_url = NULL, recording_duration = NULL,
        price = NULL, price_unit = NULL, answered_at = NULL, ended_at = NULL
    WHERE c.user_id IN (SELECT twilio_private.users_of_account(adopt_call_sid.user_id)) AND c.sid = adopt_call_sid.sid
      AND c.id <> call_id AND c.direction = 'outbound'
    RETURNING c.user_id, c.id INTO other;
    IF FOUND THEN
        PERFORM twilio_private.doubt_call(other.user_id, other.id, clock_timestamp());
    END IF;
    PERFORM twilio_private.end_call_doubt(adopt_call_sid.user_id, call_id);
    UPDATE @extschema@.twilio_calls c SET sid = adopt_call_sid.sid, status = 'queued', error_code = NULL, error_message = NULL
    WHERE c.user_id = adopt_call_sid.user_id AND c.id = call_id;
    PERFORM twilio_private.follow_call(adopt_call_sid.user_id, call_id, 0, clock_timestamp());
END
$$;
COMMENT ON FUNCTION twilio_private.adopt_call_sid(uuid, uuid, text) IS
    'Gives a call the SID that Twilio says it has, and ends the doubt about it.';
REVOKE ALL ON FUNCTION twilio_private.adopt_call_sid(uuid, uuid, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.apply_call(user_id uuid, call_id uuid, said jsonb, source text, raw jsonb DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    said_status CONSTANT text := left(lower(said ->> 'status' COLLATE "C"), 64);
    said_code CONSTANT int := nullif(twilio_private.whole(said ->> 'error_code'), 0);
    has_ended CONSTANT boolean := twilio_private.call_rank(said_status) = 5;
    before @extschema@.twilio_calls;
    is_new boolean;
BEGIN
    SELECT * INTO before FROM @extschema@.twilio_calls c
    WHERE c.user_id = apply_call.user_id AND c.id = call_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    ELSIF NOT twilio_private.is_call(said) OR before.sid <> said ->> 'sid' THEN
        RETURN true;
    ELSIF before.sid IS NULL THEN
        PERFORM twilio_private.adopt_call_sid(before.user_id, call_id, said ->> 'sid');
    END IF;

    is_new := before.sid IS NULL OR twilio_private.call_rank(said_status) > twilio_private.call_rank(before.status);
    UPDATE @extschema@.twilio_calls c
    SET status = CASE WHEN is_new THEN said_status ELSE c.status END,
        error_code = coalesce(c.error_code, said_code),
        error_message = CASE WHEN c.error_code IS NULL THEN left(nullif(said ->> 'error_message', ''), 1000) ELSE c.error_message END,
        duration = CASE WHEN has_ended THEN coalesce(twilio_private.whole(said ->> 'duration'), c.duration) ELSE c.duration END,
        recording_sid = coalesce(nullif(said ->> 'recording_sid', ''), c.recording_sid),
        recording_url = coalesce(nullif(said ->> 'recording_url', ''), c.recording_url),
        recording_duration = coalesce(twilio_private.whole(said ->> 'recording_duration'), c.recording_duration),
        price = coalesce(c.price, twilio_private.decimal(said ->> 'price')),
        price_unit = CASE WHEN c.price IS NULL AND twilio_private.decimal(said ->> 'price') IS NOT NULL
                          THEN left(upper((said ->> 'price_unit') COLLATE "C"), 8) ELSE c.price_unit END,
        -- A call that nobody answers has a start_time, too.
        answered_at = CASE WHEN said_status IN ('in-progress', 'completed')
                           THEN coalesce(twilio_private.parse_rfc2822(nullif(said ->> 'start_time', '')), c.answered_at)
                           ELSE c.answered_at END,
        ended_at = coalesce(c.ended_at, twilio_private.parse_rfc2822(nullif(said ->> 'end_time', '')),
                            CASE WHEN has_ended THEN clock_timestamp() END),
        updated_at = clock_timestamp()
    WHERE c.user_id = before.user_id AND c.id = call_id;
    PERFORM twilio_private.note_call(before.user_id, call_id, said_status, source, said_code, raw, is_new);
    RETURN true;
END
$$;
COMMENT ON FUNCTION twilio_private.apply_call(uuid, uuid, jsonb, text, jsonb) IS
    'Puts what Twilio says of a call, with the names of its REST API, into the call''s row; false where there is none.';
REVOKE ALL ON FUNCTION twilio_private.apply_call(uuid, uuid, jsonb, text, jsonb) FROM PUBLIC;

-- Returns false where the webhook names a call of ours that is none of the owners'.
CREATE FUNCTION twilio_private.receive_call(owners uuid[], call_id uuid, said jsonb) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    status CONSTANT text := lower(coalesce(said ->> 'CallStatus', '') COLLATE "C");
    has_ended CONSTANT boolean := twilio_private.call_rank(status) = 5;
    object CONSTANT jsonb := jsonb_build_object(
        'sid', said ->> 'CallSid', 'status', status, 'duration', said ->> 'CallDuration',
        'error_code', said ->> 'ErrorCode', 'error_message', said ->> 'ErrorMessage', 'recording_sid', said ->> 'RecordingSid',
        'recording_url', said ->> 'RecordingUrl', 'recording_duration', said ->> 'RecordingDuration',
        'start_time', CASE WHEN status = 'in-progress' THEN said ->> 'Timestamp' END,
        'end_time', CASE WHEN has_ended THEN said ->> 'Timestamp' END);
    call record;
BEGIN
    SELECT c.user_id, c.id INTO call
    FROM @extschema@.twilio_calls c
    WHERE c.user_id = ANY (owners)
      AND c.id = coalesce(call_id, (SELECT s.id FROM @extschema@.twilio_calls s
                                    WHERE s.user_id = ANY (owners) AND s.sid = said ->> 'CallSid' LIMIT 1))
    LIMIT 1;
    IF call.id IS NULL AND call_id IS NOT NULL THEN
        RETURN false;
    ELSIF call.id IS NULL AND said ->> 'Direction' = 'inbound' AND said ->> 'To' <> '' AND twilio_private.is_call(object) THEN
        INSERT INTO @extschema@.twilio_calls (user_id, direction, from_number, to_number, status, sid)
        VALUES (twilio_private.owner_of_number(owners, said ->> 'To', NULL), 'inbound', said ->> 'From', said ->> 'To', 'queued',
                said ->> 'CallSid')
        ON CONFLICT (user_id, sid) WHERE sid IS NOT NULL DO UPDATE SET sid = EXCLUDED.sid
        RETURNING user_id, id INTO call;
    END IF;
    IF call.id IS NOT NULL THEN
        PERFORM twilio_private.apply_call(call.user_id, call.id, object, 'callback', said);
        IF has_ended THEN
            PERFORM twilio_private.follow_call(call.user_id, call.id, 0, clock_timestamp());
        END IF;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION twilio_private.receive_call(uuid[], uuid, jsonb) IS
    'Applies a webhook about a call: the status of one that we placed, or one that came in.';
REVOKE ALL ON FUNCTION twilio_private.receive_call(uuid[], uuid, jsonb) FROM PUBLIC;
