-- What the views tell people: why nothing is sent and what to do, why each order waits, and the figures.

-- twilio_status tells each caller the own reason
CREATE VIEW trouble AS SELECT reason, hint FROM twilio_status;
GRANT SELECT ON trouble TO regress_twilio_app, regress_twilio_admin;
DELETE FROM twilio_private.arming;
\x on
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
TABLE trouble;
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32));
TABLE trouble;
RESET ROLE;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', false, NULL, NULL, NULL, 'Twilio refuses this.', now());
SET ROLE regress_twilio_app;
TABLE trouble;
UPDATE twilio_settings SET auth_token = repeat('b', 32);
TABLE trouble;
RESET ROLE;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', true, 'x', 'active', 'Full', NULL, now());
SET ROLE regress_twilio_app;
TABLE trouble;
UPDATE twilio_settings SET is_active = false;
TABLE trouble;
UPDATE twilio_settings SET is_active = true, sms_enabled = false;
TABLE trouble;
RESET ROLE;
-- settings that were restored without their secrets, or without the key file
CREATE TEMPORARY TABLE credentials AS SELECT * FROM twilio_private.credential;
DELETE FROM twilio_private.credential;
INSERT INTO twilio_private.outbox (user_id, kind, ref) VALUES ('00000000-0000-0000-0000-00000000000a', 'message', gen_random_uuid());
SET ROLE regress_twilio_app;
TABLE trouble;
SELECT reason FROM twilio_queue;
RESET ROLE;
DELETE FROM twilio_private.outbox;
INSERT INTO twilio_private.credential SELECT * FROM credentials;
UPDATE twilio_private.credential SET key_id = 'lost';
SET ROLE regress_twilio_app;
TABLE trouble;
RESET ROLE;
INSERT INTO twilio_private.credential SELECT '00000000-0000-0000-0000-00000000000b', kind, key_id, sealed FROM credentials;
SET ROLE regress_twilio_app;
TABLE trouble;
RESET ROLE;
DELETE FROM twilio_private.credential;
INSERT INTO twilio_private.credential SELECT * FROM credentials;
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
TABLE trouble;
RESET twilio.user_id;
TABLE trouble;
-- whoever watches the server has no account
SET ROLE regress_twilio_admin;
TABLE trouble;
-- … or has one
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
TABLE trouble;
RESET twilio.user_id;
RESET ROLE;
SELECT twilio_disarm();
SET ROLE regress_twilio_app;
TABLE trouble;
RESET ROLE;
SELECT twilio_arm();
\x off
DROP VIEW trouble;
DELETE FROM twilio_settings;

\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SELECT twilio_disarm();
SET twilio.user_id = :'bob';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('b', 32), repeat('b', 32));
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SELECT twilio_private.record_verification(:'alice', true, 'x', 'active', 'Full', NULL, now());

-- twilio_queue tells of each order why it waits
BEGIN;
INSERT INTO twilio_messages (to_number, body)
SELECT '+15005550009', unnest(ARRAY['not written down', 'on its way', 'lost', 'lost without a word', 'tried', 'put off', 'later', 'due']);
UPDATE twilio_messages SET created_at = now() - interval '1 day' WHERE body = 'due';
UPDATE twilio_private.outbox o
SET state = CASE WHEN m.body IN ('not written down', 'on its way') THEN 'sending' WHEN m.body LIKE 'lost%' THEN 'unknown' ELSE 'queued' END,
    due_at = CASE WHEN m.body ~ '^(not written|lost)' THEN 'infinity' WHEN m.body IN ('tried', 'put off', 'later') THEN now() + interval '1 hour' ELSE now() END,
    attempts = CASE m.body WHEN 'tried' THEN 1 ELSE 0 END, attempted_at = now(),
    note = CASE m.body WHEN 'not written down' THEN 'a trigger' WHEN 'lost' THEN 'timeout' WHEN 'put off' THEN 'locked' END
FROM twilio_messages m WHERE m.id = o.ref;
-- … once of each message that is looked for, not of what is only read again; and of what is about no message
INSERT INTO twilio_private.outbox (user_id, kind, ref, subject, due_at)
SELECT m.user_id, k.kind, CASE k.kind WHEN 'number_webhooks' THEN m.user_id ELSE m.id END, 'x', now() - interval '1 hour'
FROM twilio_messages m, unnest(ARRAY['message_look', 'message_fetch', 'message_reread', 'message_cancel', 'number_webhooks']) WITH ORDINALITY k (kind, n)
WHERE m.body = 'lost' ORDER BY k.n;
SELECT twilio_arm();
SELECT q.kind, coalesce(m.body, q.message_id::text) AS about, q.reason, q.due_at IS NULL AS "at no time", justify_hours(date_trunc('hour', q.age)) AS age
FROM twilio_queue q LEFT JOIN twilio_messages m ON m.id = q.message_id ORDER BY q.order_id;
-- what is wrong with the account comes first, then what holds for all
CREATE FUNCTION why() RETURNS text LANGUAGE sql AS $$ SELECT q.reason FROM twilio_queue q JOIN twilio_messages m ON m.id = q.message_id WHERE m.body = 'due' $$;
UPDATE twilio_settings SET rate_limit_per_second = 0.50 WHERE user_id = :'alice';
SELECT why();
SELECT twilio_disarm();
SELECT why();
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate');
SELECT why();
UPDATE twilio_settings SET is_active = false WHERE user_id = :'alice';
SELECT why();
DELETE FROM twilio_settings WHERE user_id = :'alice';
SELECT why();
ROLLBACK;

-- twilio_tenant_status has the figures of each user, those of messages from the last 24 hours
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', unnest(ARRAY['late', 'due', 'later', 'on its way', 'lost', 'delivered', 'undelivered', 'failed', 'long ago']);
INSERT INTO twilio_messages (direction, from_number, to_number, body, status, sid) VALUES ('inbound', '+15005550009', '+15005550001', 'received', 'received', 'SM1');
UPDATE twilio_messages SET status = body, sid = 'SM' || body WHERE body LIKE '%delivered';
UPDATE twilio_messages SET status = 'undelivered', error_code = 30003, error_message = 'Off', created_at = now() - interval '1 hour', updated_at = now() - interval '1 minute' WHERE body = 'undelivered';
UPDATE twilio_messages SET status = 'failed', error_code = 21211, created_at = now() - interval '2 hours' WHERE body = 'failed';
UPDATE twilio_messages SET status = 'failed', sid = 'SM2', created_at = now() - interval '25 hours' WHERE body = 'long ago';
DELETE FROM twilio_private.outbox o USING twilio_messages m WHERE m.id = o.ref AND m.status <> 'pending';
UPDATE twilio_private.outbox o
SET state = CASE m.body WHEN 'on its way' THEN 'sending' WHEN 'lost' THEN 'unknown' ELSE 'queued' END, attempted_at = now(),
    due_at = CASE m.body WHEN 'lost' THEN 'infinity' WHEN 'later' THEN now() + interval '1 hour' WHEN 'late' THEN now() - interval '1 hour' ELSE now() END
FROM twilio_messages m WHERE m.id = o.ref;
INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at) VALUES (:'alice', 'number_webhooks', gen_random_uuid(), now() - interval '2 hours');
-- … of the other one nothing is due, and nothing has failed since
INSERT INTO twilio_private.outbox (user_id, kind, ref, due_at) VALUES (:'bob', 'message', gen_random_uuid(), now() + interval '2 hours');
INSERT INTO twilio_messages (user_id, direction, from_number, to_number, status, created_at) VALUES (:'bob', 'inbound', '+15005550009', '+15005550002', 'failed', now() - interval '25 hours');
CREATE VIEW figures AS
    SELECT right(user_id::text, 1) AS "user", queued, in_flight, unknown, date_trunc('hour', lag) AS lag, sent, failed, received, last_error,
           now() - last_error_at AS "ago", breaker IS NULL AS accepted, breaker
    FROM twilio_tenant_status ORDER BY user_id;
TABLE figures;
SELECT queued, date_trunc('hour', lag) AS lag FROM twilio_status;
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate');
SELECT breaker FROM figures;
GRANT SELECT ON figures TO regress_twilio_app;
SET ROLE regress_twilio_app;
SET twilio.user_id = :'bob';
SELECT queued, lag FROM twilio_status;
ROLLBACK;

-- twilio_messages_per_day has a row for each day, the first and today included, and its days begin in the time zone
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', n::text FROM generate_series(1, 5) n;
CREATE TEMP TABLE midnight AS SELECT date_trunc('day', now() AT TIME ZONE zone) AT TIME ZONE zone AS at, zone FROM (VALUES ('Pacific/Kiritimati')) z (zone);
UPDATE twilio_messages m
SET created_at = CASE m.body WHEN '1' THEN d.at - interval '2 days 1 second' WHEN '2' THEN d.at - interval '2 days' WHEN '3' THEN d.at - interval '1 second' ELSE d.at END,
    status = CASE m.body WHEN '5' THEN 'failed' ELSE 'delivered' END
FROM midnight d;
SELECT (now() AT TIME ZONE zone)::date - p.day AS ago, p.direction, p.status, p.messages FROM midnight, twilio_messages_per_day(3, zone) p;
DELETE FROM twilio_messages;
SELECT count(*) AS days, sum(messages) AS messages, (now() AT TIME ZONE 'UTC')::date - max(day) AS "to today" FROM twilio_messages_per_day();
SELECT zone, (now() AT TIME ZONE zone)::date - day AS "to today" FROM unnest(ARRAY['Pacific/Kiritimati', 'Etc/GMT+12']) zone, LATERAL twilio_messages_per_day(1, zone);
SELECT days, attempt(format('SELECT * FROM twilio_messages_per_day(%s)', days)) FROM unnest(ARRAY[0, 1, 366, 367]) days;
ROLLBACK;
DELETE FROM twilio_settings;
SELECT twilio_arm();
