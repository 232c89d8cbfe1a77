-- Orders are claimed as they are due, so thousands of slow ones that are overdue would hold up what is due after them.
-- Those of a kind that gives way go one at a time: the others that are due wait in a line of their user's, and each that
-- ends has the next one due, which then waits for its turn behind what was due before.

CREATE FUNCTION twilio_private.give_way(claimed twilio_private.outbox[], requests twilio_private.order_request[]) RETURNS twilio_private.order_request[]
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off -- it would sort all that is due
AS $$
DECLARE
    kinds CONSTANT text[] := ARRAY(SELECT k.kind FROM twilio_private.order_kind k WHERE k.gives_way);
    due_until CONSTANT timestamptz := clock_timestamp();
    tenant uuid;
    ids bigint[];
    built bigint[];
    one_is_under_way boolean;
    due bigint[];
    line bigint[] := '{}';
BEGIN
    FOR tenant, ids, built IN
        SELECT c.user_id, array_agg(c.id), array_agg(c.id ORDER BY c.due_at, c.id) FILTER (WHERE r.order_id IS NOT NULL)
        FROM unnest(claimed) c LEFT JOIN unnest(requests) r ON r.order_id = c.id GROUP BY c.user_id
    LOOP
        -- As messages_under_way(): what is under way is among the first.
        SELECT coalesce(bool_or(o.state = 'sending' AND o.id <> ALL (ids)), false), array_agg(o.id) FILTER (WHERE o.state = 'queued')
        INTO one_is_under_way, due
        FROM (SELECT q.id, q.kind, q.state FROM twilio_private.outbox q WHERE q.user_id = tenant AND q.due_at <= due_until
              ORDER BY q.due_at, q.id LIMIT 1000 + twilio_private.most_claimed()) o
        WHERE o.kind = ANY (kinds);
        line := line || built[CASE WHEN one_is_under_way THEN 1 ELSE 2 END :] || due;
    END LOOP;
    UPDATE twilio_private.outbox o
    SET state = 'queued', due_at = 'infinity', attempts = o.attempts - (o.state = 'sending')::int
    WHERE o.ctid = ANY (ARRAY(
        SELECT l.ctid FROM unnest(line) i
        CROSS JOIN LATERAL (SELECT q.ctid FROM twilio_private.outbox q WHERE q.id = i FOR UPDATE SKIP LOCKED) l));
    RETURN ARRAY(SELECT r FROM unnest(requests) r WHERE r.order_id <> ALL (line));
END
$$;
COMMENT ON FUNCTION twilio_private.give_way(twilio_private.outbox[], twilio_private.order_request[]) IS
    'Those of these requests of claimed orders, of a kind that gives way, that go now. The others, and what else of such kinds their
users have that is due, wait in a line: queued, and due at infinity.';
REVOKE ALL ON FUNCTION twilio_private.give_way(twilio_private.outbox[], twilio_private.order_request[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.let_follow(user_ids uuid[]) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off
SET enable_bitmapscan = off
AS $$
BEGIN
    UPDATE twilio_private.outbox o SET due_at = clock_timestamp()
    WHERE o.ctid = ANY (ARRAY(
        SELECT next.ctid
        FROM (SELECT u.user_id, count(*) AS ended FROM unnest(user_ids) AS u (user_id) GROUP BY u.user_id) u
        CROSS JOIN LATERAL (SELECT q.ctid FROM twilio_private.outbox q
                            WHERE q.user_id = u.user_id AND q.due_at = 'infinity' AND q.state = 'queued'
                            ORDER BY q.id LIMIT u.ended FOR UPDATE SKIP LOCKED) next));
    IF FOUND THEN
        PERFORM twilio_private.wake_worker();
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.let_follow(uuid[]) IS
    'Of each of these users, one for each time that it is named, the next order that give_way() has put in line is due.';
REVOKE ALL ON FUNCTION twilio_private.let_follow(uuid[]) FROM PUBLIC;
