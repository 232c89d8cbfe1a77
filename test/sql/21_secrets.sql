-- Which secret is stored after each way of writing it. secrets() compares the sealed values with those of its last call.
\set sid 'AC22222222222222222222222222222222'
SELECT repeat('t', 32) AS token, repeat('s', 32) AS secret \gset
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';

INSERT INTO twilio_settings (account_sid, auth_token, api_key_sid, api_key_secret)
VALUES (:'sid', :'token', 'SK' || repeat('1', 32), :'secret') RETURNING auth_token, api_key_secret;
SELECT * FROM secrets();
SELECT bool_or(s::text ~ 'tttt|ssss') AS "plaintext in the row" FROM twilio_settings s;

-- the mask, or nothing, keeps it
UPDATE twilio_settings SET auth_token = '••••••••', api_key_secret = '••••••••';
UPDATE twilio_settings SET phone_number = '+15005550006';
SELECT * FROM secrets();

-- a new value replaces it
UPDATE twilio_settings SET auth_token = repeat('u', 32);
SELECT * FROM secrets();

-- a failed statement leaves it
SELECT attempt($$UPDATE twilio_settings SET auth_token = repeat('v', 32), phone_number = '1'$$);
SELECT * FROM secrets();

-- DO NOTHING keeps it, and nothing waits for the next statement
INSERT INTO twilio_settings (account_sid, auth_token) VALUES (:'sid', repeat('w', 32)) ON CONFLICT DO NOTHING;
UPDATE twilio_settings SET auth_token = '••••••••';
SELECT * FROM secrets();

-- an upsert with a new token
INSERT INTO twilio_settings (account_sid, auth_token) VALUES (:'sid', repeat('w', 32))
ON CONFLICT (user_id) DO UPDATE SET account_sid = excluded.account_sid, auth_token = excluded.auth_token RETURNING auth_token;
SELECT * FROM secrets();

-- an upsert with the mask, one that leaves the token out, one that gives it but does not set it
INSERT INTO twilio_settings (account_sid, auth_token) VALUES (:'sid', '••••••••')
ON CONFLICT (user_id) DO UPDATE SET account_sid = excluded.account_sid, auth_token = excluded.auth_token;
INSERT INTO twilio_settings (phone_number) VALUES ('+15005550001')
ON CONFLICT (user_id) DO UPDATE SET phone_number = excluded.phone_number RETURNING phone_number, account_sid, auth_token;
INSERT INTO twilio_settings (account_sid, auth_token) VALUES (:'sid', repeat('x', 32))
ON CONFLICT (user_id) DO UPDATE SET account_sid = excluded.account_sid;
INSERT INTO twilio_settings (api_key_sid) VALUES ('SK' || repeat('2', 32))
ON CONFLICT (user_id) DO UPDATE SET api_key_sid = excluded.api_key_sid RETURNING api_key_sid, api_key_secret;
SELECT * FROM secrets();
INSERT INTO twilio_settings (api_key_secret) VALUES (repeat('r', 32))
ON CONFLICT (user_id) DO UPDATE SET api_key_secret = excluded.api_key_secret RETURNING api_key_sid, api_key_secret;
SELECT * FROM secrets();

-- of two secrets an upsert stores the one that it sets
INSERT INTO twilio_settings (account_sid, auth_token, api_key_sid, api_key_secret)
VALUES (:'sid', repeat('x', 32), 'SK' || repeat('2', 32), repeat('q', 32))
ON CONFLICT (user_id) DO UPDATE SET api_key_secret = excluded.api_key_secret;
SELECT * FROM secrets();
INSERT INTO twilio_settings (account_sid, auth_token, api_key_sid, api_key_secret)
VALUES (:'sid', repeat('y', 32), 'SK' || repeat('2', 32), repeat('p', 32))
ON CONFLICT (user_id) DO UPDATE SET auth_token = excluded.auth_token;
SELECT * FROM secrets();

-- … and of two values the one in the SET list
INSERT INTO twilio_settings (account_sid, auth_token) VALUES (:'sid', repeat('1', 32)) ON CONFLICT (user_id) DO UPDATE SET auth_token = repeat('2', 32);
RESET ROLE;
SELECT left(t, 1) AS stored FROM twilio_private.credential c, unnest(ARRAY[repeat('1', 32), repeat('2', 32)]) t
WHERE c.kind = 'auth_token' AND twilio_private.webhook_valid(c.user_id, c.key_id, c.sealed, 'https://example.com/', '', '', 'GET',
                                                             encode(hmac('https://example.com/', t, 'sha1'), 'base64'));
SET ROLE regress_twilio_app;
SELECT * FROM secrets();

-- what was sealed as one kind, or for one user, does not open as another
RESET ROLE;
SELECT v.owner, v.kind, attempt(format('SELECT twilio_private.reseal(%L, %L, %L, %L) IS NULL', v.owner, v.kind, c.key_id, c.sealed))
FROM (SELECT * FROM twilio_private.credential WHERE kind = 'auth_token') c,
     LATERAL (VALUES (c.user_id, 'auth_token'), (c.user_id, 'api_key_secret'), ('00000000-0000-0000-0000-00000000000b', 'auth_token')) v (owner, kind);
SET ROLE regress_twilio_app;

-- an API key is a pair
SELECT attempt('UPDATE twilio_settings SET api_key_secret = NULL');
SELECT attempt($$UPDATE twilio_settings SET api_key_sid = NULL, api_key_secret = repeat('x', 32)$$);
UPDATE twilio_settings SET api_key_sid = NULL, api_key_secret = '••••••••' RETURNING api_key_sid, api_key_secret;
SELECT * FROM secrets();
SELECT attempt($$UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32)$$);
SELECT attempt($$UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = '••••••••'$$);
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = :'secret';
SELECT * FROM secrets();

-- two tenants in one statement, by someone whom row-level security does not bind; and COPY
RESET ROLE;
INSERT INTO twilio_settings (user_id, account_sid, auth_token)
VALUES ('00000000-0000-0000-0000-00000000000b', :'sid', repeat('b', 32)), ('00000000-0000-0000-0000-00000000000c', :'sid', repeat('c', 32));
COPY twilio_settings (user_id, account_sid, auth_token) FROM stdin;
00000000-0000-0000-0000-00000000000d	ACdddddddddddddddddddddddddddddddd	dddddddddddddddddddddddddddddddd
\.
SELECT * FROM secrets();
SELECT DISTINCT auth_token FROM twilio_settings;

-- the first of two rows for the same new user wins, like its row
INSERT INTO twilio_settings (user_id, account_sid, auth_token)
VALUES ('00000000-0000-0000-0000-00000000000e', 'ACeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', repeat('e', 32)),
       ('00000000-0000-0000-0000-00000000000e', 'ACffffffffffffffffffffffffffffffff', repeat('f', 32)) ON CONFLICT DO NOTHING;
SELECT account_sid FROM twilio_settings WHERE user_id = '00000000-0000-0000-0000-00000000000e';

-- new credentials are not verified ones
CREATE FUNCTION pretend_verified() RETURNS void LANGUAGE sql AS $$
    SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', true, 'Name', 'active', 'Full', NULL, now())
$$;
CREATE VIEW verdict AS
    SELECT is_verified, last_verified_at IS NOT NULL AS ever, account_name, account_status, account_type, verification_error
    FROM twilio_settings WHERE user_id = '00000000-0000-0000-0000-00000000000a';
SELECT pretend_verified();
TABLE verdict;
UPDATE twilio_settings SET auth_token = '••••••••', phone_number = NULL;
TABLE verdict;
UPDATE twilio_settings SET auth_token = :'token' WHERE user_id = '00000000-0000-0000-0000-00000000000a';
TABLE verdict;
SELECT pretend_verified();
UPDATE twilio_settings SET account_sid = 'AC33333333333333333333333333333333' WHERE user_id = '00000000-0000-0000-0000-00000000000a';
TABLE verdict;
SELECT pretend_verified();
UPDATE twilio_settings SET api_key_secret = repeat('z', 32) WHERE user_id = '00000000-0000-0000-0000-00000000000a';
TABLE verdict;
SELECT DISTINCT kind FROM twilio_private.credential WHERE previous_sealed IS NOT NULL;
SELECT pretend_verified();
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('3', 32) WHERE user_id = '00000000-0000-0000-0000-00000000000a';
TABLE verdict;
-- what waits because Twilio refuses the account goes on with a new token
SELECT twilio_private.open_breaker('00000000-0000-0000-0000-00000000000a', 20003, 'Authenticate');
SELECT count(*) AS refused FROM twilio_private.breaker;
UPDATE twilio_settings SET auth_token = :'token' WHERE user_id = '00000000-0000-0000-0000-00000000000a';
SELECT count(*) AS refused FROM twilio_private.breaker;

SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', false, NULL, NULL, NULL,
    twilio_private.refusal(401, 20003, 'Authenticate'), now());
TABLE verdict;

-- the permit to write these columns ends with the row that is not there, with the savepoint, and with the transaction
BEGIN;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-0000000000ff', true, 'Name', 'active', 'Full', NULL, now());
INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES ('00000000-0000-0000-0000-0000000000ff', 'AC' || repeat('f', 32), repeat('f', 32));
UPDATE twilio_settings SET is_verified = true WHERE user_id = '00000000-0000-0000-0000-0000000000ff';
SELECT count(*) AS verified FROM twilio_settings WHERE is_verified;
ROLLBACK;
BEGIN;
SAVEPOINT before;
SELECT twilio_private.permit_verification('00000000-0000-0000-0000-00000000000a');
ROLLBACK TO before;
UPDATE twilio_settings SET is_verified = true;
COMMIT;
SELECT twilio_private.permit_verification('00000000-0000-0000-0000-00000000000a');
UPDATE twilio_settings SET is_verified = true;
TABLE verdict;
-- … and is for one user
BEGIN;
SELECT twilio_private.permit_verification('00000000-0000-0000-0000-00000000000a');
UPDATE twilio_settings SET is_verified = true WHERE user_id <> '00000000-0000-0000-0000-00000000000a';
COMMIT;
SELECT count(*) AS verified FROM twilio_settings WHERE is_verified;
DROP VIEW verdict;
DROP FUNCTION pretend_verified();

-- what the row of a dump says is taken as it is, while a dump is restored
DELETE FROM twilio_settings WHERE user_id = '00000000-0000-0000-0000-00000000000e';
SET row_security = off;
INSERT INTO twilio_settings (id, user_id, account_sid, auth_token, is_verified, created_at, updated_at, last_verified_at, account_name, rate_limit_per_second)
VALUES ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-00000000000e', 'ACeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee', '••••••••',
        true, '2000-01-01 UTC', '2000-01-02 UTC', '2000-01-03 UTC', 'Name', 3);
RESET row_security;
SELECT id, is_verified, created_at = '2000-01-01 UTC' AS created, updated_at = '2000-01-02 UTC' AS updated,
       last_verified_at = '2000-01-03 UTC' AS verified, account_name, rate_limit_per_second
FROM twilio_settings WHERE user_id = '00000000-0000-0000-0000-00000000000e';
-- but nobody else restores by saying so
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000f';
SELECT attempt($$INSERT INTO twilio_settings (account_sid, auth_token, is_verified) VALUES ('AC' || repeat('f', 32), '••••••••', true)$$);
SELECT attempt($$INSERT INTO twilio_settings (account_sid, auth_token, is_verified)
    VALUES ('AC' || repeat('f', 32), repeat('f', 32), set_config('row_security', 'off', true) = 'off')$$);
SHOW row_security;

-- no secret outlives its row
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
SELECT count(*) FROM secrets();
DELETE FROM twilio_settings;
RESET ROLE;
SELECT * FROM secrets();
TRUNCATE twilio_settings CASCADE;
SELECT right(user_id::text, 1) AS "user", action, object FROM twilio_audit_log ORDER BY at DESC LIMIT 1;
SELECT * FROM secrets();
SELECT count(*) FROM twilio_private.credential;

-- a plaintext does not get past triggers that a replica does not fire, and no error shows it
SET session_replication_role = replica;
SELECT attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES (gen_random_uuid(), 'AC' || repeat('1', 32), repeat('t', 32))$$);
SELECT attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token, api_key_sid, api_key_secret)
    VALUES (gen_random_uuid(), 'AC', '••••••••', 'SK' || repeat('1', 32), repeat('s', 32))$$);
INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES ('00000000-0000-0000-0000-00000000000a', 'AC' || repeat('1', 32), '••••••••');
SELECT attempt($$UPDATE twilio_settings SET auth_token = repeat('t', 32)$$);
DELETE FROM twilio_settings;
RESET session_replication_role;

-- nor past disabled ones
ALTER TABLE twilio_settings DISABLE TRIGGER ALL;
SELECT split_part(attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token)
    VALUES (gen_random_uuid(), 'AC' || repeat('1', 32), repeat('t', 32))$$), E'\n', 1);
ALTER TABLE twilio_settings ENABLE TRIGGER ALL;
