-- The names that each peer has, too.
CREATE FUNCTION enqueue(n bigint) RETURNS void LANGUAGE sql
SET twilio.user_id = '018f4a3e-0000-7000-8000-000000000001' AS $$
    INSERT INTO twilio_messages (to_number, body)
    SELECT '+1500555' || lpad(g::text, 7, '0'), 'Your appointment is tomorrow at 10:15. Reply C to confirm, no. ' || g
    FROM generate_series(1, n) g
$$;
CREATE FUNCTION finished() RETURNS boolean LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM twilio_private.outbox WHERE kind IN ('message', 'message_look'))
$$;
CREATE VIEW messages AS SELECT * FROM twilio_messages;
