-- Who is calling: the tenant behind a statement (a user id), and the role that acts for it (for the audit log).
--
-- twilio.identity says where the user id comes from. The one surprising fact: in the mode `role` it is the login
-- role that counts, not the role taken on by SET ROLE, because only the former cannot be chosen by free SQL.

CREATE TABLE @extschema@.twilio_role_map (
    role_name name PRIMARY KEY,
    user_id uuid NOT NULL
);
COMMENT ON TABLE @extschema@.twilio_role_map IS
    'The user id of each login role, used where twilio.identity = role. Only twilio_admin may read or change it.';
COMMENT ON COLUMN @extschema@.twilio_role_map.role_name IS 'Login role (session_user).';
COMMENT ON COLUMN @extschema@.twilio_role_map.user_id IS 'The user (tenant) that this role acts for.';

ALTER TABLE @extschema@.twilio_role_map ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY administrators ON @extschema@.twilio_role_map TO twilio_admin USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON @extschema@.twilio_role_map TO twilio_admin;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.twilio_role_map', '');

-- SECURITY DEFINER: reads twilio_role_map, which a user may not touch.
CREATE FUNCTION twilio_private.mapped_user_id() RETURNS uuid
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (SELECT m.user_id FROM @extschema@.twilio_role_map m WHERE m.role_name = session_user);
END
$$;
COMMENT ON FUNCTION twilio_private.mapped_user_id() IS 'The user id of the login role in twilio_role_map, null when it has none.';
REVOKE ALL ON FUNCTION twilio_private.mapped_user_id() FROM PUBLIC;

-- In C because every statement on a tenant's table asks it. Where twilio.identity = role it calls mapped_user_id().
CREATE FUNCTION @extschema@.twilio_current_user_id() RETURNS uuid
LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'pg_twilio_current_user_id';
COMMENT ON FUNCTION @extschema@.twilio_current_user_id() IS
    'The user (tenant) on whose behalf the statement runs, null when there is none.
Comes from the JWT claim sub, from the setting twilio.user_id or from twilio_role_map, as twilio.identity says.';
REVOKE ALL ON FUNCTION @extschema@.twilio_current_user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.twilio_current_user_id() TO twilio_user;

CREATE FUNCTION twilio_private.identity_hint() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE twilio_private.identity_source()
        WHEN 'jwt' THEN 'Sign in with a JWT whose claim sub is the user id (a UUID).'
        WHEN 'setting' THEN 'Set the user first: SET twilio.user_id = ''<uuid>'' (behind a pooler SET LOCAL).'
        WHEN 'role' THEN 'Ask an administrator to map the login role in twilio_role_map.'
        ELSE 'Sign in with a JWT whose claim sub is the user id (a UUID), or SET twilio.user_id = ''<uuid>'' (behind a pooler SET LOCAL).'
    END;
END
$$;
COMMENT ON FUNCTION twilio_private.identity_hint() IS 'How a caller without a user id gets one, as twilio.identity says.';
REVOKE ALL ON FUNCTION twilio_private.identity_hint() FROM PUBLIC;

CREATE FUNCTION twilio_private.require_user() RETURNS uuid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    user_id uuid := @extschema@.twilio_current_user_id();
BEGIN
    IF user_id IS NULL THEN
        RAISE EXCEPTION 'no Twilio user is known'
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'Nothing says on whose behalf this is: twilio_current_user_id() is null.',
                  HINT = twilio_private.identity_hint();
    END IF;
    RETURN user_id;
END
$$;
COMMENT ON FUNCTION twilio_private.require_user() IS 'Returns the current user id, or fails with a hint where there is none.';
REVOKE ALL ON FUNCTION twilio_private.require_user() FROM PUBLIC;

CREATE FUNCTION twilio_private.actor() RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN CASE current_setting('role') WHEN 'none' THEN session_user::text ELSE current_setting('role') END;
END
$$;
COMMENT ON FUNCTION twilio_private.actor() IS
    'The role that issued the statement, also inside SECURITY DEFINER functions, where current_user is their owner.';
REVOKE ALL ON FUNCTION twilio_private.actor() FROM PUBLIC;
