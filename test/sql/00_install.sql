-- What the other tests build on: the extension, three roles, and two helpers.
CREATE ROLE regress_twilio_app LOGIN;
CREATE ROLE regress_twilio_admin LOGIN;
CREATE ROLE regress_twilio_stranger LOGIN;

-- Default privileges give everything to everybody; of what is ours nobody has more by that (see 30_isolation to 32_schema).
CREATE EXTENSION pgcrypto;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO PUBLIC, regress_twilio_app, regress_twilio_stranger;
CREATE EXTENSION pg_twilio;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM PUBLIC, regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM regress_twilio_app, regress_twilio_stranger;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM PUBLIC, regress_twilio_app, regress_twilio_stranger;
SELECT count(*) FROM pg_default_acl;

GRANT twilio_user TO regress_twilio_app;
GRANT twilio_admin TO regress_twilio_admin;

-- Runs a statement and says how it ended.
CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
    rows bigint;
BEGIN
    EXECUTE statement;
    GET DIAGNOSTICS rows = ROW_COUNT;
    RETURN format('ok, %s rows', rows);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', format('%s: %s', SQLSTATE, SQLERRM), nullif(detail, ''), nullif(hint, ''));
END
$$;

-- Names and values in turn as a form, and Twilio's signature of it.
CREATE FUNCTION form(parameters text[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(parameters[i] || '=' || replace(replace(replace(replace(parameters[i + 1], '%', '%25'), '+', '%2B'), '&', '%26'), ' ', '+'), '&' ORDER BY i)
    FROM generate_series(1, cardinality(parameters), 2) i
$$;
CREATE FUNCTION signature(token text, url text, parameters text[]) RETURNS text LANGUAGE sql AS $$
    SELECT encode(hmac(convert_to(url || coalesce(string_agg(parameters[i] || parameters[i + 1], '' ORDER BY parameters[i] COLLATE "C", parameters[i + 1] COLLATE "C"), ''), 'UTF8'),
                       convert_to(token, 'UTF8'), 'sha1'), 'base64')
    FROM generate_series(1, cardinality(parameters), 2) i
$$;

-- Which sealed secrets are stored, and which of them changed since the last call in this session.
CREATE TABLE seen_secrets (user_id uuid, kind text, digest text, PRIMARY KEY (user_id, kind));
CREATE FUNCTION secrets(OUT tenant text, OUT kind text, OUT state text) RETURNS SETOF record
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN QUERY
        SELECT right(coalesce(c.user_id, s.user_id)::text, 1), coalesce(c.kind, s.kind),
               CASE WHEN c.kind IS NULL THEN 'gone' WHEN s.kind IS NULL THEN 'new'
                    WHEN s.digest = md5(c.sealed) THEN 'same' ELSE 'changed' END
        FROM twilio_private.credential c FULL JOIN seen_secrets s USING (user_id, kind) ORDER BY 1, 2;
    DELETE FROM seen_secrets;
    INSERT INTO seen_secrets SELECT c.user_id, c.kind, md5(c.sealed) FROM twilio_private.credential c;
END
$$;

-- The API that a user finds.
SELECT extname, nspname, extrelocatable FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pg_twilio';
SELECT proname, pg_get_function_identity_arguments(p.oid) AS arguments
FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'twilio%' ORDER BY proname COLLATE "C", 2;
SELECT relname, relkind FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'twilio%' AND relkind IN ('r', 'v') ORDER BY relname COLLATE "C";
