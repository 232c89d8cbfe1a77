-- From an order to its result, as the worker does it, without Twilio: claim, answer, record.
\set alice '00000000-0000-0000-0000-00000000000a'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;

-- Twilio's answers to all orders that are due, by outcome and changes to a plain one
CREATE FUNCTION answer(outcome text, changes jsonb DEFAULT '{}', code int DEFAULT NULL, only_kind text DEFAULT 'message', refused_with int DEFAULT 400)
RETURNS TABLE (kind text, method text, request text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    orders bigint[] := ARRAY(SELECT id FROM twilio_private.outbox o WHERE state = 'queued' AND o.kind = only_kind ORDER BY id);
BEGIN
    UPDATE twilio_private.outbox o SET state = 'sending', attempts = attempts + 1, attempted_at = clock_timestamp(), account_sid = s.account_sid
        FROM twilio_settings s WHERE s.user_id = o.user_id AND o.id = ANY (orders);
    RETURN QUERY SELECT o.kind, r.method, regexp_replace(r.path, '[^/]*/[^/]*/[^/]*/[^/]*/', '') || coalesce(E'\n' || r.content, '')
        FROM unnest(orders) WITH ORDINALITY n (id, n) JOIN twilio_private.outbox o ON o.id = n.id,
        LATERAL unnest(twilio_private.build_requests(o.kind, ARRAY[o])) r ORDER BY n.n;
    PERFORM twilio_private.record_orders(array_agg(o.id), array_agg(outcome), array_agg(CASE outcome WHEN 'sent' THEN 201 WHEN 'rejected' THEN refused_with END),
        array_agg(code), array_agg(CASE WHEN outcome <> 'sent' THEN 'Twilio''s words' END), NULL,
        array_agg((jsonb_build_object('sid', 'SM' || md5(o.ref::text), 'status', 'queued', 'num_segments', '1', 'num_media', '0',
                   'price', NULL, 'price_unit', 'USD', 'date_sent', NULL, 'error_code', NULL, 'from', '+15005550001') || changes)::text),
        array_agg(CASE outcome WHEN 'retry' THEN clock_timestamp() + interval '1 minute' END), array_agg(clock_timestamp()))
    FROM twilio_private.outbox o WHERE o.id = ANY (orders) AND o.state = 'sending';
END
$$;
CREATE VIEW state AS
    SELECT m.body, m.status, m.sid IS NOT NULL AS sid, m.error_code, m.error_message, m.price,
           (SELECT string_agg(concat_ws('/', o.kind, o.state, left(o.subject, 1)), ' ' ORDER BY o.id) FROM twilio_private.outbox o
            WHERE o.ref = m.id) AS orders,
           (SELECT string_agg(concat_ws('/', e.status, e.source), ' ' ORDER BY e.id) FROM twilio_message_events e WHERE e.message_id = m.id) AS events
    FROM twilio_messages m ORDER BY m.id;

-- sent
SELECT body FROM twilio_send_sms('+15005550009', 'sent & é', media_urls => '{https://example.com/a?b=c,https://example.com/d}');
SELECT * FROM answer('sent');
SELECT * FROM state;
SELECT count(*) AS rereads FROM twilio_private.outbox WHERE kind = 'message_reread';
SELECT kind FROM twilio_queue;
DELETE FROM twilio_messages;

-- rejected, retried, expired
SELECT body FROM twilio_send_sms('+15005550009', 'rejected');
SELECT request FROM answer('rejected', code => 21211);
SELECT body FROM twilio_send_sms('+15005550010', 'opted out');
SELECT request FROM answer('rejected', code => 21610);
SELECT phone_number, reason, opted_in_at FROM twilio_opt_outs;
SELECT status, error_code FROM twilio_send_sms('+15005550010', 'not sent');
-- of two that are refused together, only one says that its recipient has opted out
INSERT INTO twilio_messages (to_number, body) SELECT '+1500555001' || i, 'together' FROM generate_series(3, 4) i;
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE kind = 'message';
SELECT twilio_private.record_orders(array_agg(id ORDER BY id), '{rejected,rejected}', '{400,400}', '{21610,21211}', '{"opted out","no number"}',
                                    NULL, NULL, NULL, ARRAY[now(), now()]) FROM twilio_private.outbox WHERE kind = 'message';
SELECT m.to_number, m.error_code, o.reason FROM twilio_messages m LEFT JOIN twilio_opt_outs o ON o.phone_number = m.to_number
WHERE m.body = 'together' ORDER BY 1;
DELETE FROM twilio_opt_outs WHERE phone_number = '+15005550013';
DELETE FROM twilio_messages WHERE body = 'together';
SELECT body FROM twilio_send_sms('+15005550009', 'retried');
SELECT request FROM answer('retry');
SELECT body FROM twilio_send_sms('+15005550009', 'expired');
SELECT request FROM answer('expired');
SELECT * FROM state;

-- what came of a message is written by its key, however small the table is when the plans are made
VACUUM (FULL, ANALYZE) twilio_messages;
SELECT body FROM twilio_send_sms('+15005550012', 'opted out, too');
BEGIN;
SELECT pg_stat_get_xact_numscans('twilio_messages'::regclass) AS before \gset
SELECT count(*) FROM answer('rejected', code => 21610);
SELECT pg_stat_get_xact_numscans('twilio_messages'::regclass) - :before AS "scans of the table";
ROLLBACK;
DELETE FROM twilio_messages WHERE body = 'opted out, too';

-- a Messaging Service learns of an opt-out after its answer; START may have come before we do
UPDATE twilio_opt_outs SET opted_in_at = now();
INSERT INTO twilio_messages (to_number, body, messaging_service_sid)
SELECT '+155500000' || i, 'opted out at a service', 'MG' || repeat('0', 32) FROM generate_series(11, 12) i;
SELECT count(*) FROM answer('sent', '{"status": "accepted", "from": "", "messaging_service_sid": ""}');
SELECT from_number IS NULL AS "no sender yet", status FROM twilio_messages WHERE body = 'opted out at a service';
INSERT INTO twilio_opt_outs (phone_number, opted_in_at) VALUES ('+15550000012', now() + interval '1 second');
SELECT twilio_private.apply_messages(array_agg(user_id), array_agg(id), array_agg(jsonb_build_object('sid', sid, 'status', 'failed', 'error_code', 21610)), 'poll')
FROM twilio_messages WHERE body = 'opted out at a service';
SELECT phone_number, reason, opted_in_at IS NULL AS opted_out FROM twilio_opt_outs ORDER BY 1;
DELETE FROM twilio_opt_outs WHERE phone_number <> '+15005550010';
UPDATE twilio_opt_outs SET opted_in_at = NULL;
DELETE FROM twilio_messages WHERE body = 'opted out at a service';

-- a callback has brought the SID while somebody had locked the order: that it is canceled would not be true
SELECT body FROM twilio_send_sms('+15005550009', 'sent meanwhile');
UPDATE twilio_messages SET sid = 'SM' || repeat('c', 32), status = 'sent' WHERE body = 'sent meanwhile';
SELECT twilio_cancel_message(id) FROM twilio_messages WHERE body = 'sent meanwhile';
SELECT * FROM state WHERE body = 'sent meanwhile';
DELETE FROM twilio_messages WHERE body = 'sent meanwhile';

-- what is to be canceled at Twilio, which cannot be reached, is tried until its time
INSERT INTO twilio_messages (to_number, body, messaging_service_sid, send_at)
VALUES ('+15005550009', 'planned', 'MG' || repeat('0', 32), now() + interval '1 hour');
SELECT count(*) FROM answer('sent', '{"status": "scheduled"}');
SELECT id AS planned FROM twilio_messages WHERE body = 'planned' \gset
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
SELECT twilio_cancel_message(:'planned') AS "another's";
RESET ROLE;
SELECT kind FROM twilio_private.outbox WHERE kind = 'message_cancel';
SET twilio.user_id = :'alice';
SELECT twilio_cancel_message(:'planned'), twilio_cancel_message(:'planned') AS again;
SELECT kind FROM twilio_private.outbox WHERE kind = 'message_cancel';
-- … also what it has accepted and not planned yet, but not what it has sent
BEGIN;
DELETE FROM twilio_private.outbox WHERE kind = 'message_cancel';
UPDATE twilio_messages SET status = 'accepted' WHERE id = :'planned';
SELECT twilio_cancel_message(:'planned');
DELETE FROM twilio_private.outbox WHERE kind = 'message_cancel';
UPDATE twilio_messages SET send_at = now() WHERE id = :'planned';
SELECT twilio_cancel_message(:'planned') AS "its time has come";
UPDATE twilio_messages SET send_at = now() + interval '1 hour', status = 'queued' WHERE id = :'planned';
SELECT twilio_cancel_message(:'planned') AS "it is on its way";
ROLLBACK;
-- … or does not know it yet
SELECT method FROM answer('rejected', code => 20404, only_kind => 'message_cancel', refused_with => 404);
SELECT kind, due_at < now() + interval '2 minutes' AS soon FROM twilio_queue q JOIN twilio_messages m ON m.id = message_id WHERE m.body = 'planned';
SELECT method FROM answer('rejected', code => 30409, only_kind => 'message_cancel', refused_with => 409);
SELECT kind FROM twilio_queue q JOIN twilio_messages m ON m.id = message_id WHERE m.body = 'planned';
SELECT twilio_cancel_message(id) FROM twilio_messages WHERE body = 'planned';
SELECT method FROM answer('expired', only_kind => 'message_cancel');
SELECT kind, due_at < now() + interval '2 minutes' AS soon FROM twilio_queue q JOIN twilio_messages m ON m.id = message_id WHERE m.body = 'planned';
UPDATE twilio_messages SET send_at = now() WHERE body = 'planned';
SELECT method FROM answer('expired', only_kind => 'message_cancel');
SELECT kind FROM twilio_queue q JOIN twilio_messages m ON m.id = message_id WHERE m.body = 'planned';
DELETE FROM twilio_messages WHERE body = 'planned';

-- again after a failure; the old attempt's SID is remembered
SELECT r.status, r.error_code FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'rejected';
SELECT request FROM answer('sent', '{"status": "failed", "error_code": 30003}');
SELECT r.status, r.sid, cardinality(r.former_sids) AS former FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'rejected';
SELECT body, attempt(format('SELECT twilio_retry_message(%L)', id)) FROM twilio_messages WHERE status <> 'failed' OR error_code = 21610 ORDER BY id;
-- … as if it had not been tried before: not before its time, as long as any, and of the attempt before nothing but its SID is left
BEGIN;
UPDATE twilio_messages SET status = 'undelivered', sid = 'SM' || repeat('d', 32), error_code = 30003, error_message = 'Off', price = -1, price_unit = 'USD',
    send_at = now() + interval '1 hour', submitted_at = now(), sent_at = now(), delivered_at = now(), expires_at = now() WHERE body = 'rejected';
SELECT r.status, r.sid, r.error_code, r.error_message, r.price, r.price_unit, r.submitted_at, r.sent_at, r.delivered_at, r.expires_at - r.send_at AS "may wait for"
FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'rejected';
SELECT o.due_at = m.send_at AS "at its time", o.expires_at = m.expires_at AS "no longer than the message" FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref WHERE m.body = 'rejected';
UPDATE twilio_messages SET status = 'failed', send_at = NULL WHERE body = 'rejected';
SELECT r.expires_at - clock_timestamp() BETWEEN '9 hours 59 minutes' AND '10 hours' AS "as long as any"
FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'rejected';
UPDATE twilio_messages SET status = 'failed' WHERE body = 'rejected';
UPDATE twilio_settings SET sms_enabled = false;
SELECT attempt(format('SELECT twilio_retry_message(%L)', id)) FROM twilio_messages WHERE body = 'rejected';
ROLLBACK;
-- who is in again gets what was kept back
UPDATE twilio_opt_outs SET opted_in_at = now();
SELECT r.body, r.status FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'not sent';
SELECT substring(request FROM 'Body=[^&]*') FROM answer('sent') WHERE request LIKE '%not%20sent%';
DELETE FROM twilio_messages;
DELETE FROM twilio_opt_outs;

-- a lost answer: looked up, adopted one to one
CREATE FUNCTION looked_up(VARIADIC listed jsonb[]) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT a.request FROM answer('sent', jsonb_build_object('messages', to_jsonb(listed)), only_kind => 'message_look') a
$$;
CREATE FUNCTION listed(n int, body text, age interval DEFAULT '0') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('sid', 'SM' || lpad(n::text, 32, '0'), 'status', 'sent', 'body', body, 'direction', 'outbound-api', 'to', '+15005550009',
        'num_media', '0', 'date_created', to_char((now() - age) AT TIME ZONE 'UTC', 'Dy, DD Mon YYYY HH24:MI:SS +0000'))
$$;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', 'twin' FROM generate_series(1, 3);
SELECT request FROM answer('unknown');
SELECT * FROM state;
-- one is not ours, one is older than the attempt, one reads differently, one answers what somebody wrote, one has a picture,
-- one went to somebody else: two remain for three
SELECT count(*) FROM looked_up(listed(7, 'twin') || '{"to": "+15005550008"}', listed(9, 'twin') || '{"direction": "outbound-reply"}', listed(8, 'twin') || '{"num_media": "1"}', listed(1, 'twin'), listed(2, 'twin', '1 hour'), listed(3, 'other'), listed(4, 'twin'));
SELECT * FROM state;
-- the second look has no date, and finds nothing either: sent again
SELECT looked_up FROM looked_up(listed(1, 'twin'));
SELECT * FROM state;
SELECT request FROM answer('sent');
DELETE FROM twilio_messages;

-- … and what an attempt of another message has brought is not taken for this one
SELECT body FROM twilio_send_sms('+15005550009', 'failed and retried');
SELECT count(*) FROM answer('sent', '{"status": "failed"}');
SELECT r.status FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r;
SELECT count(*) FROM answer('sent', jsonb_build_object('sid', 'SM' || repeat('f', 32)));
SELECT body FROM twilio_send_sms('+15005550009', 'failed and retried');
SELECT count(*) FROM answer('unknown');
SELECT count(*) FROM looked_up((SELECT listed(6, body, '10 seconds') || jsonb_build_object('sid', former_sids[1]) FROM twilio_messages WHERE sid IS NOT NULL), listed(6, 'failed and retried'));
SELECT sid = 'SM' || lpad('6', 32, '0') AS own FROM twilio_messages ORDER BY id DESC LIMIT 1;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;

-- while one that reads the same is being sent, nothing is taken
SELECT id AS lost FROM twilio_send_sms('+15005550009', 'twin') \gset
SELECT count(*) FROM answer('unknown');
SELECT id AS sending FROM twilio_send_sms('+15005550009', 'twin') \gset
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE ref = :'sending';
SELECT count(*) FROM looked_up(listed(5, 'twin'));
SELECT status, sid, orders FROM state;
DELETE FROM twilio_messages WHERE id = :'sending';
SELECT count(*) FROM looked_up(listed(5, 'twin'));
SELECT status, sid FROM state;
DELETE FROM twilio_messages;

-- however many messages there are, a look reads those that are being sent
INSERT INTO twilio_messages (to_number, body) SELECT '+1202' || (1000000 + n), 'one of many' FROM generate_series(1, 3000) n;
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE id IN (SELECT id FROM twilio_private.outbox WHERE kind = 'message' ORDER BY id LIMIT 10);
ANALYZE twilio_messages, twilio_private.outbox;
BEGIN;
CREATE TEMP VIEW rows_read AS SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) AS n FROM pg_stat_xact_user_tables WHERE relid = 'twilio_messages'::regclass;
SELECT m AS wanted FROM twilio_messages m LIMIT 1 \gset
SELECT n AS before FROM rows_read \gset
SELECT twilio_private.twin_is_among(:'wanted', twilio_private.messages_under_way(ARRAY[:'alice'::uuid])), twilio_private.found_among(:'wanted', jsonb_build_array(listed(1, 'one of many') || '{"to": "+12021000001"}'), '-infinity') ->> 'sid' AS found;
SELECT n - :before <= 20 AS few FROM rows_read;
ROLLBACK;
DELETE FROM twilio_messages;

-- what is no list proves nothing; a trial account puts a sentence before the text
SELECT body FROM twilio_send_sms('+15005550009', 'tried');
SELECT count(*) FROM answer('unknown');
SELECT count(*) FROM answer('sent', only_kind => 'message_look');
SELECT o.subject, o.due_at > now() + interval '4 minutes' AS later FROM twilio_private.outbox o WHERE o.kind = 'message_look';
SELECT count(*) FROM looked_up(listed(6, 'Sent from your Twilio trial account - tried'));
SELECT status, sid FROM state;
DELETE FROM twilio_messages;
-- the next page leads to no other resource
SELECT uri, twilio_private.next_page('Messages', jsonb_build_object('next_page_uri', uri)) AS followed FROM (VALUES
    ('/2010-04-01/Accounts/AC' || repeat('a', 32) || '/Messages.json?Page=1'),
    ('/2010-04-01/Accounts/AC' || repeat('a', 32) || '/Calls.json?Page=1'), ('https://example.com/Messages.json?Page=1'), (NULL)) v (uri);

-- not sent again, where the user says so
UPDATE twilio_settings SET resend_unknown = false;
SELECT body FROM twilio_send_sms('+15005550009', 'unresolved');
SELECT request FROM answer('unknown');
SELECT count(*) FROM looked_up(VARIADIC '{}');
SELECT count(*) FROM looked_up(VARIADIC '{}');
SELECT * FROM state;
DELETE FROM twilio_messages;

-- … or where another account has taken the place of the one that was asked
UPDATE twilio_settings SET resend_unknown = true;
INSERT INTO twilio_messages (to_number, body) VALUES ('+15005550009', 'left behind'), ('+15005550009', 'left behind too');
SELECT count(*) FROM answer('unknown');
UPDATE twilio_settings SET account_sid = 'AC' || repeat('b', 32);
SELECT * FROM state;
SELECT count(*) AS orders FROM twilio_private.outbox WHERE kind LIKE 'message%' AND kind <> 'message_reread';
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
DELETE FROM twilio_messages;

-- a Messaging Service that encodes smartly lists look-alikes of quotes, dashes, dots and blanks; of all else it leaves the text as it is
INSERT INTO twilio_messages (to_number, body, messaging_service_sid)
SELECT '+15005550009', t, 'MG' || repeat('0', 32) FROM unnest(ARRAY['“Écoute” – I’m late…', 'Код: 1234', 'Code: 1234 – bye', '❤ done']) t;
SELECT count(*) FROM answer('unknown');
SELECT count(*) FROM looked_up(listed(6, '"Écoute" - I''m late...'), listed(7, ': 1234'), listed(8, 'Code: 1235 - bye'), listed(9, '? done'));
SELECT body, status, sid FROM state;
DELETE FROM twilio_messages;
-- sorted by their sending, one that was planned long ago comes before the wanted one
SELECT twilio_private.may_go_on(jsonb_build_array(listed(1, 'x'), listed(2, 'x', '1 day')), now() - interval '1 minute') AS "planned and sent now",
       twilio_private.may_go_on(jsonb_build_array(listed(1, 'x', '1 hour'), listed(2, 'x', '1 day')), now() - interval '1 minute') AS "all older";

-- a look that began before the message was sent again proves nothing about that
SELECT body FROM twilio_send_sms('+15005550009', 'again');
SELECT count(*) FROM answer('unknown');
SELECT count(*) FROM looked_up(VARIADIC '{}');
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = clock_timestamp() WHERE kind = 'message_look' RETURNING id AS look \gset
SELECT twilio_private.apply_callback(ARRAY[user_id], id, jsonb_build_object('MessageSid', 'SM' || repeat('7', 32), 'MessageStatus', 'failed'))
FROM twilio_messages;
SELECT r.status FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r;
SELECT count(*) FROM answer('unknown');
SELECT twilio_private.record_orders(ARRAY[:look], '{sent}', '{200}', NULL, NULL, NULL, ARRAY['{"messages": []}'], NULL, ARRAY[clock_timestamp()]);
SELECT body, status, sid, orders FROM state;
DELETE FROM twilio_messages;

-- a look was wrong: Twilio's own answer takes the SID back
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', 'twin' FROM generate_series(1, 2);
SELECT count(*) FROM answer('unknown');
SELECT id AS mine FROM twilio_messages ORDER BY id LIMIT 1 \gset
SELECT count(*) FROM looked_up(listed(5, 'twin'));
SELECT twilio_private.apply_answers(ARRAY[user_id], ARRAY[id], ARRAY[listed(5, 'twin')]) FROM twilio_messages WHERE id <> :'mine';
SELECT * FROM state;
DELETE FROM twilio_messages;
-- … but not one of an attempt before
SELECT body FROM twilio_send_sms('+15005550009', 'retried');
SELECT body FROM twilio_send_sms('+15005550009', 'adopted');
SELECT count(*) FROM answer('sent', '{"status": "failed"}');
SELECT r.body, r.status FROM twilio_messages m, LATERAL twilio_retry_message(m.id) r WHERE m.body = 'retried';
SELECT body FROM twilio_send_sms('+15005550009', 'right');
SELECT twilio_private.apply_answers(array_agg(r.user_id), array_agg(r.id), array_agg(jsonb_build_object('status', 'queued', 'sid', CASE r.body
    WHEN 'retried' THEN r.former_sids[1] ELSE (SELECT sid FROM twilio_messages WHERE body = 'adopted') END)))
FROM twilio_messages r WHERE r.body IN ('retried', 'right');
SELECT body, status, sid, orders FROM state;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;  -- re-readings of earlier messages see those of the next ten seconds, too

-- prices come late: few messages are fetched, many are listed
SELECT count(*) FROM generate_series(1, 30) i, twilio_send_sms('+15005550009', 'priced ' || i);
SELECT count(*) FROM answer('sent');
SELECT regexp_replace(request, '=[^&]*', '=…', 'g') FROM answer('sent', jsonb_build_object('messages', (
    SELECT jsonb_agg(jsonb_build_object('sid', sid, 'status', 'delivered', 'price', '-0.0079', 'price_unit', 'usd')) FROM twilio_messages WHERE body <> 'priced 7')),
    only_kind => 'message_reread');
SELECT status, price, price_unit, count(*) FROM twilio_messages GROUP BY 1, 2, 3 ORDER BY 1;
UPDATE twilio_private.outbox SET due_at = now();
SELECT count(*) FROM answer('sent', only_kind => 'message_reread');
SELECT method, regexp_replace(request, 'SM.*', 'SM…') FROM answer('sent', (SELECT jsonb_build_object('sid', sid, 'status', 'delivered', 'price', '-0.0158')
    FROM twilio_messages WHERE body = 'priced 7'), only_kind => 'message_fetch');
SELECT status, price, count(*) FROM twilio_messages GROUP BY 1, 2 ORDER BY 2;
-- nothing is missing any more, so nothing is asked
SELECT count(*) FROM answer('sent', only_kind => 'message_reread');
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;

-- one that comes a day late stands for those that are as late, be it of many messages or of one
SELECT count(*) FROM generate_series(1, 30) i, twilio_send_sms('+15005550009', 'late ' || i);
SELECT count(*) FROM answer('sent');
INSERT INTO twilio_private.outbox (user_id, kind, ref, subject) SELECT user_id, 'message_fetch', id, '0 0' FROM twilio_messages WHERE body = 'late 1';
UPDATE twilio_private.outbox SET subject = concat_ws(' ', 0, extract(epoch FROM now() - interval '25 hours')::bigint, CASE kind WHEN 'message_reread' THEN '4 page' END);
SELECT kind FROM answer('sent', '{"messages": []}', only_kind => 'message_reread');
SELECT kind FROM answer('sent', only_kind => 'message_fetch');
SELECT kind, count(*), min(left(subject, 1)) AS step, min(round(extract(epoch FROM due_at - now()) / 3600)) AS hours
FROM twilio_private.outbox WHERE subject IS NOT NULL GROUP BY 1 ORDER BY 1;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;

-- what Twilio sends later is listed later; what no list has shown as sent after a day is fetched
SELECT count(*) FROM generate_series(1, 60) i, twilio_send_sms('+15005550009', 'queued ' || i);
SELECT count(*) FROM answer('sent');
SET session_replication_role = replica;
UPDATE twilio_message_events SET id = (left(twilio_private.first_uuid_at(now() - interval '2 hours')::text, 13) || substr(id::text, 14))::uuid;
RESET session_replication_role;
UPDATE twilio_private.outbox SET subject = concat_ws(' ', 4, extract(epoch FROM date_bin('10 seconds', now() - interval '2 hours', 'epoch'))::bigint, 1);
CREATE FUNCTION reread(first int, last int) RETURNS TABLE (step text, span text, asked text, waiting bigint) LANGUAGE sql AS $$
    SELECT split_part(o.subject, ' ', 1), split_part(o.subject, ' ', 3),
           (SELECT left(a.request, 14) FROM answer('sent', jsonb_build_object('messages', coalesce((
               SELECT jsonb_agg(jsonb_build_object('sid', sid, 'status', 'sent', 'date_sent', to_char((now() AT TIME ZONE 'UTC') - interval '2 hours', 'Dy, DD Mon YYYY HH24:MI:SS +0000')))
               FROM twilio_messages WHERE substr(body, 8)::int BETWEEN first AND last), '[]')), only_kind => 'message_reread') a),
           (SELECT count(*) FROM twilio_messages WHERE status = 'queued')
    FROM twilio_private.outbox o WHERE o.kind = 'message_reread'
$$;
SELECT * FROM reread(1, 10);
SELECT * FROM reread(11, 35);
SELECT * FROM reread(1, 0);
UPDATE twilio_private.outbox SET due_at = now();
SELECT count(*), count(DISTINCT ref) FROM twilio_private.outbox WHERE kind = 'message_fetch';
SELECT split_part(subject, ' ', 1) AS step, split_part(subject, ' ', 3) AS span FROM twilio_private.outbox WHERE kind = 'message_reread';
-- … and so is, by a clock that is a minute ahead of Twilio's, what callbacks have said to be sent and no list shows
DELETE FROM twilio_private.outbox WHERE kind = 'message_fetch';
UPDATE twilio_messages SET sent_at = now() - interval '2 hours';
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now(), ref = gen_random_uuid(), subject = regexp_replace(subject, '^3', '2');
SELECT twilio_private.record_orders(ARRAY[id], '{sent}', '{200}', NULL, NULL, NULL, ARRAY['{"messages": []}'], NULL,
                                    ARRAY[now()], ARRAY[now() - ahead])
FROM twilio_private.outbox, (VALUES (interval '1 minute')) v (ahead);
SELECT kind, count(*), count(DISTINCT ref) FROM twilio_private.outbox GROUP BY 1 ORDER BY 1;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;
DROP FUNCTION reread(int, int);

-- what must not wait at Twilio for ten hours after its time waits here
INSERT INTO twilio_messages (to_number, body, messaging_service_sid, send_at, expires_at)
SELECT '+15005550009', late, 'MG' || repeat('0', 32), now() + interval '1 hour', now() + interval '1 hour' + late::interval
FROM unnest(ARRAY['5 minutes', '11 hours']) late;
SELECT m.body, o.due_at > now() + interval '59 minutes' AS "kept here"
FROM twilio_messages m JOIN twilio_private.outbox o ON o.ref = m.id ORDER BY m.id;
DELETE FROM twilio_messages;

-- what Twilio refuses to plan so shortly before its time waits here, but not what it will refuse then, too
INSERT INTO twilio_messages (to_number, body, messaging_service_sid, send_at)
VALUES ('+15005550009', 'too close', 'MG' || repeat('0', 32), now() + interval '16 minutes');
SELECT count(*) FROM answer('rejected', code => 35118);
INSERT INTO twilio_messages (to_number, body, messaging_service_sid, send_at)
VALUES ('+15005550008', 'no number', 'MG' || repeat('0', 32), now() + interval '16 minutes');
UPDATE twilio_private.outbox o SET state = 'unknown', attempted_at = now() FROM twilio_messages m WHERE m.id = o.ref AND m.body = 'too close';
SELECT count(*) FROM answer('rejected', code => 21211);
SELECT body, status, error_code FROM state;
DELETE FROM twilio_messages;

-- sent again after a callback that was faster than the answer, which is lost: one order is left
SELECT id AS early FROM twilio_send_sms('+15005550009', 'early callback') \gset
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now(), account_sid = 'AC' || repeat('a', 32);
SELECT twilio_private.apply_callback(ARRAY[:'alice'::uuid], :'early',
                                     jsonb_build_object('MessageSid', 'SM' || repeat('e', 32), 'MessageStatus', 'failed', 'ErrorCode', '30003'));
SELECT status FROM twilio_retry_message(:'early');
SELECT status, orders FROM state;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;

-- what was to be asked of an account goes with it; what waits to be sent does not
SELECT count(*) FROM generate_series(1, 2) i, twilio_send_sms('+15005550009', 'left ' || i);
SELECT count(*) FROM answer('sent');
SELECT body FROM twilio_send_sms('+15005550009', 'waiting');
SELECT kind, count(*) FROM twilio_private.outbox GROUP BY 1 ORDER BY 1;
DELETE FROM twilio_settings;
SELECT kind, count(*) FROM twilio_private.outbox GROUP BY 1 ORDER BY 1;
DELETE FROM twilio_messages;
DELETE FROM twilio_private.outbox;
DROP VIEW state;
DROP FUNCTION answer(text, jsonb, int, text, int), looked_up(jsonb[]), listed(int, text, interval);
SELECT twilio_arm();
