-- What there was on each day: what the settings page draws.

CREATE FUNCTION twilio_private.last_days(days int, time_zone text) RETURNS SETOF date
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF days NOT BETWEEN 1 AND 366 THEN
        RAISE EXCEPTION 'invalid number of days'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'days is 1 to 366.', HINT = 'For longer times query twilio_messages or twilio_calls.';
    END IF;
    RETURN QUERY SELECT (now() AT TIME ZONE time_zone)::date - d.ago FROM generate_series(0, days - 1) d (ago);
END
$$;
COMMENT ON FUNCTION twilio_private.last_days(int, text) IS 'So many days, the last of them today, in a time zone; fails with 22023.';
REVOKE ALL ON FUNCTION twilio_private.last_days(int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.last_days(int, text) TO twilio_user;

-- SECURITY INVOKER: the row policy shows the caller's own messages only.
CREATE FUNCTION @extschema@.twilio_messages_per_day(days int DEFAULT 14, time_zone text DEFAULT 'UTC')
RETURNS TABLE (day date, direction text, status text, messages bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (SELECT * FROM twilio_private.last_days(days, time_zone) AS day)
    SELECT w.day, c.direction, c.status, coalesce(c.messages, 0)
    FROM wanted w
    LEFT JOIN (
        SELECT (m.created_at AT TIME ZONE time_zone)::date AS day, m.direction, m.status, count(*) AS messages
        FROM @extschema@.twilio_messages m
        WHERE m.user_id = @extschema@.twilio_current_user_id()
          AND m.created_at >= (SELECT min(w.day) FROM wanted w)::timestamp AT TIME ZONE time_zone
        GROUP BY 1, 2, 3) c ON c.day = w.day
    ORDER BY 1, 2, 3;
END;
COMMENT ON FUNCTION @extschema@.twilio_messages_per_day(int, text) IS
    'How many messages of the current user there were on each of the last days, by direction and status.
A day without messages has one row with 0. time_zone says when a day begins, such as Europe/Berlin.';
REVOKE ALL ON FUNCTION @extschema@.twilio_messages_per_day(int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_messages_per_day(int, text) TO twilio_user;

-- SECURITY INVOKER: the row policy shows the caller's own calls only.
CREATE FUNCTION @extschema@.twilio_calls_per_day(days int DEFAULT 14, time_zone text DEFAULT 'UTC')
RETURNS TABLE (day date, direction text, status text, calls bigint, seconds bigint)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH wanted AS (SELECT * FROM twilio_private.last_days(days, time_zone) AS day)
    SELECT w.day, c.direction, c.status, coalesce(c.calls, 0), coalesce(c.seconds, 0)
    FROM wanted w
    LEFT JOIN (
        SELECT (p.created_at AT TIME ZONE time_zone)::date AS day, p.direction, p.status, count(*) AS calls, sum(p.duration) AS seconds
        FROM @extschema@.twilio_calls p
        WHERE p.user_id = @extschema@.twilio_current_user_id()
          AND p.created_at >= (SELECT min(w.day) FROM wanted w)::timestamp AT TIME ZONE time_zone
        GROUP BY 1, 2, 3) c ON c.day = w.day
    ORDER BY 1, 2, 3;
END;
COMMENT ON FUNCTION @extschema@.twilio_calls_per_day(int, text) IS
    'How many calls of the current user there were on each of the last days, by direction and status, and how long they lasted together.
A day without calls has one row with 0. time_zone says when a day begins, such as Europe/Berlin.';
REVOKE ALL ON FUNCTION @extschema@.twilio_calls_per_day(int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_calls_per_day(int, text) TO twilio_user;
