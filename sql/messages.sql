-- twilio_messages: one row per SMS or MMS, either way, and twilio_message_events: what became of each. To send is to
-- insert a row: the triggers of messages_write.sql check it and order the sending in the same transaction.
--
-- A row is written three times on its way out (inserted, claimed, answered) and once or more by callbacks. No index is
-- on a column that changes often, and half of each page is left free at first, so most of these updates touch no index.
-- A CHECK is compiled anew for each statement, so there is none on what only this extension writes.

CREATE TABLE @extschema@.twilio_messages (
    user_id uuid NOT NULL DEFAULT @extschema@.twilio_current_user_id(),
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    direction text NOT NULL DEFAULT 'outbound', -- or inbound
    from_number text,
    to_number text NOT NULL,
    body text,
    media_urls text[],
    messaging_service_sid text,
    -- Twilio may invent a status any day, so the states are not listed here; ARCHITECTURE.md has them.
    status text NOT NULL DEFAULT 'pending',
    sid text,
    error_code int,
    error_message text,
    encoding text,
    num_segments int,
    num_media int NOT NULL DEFAULT 0,
    price numeric,
    price_unit text,
    idempotency_key text,
    send_at timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_at timestamptz,
    sent_at timestamptz,
    delivered_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    former_sids text[]
) WITH (fillfactor = 50);
-- The order matters: of two indexes that seem equally good, as all do while the table is small, the planner takes the
-- younger one, and keeps to it in cached plans when the table has grown.
CREATE INDEX twilio_messages_history ON @extschema@.twilio_messages (user_id, created_at);
ALTER TABLE @extschema@.twilio_messages ADD PRIMARY KEY (user_id, id);
CREATE UNIQUE INDEX twilio_messages_sid_key ON @extschema@.twilio_messages (user_id, sid) WHERE sid IS NOT NULL;
CREATE INDEX twilio_messages_repeated ON @extschema@.twilio_messages (user_id) WHERE former_sids IS NOT NULL;
CREATE UNIQUE INDEX twilio_messages_idempotency_key ON @extschema@.twilio_messages (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

COMMENT ON TABLE @extschema@.twilio_messages IS
    'SMS and MMS, sent and received, one row each; visible to their user only.
Inserting a row sends a message when the transaction commits: to_number and body are enough.
Rows change by themselves as Twilio reports; users cannot change or delete them (twilio_cancel_message, twilio_retry_message).';
COMMENT ON COLUMN @extschema@.twilio_messages.user_id IS 'The user (tenant); filled in from the caller''s identity.';
COMMENT ON COLUMN @extschema@.twilio_messages.id IS
    'UUID version 7, given by the database, in the order of creation. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.direction IS 'outbound or inbound. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.from_number IS
    'Sender: a number in E.164 format, a short code, a name, or null while a Messaging Service has not chosen one.
Left out, it is the Messaging Service, else the default number, else the phone_number of the settings.';
COMMENT ON COLUMN @extschema@.twilio_messages.to_number IS
    'Recipient in E.164 format, such as +1234567890, or a channel address such as whatsapp:+1234567890.';
COMMENT ON COLUMN @extschema@.twilio_messages.body IS 'Text, at most 1600 characters (an emoji counts as two or more).';
COMMENT ON COLUMN @extschema@.twilio_messages.media_urls IS
    'At most 10 public http(s) URLs of pictures or files, which Twilio fetches (MMS).';
COMMENT ON COLUMN @extschema@.twilio_messages.messaging_service_sid IS
    'Messaging Service (starts with MG) that chooses the sender.';
COMMENT ON COLUMN @extschema@.twilio_messages.status IS
    'Before Twilio has it: pending, submitting, unknown (its answer was lost, it is being looked up), unresolved (it could not be found out).
Then Twilio''s: accepted, scheduled, queued, sending, sent, partially_delivered, delivered, undelivered, failed, canceled, read; received. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.sid IS 'Twilio''s SID of the message (SM… or MM…). Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.error_code IS
    'Twilio''s error code (https://www.twilio.com/docs/api/errors). Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.error_message IS 'Why it failed. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.encoding IS 'GSM-7 or UCS-2: how the text travels. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.num_segments IS
    'Number of SMS that the text takes: counted before sending, then as Twilio says. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.num_media IS 'Number of media. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.price IS
    'What Twilio charges, a negative amount; known some time after the sending. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.price_unit IS 'Currency of the price, such as USD. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.idempotency_key IS
    'A key of the caller''s choice: a second message with the same key is refused.';
COMMENT ON COLUMN @extschema@.twilio_messages.send_at IS 'Not to be sent before this time.';
COMMENT ON COLUMN @extschema@.twilio_messages.expires_at IS
    'Not to be sent after this time; left out, twilio.message_ttl after created_at or send_at.';
COMMENT ON COLUMN @extschema@.twilio_messages.created_at IS 'When the row was written. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.submitted_at IS 'When it was last handed to Twilio. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.sent_at IS 'When the carrier took it. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.delivered_at IS 'When it was delivered. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.updated_at IS 'When the row was last changed. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_messages.former_sids IS
    'SIDs of earlier attempts that failed, after twilio_retry_message. Read-only.';

-- No statistics of what people write: see settings.sql.
ALTER TABLE @extschema@.twilio_messages
    ALTER from_number SET STATISTICS 0,
    ALTER to_number SET STATISTICS 0,
    ALTER body SET STATISTICS 0,
    ALTER media_urls SET STATISTICS 0,
    ALTER error_message SET STATISTICS 0,
    ALTER idempotency_key SET STATISTICS 0;

ALTER TABLE @extschema@.twilio_messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_messages TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT, INSERT ON @extschema@.twilio_messages TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_messages', '');

-- ---- events --------------------------------------------------------------------------------------------------------

-- No foreign key: every event would lock its message's row. Events are written by this extension alone, and go when
-- their message is deleted.
CREATE TABLE @extschema@.twilio_message_events (
    user_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    message_id uuid NOT NULL,
    status text NOT NULL,
    error_code int,
    source text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    raw jsonb,
    PRIMARY KEY (user_id, id)
);
CREATE UNIQUE INDEX twilio_message_events_once
    ON @extschema@.twilio_message_events (user_id, message_id, status, coalesce(error_code, 0));

COMMENT ON TABLE @extschema@.twilio_message_events IS
    'The life of each message: one row per status and error that it had or that Twilio reported, also too late. Append-only.';
COMMENT ON COLUMN @extschema@.twilio_message_events.user_id IS 'The user (tenant).';
COMMENT ON COLUMN @extschema@.twilio_message_events.id IS 'UUID version 7, in the order in which we learned of it.';
COMMENT ON COLUMN @extschema@.twilio_message_events.message_id IS 'The message (twilio_messages.id).';
COMMENT ON COLUMN @extschema@.twilio_message_events.status IS 'The status, as in twilio_messages.';
COMMENT ON COLUMN @extschema@.twilio_message_events.error_code IS 'Twilio''s error code.';
COMMENT ON COLUMN @extschema@.twilio_message_events.source IS
    'How we know: api (the answer to our request), callback, poll (Twilio''s lists) or local (our own doing).';
COMMENT ON COLUMN @extschema@.twilio_message_events.occurred_at IS 'When we learned of it.';
COMMENT ON COLUMN @extschema@.twilio_message_events.raw IS 'What Twilio said, with all parameters of a callback.';

ALTER TABLE @extschema@.twilio_message_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_message_events FOR SELECT TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT ON @extschema@.twilio_message_events TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_message_events', '');

CREATE FUNCTION twilio_private.refuse_changed_event() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'message events are append-only'
        USING ERRCODE = 'insufficient_privilege',
              DETAIL = 'UPDATE is not allowed on twilio_message_events.',
              HINT = 'Events go when their message is deleted from twilio_messages.';
END
$$;
COMMENT ON FUNCTION twilio_private.refuse_changed_event() IS 'Refuses to change events, for the owner too.';
REVOKE ALL ON FUNCTION twilio_private.refuse_changed_event() FROM PUBLIC;
CREATE TRIGGER append_only BEFORE UPDATE ON @extschema@.twilio_message_events
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.refuse_changed_event();
