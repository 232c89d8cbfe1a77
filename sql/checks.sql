-- What the API accepts, in one place, with the words in which it refuses. A refused value is never repeated in the
-- error: people paste tokens into the wrong field.

CREATE FUNCTION twilio_private.mask() RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT '••••••••'::text $$;
COMMENT ON FUNCTION twilio_private.mask() IS 'What stands in place of a stored secret; written back it means: unchanged.';
REVOKE ALL ON FUNCTION twilio_private.mask() FROM PUBLIC;

CREATE FUNCTION twilio_private.valid(field text, value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pattern text;
    reason text;
    detail text;
    hint text;
BEGIN
    CASE field
    WHEN 'account_sid' THEN
        pattern := '^AC[0-9A-Za-z]{32}$';
        reason := 'invalid account SID';
        detail := 'An Account SID has 34 characters and starts with AC.';
        hint := 'Copy the Account SID from the dashboard at https://console.twilio.com, without spaces.';
    WHEN 'auth_token' THEN
        pattern := '^[!-~]{32,}$';
        reason := 'invalid auth token';
        detail := 'An Auth Token has at least 32 characters, none of them a space or a line break.';
        hint := 'Copy the Auth Token from the dashboard at https://console.twilio.com.';
    WHEN 'phone_number' THEN
        pattern := '^[+][1-9][0-9]{1,14}$';
        reason := 'invalid phone number';
        detail := 'A phone number is written in E.164 format: +, country code, number, at most 15 digits.';
        hint := 'Write it like +1234567890, without spaces.';
    WHEN 'messaging_service_sid' THEN
        pattern := '^MG[0-9A-Za-z]{32}$';
        reason := 'invalid messaging service SID';
        detail := 'A Messaging Service SID has 34 characters and starts with MG.';
        hint := 'Copy it from Messaging > Services at https://console.twilio.com.';
    WHEN 'api_key_sid' THEN
        pattern := '^SK[0-9A-Za-z]{32}$';
        reason := 'invalid API key SID';
        detail := 'The SID of an API key has 34 characters and starts with SK.';
        hint := 'Copy it from Account > API keys & tokens at https://console.twilio.com.';
    WHEN 'api_key_secret' THEN
        pattern := '^[!-~]{16,}$';
        reason := 'invalid API key secret';
        detail := 'The secret of an API key has at least 16 characters, none of them a space or a line break.';
        hint := 'Twilio shows the secret only once: create a new API key if it is lost.';
    END CASE;

    IF octet_length(value) > 255 OR value !~ pattern THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = reason, DETAIL = detail, HINT = hint;
    END IF;
    RETURN value;
END
$$;
COMMENT ON FUNCTION twilio_private.valid(text, text) IS
    'Returns the value when it is one that the field may hold (null is), and fails in the words of the guide otherwise.';
REVOKE ALL ON FUNCTION twilio_private.valid(text, text) FROM PUBLIC;

-- A bound as {1,14} would be ten times as dear: every number of repetitions is a state of its own.
CREATE FUNCTION twilio_private.is_number(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN value ~ '^[+][1-9][0-9]+$' AND length(value) <= 16;
COMMENT ON FUNCTION twilio_private.is_number(text) IS 'Whether it is a number in E.164 format.';
REVOKE ALL ON FUNCTION twilio_private.is_number(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.is_channel_address(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN value ~ '^([a-z]{2,20}:[+][1-9][0-9]{1,14}|messenger:[0-9A-Za-z_.-]{1,100})$';
COMMENT ON FUNCTION twilio_private.is_channel_address(text) IS 'Whether it is an address of another channel than SMS, such as whatsapp:+1234567890.';
REVOKE ALL ON FUNCTION twilio_private.is_channel_address(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.is_recipient(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN coalesce(twilio_private.is_number(value) OR twilio_private.is_channel_address(value), false);
COMMENT ON FUNCTION twilio_private.is_recipient(text) IS 'Whether a message can be addressed to it: a number in E.164 format, or a channel''s address.';
REVOKE ALL ON FUNCTION twilio_private.is_recipient(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.is_web_url(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE
RETURN value ~ '^[Hh][Tt][Tt][Pp][Ss]?://[^[:space:]/?#]+[^[:space:]]*$' AND octet_length(value) <= 2048;
COMMENT ON FUNCTION twilio_private.is_web_url(text) IS 'Whether it is an http(s) URL of at most 2048 bytes.';
REVOKE ALL ON FUNCTION twilio_private.is_web_url(text) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_input(reason text, detail text, hint text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = reason, DETAIL = detail, HINT = hint;
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_input(text, text, text) IS 'Fails with 22023: Twilio could not do this.';
REVOKE ALL ON FUNCTION twilio_private.refuse_input(text, text, text) FROM PUBLIC;

-- A dump turns row_security off. That is not enough without the rights: whoever is subject to row-level security could
-- turn it off within the statement itself.
CREATE FUNCTION twilio_private.restoring() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN current_setting('row_security') = 'off'
       AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname = (SELECT twilio_private.actor()) AND (r.rolsuper OR r.rolbypassrls));
END
$$;
COMMENT ON FUNCTION twilio_private.restoring() IS
    'True while a dump is restored: its rows are taken as they are.';
REVOKE ALL ON FUNCTION twilio_private.restoring() FROM PUBLIC;
