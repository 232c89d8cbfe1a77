-- Dropping the extension leaves nothing behind but the group roles, which other databases may use.
DROP FUNCTION attempt(text), secrets();
DROP TABLE seen_secrets;
DROP EXTENSION pg_twilio;
SELECT count(*) FROM pg_namespace WHERE nspname = 'twilio_private';
SELECT relname FROM pg_class WHERE relname LIKE 'twilio%';
DROP ROLE regress_twilio_app, regress_twilio_admin, regress_twilio_stranger;
-- in another schema, and again
SET client_min_messages = warning;
CREATE SCHEMA telephony;
CREATE EXTENSION pg_twilio SCHEMA telephony;
SELECT count(*) > 0 AS there FROM telephony.twilio_status;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
INSERT INTO telephony.twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32)) RETURNING auth_token;
DROP EXTENSION pg_twilio;
CREATE EXTENSION pg_twilio;
DROP EXTENSION pg_twilio;
-- what somebody planted under one of our names is not adopted
\set SHOW_CONTEXT never
CREATE FUNCTION twilio_current_user_id() RETURNS uuid LANGUAGE sql AS $$ SELECT gen_random_uuid() $$;
CREATE EXTENSION pg_twilio;
SELECT count(*) FROM pg_namespace WHERE nspname = 'twilio_private';
DROP FUNCTION twilio_current_user_id();
