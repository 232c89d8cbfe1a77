-- What happens when a row is inserted into twilio_calls, and what a user calls: twilio_place_call(), twilio_hang_up(). In
-- the same two steps as messages (messages_write.sql): row by row, then the statement as a whole, once row-level security
-- has judged the rows.

-- SECURITY DEFINER: uses twilio_private, and reads settings and numbers of the row's user_id, which the row policy has yet
-- to judge; so it raises nothing that depends on them.
CREATE FUNCTION twilio_private.call_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('row_security') = 'off' AND twilio_private.restoring() THEN
        RETURN NEW;
    END IF;
    IF NEW.user_id IS NULL THEN
        NEW.user_id := twilio_private.require_user();
    END IF;
    NEW.from_number := nullif(NEW.from_number, '');
    NEW.twiml := nullif(NEW.twiml, '');
    NEW.url := nullif(NEW.url, '');

    IF NOT coalesce(twilio_private.is_number(NEW.to_number)
                    OR (NEW.to_number ~ '^(sip|client):[!-~]+$' AND octet_length(NEW.to_number) <= 255), false) THEN
        PERFORM twilio_private.refuse_input('invalid recipient',
                                              'to_number is a number in E.164 format, or begins with sip: or client: (21211).',
                                              'Write it like +1234567890, without spaces.');
    ELSIF NOT (twilio_private.is_number(NEW.from_number)
               OR (NEW.from_number ~ '^client:[!-~]+$' AND octet_length(NEW.from_number) <= 255)) THEN
        PERFORM twilio_private.refuse_input('invalid sender',
                                              'from_number is a number in E.164 format, or begins with client: (21212).',
                                              'Write it like +1234567890, or leave it out.');
    ELSIF (NEW.twiml IS NULL) = (NEW.url IS NULL) THEN
        PERFORM twilio_private.refuse_input('a call needs either twiml or url',
                                              'twiml says what happens when it is answered; url, where Twilio asks for that (21205).',
                                              'Give it, for instance, the twiml <Response><Say>Hello</Say></Response>.');
    ELSIF char_length(NEW.twiml) > 4000 THEN
        PERFORM twilio_private.refuse_input('the TwiML is too long', 'twiml has at most 4000 characters (32018).',
                                              'Serve it from the app, and give its url.');
    ELSIF NOT xml_is_well_formed_document(NEW.twiml) THEN
        PERFORM twilio_private.refuse_input('the TwiML is no XML', 'twiml is one XML document, <Response> … </Response> (12100).',
                                              'Close all elements, and write & and < in texts as &amp; and &lt;.');
    ELSIF NOT twilio_private.is_web_url(NEW.url) THEN
        PERFORM twilio_private.refuse_input('invalid URL', 'url begins with https:// or http:// (21205).',
                                              'Give one that Twilio can reach: this server never asks it.');
    ELSIF octet_length(NEW.idempotency_key) NOT BETWEEN 1 AND 255 THEN
        PERFORM twilio_private.refuse_input('invalid idempotency key', 'idempotency_key has 1 to 255 bytes.', 'Use a UUID.');
    ELSIF NEW.expires_at NOT BETWEEN now() AND now() + interval '1 day' THEN
        PERFORM twilio_private.refuse_input('invalid expires_at', 'A call is placed within a day, and not in the past.',
                                              'Leave expires_at out: it is ten minutes from now.');
    END IF;

    IF NEW.from_number IS NULL THEN
        NEW.from_number := (twilio_private.sender_of(NEW.user_id)).phone_number;
    END IF;
    -- A client may send back the whole object that it has read.
    NEW.id := twilio_private.uuid_v7();
    NEW.direction := 'outbound';
    NEW.record := coalesce(NEW.record, false);
    NEW.status := 'pending';
    NEW.sid := NULL;
    NEW.error_code := NULL;
    NEW.error_message := NULL;
    NEW.duration := NULL;
    NEW.recording_sid := NULL;
    NEW.recording_url := NULL;
    NEW.recording_duration := NULL;
    NEW.price := NULL;
    NEW.price_unit := NULL;
    NEW.created_at := clock_timestamp();
    NEW.updated_at := NEW.created_at;
    NEW.expires_at := coalesce(NEW.expires_at, NEW.created_at + interval '10 minutes');
    NEW.submitted_at := NULL;
    NEW.answered_at := NULL;
    NEW.ended_at := NULL;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION twilio_private.call_insert() IS
    'Checks a call to be placed, chooses its caller and sets what the user does not decide.';
REVOKE ALL ON FUNCTION twilio_private.call_insert() FROM PUBLIC;

CREATE FUNCTION twilio_private.refuse_calling(user_id uuid) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    settings @extschema@.twilio_settings := twilio_private.require_settings(refuse_calling.user_id);
BEGIN
    PERFORM twilio_private.require_working(settings);
    IF NOT settings.voice_enabled THEN
        RAISE EXCEPTION 'Voice is switched off'
            USING ERRCODE = 'PT409',
                  DETAIL = 'voice_enabled is false in twilio_settings.',
                  HINT = 'Switch it on: UPDATE twilio_settings SET voice_enabled = true WHERE user_id = twilio_current_user_id().';
    END IF;
    RAISE EXCEPTION 'the call has no caller'
        USING ERRCODE = 'PT409',
              DETAIL = 'There is no from_number, no default number and no phone_number in the settings.',
              HINT = 'twilio_phone_numbers() lists yours. Choose one: UPDATE twilio_settings SET phone_number = ''+1234567890'' WHERE user_id = twilio_current_user_id().';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_calling(uuid) IS 'Fails and says why the account cannot place calls.';
REVOKE ALL ON FUNCTION twilio_private.refuse_calling(uuid) FROM PUBLIC;

-- SECURITY DEFINER: writes orders and events. The rows have passed the row policy.
CREATE FUNCTION twilio_private.calls_inserted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    refused uuid;
BEGIN
    IF current_setting('row_security') = 'off' AND twilio_private.restoring() THEN
        RETURN NULL;
    END IF;
    SELECT n.user_id INTO refused
    FROM new_rows n
    WHERE n.direction = 'outbound' AND (n.from_number IS NULL OR (twilio_private.sender_of(n.user_id)).may_call IS NOT TRUE) LIMIT 1;
    IF FOUND THEN
        PERFORM twilio_private.refuse_calling(refused);
    END IF;
    INSERT INTO @extschema@.twilio_call_events (user_id, call_id, status, source)
    SELECT n.user_id, n.id, n.status, 'local' FROM new_rows n WHERE n.direction = 'outbound';
    INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at, expires_at)
    SELECT n.user_id, 'call', n.id, n.created_at, n.expires_at FROM new_rows n WHERE n.direction = 'outbound';
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.calls_inserted() IS 'Refuses or orders the calls of a statement.';
REVOKE ALL ON FUNCTION twilio_private.calls_inserted() FROM PUBLIC;

-- SECURITY DEFINER: events and orders go with their call, whoever may delete that.
CREATE FUNCTION twilio_private.calls_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM twilio_private.outbox o USING old_rows d WHERE o.ref = d.id AND o.user_id = d.user_id;
    DELETE FROM @extschema@.twilio_call_events e USING old_rows d WHERE e.user_id = d.user_id AND e.call_id = d.id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION twilio_private.calls_deleted() IS 'Deletes the events and orders of deleted calls.';
REVOKE ALL ON FUNCTION twilio_private.calls_deleted() FROM PUBLIC;

-- What arrives from Twilio is written by our own functions, not by whoever is subject to row-level security.
CREATE TRIGGER outbound BEFORE INSERT ON @extschema@.twilio_calls
    FOR EACH ROW WHEN (NEW.direction IS DISTINCT FROM 'inbound' OR row_security_active('@extschema@.twilio_calls'::regclass))
    EXECUTE FUNCTION twilio_private.call_insert();
CREATE TRIGGER inserted AFTER INSERT ON @extschema@.twilio_calls
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.calls_inserted();
CREATE TRIGGER deleted AFTER DELETE ON @extschema@.twilio_calls
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.calls_deleted();

-- ---- what a user calls -------------------------------------------------------------------------------------------------

-- SECURITY INVOKER: the row policies and the triggers above judge the caller.
CREATE FUNCTION @extschema@.twilio_place_call(
    to_number text, twiml text DEFAULT NULL, url text DEFAULT NULL, from_number text DEFAULT NULL,
    record boolean DEFAULT false, idempotency_key text DEFAULT NULL)
RETURNS @extschema@.twilio_calls
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    owner CONSTANT uuid := @extschema@.twilio_current_user_id();
    call @extschema@.twilio_calls;
BEGIN
    BEGIN
        INSERT INTO @extschema@.twilio_calls (to_number, twiml, url, from_number, record, idempotency_key)
        VALUES (twilio_place_call.to_number, twilio_place_call.twiml, twilio_place_call.url, twilio_place_call.from_number,
                twilio_place_call.record, twilio_place_call.idempotency_key)
        ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING * INTO call;
        IF FOUND THEN
            RETURN call;
        END IF;
    EXCEPTION WHEN serialization_failure THEN
        RAISE EXCEPTION 'the idempotency key is in use'
            USING ERRCODE = 'PT409',
                  DETAIL = 'Another session has placed a call with it since this transaction began.',
                  HINT = 'Repeat the call in a new transaction.';
    END;
    SELECT * INTO call FROM @extschema@.twilio_calls c
    WHERE c.user_id = owner AND c.idempotency_key = twilio_place_call.idempotency_key;
    IF call.to_number IS DISTINCT FROM twilio_place_call.to_number OR call.twiml IS DISTINCT FROM nullif(twilio_place_call.twiml, '')
       OR call.url IS DISTINCT FROM nullif(twilio_place_call.url, '')
       OR call.record IS DISTINCT FROM coalesce(twilio_place_call.record, false)
       OR call.from_number IS DISTINCT FROM coalesce(nullif(twilio_place_call.from_number, ''), call.from_number) THEN
        RAISE EXCEPTION 'the idempotency key belongs to another call'
            USING ERRCODE = 'PT409',
                  DETAIL = 'A call with this idempotency_key and different content exists.',
                  HINT = 'Use a new key for each call, and the same one only to repeat the placing of one.';
    END IF;
    RETURN call;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_place_call(text, text, text, text, boolean, text) IS
    'Places a phone call when the transaction commits, and returns its row of twilio_calls.
twiml says what happens when it is answered, or url where Twilio asks for that. The caller is from_number, else the default
number or the phone_number of the settings. Repeated with the same idempotency_key it returns the first row; with different
content it fails with PT409.';
REVOKE ALL ON FUNCTION @extschema@.twilio_place_call(text, text, text, text, boolean, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_place_call(text, text, text, text, boolean, text) TO twilio_user;

-- SECURITY DEFINER: a user may not change calls or orders. It touches the user's own call; an administrator may end
-- anybody's. Who is one the caller has to say: in here current_user is the owner.
CREATE FUNCTION twilio_private.hang_up(id uuid, administrator boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller CONSTANT uuid := CASE WHEN administrator THEN @extschema@.twilio_current_user_id() ELSE twilio_private.require_user() END;
    owner uuid;
BEGIN
    BEGIN
        -- The order first, as the worker does: who gets hold of it decides whether the call is placed.
        DELETE FROM twilio_private.outbox o
        WHERE o.ref = hang_up.id AND o.kind = 'call' AND o.state = 'queued' AND (administrator OR o.user_id = caller)
        RETURNING o.user_id INTO owner;
        IF FOUND THEN
            UPDATE @extschema@.twilio_calls c SET status = 'canceled', ended_at = clock_timestamp(), updated_at = clock_timestamp()
            WHERE c.user_id = owner AND c.id = hang_up.id AND c.sid IS NULL;
        END IF;
        -- One that has a SID by now was placed: a callback has brought it while the order was locked.
        IF FOUND THEN
            PERFORM twilio_private.note_call(owner, hang_up.id, 'canceled', 'local');
            RETURN true;
        END IF;
    EXCEPTION WHEN serialization_failure THEN
        RETURN false; -- somebody was faster since this transaction began
    END;

    SELECT c.user_id INTO owner FROM @extschema@.twilio_calls c
    WHERE c.id = hang_up.id AND c.sid IS NOT NULL AND twilio_private.call_rank(c.status) < 5
      AND c.user_id = ANY (CASE WHEN administrator THEN ARRAY(SELECT s.user_id FROM @extschema@.twilio_settings s)
                                ELSE ARRAY[caller] END);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO twilio_private.outbox (user_id, kind, ref, expires_at)
    SELECT owner, 'call_end', hang_up.id, clock_timestamp() + interval '1 day'
    WHERE NOT EXISTS (SELECT FROM twilio_private.outbox o WHERE o.ref = hang_up.id AND o.kind = 'call_end');
    RETURN true;
END
$$;
COMMENT ON FUNCTION twilio_private.hang_up(uuid, boolean) IS 'Ends a call of the current user, or for an administrator of anybody.';
REVOKE ALL ON FUNCTION twilio_private.hang_up(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.hang_up(uuid, boolean) TO twilio_user;

CREATE FUNCTION @extschema@.twilio_hang_up(id uuid) RETURNS boolean
LANGUAGE sql
RETURN twilio_private.hang_up(id, pg_has_role(current_user, 'twilio_admin', 'USAGE'));
COMMENT ON FUNCTION @extschema@.twilio_hang_up(uuid) IS
    'Ends a call: one that Twilio has not got is canceled, of one that rings or is going on Twilio is told at the commit.
False for one that has ended, is just being handed to Twilio or is unknown, and for another''s.';
REVOKE ALL ON FUNCTION @extschema@.twilio_hang_up(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_hang_up(uuid) TO twilio_user;
