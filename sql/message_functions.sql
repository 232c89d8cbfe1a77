-- What a user calls: twilio_send_sms(), twilio_cancel_message(), twilio_retry_message().

-- SECURITY INVOKER: the row policies and the triggers of messages_write.sql judge the caller.
CREATE FUNCTION @extschema@.twilio_send_sms(
    to_number text, body text DEFAULT NULL, from_number text DEFAULT NULL, media_urls text[] DEFAULT NULL,
    send_at timestamptz DEFAULT NULL, idempotency_key text DEFAULT NULL)
RETURNS @extschema@.twilio_messages
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    message @extschema@.twilio_messages;
    owner uuid;
BEGIN
    IF idempotency_key IS NULL THEN
        INSERT INTO @extschema@.twilio_messages (to_number, body, from_number, media_urls, send_at)
        VALUES (twilio_send_sms.to_number, twilio_send_sms.body, twilio_send_sms.from_number,
                twilio_send_sms.media_urls, twilio_send_sms.send_at)
        RETURNING * INTO message;
        RETURN message;
    END IF;

    owner := @extschema@.twilio_current_user_id();
    SELECT * INTO message FROM @extschema@.twilio_messages m
    WHERE m.user_id = owner AND m.idempotency_key = twilio_send_sms.idempotency_key;
    IF NOT FOUND THEN
        BEGIN
            INSERT INTO @extschema@.twilio_messages (to_number, body, from_number, media_urls, send_at, idempotency_key)
            VALUES (twilio_send_sms.to_number, twilio_send_sms.body, twilio_send_sms.from_number,
                    twilio_send_sms.media_urls, twilio_send_sms.send_at, twilio_send_sms.idempotency_key)
            ON CONFLICT (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING * INTO message;
            IF FOUND THEN
                RETURN message;
            END IF;
        EXCEPTION WHEN serialization_failure THEN
            RAISE EXCEPTION 'the idempotency key is in use'
                USING ERRCODE = 'PT409',
                      DETAIL = 'Another session has sent a message with it since this transaction began.',
                      HINT = 'Repeat the call in a new transaction.';
        END;
        -- Another session was faster, and has committed by now.
        SELECT * INTO message FROM @extschema@.twilio_messages m
        WHERE m.user_id = owner AND m.idempotency_key = twilio_send_sms.idempotency_key;
        IF NOT FOUND THEN
            RETURN message; -- null, as without a key: a trigger of an app has skipped it
        END IF;
    END IF;

    IF message.to_number IS DISTINCT FROM twilio_send_sms.to_number OR message.body IS DISTINCT FROM nullif(twilio_send_sms.body, '')
       OR message.media_urls IS DISTINCT FROM nullif(twilio_send_sms.media_urls, '{}')
       OR message.send_at IS DISTINCT FROM twilio_send_sms.send_at
       OR message.from_number IS DISTINCT FROM coalesce(nullif(twilio_send_sms.from_number, ''), message.from_number) THEN
        RAISE EXCEPTION 'the idempotency key belongs to another message'
            USING ERRCODE = 'PT409',
                  DETAIL = 'A message with this idempotency_key and different content exists.',
                  HINT = 'Use a new key for each message, and the same one only to repeat a call.';
    END IF;
    RETURN message;
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_send_sms(text, text, text, text[], timestamptz, text) IS
    'Sends an SMS or MMS when the transaction commits, and returns its row of twilio_messages.
The sender is from_number, else the Messaging Service, the default number or the phone_number of the settings.
Repeated with the same idempotency_key it returns the first row; with different content it fails with PT409.';
REVOKE ALL ON FUNCTION @extschema@.twilio_send_sms(text, text, text, text[], timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_send_sms(text, text, text, text[], timestamptz, text) TO twilio_user;

-- SECURITY DEFINER: a user may not change messages or orders. It touches the user's own message; an administrator may
-- cancel anybody's. Who is one the caller has to say: in here current_user is the owner.
CREATE FUNCTION twilio_private.cancel_message(id uuid, administrator boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    caller CONSTANT uuid := CASE WHEN administrator THEN @extschema@.twilio_current_user_id() ELSE twilio_private.require_user() END;
    owner uuid;
BEGIN
    BEGIN
        -- The order first, as the worker does: who gets hold of it decides whether the message goes out.
        DELETE FROM twilio_private.outbox o
        WHERE o.ref = cancel_message.id AND o.kind = 'message' AND o.state = 'queued' AND (administrator OR o.user_id = caller)
        RETURNING o.user_id INTO owner;
        IF FOUND THEN
            UPDATE @extschema@.twilio_messages m SET status = 'canceled', updated_at = clock_timestamp()
            WHERE m.user_id = owner AND m.id = cancel_message.id AND m.sid IS NULL;
        END IF;
        -- One that has a SID by now was sent: a callback has brought it while the order was locked.
        IF FOUND THEN
            INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, source)
            VALUES (owner, cancel_message.id, 'canceled', 'local') ON CONFLICT DO NOTHING;
            PERFORM twilio_private.notify_at_commit(twilio_private.notice(owner, cancel_message.id, 'canceled'));
            RETURN true;
        END IF;
    EXCEPTION WHEN serialization_failure THEN
        RETURN false; -- somebody was faster since this transaction began
    END;

    IF administrator THEN
        SELECT m.user_id INTO owner
        FROM @extschema@.twilio_settings s JOIN @extschema@.twilio_messages m ON m.user_id = s.user_id
        WHERE m.id = cancel_message.id;
    ELSE
        owner := caller;
    END IF;
    INSERT INTO twilio_private.outbox (user_id, kind, ref)
    SELECT m.user_id, 'message_cancel', m.id FROM @extschema@.twilio_messages m
    WHERE m.user_id = owner AND m.id = cancel_message.id AND m.sid IS NOT NULL AND m.status IN ('scheduled', 'accepted')
      AND m.send_at > clock_timestamp()
      AND NOT EXISTS (SELECT FROM twilio_private.outbox o WHERE o.ref = m.id AND o.kind = 'message_cancel');
    RETURN FOUND OR EXISTS (SELECT FROM twilio_private.outbox o
                            WHERE o.ref = cancel_message.id AND o.user_id = owner AND o.kind = 'message_cancel');
END
$$;
COMMENT ON FUNCTION twilio_private.cancel_message(uuid, boolean) IS 'Cancels a message of the current user, or for an administrator of anybody.';
REVOKE ALL ON FUNCTION twilio_private.cancel_message(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.cancel_message(uuid, boolean) TO twilio_user;

CREATE FUNCTION @extschema@.twilio_cancel_message(id uuid) RETURNS boolean
LANGUAGE sql
RETURN twilio_private.cancel_message(id, pg_has_role(current_user, 'twilio_admin', 'USAGE'));
COMMENT ON FUNCTION @extschema@.twilio_cancel_message(uuid) IS
    'Cancels a message that has not been handed to Twilio; true when that was in time.
For a message that Twilio keeps for its send_at, true means that Twilio is being told; its status becomes canceled then.
A message that is on its way or unknown gives false.';
REVOKE ALL ON FUNCTION @extschema@.twilio_cancel_message(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_cancel_message(uuid) TO twilio_user;

-- SECURITY DEFINER: a user may not change messages or orders. It touches the user's own message alone.
CREATE FUNCTION @extschema@.twilio_retry_message(id uuid) RETURNS @extschema@.twilio_messages
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    owner CONSTANT uuid := twilio_private.require_user();
    message @extschema@.twilio_messages;
BEGIN
    SELECT * INTO message FROM @extschema@.twilio_messages m
    WHERE m.user_id = owner AND m.id = twilio_retry_message.id AND m.direction = 'outbound' FOR NO KEY UPDATE;
    IF message.id IS NULL THEN
        RAISE EXCEPTION 'Message not found'
            USING ERRCODE = 'PT404',
                  DETAIL = 'The current user has sent no message with this id.',
                  HINT = 'See twilio_messages.';
    END IF;
    IF message.status NOT IN ('failed', 'undelivered', 'unresolved') THEN
        RAISE EXCEPTION 'the message has not failed'
            USING ERRCODE = 'PT409',
                  DETAIL = format('Its status is %s.', message.status),
                  HINT = 'Only a message that is failed, undelivered or unresolved can be sent again.';
    END IF;
    IF (twilio_private.sender_of(owner)).may_send IS NOT TRUE THEN
        PERFORM twilio_private.refuse_sending(owner);
    END IF;
    IF EXISTS (SELECT FROM @extschema@.twilio_opt_outs o
               WHERE o.user_id = owner AND o.phone_number = message.to_number AND o.opted_in_at IS NULL) THEN
        RAISE EXCEPTION 'the recipient has opted out'
            USING ERRCODE = 'PT409',
                  DETAIL = 'The number is in twilio_opt_outs (21610).',
                  HINT = 'It can be written to again after it sends START.';
    END IF;

    -- Callbacks for the failed attempt may still come; its SID is kept, so that they are known as such.
    UPDATE @extschema@.twilio_messages m
    SET status = 'pending', error_code = NULL, error_message = NULL, sid = NULL, price = NULL, price_unit = NULL,
        former_sids = CASE WHEN m.sid IS NULL THEN m.former_sids ELSE m.former_sids || m.sid END,
        submitted_at = NULL, sent_at = NULL, delivered_at = NULL, updated_at = clock_timestamp(),
        expires_at = greatest(clock_timestamp(), m.send_at) + current_setting('twilio.message_ttl')::interval
    WHERE m.user_id = owner AND m.id = message.id
    RETURNING * INTO message;
    -- An attempt whose answer has not come is known to have failed, by a callback: what becomes of it does not matter.
    DELETE FROM twilio_private.outbox o
    WHERE o.ref = message.id AND o.user_id = owner AND (o.state = 'queued' OR o.kind = 'message');
    INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at, expires_at)
    VALUES (owner, 'message', message.id, 'again', greatest(clock_timestamp(), message.send_at), message.expires_at);
    INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, source)
    VALUES (owner, message.id, 'pending', 'local') ON CONFLICT DO NOTHING;
    RETURN message;
EXCEPTION WHEN serialization_failure THEN
    RAISE EXCEPTION 'the message has changed meanwhile'
        USING ERRCODE = 'PT409',
              DETAIL = 'It was changed since this transaction began.',
              HINT = 'Repeat the call in a new transaction.';
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_retry_message(uuid) IS
    'Sends a message once more that is failed, undelivered or unresolved, and returns its row.
An unresolved message may have arrived, so it may arrive twice. Unknown or another''s id: PT404.';
REVOKE ALL ON FUNCTION @extschema@.twilio_retry_message(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_retry_message(uuid) TO twilio_user;
