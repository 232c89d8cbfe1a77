-- Who is calling, in each mode of twilio.identity.
\set alice '00000000-0000-0000-0000-00000000000a'
\set bob '00000000-0000-0000-0000-00000000000b'
SHOW twilio.identity;

-- nobody
SELECT twilio_current_user_id() IS NULL AS nobody;
SELECT attempt('SELECT twilio_verify()');
SELECT attempt($$INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('t', 32))$$);

-- auto: the claim, else the setting; an empty string left by a pooler is nobody
SET twilio.user_id = :'bob';
SELECT twilio_current_user_id();
SELECT set_config('request.jwt.claims', '{"sub": "00000000-0000-0000-0000-00000000000a", "role": "twilio_user"}', false) <> '';
SELECT twilio_current_user_id();
SET request.jwt.claims = '';
SELECT twilio_current_user_id();
SET twilio.user_id = '';
SELECT twilio_current_user_id() IS NULL AS nobody;
SELECT id, attempt(format('SET twilio.user_id = %L', id)) FROM (VALUES
    ('no uuid'), ('0000000000000000000000000000000'), (' 00000000-0000-0000-0000-00000000000b'), ('00000000--000-0000-0000-00000000000b'),
    ('00000000-0000-0000-0000-00000000000b-'), ('{00000000-0000-0000-0000-00000000000b'), (repeat('0', 100)),
    ('{00000000-0000-0000-0000-00000000000B}'), ('0000000000000000000000000000000b'), ('')) given (id);
SET request.jwt.claims = '{"sub": "no uuid"}';
SELECT twilio_current_user_id() IS NULL AS nobody;

-- a claim that is no text, or claims that are no object, leave nobody: the setting does not step in
SET twilio.user_id = :'bob';
SELECT claims, set_config('request.jwt.claims', claims, false) IS NOT NULL AND twilio_current_user_id() IS NULL AS nobody
FROM (VALUES ('{"sub": 5}'), ('{"sub": {"id": "x"}}'), ('{"sub": ["00000000-0000-0000-0000-00000000000b"]}'), ('{"sub": false}'), ('no JSON'), ('[]'),
             ('{"sub": null}'), ('{"sub": ""}'), ('{"role": "twilio_user", "app": {"sub": 5}}'), ('{}'), ('')) given (claims);
SET twilio.user_id = '';
SET request.jwt.claims = '{"role": "twilio_user"}';
SELECT twilio_current_user_id() IS NULL AS nobody;

-- jwt: the setting does not count
SET twilio.identity = 'jwt';
SET request.jwt.claims = '';
SET twilio.user_id = :'bob';
SELECT twilio_current_user_id() IS NULL AS nobody;
SELECT attempt('SELECT twilio_verify()');

-- setting: the claim does not count
SET twilio.identity = 'setting';
SET request.jwt.claims = '{"sub": "00000000-0000-0000-0000-00000000000a"}';
SELECT twilio_current_user_id();
RESET twilio.user_id;
SELECT attempt('SELECT twilio_verify()');

-- role: only the login role counts, whatever is claimed
SET twilio.identity = 'role';
SET twilio.user_id = :'bob';
SELECT twilio_current_user_id() IS NULL AS nobody;
SET SESSION AUTHORIZATION regress_twilio_admin;
INSERT INTO twilio_role_map VALUES ('regress_twilio_app', :'alice');
SELECT attempt('SELECT twilio_verify()');
SET SESSION AUTHORIZATION regress_twilio_app;
SELECT twilio_current_user_id();
SET ROLE twilio_user;
SELECT twilio_current_user_id();
RESET ROLE;
SELECT attempt('SET twilio.identity = auto');
SELECT attempt('TABLE twilio_role_map');
RESET SESSION AUTHORIZATION;
SET ROLE regress_twilio_app;
SELECT twilio_current_user_id() IS NULL AS "SET ROLE makes nobody";
RESET ROLE;
DELETE FROM twilio_role_map;

-- without membership
SET twilio.identity = 'auto';
SET ROLE regress_twilio_stranger;
SELECT attempt('SELECT twilio_current_user_id()');
RESET ROLE;
