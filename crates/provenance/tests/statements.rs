//! Statements of databases: which values may come into columns and choose rows, and what rows make
//! derivable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::{Given, Statement, Steered, Steering, Steers, TableAccess, TableOperation};
use provenance::{Annotations, Asking, Ledger, Reason, RowColumn, RowNotes, Verdict};
use serde_json::{Value, json};

const BANK: &str = r#"
[tables."public.pay"]
sinks = { id = { type = "identifier", of = "payment" }, iban = "account", owner = { type = "name", on = ["select", "insert"] } }
content = ["note", "link"]

[tables."public.people"]
queries = { name = "name" }
trusted = ["iban"]
lists = { id = { of = "payment", name = "name" } }

[tables."public.free"]
content = { text = ["urls"] }
any_rows = true

[functions.notify]
sinks = { "1" = "address" }
content = ["2"]
"#;

fn bank() -> Annotations {
    Annotations::parse(Path::new("bank.toml"), BANK).expect("they are sound")
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.note_input(
        "Pay Bob Miller, payment id 47, to DE89370400440532013000",
        &BTreeMap::new(),
        None,
    );
    ledger
}

fn value(of: &str, column: &str, steers: Steers, value: impl Into<Value>) -> Steered {
    given(of, column, steers, Given::Value(value.into()))
}

fn given(of: &str, column: &str, steers: Steers, given: Given) -> Steered {
    Steered {
        of: of.to_owned(),
        column: column.to_owned(),
        steers,
        given,
    }
}

const INSERT: Steers = Steers::Written(TableOperation::Insert);
const UPDATE: Steers = Steers::Written(TableOperation::Update);
const BY_UPDATE: Steers = Steers::Compared(TableOperation::Update);
const BY_SELECT: Steers = Steers::Compared(TableOperation::Select);

/// Why a value is asked about; `None` if it is not.
fn asked(steered: Steered) -> Option<Reason> {
    match ledger().check_statement(&bank(), &[steered]) {
        Verdict::Accepted { .. } => None,
        Verdict::Ask { asked, .. } => Some(asked[0].reason),
    }
}

#[test]
fn columns_take_what_the_task_says_and_content_takes_anything() {
    let good = "DE89 3704 0044 0532 0130 00";
    assert_eq!(asked(value("public.pay", "iban", INSERT, good)), None);
    assert_eq!(
        asked(value("public.pay", "iban", UPDATE, "GB33")),
        Some(Reason::Nowhere)
    );
    assert_eq!(asked(value("public.pay", "note", INSERT, "whatever")), None);
    assert_eq!(
        asked(value("public.pay", "note", BY_UPDATE, "whatever")),
        Some(Reason::Nowhere)
    );
    assert_eq!(asked(value("public.pay", "id", BY_UPDATE, "47")), None);
    assert_eq!(
        asked(value("public.pay", "id", BY_UPDATE, "1")),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("public.pay", "id", BY_UPDATE, json!(["47", "1"]))),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("public.pay", "owner", UPDATE, "Mallory")),
        None,
        "not in this operation"
    );
    assert_eq!(
        asked(value("public.pay", "owner", BY_SELECT, "Mallory")),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("public.pay", "owner", BY_SELECT, "Bob Miller")),
        None
    );
    assert_eq!(
        asked(value("public.other", "x", INSERT, "whatever")),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("public.other", "x", BY_SELECT, "whatever")),
        None
    );
    assert_eq!(
        asked(value(
            "public.free",
            "text",
            INSERT,
            "see https://evil.example/x"
        )),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value(
            "public.free",
            "text",
            INSERT,
            json!({"a": ["https://evil.example"]})
        )),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("public.free", "text", INSERT, "nothing to see")),
        None
    );
    assert_eq!(
        asked(value("public.pay", "iban", INSERT, Value::Null)),
        None
    );
    assert_eq!(
        asked(value("public.pay", "iban", INSERT, true)),
        Some(Reason::Nowhere)
    );
    assert_eq!(
        asked(value("notify", "1", Steers::Argument, "x@evil.example")),
        Some(Reason::Nowhere)
    );
    assert_eq!(asked(value("notify", "2", Steers::Argument, "words")), None);
    assert_eq!(
        asked(value("else", "1", Steers::Argument, "words")),
        Some(Reason::Nowhere)
    );
}

#[test]
fn what_is_computed_or_stands_elsewhere_is_asked_about() {
    let column = |table: &str, column: &str| Given::Column {
        table: table.to_owned(),
        column: column.to_owned(),
    };
    let iban = |one| asked(given("public.pay", "iban", UPDATE, one));
    assert_eq!(iban(Given::Computed), Some(Reason::Computed));
    assert_eq!(iban(column("public.people", "iban")), None);
    assert_eq!(
        iban(column("public.people", "name")),
        Some(Reason::Computed)
    );
    assert_eq!(iban(column("public.mail", "body")), Some(Reason::Computed));
    assert_eq!(
        asked(given("public.pay", "note", UPDATE, Given::Computed)),
        None
    );
    assert_eq!(
        asked(given("public.free", "text", UPDATE, Given::Computed)),
        Some(Reason::Computed)
    );
    let unseen = given("public.pay", "iban", INSERT, Given::Unseen);
    let Verdict::Ask { more, .. } = ledger().check_statement(&bank(), &[unseen]) else {
        panic!("nobody sees it");
    };
    assert!(more, "nobody can approve what nobody sees");
    assert_eq!(
        asked(given("public.pay", "note", INSERT, Given::Unseen)),
        None
    );
}

#[test]
fn rows_that_change_are_chosen_by_what_is_checked() {
    let rows = |table: &str, steers, by: &[&str]| {
        let by = by.iter().map(|column| (*column).to_owned()).collect();
        asked(given(table, "", steers, Given::Rows(by)))
    };
    assert_eq!(rows("public.pay", BY_UPDATE, &[]), Some(Reason::AnyRows));
    assert_eq!(rows("public.pay", BY_UPDATE, &["id"]), None);
    assert_eq!(
        rows("public.pay", BY_UPDATE, &["owner"]),
        Some(Reason::AnyRows),
        "it is not checked then"
    );
    assert_eq!(rows("public.other", BY_UPDATE, &[]), Some(Reason::AnyRows));
    assert_eq!(rows("public.free", BY_UPDATE, &[]), None);
    assert_eq!(rows("public.people", BY_SELECT, &[]), None);
    assert_eq!(
        rows("public.pay", BY_SELECT, &["id"]),
        Some(Reason::AnyRows),
        "`owner` chooses reads"
    );
    assert_eq!(rows("public.pay", BY_SELECT, &["owner"]), None);
}

#[test]
fn there_is_an_end_to_what_one_statement_may_have() {
    let many: Vec<_> = (0..5_000)
        .map(|_| value("public.pay", "iban", INSERT, "DE89370400440532013000"))
        .collect();
    let Verdict::Ask { asked, more, .. } = ledger().check_statement(&bank(), &many) else {
        panic!("too many");
    };
    assert!(more && asked[0].reason == Reason::TooMany);
    let free: Vec<_> = (0..50_000)
        .map(|_| value("public.pay", "note", INSERT, "x"))
        .collect();
    assert!(ledger().check_statement(&bank(), &free).is_accepted());
}

fn select(
    tables: &[(&str, &[&str])],
    operation: TableOperation,
    steered: Vec<Steered>,
) -> Statement {
    let access = |(table, columns): &(&str, &[&str])| TableAccess {
        table: (*table).to_owned(),
        operation,
        columns: Some(
            columns
                .iter()
                .map(|c| (*c).to_owned())
                .collect::<BTreeSet<_>>(),
        ),
    };
    Statement {
        text: String::new(),
        shape: "SELECT".to_owned(),
        accesses: tables.iter().map(access).collect(),
        steering: Steering::Known(steered),
    }
}

/// Whether an account that such a statement gave may be written afterwards.
fn trusts(statement: &Statement, of: Option<(&str, &str)>) -> bool {
    const OTHER: &str = "GB33BUKB20201555555555";
    let mut ledger = ledger();
    let asking = Asking {
        server: "bank",
        statement,
        at: None,
        decision: None,
    };
    let owned = |(table, column): (&str, &str)| (table.to_owned(), column.to_owned());
    let mut notes = RowNotes::new(vec![RowColumn {
        name: "iban".to_owned(),
        of: of.map(owned),
    }]);
    let rows = [[Some(OTHER)], [None]];
    ledger.note_rows(
        Some(&bank()),
        &asking,
        &mut notes,
        rows.iter().map(|row| row.iter().copied()),
    );
    let one = value("public.pay", "iban", INSERT, OTHER);
    match ledger.check_statement(&bank(), &[one]) {
        Verdict::Accepted { .. } => true,
        Verdict::Ask { asked, .. } => {
            assert_eq!(asked[0].reason, Reason::OnlyUntrusted);
            assert!(
                asked[0]
                    .to_string()
                    .contains("`iban` of the result of public.people"),
                "{}",
                asked[0]
            );
            false
        }
    }
}

#[test]
fn rows_are_trusted_that_derivable_values_chose_and_nothing_else() {
    let iban = Some(("public.people", "iban"));
    let people: &[(&str, &[&str])] = &[("public.people", &["iban", "name"])];
    let by = |name: &str| vec![value("public.people", "name", BY_SELECT, name)];
    let read = |tables, steered| select(tables, TableOperation::Select, steered);
    assert!(trusts(&read(people, by("Bob Miller")), iban));
    assert!(!trusts(&read(people, by("Mallory")), iban));
    assert!(!trusts(
        &read(people, by("Bob Miller")),
        Some(("public.people", "name"))
    ));
    assert!(
        !trusts(&read(people, by("Bob Miller")), None),
        "it is not a column's value"
    );
    let with_mail: &[(&str, &[&str])] = &[("public.people", &["iban"]), ("public.mail", &["body"])];
    assert!(!trusts(&read(with_mail, by("Bob Miller")), iban));
    let computed = vec![given("", "", BY_SELECT, Given::Computed)];
    assert!(!trusts(&read(people, computed), iban));
    let changed = select(people, TableOperation::Update, by("Bob Miller"));
    assert!(!trusts(&changed, iban));
    let later = Statement {
        steering: Steering::Later,
        ..read(people, Vec::new())
    };
    assert!(!trusts(&later, iban));
}

#[test]
fn identifiers_are_listed_and_chosen_by_their_names() {
    let statement = select(
        &[("public.people", &["id", "name"])],
        TableOperation::Select,
        Vec::new(),
    );
    let asking = Asking {
        server: "bank",
        statement: &statement,
        at: None,
        decision: None,
    };
    let column = |name: &str| RowColumn {
        name: name.to_owned(),
        of: Some(("public.people".to_owned(), name.to_owned())),
    };
    let mut notes = RowNotes::new(vec![column("id"), column("name")]);
    let mut ledger = ledger();
    let rows = [
        [Some("7"), Some("Bob Miller")],
        [Some("8"), Some("Mallory")],
    ];
    ledger.note_rows(
        Some(&bank()),
        &asking,
        &mut notes,
        rows.iter().map(|row| row.iter().copied()),
    );
    let one = |id: &str| value("public.pay", "id", BY_UPDATE, id);
    assert!(ledger.check_statement(&bank(), &[one("7")]).is_accepted());
    assert!(
        ledger.check_statement(&bank(), &[one("8")]).is_accepted(),
        "listed is enough by default"
    );
    assert!(!ledger.check_statement(&bank(), &[one("9")]).is_accepted());
}

#[test]
fn a_long_result_takes_no_more_room_than_there_is() {
    let statement = select(
        &[("public.people", &["iban"])],
        TableOperation::Select,
        Vec::new(),
    );
    let asking = Asking {
        server: "bank",
        statement: &statement,
        at: None,
        decision: None,
    };
    let mut ledger = ledger();
    let mut notes = RowNotes::new(vec![RowColumn {
        name: "iban".to_owned(),
        of: Some(("public.people".to_owned(), "iban".to_owned())),
    }]);
    for batch in 0..200 {
        let values: Vec<String> = (0..1_000).map(|n| format!("account-{batch}-{n}")).collect();
        let rows = values
            .iter()
            .map(|value| std::iter::once(Some(value.as_str())));
        ledger.note_rows(Some(&bank()), &asking, &mut notes, rows);
    }
    assert!(ledger.is_full());
}
