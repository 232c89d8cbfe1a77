-- twilio_status: is it working, and if nothing is sent, why not.

-- SECURITY DEFINER: functions in a view run with the rights of whoever reads it. EXECUTE is granted, but without USAGE
-- on the schema the view is the only way here. What tells of other users is left out unless an administrator asks.
CREATE FUNCTION twilio_private.status(
    OUT running boolean, OUT state text, OUT armed boolean, OUT enabled boolean, OUT reason text, OUT hint text,
    OUT queued bigint, OUT lag interval, OUT pid int, OUT started_at timestamptz, OUT in_flight int, OUT asks_answered bigint, OUT sent bigint, OUT failed bigint,
    OUT last_error text, OUT last_error_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    administrator CONSTANT boolean := pg_has_role(twilio_private.actor(), 'twilio_admin', 'USAGE');
    caller CONSTANT uuid := @extschema@.twilio_current_user_id();
    worker record;
BEGIN
    SELECT * INTO worker FROM twilio_private.worker_stats();
    running := coalesce(worker.running, false);
    state := worker.state;
    armed := twilio_private.armed();
    enabled := coalesce(current_setting('twilio.enabled', true)::boolean, true);

    IF state = 'not preloaded' THEN
        reason := 'pg_twilio is not loaded at server start';
        hint := 'Add pg_twilio to shared_preload_libraries and restart the server.';
    ELSIF NOT running THEN
        reason := format('the worker is not running: %s', coalesce(state, 'unknown'));
        hint := CASE WHEN state LIKE 'paused%'
            THEN 'Run ALTER EXTENSION pg_twilio UPDATE, and restart the server when the library is the older.'
            ELSE 'Look for pg_twilio in the server log; a full worker table needs a higher max_worker_processes.'
        END;
    ELSIF NOT enabled THEN
        reason := 'twilio.enabled is off';
        hint := 'Set twilio.enabled = on and reload the server.';
    ELSIF NOT EXISTS (SELECT FROM twilio_private.arming) THEN
        reason := 'no account has been stored yet';
        hint := 'The first token stored in twilio_settings arms this database.';
    ELSIF NOT armed AND EXISTS (SELECT FROM twilio_private.arming a WHERE NOT a.armed) THEN
        reason := 'this database was disarmed';
        hint := 'An administrator arms it: SELECT twilio_arm().';
    ELSIF NOT armed THEN
        reason := 'this database is a copy: it was armed on another cluster or as another database';
        hint := 'If it is to send from now on, an administrator arms it: SELECT twilio_arm().';
    END IF;

    SELECT count(*), coalesce(date_trunc('milliseconds', clock_timestamp() - min(o.due_at) FILTER (WHERE o.due_at <= clock_timestamp())), '0')
    INTO queued, lag
    FROM twilio_private.outbox o
    WHERE o.kind = 'message' AND o.state = 'queued' AND (administrator OR o.user_id = caller);
    IF administrator THEN
        pid := worker.pid;
        started_at := worker.started_at;
        in_flight := worker.in_flight;
        asks_answered := worker.asks_answered;
        sent := worker.sent;
        failed := worker.failed;
        last_error := worker.last_error;
        last_error_at := worker.last_error_at;
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.status() IS 'The row of twilio_status.';
REVOKE ALL ON FUNCTION twilio_private.status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION twilio_private.status() TO twilio_user;

CREATE VIEW @extschema@.twilio_status WITH (security_barrier) AS
    SELECT s.running, s.state, s.armed, s.enabled, s.reason, s.hint, s.queued, s.lag, s.pid, s.started_at, s.in_flight, s.asks_answered,
           s.sent, s.failed, s.last_error, s.last_error_at
    FROM twilio_private.status() s;
COMMENT ON VIEW @extschema@.twilio_status IS
    'Whether the worker of this database runs, and why nothing is sent if so. One row; twilio_tenant_status has one per user.
The figures from pid on are for administrators; others read null there.';
COMMENT ON COLUMN @extschema@.twilio_status.running IS 'Whether the worker runs.';
COMMENT ON COLUMN @extschema@.twilio_status.state IS 'What the worker is doing, such as running or paused.';
COMMENT ON COLUMN @extschema@.twilio_status.armed IS 'Whether this database may send orders; questions are asked in any case.';
COMMENT ON COLUMN @extschema@.twilio_status.enabled IS 'The setting twilio.enabled.';
COMMENT ON COLUMN @extschema@.twilio_status.reason IS 'Why nothing is sent; null when all is well.';
COMMENT ON COLUMN @extschema@.twilio_status.hint IS 'What to do about it.';
COMMENT ON COLUMN @extschema@.twilio_status.queued IS 'Messages that wait: the own ones, for administrators all.';
COMMENT ON COLUMN @extschema@.twilio_status.lag IS 'For how long the oldest of them has been due.';
COMMENT ON COLUMN @extschema@.twilio_status.pid IS 'Process id of the worker.';
COMMENT ON COLUMN @extschema@.twilio_status.started_at IS 'When the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.in_flight IS 'Requests in flight now.';
COMMENT ON COLUMN @extschema@.twilio_status.asks_answered IS 'Synchronous questions answered since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.sent IS 'Orders that Twilio accepted since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.failed IS 'Orders that Twilio refused since the worker started.';
COMMENT ON COLUMN @extschema@.twilio_status.last_error IS 'The last thing that went wrong.';
COMMENT ON COLUMN @extschema@.twilio_status.last_error_at IS 'When that was.';
GRANT SELECT ON @extschema@.twilio_status TO twilio_user;
