-- Sending is inserting: what is accepted, what it is completed with, what is refused and in which words. Nothing is
-- sent from here: the database is disarmed.
\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SET twilio.user_id = :'bob';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('b', 32), repeat('b', 32));
SET twilio.user_id = :'alice';
SET ROLE regress_twilio_app;

-- an account that cannot send says why
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$);
RESET ROLE;
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
SET ROLE regress_twilio_app;
UPDATE twilio_settings SET sms_enabled = false;
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$);
UPDATE twilio_settings SET sms_enabled = true, is_active = false;
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$);
UPDATE twilio_settings SET is_active = true;
SET twilio.user_id = :'bob';
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$) AS "no sender";
SET twilio.user_id = '00000000-0000-0000-0000-00000000000f';
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$) AS "no settings";
RESET twilio.user_id;
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'hi')$$) AS "nobody";

-- one call, one row, one order, one event
SET twilio.user_id = :'alice';
SELECT direction, from_number, to_number, body, status, sid, encoding, num_segments, num_media, date_trunc('second', expires_at - created_at) AS ttl
FROM twilio_send_sms('+15005550009', 'hello');
SELECT kind, state, attempts, reason, order_id FROM twilio_queue;
RESET ROLE;
BEGIN;
SELECT twilio_arm();
SELECT reason FROM twilio_queue;
UPDATE twilio_settings SET rate_limit_per_second = 0.5 WHERE user_id = :'alice';
SELECT reason FROM twilio_queue;
ROLLBACK;
SET ROLE regress_twilio_app;
SELECT status, source FROM twilio_message_events;

-- what the user does not decide is ignored; bulk is one statement
INSERT INTO twilio_messages (to_number, body, id, direction, status, sid, price, created_at, num_segments, error_code)
VALUES ('+15005550009', 'hello', :'alice', 'inbound', 'delivered', 'SM' || repeat('0', 32), -1, '2000-01-01', 99, 1)
RETURNING id = user_id AS "own id", direction, status, sid, price, created_at >= now() AS "created now", num_segments, error_code;
-- ... nor is it taken as the row of a dump, for nobody without the right to restore one says so
INSERT INTO twilio_messages (direction, to_number, body, status, sid)
SELECT v.direction, '+15005550009', 'hello', 'delivered', 'SM' || v.direction
FROM (VALUES ('inbound'), ('outbound')) v (direction) WHERE set_config('row_security', 'off', true) = 'off'
RETURNING direction, from_number, status, sid;
RESET ROLE;
CREATE FUNCTION send_for_anybody(body text) RETURNS text LANGUAGE sql SECURITY DEFINER
RETURN (SELECT s.status FROM twilio_send_sms('+15005550009', send_for_anybody.body, '+15005550001') s);
SET ROLE regress_twilio_app;
SET row_security = off;
SELECT attempt($$SELECT send_for_anybody(repeat('x', 1601))$$) AS "a function of the owner is no dump";
RESET row_security;
RESET ROLE;
DROP FUNCTION send_for_anybody;
SET ROLE regress_twilio_app;
INSERT INTO twilio_messages (to_number, body) SELECT '+1500555' || i, 'bulk ' || i FROM generate_series(1000, 1999) i;
SELECT count(*), count(DISTINCT message_id) FROM twilio_queue WHERE kind = 'message';

-- segments as Twilio counts them
SELECT name, encoding, num_segments FROM (VALUES
    ('160', repeat('x', 160)), ('161', repeat('x', 161)), ('80 €', repeat('€', 80)), ('81 €', repeat('€', 81)),
    ('70 é in UCS-2', repeat('ç', 70)), ('71', repeat('ç', 71)), ('35 emoji', repeat('😀', 35)), ('36 emoji', repeat('😀', 36)),
    ('1600', repeat('x', 1600)), ('800 emoji', repeat('😀', 800))) v (name, body),
    LATERAL twilio_send_sms('+15005550009', v.body);

-- refused, each with code and sentence
SELECT name, attempt(format('SELECT twilio_send_sms(%L, %L, %L, %L, %L, %L)', dest, body, sender, media, at, key)) AS refusal FROM (VALUES
    ('empty body', '+15005550009', '', NULL, NULL::text[], NULL, NULL),
    ('null body', '+15005550009', NULL, NULL, NULL, NULL, NULL),
    ('1601 characters', '+15005550009', repeat('x', 1601), NULL, NULL, NULL, NULL),
    ('801 emoji', '+15005550009', repeat('😀', 801), NULL, NULL, NULL, NULL),
    ('bad To', '5005550009', 'hi', NULL, NULL, NULL, NULL),
    ('To with spaces', '+1 500 555 0009', 'hi', NULL, NULL, NULL, NULL),
    ('no To', NULL, 'hi', NULL, NULL, NULL, NULL),
    ('bad From', '+15005550009', 'hi', '+', NULL, NULL, NULL),
    ('11 media', '+15005550009', 'hi', NULL, array_fill('https://example.com/a'::text, ARRAY[11]), NULL, NULL),
    ('a file', '+15005550009', 'hi', NULL, ARRAY['file:///etc/passwd'], NULL, NULL),
    ('null media', '+15005550009', 'hi', NULL, ARRAY[NULL]::text[], NULL, NULL),
    ('too far ahead', '+15005550009', 'hi', NULL, NULL, 'infinity', NULL),
    ('empty key', '+15005550009', 'hi', NULL, NULL, NULL, '')) v (name, dest, body, sender, media, at, key);
-- taken at the limit, refused beyond it
BEGIN;
SELECT name, split_part(attempt(format('INSERT INTO twilio_messages (to_number, body, from_number, media_urls, send_at, expires_at, idempotency_key)
    VALUES (%L, ''hi'', %L, %L, %L, %L, %L)', coalesce(dest, '+15005550009'), sender, media, at, expires, key)), E'\n', 1) AS outcome FROM (VALUES
    ('2 digits', '+12', NULL, NULL::text[], NULL::timestamptz, NULL::timestamptz, NULL), ('1 digit', '+1', NULL, NULL, NULL, NULL, NULL),
    ('15 digits', '+' || repeat('1', 15), NULL, NULL, NULL, NULL, NULL), ('16 digits', '+' || repeat('1', 16), NULL, NULL, NULL, NULL, NULL),
    ('+0', '+015005550009', NULL, NULL, NULL, NULL, NULL), ('a channel', 'rcs:+12', NULL, NULL, NULL, NULL, NULL),
    ('no channel', 'r:+12', NULL, NULL, NULL, NULL, NULL), ('Messenger', 'messenger:a_b.c-9', NULL, NULL, NULL, NULL, NULL),
    ('short code', NULL, '123', NULL, NULL, NULL, NULL), ('too short a code', NULL, '12', NULL, NULL, NULL, NULL),
    ('long code', NULL, '12345678', NULL, NULL, NULL, NULL), ('too long a code', NULL, '123456789', NULL, NULL, NULL, NULL),
    ('name', NULL, 'A_B+C-D & 1', NULL, NULL, NULL, NULL), ('too long a name', NULL, 'ABCDEFGHIJKL', NULL, NULL, NULL, NULL),
    ('10 media', NULL, NULL, array_fill('https://example.com/a'::text, ARRAY[10]), NULL, NULL, NULL),
    ('2048 bytes', NULL, NULL, ARRAY[rpad('HTTP://example.com/', 2048, 'x')], NULL, NULL, NULL),
    ('2049 bytes', NULL, NULL, ARRAY[rpad('https://example.com/', 2049, 'x')], NULL, NULL, NULL),
    ('in a year', NULL, NULL, NULL, now() + interval '1 year', NULL, NULL), ('later', NULL, NULL, NULL, now() + interval '1 year 1 second', NULL, NULL),
    ('for two years', NULL, NULL, NULL, NULL, now() + interval '2 years', NULL), ('for longer', NULL, NULL, NULL, NULL, now() + interval '2 years 1 second', NULL),
    ('until after send_at', NULL, NULL, NULL, now() + interval '1 hour', now() + interval '1 hour 1 second', NULL),
    ('until send_at', NULL, NULL, NULL, now() + interval '1 hour', now() + interval '1 hour', NULL),
    ('key of 255', NULL, NULL, NULL, NULL, NULL, repeat('k', 255)), ('key of 256', NULL, NULL, NULL, NULL, NULL, repeat('k', 256))
) v (name, dest, sender, media, at, expires, key);
SELECT expires_at - send_at AS "may wait for" FROM twilio_messages WHERE send_at = now() + interval '1 year';
ROLLBACK;
-- passed on
SELECT from_number, to_number, body, media_urls, num_media FROM twilio_send_sms('whatsapp:+15005550009', NULL, 'whatsapp:+15005550001', '{https://example.com/a.jpg,http://example.com/b}');
SELECT from_number FROM twilio_send_sms('+15005550009', 'hi', 'ACME Inc');

-- the sender: given, the Messaging Service, the default number, the number of the settings
RESET ROLE;
INSERT INTO twilio_numbers (user_id, sid, phone_number, is_default) VALUES (:'alice', 'PN1', '+15005550011', true);
SET ROLE regress_twilio_app;
SELECT from_number, messaging_service_sid FROM twilio_send_sms('+15005550009', 'hi');
UPDATE twilio_settings SET messaging_service_sid = 'MG' || repeat('0', 32);
SELECT from_number, messaging_service_sid FROM twilio_send_sms('+15005550009', 'hi');
SELECT from_number, messaging_service_sid FROM twilio_send_sms('+15005550009', 'hi', '+15005550012');
UPDATE twilio_settings SET messaging_service_sid = NULL;
-- ... read once for all rows of a statement, and again for the next one
BEGIN;
SELECT from_number FROM twilio_send_sms('+15005550009', 'hi');
UPDATE twilio_numbers SET is_default = false;
SELECT from_number FROM twilio_send_sms('+15005550009', 'hi');
SAVEPOINT before;
UPDATE twilio_settings SET phone_number = '+15005550013';
SELECT from_number FROM twilio_send_sms('+15005550009', 'hi');
ROLLBACK TO before;
SELECT from_number FROM twilio_send_sms('+15005550009', 'hi');
UPDATE twilio_settings SET sms_enabled = false;
SELECT attempt($$INSERT INTO twilio_messages (to_number, body) VALUES ('+15005550009', 'hi'), ('+15005550010', 'hi')$$);
UPDATE twilio_settings SET sms_enabled = true;
RESET ROLE;
UPDATE twilio_settings SET phone_number = '+15005550014' WHERE user_id = :'bob';
INSERT INTO twilio_messages (user_id, to_number, body)
SELECT CASE WHEN g % 2 = 0 THEN :'alice' ELSE :'bob' END::uuid, '+1500555000' || g, 'hi' FROM generate_series(1, 4) g
RETURNING from_number, to_number;
CREATE FUNCTION next_number(g int) RETURNS text LANGUAGE sql AS $$
    UPDATE twilio_settings SET phone_number = '+1500555002' || g WHERE user_id = '00000000-0000-0000-0000-00000000000a'
    RETURNING '+1500555000' || g $$;
INSERT INTO twilio_messages (to_number, body) SELECT next_number(g), 'hi' FROM generate_series(1, 3) g RETURNING from_number, to_number;
ROLLBACK;

-- an idempotency key
SELECT a.id = b.id AS same FROM twilio_send_sms('+15005550009', 'once', idempotency_key => 'k') a, LATERAL (SELECT a.id) x,
    LATERAL twilio_send_sms('+15005550009', CASE WHEN x.id IS NOT NULL THEN 'once' END, idempotency_key => 'k') b;
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'once', '', '{}', idempotency_key => 'k')$$) AS "as empty as before";
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'twice', idempotency_key => 'k')$$);
SELECT attempt($$SELECT twilio_send_sms(NULL, 'once', idempotency_key => 'k')$$);
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'once', '+15005550012', idempotency_key => 'k')$$);
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'once', media_urls => '{https://example.com/a}', idempotency_key => 'k')$$);
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'once', send_at => now() + interval '1 hour', idempotency_key => 'k')$$);
SELECT attempt($$INSERT INTO twilio_messages (to_number, body, idempotency_key) VALUES ('+15005550009', 'once', 'k')$$);
SELECT count(*) FROM twilio_messages WHERE idempotency_key = 'k';
-- ... of a picture without a word
SELECT body, media_urls FROM twilio_send_sms('+15005550009', '', media_urls => '{https://example.com/a}', idempotency_key => 'picture');
SELECT attempt($$SELECT twilio_send_sms('+15005550009', '', media_urls => '{https://example.com/a}', idempotency_key => 'picture')$$);
-- ... of a message whose sender the Messaging Service chooses
UPDATE twilio_settings SET messaging_service_sid = 'MG' || repeat('0', 32);
SELECT from_number FROM twilio_send_sms('+15005550009', 'service', idempotency_key => 'k2');
SELECT attempt($$SELECT twilio_send_sms('+15005550009', 'service', '+15005550012', idempotency_key => 'k2')$$);
UPDATE twilio_settings SET messaging_service_sid = NULL;

-- rolled back is not sent
BEGIN;
SELECT count(*) FROM twilio_send_sms('+15005550009', 'no');
ROLLBACK;
SELECT count(*) FROM twilio_messages WHERE body = 'no';

-- cancel and retry: the own message, in the right state
SELECT id AS first FROM twilio_messages WHERE body = 'hello' ORDER BY id LIMIT 1 \gset
SET twilio.user_id = :'bob';
SELECT twilio_cancel_message(:'first') AS "another's";
SELECT attempt(format('SELECT twilio_retry_message(%L)', :'first')) AS "another's";
SELECT count(*) FROM twilio_messages;
SELECT (SELECT count(*) FROM twilio_queue) AS queue, (SELECT queued FROM twilio_status) AS status, user_id = :'bob' AS own, queued FROM twilio_tenant_status;
SELECT attempt(format('INSERT INTO twilio_messages (user_id, to_number, body) VALUES (%L, %L, %L)', :'alice', '+15005550009', 'x'));
SELECT attempt(format('INSERT INTO twilio_messages (user_id, to_number, body) VALUES (%L, %L, %L)', '00000000-0000-0000-0000-00000000000f', '+15005550009', 'x'));
SET twilio.user_id = :'alice';
SELECT attempt(format('SELECT twilio_retry_message(%L)', :'first')) AS "pending";
SELECT twilio_cancel_message(:'first') AS "first", twilio_cancel_message(:'first') AS "again";
SELECT m.status, m.updated_at > m.created_at AS "changed since", (SELECT string_agg(concat_ws('/', e.status, e.source), ' ' ORDER BY e.id)
    FROM twilio_message_events e WHERE e.message_id = m.id) AS events FROM twilio_messages m WHERE m.id = :'first';
SELECT attempt('UPDATE twilio_messages SET body = ''changed''');
SELECT attempt('DELETE FROM twilio_messages');
SELECT attempt('INSERT INTO twilio_message_events (user_id, message_id, status, source) SELECT user_id, id, ''x'', ''api'' FROM twilio_messages');

-- send_at: kept here, or given to Twilio where it can keep it
SELECT id AS later FROM twilio_send_sms('+15005550009', 'later', send_at => now() + interval '1 hour') \gset
SELECT due_at > now() + interval '59 minutes' AS "kept here", reason FROM twilio_queue WHERE message_id = :'later';
UPDATE twilio_settings SET messaging_service_sid = 'MG' || repeat('0', 32);
SELECT id AS planned FROM twilio_send_sms('+15005550009', 'planned', send_at => now() + interval '1 hour') \gset
SELECT due_at > now() AS "kept here" FROM twilio_queue WHERE message_id = :'planned';
UPDATE twilio_settings SET messaging_service_sid = NULL;

-- a definer function of an administrator sees and cancels all, whoever calls it; that of a user does not, though an administrator calls it
RESET ROLE;
CREATE FUNCTION seen(OUT tenants bigint, OUT waiting boolean, OUT figures boolean) LANGUAGE sql SECURITY DEFINER AS $$
    SELECT (SELECT count(*) FROM twilio_tenant_status), EXISTS (SELECT FROM twilio_queue), (SELECT in_flight IS NOT NULL FROM twilio_status)
$$;
CREATE FUNCTION stop(id uuid) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS 'SELECT twilio_cancel_message(stop.id)';
ALTER FUNCTION seen OWNER TO regress_twilio_admin;
ALTER FUNCTION stop OWNER TO regress_twilio_admin;
SELECT count(*) AS tenants FROM twilio_settings;
SET SESSION AUTHORIZATION regress_twilio_stranger;
SET twilio.user_id = '';
SELECT * FROM seen();
SELECT stop(:'later');
RESET SESSION AUTHORIZATION;
ALTER FUNCTION seen OWNER TO regress_twilio_app;
ALTER FUNCTION stop OWNER TO regress_twilio_app;
SET SESSION AUTHORIZATION regress_twilio_admin;
SET twilio.user_id = :'bob';
SELECT * FROM seen();
SELECT stop(:'planned');
RESET SESSION AUTHORIZATION;
DROP FUNCTION seen, stop;
SET ROLE regress_twilio_app;
SET twilio.user_id = :'alice';

-- an opt-out is written as the messages that it keeps back
SELECT number, attempt(format('INSERT INTO twilio_opt_outs (phone_number) VALUES (%L)', number))
FROM unnest(ARRAY['+1 500 555 0011', '15005550011', '(500) 555-0011', '', '+15005550011', 'whatsapp:+15005550011']) number;
SELECT attempt($$UPDATE twilio_opt_outs SET phone_number = phone_number || ' '$$);
SELECT status FROM twilio_send_sms('+15005550011', 'kept back');
SELECT status, error_code FROM twilio_send_sms('+15005550011', 'kept back', '+15005550012') AS "from whichever number";

-- the figures have every day, today too, where the server's clock skips a midnight
SET TimeZone = 'America/Santiago';
SELECT count(DISTINCT day) AS days, max(day) = (now() AT TIME ZONE 'Europe/Berlin')::date AS "to today",
    sum(messages) = (SELECT count(*) FROM twilio_messages) AS "all of them"
FROM twilio_messages_per_day(366, 'Europe/Berlin');
RESET TimeZone;

-- an upsert, as clients make it, of somebody who had opted in again
UPDATE twilio_opt_outs SET opted_in_at = now();
SELECT clock_timestamp() AS before \gset
INSERT INTO twilio_opt_outs (phone_number) SELECT phone_number FROM twilio_opt_outs
ON CONFLICT (user_id, phone_number) DO UPDATE SET phone_number = excluded.phone_number;
SELECT phone_number, opted_in_at, opted_out_at > :'before' AS "since now" FROM twilio_opt_outs;
UPDATE twilio_opt_outs SET opted_in_at = now();
SELECT DISTINCT s.status FROM unnest(ARRAY[NULL, '+15005550012']) sender, LATERAL twilio_send_sms('+15005550011', 'in again', sender) s;
RESET ROLE;
DELETE FROM twilio_opt_outs;
-- the figures are the caller's own for a superuser, too
SET twilio.user_id = :'bob';
SELECT sum(messages) FROM twilio_messages_per_day();
SET twilio.user_id = :'alice';
-- an order does not depend on what an app makes of the event; what comes in needs no account that may send
BEGIN;
CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER skip BEFORE INSERT ON twilio_message_events FOR EACH ROW EXECUTE FUNCTION skip();
INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body)
SELECT v.* FROM (VALUES (:'alice'::uuid, 'outbound', NULL, '+15005550009', 'out'),
                        ('00000000-0000-0000-0000-00000000000c', 'inbound', '+15005550009', '+15005550003', 'in')) v;
SELECT m.direction, m.body, (SELECT count(*) FROM twilio_private.outbox o WHERE o.ref = m.id) AS orders,
       (SELECT count(*) FROM twilio_message_events e WHERE e.message_id = m.id) AS events
FROM twilio_messages m WHERE m.body IN ('in', 'out') ORDER BY m.body;
ROLLBACK;
-- what goes with a message
DELETE FROM twilio_messages WHERE user_id = :'alice';
SELECT (SELECT count(*) FROM twilio_message_events) AS events, (SELECT count(*) FROM twilio_private.outbox) AS orders;
SELECT attempt('UPDATE twilio_message_events SET status = ''x''');
DELETE FROM twilio_settings;
SELECT twilio_arm();
