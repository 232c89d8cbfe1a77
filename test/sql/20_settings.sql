-- twilio_settings as a user writes it: what is accepted, what is refused and in which words, what is ignored.
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';

-- what is refused, and says why without repeating it
SELECT attempt(format('INSERT INTO twilio_settings (account_sid, auth_token, phone_number, messaging_service_sid, api_key_sid, api_key_secret)
                       VALUES (%L, %L, %L, %L, %L, %L)', sid, token, phone, service, key_sid, key_secret))
FROM (VALUES
    (1, 'AC' || repeat('1', 31), repeat('t', 32), NULL, NULL, NULL, NULL),
    (2, 'SK' || repeat('1', 32), repeat('t', 32), NULL, NULL, NULL, NULL),
    (3, 'AC' || repeat('/', 32), repeat('t', 32), NULL, NULL, NULL, NULL),
    (4, 'AC' || repeat('1', 32) || E'\n', repeat('t', 32), NULL, NULL, NULL, NULL),
    (5, NULL, repeat('t', 32), NULL, NULL, NULL, NULL),
    (6, repeat('t', 1000000), repeat('t', 32), NULL, NULL, NULL, NULL),
    (7, 'AC' || repeat('1', 32), repeat('t', 31), NULL, NULL, NULL, NULL),
    (8, 'AC' || repeat('1', 32), repeat('t', 32) || E'\r', NULL, NULL, NULL, NULL),
    (9, 'AC' || repeat('1', 32), repeat('t', 1000000), NULL, NULL, NULL, NULL),
    (10, 'AC' || repeat('1', 32), NULL, NULL, NULL, NULL, NULL),
    (11, 'AC' || repeat('1', 32), '', NULL, NULL, NULL, NULL),
    (12, 'AC' || repeat('1', 32), '••••••••', NULL, NULL, NULL, NULL),
    (13, 'AC' || repeat('1', 32), repeat('t', 32), '5551234567', NULL, NULL, NULL),
    (14, 'AC' || repeat('1', 32), repeat('t', 32), '+0551234567', NULL, NULL, NULL),
    (15, 'AC' || repeat('1', 32), repeat('t', 32), '+1 555 123', NULL, NULL, NULL),
    (16, 'AC' || repeat('1', 32), repeat('t', 32), '+1234567890123456', NULL, NULL, NULL),
    (17, 'AC' || repeat('1', 32), repeat('t', 32), NULL, 'MG1', NULL, NULL),
    (18, 'AC' || repeat('1', 32), repeat('t', 32), NULL, NULL, 'SK1', repeat('s', 32)),
    (19, 'AC' || repeat('1', 32), repeat('t', 32), NULL, NULL, 'SK' || repeat('1', 32), 'short'),
    (20, 'AC' || repeat('1', 32), repeat('t', 32), NULL, NULL, 'SK' || repeat('1', 32), NULL),
    (21, 'AC' || repeat('1', 32), repeat('t', 32), NULL, NULL, 'SK' || repeat('1', 32), '••••••••'),
    (22, 'AC' || repeat('1', 32), repeat('t', 32), NULL, NULL, NULL, repeat('s', 32))
) bad (n, sid, token, phone, service, key_sid, key_secret) ORDER BY n;
SELECT count(*) FROM twilio_settings;

-- what is taken, just so, or just not
RESET ROLE;
SELECT field, length(value), split_part(attempt(format('SELECT twilio_private.valid(%L, %L)', field, value)), E'\n', 1) AS outcome
FROM (VALUES ('account_sid', 'AC' || repeat('zA09', 8)), ('auth_token', repeat('!', 32)), ('auth_token', repeat('~', 255)), ('auth_token', repeat('~', 256)),
             ('phone_number', '+12'), ('phone_number', '+1'), ('phone_number', '+' || repeat('1', 15)), ('messaging_service_sid', 'MG' || repeat('zA09', 8)),
             ('api_key_sid', 'SK' || repeat('zA09', 8)), ('api_key_secret', repeat('s', 16)), ('api_key_secret', repeat('s', 15)), ('api_key_secret', NULL)) v (field, value);
SET ROLE regress_twilio_app;

-- what is not the user's to say
SELECT attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token)
    VALUES ('00000000-0000-0000-0000-00000000000b', 'AC' || repeat('1', 32), repeat('t', 32))$$);
SELECT attempt($$INSERT INTO twilio_settings (account_sid, auth_token, rate_limit_per_second)
    VALUES ('AC' || repeat('1', 32), repeat('t', 32), 100)$$);
INSERT INTO twilio_settings (id, user_id, account_sid, auth_token, phone_number, messaging_service_sid, api_key_sid, api_key_secret,
                             is_verified, created_at, updated_at, last_verified_at, account_name, account_status, account_type, verification_error)
VALUES ('00000000-0000-0000-0000-000000000001', NULL, 'AC' || repeat('1', 32), repeat('t', 32), '', '', '', '',
        true, '2000-01-01', '2000-01-01', '2000-01-01', 'x', 'x', 'x', 'x');
\x on
SELECT id <> '00000000-0000-0000-0000-000000000001' AS own_id, created_at > '2020-01-01' AS created, updated_at > '2020-01-01' AS updated,
       user_id, account_sid, auth_token, phone_number, sms_enabled, voice_enabled, is_active, is_verified, last_verified_at,
       account_name, account_status, account_type, verification_error, api_key_sid, api_key_secret, messaging_service_sid,
       resend_unknown, rate_limit_per_second, max_in_flight
FROM twilio_settings;
\x off
SELECT attempt($$INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('1', 32), repeat('t', 32))$$);

SELECT attempt($$UPDATE twilio_settings SET account_sid = 'AC1'$$);
SELECT attempt($$UPDATE twilio_settings SET account_sid = NULL$$);
SELECT attempt($$UPDATE twilio_settings SET auth_token = 'short'$$);
SELECT attempt($$UPDATE twilio_settings SET auth_token = NULL$$);
SELECT attempt($$UPDATE twilio_settings SET phone_number = 'tomorrow'$$);
SELECT attempt($$UPDATE twilio_settings SET user_id = '00000000-0000-0000-0000-00000000000b'$$);
SELECT attempt($$UPDATE twilio_settings SET rate_limit_per_second = 100$$);
SELECT attempt($$UPDATE twilio_settings SET max_in_flight = 100$$);
SELECT attempt($$UPDATE twilio_settings SET sms_enabled = NULL$$);

-- read-only columns stay, also when the superuser writes them; updated_at is the database's
CREATE TEMP TABLE before AS SELECT * FROM twilio_settings;
UPDATE twilio_settings SET id = gen_random_uuid(), created_at = '2000-01-01', updated_at = '2000-01-01', is_verified = true,
    last_verified_at = now(), account_name = 'x', account_status = 'x', account_type = 'x', verification_error = 'x';
RESET ROLE;
UPDATE twilio_settings SET is_verified = true, last_verified_at = now();
SET ROLE regress_twilio_app;
SELECT to_jsonb(s) - 'updated_at' = to_jsonb(b) - 'updated_at' AS unchanged, s.updated_at > b.updated_at AS later
FROM twilio_settings s, before b;

-- the whole object may be sent back
UPDATE twilio_settings s SET (id, user_id, account_sid, auth_token, phone_number, sms_enabled, is_verified, created_at, api_key_sid,
        api_key_secret, rate_limit_per_second, max_in_flight)
    = (SELECT b.id, b.user_id, b.account_sid, b.auth_token, '+15005550006', false, b.is_verified, b.created_at, b.api_key_sid,
        b.api_key_secret, b.rate_limit_per_second, b.max_in_flight FROM before b);
SELECT phone_number, sms_enabled FROM twilio_settings;
-- and what is emptied is null
UPDATE twilio_settings SET messaging_service_sid = 'MG' || repeat('1', 32), api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32);
UPDATE twilio_settings SET phone_number = '', messaging_service_sid = '', api_key_sid = '';
SELECT phone_number, messaging_service_sid, api_key_sid, api_key_secret FROM twilio_settings;
UPDATE twilio_settings SET phone_number = '+15005550006';

-- administrators see all, and set limits
SET ROLE regress_twilio_admin;
SET twilio.user_id = '00000000-0000-0000-0000-0000000000ad';
SELECT user_id, account_sid, auth_token FROM twilio_settings;
SELECT attempt('UPDATE twilio_settings SET rate_limit_per_second = 5, max_in_flight = 2');
SELECT attempt('UPDATE twilio_settings SET rate_limit_per_second = -1');
SELECT attempt($$UPDATE twilio_settings SET rate_limit_per_second = 'NaN'$$);
SELECT attempt('UPDATE twilio_settings SET rate_limit_per_second = 1e-400') AS "no number that the worker cannot read, for all would wait";
SELECT attempt('UPDATE twilio_settings SET max_in_flight = 0');
SELECT attempt('UPDATE twilio_settings SET is_active = false');
SELECT attempt($$UPDATE twilio_settings SET auth_token = repeat('x', 32)$$);
SELECT attempt('DELETE FROM twilio_settings');
SELECT attempt($$INSERT INTO twilio_settings (user_id, account_sid, auth_token)
    VALUES ('00000000-0000-0000-0000-00000000000a', 'AC' || repeat('1', 32), repeat('t', 32))
    ON CONFLICT (user_id) DO UPDATE SET auth_token = excluded.auth_token$$);
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
SELECT attempt('UPDATE twilio_settings SET rate_limit_per_second = 6');
SELECT attempt('UPDATE twilio_settings SET rate_limit_per_second = 5, sms_enabled = true');
-- also by an upsert of the whole object
SELECT attempt('INSERT INTO twilio_settings SELECT * FROM twilio_settings
    ON CONFLICT (user_id) DO UPDATE SET sms_enabled = false, rate_limit_per_second = excluded.rate_limit_per_second');
-- and by one that leaves them out
SELECT attempt($$INSERT INTO twilio_settings (phone_number) VALUES ('+15005550007')
    ON CONFLICT (user_id) DO UPDATE SET phone_number = excluded.phone_number, max_in_flight = excluded.max_in_flight$$);
SELECT attempt($$INSERT INTO twilio_settings (max_in_flight) VALUES (3) ON CONFLICT (user_id) DO UPDATE SET max_in_flight = excluded.max_in_flight$$);
SELECT phone_number, sms_enabled, rate_limit_per_second, max_in_flight FROM twilio_settings;

-- each change left a trace, by name and never by value; what changed nothing, none
UPDATE twilio_settings SET api_key_sid = 'SK' || repeat('1', 32), api_key_secret = repeat('s', 32);
UPDATE twilio_settings SET api_key_secret = repeat('t', 32);
UPDATE twilio_settings SET api_key_secret = '••••••••', sms_enabled = sms_enabled;
UPDATE twilio_settings SET api_key_sid = NULL;
DELETE FROM twilio_settings;
SELECT actor, action, object, outcome, detail FROM twilio_audit_log ORDER BY id;
SELECT attempt('DELETE FROM twilio_audit_log');
SELECT attempt('UPDATE twilio_audit_log SET actor = NULL');
SELECT attempt($$INSERT INTO twilio_audit_log (actor, action, outcome) VALUES ('x', 'x', 'ok')$$);
RESET ROLE;
SELECT attempt('DELETE FROM twilio_audit_log');
SELECT attempt('UPDATE twilio_audit_log SET actor = NULL');
SELECT attempt('TRUNCATE twilio_audit_log');
SELECT twilio_private.prune_audit_log(now()) > 0 AS pruned;
