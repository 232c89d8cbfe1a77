-- The schema as it is, so that a change of it shows in review. After an intended change, take build/regress/results/32_schema.out
-- as the new expected/32_schema.out.
SET search_path = pg_catalog;
CREATE VIEW public.members AS
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'pg_twilio' AND d.deptype = 'e';
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' '

\echo -- columns
SELECT c.oid::regclass, a.attname, format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
       'default ' || pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN public.members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v') ORDER BY c.oid::regclass::text COLLATE "C", a.attnum;

\echo -- constraints
SELECT k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN public.members m ON m.objid = k.conrelid AND m.classid = 'pg_class'::regclass
WHERE k.contype IN ('p', 'u', 'f', 'c', 'x') ORDER BY k.conrelid::regclass::text COLLATE "C", k.conname;

\echo -- domains
SELECT k.contypid::regtype, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN public.members m ON m.objid = k.contypid AND m.classid = 'pg_type'::regclass
ORDER BY k.contypid::regtype::text COLLATE "C", k.conname;

\echo -- indexes
SELECT pg_get_indexdef(i.indexrelid)
FROM pg_index i JOIN public.members m ON m.objid = i.indrelid AND m.classid = 'pg_class'::regclass
ORDER BY i.indrelid::regclass::text COLLATE "C", i.indexrelid::regclass::text COLLATE "C";

\echo -- policies
SELECT p.polrelid::regclass, p.polname, CASE p.polcmd WHEN '*' THEN 'all' WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' ELSE 'delete' END,
       p.polroles::regrole[], 'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p JOIN public.members m ON m.objid = p.polrelid AND m.classid = 'pg_class'::regclass
ORDER BY p.polrelid::regclass::text COLLATE "C", p.polname;

\echo -- triggers
SELECT pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN public.members m ON m.objid = t.tgrelid AND m.classid = 'pg_class'::regclass
WHERE NOT t.tgisinternal ORDER BY t.tgrelid::regclass::text COLLATE "C", t.tgname;

\echo -- functions
SELECT p.oid::regprocedure, '->', pg_get_function_result(p.oid), l.lanname,
       CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END, CASE WHEN p.prosecdef THEN 'definer' END
FROM pg_proc p JOIN public.members m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass JOIN pg_language l ON l.oid = p.prolang
ORDER BY p.oid::regprocedure::text COLLATE "C";

\echo -- grants
SELECT object, grantee::regrole, string_agg(privilege_type, ', ' ORDER BY privilege_type COLLATE "C")
FROM (
    SELECT c.oid::regclass::text, g.* FROM pg_class c JOIN public.members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass, aclexplode(c.relacl) g
    WHERE g.grantee <> c.relowner
    UNION ALL
    SELECT c.oid::regclass || '.' || a.attname, g.* FROM pg_class c JOIN public.members m ON m.objid = c.oid AND m.classid = 'pg_class'::regclass
    JOIN pg_attribute a ON a.attrelid = c.oid, aclexplode(a.attacl) g WHERE g.grantee <> c.relowner
    UNION ALL
    SELECT p.oid::regprocedure::text, g.* FROM pg_proc p JOIN public.members m ON m.objid = p.oid AND m.classid = 'pg_proc'::regclass, aclexplode(p.proacl) g
    WHERE g.grantee <> p.proowner
) acl (object)
GROUP BY object, grantee ORDER BY object COLLATE "C", grantee::regrole::text COLLATE "C";

DROP VIEW public.members;
