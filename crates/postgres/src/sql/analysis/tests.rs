use super::super::lexer::lex;
use super::super::{Relation, RelationKind};
use super::*;
use proptest::prelude::*;

fn catalog() -> Catalog {
    let relation = |schema: &str, name: &str, columns: &[&str]| Relation {
        schema: schema.to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        row_security: false,
        open_policies: false,
        sequences: Vec::new(),
    };
    Catalog::new(
        vec![
            relation("public", "customers", &["id", "name", "region", "secret"]),
            relation("public", "orders", &["id", "customer", "total"]),
            relation("finance", "ledger", &["id", "amount"]),
            relation("pg_catalog", "pg_authid", &["rolname", "rolpassword"]),
        ],
        vec!["public".to_owned()],
    )
}

fn analysed(text: &str) -> Result<Analysed, Refused> {
    let lexed = lex(text).map_err(|error| Refused::syntax(error.to_string()))?;
    assert_eq!(lexed.len(), 1, "{text}");
    analyse(&lexed[0], &catalog(), &BTreeSet::new())
}

/// What a statement touches, in one line.
fn touches(text: &str) -> String {
    let analysed = analysed(text).unwrap_or_else(|refused| panic!("{text}: {refused}"));
    let each = analysed.accesses.iter().map(|access| {
        let columns = access.columns.as_ref().map_or("*".to_owned(), |columns| {
            columns.iter().cloned().collect::<Vec<_>>().join(",")
        });
        format!("{} {}({columns})", access.operation, access.table)
    });
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn queries_touch_what_they_name() {
    for (text, expected) in [
        ("SELECT 1", ""),
        (
            "SELECT name FROM customers",
            "select public.customers(name)",
        ),
        (
            "SELECT * FROM customers c",
            "select public.customers(id,name,region,secret)",
        ),
        (
            "SELECT c.* FROM orders o, customers c",
            "select public.customers(id,name,region,secret) select public.orders()",
        ),
        (
            "SELECT count(*) FROM Customers WHERE \"id\" > 5",
            "select public.customers(id)",
        ),
        (
            "SELECT c FROM customers c",
            "select public.customers(id,name,region,secret)",
        ),
        (
            "SELECT row_to_json(c) FROM customers c",
            "select public.customers(id,name,region,secret)",
        ),
        (
            "SELECT name AS n FROM customers ORDER BY n, region",
            "select public.customers(name,region)",
        ),
        (
            "WITH x AS (SELECT id FROM finance.ledger) SELECT id FROM x",
            "select finance.ledger(id)",
        ),
        (
            "WITH customers AS (SELECT 1 AS id) SELECT id FROM customers",
            "",
        ),
        (
            "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n+1 FROM t WHERE n < 9) SELECT sum(n) FROM t",
            "",
        ),
        (
            "SELECT (SELECT secret FROM customers WHERE customers.id = o.customer) FROM orders o",
            "select public.customers(id,secret) select public.orders(customer)",
        ),
        (
            "SELECT total FROM customers JOIN orders USING (id)",
            "select public.customers(id) select public.orders(id,total)",
        ),
        (
            "SELECT 1 WHERE EXISTS (SELECT FROM finance.ledger)",
            "select finance.ledger()",
        ),
        (
            "SELECT id FROM orders UNION SELECT id FROM customers ORDER BY id",
            "select public.customers(id) select public.orders(id)",
        ),
        (
            "SELECT s.n FROM (SELECT name AS n FROM customers) s",
            "select public.customers(name)",
        ),
        (
            "SELECT sum(total) OVER (PARTITION BY customer ORDER BY id) FROM orders",
            "select public.orders(customer,id,total)",
        ),
        (
            "SELECT name FROM customers FOR UPDATE",
            "select public.customers(name) update public.customers()",
        ),
        (
            "SELECT id FROM orders WHERE total > ALL (SELECT amount FROM finance.ledger) LIMIT 5 OFFSET $1",
            "select finance.ledger(amount) select public.orders(id,total)",
        ),
        (
            "EXPLAIN ANALYZE DELETE FROM customers",
            "delete public.customers(*)",
        ),
        ("SELECT n FROM generate_series(1, 9) n", ""),
        (
            "SELECT extract(year FROM now()), CASE WHEN id = 1 THEN 'a' END FROM orders",
            "select public.orders(id)",
        ),
    ] {
        assert_eq!(touches(text), expected, "{text}");
    }
}

/// What a statement touches, in no particular order.
fn each(touches: &str) -> std::collections::BTreeSet<String> {
    touches
        .split(") ")
        .map(|touched| touched.trim_end_matches(')').to_owned())
        .collect()
}

#[test]
fn writing_touches_what_it_writes_and_reads() {
    for (text, expected) in [
        (
            "INSERT INTO orders VALUES (1, 2, 3)",
            "insert public.orders(customer,id,total)",
        ),
        (
            "INSERT INTO orders (id, total) SELECT id, amount FROM finance.ledger RETURNING id",
            "select finance.ledger(amount,id) select public.orders(id) insert public.orders(id,total)",
        ),
        (
            "INSERT INTO orders (id) VALUES (DEFAULT) ON CONFLICT (id) DO UPDATE SET total = excluded.total WHERE orders.customer = 1",
            "select public.orders(customer,id) insert public.orders(id) update public.orders(total)",
        ),
        (
            "UPDATE customers SET name = 'x' WHERE id = 1",
            "select public.customers(id) update public.customers(name)",
        ),
        (
            "UPDATE customers c SET (name, region) = (o.id, 'x') FROM orders o WHERE o.customer = c.id",
            "select public.customers(id) update public.customers(name,region) select public.orders(customer,id)",
        ),
        (
            "DELETE FROM customers USING orders o WHERE o.customer = customers.id RETURNING *",
            "select public.customers(id,name,region,secret) select public.orders(customer,id,total) delete public.customers(*)",
        ),
        (
            "WITH d AS (DELETE FROM orders RETURNING id) SELECT * FROM d",
            "select public.orders(id) delete public.orders(*)",
        ),
        (
            "COPY customers (id, name) TO STDOUT",
            "select public.customers(id,name)",
        ),
        (
            "COPY orders FROM STDIN WITH (FORMAT csv)",
            "insert public.orders(customer,id,total)",
        ),
        (
            "COPY (SELECT secret FROM customers) TO STDOUT",
            "select public.customers(secret)",
        ),
    ] {
        assert_eq!(each(&touches(text)), each(expected), "{text}");
    }
}

#[test]
fn tricks_are_refused() {
    for text in [
        "SELECT pg_sleep(10)",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
        "SELECT \"pg_read_file\"('/etc/passwd')",
        "SELECT public.lower('x')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT * FROM dblink('x', 'y') AS t(a int)",
        "SELECT * FROM pg_ls_dir('.')",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT query_to_xml('select 1', true, true, '')",
        "SELECT 'customers'::regclass",
        "SELECT CAST('x' AS regproc)",
        "SELECT regclass 'customers'",
        "SELECT ARRAY['x']::regclass[]",
        "SELECT name FROM customers WHERE pg_sleep(1) IS NULL",
        "SELECT name FROM customers ORDER BY pg_sleep(1)",
        "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM customers",
        "SELECT customers.pg_sleep FROM customers",
        "SELECT (customers).secret FROM customers",
        "SELECT missing FROM customers",
        "SELECT name INTO x FROM customers",
        "COPY customers TO PROGRAM 'sh'",
        "COPY customers FROM PROGRAM 'sh'",
        "COPY customers TO '/tmp/x'",
        "COPY customers FROM '/tmp/x'",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET search_path = finance",
        "SET LOCAL search_path TO finance",
        "SET row_security = off",
        "SET standard_conforming_strings = off",
        "SET client_encoding = 'SQL_ASCII'",
        "RESET ROLE",
        "RESET SESSION AUTHORIZATION",
        "RESET search_path",
        "SHOW data_directory",
        "DO $$ BEGIN END $$",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TEMP TABLE t (a int)",
        "CREATE TABLE t AS SELECT 1",
        "CALL p()",
        "LISTEN x",
        "NOTIFY x",
        "LOCK TABLE customers",
        "TRUNCATE customers",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "GRANT SELECT ON customers TO PUBLIC",
        "ALTER TABLE customers ADD COLUMN x int",
        "DROP TABLE customers",
        "VACUUM customers",
        "MERGE INTO customers USING orders ON true WHEN MATCHED THEN DELETE",
        "EXPLAIN SET ROLE x",
        "SELECT * FROM customers NATURAL JOIN orders",
        "TABLE customers",
        "SELECT c.x FROM customers c(x)",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "nonsense",
        "SELECT FROM WHERE",
    ] {
        assert!(analysed(text).is_err(), "{text}: {:?}", analysed(text));
    }
}

#[test]
fn what_clients_say_of_themselves_is_taken() {
    for (text, method) in [
        ("BEGIN", "BEGIN"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", "BEGIN"),
        ("START TRANSACTION", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK TO SAVEPOINT a", "ROLLBACK"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE SAVEPOINT a", "RELEASE"),
        ("SET application_name = 'x'", "SET"),
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("SET extra_float_digits = 3", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("SHOW server_version", "SHOW"),
        ("SHOW TRANSACTION ISOLATION LEVEL", "SHOW"),
        ("RESET ALL", "RESET"),
        ("DISCARD ALL", "DISCARD"),
        ("DEALLOCATE ALL", "DEALLOCATE"),
        ("CLOSE ALL", "CLOSE"),
        ("UNLISTEN *", "UNLISTEN"),
        ("SELECT version()", "SELECT"),
        ("SELECT current_user, current_date", "SELECT"),
        ("SELECT pg_advisory_unlock_all()", "SELECT"),
    ] {
        match analysed(text) {
            Ok(analysed) => assert_eq!(analysed.method, method, "{text}"),
            Err(refused) => panic!("{text}: {refused}"),
        }
    }
    assert_eq!(
        analysed("DECLARE c CURSOR FOR SELECT name FROM customers")
            .unwrap()
            .kind,
        Kind::Declare("c".to_owned())
    );
    assert_eq!(
        analysed("FETCH 10 FROM c").unwrap().kind,
        Kind::Fetch("c".to_owned())
    );
    assert_eq!(
        analysed("DEALLOCATE \"A\"").unwrap().kind,
        Kind::Deallocate(Some("A".to_owned()))
    );
}

#[test]
fn what_is_not_there_is_noted_and_still_decided() {
    let analysed = analysed("SELECT x.a FROM finance.hidden x").unwrap();
    assert_eq!(analysed.missing.as_deref(), Some("finance.hidden"));
    assert_eq!(analysed.accesses[0].table, "finance.hidden");
}

#[test]
fn what_is_hidden_looks_like_what_is_not_there() {
    let mut catalog = catalog();
    catalog.hide(|name| name == "public.orders");
    let seen = |text: &str| {
        let lexed = lex(text).unwrap();
        analyse(&lexed[0], &catalog, &BTreeSet::new()).unwrap()
    };
    let (hidden, absent) = (
        seen("SELECT *, secret, none FROM customers"),
        seen("SELECT *, secret, none FROM absent"),
    );
    assert_eq!(hidden.missing.as_deref(), Some("public.customers"));
    assert_eq!(hidden.accesses[0].columns, absent.accesses[0].columns);
    assert_eq!(seen("SELECT total FROM orders").missing, None);
}

#[test]
fn names_of_the_database_itself_come_first() {
    assert_eq!(
        touches("SELECT rolname FROM pg_authid"),
        "select pg_catalog.pg_authid(rolname)"
    );
}

#[test]
fn conditions_are_single_expressions() {
    assert!(check_condition("region = 'eu' AND id > 5").is_ok());
    for bad in ["", "a; b", "true) OR (true", "true --", "a b", "'x"] {
        assert!(bad == "true --" || check_condition(bad).is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever is made of these pieces is taken or refused, and what is taken touches only what is there.
    #[test]
    fn anything_is_taken_or_refused(pieces in proptest::collection::vec(
        prop::sample::select(vec![
            "SELECT", "*", "name", "FROM", "customers", "orders", "WHERE", "=", "'x'", "(", ")", ",",
            "JOIN", "ON", "WITH", "AS", "UPDATE", "SET", "INSERT INTO", "VALUES", "count(*)", "1",
            "UNION", "ORDER BY", "c", ".", "finance.ledger", "RETURNING", "DELETE", "NOT", "-", "::text",
        ]), 0..24)) {
        let text = pieces.join(" ");
        if let Ok(lexed) = lex(&text) {
            for one in &lexed {
                let _ = analyse(one, &catalog(), &BTreeSet::new());
            }
        }
    }
}
