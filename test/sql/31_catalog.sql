-- Rules that every object of the extension keeps, read from the catalog, so that one added later is held to them too.
-- Each query lists the offenders: there are none.
CREATE VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'pg_twilio' AND d.deptype = 'e';
CREATE VIEW our_relations AS
    SELECT c.* FROM pg_class c JOIN members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass;
CREATE VIEW our_functions AS
    SELECT p.*, l.lanname FROM pg_proc p JOIN members m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass
    JOIN pg_language l ON l.oid = p.prolang;
CREATE VIEW our_tenant_tables AS
    SELECT c.* FROM our_relations c
    WHERE c.relkind IN ('r', 'p') AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'user_id' AND NOT a.attisdropped);

-- there is something to look at
SELECT (SELECT count(*) > 5 FROM our_tenant_tables) AS tables, (SELECT count(*) > 40 FROM our_functions) AS functions;

\echo tables and columns without a comment
SELECT c.oid::regclass, a.attname FROM our_relations c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'v', 'm', 'p')
  AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL);

\echo functions, sequences, types and schemas without a comment
SELECT p.oid::regprocedure FROM our_functions p WHERE obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass FROM our_relations c WHERE c.relkind = 'S' AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT t.oid::regtype FROM pg_type t JOIN members m ON m.objid = t.oid AND m.classid = 'pg_type'::regclass
WHERE t.typtype IN ('d', 'e', 'r') AND obj_description(t.oid, 'pg_type') IS NULL;
SELECT n.nspname FROM pg_namespace n JOIN members m ON m.objid = n.oid AND m.classid = 'pg_namespace'::regclass
WHERE obj_description(n.oid, 'pg_namespace') IS NULL;

\echo what PUBLIC may use
SELECT p.oid::regprocedure FROM our_functions p WHERE has_function_privilege('public', p.oid, 'EXECUTE');
SELECT c.oid::regclass FROM our_relations c WHERE c.relkind IN ('r', 'v', 'm', 'p')
  AND (has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
       OR has_any_column_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'));
SELECT c.oid::regclass FROM our_relations c
WHERE CASE c.relkind WHEN 'S' THEN has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE') ELSE false END;
SELECT n.nspname FROM pg_namespace n JOIN members m ON m.objid = n.oid AND m.classid = 'pg_namespace'::regclass
WHERE has_schema_privilege('public', n.oid, 'USAGE, CREATE');
-- Row types of tables belong to an extension since PostgreSQL 18.
SELECT t.oid::regtype FROM pg_type t JOIN members m ON m.objid = t.oid AND m.classid = 'pg_type'::regclass
LEFT JOIN pg_type e ON e.oid = t.typelem
LEFT JOIN pg_class r ON r.oid = coalesce(nullif(t.typrelid, 0), e.typrelid) AND r.relkind <> 'c'
WHERE r.oid IS NULL AND has_type_privilege('public', t.oid, 'USAGE');

\echo roles that may look into twilio_private
SELECT r.rolname FROM pg_roles r WHERE NOT r.rolsuper AND r.rolname !~ '^pg_'
  AND has_schema_privilege(r.oid, 'twilio_private', 'USAGE, CREATE');
SELECT c.oid::regclass, r.rolname FROM our_relations c, pg_roles r
WHERE c.relkind = 'r' AND c.relnamespace = 'twilio_private'::regnamespace AND r.rolname ~ '^twilio_'
  AND has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');

\echo tables without forced row-level security, and those of tenants whose keys do not begin with user_id
SELECT c.oid::regclass FROM our_relations c WHERE c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity);
SELECT k.conrelid::regclass, k.conname FROM our_tenant_tables c JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f')
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
WHERE a.attname <> 'user_id' AND c.relname <> 'twilio_role_map' AND c.relnamespace <> 'twilio_private'::regnamespace;
SELECT c.oid::regclass FROM our_tenant_tables c
WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'p');

\echo what people wrote, of which there are statistics: an EXPLAIN tells them to other tenants
SELECT c.oid::regclass, a.attname FROM our_tenant_tables c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid IN ('text'::regtype, 'text[]'::regtype)
WHERE has_table_privilege('twilio_user', c.oid, 'SELECT') AND a.attstattarget IS DISTINCT FROM 0
  AND a.attname !~ '_sids?$|^sid$' -- drawn by lot
  AND a.attname NOT IN ('account_status', 'account_type', 'action', 'actor', 'api_key_secret', 'auth_token', 'direction', 'encoding',
                        'object', 'outcome', 'price_unit', 'reason', 'source', 'status', 'twilio_request_id');

\echo views that row-level security does not protect
SELECT c.oid::regclass FROM our_relations c WHERE c.relkind = 'v'
  AND NOT coalesce(c.reloptions, '{}') && '{security_barrier=true,security_invoker=true,security_barrier=on,security_invoker=on}';

\echo functions whose search_path is open (one with a parsed body has none)
SELECT p.oid::regprocedure FROM our_functions p
WHERE p.lanname IN ('sql', 'plpgsql') AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'];

\echo definer functions that a user may call: this list is short
SELECT p.oid::regprocedure,
       array(SELECT r.rolname FROM pg_roles r WHERE r.rolname IN ('twilio_user', 'twilio_admin', 'twilio_webhook')
             AND has_function_privilege(r.oid, p.oid, 'EXECUTE') ORDER BY 1) AS callers
FROM our_functions p WHERE p.prosecdef
  AND EXISTS (SELECT FROM pg_roles r WHERE r.rolname IN ('twilio_user', 'twilio_admin', 'twilio_webhook') AND has_function_privilege(r.oid, p.oid, 'EXECUTE'))
ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

\echo tables that a dump leaves empty
SELECT c.oid::regclass FROM our_relations c, pg_extension e
WHERE e.extname = 'pg_twilio' AND c.relkind IN ('r', 'p', 'S') AND NOT c.oid = ANY (e.extconfig) ORDER BY c.relname COLLATE "C";

DROP VIEW our_tenant_tables, our_functions, our_relations, members;
