-- Every object came with what ALTER DEFAULT PRIVILEGES gives to an app's role, or to everybody: to empty a table of all
-- tenants, to rotate keys, to use the internals. What is to be granted stands beside each object, to the group roles; the
-- rest is taken back here, last.

DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        WITH members AS (
            SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
            WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'pg_twilio'
        ), objects (name, owner, acl) AS (
            SELECT format('%s %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass), c.relowner, c.relacl
            FROM pg_class c JOIN members m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
            UNION ALL
            SELECT format('ROUTINE %s', p.oid::regprocedure), p.proowner, p.proacl
            FROM pg_proc p JOIN members m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
            UNION ALL
            SELECT format('TYPE %s', t.oid::regtype), t.typowner, t.typacl
            FROM pg_type t JOIN members m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
            UNION ALL
            SELECT format('SCHEMA %I', n.nspname), n.nspowner, n.nspacl
            FROM pg_namespace n JOIN members m ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
        )
        SELECT DISTINCT o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
        FROM objects o, aclexplode(o.acl) a
        WHERE a.grantee <> o.owner
          AND a.grantee NOT IN (SELECT r.oid FROM pg_roles r WHERE r.rolname IN ('twilio_user', 'twilio_admin', 'twilio_webhook'))
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %s', given.name, given.grantee);
    END LOOP;
END
$$;
