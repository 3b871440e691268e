use super::*;
use crate::sql::catalog::RelationKind;
use crate::sql::lexer::lex_with_values;

fn catalog() -> Catalog {
    let relation = |name: &str, columns: &[&str]| Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind: RelationKind::Table,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        row_security: false,
        open_policies: false,
        sequences: Vec::new(),
    };
    let relations = vec![
        relation("pay", &["id", "iban", "amount", "note"]),
        relation("people", &["id", "name", "email"]),
        relation("mail", &["id", "sender", "body"]),
    ];
    Catalog::new(relations, vec!["public".to_owned()])
}

/// What decides in a statement, each as `way table.column <- value`.
fn found(sql: &str) -> (Vec<String>, Flows) {
    let lexed = lex_with_values(sql).unwrap();
    let values = lexed[0].values.as_ref().unwrap();
    let functions = BTreeSet::from(["notify".to_owned()]);
    let flows =
        flows(values, &catalog(), &functions).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let shown = flows.flows.iter().map(|flow| {
        let way = match flow.steers {
            Steers::Written(operation) => format!("write-{operation}"),
            Steers::Compared(operation) => format!("choose-{operation}"),
            Steers::Argument => "argument".to_owned(),
        };
        let from = match &flow.from {
            From::Constant {
                number,
                negative,
                elements,
            } => {
                let minus = if *negative { "-" } else { "" };
                let each = if *elements { "*" } else { "" };
                format!(
                    "{minus}{}{each}",
                    values.constants[*number].as_deref().unwrap_or("?")
                )
            }
            From::Parameter { number, elements } => {
                format!("${number}{}", if *elements { "*" } else { "" })
            }
            From::Boolean(value) => value.to_string(),
            From::Column(table, column) => format!("[{table}.{column}]"),
            From::Computed => "computed".to_owned(),
            From::Unseen => "unseen".to_owned(),
            From::Rows(by) => format!("rows({})", by.join(",")),
        };
        let of = flow.of.strip_prefix("public.").unwrap_or(&flow.of);
        format!("{way} {of}.{} <- {from}", flow.column)
    });
    (shown.collect(), flows.clone())
}

#[track_caller]
fn says(sql: &str, expected: &[&str]) {
    assert_eq!(found(sql).0, expected, "{sql}");
}

/// Whether a value in a sink is not taken for what it seems: it is computed, or comes from a table.
#[track_caller]
fn is_computed(sql: &str, place: &str) {
    let (all, _) = found(sql);
    let hidden = all.iter().any(|one| {
        // `?` is a constant that cannot be read, which is computed too.
        one.starts_with(place)
            && (one.ends_with("computed") || one.ends_with("<- ?") || one.contains("<- ["))
    });
    assert!(hidden, "{sql}: {all:?}");
}

#[test]
fn what_is_written_is_told_by_column() {
    says(
        "INSERT INTO pay (iban, amount) VALUES ('DE1', 5), ($1, DEFAULT)",
        &[
            "write-insert pay.iban <- DE1",
            "write-insert pay.amount <- 5",
            "write-insert pay.iban <- $1",
        ],
    );
    says(
        "INSERT INTO pay VALUES (1, E'D\\x45' || '1', -3, NULL)",
        &[
            "write-insert pay.id <- 1",
            "write-insert pay.iban <- computed",
            "write-insert pay.iban <- DE",
            "write-insert pay.iban <- 1",
            "write-insert pay.amount <- -3",
        ],
    );
    says(
        "UPDATE pay SET amount = amount - $1, iban = iban, note = $$x$$ WHERE id = $2",
        &[
            "write-update pay.amount <- $1",
            "write-update pay.note <- x",
            "choose-update pay.id <- $2",
            "choose-update pay. <- rows(id)",
        ],
    );
    says(
        "UPDATE pay SET (iban, amount) = ('a', 1) WHERE id IN (1, 2)",
        &[
            "write-update pay.iban <- a",
            "write-update pay.amount <- 1",
            "choose-update pay.id <- 1",
            "choose-update pay.id <- 2",
            "choose-update pay. <- rows(id)",
        ],
    );
    says(
        "COPY pay (iban, note) FROM STDIN",
        &[
            "write-insert pay.iban <- unseen",
            "write-insert pay.note <- unseen",
        ],
    );
}

#[test]
fn values_that_hide_in_expressions_are_not_taken_for_what_they_seem() {
    for value in [
        "'DE' || '1'",
        "chr(68) || chr(69)",
        "concat('D', 'E1')",
        "format('%s1', 'DE')",
        "replace('DEx', 'x', '1')",
        "convert_from(decode('REUx', 'base64'), 'UTF8')",
        "'DE1xx'::varchar(3)",
        "CAST('DE1xx' AS char(3))",
        "lower('DE1')",
        "('{\"a\":\"DE1\"}'::json)->>'a'",
        "('{DE1}'::text[])[1]",
        "(SELECT string_agg(x, '') FROM unnest(ARRAY['D', 'E1']) x)",
        "X'1f'::int::text",
        "note",
        "substring('xDE1' from 2)",
        "CASE WHEN true THEN 'D' || 'E1' END",
        "coalesce(NULL, 'D' || 'E1')",
        "(SELECT body FROM mail WHERE id = 7)",
        "(SELECT max(body) FROM mail)",
        "(VALUES ('D' || 'E1'))",
        "trim('xDE1x', 'x')",
        "amount * 100",
        "amount + 5 + 6",
    ] {
        is_computed(
            &format!("UPDATE pay SET iban = {value} WHERE id = 1"),
            "write-update pay.iban",
        );
    }
    for sql in [
        "INSERT INTO pay (iban) SELECT body FROM mail",
        "INSERT INTO pay (iban) SELECT * FROM (SELECT body FROM mail) x",
        "WITH x AS (SELECT body AS b FROM mail) INSERT INTO pay (iban) SELECT b FROM x",
        "WITH RECURSIVE x(b) AS (SELECT 'a' UNION SELECT b || 'c' FROM x) INSERT INTO pay (iban) SELECT b FROM x",
        "INSERT INTO pay (iban) SELECT 'a' UNION ALL SELECT body FROM mail",
        "INSERT INTO pay (iban) TABLE mail",
        "INSERT INTO pay (iban) VALUES ((SELECT body FROM mail))",
    ] {
        let lexed = lex_with_values(sql).unwrap();
        if flows(
            lexed[0].values.as_ref().unwrap(),
            &catalog(),
            &BTreeSet::new(),
        )
        .is_ok()
        {
            is_computed(sql, "write-insert pay.iban");
        }
    }
    is_computed(
        "UPDATE pay SET iban = m.body FROM mail m WHERE pay.id = 1 AND m.id = 1",
        "write-update pay.iban",
    );
    is_computed(
        "INSERT INTO pay (id, note, iban) VALUES (1, 'evil', 'ok') ON CONFLICT (id) DO UPDATE SET iban = pay.note",
        "write-update pay.iban",
    );
}

#[test]
fn what_is_only_passed_on_is_followed() {
    says(
        "INSERT INTO pay (iban) SELECT CAST($1 AS text)",
        &["write-insert pay.iban <- $1"],
    );
    let both = [
        "choose-insert people.name <- Bob",
        "choose-select people. <- rows(name)",
        "write-insert pay.iban <- [public.people.email]",
    ];
    says(
        "INSERT INTO pay (iban) SELECT email FROM people WHERE name = 'Bob'",
        &both,
    );
    says(
        "WITH x AS (SELECT email AS e FROM people WHERE name = 'Bob') INSERT INTO pay (iban) SELECT e FROM x",
        &both,
    );
    // `excluded` is what was to be inserted, by whatever column.
    says(
        "INSERT INTO pay (id, note) VALUES (1, 'evil') ON CONFLICT (id) DO UPDATE SET iban = excluded.note",
        &[
            "write-insert pay.id <- 1",
            "write-insert pay.note <- evil",
            "choose-update pay.id <- 1",
            "choose-update pay. <- rows(id)",
            "write-update pay.iban <- evil",
        ],
    );
    says(
        "INSERT INTO pay (iban) SELECT * FROM unnest($1::text[])",
        &["write-insert pay.iban <- $1*"],
    );
    says(
        "INSERT INTO pay (iban) VALUES (coalesce($1, 'a'))",
        &["write-insert pay.iban <- $1", "write-insert pay.iban <- a"],
    );
    says("INSERT INTO pay (iban) VALUES (now())", &[]);
}

#[test]
fn rows_must_be_chosen_by_exact_values() {
    let by = |condition: &str| {
        let (all, _) = found(&format!("DELETE FROM pay WHERE {condition}"));
        let rows = all
            .iter()
            .find(|one| one.starts_with("choose-delete pay. <- rows"));
        rows.unwrap().clone()
    };
    for condition in [
        "id = 1",
        "1 = id",
        "(id = $1) AND note <> 'x'",
        "id IN (1, 2)",
        "id = ANY($1)",
        "pay.id::text = '1'",
        "id = 1 AND (note = 'a' OR note = 'b')",
    ] {
        assert_eq!(
            by(condition),
            "choose-delete pay. <- rows(id)",
            "{condition}"
        );
    }
    for condition in [
        "true",
        "id = 1 OR true",
        "id = id",
        "id > 0",
        "id <> 7",
        "NOT id = 7",
        "id IS NOT NULL",
        "id = id + 0",
        "id BETWEEN 0 AND 9",
        "id = 1 OR note = 'b'",
        "id NOT IN (1)",
        "id = CASE WHEN true THEN id ELSE 1 END",
        "coalesce(id = 1, true)",
        "note LIKE '%'",
    ] {
        assert_eq!(by(condition), "choose-delete pay. <- rows()", "{condition}");
    }
    let (all, _) = found("DELETE FROM pay");
    assert_eq!(all, ["choose-delete pay. <- rows()"]);
    // Another table chooses by what stands in it.
    let (all, _) = found("DELETE FROM pay USING mail m WHERE pay.id = m.id");
    assert!(
        all.contains(&"choose-delete pay.id <- [public.mail.id]".to_owned()),
        "{all:?}"
    );
    let (all, _) = found("DELETE FROM pay WHERE id IN (SELECT id FROM mail WHERE sender = 'x')");
    assert!(
        all.contains(&"choose-delete pay.id <- [public.mail.id]".to_owned()),
        "{all:?}"
    );
    assert!(
        all.contains(&"choose-delete mail.sender <- x".to_owned()),
        "{all:?}"
    );
}

#[test]
fn reads_say_what_chose_their_rows_and_what_their_columns_are() {
    let (all, flows) = found(
        "SELECT p.email, p.id AS n, upper(name), 'x' FROM people p WHERE p.name = $1 LIMIT 5",
    );
    assert_eq!(
        all,
        [
            "choose-select people.name <- $1",
            "choose-select people. <- rows(name)"
        ]
    );
    let of: Vec<_> = flows
        .outputs
        .unwrap()
        .into_iter()
        .map(|one| (one.name, one.of))
        .collect();
    let column = |name: &str| Some(("public.people".to_owned(), name.to_owned()));
    assert_eq!(
        of,
        [
            ("email".to_owned(), column("email")),
            ("n".to_owned(), column("id")),
            ("upper".to_owned(), None),
            (String::new(), None)
        ]
    );
    // Order and position choose as conditions do.
    for sql in [
        "SELECT email, (id = 666) AS k FROM people ORDER BY k DESC LIMIT 1",
        "SELECT email, (id = 666) FROM people ORDER BY 2 DESC LIMIT 1",
        "SELECT email FROM people ORDER BY id = 666 DESC LIMIT 1",
        "SELECT email FROM people LIMIT 1 OFFSET 666",
        "SELECT email FROM (SELECT email, id = 666 AS k FROM people) s WHERE k",
        "SELECT email FROM people GROUP BY email HAVING max(id) = 666",
        "SELECT DISTINCT ON (1) email, (id = 666) FROM people ORDER BY 1",
        "SELECT p.email FROM people p JOIN (SELECT 666 AS id) x USING (id)",
        "SELECT p.email FROM people p JOIN LATERAL (SELECT 666 AS n) x ON x.n = p.id",
        "SELECT p.email FROM people p WHERE (p.id, 1) = (666, 1)",
        "SELECT p.email FROM people p WHERE EXISTS (SELECT FROM mail WHERE p.id = 666)",
        "WITH x AS (SELECT 666 AS id) SELECT p.email FROM people p, x WHERE p.id = x.id",
        "SELECT email FROM people WHERE id IN (VALUES (666))",
        "SELECT email FROM people p WHERE id = ANY('{666}')",
    ] {
        let (all, _) = found(sql);
        assert!(
            all.iter()
                .any(|one| one.contains("666") || one.ends_with("computed")),
            "{sql}: {all:?}"
        );
    }
}

#[test]
fn functions_that_were_added_are_given_values() {
    says(
        "SELECT notify('a@b.example', 1)",
        &["argument notify.1 <- a@b.example", "argument notify.2 <- 1"],
    );
    says(
        "SELECT * FROM notify('a' || 'b')",
        &[
            "argument notify.1 <- computed",
            "argument notify.1 <- a",
            "argument notify.1 <- b",
        ],
    );
    let (all, _) = found("SELECT id FROM people ORDER BY lower(notify($1))");
    assert!(
        all.contains(&"argument notify.1 <- $1".to_owned()),
        "{all:?}"
    );
    let (all, _) = found("UPDATE pay SET note = notify($1) WHERE id = 1 RETURNING notify($2)");
    for one in ["argument notify.1 <- $1", "argument notify.1 <- $2"] {
        assert!(all.contains(&one.to_owned()), "{all:?}");
    }
}

#[test]
fn expressions_cannot_grow_without_bound() {
    let mut sql = "WITH c0 AS (SELECT $1 AS x, $2 AS y)".to_owned();
    for n in 1..30 {
        let before = n - 1;
        sql.push_str(&format!(
            ", c{n} AS (SELECT coalesce(c{before}.x, c{before}.y, c{before}.x) AS x, coalesce(c{before}.y, c{before}.x) AS y FROM c{before})"
        ));
    }
    sql.push_str(" INSERT INTO pay (iban) SELECT x FROM c29");
    says(
        &sql,
        &["write-insert pay.iban <- $1", "write-insert pay.iban <- $2"],
    );
    let many: Vec<String> = (0..300).map(|n| format!("'{n}'")).collect();
    is_computed(
        &format!(
            "UPDATE pay SET iban = coalesce({}) WHERE id = 1",
            many.join(", ")
        ),
        "write-update pay.iban",
    );
}
