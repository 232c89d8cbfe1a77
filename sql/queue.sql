-- twilio_queue: what waits to be done at Twilio and why; twilio_tenant_status: the same in figures, per user.

-- SECURITY DEFINER: functions in a view run with the rights of whoever reads it, and orders are in twilio_private. It
-- returns the caller's own orders, to an administrator all. Who is one the view has to say: in here current_user is the
-- owner. EXECUTE is granted, but without USAGE on the schema the view is the only way here.
CREATE FUNCTION twilio_private.visible_orders(administrator boolean) RETURNS TABLE (
    user_id uuid, order_id bigint, kind text, message_id uuid, state text, due_at timestamptz, expires_at timestamptz,
    attempts int, attempted_at timestamptz, age interval, reason text, call_id uuid)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT uuid := @extschema@.twilio_current_user_id();
    everybody CONSTANT text := CASE
        WHEN NOT EXISTS (SELECT FROM twilio_private.worker_stats() w WHERE w.running) THEN 'the worker is not running: see twilio_status'
        WHEN NOT current_setting('twilio.enabled')::boolean THEN 'twilio.enabled is off'
        WHEN NOT twilio_private.armed() THEN 'disarmed: see twilio_status'
    END;
    default_pace CONSTANT numeric := current_setting('twilio.rate_limit_per_second');
BEGIN
    RETURN QUERY
        SELECT o.user_id, CASE WHEN administrator THEN o.id END, o.kind, CASE WHEN m.id IS NOT NULL THEN o.ref END, o.state::text,
               nullif(o.due_at, 'infinity'), o.expires_at, o.attempts, o.attempted_at,
               date_trunc('milliseconds',
                          clock_timestamp() - coalesce(m.created_at, c.created_at, nullif(o.due_at, 'infinity'), o.attempted_at)),
               CASE
                   WHEN o.state = 'sending' AND o.due_at = 'infinity' THEN
                       concat('what became of it cannot be written down', ' (' || o.note || ')')
                   WHEN o.state = 'sending' THEN 'being sent'
                   WHEN o.state = 'unknown' THEN concat('Twilio''s answer was lost; it is being looked up', ' (' || o.note || ')')
                   WHEN s.user_id IS NULL THEN 'the settings were deleted'
                   WHEN NOT s.is_active THEN 'the account is switched off (is_active)'
                   WHEN NOT EXISTS (SELECT FROM twilio_private.credential c WHERE c.user_id = o.user_id) THEN
                       'no Twilio credential is stored: enter the Auth Token again'
                   WHEN b.user_id IS NOT NULL THEN
                       concat('Twilio refuses the account (', 'error ' || b.error_code || ': ', b.message, '); verify it again')
                   WHEN everybody IS NOT NULL THEN everybody
                   WHEN o.due_at > clock_timestamp() AND (o.attempts > 0 OR o.note IS NOT NULL) THEN
                       concat('will be tried again', ' (' || o.note || ')')
                   WHEN o.due_at > clock_timestamp() THEN 'due later'
                   WHEN coalesce(s.rate_limit_per_second, default_pace) > 0 THEN
                       format('paced: %s per second', trim_scale(coalesce(s.rate_limit_per_second, default_pace)))
                   ELSE 'waits for its turn'
               END,
               c.id
        FROM twilio_private.outbox o
        LEFT JOIN @extschema@.twilio_settings s ON s.user_id = o.user_id
        LEFT JOIN twilio_private.breaker b ON b.user_id = o.user_id
        LEFT JOIN @extschema@.twilio_messages m ON m.user_id = o.user_id AND m.id = o.ref
        LEFT JOIN @extschema@.twilio_calls c ON c.user_id = o.user_id AND c.id = o.ref
        WHERE (administrator OR o.user_id = caller) AND o.kind NOT IN (SELECT k.kind FROM twilio_private.order_kind k WHERE k.gives_way)
          AND NOT (o.kind IN ('message_look', 'call_look')
                   AND EXISTS (SELECT FROM twilio_private.outbox u WHERE u.ref = o.ref AND u.kind IN ('message', 'call')));
END
$$;
COMMENT ON FUNCTION twilio_private.visible_orders(boolean) IS 'The rows of twilio_queue.';
REVOKE ALL ON FUNCTION twilio_private.visible_orders(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.visible_orders(boolean) TO twilio_user;

CREATE VIEW @extschema@.twilio_queue WITH (security_barrier) AS
    SELECT o.user_id, o.order_id, o.kind, o.message_id, o.state, o.due_at, o.expires_at, o.attempts, o.attempted_at, o.age, o.reason, o.call_id
    FROM twilio_private.visible_orders(pg_has_role(current_user, 'twilio_admin', 'USAGE')) o;
COMMENT ON VIEW @extschema@.twilio_queue IS
    'What is to be done at Twilio and is not done yet, and why it waits. A user sees the own part, twilio_admin all.
A message or call has one row, also while it is being looked up. The re-reading of final statuses and prices is not shown.';
COMMENT ON COLUMN @extschema@.twilio_queue.user_id IS 'The user (tenant).';
COMMENT ON COLUMN @extschema@.twilio_queue.order_id IS
    'Number of the order, for administrators: its gaps would tell others how much everybody sends.';
COMMENT ON COLUMN @extschema@.twilio_queue.kind IS
    'message (to be sent), message_cancel, message_look (what became of it?), number_webhooks, call (to be placed), call_end, call_look.';
COMMENT ON COLUMN @extschema@.twilio_queue.message_id IS 'The message that it is about, if it is about one.';
COMMENT ON COLUMN @extschema@.twilio_queue.state IS 'queued, sending, or unknown (Twilio may have it).';
COMMENT ON COLUMN @extschema@.twilio_queue.due_at IS 'Not before this time; null while unknown.';
COMMENT ON COLUMN @extschema@.twilio_queue.expires_at IS 'Not after this time.';
COMMENT ON COLUMN @extschema@.twilio_queue.attempts IS 'How often it was tried.';
COMMENT ON COLUMN @extschema@.twilio_queue.attempted_at IS 'When it was last tried.';
COMMENT ON COLUMN @extschema@.twilio_queue.age IS 'For how long the message or call has existed, or the order has been due.';
COMMENT ON COLUMN @extschema@.twilio_queue.reason IS 'Why it waits.';
COMMENT ON COLUMN @extschema@.twilio_queue.call_id IS 'The call that it is about, if it is about one.';
GRANT SELECT ON @extschema@.twilio_queue TO twilio_user;

-- SECURITY DEFINER: as visible_orders(). Counts what the last 24 hours brought, one index range per user.
CREATE FUNCTION twilio_private.tenant_status(administrator boolean) RETURNS TABLE (
    user_id uuid, queued bigint, in_flight bigint, unknown bigint, lag interval, sent bigint, failed bigint, received bigint,
    last_error text, last_error_at timestamptz, breaker text)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    caller CONSTANT uuid := @extschema@.twilio_current_user_id();
BEGIN
    RETURN QUERY
        SELECT s.user_id, o.queued, o.in_flight, o.unknown, coalesce(date_trunc('milliseconds', clock_timestamp() - o.oldest), '0'),
               m.sent, m.failed, m.received, e.error, e.at, concat('error ' || b.error_code || ': ', b.message)
        FROM @extschema@.twilio_settings s
        LEFT JOIN twilio_private.breaker b ON b.user_id = s.user_id
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE q.state = 'queued' AND q.kind = 'message') AS queued,
                   count(*) FILTER (WHERE q.state = 'sending') AS in_flight,
                   count(*) FILTER (WHERE q.state = 'unknown') AS unknown,
                   min(q.due_at) FILTER (WHERE q.state = 'queued' AND q.kind = 'message' AND q.due_at <= clock_timestamp()) AS oldest
            FROM twilio_private.outbox q WHERE q.user_id = s.user_id) o
        CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE t.direction = 'outbound' AND t.sid IS NOT NULL) AS sent,
                   count(*) FILTER (WHERE t.status IN ('failed', 'undelivered')) AS failed,
                   count(*) FILTER (WHERE t.direction = 'inbound') AS received
            FROM @extschema@.twilio_messages t
            WHERE t.user_id = s.user_id AND t.created_at > now() - interval '24 hours') m
        LEFT JOIN LATERAL (
            SELECT concat_ws(': ', t.error_code, t.error_message) AS error, t.updated_at AS at
            FROM @extschema@.twilio_messages t
            WHERE t.user_id = s.user_id AND t.created_at > now() - interval '24 hours' AND t.status IN ('failed', 'undelivered')
            ORDER BY t.created_at DESC LIMIT 1) e ON true
        WHERE administrator OR s.user_id = caller;
END
$$;
COMMENT ON FUNCTION twilio_private.tenant_status(boolean) IS 'The rows of twilio_tenant_status.';
REVOKE ALL ON FUNCTION twilio_private.tenant_status(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.tenant_status(boolean) TO twilio_user;

CREATE VIEW @extschema@.twilio_tenant_status WITH (security_barrier) AS
    SELECT t.user_id, t.queued, t.in_flight, t.unknown, t.lag, t.sent, t.failed, t.received, t.last_error, t.last_error_at,
           nullif(t.breaker, '') AS breaker
    FROM twilio_private.tenant_status(pg_has_role(current_user, 'twilio_admin', 'USAGE')) t;
COMMENT ON VIEW @extschema@.twilio_tenant_status IS
    'How the messages of each user are doing: a row for the own account, for twilio_admin one for every user.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.user_id IS 'The user (tenant).';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.queued IS 'Messages that wait.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.in_flight IS 'Requests on their way to Twilio.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.unknown IS
    'Messages whose answer was lost and that are being looked up.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.lag IS 'For how long the oldest message has been due.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.sent IS 'Messages of the last 24 hours that Twilio accepted.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.failed IS
    'Messages of the last 24 hours that failed or were not delivered.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.received IS 'Messages received in the last 24 hours.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.last_error IS 'The last failure of these 24 hours.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.last_error_at IS 'When that was.';
COMMENT ON COLUMN @extschema@.twilio_tenant_status.breaker IS
    'Why Twilio refuses the account, so that all waits; null when it does not.';
GRANT SELECT ON @extschema@.twilio_tenant_status TO twilio_user;
