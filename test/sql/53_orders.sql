-- What the engine does with orders: who may claim them, what ends them and what leaves them alone. As the worker does it,
-- without Twilio, and in transactions that are rolled back, so that the worker of this database does not see them.
\set alice '00000000-0000-0000-0000-00000000000a'
SELECT twilio_disarm();
SET twilio.user_id = :'alice';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('AC' || repeat('a', 32), repeat('a', 32), '+15005550001');
SELECT count(twilio_private.record_verification(user_id, true, 'x', 'active', 'Full', 'ok', now())::text) FROM twilio_settings;
CREATE VIEW state AS
    SELECT m.body, m.status, (SELECT string_agg(concat_ws('/', o.kind, o.state, left(o.subject, 1)), ' ' ORDER BY o.id)
                              FROM twilio_private.outbox o WHERE o.ref = m.id) AS orders
    FROM twilio_messages m ORDER BY m.id;

-- while the database is disarmed nothing is claimed
BEGIN;
SELECT body FROM twilio_send_sms('+15005550009', 'waits');
SELECT (SELECT count(*) FROM twilio_private.waiting_tenants()) AS listed,
       (SELECT count(*) FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{1}', '{-infinity}')) AS claimed;
ROLLBACK;

-- a claim takes what is queued, due and not too late, for the API key where there is one, but not for who has opted out since;
-- and who is listed for it
BEGIN;
INSERT INTO twilio_messages (to_number, body, expires_at)
SELECT n, b, now() + interval '1 hour'
FROM (VALUES ('due', '+15005550009'), ('being sent', '+15005550009'), ('later', '+15005550009'), ('too late', '+15005550009'),
             ('opted out', '+15005550010'), ('in again', '+15005550011')) v (b, n);
INSERT INTO twilio_opt_outs (phone_number, opted_in_at) VALUES ('+15005550010', NULL), ('+15005550011', now());
UPDATE twilio_private.outbox o
SET state = CASE m.body WHEN 'being sent' THEN 'sending' ELSE 'queued' END, attempted_at = now(),
    due_at = CASE m.body WHEN 'later' THEN now() + interval '1 hour' ELSE o.due_at END,
    expires_at = CASE m.body WHEN 'too late' THEN now() ELSE o.expires_at END
FROM twilio_messages m WHERE m.id = o.ref;
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32);
SELECT twilio_arm();
SELECT substring(content FROM 'Body=[^&]*') AS text, attempts, credential_kind, left(username, 2) AS username, repeatable
FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{9}', '{-infinity}');
SELECT m.body, m.status, o.state, o.attempts FROM twilio_messages m LEFT JOIN twilio_private.outbox o ON o.ref = m.id
ORDER BY m.id;
SELECT count(*) AS listed FROM twilio_private.waiting_tenants();
SAVEPOINT listed;
UPDATE twilio_settings SET is_active = false;
SELECT count(*) AS "while it is switched off" FROM twilio_private.waiting_tenants();
ROLLBACK TO listed;
SELECT twilio_private.open_breaker(:'alice', 20003, 'Authenticate');
SELECT count(*) AS "while Twilio refuses it" FROM twilio_private.waiting_tenants();
ROLLBACK TO listed;
DELETE FROM twilio_private.credential;
SELECT count(*) AS "without a token" FROM twilio_private.waiting_tenants();
ROLLBACK;

-- where one is too late, the claim ends all that are, behind which others would wait
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', 'too late' FROM generate_series(1, 5);
UPDATE twilio_private.outbox SET expires_at = now() WHERE kind = 'message';
SELECT twilio_arm();
SELECT count(*) AS claimed FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{1}', '{-infinity}');
SELECT status, count(*) FROM twilio_messages GROUP BY 1;
ROLLBACK;

-- the account is another one when the request has been built: the order is given back, not sent with that one's token
BEGIN;
CREATE FUNCTION twilio_private.switching_requests(orders twilio_private.outbox[]) RETURNS SETOF twilio_private.order_request LANGUAGE sql AS $$
    UPDATE public.twilio_settings SET account_sid = 'AC' || repeat('b', 32) WHERE user_id = (orders[1]).user_id;
    SELECT id, 'GET', 'api.twilio.com', '/', NULL FROM unnest(orders);
$$;
INSERT INTO twilio_private.order_kind VALUES ('switching', true, 'switching_requests', 'message_results');
INSERT INTO twilio_private.outbox (user_id, kind, ref) VALUES (:'alice', 'switching', gen_random_uuid());
SELECT twilio_arm();
SELECT path, username FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{1}', '{-infinity}');
SELECT state, attempts, right(account_sid, 1) AS account FROM twilio_private.outbox WHERE kind = 'switching';
ROLLBACK;

-- what somebody has locked waits, which is no attempt; what has nothing to send is dropped; the others go. A locked table is
-- another thing
BEGIN;
CREATE FUNCTION twilio_private.stumbling_requests(orders twilio_private.outbox[]) RETURNS SETOF twilio_private.order_request LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM unnest(orders) WHERE subject = 'locked') THEN
        RAISE lock_not_available;
    END IF;
    RETURN QUERY SELECT id, 'GET', 'api.twilio.com', '/', NULL FROM unnest(orders) WHERE subject <> 'nothing to send';
END
$$;
INSERT INTO twilio_private.order_kind VALUES ('stumbling', true, 'stumbling_requests', 'message_results');
INSERT INTO twilio_private.outbox (user_id, kind, ref, subject)
SELECT :'alice', 'stumbling', gen_random_uuid(), s FROM unnest(ARRAY['locked', 'free', 'nothing to send']) s;
SELECT twilio_arm();
SELECT count(*) FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{9}', '{-infinity}');
SELECT subject, state, attempts, due_at > now() AS later FROM twilio_private.outbox WHERE kind = 'stumbling' ORDER BY id;
INSERT INTO twilio_private.outbox (user_id, kind, ref, subject) SELECT :'alice', 'stumbling', gen_random_uuid(), 'locked' FROM generate_series(1, 4);
SELECT attempt(format('SELECT twilio_private.claim_orders(ARRAY[%L::uuid], ''{9}'', ''{-infinity}'')', :'alice'));
ROLLBACK;

-- an order of a kind that is not known waits: another version of the extension may have left it
BEGIN;
INSERT INTO twilio_private.outbox (user_id, kind, ref) VALUES (:'alice', 'from tomorrow', gen_random_uuid());
SELECT twilio_arm();
SELECT count(*) FROM twilio_private.claim_orders(ARRAY[:'alice'::uuid], '{9}', '{-infinity}');
SELECT kind, state, due_at > now() AS later FROM twilio_private.outbox;
ROLLBACK;

-- what comes of an attempt: it waits, no longer than it may; is in doubt; or its account is refused, which counts as none
BEGIN;
INSERT INTO twilio_messages (to_number, body, expires_at)
SELECT '+15005550009', b, now() + interval '1 hour' FROM unnest(ARRAY['retry', 'unknown', 'account']) b;
UPDATE twilio_private.outbox SET state = 'sending', attempts = 3, attempted_at = now() WHERE kind = 'message';
SELECT twilio_private.record_orders(array_agg(o.id), array_agg(m.body), NULL, array_agg(CASE m.body WHEN 'account' THEN 20003 END), array_agg('why'::text),
                                    NULL, NULL, array_agg(now() + interval '1 day'), array_agg(now()))
FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref WHERE o.kind = 'message';
SELECT m.body, o.state, o.attempts, o.due_at = o.expires_at AS "due when it expires", o.due_at = 'infinity' AS "not due", o.note
FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref WHERE o.kind = 'message' ORDER BY m.id;
SELECT error_code, message FROM twilio_private.breaker;
ROLLBACK;
-- … but a refusal of what has been replaced, or verified, since says nothing
BEGIN;
SELECT count(*) FROM twilio_send_sms('+15005550009', 'stale');
CREATE FUNCTION refused(OUT breakers bigint) LANGUAGE sql AS $$
    UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() - interval '1 minute';
    SELECT twilio_private.record_orders(array_agg(id), '{account}', '{401}', '{20003}', '{why}', NULL, NULL, NULL, ARRAY[now()]) FROM twilio_private.outbox;
    SELECT count(*) FROM twilio_private.breaker;
$$;
UPDATE twilio_settings SET auth_token = repeat('n', 32);
SELECT breakers AS replaced FROM refused();
UPDATE twilio_private.credential SET updated_at = now() - interval '1 hour';
SELECT twilio_private.record_verification(:'alice', true, 'x', 'active', 'Full', 'ok', now());
SELECT breakers AS verified FROM refused();
SELECT twilio_private.record_verification(:'alice', true, 'x', 'active', 'Full', 'ok', now() - interval '1 hour');
SELECT breakers AS "neither" FROM refused();
ROLLBACK;

-- what came of it cannot be written down: what Twilio has not taken waits, what it may have taken is not queued again
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', unnest(ARRAY['sent', 'unknown', 'retry', 'rejected']);
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE kind = 'message';
SELECT m.body, twilio_private.set_aside(o.id, m.body, 'why') FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref WHERE o.kind = 'message';
SELECT m.body, o.state, o.due_at = 'infinity' AS "in doubt", o.note FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref
WHERE o.kind = 'message' ORDER BY m.id;
ROLLBACK;

-- after a crash what was under way is in doubt, if it may not simply be repeated, and the network may still hold it; after a
-- promotion so is what is due
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', b FROM unnest(ARRAY['under way', 'queued']) b;
INSERT INTO twilio_private.outbox (user_id, kind, ref) SELECT user_id, 'message_fetch', id FROM twilio_messages WHERE body = 'under way';
UPDATE twilio_private.outbox o SET state = 'sending', attempted_at = now() FROM twilio_messages m WHERE m.id = o.ref AND m.body = 'under way';
SELECT twilio_private.recover_orders();
SELECT body, status, orders FROM state;
SELECT min(due_at) FILTER (WHERE subject = '1') > min(due_at) FILTER (WHERE subject = '0') + interval '25 seconds' AS "when the network has let go of it"
FROM twilio_private.outbox WHERE kind = 'message_look';
UPDATE twilio_private.arming SET timeline = timeline - 1;
SELECT twilio_private.recover_orders();
SELECT body, status, orders FROM state;
ROLLBACK;

-- re-reads hold up nothing: one goes, the others wait in a line without being due; whatever ends has one follow, and where a
-- line has come to a halt, the safety poll does
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', 'read ' || i FROM generate_series(1, 7) i;
UPDATE twilio_messages SET status = 'sent', sid = 'SM' || md5(body) WHERE body <> 'read 3';
UPDATE twilio_private.outbox SET kind = 'message_fetch', due_at = now() - interval '1 day' + id * interval '1 us';
INSERT INTO twilio_messages (to_number, body) VALUES ('+15005550009', 'behind them');
CREATE VIEW line AS SELECT m.body, o.state, o.attempts, o.due_at < 'infinity' AS due FROM twilio_private.outbox o JOIN twilio_messages m ON m.id = o.ref ORDER BY o.id;
CREATE FUNCTION claim(most int) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT m.body FROM twilio_private.claim_orders(ARRAY['00000000-0000-0000-0000-00000000000a'::uuid], ARRAY[most], '{-infinity}') c
    JOIN twilio_private.outbox o ON o.id = c.order_id JOIN twilio_messages m ON m.id = o.ref
$$;
SELECT twilio_arm();
SELECT claim(2);
TABLE line;
SELECT claim(9);
SELECT claim(9);
SELECT twilio_private.record_orders(ARRAY[id], '{retry}', '{429}', NULL, '{later}', NULL, NULL, ARRAY[now() + interval '1 hour'], ARRAY[now()])
FROM twilio_private.outbox WHERE state = 'sending' AND kind = 'message_fetch';
TABLE line;
SELECT twilio_private.let_follow(ARRAY[:'alice'::uuid]);
SELECT claim(9);
SELECT twilio_private.record_orders(ARRAY[id], '{rejected}', '{404}', '{20404}', '{gone}', NULL, NULL, NULL, ARRAY[now()])
FROM twilio_private.outbox WHERE state = 'sending' AND kind = 'message_fetch';
SELECT claim(9) AS "had nothing to send";
SELECT claim(9);
DELETE FROM twilio_messages WHERE body = 'read 4';
SELECT claim(9) AS "at a halt";
TABLE line;
SELECT twilio_private.finish_expired();
SELECT claim(9);
ROLLBACK;

-- in a copy that is armed it is the same, also where it was disarmed before
BEGIN;
INSERT INTO twilio_messages (to_number, body) SELECT '+15005550009', b FROM unnest(ARRAY['under way', 'queued']) b;
UPDATE twilio_private.outbox o SET state = 'sending', attempted_at = now() FROM twilio_messages m WHERE m.id = o.ref AND m.body = 'under way';
UPDATE twilio_private.arming SET system_identifier = system_identifier - 1;
SELECT twilio_disarm();
SELECT twilio_arm();
SELECT body, status, orders FROM state;
ROLLBACK;

-- an order that is not being sent is not what a worker has: whatever it says leaves it as it is
BEGIN;
SELECT id AS message FROM twilio_send_sms('+15005550009', 'queued') \gset
SELECT id AS "order" FROM twilio_private.outbox WHERE ref = :'message' \gset
CREATE TEMP TABLE before AS SELECT * FROM twilio_private.outbox WHERE id = :order;
SELECT twilio_private.record_orders(ARRAY[:order::bigint], '{retry}', '{429}', NULL, '{later}', NULL, NULL, ARRAY[now() + interval '1 hour'], ARRAY[now()]),
       twilio_private.set_aside(:order, 'retry', 'why'), twilio_private.release_orders(ARRAY[:order::bigint]), twilio_private.requeue_order(:order, 'infinity');
SELECT twilio_private.record_orders(ARRAY[:order::bigint], '{rejected}', '{400}', '{21211}', '{no}', NULL, NULL, NULL, ARRAY[now()]);
SELECT count(*) AS changed FROM (TABLE before EXCEPT SELECT * FROM twilio_private.outbox) o;
-- … and one that is being sent ends with what comes of it, not with a callback; what a callback has brought is not sent
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE id = :order;
SELECT twilio_private.end_doubt(:'alice', :'message');
SELECT state FROM twilio_private.outbox WHERE id = :order;
UPDATE twilio_messages SET sid = 'SM' || repeat('1', 32), status = 'pending' WHERE id = :'message';
SELECT cardinality(twilio_private.build_requests('message', array_agg(o))) AS requests FROM twilio_private.outbox o WHERE id = :order;
ROLLBACK;

-- however many orders are queued again or left in doubt at once, each is read a few times
BEGIN;
CREATE TEMP VIEW rows_read AS SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) AS n FROM pg_stat_xact_user_tables WHERE relid = 'twilio_private.outbox'::regclass;
CREATE FUNCTION end_all(outcome text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    before CONSTANT bigint := (SELECT n FROM rows_read);
BEGIN
    PERFORM twilio_private.record_orders(array_agg(o.id), array_agg(outcome), array_agg(503), array_agg(NULL::int), array_agg('later'::text), NULL, NULL,
                                         array_agg(now()), array_agg(now()))
    FROM twilio_private.outbox o WHERE o.state = 'sending';
    RETURN (SELECT n - before <= 20 * 300 FROM rows_read);
END
$$;
SET LOCAL plan_cache_mode = force_generic_plan;
INSERT INTO twilio_messages (to_number, body) SELECT '+1202' || (1000000 + n), 'one of many' FROM generate_series(1, 300) n;
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE kind = 'message';
SELECT end_all('retry') AS few;
SELECT state, count(*) FROM twilio_private.outbox GROUP BY 1;
UPDATE twilio_private.outbox SET state = 'sending', attempted_at = now() WHERE kind = 'message';
SELECT end_all('unknown') AS few;
SELECT kind, state, count(*) FROM twilio_private.outbox GROUP BY 1, 2 ORDER BY 1;
ROLLBACK;

DROP VIEW state;
DELETE FROM twilio_settings;
SELECT twilio_arm();
