-- twilio_opt_outs: numbers that do not want messages of a user any more. They said STOP, or Twilio answered 21610.

CREATE TABLE @extschema@.twilio_opt_outs (
    user_id uuid NOT NULL DEFAULT @extschema@.twilio_current_user_id(),
    phone_number text NOT NULL,
    reason text NOT NULL DEFAULT 'manual',
    opted_out_at timestamptz NOT NULL DEFAULT now(),
    opted_in_at timestamptz,
    PRIMARY KEY (user_id, phone_number),
    CONSTRAINT opted_in_after_opting_out CHECK (opted_in_at >= opted_out_at)
);
COMMENT ON TABLE @extschema@.twilio_opt_outs IS
    'Recipients who opted out of a user''s messages. A message to one fails with 21610 and is never handed to Twilio.
STOP and START in a received message keep it; a user may add rows, and set opted_in_at when somebody opted in again elsewhere.';
COMMENT ON COLUMN @extschema@.twilio_opt_outs.user_id IS 'The user (tenant); filled in from the caller''s identity.';
COMMENT ON COLUMN @extschema@.twilio_opt_outs.phone_number IS 'The recipient, written as in twilio_messages.to_number.';
COMMENT ON COLUMN @extschema@.twilio_opt_outs.reason IS
    'How we know: the word received (STOP …), 21610 (Twilio refused a message), manual.';
COMMENT ON COLUMN @extschema@.twilio_opt_outs.opted_out_at IS 'Since when.';
COMMENT ON COLUMN @extschema@.twilio_opt_outs.opted_in_at IS
    'When the recipient opted in again (START); null while opted out.';

-- No statistics of what people write: see settings.sql.
ALTER TABLE @extschema@.twilio_opt_outs
    ALTER phone_number SET STATISTICS 0;

ALTER TABLE @extschema@.twilio_opt_outs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_opt_outs TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT, INSERT, UPDATE ON @extschema@.twilio_opt_outs TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_opt_outs', '');

-- SECURITY DEFINER: uses twilio_private; judges nothing but the number.
CREATE FUNCTION twilio_private.check_opt_out() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT twilio_private.is_recipient(NEW.phone_number) THEN
        PERFORM twilio_private.refuse_input('invalid recipient',
                                              'No message can go to a number that is written like this, so it would keep none back.',
                                              'Write it like +1234567890, without spaces.');
    END IF;
    -- An upsert of somebody who had opted in again: it says nothing about that, so it says that they have opted out.
    IF TG_OP = 'UPDATE' AND NEW.phone_number = OLD.phone_number AND NEW.opted_in_at = OLD.opted_in_at THEN
        NEW.opted_in_at := NULL;
        NEW.opted_out_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.check_opt_out() IS
    'Refuses what no message can be addressed to; takes a number that is written once more for one that has opted out.';
REVOKE ALL ON FUNCTION twilio_private.check_opt_out() FROM PUBLIC;
-- Whatever Twilio reports is taken as it is.
CREATE TRIGGER check_number BEFORE INSERT OR UPDATE OF phone_number ON @extschema@.twilio_opt_outs
    FOR EACH ROW WHEN (row_security_active('@extschema@.twilio_opt_outs'::regclass))
    EXECUTE FUNCTION twilio_private.check_opt_out();

CREATE FUNCTION twilio_private.opt_out(user_ids uuid[], phone_numbers text[], reason text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO @extschema@.twilio_opt_outs AS o (user_id, phone_number, reason, opted_out_at)
    SELECT DISTINCT u.user_id, u.phone_number, opt_out.reason, clock_timestamp()
    FROM unnest(user_ids, phone_numbers) AS u (user_id, phone_number)
    ORDER BY 1, 2
    ON CONFLICT (user_id, phone_number) DO UPDATE
    SET reason = excluded.reason, opted_out_at = excluded.opted_out_at, opted_in_at = NULL
    WHERE o.opted_in_at IS NOT NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.opt_out(uuid[], text[], text) IS
    'Notes that these recipients do not want messages of these users.';
REVOKE ALL ON FUNCTION twilio_private.opt_out(uuid[], text[], text) FROM PUBLIC;

CREATE FUNCTION twilio_private.opt_in(user_id uuid, phone_number text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE @extschema@.twilio_opt_outs o SET opted_in_at = greatest(clock_timestamp(), o.opted_out_at)
    WHERE o.user_id = opt_in.user_id AND o.phone_number = opt_in.phone_number AND o.opted_in_at IS NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.opt_in(uuid, text) IS 'Notes that a recipient wants messages of the user again.';
REVOKE ALL ON FUNCTION twilio_private.opt_in(uuid, text) FROM PUBLIC;
