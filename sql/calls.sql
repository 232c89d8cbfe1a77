-- twilio_calls: one row per call, either way, and twilio_call_events: what became of each. To call is to insert a row: the
-- triggers of calls_write.sql check it and order the call in the same transaction, as messages are ordered.

CREATE TABLE @extschema@.twilio_calls (
    user_id uuid NOT NULL DEFAULT @extschema@.twilio_current_user_id(),
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    direction text NOT NULL DEFAULT 'outbound', -- or inbound
    from_number text,
    to_number text NOT NULL,
    twiml text,
    url text,
    record boolean NOT NULL DEFAULT false,
    -- Twilio may invent a status any day, so the states are not listed here; call_status.sql has them.
    status text NOT NULL DEFAULT 'pending',
    sid text,
    error_code int,
    error_message text,
    duration int,
    recording_sid text,
    recording_url text,
    recording_duration int,
    price numeric,
    price_unit text,
    idempotency_key text,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    submitted_at timestamptz,
    answered_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);
-- In this order, as those of twilio_messages.
CREATE INDEX twilio_calls_history ON @extschema@.twilio_calls (user_id, created_at);
CREATE INDEX twilio_calls_recipient ON @extschema@.twilio_calls (user_id, to_number, created_at);
ALTER TABLE @extschema@.twilio_calls ADD PRIMARY KEY (user_id, id);
CREATE UNIQUE INDEX twilio_calls_sid_key ON @extschema@.twilio_calls (user_id, sid) WHERE sid IS NOT NULL;
CREATE UNIQUE INDEX twilio_calls_idempotency_key ON @extschema@.twilio_calls (user_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;

COMMENT ON TABLE @extschema@.twilio_calls IS
    'Phone calls, placed and received, one row each; visible to their user only.
Inserting a row places a call when the transaction commits: to_number and twiml, or url, are enough.
Rows change by themselves as Twilio reports; users cannot change or delete them (twilio_hang_up).';
COMMENT ON COLUMN @extschema@.twilio_calls.user_id IS 'The user (tenant); filled in from the caller''s identity.';
COMMENT ON COLUMN @extschema@.twilio_calls.id IS 'UUID version 7, given by the database, in the order of creation. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.direction IS 'outbound or inbound. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.from_number IS
    'Who calls: a number of the account or a verified caller id. Left out, it is the default number, else the phone_number of the settings.';
COMMENT ON COLUMN @extschema@.twilio_calls.to_number IS
    'Who is called: a number in E.164 format, such as +1234567890, or sip:user@host or client:name.';
COMMENT ON COLUMN @extschema@.twilio_calls.twiml IS
    'What happens when it is answered, as TwiML, such as <Response><Say>Hello</Say></Response>; at most 4000 characters.';
COMMENT ON COLUMN @extschema@.twilio_calls.url IS
    'Where Twilio fetches the TwiML when it is answered, in the place of twiml: a public http(s) URL of the app.';
COMMENT ON COLUMN @extschema@.twilio_calls.record IS 'Whether Twilio records the call.';
COMMENT ON COLUMN @extschema@.twilio_calls.status IS
    'Before Twilio has it: pending, submitting, unknown (its answer was lost, it is being looked up), unresolved (it could not be found out).
Then Twilio''s: queued, initiated, ringing, in-progress, completed, busy, no-answer, failed, canceled. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.sid IS 'Twilio''s SID of the call (CA…). Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.error_code IS 'Twilio''s error code (https://www.twilio.com/docs/api/errors). Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.error_message IS 'Why it failed. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.duration IS 'How long it lasted, in seconds. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.recording_sid IS 'Twilio''s SID of the recording (RE…). Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.recording_url IS
    'Where the recording is; add .mp3 or .wav. Twilio may want the account''s credentials there. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.recording_duration IS 'Length of the recording, in seconds. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.price IS
    'What Twilio charges, a negative amount; known some time after the end. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.price_unit IS 'Currency of the price, such as USD. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.idempotency_key IS
    'A key of the caller''s choice: a second call with the same key is refused.';
COMMENT ON COLUMN @extschema@.twilio_calls.expires_at IS
    'Not to be placed after this time; left out, ten minutes after created_at: nobody wants to be called hours late.';
COMMENT ON COLUMN @extschema@.twilio_calls.created_at IS 'When the row was written. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.submitted_at IS 'When it was last handed to Twilio. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.answered_at IS 'When it was answered. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.ended_at IS 'When it ended. Read-only.';
COMMENT ON COLUMN @extschema@.twilio_calls.updated_at IS 'When the row was last changed. Read-only.';

-- No statistics of what people write: see settings.sql.
ALTER TABLE @extschema@.twilio_calls
    ALTER from_number SET STATISTICS 0,
    ALTER to_number SET STATISTICS 0,
    ALTER twiml SET STATISTICS 0,
    ALTER url SET STATISTICS 0,
    ALTER error_message SET STATISTICS 0,
    ALTER recording_url SET STATISTICS 0,
    ALTER idempotency_key SET STATISTICS 0;

ALTER TABLE @extschema@.twilio_calls ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_calls TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()))
    WITH CHECK (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT, INSERT ON @extschema@.twilio_calls TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_calls', '');

-- ---- events --------------------------------------------------------------------------------------------------------

CREATE TABLE @extschema@.twilio_call_events (
    user_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT twilio_private.uuid_v7(),
    call_id uuid NOT NULL,
    status text NOT NULL,
    error_code int,
    source text NOT NULL,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    raw jsonb,
    PRIMARY KEY (user_id, id)
);
CREATE UNIQUE INDEX twilio_call_events_once
    ON @extschema@.twilio_call_events (user_id, call_id, status, coalesce(error_code, 0));

COMMENT ON TABLE @extschema@.twilio_call_events IS
    'The life of each call: one row per status and error that it had or that Twilio reported, also too late. Append-only.';
COMMENT ON COLUMN @extschema@.twilio_call_events.user_id IS 'The user (tenant).';
COMMENT ON COLUMN @extschema@.twilio_call_events.id IS 'UUID version 7, in the order in which we learned of it.';
COMMENT ON COLUMN @extschema@.twilio_call_events.call_id IS 'The call (twilio_calls.id).';
COMMENT ON COLUMN @extschema@.twilio_call_events.status IS 'The status, as in twilio_calls.';
COMMENT ON COLUMN @extschema@.twilio_call_events.error_code IS 'Twilio''s error code.';
COMMENT ON COLUMN @extschema@.twilio_call_events.source IS
    'How we know: api (the answer to our request), callback, poll (asked again) or local (our own doing).';
COMMENT ON COLUMN @extschema@.twilio_call_events.occurred_at IS 'When we learned of it.';
COMMENT ON COLUMN @extschema@.twilio_call_events.raw IS 'What Twilio said, with all parameters of a callback.';

ALTER TABLE @extschema@.twilio_call_events ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON @extschema@.twilio_call_events FOR SELECT TO twilio_user
    USING (user_id = (SELECT @extschema@.twilio_current_user_id()));
GRANT SELECT ON @extschema@.twilio_call_events TO twilio_user;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_call_events', '');

CREATE TRIGGER append_only BEFORE UPDATE ON @extschema@.twilio_call_events
    FOR EACH STATEMENT EXECUTE FUNCTION twilio_private.refuse_changed_event();

-- PostgREST embeds it: see rest.sql.
CREATE FUNCTION @extschema@.twilio_call_events(call @extschema@.twilio_calls) RETURNS SETOF @extschema@.twilio_call_events
LANGUAGE sql STABLE ROWS 6
BEGIN ATOMIC
    SELECT e.* FROM @extschema@.twilio_call_events e
    WHERE e.user_id = call.user_id AND e.call_id = call.id ORDER BY e.id;
END;
COMMENT ON FUNCTION @extschema@.twilio_call_events(@extschema@.twilio_calls) IS
    'The events of a call, in their order: GET /api/twilio_calls?select=*,twilio_call_events(*).';
REVOKE ALL ON FUNCTION @extschema@.twilio_call_events(@extschema@.twilio_calls) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_call_events(@extschema@.twilio_calls) TO twilio_user;
