-- Webhooks about messages, whose signature has been checked: the status of one that we sent, or one that arrived.

CREATE FUNCTION twilio_private.adopt_sid(user_id uuid, message_id uuid, sid text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    other record;
BEGIN
    -- A message that reads the same was taken for this one: it is in doubt again.
    UPDATE @extschema@.twilio_messages m SET sid = NULL, status = 'unknown', updated_at = clock_timestamp()
    WHERE m.user_id IN (SELECT twilio_private.users_of_account(adopt_sid.user_id)) AND m.sid = adopt_sid.sid
      AND m.id <> message_id AND m.direction = 'outbound'
    RETURNING m.user_id, m.id INTO other;
    IF FOUND THEN
        PERFORM twilio_private.look_for_messages(ARRAY[other.user_id], ARRAY[other.id], ARRAY[clock_timestamp()]);
    END IF;
    PERFORM twilio_private.end_doubt(adopt_sid.user_id, message_id);
    UPDATE @extschema@.twilio_messages m
    SET sid = adopt_sid.sid, status = 'accepted', error_code = NULL, error_message = NULL, updated_at = clock_timestamp()
    WHERE m.user_id = adopt_sid.user_id AND m.id = message_id AND m.sid IS NULL;
    PERFORM twilio_private.order_reread(adopt_sid.user_id, 0, date_bin('10 seconds', clock_timestamp(), 'epoch'));
    PERFORM twilio_private.follow_repeated(adopt_sid.user_id, message_id);
END
$$;
COMMENT ON FUNCTION twilio_private.adopt_sid(uuid, uuid, text) IS
    'Gives a message the SID that a callback is the first to bring, and ends the doubt about it.';
REVOKE ALL ON FUNCTION twilio_private.adopt_sid(uuid, uuid, text) FROM PUBLIC;

-- Returns false where the message is none of the owners'. Callbacks come late, twice and in any order; what is usual,
-- the next status of a message whose SID is known, takes one UPDATE by that SID and one INSERT.
CREATE FUNCTION twilio_private.apply_callback(owners uuid[], message_id uuid, said jsonb) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    said_sid CONSTANT text := coalesce(said ->> 'MessageSid', said ->> 'SmsSid', '');
    said_status CONSTANT text := left(lower(btrim(coalesce(said ->> 'MessageStatus', said ->> 'SmsStatus', '')) COLLATE "C"), 64);
    said_rank CONSTANT int := twilio_private.status_rank(said_status);
    said_code CONSTANT int := nullif(twilio_private.whole(said ->> 'ErrorCode'), 0);
    message record;
    nothing text;
BEGIN
    LOOP
        UPDATE @extschema@.twilio_messages m
        SET status = CASE WHEN said_rank > twilio_private.status_rank(m.status) THEN said_status ELSE m.status END,
            error_code = coalesce(m.error_code, said_code),
            error_message = CASE WHEN m.error_code IS NULL THEN left(nullif(said ->> 'ErrorMessage', ''), 1000)
                                 ELSE m.error_message END,
            from_number = coalesce(m.from_number, nullif(said ->> 'From', '')),
            sent_at = CASE WHEN said_status IN ('sent', 'delivered', 'undelivered', 'read')
                           THEN coalesce(m.sent_at, clock_timestamp()) ELSE m.sent_at END,
            delivered_at = CASE WHEN said_status IN ('delivered', 'read') THEN coalesce(m.delivered_at, clock_timestamp())
                                ELSE m.delivered_at END,
            updated_at = clock_timestamp()
        WHERE m.user_id = ANY (owners) AND m.sid = said_sid AND m.id = coalesce(message_id, m.id)
          AND m.direction = 'outbound' AND said_status <> ''
          AND (said_rank > twilio_private.status_rank(m.status) OR (m.error_code IS NULL AND said_code IS NOT NULL))
        RETURNING m.user_id, m.id, m.direction, m.to_number, m.sid, m.status INTO message;
        IF FOUND THEN
            nothing := twilio_private.notify_at_commit(twilio_private.notice(message.user_id, message.id, message.status));
            EXIT;
        END IF;

        SELECT m.user_id, m.id, m.direction, m.to_number, m.sid, m.status, m.former_sids INTO message
        FROM @extschema@.twilio_messages m
        WHERE m.user_id = ANY (owners)
          AND m.id = coalesce(message_id, (SELECT s.id FROM @extschema@.twilio_messages s
                                           WHERE s.user_id = ANY (owners) AND s.sid = said_sid LIMIT 1))
        LIMIT 1;
        IF message.id IS NULL THEN
            RETURN false;
        ELSIF message.direction = 'inbound' OR octet_length(said_sid) <> 34 OR said_status = '' THEN
            RETURN true;
        END IF;
        -- Else it is late or repeated, or about an attempt before: an event, no more.
        EXIT WHEN message.sid IS NOT NULL OR said_sid = ANY (message.former_sids);
        PERFORM twilio_private.adopt_sid(message.user_id, message.id, said_sid);
        nothing := twilio_private.notify_at_commit(twilio_private.notice(message.user_id, message.id, said_status));
    END LOOP;

    INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, error_code, source, raw)
    VALUES (message.user_id, message.id, said_status, said_code, 'callback', said)
    ON CONFLICT (user_id, message_id, status, coalesce(error_code, 0)) DO NOTHING;
    IF FOUND AND said_code = 21610 THEN -- told for the first time: START may have come since
        PERFORM twilio_private.opt_out(ARRAY[message.user_id], ARRAY[message.to_number], '21610');
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION twilio_private.apply_callback(uuid[], uuid, jsonb) IS
    'Applies a status callback to a message of these users.';
REVOKE ALL ON FUNCTION twilio_private.apply_callback(uuid[], uuid, jsonb) FROM PUBLIC;

-- Twilio answers these words itself; only a message of that single word counts. COLLATE "C", because in a Turkish
-- database i and I are not the same letter.
CREATE FUNCTION twilio_private.keyword(body text, opt_out_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    word CONSTANT text := upper(btrim(body, E' \t\r\n.!') COLLATE "C");
BEGIN
    IF upper(opt_out_type COLLATE "C") IN ('STOP', 'START', 'HELP') THEN
        RETURN upper(opt_out_type COLLATE "C");
    END IF;
    RETURN CASE
        WHEN word IN ('STOP', 'STOPALL', 'UNSUBSCRIBE', 'CANCEL', 'END', 'QUIT', 'REVOKE', 'OPTOUT') THEN 'STOP'
        WHEN word IN ('START', 'YES', 'UNSTOP') THEN 'START'
        WHEN word IN ('HELP', 'INFO') THEN 'HELP'
    END;
END
$$;
COMMENT ON FUNCTION twilio_private.keyword(text, text) IS 'STOP, START or HELP if the text is one of the words for it.';
REVOKE ALL ON FUNCTION twilio_private.keyword(text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.owner_of_number(owners uuid[], phone_number text, messaging_service_sid text) RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF cardinality(owners) = 1 THEN
        RETURN owners[1];
    END IF;
    RETURN (SELECT u.user_id
            FROM unnest(owners) AS u (user_id)
            JOIN twilio_private.sender s ON s.user_id = u.user_id
            JOIN @extschema@.twilio_settings t ON t.user_id = u.user_id
            ORDER BY s.phone_number IS NOT DISTINCT FROM owner_of_number.phone_number DESC,
                     coalesce(s.messaging_service_sid = owner_of_number.messaging_service_sid, false) DESC,
                     EXISTS (SELECT FROM @extschema@.twilio_numbers n
                             WHERE n.user_id = u.user_id AND n.phone_number = owner_of_number.phone_number) DESC, t.created_at
            LIMIT 1);
END
$$;
COMMENT ON FUNCTION twilio_private.owner_of_number(uuid[], text, text) IS
    'Who gets what arrives for a number or a Messaging Service, where several users share one Twilio account.';
REVOKE ALL ON FUNCTION twilio_private.owner_of_number(uuid[], text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.receive_message(owners uuid[], said jsonb) RETURNS xml
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    owner CONSTANT uuid := twilio_private.owner_of_number(owners, said ->> 'To', said ->> 'MessagingServiceSid');
    sender CONSTANT text := said ->> 'From';
    body CONSTANT text := nullif(said ->> 'Body', '');
    num_media CONSTANT int := coalesce(twilio_private.whole(said ->> 'NumMedia'), 0);
    word CONSTANT text := twilio_private.keyword(body, said ->> 'OptOutType');
    message_id uuid;
    reply text;
BEGIN
    INSERT INTO @extschema@.twilio_messages
        (user_id, direction, from_number, to_number, body, media_urls, messaging_service_sid, status, sid, encoding,
         num_segments, num_media)
    SELECT owner, 'inbound', sender, said ->> 'To', body,
           (SELECT array_agg(said ->> ('MediaUrl' || i) ORDER BY i) FROM generate_series(0, least(num_media, 100) - 1) i),
           nullif(said ->> 'MessagingServiceSid', ''), 'received', said ->> 'MessageSid',
           (SELECT s.encoding FROM twilio_private.sms_segments(body) s),
           twilio_private.whole(said ->> 'NumSegments'), num_media
    ON CONFLICT (user_id, sid) WHERE sid IS NOT NULL DO NOTHING
    RETURNING id INTO message_id;

    IF message_id IS NOT NULL THEN
        INSERT INTO @extschema@.twilio_message_events (user_id, message_id, status, source, raw)
        VALUES (owner, message_id, 'received', 'callback', said);
        IF word = 'STOP' THEN
            PERFORM twilio_private.opt_out(ARRAY[owner], ARRAY[sender], left(coalesce(upper(btrim(body)), word), 20));
        ELSIF word = 'START' THEN
            PERFORM twilio_private.opt_in(owner, sender);
        END IF;
        PERFORM twilio_private.notify_at_commit(twilio_private.notice(owner, message_id, 'received'));
    END IF;

    -- Delivered twice because the first answer got lost, it is answered twice.
    SELECT nullif(s.auto_reply, '') INTO reply FROM @extschema@.twilio_settings s
    WHERE s.user_id = owner AND s.sms_enabled AND word IS NULL
      AND NOT EXISTS (SELECT FROM @extschema@.twilio_opt_outs o
                      WHERE o.user_id = owner AND o.phone_number = sender AND o.opted_in_at IS NULL);
    -- XML has no control characters, which a text pasted from slides may hold: Twilio could not read the answer.
    reply := regexp_replace(reply, '[\u0001-\u0008\u000B\u000C\u000E-\u001F]', ' ', 'g');
    RETURN xmlelement(NAME "Response", CASE WHEN reply IS NOT NULL THEN xmlelement(NAME "Message", reply) END);
END
$$;
COMMENT ON FUNCTION twilio_private.receive_message(uuid[], jsonb) IS
    'Stores a received message once, follows STOP and START, and returns the answer.';
REVOKE ALL ON FUNCTION twilio_private.receive_message(uuid[], jsonb) FROM PUBLIC;
