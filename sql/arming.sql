-- Armed or not: messages leave only the cluster and the database where they are meant to. The arming is a row, so it
-- travels with a dump and says there that this is a copy, also where that takes the place of its original; nothing is
-- sent from it until an administrator arms it.
-- A copy of the data directory carries the system identifier with it and cannot be told apart; where it takes over long
-- after it was made, or by a promotion, what is due is looked up at Twilio first.

CREATE TABLE twilio_private.arming (
    singleton boolean PRIMARY KEY DEFAULT true,
    armed boolean NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    table_oid oid NOT NULL,
    timeline integer,
    started_at timestamptz DEFAULT pg_postmaster_start_time(),
    at timestamptz NOT NULL DEFAULT now(),
    by text NOT NULL,
    CONSTRAINT there_is_one_row CHECK (singleton)
);
COMMENT ON TABLE twilio_private.arming IS
    'Where sending was last armed, and whether it was disarmed since; one row, none before the first token was stored.';
COMMENT ON COLUMN twilio_private.arming.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN twilio_private.arming.armed IS 'Whether it was last armed or disarmed.';
COMMENT ON COLUMN twilio_private.arming.system_identifier IS 'The cluster where it was last armed.';
COMMENT ON COLUMN twilio_private.arming.database_oid IS 'The database where it was last armed.';
COMMENT ON COLUMN twilio_private.arming.table_oid IS 'The table where it was last armed; a restore creates another.';
COMMENT ON COLUMN twilio_private.arming.timeline IS 'The timeline of the cluster when a worker last took over.';
COMMENT ON COLUMN twilio_private.arming.started_at IS 'The start of the server in which it did.';
COMMENT ON COLUMN twilio_private.arming.at IS 'When it was last armed or disarmed.';
COMMENT ON COLUMN twilio_private.arming.by IS 'The role that did that.';
ALTER TABLE twilio_private.arming ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT pg_catalog.pg_extension_config_dump('twilio_private.arming', '');

CREATE FUNCTION twilio_private.timeline() RETURNS integer
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer $$;
COMMENT ON FUNCTION twilio_private.timeline() IS 'The timeline that this server writes; each promotion begins a new one.';
REVOKE ALL ON FUNCTION twilio_private.timeline() FROM PUBLIC;

CREATE FUNCTION twilio_private.take_over() RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE twilio_private.arming a SET timeline = twilio_private.timeline(), started_at = pg_postmaster_start_time()
    WHERE twilio_private.armed_here()
      AND (a.timeline IS DISTINCT FROM twilio_private.timeline()
           OR (twilio_private.was_cut_off_long_ago() AND a.started_at IS DISTINCT FROM pg_postmaster_start_time()));
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION twilio_private.take_over() IS
    'Whether this server has taken over from another, by a promotion or as its snapshot, since a worker last began; says so once.';
REVOKE ALL ON FUNCTION twilio_private.take_over() FROM PUBLIC;

CREATE FUNCTION twilio_private.set_arming(armed boolean, only_first boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- What was under way when a copy was made is in doubt there, and its worker was started before the rows came.
    -- What was queued the original may have sent since.
    IF set_arming.armed AND EXISTS (SELECT FROM twilio_private.arming) AND NOT twilio_private.armed_here() THEN
        PERFORM twilio_private.recover_orders();
        PERFORM twilio_private.look_before_sending();
    END IF;
    -- A copy that is disarmed stays one: what is to be done when it is armed is still to be done.
    IF set_arming.armed AND NOT only_first THEN
        DELETE FROM twilio_private.arming;
    END IF;
    INSERT INTO twilio_private.arming (armed, system_identifier, database_oid, table_oid, timeline, by)
    VALUES (set_arming.armed, twilio_private.system_identifier(), twilio_private.database_oid(),
            'twilio_private.arming'::regclass, twilio_private.timeline(), twilio_private.actor())
    ON CONFLICT (singleton) DO UPDATE SET armed = excluded.armed, at = excluded.at, by = excluded.by
    WHERE NOT only_first;
    IF FOUND THEN
        PERFORM twilio_private.wake_worker();
        PERFORM twilio_private.audit(NULL, CASE WHEN set_arming.armed THEN 'arm' ELSE 'disarm' END, current_database());
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.set_arming(boolean, boolean) IS
    'Arms or disarms this database; with only_first it does nothing where that was done before, here or before a restore.';
REVOKE ALL ON FUNCTION twilio_private.set_arming(boolean, boolean) FROM PUBLIC;

CREATE FUNCTION twilio_private.arm_first() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM twilio_private.arming) THEN
        PERFORM twilio_private.set_arming(true, only_first => true);
    END IF;
END
$$;
COMMENT ON FUNCTION twilio_private.arm_first() IS 'Arms this database when its first token is stored.';
REVOKE ALL ON FUNCTION twilio_private.arm_first() FROM PUBLIC;

CREATE FUNCTION twilio_private.is_here(arming twilio_private.arming) RETURNS boolean
LANGUAGE sql STABLE
RETURN (arming).system_identifier = twilio_private.system_identifier() AND (arming).database_oid = twilio_private.database_oid()
       AND (arming).table_oid = 'twilio_private.arming'::regclass;
COMMENT ON FUNCTION twilio_private.is_here(twilio_private.arming) IS 'Whether it was done in this cluster and database, not in what was restored here.';
REVOKE ALL ON FUNCTION twilio_private.is_here(twilio_private.arming) FROM PUBLIC;

CREATE FUNCTION twilio_private.armed_here() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM twilio_private.arming a WHERE twilio_private.is_here(a));
END
$$;
COMMENT ON FUNCTION twilio_private.armed_here() IS 'Whether it was here, in no other cluster or database and not before a restore, that sending was last armed.';
REVOKE ALL ON FUNCTION twilio_private.armed_here() FROM PUBLIC;

CREATE FUNCTION twilio_private.armed() RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM twilio_private.arming a WHERE a.armed AND twilio_private.is_here(a));
END
$$;
COMMENT ON FUNCTION twilio_private.armed() IS 'Whether orders may be sent from this database.';
REVOKE ALL ON FUNCTION twilio_private.armed() FROM PUBLIC;

-- SECURITY DEFINER: an administrator may arm and disarm, but not write the table.
CREATE FUNCTION @extschema@.twilio_arm() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.set_arming(true);
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_arm() IS
    'Allows this database to send what is queued, for instance after a restore that is meant to replace the original.
For administrators. twilio_status shows whether it is armed.';
REVOKE ALL ON FUNCTION @extschema@.twilio_arm() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_arm() TO twilio_admin;

-- SECURITY DEFINER: as twilio_arm().
CREATE FUNCTION @extschema@.twilio_disarm() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM twilio_private.set_arming(false);
END
$$;
COMMENT ON FUNCTION @extschema@.twilio_disarm() IS
    'Keeps this database from sending: what is ordered waits until twilio_arm(). For administrators.';
REVOKE ALL ON FUNCTION @extschema@.twilio_disarm() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_disarm() TO twilio_admin;
