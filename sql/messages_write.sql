-- What happens when a row is inserted into twilio_messages: it is checked and completed row by row, then the statement
-- as a whole is allowed or refused and the sending is ordered, for all its rows at once.
--
-- Whatever depends on the account of user_id is decided in the second step: row-level security judges the rows after
-- the first, and nobody may learn from an error how the account of another user stands.

CREATE FUNCTION twilio_private.check_media(urls text[]) RETURNS int
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    url text;
BEGIN
    IF cardinality(urls) > 10 THEN
        PERFORM twilio_private.refuse_input('too many media', 'A message has at most 10 media URLs (21623).',
                                              'Send several messages.');
    END IF;
    FOREACH url IN ARRAY urls LOOP
        IF twilio_private.is_web_url(url) IS NOT TRUE THEN
            PERFORM twilio_private.refuse_input('invalid media URL', 'A media URL begins with https:// or http:// (21620).',
                                                  'Give URLs that anybody can fetch: Twilio does, this server never.');
        END IF;
    END LOOP;
    RETURN cardinality(urls);
END
$$;
COMMENT ON FUNCTION twilio_private.check_media(text[]) IS
    'The number of media URLs; fails if one is none, or there are too many.';
REVOKE ALL ON FUNCTION twilio_private.check_media(text[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.check_times(send_at timestamptz, expires_at timestamptz) RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF send_at > now() + interval '1 year' THEN
        PERFORM twilio_private.refuse_input('send_at is too far ahead', 'A message can be planned for at most one year ahead.',
                                              'Insert it later.');
    END IF;
    IF expires_at > now() + interval '2 years' THEN
        PERFORM twilio_private.refuse_input('expires_at is too far ahead', 'A message can wait for at most two years.',
                                              'Leave expires_at out: twilio.message_ttl gives the default.');
    ELSIF expires_at <= greatest(now(), send_at) THEN
        PERFORM twilio_private.refuse_input('the message has expired already', 'expires_at is not later than now and send_at.',
                                              'Leave expires_at out: twilio.message_ttl gives the default.');
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.check_times(timestamptz, timestamptz) IS
    'Fails where a message could never be sent in its time.';
REVOKE ALL ON FUNCTION twilio_private.check_times(timestamptz, timestamptz) FROM PUBLIC;

-- SECURITY DEFINER: uses twilio_private, and reads settings, numbers and opt-outs of the row's user_id, which the row
-- policy has yet to judge; so it raises nothing that depends on them.
CREATE FUNCTION twilio_private.message_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_generic_plan -- without statistics of phone numbers it would plan anew for each row
AS $$
DECLARE
    size record;
    sender twilio_private.sender;
BEGIN
    IF current_setting('row_security') = 'off' AND twilio_private.restoring() THEN
        RETURN NEW;
    END IF;
    IF NEW.user_id IS NULL THEN
        NEW.user_id := twilio_private.require_user();
    END IF;

    IF NOT twilio_private.is_recipient(NEW.to_number) THEN
        PERFORM twilio_private.refuse_input('invalid recipient',
                                              'to_number is written in E.164 format: +, country code, number, at most 15 digits (21211).',
                                              'Write it like +1234567890, without spaces.');
    END IF;
    NEW.from_number := nullif(NEW.from_number, '');
    NEW.messaging_service_sid := nullif(NEW.messaging_service_sid, '');
    IF NOT (twilio_private.is_number(NEW.from_number) OR twilio_private.is_channel_address(NEW.from_number)
            OR NEW.from_number ~ '^([0-9]{3,8}|(?=.*[A-Za-z])[0-9A-Za-z _&+-]{1,11})$') THEN
        PERFORM twilio_private.refuse_input('invalid sender',
                                              'from_number is a number in E.164 format, a short code or a name of at most 11 characters (21212).',
                                              'Write it like +1234567890, or leave it out.');
    END IF;
    IF NEW.messaging_service_sid !~ '^MG[0-9A-Za-z]{32}$' THEN
        PERFORM twilio_private.valid('messaging_service_sid', NEW.messaging_service_sid);
    END IF;

    NEW.body := nullif(NEW.body, '');
    NEW.media_urls := nullif(NEW.media_urls, '{}');
    NEW.num_media := 0;
    IF NEW.media_urls IS NOT NULL THEN
        NEW.num_media := twilio_private.check_media(NEW.media_urls);
    END IF;
    NEW.encoding := NULL;
    NEW.num_segments := NULL;
    IF NEW.body IS NOT NULL THEN
        size := twilio_private.sms_segments(NEW.body);
        IF size.utf16_units > 1600 THEN
            PERFORM twilio_private.refuse_input('the body is too long',
                                                  format('A message has at most 1600 characters (21617); this one has %s.', size.utf16_units),
                                                  'An emoji counts as two or more. Send several messages.');
        END IF;
        NEW.encoding := size.encoding;
        NEW.num_segments := size.segments;
    ELSIF NEW.num_media = 0 THEN
        PERFORM twilio_private.refuse_input('the message is empty', 'It has neither a body nor media_urls (21602).',
                                              'Give it a body.');
    END IF;
    IF octet_length(NEW.idempotency_key) NOT BETWEEN 1 AND 255 THEN
        PERFORM twilio_private.refuse_input('invalid idempotency key', 'idempotency_key has 1 to 255 bytes.', 'Use a UUID.');
    END IF;
    IF NEW.send_at IS NOT NULL OR NEW.expires_at IS NOT NULL THEN
        PERFORM twilio_private.check_times(NEW.send_at, NEW.expires_at);
    END IF;

    -- A client may send back the whole object that it has read.
    NEW.id := twilio_private.uuid_v7();
    NEW.direction := 'outbound';
    NEW.sid := NULL;
    NEW.former_sids := NULL;
    NEW.price := NULL;
    NEW.price_unit := NULL;
    NEW.created_at := clock_timestamp();
    NEW.updated_at := NEW.created_at;
    NEW.expires_at := coalesce(NEW.expires_at,
                               greatest(NEW.send_at, NEW.created_at) + current_setting('twilio.message_ttl')::interval);
    NEW.submitted_at := NULL;
    NEW.sent_at := NULL;
    NEW.delivered_at := NULL;

    IF NEW.from_number IS NULL AND NEW.messaging_service_sid IS NULL THEN
        sender := twilio_private.sender_of(NEW.user_id);
        NEW.messaging_service_sid := sender.messaging_service_sid;
        NEW.from_number := CASE WHEN sender.messaging_service_sid IS NULL THEN sender.phone_number END;
    END IF;
    PERFORM FROM @extschema@.twilio_opt_outs o -- a quarter less than EXISTS
    WHERE o.user_id = NEW.user_id AND o.phone_number = NEW.to_number AND o.opted_in_at IS NULL;
    IF FOUND THEN
        NEW.status := 'failed';
        NEW.error_code := 21610;
        NEW.error_message := 'The recipient has opted out.';
    ELSE
        NEW.status := 'pending';
        NEW.error_code := NULL;
        NEW.error_message := NULL;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.message_insert() IS
    'Checks a message to be sent, chooses its sender and sets what the user does not decide.';
REVOKE ALL ON FUNCTION twilio_private.message_insert() FROM PUBLIC;

CREATE FUNCTION twilio_private.require_working(settings @extschema@.twilio_settings) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT settings.is_active THEN
        RAISE EXCEPTION 'the Twilio account is switched off'
            USING ERRCODE = 'PT409',
                  DETAIL = 'is_active is false in twilio_settings.',
                  HINT = 'Switch it on: UPDATE twilio_settings SET is_active = true WHERE user_id = twilio_current_user_id().';
    ELSIF NOT settings.is_verified THEN
        PERFORM twilio_private.refuse_unverified(settings.verification_error);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.require_working(@extschema@.twilio_settings) IS
    'Fails with PT409 where the account is switched off or not verified.';
REVOKE ALL ON FUNCTION twilio_private.require_working(@extschema@.twilio_settings) FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_sending(user_id uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settings @extschema@.twilio_settings := twilio_private.require_settings(refuse_sending.user_id);
BEGIN
    PERFORM twilio_private.require_working(settings);
    IF NOT settings.sms_enabled THEN
        RAISE EXCEPTION 'SMS is switched off'
            USING ERRCODE = 'PT409',
                  DETAIL = 'sms_enabled is false in twilio_settings.',
                  HINT = 'Switch it on: UPDATE twilio_settings SET sms_enabled = true WHERE user_id = twilio_current_user_id().';
    END IF;
    RAISE EXCEPTION 'the message has no sender'
        USING ERRCODE = 'PT409',
              DETAIL = 'There is no from_number, no Messaging Service, no default number and no phone_number in the settings.',
              HINT = 'twilio_phone_numbers() lists yours. Choose one: UPDATE twilio_settings SET phone_number = ''+1234567890'' WHERE user_id = twilio_current_user_id().';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_sending(uuid) IS 'Fails and says why the account cannot send.';
REVOKE ALL ON FUNCTION twilio_private.refuse_sending(uuid) FROM PUBLIC;

-- Where Twilio can keep a planned message (it needs a Messaging Service, 15 minutes to 35 days ahead) it gets it now. What
-- is nearly 35 days ahead waits here: by Twilio's clock it may be more, and would be refused for good. So does what must
-- not wait for Twilio's ten hours after its time, for Twilio does not say how ValidityPeriod goes with SendAt.
-- VOLATILE as clock_timestamp() is: STABLE it could not be inlined, and would be planned anew for each statement.
CREATE FUNCTION twilio_private.planned_at_twilio(messaging_service_sid text, send_at timestamptz, expires_at timestamptz)
RETURNS boolean
LANGUAGE sql VOLATILE
RETURN messaging_service_sid IS NOT NULL AND send_at IS NOT NULL AND expires_at >= send_at + interval '35900 seconds'
       AND send_at BETWEEN clock_timestamp() + interval '15 minutes 30 seconds' AND clock_timestamp() + interval '34 days 23 hours';
COMMENT ON FUNCTION twilio_private.planned_at_twilio(text, timestamptz, timestamptz) IS
    'Whether Twilio can be given the message now, to send it then.';
REVOKE ALL ON FUNCTION twilio_private.planned_at_twilio(text, timestamptz, timestamptz) FROM PUBLIC;

-- SECURITY DEFINER: writes orders and events. The rows have passed the row policy.
CREATE FUNCTION twilio_private.messages_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outbound bigint;
    ordered bigint;
BEGIN
    IF current_setting('row_security') = 'off' AND twilio_private.restoring() THEN
        RETURN NULL;
    END IF;
    -- One aggregate and no join: for a single row, to start a plan costs more than what it does.
    SELECT count(*) FILTER (WHERE CASE WHEN (n.from_number IS NOT NULL OR n.messaging_service_sid IS NOT NULL)
                                            AND (twilio_private.sender_of(n.user_id)).may_send
                                       THEN true ELSE twilio_private.refuse_sending(n.user_id) IS NULL END) -- which never returns
    INTO outbound
    FROM new_rows n WHERE n.direction = 'outbound';
    IF outbound > 0 THEN
        WITH noted AS (
            INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, error_code, source)
            SELECT n.user_id, n.id, n.status, n.error_code, 'local' FROM new_rows n WHERE n.direction = 'outbound'
        )
        INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at, expires_at)
        SELECT n.user_id, 'message', n.id,
               CASE WHEN n.send_at IS NULL OR twilio_private.planned_at_twilio(n.messaging_service_sid, n.send_at, n.expires_at)
                    THEN n.created_at ELSE greatest(n.send_at, n.created_at) END,
               n.expires_at
        FROM new_rows n WHERE n.direction = 'outbound' AND n.status = 'pending';
        GET DIAGNOSTICS ordered = ROW_COUNT;
        IF ordered < outbound THEN -- to those who have opted out
            PERFORM twilio_private.notify_at_commit(twilio_private.notice(n.user_id, n.id, n.status))
            FROM new_rows n WHERE n.direction = 'outbound' AND n.status = 'failed';
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.messages_inserted() IS 'Refuses or orders the messages of a statement.';
REVOKE ALL ON FUNCTION twilio_private.messages_inserted() FROM PUBLIC;

-- SECURITY DEFINER: events and orders go with their message, whoever may delete that.
CREATE FUNCTION twilio_private.messages_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    DELETE FROM twilio_private.outbox o USING old_rows d WHERE o.ref = d.id AND o.user_id = d.user_id;
    DELETE FROM @extschema@.twilio_message_events e USING old_rows d WHERE e.user_id = d.user_id AND e.message_id = d.id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.messages_deleted() IS 'Deletes the events and orders of deleted messages.';
REVOKE ALL ON FUNCTION twilio_private.messages_deleted() FROM PUBLIC;

-- What arrives from Twilio is written by our own functions, not by whoever is subject to row-level security.
CREATE TRIGGER outbound BEFORE INSERT ON @extschema@.twilio_messages
    FOR EACH ROW WHEN (NEW.direction IS DISTINCT FROM 'inbound'
                       OR row_security_active('@extschema@.twilio_messages'::regclass))
    EXECUTE FUNCTION twilio_private.message_insert();
CREATE TRIGGER inserted AFTER INSERT ON @extschema@.twilio_messages
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.messages_inserted();
CREATE TRIGGER deleted AFTER DELETE ON @extschema@.twilio_messages
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.messages_deleted();
