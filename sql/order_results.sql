-- How orders end: what came of each is told to its kind, and the row leaves the outbox, is queued again, or stays in doubt.

CREATE FUNCTION twilio_private.deliver_results(kind text, results twilio_private.order_result[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    taker text;
    gives_way boolean;
BEGIN
    SELECT k.result_function, k.gives_way INTO taker, gives_way FROM twilio_private.order_kind k WHERE k.kind = deliver_results.kind;
    PERFORM twilio_private.results_to(taker, results);
    IF gives_way THEN
        PERFORM twilio_private.let_follow(ARRAY(SELECT r.user_id FROM unnest(results) r WHERE r.outcome <> 'retry'));
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.deliver_results(text, twilio_private.order_result[]) IS
    'Calls the result function of a kind, and lets follow what waits for orders that have ended.';
REVOKE ALL ON FUNCTION twilio_private.deliver_results(text, twilio_private.order_result[]) FROM PUBLIC;

-- ---- called by the worker -------------------------------------------------------------------------------------------

-- An app may have locked a message's row, or its trigger may raise: then its order waits, and the others go on.
CREATE FUNCTION twilio_private.write_end(step text, order_ids bigint[], reason text, waiting_state text, waiting_due_at timestamptz)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
    one bigint;
    locked int := 0;
BEGIN
    BEGIN
        EXECUTE format('SELECT twilio_private.%I($1, $2)', step) USING order_ids, reason;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    FOREACH one IN ARRAY order_ids LOOP
        BEGIN
            EXECUTE format('SELECT twilio_private.%I($1, $2)', step) USING ARRAY[one], reason;
        EXCEPTION WHEN OTHERS THEN
            locked := locked + (SQLSTATE IN ('55P03', '40P01'))::int;
            IF locked > 3 THEN
                RAISE; -- the whole table is
            END IF;
            RAISE LOG 'twilio: the end of order % cannot be written down (%): %', one, step, SQLERRM;
            UPDATE twilio_private.outbox o
            SET state = waiting_state, due_at = waiting_due_at, note = SQLERRM WHERE o.id = one;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.write_end(text, bigint[], text, text, timestamptz) IS
    'Ends orders by a function of their ids and a reason; where that fails, one by one, and what still fails waits so.';
REVOKE ALL ON FUNCTION twilio_private.write_end(text, bigint[], text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.end_expired(order_ids bigint[], reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
    results twilio_private.order_result[];
BEGIN
    FOR kind, results IN
        WITH gone AS (
            DELETE FROM twilio_private.outbox o WHERE o.ctid = ANY (twilio_private.places(order_ids)) RETURNING o
        )
        SELECT (g.o).kind, array_agg(twilio_private.result_without_answer(g.o, 'expired', coalesce(reason, (g.o).note), clock_timestamp()))
        FROM gone g GROUP BY (g.o).kind
    LOOP
        PERFORM twilio_private.deliver_results(kind, results);
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.end_expired(bigint[], text) IS 'Ends these orders as expired, all or none.';
REVOKE ALL ON FUNCTION twilio_private.end_expired(bigint[], text) FROM PUBLIC;

CREATE FUNCTION twilio_private.expire_orders(order_ids bigint[]) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    SELECT twilio_private.write_end('end_expired', order_ids, NULL, 'queued', clock_timestamp() + interval '1 minute')
$$;
COMMENT ON FUNCTION twilio_private.expire_orders(bigint[]) IS 'Ends these orders as expired.';
REVOKE ALL ON FUNCTION twilio_private.expire_orders(bigint[]) FROM PUBLIC;

-- Whoever may send learns of it in claim_orders; this finds the orders of those who may not.
CREATE FUNCTION twilio_private.finish_expired() RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    SELECT twilio_private.expire_orders(ARRAY(
        SELECT o.id FROM twilio_private.outbox o
        WHERE o.state = 'queued' AND o.expires_at <= clock_timestamp() AND o.due_at <= clock_timestamp()
        LIMIT 1000 FOR UPDATE SKIP LOCKED));
    SELECT twilio_private.doubt_orders(ARRAY(
        SELECT o.id FROM twilio_private.outbox o
        WHERE o.state = 'sending' AND o.due_at = 'infinity'
        LIMIT 100 FOR UPDATE SKIP LOCKED), NULL);
    -- Who deletes a message deletes its order, which then lets nobody follow.
    SELECT twilio_private.let_follow(ARRAY(
        SELECT DISTINCT o.user_id FROM twilio_private.outbox o WHERE o.state = 'queued' AND o.due_at = 'infinity'))
$$;
COMMENT ON FUNCTION twilio_private.finish_expired() IS
    'Ends orders that have waited beyond expires_at, has those looked up that set_aside() has left in doubt, and moves lines on that
have come to a halt.';
REVOKE ALL ON FUNCTION twilio_private.finish_expired() FROM PUBLIC;

CREATE FUNCTION twilio_private.write_results(
    order_ids bigint[], outcomes text[], http_statuses integer[], error_codes integer[], error_messages text[], sids text[],
    bodies text[], retry_ats timestamptz[], ats timestamptz[], twilio_ats timestamptz[])
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
    results twilio_private.order_result[];
    places tid[];
    done tid[];
BEGIN
    FOR kind, results, places IN
        SELECT o.kind, array_agg(ROW(o.id, o.user_id, o.ref, o.subject, CASE r.outcome WHEN 'account' THEN 'retry' ELSE r.outcome END,
                                     r.http_status, r.error_code, r.error_message, r.sid, r.body::jsonb, o.attempts, o.attempted_at,
                                     r.at, r.retry_at, r.twilio_at)::twilio_private.order_result),
               array_agg(o.ctid) FILTER (WHERE r.outcome IN ('sent', 'rejected', 'expired', 'poisoned'))
        FROM unnest(order_ids, outcomes, http_statuses, error_codes, error_messages, sids, bodies, retry_ats, ats, twilio_ats)
             AS r (order_id, outcome, http_status, error_code, error_message, sid, body, retry_at, at, twilio_at)
        -- OFFSET 0 fixes the order of the join: the other way round, it reads the whole queue.
        CROSS JOIN LATERAL (SELECT o.*, o.ctid FROM twilio_private.outbox o WHERE o.id = r.order_id OFFSET 0) o
        GROUP BY o.kind
    LOOP
        PERFORM twilio_private.deliver_results(kind, results);
        done := done || places;
    END LOOP;

    IF 'account' = ANY (outcomes) THEN
        PERFORM twilio_private.open_breaker(t.user_id, t.error_code, t.error_message)
        FROM (SELECT DISTINCT ON (o.user_id) o.user_id, r.error_code, r.error_message
              FROM unnest(order_ids, outcomes, error_codes, error_messages) AS r (order_id, outcome, error_code, error_message)
              JOIN twilio_private.outbox o ON o.id = r.order_id
              -- A refusal of what has been replaced or verified meanwhile says nothing: the order just goes again.
              WHERE r.outcome = 'account'
                AND NOT EXISTS (SELECT FROM twilio_private.credential c
                                WHERE c.user_id = o.user_id AND c.updated_at > o.attempted_at)
                AND NOT EXISTS (SELECT FROM @extschema@.twilio_settings s
                                WHERE s.user_id = o.user_id AND s.last_verified_at > o.attempted_at)) t;
    END IF;

    -- While it is sending, nobody else moves it to another place.
    DELETE FROM twilio_private.outbox o WHERE o.ctid = ANY (done) AND o.state = 'sending';

    IF outcomes && ARRAY['retry', 'account', 'unknown'] THEN
        UPDATE twilio_private.outbox o
        SET state = CASE r.outcome WHEN 'unknown' THEN 'unknown' ELSE 'queued' END,
            due_at = CASE r.outcome WHEN 'unknown' THEN 'infinity' ELSE least(coalesce(r.retry_at, clock_timestamp()), o.expires_at) END,
            attempts = o.attempts - CASE r.outcome WHEN 'account' THEN 1 ELSE 0 END,
            note = r.error_message
        FROM (SELECT r.*, o.place
              FROM unnest(order_ids, outcomes, retry_ats, error_messages) AS r (order_id, outcome, retry_at, error_message)
              CROSS JOIN LATERAL (SELECT o.ctid AS place FROM twilio_private.outbox o WHERE o.id = r.order_id OFFSET 0) o
              WHERE r.outcome IN ('retry', 'account', 'unknown')) r
        WHERE o.ctid = r.place AND o.state = 'sending';
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.write_results(bigint[], text[], integer[], integer[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[]) IS
    'Tells the kinds of orders what came of them, ends them, queues them again or leaves them unknown.';
REVOKE ALL ON FUNCTION twilio_private.write_results(bigint[], text[], integer[], integer[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[]) FROM PUBLIC;

-- No worker has this order any more: it hands in what came of one, and forgets it. So what Twilio has not taken, or may be
-- asked again, is queued again. What it may have taken stays sending, and is known by being due at infinity.
CREATE FUNCTION twilio_private.set_aside(order_id bigint, outcome text, reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE twilio_private.outbox o
    SET state = CASE WHEN again THEN 'queued' ELSE o.state END,
        due_at = CASE WHEN again THEN least(clock_timestamp() + least(o.attempts, 60) * interval '1 minute', o.expires_at)
                      ELSE 'infinity' END,
        note = reason
    FROM (SELECT k.kind, k.repeatable OR outcome NOT IN ('sent', 'unknown') AS again FROM twilio_private.order_kind k) k
    WHERE o.id = set_aside.order_id AND o.state = 'sending' AND k.kind = o.kind
$$;
COMMENT ON FUNCTION twilio_private.set_aside(bigint, text, text) IS
    'Keeps an order for later whose end cannot be written down.';
REVOKE ALL ON FUNCTION twilio_private.set_aside(bigint, text, text) FROM PUBLIC;

CREATE FUNCTION twilio_private.record_orders(
    order_ids bigint[], outcomes text[], http_statuses integer[], error_codes integer[], error_messages text[], sids text[],
    bodies text[], retry_ats timestamptz[], ats timestamptz[], twilio_ats timestamptz[] DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What fails, the worker hands in again one by one, and then without what Twilio said.
    IF cardinality(order_ids) <> 1 OR bodies[1] IS NOT NULL THEN
        PERFORM twilio_private.write_results($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
        RETURN;
    END IF;
    BEGIN
        PERFORM twilio_private.write_results($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
    EXCEPTION
        WHEN transaction_rollback OR object_not_in_prerequisite_state OR insufficient_resources OR operator_intervention
             OR system_error THEN RAISE; -- these pass by themselves
        WHEN OTHERS THEN
            RAISE LOG 'twilio: the end of order % (%) cannot be written down: %', order_ids[1], outcomes[1], SQLERRM;
            PERFORM twilio_private.set_aside(order_ids[1], outcomes[1], SQLERRM);
    END;
END
$$;
COMMENT ON FUNCTION twilio_private.record_orders(bigint[], text[], integer[], integer[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[]) IS
    'Records what came of orders: tells their kinds, ends them, queues them again or leaves them unknown.
Outcome account: the account is refused, so the order waits and the user''s breaker opens.
A single one without an answer whose kind cannot take it (an app''s trigger raises) is set aside.';
REVOKE ALL ON FUNCTION twilio_private.record_orders(bigint[], text[], integer[], integer[], text[], text[], text[], timestamptz[], timestamptz[], timestamptz[]) FROM PUBLIC;

CREATE FUNCTION twilio_private.end_in_doubt(order_ids bigint[], reason text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The attempts end when the other side can no longer take what the network still holds: as long from now as a worker
    -- would have waited for the answer, or as whoever set reconcile_after is ready to wait.
    over_at CONSTANT timestamptz := clock_timestamp() + least(current_setting('twilio.request_timeout')::interval,
                                                              current_setting('twilio.reconcile_after')::interval);
    kind text;
    results twilio_private.order_result[];
BEGIN
    FOR kind, results IN
        WITH doubtful AS (
            UPDATE twilio_private.outbox o
            SET state = 'unknown', due_at = 'infinity', note = coalesce(reason, o.note)
            WHERE o.ctid = ANY (twilio_private.places(order_ids)) RETURNING o
        )
        SELECT (d.o).kind, array_agg(twilio_private.result_without_answer(d.o, 'unknown', (d.o).note, over_at))
        FROM doubtful d GROUP BY (d.o).kind
    LOOP
        PERFORM twilio_private.deliver_results(kind, results);
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.end_in_doubt(bigint[], text) IS 'Marks orders as unknown, all or none.';
REVOKE ALL ON FUNCTION twilio_private.end_in_doubt(bigint[], text) FROM PUBLIC;

CREATE FUNCTION twilio_private.doubt_orders(order_ids bigint[], reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    SELECT twilio_private.write_end('end_in_doubt', order_ids, reason, 'sending', 'infinity') -- as set_aside() leaves them
$$;
COMMENT ON FUNCTION twilio_private.doubt_orders(bigint[], text) IS
    'Marks orders as unknown whose fate was lost on their way, for a reason that is not yet in their note.';
REVOKE ALL ON FUNCTION twilio_private.doubt_orders(bigint[], text) FROM PUBLIC;

CREATE FUNCTION twilio_private.look_before_sending() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    step text;
BEGIN
    FOR step IN SELECT k.doubt_function FROM twilio_private.order_kind k WHERE k.doubt_function IS NOT NULL LOOP
        EXECUTE format('SELECT twilio_private.%I()', step);
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.look_before_sending() IS
    'Has all that is due, and must not be repeated blindly, looked up at Twilio before it is sent.';
REVOKE ALL ON FUNCTION twilio_private.look_before_sending() FROM PUBLIC;

CREATE FUNCTION twilio_private.recover_orders() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE twilio_private.outbox o SET state = 'queued', due_at = clock_timestamp()
    FROM twilio_private.order_kind k
    WHERE o.state = 'sending' AND k.kind = o.kind AND k.repeatable;
    PERFORM twilio_private.doubt_orders(ARRAY(SELECT o.id FROM twilio_private.outbox o WHERE o.state = 'sending'),
                                        'the worker stopped while the request was under way');
    -- What another server claimed and sent last may not have come here: an asynchronous standby lags, a PITR or a snapshot
    -- ends earlier.
    IF twilio_private.take_over() THEN
        PERFORM twilio_private.look_before_sending();
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.recover_orders() IS
    'What a worker does first: orders found sending were cut off by a crash, and Twilio may have them.
After a promotion, or where these are the files of a snapshot, so may it have what is due.';
REVOKE ALL ON FUNCTION twilio_private.recover_orders() FROM PUBLIC;

-- Their kinds are told while twilio.enabled is off, for then it may be long until they are claimed again. A worker that
-- ends has a second for all it has to do, and the next one claims them first.
CREATE FUNCTION twilio_private.release_orders(order_ids bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    kind text;
    results twilio_private.order_result[];
BEGIN
    FOR kind, results IN
        WITH released AS (
            UPDATE twilio_private.outbox o SET state = 'queued', attempts = o.attempts - 1
            WHERE o.ctid = ANY (twilio_private.places(order_ids)) AND o.state = 'sending' RETURNING o
        )
        SELECT (r.o).kind, array_agg(twilio_private.result_without_answer(r.o, 'retry', NULL, clock_timestamp()))
        FROM released r GROUP BY (r.o).kind
    LOOP
        CONTINUE WHEN current_setting('twilio.enabled')::boolean;
        BEGIN
            PERFORM twilio_private.deliver_results(kind, results);
        EXCEPTION WHEN OTHERS THEN
            -- Not started they are all the same, whatever an app's trigger or lock has against it.
            RAISE LOG 'twilio: that orders wait again cannot be written down: %', SQLERRM;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION twilio_private.release_orders(bigint[]) IS 'Gives back claimed orders that were not started.';
REVOKE ALL ON FUNCTION twilio_private.release_orders(bigint[]) FROM PUBLIC;

-- ---- called by the kinds --------------------------------------------------------------------------------------------

CREATE FUNCTION twilio_private.requeue_order(order_id bigint, due_at timestamptz DEFAULT clock_timestamp()) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE twilio_private.outbox o SET state = 'queued', due_at = requeue_order.due_at
    WHERE o.id = requeue_order.order_id AND o.state = 'unknown';
    PERFORM twilio_private.wake_worker();
END
$$;
COMMENT ON FUNCTION twilio_private.requeue_order(bigint, timestamptz) IS 'Queues an unknown order again, because Twilio never took it.';
REVOKE ALL ON FUNCTION twilio_private.requeue_order(bigint, timestamptz) FROM PUBLIC;

CREATE FUNCTION twilio_private.order_again(user_id uuid, ref uuid, kind text, expires_at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    order_id CONSTANT bigint := (
        SELECT o.id FROM twilio_private.outbox o
        WHERE o.ref = order_again.ref AND o.user_id = order_again.user_id AND o.kind = order_again.kind AND o.state = 'unknown' LIMIT 1);
BEGIN
    IF order_id IS NOT NULL THEN
        PERFORM twilio_private.requeue_order(order_id);
    ELSE
        INSERT INTO twilio_private.outbox (user_id, kind, ref, expires_at)
        VALUES (order_again.user_id, order_again.kind, order_again.ref, order_again.expires_at);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.order_again(uuid, uuid, text, timestamptz) IS
    'Queues the unknown order of a message or call again, or a new one where its order has ended.';
REVOKE ALL ON FUNCTION twilio_private.order_again(uuid, uuid, text, timestamptz) FROM PUBLIC;

-- Only the account that was given it can tell that it has not got it.
CREATE FUNCTION twilio_private.may_repeat(user_id uuid, ref uuid, kind text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM @extschema@.twilio_settings s WHERE s.user_id = may_repeat.user_id AND s.resend_unknown
        AND NOT EXISTS (SELECT FROM twilio_private.outbox o
                        WHERE o.ref = may_repeat.ref AND o.kind = may_repeat.kind AND o.account_sid <> s.account_sid));
END
$$;
COMMENT ON FUNCTION twilio_private.may_repeat(uuid, uuid, text) IS
    'Whether what Twilio turned out not to have is to be sent again: the user wants that, and has the account that was given it.';
REVOKE ALL ON FUNCTION twilio_private.may_repeat(uuid, uuid, text) FROM PUBLIC;
