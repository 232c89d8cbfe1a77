-- The settings as one object, for REST: nginx maps the methods of /api/twilio-settings/ onto these functions. The table
-- gives the same to whoever prefers PostgREST's own interface; what differs is that here there is always exactly one
-- object, the caller's own, for administrators too, and that a missing one is PT404.
--
-- The functions that write are SECURITY INVOKER: row-level security and settings_guard() judge the caller. A secret is
-- in clear on its way to the triggers of settings_write.sql; the generic plan keeps its value out of auto_explain.

-- SECURITY DEFINER: uses twilio_private; shows nothing but the caller's own row, which the caller may read anyway.
CREATE FUNCTION @extschema@.twilio_get_settings() RETURNS @extschema@.twilio_settings
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settings @extschema@.twilio_settings;
BEGIN
    SELECT * INTO settings FROM @extschema@.twilio_settings s WHERE s.user_id = @extschema@.twilio_current_user_id();
    IF NOT FOUND THEN
        settings := twilio_private.require_settings(twilio_private.require_user());
    END IF;
    RETURN settings;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_get_settings() IS
    'The current user''s settings as one object, secrets masked: GET /api/twilio-settings/.
Without settings it fails with PT404, Settings not found.';
REVOKE ALL ON FUNCTION @extschema@.twilio_get_settings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_get_settings() TO twilio_user;

CREATE FUNCTION @extschema@.twilio_create_settings(jsonb) RETURNS @extschema@.twilio_settings
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    given @extschema@.twilio_settings;
    columns text[];
BEGIN
    given.user_id := @extschema@.twilio_current_user_id();
    columns := ARRAY(SELECT jsonb_object_keys(to_jsonb(given)));
    IF EXISTS (SELECT FROM @extschema@.twilio_settings s WHERE s.user_id = given.user_id) THEN
        RAISE EXCEPTION 'Settings already exist'
            USING ERRCODE = 'unique_violation',
                  DETAIL = 'A user has one Twilio account.',
                  HINT = 'Change the settings with PUT, or delete them first.';
    END IF;
    given.sms_enabled := true;
    given.voice_enabled := true;
    given.is_active := true;
    given.resend_unknown := true;
    IF jsonb_typeof($1) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'the settings are no JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'They are one object, whose members are columns of twilio_settings.',
                  HINT = 'Send one like {"account_sid": "AC…", "auth_token": "…"}.';
    END IF;
    given := jsonb_populate_record(given, $1);
    IF $1 - columns <> '{}' THEN
        RAISE EXCEPTION 'unknown setting'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'The object has a member that is no column of twilio_settings.',
                  HINT = 'The usual members are account_sid, auth_token, phone_number, sms_enabled and voice_enabled.';
    END IF;

    -- What users do not decide is set by the triggers, whatever stands here.
    INSERT INTO @extschema@.twilio_settings
    SELECT given.*
    RETURNING * INTO given;
    PERFORM set_config('response.status', '201', true);
    RETURN given;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_create_settings(jsonb) IS
    'Creates the current user''s settings from one JSON object and returns them: POST /api/twilio-settings/.
The members are the columns of twilio_settings. Where settings exist it fails with 23505.';
REVOKE ALL ON FUNCTION @extschema@.twilio_create_settings(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_create_settings(jsonb) TO twilio_user;

CREATE FUNCTION @extschema@.twilio_update_settings(jsonb) RETURNS @extschema@.twilio_settings
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan
SET default_transaction_isolation = 'read committed' -- PostgREST begins the transaction with it, whatever the role has
AS $$
DECLARE
    owner CONSTANT uuid := @extschema@.twilio_current_user_id();
    given @extschema@.twilio_settings;
    columns text[];
BEGIN
    -- What another call is changing is read when it is done.
    PERFORM FROM @extschema@.twilio_settings s WHERE s.user_id = owner FOR NO KEY UPDATE;
    given := @extschema@.twilio_get_settings();
    columns := ARRAY(SELECT jsonb_object_keys(to_jsonb(given)));
    IF jsonb_typeof($1) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'the settings are no JSON object'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'They are one object, whose members are columns of twilio_settings.',
                  HINT = 'Send one like {"account_sid": "AC…", "auth_token": "…"}.';
    END IF;
    given := jsonb_populate_record(given, $1);
    IF $1 - columns <> '{}' THEN
        RAISE EXCEPTION 'unknown setting'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'The object has a member that is no column of twilio_settings.',
                  HINT = 'The usual members are account_sid, auth_token, phone_number, sms_enabled and voice_enabled.';
    END IF;

    -- A member left out keeps its value, a secret too: its mask means unchanged.
    UPDATE @extschema@.twilio_settings s
    SET user_id = given.user_id, account_sid = given.account_sid, auth_token = given.auth_token,
        phone_number = given.phone_number, sms_enabled = given.sms_enabled, voice_enabled = given.voice_enabled,
        is_active = given.is_active, api_key_sid = given.api_key_sid, api_key_secret = given.api_key_secret,
        messaging_service_sid = given.messaging_service_sid, resend_unknown = given.resend_unknown,
        auto_reply = given.auto_reply, rate_limit_per_second = given.rate_limit_per_second, max_in_flight = given.max_in_flight
    WHERE s.user_id = owner
    RETURNING s.* INTO given;
    RETURN given;
EXCEPTION WHEN serialization_failure THEN
    RAISE EXCEPTION 'Twilio settings have changed meanwhile'
        USING ERRCODE = 'PT409',
              DETAIL = 'They were changed since this transaction began.',
              HINT = 'Repeat the call in a new transaction.';
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_update_settings(jsonb) IS
    'Changes the members of the current user''s settings that one JSON object names: PUT /api/twilio-settings/.
Returns the settings. Without settings it fails with PT404, Settings not found.';
REVOKE ALL ON FUNCTION @extschema@.twilio_update_settings(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_update_settings(jsonb) TO twilio_user;

CREATE FUNCTION @extschema@.twilio_delete_settings() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET default_transaction_isolation = 'read committed' -- as above
AS $$
DECLARE
    stored CONSTANT @extschema@.twilio_settings := @extschema@.twilio_get_settings();
BEGIN
    DELETE FROM @extschema@.twilio_settings s WHERE s.user_id = stored.user_id;
EXCEPTION WHEN serialization_failure THEN
    RAISE EXCEPTION 'Twilio settings have changed meanwhile'
        USING ERRCODE = 'PT409',
              DETAIL = 'They were changed since this transaction began.',
              HINT = 'Repeat the call in a new transaction.';
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_delete_settings() IS
    'Deletes the current user''s settings, secrets and list of numbers: DELETE /api/twilio-settings/.
Without settings it fails with PT404, Settings not found.';
REVOKE ALL ON FUNCTION @extschema@.twilio_delete_settings() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_delete_settings() TO twilio_user;

-- One value and not rows: of rows PostgREST gives out no more than its db-max-rows.
CREATE FUNCTION @extschema@.twilio_get_phone_numbers() RETURNS json
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(json_agg(n), '[]') FROM @extschema@.twilio_phone_numbers() n
$$;
COMMENT ON FUNCTION @extschema@.twilio_get_phone_numbers() IS
    'What twilio_phone_numbers() lists as one JSON array, however long: GET /api/twilio-settings/phone-numbers.';
REVOKE ALL ON FUNCTION @extschema@.twilio_get_phone_numbers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_get_phone_numbers() TO twilio_user;

-- PostgREST embeds what a foreign key leads to, or a function like this one: events have no foreign key (messages.sql).
CREATE FUNCTION @extschema@.twilio_message_events(message @extschema@.twilio_messages)
RETURNS SETOF @extschema@.twilio_message_events
LANGUAGE sql STABLE ROWS 6
BEGIN ATOMIC
    SELECT e.* FROM @extschema@.twilio_message_events e
    WHERE e.user_id = message.user_id AND e.message_id = message.id ORDER BY e.id;
END;
COMMENT ON FUNCTION @extschema@.twilio_message_events(@extschema@.twilio_messages) IS
    'The events of a message, in their order: GET /api/twilio_messages?select=*,twilio_message_events(*).';
REVOKE ALL ON FUNCTION @extschema@.twilio_message_events(@extschema@.twilio_messages) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_message_events(@extschema@.twilio_messages) TO twilio_user;
