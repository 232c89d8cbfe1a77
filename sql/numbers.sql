-- twilio_numbers: the phone numbers of each user's account as Twilio last listed them. Rows come and go with
-- twilio_phone_numbers(); a user may only choose the default one.

CREATE TABLE @extschema@.twilio_numbers (
    user_id uuid NOT NULL REFERENCES @extschema@.twilio_settings ON DELETE CASCADE,
    sid text NOT NULL,
    phone_number text NOT NULL,
    friendly_name text,
    sms boolean NOT NULL DEFAULT false,
    mms boolean NOT NULL DEFAULT false,
    voice boolean NOT NULL DEFAULT false,
    sms_url text,
    voice_url text,
    is_default boolean NOT NULL DEFAULT false,
    date_created timestamptz,
    refreshed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, sid)
);
-- The foreign key deletes and is found by PostgREST, but does not check new rows: pg_restore --jobs loads the tables of an
-- extension in any order. They come from twilio_phone_numbers(), which has locked the settings.
ALTER TABLE @extschema@.twilio_numbers DISABLE TRIGGER ALL;
-- Checked at commit, so that UPDATE … SET is_default = (sid = …) works in whatever order it meets the rows.
ALTER TABLE @extschema@.twilio_numbers
    ADD CONSTRAINT one_default_per_user EXCLUDE (user_id WITH =) WHERE (is_default) DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX twilio_numbers_phone_number_idx ON @extschema@.twilio_numbers (user_id, phone_number);

COMMENT ON TABLE @extschema@.twilio_numbers IS
    'The phone numbers of the user''s Twilio account as last listed by twilio_phone_numbers().
Only is_default may be changed; setting it on one number clears it on the others.';
COMMENT ON COLUMN @extschema@.twilio_numbers.user_id IS 'The user (tenant).';
COMMENT ON COLUMN @extschema@.twilio_numbers.sid IS 'Twilio''s SID of the number (PN…).';
COMMENT ON COLUMN @extschema@.twilio_numbers.phone_number IS 'The number in E.164 format.';
COMMENT ON COLUMN @extschema@.twilio_numbers.friendly_name IS 'The name given to it at Twilio.';
COMMENT ON COLUMN @extschema@.twilio_numbers.sms IS 'Whether it can send and receive SMS.';
COMMENT ON COLUMN @extschema@.twilio_numbers.mms IS 'Whether it can send and receive MMS.';
COMMENT ON COLUMN @extschema@.twilio_numbers.voice IS 'Whether it can place and receive calls.';
COMMENT ON COLUMN @extschema@.twilio_numbers.sms_url IS 'URL that Twilio calls for an inbound SMS.';
COMMENT ON COLUMN @extschema@.twilio_numbers.voice_url IS 'URL that Twilio calls for an inbound call.';
COMMENT ON COLUMN @extschema@.twilio_numbers.is_default IS 'Whether messages without a sender are sent from this number.';
COMMENT ON COLUMN @extschema@.twilio_numbers.date_created IS 'Since when the account has the number.';
COMMENT ON COLUMN @extschema@.twilio_numbers.refreshed_at IS 'When Twilio last listed it.';

-- No statistics of what people write: see settings.sql.
ALTER TABLE @extschema@.twilio_numbers
    ALTER phone_number SET STATISTICS 0,
    ALTER friendly_name SET STATISTICS 0,
    ALTER sms_url SET STATISTICS 0,
    ALTER voice_url SET STATISTICS 0;

ALTER TABLE @extschema@.twilio_numbers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_numbers TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
CREATE POLICY administrators_see_all ON @extschema@.twilio_numbers FOR SELECT TO twilio_admin USING (true);
GRANT SELECT, UPDATE (is_default) ON @extschema@.twilio_numbers TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_numbers', '');

CREATE FUNCTION twilio_private.allow_two_defaults() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    SET CONSTRAINTS @extschema@.one_default_per_user DEFERRED;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.allow_two_defaults() IS
    'Lets a new default be set before the other one is cleared, also after SET CONSTRAINTS ALL IMMEDIATE.';
REVOKE ALL ON FUNCTION twilio_private.allow_two_defaults() FROM PUBLIC;
CREATE TRIGGER allow_two_defaults BEFORE UPDATE OF is_default ON @extschema@.twilio_numbers
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.allow_two_defaults();

-- SECURITY DEFINER only to be independent of the caller's grants: it touches rows of the user whose row was changed.
CREATE FUNCTION twilio_private.keep_one_default() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM new_rows n WHERE n.is_default GROUP BY n.user_id HAVING count(*) > 1) THEN
        RAISE EXCEPTION 'only one number can be the default'
            USING ERRCODE = 'invalid_parameter_value',
                  DETAIL = 'The statement sets is_default on several numbers of one user.',
                  HINT = 'Set is_default on one of them.';
    END IF;
    -- The UPDATE fires this trigger again, which then finds nothing to do.
    IF EXISTS (SELECT FROM new_rows n WHERE n.is_default) THEN
        UPDATE @extschema@.twilio_numbers other SET is_default = false
        FROM new_rows n
        WHERE n.is_default AND other.user_id = n.user_id AND other.sid <> n.sid AND other.is_default;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.keep_one_default() IS 'Clears is_default on a user''s other numbers when one is made the default.';
REVOKE ALL ON FUNCTION twilio_private.keep_one_default() FROM PUBLIC;
CREATE TRIGGER keep_one_default AFTER UPDATE ON @extschema@.twilio_numbers
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.keep_one_default();

-- SECURITY DEFINER: a user may not delete numbers.
CREATE FUNCTION twilio_private.forget_numbers() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM @extschema@.twilio_numbers n WHERE n.user_id = NEW.user_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.forget_numbers() IS 'Forgets the numbers of the account that the settings no longer name.';
REVOKE ALL ON FUNCTION twilio_private.forget_numbers() FROM PUBLIC;
CREATE TRIGGER numbers_of_former_account AFTER UPDATE ON @extschema@.twilio_settings
    FOR EACH ROW WHEN (OLD.account_sid <> NEW.account_sid)
    EXECUTE FUNCTION twilio_private.forget_numbers();
