//! What statements may do, through the gateway and past it: each of the two would be enough.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use super::World;
use super::database::{Version, client};

/// Statements that reach for more than the grant has, and a part of what the gateway says to each.
const TRICKS: &[(&str, &str)] = &[
    // Columns and tables that are not granted, however they are spelt.
    ("SELECT secret FROM customers", "does not grant"),
    (
        "SELECT \"secret\" FROM \"public\".\"customers\"",
        "does not grant",
    ),
    ("SELECT SECRET FROM PUBLIC . CUSTOMERS", "does not grant"),
    ("SELECT customers . secret FROM customers", "does not grant"),
    ("SELECT * FROM customers", "does not grant"),
    ("SELECT c.* FROM customers c", "does not grant"),
    ("SELECT d FROM customers AS x(a, b, c, d)", "42"),
    (
        "SELECT count(*) FROM customers WHERE secret = 's2'",
        "does not grant",
    ),
    ("SELECT id FROM customers ORDER BY secret", "does not grant"),
    (
        "SELECT count(*) FROM customers GROUP BY secret",
        "does not grant",
    ),
    (
        "SELECT max(id) OVER (PARTITION BY secret) FROM customers",
        "does not grant",
    ),
    (
        "SELECT x.s FROM customers, LATERAL (SELECT secret AS s) x",
        "does not grant",
    ),
    (
        "SELECT (SELECT c.secret) FROM customers c",
        "does not grant",
    ),
    ("VALUES ((SELECT secret FROM customers LIMIT 1))", "42"),
    ("SELECT * FROM finance.ledger", "does not grant"),
    ("SELECT * FROM finance.nothing", "does not grant"),
    ("SELECT * FROM ledger", "does not grant"),
    ("TABLE customers", "42"),
    // Whole rows, which have all columns.
    ("SELECT c FROM customers c", "42"),
    ("SELECT (c).secret FROM customers c", "42"),
    ("SELECT row_to_json(c) FROM customers c", "42"),
    ("SELECT to_jsonb(customers) FROM customers", "42"),
    ("SELECT count(*) FROM customers c WHERE c IS NOT NULL", "42"),
    ("SELECT array_agg(c) FROM customers c", "42"),
    // Names that stand for something else.
    (
        "WITH customers AS (SELECT * FROM finance.ledger) SELECT * FROM customers",
        "does not grant",
    ),
    (
        "WITH ledger AS (SELECT 1) SELECT * FROM finance.ledger",
        "does not grant",
    ),
    (
        "WITH RECURSIVE x AS (SELECT id FROM finance.ledger UNION SELECT id FROM x) SELECT * FROM x",
        "does not grant",
    ),
    (
        "WITH d AS (DELETE FROM customers RETURNING id) SELECT * FROM d",
        "does not grant",
    ),
    (
        "SELECT id FROM customers JOIN finance.ledger USING (id)",
        "does not grant",
    ),
    ("SELECT id FROM customers NATURAL JOIN orders", "42"),
    ("SELECT 'finance.ledger'::regclass", "looks things up"),
    ("SELECT CAST('keeper' AS regrole)", "looks things up"),
    // Writing what may only be read, and reading while writing.
    ("INSERT INTO customers (id) VALUES (1000)", "does not grant"),
    ("UPDATE customers SET name = 'x'", "does not grant"),
    (
        "UPDATE orders SET total = (SELECT length(max(secret)) FROM customers)",
        "does not grant",
    ),
    (
        "UPDATE orders SET total = 1 FROM finance.ledger",
        "does not grant",
    ),
    ("DELETE FROM orders USING finance.ledger", "does not grant"),
    (
        "INSERT INTO orders (customer) SELECT id FROM finance.ledger",
        "does not grant",
    ),
    (
        "INSERT INTO orders (customer) VALUES (1) RETURNING (SELECT secret FROM customers LIMIT 1)",
        "does not grant",
    ),
    (
        "INSERT INTO orders (customer) VALUES (1) ON CONFLICT (id) DO UPDATE SET total = (SELECT amount FROM finance.ledger)",
        "does not grant",
    ),
    (
        "MERGE INTO orders USING finance.ledger l ON false WHEN NOT MATCHED THEN INSERT (customer) VALUES (l.id)",
        "42",
    ),
    ("SELECT id FROM customers FOR UPDATE", "42"),
    ("SELECT secret INTO mine FROM customers", "42"),
    ("COPY customers TO STDOUT", "does not grant"),
    (
        "COPY (SELECT secret FROM customers) TO STDOUT",
        "does not grant",
    ),
    ("COPY orders TO PROGRAM 'id'", "COPY"),
    ("COPY orders TO '/tmp/orders'", "COPY"),
    ("COPY orders FROM '/etc/passwd'", "COPY"),
    // Functions that do more than compute.
    ("SELECT whole_ledger()", "may not be called"),
    ("SELECT public.whole_ledger()", "may not be called"),
    ("SELECT \"whole_ledger\"()", "may not be called"),
    ("SELECT * FROM whole_ledger()", "may not be called"),
    ("SELECT pg_read_file('/etc/passwd')", "may not be called"),
    (
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
        "may not be called",
    ),
    (
        "SELECT query_to_xml('SELECT * FROM finance.ledger', true, true, '')",
        "may not be called",
    ),
    (
        "SELECT table_to_xml('finance.ledger', true, true, '')",
        "may not be called",
    ),
    (
        "SELECT set_config('search_path', 'finance', false)",
        "may not be called",
    ),
    (
        "SELECT current_setting('data_directory')",
        "may not be called",
    ),
    ("SELECT pg_terminate_backend(1)", "may not be called"),
    ("SELECT pg_sleep(1000)", "may not be called"),
    ("SELECT lo_import('/etc/passwd')", "may not be called"),
    ("SELECT setval('orders_id_seq', 1)", "may not be called"),
    ("SELECT pg_get_viewdef(1)", "may not be called"),
    (
        "SELECT has_table_privilege('finance.ledger', 'SELECT')",
        "may not be called",
    ),
    ("SELECT dblink('x', 'y')", "may not be called"),
    ("CALL whole_ledger()", "not allowed"),
    ("DO $$ BEGIN END $$", "42"),
    // Becoming somebody else, and changing what names mean.
    ("SET ROLE keeper", "42"),
    ("SET LOCAL ROLE keeper", "42"),
    ("RESET ROLE", "42"),
    ("SET SESSION AUTHORIZATION keeper", "42"),
    ("RESET SESSION AUTHORIZATION", "42"),
    ("SET search_path = finance", "42"),
    ("SET LOCAL search_path TO finance", "42"),
    ("SET SCHEMA 'finance'", "42"),
    ("SET row_security = off", "42"),
    ("SET standard_conforming_strings = off", "42"),
    ("SET backslash_quote = on", "42"),
    ("SET client_encoding = 'SJIS'", "42"),
    ("SET NAMES 'SJIS'", "42"),
    ("SET default_transaction_read_only = off", "42"),
    ("SET statement_timeout = 0", "42"),
    ("CREATE TEMP TABLE customers (secret text)", "not allowed"),
    (
        "CREATE TEMP VIEW v AS SELECT secret FROM customers",
        "not allowed",
    ),
    (
        "CREATE TABLE mine AS SELECT secret FROM customers",
        "not allowed",
    ),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "not allowed",
    ),
    ("CREATE POLICY p ON customers USING (true)", "not allowed"),
    (
        "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
        "not allowed",
    ),
    (
        "ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'",
        "not allowed",
    ),
    ("GRANT SELECT ON orders TO PUBLIC", "not allowed"),
    ("DROP TABLE orders", "not allowed"),
    ("TRUNCATE orders", "not allowed"),
    ("LOCK TABLE orders", "not allowed"),
    ("VACUUM", "42"),
    ("LISTEN x", "42"),
    ("NOTIFY x", "42"),
    ("PREPARE p AS SELECT secret FROM customers", "42"),
    ("EXECUTE p", "42"),
    (
        "DECLARE c CURSOR FOR SELECT secret FROM customers",
        "does not grant",
    ),
    (
        "DECLARE c CURSOR WITH HOLD FOR SELECT id FROM customers",
        "WITH HOLD",
    ),
    ("FETCH ALL FROM nobodys", "does not exist"),
    // The database's own tables.
    ("SELECT rolpassword FROM pg_authid", "own; a template"),
    ("SELECT tablename FROM pg_tables", "own; a template"),
    (
        "SELECT query FROM pg_catalog.pg_stat_activity",
        "own; a template",
    ),
    (
        "SELECT table_name FROM information_schema.tables",
        "own; a template",
    ),
    // Plans tell of rows that are hidden.
    ("EXPLAIN ANALYZE SELECT id FROM customers", "plans for"),
    ("EXPLAIN ANALYZE DELETE FROM customers", "plans for"),
    ("EXPLAIN SELECT secret FROM customers", "plans for"),
    // Texts that two readers could take differently.
    ("SELECT 1\\; SELECT secret FROM customers", "does not grant"),
    (
        "SELECT 1 /* /* */ ; */ \\; SELECT secret FROM customers",
        "does not grant",
    ),
    (
        "SELECT $a$ $b$ $a$, secret FROM customers",
        "does not grant",
    ),
    ("SELECT E'\\'', secret FROM customers", "does not grant"),
    ("SELECT 'x' \n 'y', secret FROM customers", "42"),
    ("SELECT U&'\\0041'", "Unicode escapes"),
    ("SELECT U&\"s\\0065cret\" FROM customers", "Unicode escapes"),
    ("SELECT secret\u{a0}FROM customers", "42"),
    ("SELECT ѕecret FROM customers", "42"),
];

/// Tries all tricks in one session; what was said to each.
fn try_all(world: &World, password: &str) -> BTreeMap<usize, (String, String)> {
    let mut psql = client(world.port, "crm", password)
        .args(["-A", "-t", "-q", "-U", "desk", "-v", "VERBOSITY=verbose"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut script = String::new();
    for (n, (sql, _)) in TRICKS.iter().enumerate() {
        script.push_str(&format!("\\echo #{n}#\n\\warn #{n}#\n{sql};\n"));
    }
    script.push_str("\\echo #end#\n\\warn #end#\n");
    let mut input = psql.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        input.write_all(script.as_bytes()).unwrap();
    });
    let output = psql.wait_with_output().unwrap();
    writing.join().unwrap();
    let pieces = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let pieces: Vec<String> = text
            .split('#')
            .map(|piece| piece.trim().to_owned())
            .collect();
        pieces[1..]
            .chunks(2)
            .filter_map(|pair| Some((pair[0].parse::<usize>().ok()?, pair.get(1)?.clone())))
            .collect::<BTreeMap<_, _>>()
    };
    let (out, mut errors) = (pieces(output.stdout), pieces(output.stderr));
    assert_eq!(out.len(), TRICKS.len(), "the session broke off");
    out.into_iter()
        .map(|(n, out)| (n, (out, errors.remove(&n).unwrap_or_default())))
        .collect()
}

async fn hold(version: Version) {
    let world = World::of(version).await;
    let (_, token) = world.token("analyst", false).await;
    let password = world.password(&token);
    assert_eq!(
        world.query(&password, "SELECT count(*) FROM customers").0,
        "50"
    );
    // Nothing is computed from rows that are hidden: the first customer would divide by zero.
    let barrier = "SELECT count(*) FROM customers WHERE 1 / (id - 1) > 0";
    assert_eq!(world.query(&password, barrier).0, "1");
    // What a session begins with is what it goes back to.
    let reset = "RESET ALL; SELECT count(*) FROM customers";
    assert_eq!(world.query(&password, reset).0, "50");
    let mut wrong = Vec::new();
    for (n, (out, error)) in try_all(&world, &password) {
        let (sql, expected) = TRICKS[n];
        // Never the database's words: it did not even see them.
        let passed = error.contains("permission denied") || error.contains("LOCATION");
        if !error.contains(expected) || !out.is_empty() || passed {
            wrong.push(format!("{sql}: {out} {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    past_the_gateway(&world, &password).await;
    world.database.until_there_are_roles(false).await;
}

/// What the role of a session may do if the gateway were fooled: its rights are the grant's.
async fn past_the_gateway(world: &World, password: &str) {
    let mut open = client(world.port, "crm", password)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    world.database.until_there_are_roles(true).await;
    let role = world.database.roles();
    for (sql, expected) in [
        ("SELECT count(*) FROM customers", "50"),
        ("SELECT count(*) FROM orders", "0"),
        ("SELECT secret FROM customers", "permission denied"),
        ("UPDATE customers SET name = 'x'", "permission denied"),
        ("SELECT * FROM finance.ledger", "permission denied"),
        ("CREATE TABLE finance.mine (id int)", "permission denied"),
        ("CREATE ROLE mine", "permission denied"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("SET ROLE keeper", "permission denied"),
        (
            "ALTER TABLE customers DISABLE ROW LEVEL SECURITY",
            "must be owner",
        ),
        ("DROP POLICY everyone_else ON customers", "must be owner"),
    ] {
        let acting = format!("SET SESSION AUTHORIZATION {role}; {sql}");
        let (out, error) = super::said(world.database.admin(&acting));
        assert!(
            out == expected || error.contains(expected),
            "{sql}: {out} {error}"
        );
    }
    let rights = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolconnlimit \
                  FROM pg_roles WHERE rolname ~ '^sallyport_[0-9a-f]{20}$'";
    assert_eq!(world.database.asked(rights), "f|f|f|f|f|1");
    drop(open.stdin.take());
    open.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_gateway_nor_postgresql_15_lets_a_session_out_of_its_grant() {
    hold(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_gateway_nor_postgresql_18_lets_a_session_out_of_its_grant() {
    hold(Version::V18).await;
}
