-- twilio_status tells each caller the own reason why nothing is sent, and what to do.
CREATE VIEW trouble AS SELECT reason, hint FROM twilio_status;
GRANT SELECT ON trouble TO regress_twilio_app, regress_twilio_admin;
DELETE FROM twilio_private.arming;
\x on
SET ROLE regress_twilio_app;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000a';
TABLE trouble;
INSERT INTO twilio_settings (account_sid, auth_token) VALUES ('AC' || repeat('a', 32), repeat('a', 32));
TABLE trouble;
RESET ROLE;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', false, NULL, NULL, NULL, 'Twilio refuses this.', now());
SET ROLE regress_twilio_app;
TABLE trouble;
RESET ROLE;
SELECT twilio_private.record_verification('00000000-0000-0000-0000-00000000000a', true, 'x', 'active', 'Full', NULL, now());
SET ROLE regress_twilio_app;
TABLE trouble;
UPDATE twilio_settings SET is_active = false;
TABLE trouble;
UPDATE twilio_settings SET is_active = true, sms_enabled = false;
TABLE trouble;
SET twilio.user_id = '00000000-0000-0000-0000-00000000000b';
TABLE trouble;
RESET twilio.user_id;
TABLE trouble;
-- whoever watches the server has no account
SET ROLE regress_twilio_admin;
TABLE trouble;
RESET ROLE;
SELECT twilio_disarm();
SET ROLE regress_twilio_app;
TABLE trouble;
RESET ROLE;
SELECT twilio_arm();
\x off
DROP VIEW trouble;
DELETE FROM twilio_settings;
