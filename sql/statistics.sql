-- What the settings page draws: how many messages there were on each day.

-- SECURITY INVOKER: the row policy shows the caller's own messages only.
CREATE FUNCTION @extschema@.twilio_messages_per_day(days int DEFAULT 14, time_zone text DEFAULT 'UTC')
RETURNS TABLE (day date, direction text, status text, messages bigint)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner CONSTANT uuid := @extschema@.twilio_current_user_id();
    today CONSTANT date := (now() AT TIME ZONE time_zone)::date;
BEGIN
    IF days NOT BETWEEN 1 AND 366 THEN
        RAISE EXCEPTION 'invalid number of days'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = 'days is 1 to 366.', HINT = 'For longer times query twilio_messages.';
    END IF;
    RETURN QUERY
        SELECT today - d.ago, c.direction, c.status, coalesce(c.messages, 0)
        FROM generate_series(0, days - 1) d (ago)
        LEFT JOIN (
            SELECT (m.created_at AT TIME ZONE time_zone)::date AS day, m.direction, m.status, count(*) AS messages
            FROM @extschema@.twilio_messages m
            WHERE m.user_id = owner
              AND m.created_at >= (today - (days - 1))::timestamp AT TIME ZONE time_zone
            GROUP BY 1, 2, 3) c ON c.day = today - d.ago
        ORDER BY 1, 2, 3;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_messages_per_day(int, text) IS
    'How many messages of the current user there were on each of the last days, by direction and status.
A day without messages has one row with 0. time_zone says when a day begins, such as Europe/Berlin.';
REVOKE ALL ON FUNCTION @extschema@.twilio_messages_per_day(int, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_messages_per_day(int, text) TO twilio_user;
