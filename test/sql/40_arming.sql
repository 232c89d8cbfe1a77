-- Where orders may be sent from.
SELECT count(*) FROM twilio_private.arming;
DELETE FROM twilio_private.arming;
SELECT twilio_private.armed();

-- the first token arms; nothing but a token does
SET row_security = off;
INSERT INTO twilio_settings (user_id, account_sid, auth_token) VALUES ('00000000-0000-0000-0000-00000000000c', 'AC' || repeat('c', 32), '••••••••');
RESET row_security;
SELECT twilio_private.armed() AS "a restored row does not arm";
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32));
RESET ROLE;
SELECT twilio_private.armed() AS "the first token arms";
SELECT armed, by, a.system_identifier = c.system_identifier AS here FROM twilio_private.arming a, pg_control_system() c;

-- an administrator disarms and arms
SET ROLE regress_twilio_admin;
SELECT clock_timestamp() AS before \gset
SELECT twilio_disarm();
SELECT armed FROM twilio_status;
RESET ROLE;
SELECT armed, by, at > :'before' AS since FROM twilio_private.arming;
UPDATE twilio_settings SET auth_token = repeat('b', 32);
SELECT twilio_private.armed() AS "a later token does not arm";
SET ROLE regress_twilio_admin;
SELECT twilio_arm();
SELECT armed FROM twilio_status;

-- on another cluster, or in another database, it is not armed, and a token does not change that
RESET ROLE;
UPDATE twilio_private.arming SET system_identifier = system_identifier + 1;
SELECT twilio_private.armed() AS "on another cluster";
UPDATE twilio_settings SET auth_token = repeat('c', 32);
SELECT twilio_private.armed() AS "with a new token there";
UPDATE twilio_private.arming SET system_identifier = system_identifier - 1, database_oid = 1;
SELECT twilio_private.armed() AS "in another database";
UPDATE twilio_private.arming SET database_oid = twilio_private.database_oid(), table_oid = 1;
SELECT twilio_private.armed() AS "restored into the same";
SELECT twilio_disarm();
SELECT twilio_private.armed_here() AS "a copy that is disarmed is a copy still";
SET ROLE regress_twilio_admin;
SELECT twilio_arm();
RESET ROLE;
SELECT twilio_private.armed() AS "armed again";
SELECT action, actor FROM twilio_audit_log WHERE action LIKE '%arm' ORDER BY id;
DELETE FROM twilio_settings;
