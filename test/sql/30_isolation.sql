-- Two tenants, an administrator and a stranger: who sees what, and what is learned by trying.
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32));
INSERT INTO twilio_numbers (user_id, sid, phone_number) VALUES
    ('00000000-0000-0000-0000-00000000000a', 'PN1', '+15005550001'), ('00000000-0000-0000-0000-00000000000a', 'PN2', '+15005550002');
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('b', 32), repeat('b', 32));
INSERT INTO twilio_numbers (user_id, sid, phone_number) VALUES ('00000000-0000-0000-0000-00000000000b', 'PN3', '+15005550003');

-- B sees B
SET ROLE regress_twilio_app;
SELECT account_sid FROM twilio_settings;
SELECT account_sid FROM twilio_get_settings();
SELECT sid FROM twilio_numbers;
SELECT DISTINCT user_id FROM twilio_audit_log;
SELECT running IS NOT NULL AS said, armed, enabled, pid, last_error FROM twilio_status;

-- and learns nothing of A: not by writing, not by conflicts, not by a leaky function, not by a plan made for another
SELECT attempt($$UPDATE twilio_settings SET is_active = false WHERE user_id = '00000000-0000-0000-0000-00000000000a'$$);
SELECT attempt($$DELETE FROM twilio_settings WHERE user_id = '00000000-0000-0000-0000-00000000000a'$$);
SELECT attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES ('00000000-0000-0000-0000-00000000000a', 'AC' || repeat('b', 32), repeat('b', 32))$$)
     = attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES ('00000000-0000-0000-0000-0000000000ff', 'AC' || repeat('b', 32), repeat('b', 32))$$)
    AS "same answer whether that user exists or not";
SELECT attempt($$INSERT INTO twilio_settings (user_id) VALUES ('00000000-0000-0000-0000-00000000000a') ON CONFLICT (user_id) DO UPDATE SET is_active = false$$)
     = attempt($$INSERT INTO twilio_settings (user_id) VALUES ('00000000-0000-0000-0000-0000000000ff') ON CONFLICT (user_id) DO UPDATE SET is_active = false$$)
    AS "same answer whether that user exists or not";
CREATE FUNCTION pg_temp.leak(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN RAISE NOTICE 'saw %', value; RETURN true; END $$;
SELECT count(*) FROM twilio_settings WHERE pg_temp.leak(account_sid);
PREPARE mine AS SELECT account_sid FROM twilio_settings;
EXECUTE mine;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
EXECUTE mine;
SET twilio.user_id = '';
EXECUTE mine;
-- nor by what the planner expects to find
RESET ROLE;
INSERT INTO twilio_messages (user_id, direction, from_number, to_number, body, status)
SELECT '00000000-0000-0000-0000-00000000000a', 'inbound', '+15005550077', '+15005550001', 'the merger is on Friday', 'received'
FROM generate_series(1, 1000);
ANALYZE twilio_messages;
CREATE FUNCTION pg_temp.expected(condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN EXECUTE 'EXPLAIN (FORMAT JSON) SELECT FROM twilio_messages WHERE ' || condition INTO plan; RETURN plan #>> '{0,Plan,Plan Rows}'; END $$;
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
SELECT pg_temp.expected($$body = 'the merger is on Friday'$$) = pg_temp.expected($$body = 'the merger is on Monday'$$) AS "same whether somebody wrote it or not",
       pg_temp.expected($$starts_with(body, 'the m')$$) = pg_temp.expected($$starts_with(body, 'the x')$$) AS "nor its beginning",
       pg_temp.expected($$from_number = '+15005550077'$$) = pg_temp.expected($$from_number = '+15005550078'$$) AS "nor who";
RESET ROLE;
DELETE FROM twilio_messages;
SET ROLE regress_twilio_app;

-- the numbers: only the default may be chosen, one per user
SELECT attempt($$UPDATE twilio_numbers SET phone_number = '+1'$$);
SELECT attempt($$INSERT INTO twilio_numbers (user_id, sid, phone_number) VALUES ('00000000-0000-0000-0000-00000000000b', 'PN4', '+1')$$);
SELECT attempt('DELETE FROM twilio_numbers');
SELECT attempt('UPDATE twilio_numbers SET is_default = true');
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
SELECT attempt('UPDATE twilio_numbers SET is_default = true');
UPDATE twilio_numbers SET is_default = (sid = 'PN1');
UPDATE twilio_numbers SET is_default = (sid = 'PN2');
SELECT sid, is_default FROM twilio_numbers ORDER BY sid;
UPDATE twilio_numbers SET is_default = true WHERE sid = 'PN1';
SELECT sid, is_default FROM twilio_numbers ORDER BY sid;
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE twilio_numbers SET is_default = true WHERE sid = 'PN2';
SET CONSTRAINTS ALL IMMEDIATE;
SELECT sid FROM twilio_numbers WHERE is_default;
ROLLBACK;
-- another account has other numbers
UPDATE twilio_settings SET account_sid = 'AC' || repeat('c', 32);
SELECT count(*) FROM twilio_numbers;

-- the administrator sees all, and no secret
SET ROLE regress_twilio_admin;
SET twilio.user_id = '';
SELECT account_sid, auth_token FROM twilio_settings ORDER BY account_sid;
SELECT sid, is_default FROM twilio_numbers;
SELECT count(DISTINCT user_id) > 2 AS "all users' rows" FROM twilio_audit_log;
SELECT attempt('TABLE twilio_private.credential');
SELECT attempt($$SELECT twilio_private.reseal(gen_random_uuid(), 'auth_token', '', '')$$);

-- the webhook's role and a stranger see nothing
SET ROLE twilio_webhook;
SELECT relname, split_part(attempt('TABLE ' || relname), E'\n', 1) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'twilio%' AND relkind IN ('r', 'v') ORDER BY relname COLLATE "C";
SET ROLE regress_twilio_stranger;
SELECT relname, split_part(attempt('TABLE ' || relname), E'\n', 1) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relname LIKE 'twilio%' AND relkind IN ('r', 'v') ORDER BY relname COLLATE "C";
SELECT attempt('SELECT twilio_verify()'), attempt('SELECT twilio_rotate_key()');

-- what a user may not call
SET ROLE regress_twilio_app;
SELECT attempt('SELECT twilio_rotate_key()'), attempt('SELECT twilio_arm()'), attempt('SELECT twilio_disarm()');
SELECT attempt('SELECT * FROM twilio_private.status(true)');

-- objects that shadow ours change nothing
CREATE TEMP TABLE twilio_settings (user_id uuid, account_sid text);
CREATE TEMP TABLE twilio_role_map (role_name name, user_id uuid);
CREATE FUNCTION pg_temp.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '2000-01-01'::timestamptz $$;
SET search_path = pg_temp, public;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
UPDATE public.twilio_settings SET phone_number = '+15005550006';
SELECT updated_at > '2020-01-01' AS "time is time" FROM public.twilio_settings;
RESET search_path;
DROP TABLE pg_temp.twilio_settings, pg_temp.twilio_role_map;

RESET ROLE;
DELETE FROM twilio_settings;
SELECT count(*) FROM twilio_numbers;
