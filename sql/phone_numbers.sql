-- twilio_phone_numbers(): the account's numbers, live, all pages; twilio_numbers follows.

CREATE FUNCTION twilio_private.parse_rfc2822(value text) RETURNS timestamptz
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF value ~ '^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}$' THEN
        RETURN value::timestamptz;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.parse_rfc2822(text) IS
    'The time in Twilio''s format (Thu, 24 Aug 2023 05:01:45 +0000), null for anything else.';
REVOKE ALL ON FUNCTION twilio_private.parse_rfc2822(text) FROM PUBLIC;

-- SECURITY DEFINER: reads the sealed credential and writes twilio_numbers, for the current user alone.
CREATE FUNCTION @extschema@.twilio_phone_numbers()
RETURNS TABLE (phone_number text, friendly_name text, sid text, sms boolean, mms boolean, voice boolean,
               sms_url text, voice_url text, date_created timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    deadline CONSTANT timestamptz := twilio_private.ask_deadline();
    owner CONSTANT uuid := twilio_private.require_user();
    account CONSTANT twilio_private.account := twilio_private.require_verified_account(owner);
    pages CONSTANT jsonb[] := twilio_private.ask_pages(
        account, 'phone_numbers', '/2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json?', 'incoming_phone_numbers',
        'a list of phone numbers', deadline);
BEGIN
    BEGIN
        PERFORM FROM @extschema@.twilio_settings s WHERE s.user_id = owner FOR NO KEY UPDATE;
        PERFORM twilio_private.require_unchanged(account);

        -- The list is live: rows may move from one page to the next while it is read.
        INSERT INTO @extschema@.twilio_numbers AS known
            (user_id, sid, phone_number, friendly_name, sms, mms, voice, sms_url, voice_url, date_created)
        SELECT DISTINCT ON (n.value ->> 'sid')
               owner, n.value ->> 'sid', n.value ->> 'phone_number', n.value ->> 'friendly_name',
               coalesce(n.value #> '{capabilities,sms}' = 'true', false),
               coalesce(n.value #> '{capabilities,mms}' = 'true', false),
               coalesce(n.value #> '{capabilities,voice}' = 'true', false),
               nullif(n.value ->> 'sms_url', ''), nullif(n.value ->> 'voice_url', ''),
               twilio_private.parse_rfc2822(n.value ->> 'date_created')
        FROM unnest(pages) page, jsonb_array_elements(page) n
        WHERE n.value ->> 'sid' IS NOT NULL AND n.value ->> 'phone_number' IS NOT NULL
        ON CONFLICT (user_id, sid) DO UPDATE
        SET phone_number = excluded.phone_number, friendly_name = excluded.friendly_name,
            sms = excluded.sms, mms = excluded.mms, voice = excluded.voice,
            sms_url = excluded.sms_url, voice_url = excluded.voice_url,
            date_created = excluded.date_created, refreshed_at = excluded.refreshed_at;
        DELETE FROM @extschema@.twilio_numbers known
        WHERE known.user_id = owner
          AND NOT EXISTS (SELECT FROM unnest(pages) page, jsonb_array_elements(page) n WHERE n.value ->> 'sid' = known.sid);
    EXCEPTION WHEN serialization_failure THEN
        PERFORM twilio_private.refuse_changed();
    END;

    PERFORM twilio_private.await_audit();
    RETURN QUERY
        SELECT n.phone_number, n.friendly_name, n.sid, n.sms, n.mms, n.voice, n.sms_url, n.voice_url, n.date_created
        FROM @extschema@.twilio_numbers n WHERE n.user_id = owner ORDER BY n.phone_number, n.sid;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_phone_numbers() IS
    'Lists the phone numbers of the user''s Twilio account, live and complete, and refreshes twilio_numbers.
Needs verified credentials (else PT409). Fails with PT502, PT504 or PT429 if Twilio cannot be reached.';
REVOKE ALL ON FUNCTION @extschema@.twilio_phone_numbers() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_phone_numbers() TO twilio_user;
