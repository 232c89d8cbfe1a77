-- Calling is inserting: what is accepted and refused, who may, what Twilio's answers, webhooks and lists do to a call.
\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SET twilio.user_id = :'bob';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('b', 32), repeat('b', 32));
SET twilio.user_id = :'alice';
SET ROLE regress_twilio_app;

-- an account that cannot call says why
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$);
RESET ROLE;
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
SET ROLE regress_twilio_app;
UPDATE twilio_settings SET voice_enabled = false;
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$);
UPDATE twilio_settings SET voice_enabled = true, is_active = false, sms_enabled = false;
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$);
UPDATE twilio_settings SET is_active = true;
SET twilio.user_id = :'bob';
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$) AS "no caller";
SET twilio.user_id = '00000000-0000-0000-0000-00000000000f';
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$) AS "no settings";
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>', from_number => '+15005550001')$$) AS "no settings";
RESET twilio.user_id;
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>')$$) AS "nobody";

-- one call, one row, one order, one event; nothing that the user does not decide is taken over
SET twilio.user_id = :'alice';
SELECT direction, from_number, to_number, twiml, url, record, status, sid, expires_at - created_at AS time FROM twilio_place_call('+15005550009', '<Response><Say>Hello</Say></Response>');
SELECT kind, state, message_id, call_id IS NOT NULL AS call, reason FROM twilio_queue;
SELECT status, source FROM twilio_call_events;
INSERT INTO twilio_calls (to_number, url, direction, status, sid, duration, price, recording_sid)
VALUES ('sip:alice@example.com', 'https://crm.example.com/voice?x=1', 'inbound', 'completed', 'CA' || repeat('1', 32), 7, 1, 'RE') RETURNING direction, status, sid, duration, price, recording_sid;
SELECT attempt(format('INSERT INTO twilio_calls (user_id, to_number, twiml) VALUES (%L, %L, %L)', :'bob', '+15005550009', '<Response/>')) AS "for another";
SELECT attempt('UPDATE twilio_calls SET status = status'), attempt('DELETE FROM twilio_calls'), attempt('UPDATE twilio_call_events SET status = status');

-- bad input
SELECT v.to_number, attempt(format('INSERT INTO twilio_calls (to_number, twiml, url, from_number, expires_at, idempotency_key) VALUES (%L, %L, %L, %L, %L, %L)',
                                   v.to_number, twiml, url, from_number, expires_at, key))
FROM (VALUES ('5005550009', '<Response/>', NULL, NULL, NULL, NULL), (NULL, '<Response/>', NULL, NULL, NULL, NULL), ('whatsapp:+15005550009', '<Response/>', NULL, NULL, NULL, NULL),
             ('client:', '<Response/>', NULL, NULL, NULL, NULL), ('+15005550009', NULL, NULL, NULL, NULL, NULL), ('+15005550009', '', '', NULL, NULL, NULL),
             ('+15005550009', '<Response/>', 'https://example.com', NULL, NULL, NULL), ('+15005550009', '<Response><Say>A & B</Say></Response>', NULL, NULL, NULL, NULL),
             ('+15005550009', '<Response><Say>' || repeat('x', 4000) || '</Say></Response>', NULL, NULL, NULL, NULL), ('+15005550009', 'Hello', NULL, NULL, NULL, NULL),
             ('+15005550009', NULL, 'file:///etc/passwd', NULL, NULL, NULL), ('+15005550009', NULL, 'https://', NULL, NULL, NULL), ('+15005550009', '<Response/>', NULL, 'Sunstone', NULL, NULL),
             ('+15005550009', '<Response/>', NULL, NULL, now() - interval '1 second', NULL), ('+15005550009', '<Response/>', NULL, NULL, 'infinity', NULL),
             ('+15005550009', '<Response/>', NULL, NULL, NULL, '')) v (to_number, twiml, url, from_number, expires_at, key);

-- a key makes a call once
SELECT id AS keyed FROM twilio_place_call('+15005550009', '<Response/>', idempotency_key => 'k') \gset
SELECT id = :'keyed' AS same FROM twilio_place_call('+15005550009', '<Response/>', idempotency_key => 'k');
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response><Hangup/></Response>', idempotency_key => 'k')$$);
SELECT attempt($$SELECT twilio_place_call('+15005550009', '<Response/>', record => true, idempotency_key => 'k')$$);
SELECT attempt($$INSERT INTO twilio_calls (to_number, twiml, idempotency_key) VALUES ('+15005550009', '<Response/>', 'k')$$);

-- others neither see nor end it
SET twilio.user_id = :'bob';
SELECT count(*) AS calls, (SELECT count(*) FROM twilio_call_events) AS events, (SELECT count(*) FROM twilio_queue) AS queue FROM twilio_calls;
SELECT twilio_hang_up(:'keyed') AS "another's";
SET twilio.user_id = :'alice';
SELECT twilio_hang_up(:'keyed'), twilio_hang_up(:'keyed') AS again;
SELECT status, ended_at IS NOT NULL AS ended, (SELECT string_agg(status, ' ' ORDER BY id) FROM twilio_call_events e WHERE e.call_id = c.id) AS events FROM twilio_calls c WHERE id = :'keyed';
RESET ROLE;
DELETE FROM twilio_calls;
SELECT (SELECT count(*) FROM twilio_private.outbox) AS orders, (SELECT count(*) FROM twilio_call_events) AS events;

-- Twilio's answers to all orders of a kind that are due
CREATE FUNCTION call_answer(outcome text, only_kind text DEFAULT 'call', body jsonb DEFAULT '{}', code int DEFAULT NULL, http int DEFAULT 400, ahead interval DEFAULT NULL) RETURNS SETOF text LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    orders bigint[] := ARRAY(SELECT id FROM twilio_private.outbox o WHERE state = 'queued' AND o.kind = only_kind ORDER BY id);
BEGIN
    UPDATE twilio_private.outbox o SET state = 'sending', attempts = attempts + 1, attempted_at = clock_timestamp(), account_sid = s.account_sid
        FROM twilio_settings s WHERE s.user_id = o.user_id AND o.id = ANY (orders);
    RETURN QUERY SELECT r.method || ' ' || regexp_replace(r.path, '[^/]*/[^/]*/[^/]*/[^/]*/', '') || coalesce(E'\n' || r.content, '')
        FROM unnest(orders) WITH ORDINALITY n (id, n) JOIN twilio_private.outbox o ON o.id = n.id,
        LATERAL unnest(twilio_private.build_requests(o.kind, ARRAY[o])) r ORDER BY n.n;
    PERFORM twilio_private.record_orders(array_agg(o.id ORDER BY o.id), array_agg(outcome), array_agg(CASE outcome WHEN 'sent' THEN 200 WHEN 'rejected' THEN http END),
        array_agg(code), array_agg(CASE WHEN outcome <> 'sent' THEN 'Twilio''s words' END), NULL,
        array_agg((CASE WHEN body ? 'calls' THEN body
                        ELSE jsonb_build_object('sid', coalesce(c.sid, 'CA' || md5(c.to_number)), 'status', 'queued', 'price', NULL, 'duration', NULL) || body END)::text),
        array_agg(CASE outcome WHEN 'retry' THEN clock_timestamp() END), array_agg(clock_timestamp()), array_agg(clock_timestamp() - ahead))
    FROM twilio_private.outbox o JOIN twilio_calls c ON c.id = o.ref WHERE o.id = ANY (orders) AND o.state = 'sending';
END
$$;
CREATE VIEW call_state AS
    SELECT c.to_number, c.status, c.sid IS NOT NULL AS sid, c.error_code, c.error_message, c.duration, c.price,
           (SELECT string_agg(concat_ws('/', o.kind, o.state, left(o.subject, 1)), ' ' ORDER BY o.id) FROM twilio_private.outbox o WHERE o.ref = c.id) AS orders,
           (SELECT string_agg(concat_ws('/', e.status, e.error_code, e.source), ' ' ORDER BY e.id) FROM twilio_call_events e WHERE e.call_id = c.id) AS events
    FROM twilio_calls c ORDER BY c.id;

-- placed; fetched again until its end and its price are known
SELECT status FROM twilio_place_call('+15005550009', '<Response><Say>A &amp; B</Say></Response>', record => true);
SELECT * FROM call_answer('sent');
SELECT kind FROM twilio_queue;
SELECT * FROM call_answer('sent', 'call_fetch', '{"status": "completed", "duration": "49", "end_time": "Thu, 24 Aug 2023 05:01:45 +0000"}');
SELECT * FROM call_state;
SELECT count(*) FROM call_answer('sent', 'call_fetch', '{"status": "in-progress", "price": "-0.01400", "price_unit": "usd"}');
SELECT * FROM call_state;
SELECT ended_at, price_unit FROM twilio_calls;
DELETE FROM twilio_calls;

-- refused, tried again, too late
SELECT count(*) FROM twilio_place_call('+15005550010', url => 'https://example.com/x');
SELECT * FROM call_answer('rejected', code => 21217);
SELECT count(*) FROM twilio_place_call('+15005550011', '<Response/>');
SELECT count(*) FROM call_answer('retry');
SELECT * FROM call_state;
SELECT count(*) FROM call_answer('expired');
SELECT * FROM call_state;
DELETE FROM twilio_calls;

-- hanging up what Twilio has
SELECT id AS going_on FROM twilio_place_call('+15005550009', '<Response/>') \gset
SELECT count(*) FROM call_answer('sent', body => '{"status": "in-progress"}');
SELECT twilio_hang_up(:'going_on'), twilio_hang_up(:'going_on') AS again;
SELECT kind FROM twilio_queue;
SELECT * FROM call_answer('sent', 'call_end', '{"status": "completed", "duration": "3"}');
SELECT twilio_hang_up(:'going_on') AS "has ended";
SELECT * FROM call_state;
DELETE FROM twilio_calls;
-- … which may not know it yet, or has ended it before: then it is asked what became of it
SELECT id AS going_on FROM twilio_place_call('+15005550009', '<Response/>') \gset
SELECT count(*) FROM call_answer('sent', body => '{"status": "queued"}');
SELECT twilio_hang_up(:'going_on');
SELECT count(*) FROM call_answer('rejected', 'call_end', code => 20404, http => 404);
SELECT kind, due_at > clock_timestamp() AS later, expires_at IS NOT NULL AS "for a time", reason FROM twilio_queue;
SELECT count(*) FROM call_answer('rejected', 'call_end', code => 21220);
SELECT * FROM call_answer('sent', 'call_fetch', '{"status": "no-answer", "start_time": "Thu, 24 Aug 2023 05:01:00 +0000", "end_time": "Thu, 24 Aug 2023 05:01:45 +0000"}');
SELECT status, answered_at, ended_at FROM twilio_calls;
DELETE FROM twilio_calls;

-- a fetch that waits in the line is ordered already; one that comes a day late stands for those that are as late
SELECT count(*) FROM twilio_place_call('+15005550009', '<Response/>');
SELECT count(*) FROM call_answer('sent', body => '{"status": "queued"}');
UPDATE twilio_private.outbox SET due_at = 'infinity' WHERE kind = 'call_fetch';
SELECT twilio_private.follow_call(user_id, id, 0, clock_timestamp()) FROM twilio_calls;
SELECT count(*) FROM twilio_private.outbox WHERE kind = 'call_fetch';
UPDATE twilio_private.outbox SET due_at = now(), subject = concat_ws(' ', 0, extract(epoch FROM now() - interval '25 hours')::bigint);
SELECT * FROM call_answer('sent', 'call_fetch', '{"status": "completed", "duration": "1"}');
SELECT kind, left(subject, 1) AS step, round(extract(epoch FROM due_at - now()) / 3600) AS hours FROM twilio_private.outbox;
DELETE FROM twilio_calls;

-- a lost answer is looked up; two calls to the same number are two calls
CREATE FUNCTION listed_call(n int, age interval DEFAULT '0', changes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('sid', 'CA' || lpad(n::text, 32, '0'), 'status', 'ringing', 'direction', 'outbound-api', 'to', '+15005550009', 'from', '+15005550001',
        'date_created', to_char((now() - age) AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS +0000')) || changes
$$;
CREATE FUNCTION call_looked_up(VARIADIC listed jsonb[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT call_answer('sent', 'call_look', jsonb_build_object('calls', to_jsonb(listed)))
$$;
INSERT INTO twilio_calls (to_number, twiml) SELECT '+15005550009', '<Response/>' FROM generate_series(1, 2);
SELECT count(*) FROM call_answer('unknown');
SELECT * FROM call_state;
SELECT kind, state, reason FROM twilio_queue;
SELECT twilio_hang_up(id) AS "in doubt" FROM twilio_calls LIMIT 1;
-- one is too old, one from another number, one came in, one went to somebody else: one remains for two
SELECT * FROM call_looked_up(listed_call(1, '1 hour'), listed_call(2, changes => '{"from": "+15005550002"}'), listed_call(3, changes => '{"direction": "inbound"}'),
                             listed_call(4, changes => '{"to": "+15005550008"}'), listed_call(5));
SELECT * FROM call_state;
-- two looks that find nothing: it is placed again
SELECT count(*) FROM call_looked_up(listed_call(5));
SELECT * FROM call_state;
SELECT count(*) FROM call_answer('sent', body => '{"sid": "CA77777777777777777777777777777777"}');
-- … and Twilio's own answer takes a SID back that a look has given to the wrong one, with all that was told of it
SELECT count(*) FROM call_answer('sent', 'call_fetch', '{"status": "completed", "duration": "9", "price": "-1", "price_unit": "usd", "start_time": "Thu, 24 Aug 2023 05:01:00 +0000"}');
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550009', '<Response/>');
SELECT count(*) FROM call_answer('sent', body => '{"sid": "CA00000000000000000000000000000005"}');
SELECT right(sid, 2) AS sid, status, (SELECT string_agg(kind, ' ' ORDER BY kind) FROM twilio_private.outbox WHERE ref = c.id AND kind <> 'call_fetch') AS orders, duration, price, price_unit, answered_at, ended_at IS NOT NULL AS ended FROM twilio_calls c ORDER BY id;
DELETE FROM twilio_calls;
-- two that say different things: which of them Twilio has is not known, and neither is said twice
INSERT INTO twilio_calls (to_number, twiml) SELECT '+15005550009', format('<Response><Say>%s</Say></Response>', n) FROM generate_series(1, 2) n;
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(5));
SELECT count(*) FROM call_looked_up(listed_call(5));
SELECT substring(twiml, '[12]') AS says, right(sid, 2) AS sid, status, (SELECT string_agg(kind, ' ' ORDER BY kind) FROM twilio_private.outbox WHERE ref = c.id AND kind <> 'call_fetch') AS orders FROM twilio_calls c ORDER BY id;
-- … until Twilio says: then the other was never placed
SELECT twilio_private.receive_call(ARRAY[user_id], id, jsonb_build_object('CallSid', 'CA' || lpad('5', 32, '0'), 'CallStatus', 'in-progress')) FROM twilio_calls ORDER BY id DESC LIMIT 1;
SELECT count(*) FROM call_looked_up(listed_call(5));
SELECT count(*) FROM call_looked_up(listed_call(5));
SELECT substring(twiml, '[12]') AS says, right(sid, 2) AS sid, status, (SELECT string_agg(kind, ' ' ORDER BY kind) FROM twilio_private.outbox WHERE ref = c.id AND kind <> 'call_fetch') AS orders FROM twilio_calls c ORDER BY id;
DELETE FROM twilio_calls;
-- one whose end cannot be written down holds up no look for another
INSERT INTO twilio_calls (to_number, twiml) SELECT '+15005550009', '<Response/>' FROM generate_series(1, 2);
SELECT count(*) FROM call_answer('unknown');
UPDATE twilio_private.outbox SET state = 'sending' WHERE id = (SELECT max(id) FROM twilio_private.outbox WHERE kind = 'call');
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT status, (SELECT string_agg(concat_ws('/', kind, left(subject, 1)), ' ' ORDER BY kind) FROM twilio_private.outbox WHERE ref = c.id) AS orders FROM twilio_calls c ORDER BY id;
DELETE FROM twilio_calls;

-- what is no list proves nothing; 2xx without a call neither
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550009', '<Response/>');
SELECT count(*) FROM call_answer('sent', body => '{"sid": null}');
SELECT * FROM call_state;
SELECT count(*) FROM call_answer('sent', 'call_look', '{}');
SELECT * FROM call_state;
-- not placed again, where the user says so, or where the account is another
UPDATE twilio_settings SET resend_unknown = false WHERE user_id = :'alice';
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT * FROM call_state;
UPDATE twilio_settings SET resend_unknown = true WHERE user_id = :'alice';
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550012', '<Response/>');
SELECT count(*) FROM call_answer('unknown');
UPDATE twilio_settings SET account_sid = 'AC' || repeat('c', 32) WHERE user_id = :'alice';
SELECT * FROM call_state;
UPDATE twilio_settings SET account_sid = 'AC' || repeat('a', 32) WHERE user_id = :'alice';
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
DELETE FROM twilio_calls;
-- what another server may have placed is looked up before
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550009', '<Response/>');
SELECT twilio_private.look_before_sending();
SELECT * FROM call_state;
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT * FROM call_state;
DELETE FROM twilio_calls;

-- webhooks: any order, twice; the first one comes before our own result and brings the SID
CREATE FUNCTION call_hook(parameters text[], call uuid DEFAULT NULL, account text DEFAULT 'AC' || repeat('a', 32), token text DEFAULT repeat('a', 32)) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    url text := 'https://crm.example.com/twilio/webhook' || coalesce('?m=' || call, '');
    sent text[] := ARRAY['From', '+15005550001', 'AccountSid', account] || CASE WHEN 'To' = ANY (parameters) THEN parameters ELSE ARRAY['To', '+15005550009'] || parameters END;
BEGIN
    RETURN twilio_handle_webhook(url, convert_to(form(sent), 'UTF8'), signature(token, url, sent));
EXCEPTION WHEN SQLSTATE 'PT403' THEN
    RETURN 'refused';
END
$$;
SELECT id AS first FROM twilio_place_call('+15005550009', '<Response/>', record => true) \gset
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'in-progress', 'Timestamp', 'Thu, 24 Aug 2023 05:01:00 +0000'], :'first');
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'completed', 'Timestamp', 'Thu, 24 Aug 2023 05:01:49 +0000', 'CallDuration', '49', 'Duration', '1',
                       'RecordingSid', 'RE00000000000000000000000000000001', 'RecordingUrl', 'https://api.twilio.com/x/RE1', 'RecordingDuration', '48'], :'first');
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'ringing', 'NewThing', 'x&y'], :'first');
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'completed', 'CallDuration', '50'], :'first');
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000009', 'CallStatus', 'failed'], :'first') AS "of another call";
SELECT * FROM call_state;
SELECT answered_at, ended_at, recording_sid, recording_url, recording_duration FROM twilio_calls;
SELECT raw ->> 'NewThing' AS kept FROM twilio_call_events WHERE status = 'ringing';
SELECT count(*) FROM twilio_private.outbox WHERE kind = 'call' AND ref = :'first';
-- another's call, and one that is nobody's
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'failed'], :'first', account => 'AC' || repeat('b', 32), token => repeat('b', 32));
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000001', 'CallStatus', 'failed'], :'first', token => repeat('b', 32));
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000002', 'CallStatus', 'completed', 'Direction', 'outbound-api']);
-- one that came in, once
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000003', 'CallStatus', 'ringing', 'Direction', 'inbound']);
SELECT call_hook(ARRAY['CallSid', 'CA00000000000000000000000000000003', 'CallStatus', 'completed', 'Direction', 'inbound', 'CallDuration', '12']);
SELECT direction, from_number, to_number, status, duration FROM twilio_calls ORDER BY id;
SELECT (embedded).status FROM (SELECT twilio_call_events(c) AS embedded FROM twilio_calls c WHERE direction = 'inbound') e;

-- what comes between a request and its answer
CREATE FUNCTION claim(only_kind text) RETURNS void LANGUAGE sql AS $$
    UPDATE twilio_private.outbox o SET state = 'sending', attempts = attempts + 1, attempted_at = clock_timestamp(), account_sid = s.account_sid
    FROM twilio_settings s WHERE s.user_id = o.user_id AND o.kind = only_kind AND o.state = 'queued'
$$;
CREATE FUNCTION call_ends(outcome text, only_kind text DEFAULT 'call', body jsonb DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT twilio_private.record_orders(array_agg(o.id), array_agg(outcome), NULL, NULL, array_agg('Twilio''s words'::text), NULL, array_agg(body::text), NULL, array_agg(clock_timestamp()))
    FROM twilio_private.outbox o WHERE o.kind = only_kind AND o.state = 'sending'
$$;
CREATE VIEW call_orders AS
    SELECT substring(c.twiml, '[0-9]') AS says, ltrim(substr(c.sid, 3), '0') AS sid, c.status,
           (SELECT string_agg(concat_ws('/', o.kind, o.state, left(o.subject, 1)), ' ' ORDER BY o.id) FROM twilio_private.outbox o WHERE o.ref = c.id AND o.kind <> 'call_fetch') AS orders
    FROM twilio_calls c ORDER BY c.id;
CREATE FUNCTION call_again(n int DEFAULT 1) RETURNS void LANGUAGE sql AS $$
    DELETE FROM twilio_calls;
    INSERT INTO twilio_calls (to_number, twiml) SELECT '+15005550009', format('<Response><Say>%s</Say></Response>', i) FROM generate_series(1, n) i;
$$;
SELECT call_again(), claim('call');
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('1', 32, '0'), 'CallStatus', 'ringing'], id) FROM twilio_calls;
SELECT * FROM call_orders;
SELECT call_ends('unknown');
SELECT * FROM call_orders;
SELECT call_again(), claim('call');
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('1', 32, '0'), 'CallStatus', 'ringing'], id) FROM twilio_calls;
SELECT call_ends('rejected');
SELECT * FROM call_orders;
-- a callback comes while it is looked for
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT claim('call_look');
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('1', 32, '0'), 'CallStatus', 'ringing'], id) FROM twilio_calls;
SELECT call_ends('sent', 'call_look', '{"calls": []}');
SELECT * FROM call_orders;
-- a look that began before it was placed once more proves nothing
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT claim('call_look');
UPDATE twilio_calls SET submitted_at = clock_timestamp();
INSERT INTO twilio_private.outbox (user_id, kind, ref, subject) SELECT user_id, 'call_look', id, '1' FROM twilio_calls;
SELECT call_ends('sent', 'call_look', '{"calls": []}');
SELECT * FROM call_orders;
-- another one to the number is being placed: whose is what is listed?
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550009', '<Response>2</Response>');
SELECT claim('call');
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT * FROM call_orders;
-- only the account that was given it can tell that it has not got it
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
UPDATE twilio_private.outbox SET account_sid = 'AC' || repeat('d', 32) WHERE kind = 'call';
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT count(*) FROM call_looked_up(VARIADIC '{}');
SELECT * FROM call_orders;
-- Twilio's clock, tries, and pages that lead in circles
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_answer('retry', 'call_look');
SELECT * FROM call_orders;
SELECT count(*) FROM call_answer('sent', 'call_look', jsonb_build_object('calls', jsonb_build_array(listed_call(1, '3 minutes'))), ahead => '3 minutes');
SELECT * FROM call_orders;
SELECT count(*) FROM call_answer('retry', 'call_fetch');
SELECT count(*) FROM twilio_private.outbox WHERE kind = 'call_fetch';
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT call_answer('sent', 'call_look', jsonb_build_object('calls', '[]'::jsonb, 'next_page_uri', '/2010-04-01/Accounts/AC' || repeat('a', 32) || '/Calls.json?Page=1')) FROM generate_series(1, 2);
SELECT * FROM call_orders;
-- one found before, and one that a callback has confirmed, is no other
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(1));
INSERT INTO twilio_calls (to_number, twiml) VALUES ('+15005550009', '<Response>2</Response>');
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT * FROM call_orders;
SELECT call_again(2);
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('1', 32, '0'), 'CallStatus', 'in-progress'], id) FROM twilio_calls WHERE sid IS NOT NULL;
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT * FROM call_orders;
-- what is not due yet needs no look before
SELECT call_again();
UPDATE twilio_private.outbox SET due_at = now() + interval '1 hour';
SELECT twilio_private.look_before_sending();
SELECT * FROM call_orders;
-- what a callback has named is not canceled
UPDATE twilio_calls SET sid = 'CA' || lpad('1', 32, '0'), status = 'ringing';
SELECT twilio_hang_up(id) FROM twilio_calls;
SELECT * FROM call_orders;

-- two users of one account: each gets the own SIDs and what comes in for the own number
UPDATE twilio_settings SET account_sid = 'AC' || repeat('a', 32), auth_token = repeat('a', 32), phone_number = '+15005550002' WHERE user_id = :'bob';
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
SELECT call_again();
INSERT INTO twilio_calls (user_id, direction, from_number, to_number, status, sid) VALUES (:'bob', 'inbound', '+15005550001', '+15005550009', 'completed', 'CA' || lpad('1', 32, '0'));
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(1));
SELECT * FROM call_orders;
SELECT call_again();
SELECT count(*) FROM call_answer('unknown');
SELECT count(*) FROM call_looked_up(listed_call(1));
INSERT INTO twilio_calls (user_id, to_number, from_number, twiml) VALUES (:'bob', '+15005550009', '+15005550001', '<Response>2</Response>');
SELECT count(*) FROM call_answer('sent', body => '{"sid": "CA00000000000000000000000000000001"}');
SELECT * FROM call_orders;
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('3', 32, '0'), 'CallStatus', 'ringing', 'Direction', 'inbound', 'To', '+15005550002']);
SELECT call_hook(ARRAY['CallSid', 'CA' || lpad('3', 32, '0'), 'CallStatus', 'completed', 'Direction', 'inbound', 'To', '+15005550001']) AS "the same, about another number";
SELECT user_id = :'bob' AS bob, to_number, status FROM twilio_calls WHERE direction = 'inbound';

-- twilio_calls_per_day has a row for each day, the first and today included, with the seconds of its calls; another's do not count
BEGIN;
DELETE FROM twilio_calls;
INSERT INTO twilio_calls (to_number, twiml) SELECT '+1202555000' || n, '<Response/>' FROM generate_series(1, 5) n;
INSERT INTO twilio_calls (user_id, to_number, from_number, twiml) VALUES (:'bob', '+12025550009', '+15005550001', '<Response/>');
UPDATE twilio_calls c
SET status = CASE WHEN c.to_number LIKE '%1' THEN 'busy' ELSE 'completed' END, duration = CASE WHEN c.to_number NOT LIKE '%1' THEN 10 END,
    created_at = d.midnight - CASE right(c.to_number, 1) WHEN '4' THEN interval '1 second' WHEN '5' THEN interval '2 days 1 second' ELSE '0' END
FROM (SELECT date_trunc('day', now() AT TIME ZONE 'Pacific/Kiritimati') AT TIME ZONE 'Pacific/Kiritimati' AS midnight) d;
SELECT (now() AT TIME ZONE 'Pacific/Kiritimati')::date - p.day AS ago, p.direction, p.status, p.calls, p.seconds FROM twilio_calls_per_day(3, 'Pacific/Kiritimati') p;
SELECT attempt('SELECT * FROM twilio_calls_per_day(367)');
ROLLBACK;

-- neither a webhook nor a look reads a whole table
DELETE FROM twilio_calls;
INSERT INTO twilio_calls (to_number, twiml) SELECT '+1202' || (1000000 + n), '<Response/>' FROM generate_series(1, 3000) n;
UPDATE twilio_calls SET sid = 'CA' || md5(id::text), status = 'queued';
SELECT id AS one FROM twilio_calls OFFSET 1500 LIMIT 1 \gset
CREATE FUNCTION rows_read() RETURNS bigint LANGUAGE sql AS $$
    SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables WHERE relid IN ('twilio_calls'::regclass, 'twilio_private.outbox'::regclass)
$$;
BEGIN;
SELECT rows_read() AS before \gset
SELECT call_hook(ARRAY['CallSid', 'CA' || md5(:'one'), 'CallStatus', 'ringing'], :'one');
SELECT call_hook(ARRAY['CallSid', 'CA' || md5(:'one'), 'CallStatus', 'in-progress']);
SELECT rows_read() - :before BETWEEN 1 AND 200 AS few;
COMMIT;
BEGIN;
SELECT rows_read() AS before \gset
SELECT twilio_private.other_call_is_under_way(c) FROM twilio_calls c WHERE user_id = :'alice' AND id = :'one';
SELECT rows_read() - :before BETWEEN 1 AND 200 AS few;
COMMIT;

SET client_min_messages = error;
DELETE FROM twilio_calls;
DELETE FROM twilio_settings;
DROP FUNCTION rows_read, call_answer, call_looked_up, listed_call, call_hook, call_ends, call_again, claim;
DROP VIEW call_state, call_orders;
