-- twilio_settings: the Twilio account of each user. What is written to it goes through the triggers of
-- settings_write.sql, which keep the secrets out of it.

CREATE TABLE @extschema@.twilio_settings (
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    user_id uuid NOT NULL DEFAULT @extschema@.twilio_current_user_id(),
    account_sid text NOT NULL,
    auth_token text NOT NULL,
    phone_number text,
    sms_enabled boolean NOT NULL DEFAULT true,
    voice_enabled boolean NOT NULL DEFAULT true,
    is_active boolean NOT NULL DEFAULT true,
    is_verified boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_verified_at timestamptz,
    account_name text,
    account_status text,
    account_type text,
    verification_error text,
    api_key_sid text,
    api_key_secret text,
    messaging_service_sid text,
    resend_unknown boolean NOT NULL DEFAULT true,
    rate_limit_per_second numeric,
    max_in_flight int,
    auto_reply text,
    PRIMARY KEY (user_id),
    CONSTRAINT auth_token_is_masked CHECK (auth_token = '••••••••'),
    CONSTRAINT api_key_secret_is_masked CHECK (api_key_secret = '••••••••'),
    CONSTRAINT api_key_has_sid_and_secret CHECK ((api_key_sid IS NULL) = (api_key_secret IS NULL)),
    CONSTRAINT account_sid_starts_with_ac CHECK (account_sid ~ '^AC[0-9A-Za-z]{32}$'),
    CONSTRAINT phone_number_is_e164 CHECK (phone_number ~ '^[+][1-9][0-9]{1,14}$'),
    CONSTRAINT rate_limit_is_not_negative CHECK (rate_limit_per_second >= 0.0 AND rate_limit_per_second <= 100000.0),
    -- The worker counts in double precision. A number that has none would stop the messages of all.
    CONSTRAINT rate_limit_is_zero_or_one_a_day CHECK (rate_limit_per_second = 0.0 OR rate_limit_per_second >= 0.00001),
    CONSTRAINT max_in_flight_is_positive CHECK (max_in_flight > 0),
    -- Twilio counts UTF-16 units, of which an emoji has two.
    CONSTRAINT auto_reply_is_one_message
        CHECK (char_length(auto_reply) + char_length(regexp_replace(auto_reply, '[\u0001-\uFFFF]+', '', 'g')) <= 1600)
);
COMMENT ON TABLE @extschema@.twilio_settings IS
    'The Twilio account of a user: one row per user, visible to that user and to administrators.
Secrets are write-only: they are sealed when written and read as ••••••••. Writing ••••••••, or leaving a column out, keeps them.';
COMMENT ON COLUMN @extschema@.twilio_settings.id IS 'UUID version 7, given by the database. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_settings.user_id IS 'The user (tenant); filled in from the caller''s identity.';
COMMENT ON COLUMN @extschema@.twilio_settings.account_sid IS
    'Account SID: 34 characters, starts with AC, from the dashboard at https://console.twilio.com.';
COMMENT ON COLUMN @extschema@.twilio_settings.auth_token IS
    'Auth Token: at least 32 characters. Write-only, reads as ••••••••; writing that back keeps the stored token.';
COMMENT ON COLUMN @extschema@.twilio_settings.phone_number IS 'Default sender in E.164 format, such as +1234567890, or null.';
COMMENT ON COLUMN @extschema@.twilio_settings.sms_enabled IS
    'Whether SMS may be sent: false refuses new ones. What was ordered before still goes; is_active = false keeps that back.';
COMMENT ON COLUMN @extschema@.twilio_settings.voice_enabled IS 'Whether calls may be placed.';
COMMENT ON COLUMN @extschema@.twilio_settings.is_active IS 'Whether the account may be used at all.';
COMMENT ON COLUMN @extschema@.twilio_settings.is_verified IS
    'Whether Twilio accepted the stored credentials. Read-only: set by twilio_verify(), reset when SID, token or API key change.';
COMMENT ON COLUMN @extschema@.twilio_settings.created_at IS 'When the row was created. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_settings.updated_at IS 'When the row was last changed. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_settings.last_verified_at IS
    'When Twilio last accepted these credentials; null for credentials not verified yet. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_settings.account_name IS 'The account''s name at Twilio. Read-only, set by twilio_verify().';
COMMENT ON COLUMN @extschema@.twilio_settings.account_status IS
    'active, suspended or closed, as Twilio last said. Read-only, set by twilio_verify().';
COMMENT ON COLUMN @extschema@.twilio_settings.account_type IS 'Trial or Full. Read-only, set by twilio_verify().';
COMMENT ON COLUMN @extschema@.twilio_settings.verification_error IS
    'Why the credentials are not verified, with Twilio''s error code. Read-only, set by twilio_verify().';
COMMENT ON COLUMN @extschema@.twilio_settings.api_key_sid IS
    'SID of an API key (starts with SK), used for REST calls instead of the Auth Token, or null.';
COMMENT ON COLUMN @extschema@.twilio_settings.api_key_secret IS
    'Secret of the API key. Write-only, reads as ••••••••; writing that back keeps the stored secret.';
COMMENT ON COLUMN @extschema@.twilio_settings.messaging_service_sid IS
    'Messaging Service (starts with MG) that chooses the sender, or null.';
COMMENT ON COLUMN @extschema@.twilio_settings.resend_unknown IS
    'Whether a message whose fate stayed unknown is sent again once Twilio''s lists show that it never arrived there.';
COMMENT ON COLUMN @extschema@.twilio_settings.rate_limit_per_second IS
    'Requests per second at most, 0.00001 or more, 0 for no limit, null for twilio.rate_limit_per_second. Set by administrators.';
COMMENT ON COLUMN @extschema@.twilio_settings.max_in_flight IS
    'Requests in flight at most, null for twilio.user_max_in_flight. Set by administrators.';
COMMENT ON COLUMN @extschema@.twilio_settings.auto_reply IS
    'Text that answers received SMS; null or empty for no answer. STOP, START and HELP get none, nor does who has opted out,
and nobody does while sms_enabled is false.';

-- An EXPLAIN shows what the planner expects of a condition, from the rows of all tenants: so of what people write there are
-- no statistics.
ALTER TABLE @extschema@.twilio_settings
    ALTER phone_number SET STATISTICS 0,
    ALTER account_name SET STATISTICS 0,
    ALTER verification_error SET STATISTICS 0,
    ALTER auto_reply SET STATISTICS 0;

-- What keeps a secret out where the triggers that seal it do not fire. The CHECKs would, too, but show the row.
CREATE FUNCTION twilio_private.refuse_unsealed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'the secret is not sealed'
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'session_replication_role is replica, so the triggers that seal secrets do not fire.',
              HINT = 'RESET session_replication_role; a replication brings the mask.';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_unsealed() IS 'Refuses a secret that nothing has sealed, without showing it.';
REVOKE ALL ON FUNCTION twilio_private.refuse_unsealed() FROM PUBLIC;
CREATE TRIGGER step4_sealed BEFORE INSERT OR UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW WHEN (NEW.auth_token <> '••••••••' OR NEW.api_key_secret <> '••••••••')
    EXECUTE FUNCTION twilio_private.refuse_unsealed();
ALTER TABLE @extschema@.twilio_settings ENABLE ALWAYS TRIGGER step4_sealed;

ALTER TABLE @extschema@.twilio_settings ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_row ON @extschema@.twilio_settings TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
CREATE POLICY administrators_see_all ON @extschema@.twilio_settings FOR SELECT TO twilio_admin USING (true);
CREATE POLICY administrators_set_limits ON @extschema@.twilio_settings FOR UPDATE TO twilio_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.twilio_settings TO twilio_user;
-- The column default is evaluated with the rights of whoever inserts.
GRANT EXECUTE ON FUNCTION twilio_private.uuid_v7() TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_settings', '');
