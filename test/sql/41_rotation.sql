-- A new key, and every secret under it.
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
INSERT INTO twilio_settings (account_sid, auth_token, api_key_sid, api_key_secret)
VALUES ('AC' || repeat('a', 32), repeat('a', 32), 'SK' || repeat('a', 32), repeat('s', 32));
RESET ROLE;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', true, NULL, 'active', 'Full', NULL, now());
SET ROLE regress_twilio_app;
UPDATE twilio_settings SET auth_token = repeat('b', 32);
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('b', 32), repeat('b', 32));
RESET ROLE;
CREATE TEMP TABLE before AS SELECT * FROM twilio_private.credential;
SELECT twilio_private.current_key_id() AS old_key \gset

SET ROLE regress_twilio_admin;
SELECT twilio_rotate_key();
RESET ROLE;
SELECT twilio_private.current_key_id() <> :'old_key' AS "a new key";
SELECT kind, c.key_id = twilio_private.current_key_id() AS under_new_key, c.sealed <> b.sealed AS sealed_anew,
       c.previous_key_id = twilio_private.current_key_id() AS previous_too, c.updated_at = b.updated_at AS not_a_change
FROM twilio_private.credential c JOIN before b USING (user_id, kind) ORDER BY user_id, kind;

-- interrupted: what is left is finished, without another key
SELECT twilio_private.current_key_id() AS new_key \gset
UPDATE twilio_private.credential c SET key_id = b.key_id, sealed = b.sealed
FROM before b WHERE b.user_id = c.user_id AND b.kind = c.kind AND c.kind = 'api_key_secret';
SELECT twilio_rotate_key();
SELECT twilio_private.current_key_id() = :'new_key' AS "the same key", count(*) FILTER (WHERE key_id <> :'new_key') AS left_over
FROM twilio_private.credential;

-- a secret that cannot be opened stays as it is and keeps no other back
UPDATE twilio_private.credential SET key_id = 'lost' WHERE kind = 'api_key_secret';
\set VERBOSITY terse
SELECT twilio_rotate_key();
\set VERBOSITY default
SELECT kind, key_id = 'lost' AS lost, key_id = twilio_private.current_key_id() AS under_new_key
FROM twilio_private.credential ORDER BY user_id, kind;
SELECT actor, detail FROM twilio_audit_log WHERE action = 'rotate_key' ORDER BY id;

-- a secret belongs to its owner: under another name it does not open
SELECT split_part(attempt(format('SELECT twilio_private.reseal(%L, kind, key_id, sealed) FROM twilio_private.credential WHERE user_id = %L',
    '00000000-0000-0000-0000-00000000000a', '00000000-0000-0000-0000-00000000000b')), E'\n', 1) ~ '^[0-9A-Z]{5}: ' AS refused;
DELETE FROM twilio_settings;
