-- The breaker of a tenant: while Twilio refuses an account (20003, 20403, 20005, 10001, 20006), its orders wait and the
-- others go on. A new token or a successful twilio_verify() closes it.

CREATE TABLE twilio_private.breaker (
    user_id uuid PRIMARY KEY,
    error_code integer,
    message text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE twilio_private.breaker ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
COMMENT ON TABLE twilio_private.breaker IS 'Users whose account Twilio refuses: their orders wait for a new token or a successful twilio_verify().';
COMMENT ON COLUMN twilio_private.breaker.user_id IS 'The user.';
COMMENT ON COLUMN twilio_private.breaker.error_code IS 'Twilio''s error code.';
COMMENT ON COLUMN twilio_private.breaker.message IS 'Twilio''s sentence.';
COMMENT ON COLUMN twilio_private.breaker.opened_at IS 'Since when.';
SELECT pg_catalog.pg_extension_config_dump('twilio_private.breaker', '');

CREATE FUNCTION twilio_private.open_breaker(user_id uuid, error_code integer, message text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO twilio_private.breaker AS b (user_id, error_code, message)
    VALUES (open_breaker.user_id, open_breaker.error_code, coalesce(open_breaker.message, 'Twilio refuses the account'))
    ON CONFLICT (user_id) DO UPDATE SET error_code = EXCLUDED.error_code, message = EXCLUDED.message;
    PERFORM twilio_private.record_verification(open_breaker.user_id, false, NULL, NULL, NULL,
                                               twilio_private.refusal(
                                                   401, open_breaker.error_code, open_breaker.message,
                                                   api_key => EXISTS (SELECT FROM twilio_private.credential c
                                                                      WHERE c.user_id = open_breaker.user_id AND c.kind = 'api_key_secret')),
                                               clock_timestamp());
END
$$;
COMMENT ON FUNCTION twilio_private.open_breaker(uuid, integer, text) IS
    'Lets the orders of a user wait, because Twilio refuses the account, and marks the settings as not verified.';
REVOKE ALL ON FUNCTION twilio_private.open_breaker(uuid, integer, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.close_breaker(user_id uuid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM twilio_private.breaker b WHERE b.user_id = close_breaker.user_id;
    PERFORM twilio_private.wake_worker();
END
$$;
COMMENT ON FUNCTION twilio_private.close_breaker(uuid) IS 'Lets the orders of a user go on, and wakes the worker.';
REVOKE ALL ON FUNCTION twilio_private.close_breaker(uuid) FROM PUBLIC;
