-- What Twilio tells us: signed callbacks and received messages, and what is refused.
\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number)
VALUES ('AC00000000000000000000000000000001', '12345678901234567890123456789012', '+15551230002');
SET twilio.user_id = :'bob';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('b', 32), repeat('b', 32), '+15005550002');
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
GRANT twilio_webhook TO regress_twilio_stranger;
GRANT CREATE ON SCHEMA public TO regress_twilio_stranger;
SET twilio.user_id = :'alice';

-- signed by Twilio's own SDK: with and without port; Body = 'Hi + there'
\set url 'https://example.com/hooks/sms?a=1&b=two'
\set form 'Body=Hi+%2B+there&From=%2B15551230001&To=%2B15551230002&MessageSid=SM00000000000000000000000000000001&AccountSid=AC00000000000000000000000000000001&NumMedia=0'
SET ROLE regress_twilio_stranger;
SELECT attempt('SELECT * FROM twilio_messages');
SELECT twilio_handle_webhook(:'url', :'form', '7UfE9xs/dOk7EvzG8ZcO2nOWo38=');
SELECT twilio_handle_webhook('https://example.com:443/hooks/sms?a=1&b=two', :'form', 'F2G/GIc3tlfTkHOlNWrWv54Unlo=', 'application/x-www-form-urlencoded; charset=UTF-8');
SELECT twilio_handle_webhook(:'url', :'form', 'F2G/GIc3tlfTkHOlNWrWv54Unlo=');
SELECT attempt(format('SELECT twilio_handle_webhook(%L, %L, %L)', :'url' || 'x', :'form', '7UfE9xs/dOk7EvzG8ZcO2nOWo38='));
SELECT attempt(format('SELECT twilio_handle_webhook(%L, %L, %L)', :'url', :'form' || '&x=', '7UfE9xs/dOk7EvzG8ZcO2nOWo38='));
SELECT attempt(format('SELECT twilio_handle_webhook(%L, %L, %L)', :'url', :'form', NULL));
RESET ROLE;
-- stored once
SELECT direction, from_number, to_number, body, media_urls, status, num_media FROM twilio_messages;
SELECT status, source, raw FROM twilio_message_events;

-- a webhook as Twilio would send it
CREATE FUNCTION hook(parameters text[], query text DEFAULT '', token text DEFAULT '12345678901234567890123456789012',
                     account text DEFAULT 'AC00000000000000000000000000000001') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    url text := 'https://crm.example.com/twilio/webhook' || query;
    sent text[] := parameters || ARRAY['AccountSid', account];
BEGIN
    RETURN twilio_handle_webhook(url, convert_to(form(sent), 'UTF8'), signature(token, url, sent));
EXCEPTION WHEN SQLSTATE 'PT403' THEN
    RETURN 'refused';
END
$$;
CREATE VIEW life AS
    SELECT m.direction, m.body, m.status, right(m.sid, 2) AS sid, m.error_code, m.sent_at IS NOT NULL AS sent, m.delivered_at IS NOT NULL AS delivered,
           (SELECT string_agg(concat_ws('/', e.status, e.error_code, e.source), ' ' ORDER BY e.id) FROM twilio_message_events e WHERE e.message_id = m.id) AS events
    FROM twilio_messages m ORDER BY m.id;
DELETE FROM twilio_messages;

-- callbacks in any order, twice; the first comes before our own result and brings the SID
SELECT id AS first FROM twilio_send_sms('+15551230001', 'status') \gset
\set m '?m=' :first
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'delivered', 'SmsStatus', 'delivered'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'sent'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'queued']);
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'delivered'], :'m');
SELECT * FROM life;
SELECT count(*) AS "orders to send" FROM twilio_private.outbox WHERE kind = 'message';
-- our result comes after all, and changes nothing but what it alone knows
SELECT twilio_private.apply_messages(ARRAY[:'alice']::uuid[], ARRAY[:'first']::uuid[], ARRAY[jsonb_build_object(
    'sid', 'SM00000000000000000000000000000002', 'status', 'queued', 'price', '-0.0079', 'price_unit', 'USD')], 'api');
SELECT price FROM twilio_messages;
SELECT * FROM life;
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'read'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000002', 'MessageStatus', 'sparkling', 'NewThing', 'x&y'], :'m');
SELECT status FROM twilio_messages;
DELETE FROM twilio_messages;

-- an empty status says nothing
SELECT id AS blank FROM twilio_send_sms('+15551230001', 'blank') \gset
\set m '?m=' :blank
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000007', 'MessageStatus', 'queued'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000007', 'MessageStatus', ''], :'m');
SELECT * FROM life;
DELETE FROM twilio_messages;

-- to some of several recipients it is delivered, after it was sent, and then perhaps to all
SELECT id AS partly FROM twilio_send_sms('+15551230001', 'partly') \gset
\set m '?m=' :partly
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000008', 'MessageStatus', s], :'m')
FROM unnest(ARRAY['sent', 'partially_delivered', 'sent']) s;
SELECT status FROM twilio_messages;
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000008', 'MessageStatus', 'delivered'], :'m');
SELECT status FROM twilio_messages;
DELETE FROM twilio_messages;

-- an error: the first is kept
SELECT id AS second FROM twilio_send_sms('+15551230001', 'error') \gset
\set m '?m=' :second
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'undelivered', 'ErrorCode', '30003'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed', 'ErrorCode', '30008'], :'m');
SELECT * FROM life;
-- … also where the status goes on; and an error that comes with a lower status is kept, and the status stays
SELECT id AS both FROM twilio_send_sms('+15551230001', 'both') \gset
\set m '?m=' :both
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000004', 'MessageStatus', 'sent', 'ErrorCode', '30008'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000004', 'MessageStatus', 'undelivered', 'ErrorCode', '30003'], :'m');
SELECT id AS late FROM twilio_send_sms('+15551230001', 'late') \gset
\set m '?m=' :late
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000005', 'MessageStatus', 'delivered'], :'m');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000005', 'MessageStatus', 'sent', 'ErrorCode', '30008'], :'m');
SELECT status, error_code FROM twilio_messages WHERE id IN (:'both', :'late') ORDER BY id;
DELETE FROM twilio_messages WHERE id IN (:'both', :'late');
\set m '?m=' :second
-- a callback of the attempt before does not disturb the next
SELECT status FROM twilio_retry_message(:'second');
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed', 'ErrorCode', '30008'], :'m');
SELECT * FROM life;

-- another's message, an account without settings, a message that is nowhere, someone else's token
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000009', 'MessageStatus', 'failed'], :'m', repeat('b', 32), 'AC' || repeat('b', 32)) AS "signed by B, about A's";
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000009', 'MessageStatus', 'failed'], :'m', repeat('b', 32)) AS "signed by B as A";
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000009', 'MessageStatus', 'failed']) AS "unknown SID";
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000009', 'MessageStatus', 'failed'], '?m=' || :'alice') AS "unknown message";
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000009', 'MessageStatus', 'failed'], account => 'AC' || repeat('c', 32)) AS "unknown account";
SELECT hook(ARRAY['MessageSid', 'SM9', 'MessageStatus', 'failed'], :'m') AS "no SID, which changes nothing";
SELECT hook(ARRAY['X', 'y'], '', repeat('b', 32), 'AC' || repeat('B', 32)) AS "its SID in capitals";
SELECT hook(ARRAY['X', repeat('y', 262144)]) AS "too large";
-- … nor by what this backend knows of a token that was put into another's place
BEGIN;
UPDATE twilio_private.credential b SET key_id = a.key_id, sealed = a.sealed FROM twilio_private.credential a WHERE a.user_id = :'alice' AND b.user_id = :'bob';
SELECT hook(ARRAY['X', 'y']) AS "A for A", hook(ARRAY['X', 'y'], account => 'AC' || repeat('b', 32)) AS "A's token for B";
ROLLBACK;
UPDATE twilio_settings SET is_active = false WHERE user_id = :'alice';
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed'], :'m') AS "switched off";
UPDATE twilio_settings SET is_active = true WHERE user_id = :'alice';
SELECT status, count(*) FROM twilio_messages GROUP BY 1;

-- with an API key: not before both are verified; refused since, it says nothing about the token
BEGIN;
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32) WHERE user_id = :'alice';
SELECT hook(ARRAY['X', 'y']) AS "a new key";
SELECT count(twilio_private.record_verification(:'alice', v, 'x', 'active', 'Full', 'ok', now())::text) FROM unnest(ARRAY[true, false]) v;
SELECT hook(ARRAY['X', 'y']) AS "a key that was verified";
ROLLBACK;

-- the token before is good for a while
UPDATE twilio_settings SET auth_token = repeat('n', 32) WHERE user_id = :'alice';
SELECT count(twilio_private.record_verification(:'alice', true, 'x', 'active', 'Full', 'ok', now())::text);
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed'], :'m') AS "old token",
       hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed'], :'m', repeat('n', 32)) AS "new token";
UPDATE twilio_private.credential SET previous_until = now() - interval '1 second' WHERE previous_until IS NOT NULL;
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000003', 'MessageStatus', 'failed'], :'m') AS "old token, too late";
UPDATE twilio_settings SET auth_token = '12345678901234567890123456789012' WHERE user_id = :'alice';
SELECT count(twilio_private.record_verification(:'alice', true, 'x', 'active', 'Full', 'ok', now())::text);
DELETE FROM twilio_messages;

-- STOP, START, HELP: single words; the auto-reply answers all else
-- it is one message, and Twilio counts an emoji as two characters
UPDATE twilio_settings SET auto_reply = repeat(U&'\+01F44D', 800) WHERE user_id = :'alice';
\set VERBOSITY terse
UPDATE twilio_settings SET auto_reply = repeat(U&'\+01F44D', 800) || '!' WHERE user_id = :'alice';
\set VERBOSITY default
UPDATE twilio_settings SET auto_reply = 'Thanks & <soon>' WHERE user_id = :'alice';
CREATE FUNCTION says(sid int, body text, more text[] DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
    SELECT hook(ARRAY['MessageSid', 'SM' || lpad(sid::text, 32, '0'), 'SmsStatus', 'received', 'From', '+15551230001', 'To', '+15551230002', 'Body', body] || more)
$$;
SELECT says(10, 'hello é👍', ARRAY['NumMedia', '2', 'MediaUrl0', 'https://api.twilio.com/a', 'MediaUrl1', 'https://api.twilio.com/b', 'FromCity', '', 'X', '1', 'X', '2']);
SELECT says(11, 'please stop');
SELECT says(12, ' Stop ');
SELECT says(12, ' Stop ');
SELECT bool_and(updated_at >= created_at) AS "changed no earlier than written" FROM twilio_messages WHERE direction = 'inbound';
SELECT phone_number, reason, opted_in_at IS NOT NULL AS back FROM twilio_opt_outs;
SELECT status, error_code FROM twilio_send_sms('+15551230001', 'not wanted');
SELECT says(13, 'hello again') AS "no answer to who opted out";
-- said again it dates from the first time
SELECT opted_out_at AS since FROM twilio_opt_outs \gset
SELECT says(17, 'stop');
SELECT opted_out_at = :'since' AS "the same" FROM twilio_opt_outs;
INSERT INTO twilio_opt_outs (user_id, phone_number) VALUES (:'bob', '+15551230001');
SELECT says(14, 'START');
SELECT opted_in_at IS NULL AS "has not come back to others" FROM twilio_opt_outs WHERE user_id = :'bob';
DELETE FROM twilio_opt_outs WHERE user_id = :'bob';
SELECT phone_number, reason, opted_in_at IS NOT NULL AS back FROM twilio_opt_outs;
SELECT status FROM twilio_send_sms('+15551230001', 'welcome back');
SELECT says(15, 'help');
UPDATE twilio_settings SET sms_enabled = false WHERE user_id = :'alice';
SELECT says(18, 'hello?') AS "no answer where SMS is switched off";
UPDATE twilio_settings SET sms_enabled = true WHERE user_id = :'alice';
SELECT attempt(format('SELECT twilio_retry_message(%L)', id)) AS "what was received" FROM twilio_messages WHERE body = 'hello?';
SELECT hook(ARRAY['MessageSid', sid, 'MessageStatus', 'read']) AS "nobody reports about what was received" FROM twilio_messages WHERE body = 'hello?';
SELECT status FROM twilio_messages WHERE body = 'hello?';
SELECT says(16, 'arrêt', ARRAY['OptOutType', 'STOP']);
SELECT phone_number, reason, opted_in_at IS NOT NULL AS back FROM twilio_opt_outs;
SELECT direction, body, media_urls, num_media, encoding, status FROM twilio_messages ORDER BY id;
SELECT raw -> 'X' AS repeated, raw ->> 'FromCity' AS empty FROM twilio_message_events WHERE raw ? 'X';
-- 21610 by callback
DELETE FROM twilio_opt_outs;
SELECT id AS third FROM twilio_send_sms('+15551230001', 'x') \gset
SELECT hook(ARRAY['MessageSid', 'SM00000000000000000000000000000020', 'MessageStatus', 'failed', 'ErrorCode', '21610'], '?m=' || :'third');
SELECT phone_number, reason FROM twilio_opt_outs;

-- through PostgREST: the URL and the signature are in headers
SET ROLE regress_twilio_stranger;
BEGIN;
SELECT set_config('request.headers', json_build_object('x-twilio-url', :'url', 'x-twilio-signature', '7UfE9xs/dOk7EvzG8ZcO2nOWo38=',
    'x-original-content-type', 'application/x-www-form-urlencoded', 'x-original-method', 'POST')::text, true) IS NOT NULL AS set;
SELECT twilio_webhook(:'form'), current_setting('response.status', true);
SELECT twilio_webhook(convert_to(:'form' || 'x', 'UTF8')), current_setting('response.status', true);
-- a stranger cannot keep the server busy with what is no text
SELECT clock_timestamp() AS asked_at \gset
SELECT twilio_webhook(decode(repeat('ff', 262144), 'hex'));
SELECT clock_timestamp() - :'asked_at' < interval '3 seconds' AS soon;
COMMIT;
SELECT twilio_webhook('');
RESET ROLE;
-- GET, and JSON whose hash is in the URL
SELECT twilio_handle_webhook(u.url, '', signature('12345678901234567890123456789012', u.url, '{}'), method => 'GET')
FROM (VALUES ('https://crm.example.com/twilio/webhook?AccountSid=AC00000000000000000000000000000001&Body=by+get&From=%2B1555&To=%2B1666&MessageSid=SM00000000000000000000000000000030&SmsStatus=received')) u (url);
SELECT twilio_handle_webhook(u.url, u.body, signature('12345678901234567890123456789012', u.url, '{}'), 'application/json')
FROM (SELECT b.body, 'https://crm.example.com/twilio/webhook?bodySHA256=' || encode(sha256(b.body), 'hex') AS url
      FROM (VALUES ('{"account_sid": "AC00000000000000000000000000000001", "status": "completed"}'::bytea)) b (body)) u;
SELECT body FROM twilio_messages WHERE sid = 'SM00000000000000000000000000000030';

-- of users who share an account, who sends with a Messaging Service gets what arrives there
UPDATE twilio_settings SET account_sid = 'AC00000000000000000000000000000001', auth_token = '12345678901234567890123456789012', phone_number = NULL,
    messaging_service_sid = 'MG' || repeat('1', 32) WHERE user_id = :'bob';
SELECT count(twilio_private.record_verification(:'bob', true, 'x', 'active', 'Full', 'ok', now())::text);
SELECT hook(ARRAY['MessageSid', 'SM' || lpad((40 + n)::text, 32, '0'), 'From', '+15551230001', 'To', t, 'MessagingServiceSid', 'MG' || s, 'Body', 'shared ' || n])
FROM (VALUES (1, '+15551239999', repeat('1', 32)), (2, '+15551239999', repeat('2', 32)), (3, '+15551230002', repeat('1', 32))) c (n, t, s);
SELECT body, CASE user_id WHEN :'alice' THEN 'alice' WHEN :'bob' THEN 'bob' END AS whose FROM twilio_messages WHERE body LIKE 'shared %' ORDER BY body;
-- … and who sends from a number by default, what arrives for that
UPDATE twilio_settings SET phone_number = NULL, messaging_service_sid = NULL;
INSERT INTO twilio_numbers (user_id, sid, phone_number, is_default)
SELECT u, 'PN' || md5(n), n, (n = '+15551230002') = (u = :'alice')
FROM unnest(ARRAY[:'alice', :'bob']::uuid[]) u, unnest(ARRAY['+15551230002', '+15551230003']) n;
SELECT hook(ARRAY['MessageSid', 'SM' || lpad((50 + n)::text, 32, '0'), 'From', '+15551230001', 'To', t, 'Body', 'default ' || n])
FROM (VALUES (1, '+15551230002'), (2, '+15551230003')) c (n, t);
SELECT body, CASE user_id WHEN :'alice' THEN 'alice' WHEN :'bob' THEN 'bob' END AS whose FROM twilio_messages WHERE body LIKE 'default %' ORDER BY body;

DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;
DELETE FROM twilio_opt_outs;
DELETE FROM twilio_settings;
DROP VIEW life;
DROP FUNCTION says(int, text, text[]), hook(text[], text, text, text);
REVOKE twilio_webhook FROM regress_twilio_stranger;
REVOKE CREATE ON SCHEMA public FROM regress_twilio_stranger;
SELECT twilio_arm();
