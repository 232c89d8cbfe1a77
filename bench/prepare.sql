-- Two tenants that may send. The fast upstream has no answer for twilio_verify(), so what follows its answer is called.
CREATE EXTENSION pg_twilio CASCADE;
SET client_min_messages = warning;
SET twilio.user_id = '018f4a3e-0000-7000-8000-000000000001';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES (:'account', :'token', '+15005550006');
SET twilio.user_id = '018f4a3e-0000-7000-8000-000000000002';
INSERT INTO twilio_settings (account_sid, auth_token, phone_number) VALUES ('ACbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', :'token', '+15005550007');
SELECT twilio_private.record_verification(user_id, true, NULL, 'active', 'Full', NULL, now()) FROM twilio_settings;
