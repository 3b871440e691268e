//! What an administrator says about the tables and functions of a database.

use std::collections::{BTreeMap, BTreeSet};

use model::TableOperation;
use serde::Deserialize;

use super::written::{
    Arguments, Contents, FullListing, Reader, TrustWord, WrittenListing, WrittenSink, contents,
};
use super::{Inside, Kind, Sink};

/// What is known about one table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Columns that decide who or what is affected.
    pub(crate) sinks: BTreeMap<String, Column>,
    /// Columns that affect no one else when they are written.
    pub(crate) content: BTreeMap<String, Inside>,
    /// Types of columns that are compared in reads.
    pub(crate) queries: BTreeMap<String, Sink>,
    /// What is trusted of what stands in it.
    pub(crate) trusted: TrustedColumns,
    /// Columns with identifiers: of what, and the column that has the thing's name.
    pub(crate) lists: BTreeMap<String, (String, Option<String>)>,
    /// Whether rows may be changed and removed that no checked value chooses.
    pub(crate) any_rows: bool,
}

/// One column that is a sink.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    pub(crate) sink: Sink,
    /// The operations that it is checked in; `None` for all that change something.
    pub(crate) on: Option<BTreeSet<TableOperation>>,
}

/// What of a table is trusted.
#[derive(Debug, Clone, Default)]
pub(crate) enum TrustedColumns {
    /// Nothing.
    #[default]
    Nothing,
    /// Every column.
    All,
    /// These.
    Some(BTreeSet<String>),
}

/// What is known about one function.
#[derive(Debug, Clone, Default)]
pub(crate) struct Function {
    /// Arguments that decide, by their numbers or names.
    pub(crate) sinks: BTreeMap<String, Sink>,
    /// Arguments that affect no one else.
    pub(crate) content: BTreeMap<String, Inside>,
}

/// How a column is checked in one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checking<'a> {
    /// By this.
    Sink(&'a Sink),
    /// Only what stands inside it.
    Inside(Inside),
    /// As whatever it looks like.
    Any,
    /// Not at all.
    Free,
}

impl Table {
    /// How a value is checked that is written to a column.
    pub(crate) fn written(&self, column: &str, operation: TableOperation) -> Checking<'_> {
        match (self.sinks.get(column), self.content.get(column)) {
            (Some(found), _) if found.is_checked(operation) => Checking::Sink(&found.sink),
            (Some(_), _) => Checking::Free,
            (None, Some(inside)) => Checking::Inside(*inside),
            (None, None) => Checking::Any,
        }
    }

    /// How a value is checked that a column is compared with. What chooses the rows that are changed
    /// affects somebody, also where what is written there does not.
    pub(crate) fn compared(&self, column: &str, operation: TableOperation) -> Checking<'_> {
        match self.sinks.get(column) {
            Some(found) if found.is_checked(operation) => Checking::Sink(&found.sink),
            Some(_) => Checking::Free,
            None if operation == TableOperation::Select => Checking::Free,
            None => Checking::Any,
        }
    }

    /// Whether the rows that an operation touches must be chosen by a value that is checked.
    pub(crate) fn must_choose(&self, operation: TableOperation) -> bool {
        match operation {
            TableOperation::Select => self
                .sinks
                .values()
                .any(|column| column.is_checked(operation)),
            _ => !self.any_rows,
        }
    }

    /// The type of a column that a read compares.
    pub(crate) fn query(&self, column: &str) -> Option<&Sink> {
        let sink = || self.sinks.get(column).map(|column| &column.sink);
        self.queries.get(column).or_else(sink)
    }

    /// Whether what stands in a column is trusted.
    pub(crate) fn trusts(&self, column: &str) -> bool {
        match &self.trusted {
            TrustedColumns::Nothing => false,
            TrustedColumns::All => true,
            TrustedColumns::Some(columns) => columns.contains(column),
        }
    }
}

impl Column {
    fn is_checked(&self, operation: TableOperation) -> bool {
        match &self.on {
            Some(operations) => operations.contains(&operation),
            None => operation != TableOperation::Select,
        }
    }
}

impl Function {
    /// How an argument is checked.
    pub(crate) fn argument(&self, name: &str) -> Checking<'_> {
        match (self.sinks.get(name), self.content.get(name)) {
            (Some(sink), _) => Checking::Sink(sink),
            (None, Some(inside)) => Checking::Inside(*inside),
            (None, None) => Checking::Any,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTable {
    #[serde(default)]
    sinks: Arguments,
    #[serde(default)]
    queries: Arguments,
    #[serde(default)]
    content: Contents,
    #[serde(default)]
    trusted: WrittenTrusted,
    #[serde(default)]
    lists: BTreeMap<String, WrittenListing>,
    #[serde(default)]
    any_rows: bool,
    #[serde(default, rename = "notes")]
    _notes: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFunction {
    #[serde(default)]
    sinks: Arguments,
    #[serde(default)]
    content: Contents,
    #[serde(default, rename = "notes")]
    _notes: String,
}

#[derive(Default, Deserialize)]
#[serde(untagged, expecting = "\"all\", or a list of columns")]
enum WrittenTrusted {
    #[default]
    Nothing,
    Word(TrustWord),
    Columns(BTreeSet<String>),
}

impl Reader<'_> {
    pub(super) fn table(&mut self, name: &str, written: WrittenTable) -> Table {
        if name.split('.').filter(|part| !part.is_empty()).count() != 2 {
            self.mistake(
                "a table is named with its schema",
                "write it as `[tables.\"public.customers\"]`",
            );
        }
        let mut sinks = BTreeMap::new();
        for (column, sink) in typed(written.sinks) {
            let on = sink.on().cloned();
            let sink = self.plain_sink(sink);
            sinks.insert(column, Column { sink, on });
        }
        let queries = typed(written.queries).into_iter().map(|(column, sink)| {
            self.never_on(&sink);
            (column, self.plain_sink(sink))
        });
        let queries = queries.collect();
        let lists = written.lists.into_iter().map(|(column, listing)| {
            let listing = match listing {
                WrittenListing::Of(of) => (of, None),
                WrittenListing::Full(FullListing { of, name }) => (of, name),
            };
            (column, listing)
        });
        let table = Table {
            sinks,
            content: contents(written.content),
            queries,
            trusted: match written.trusted {
                WrittenTrusted::Nothing | WrittenTrusted::Word(TrustWord::Nothing) => {
                    TrustedColumns::Nothing
                }
                WrittenTrusted::Word(TrustWord::All) => TrustedColumns::All,
                WrittenTrusted::Columns(columns) => TrustedColumns::Some(columns),
            },
            lists: lists.collect(),
            any_rows: written.any_rows,
        };
        self.contradictions(&table);
        table
    }

    fn contradictions(&mut self, table: &Table) {
        for column in table.content.keys() {
            if table.sinks.contains_key(column) {
                let hint = "keep it in one of the two";
                self.mistake(format!("column `{column}` is a sink and content"), hint);
            }
        }
        // Else an agent writes there what it then reads as trusted.
        let writes = [TableOperation::Insert, TableOperation::Update];
        let free = |column: &str| {
            let unchecked = |operation| {
                matches!(
                    table.written(column, operation),
                    Checking::Free | Checking::Inside(_)
                )
            };
            writes.into_iter().any(unchecked)
        };
        let named = table.sinks.keys().chain(table.content.keys());
        let mut named: Vec<&String> = named.collect();
        if let TrustedColumns::Some(columns) = &table.trusted {
            named.extend(columns);
        }
        named.sort();
        named.dedup();
        for column in named {
            let is_listed = table.lists.contains_key(column);
            if (table.trusts(column) || is_listed) && free(column) {
                self.mistake(
                    format!("column `{column}` is trusted, and agents may write anything there"),
                    "take it out of `content`, or let its sink be checked on insert and update",
                );
            }
        }
    }

    pub(super) fn function(&mut self, written: WrittenFunction) -> Function {
        let sinks = typed(written.sinks).into_iter().map(|(name, sink)| {
            self.never_on(&sink);
            (name, self.plain_sink(sink))
        });
        let function = Function {
            sinks: sinks.collect(),
            content: contents(written.content),
        };
        if let Some(name) =
            (function.content.keys()).find(|name| function.sinks.contains_key(*name))
        {
            let hint = "keep it in one of the two";
            self.mistake(format!("argument `{name}` is a sink and content"), hint);
        }
        function
    }
}

/// Names with their types; of any type where none is said.
fn typed(written: Arguments) -> Vec<(String, WrittenSink)> {
    match written {
        Arguments::Untyped(names) => names
            .into_iter()
            .map(|name| (name, WrittenSink::Kind(Kind::Any)))
            .collect(),
        Arguments::Typed(sinks) => sinks.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Annotations;
    use super::*;

    const PAY: &str = r#"
        [tables."public.payments"]
        sinks = { iban = "account", amount = { type = "number", on = ["insert"] }, owner = { on = ["select"] } }
        content = ["note"]
        [tables."public.contacts"]
        trusted = ["email"]
        lists = { id = { of = "contact", name = "name" } }
        any_rows = true
        [functions.notify]
        sinks = { "1" = "address" }
        content = ["2"]
    "#;

    #[test]
    fn columns_are_checked_by_operation() {
        use TableOperation::{Delete, Insert, Select, Update};
        let read = Annotations::parse(Path::new("db.toml"), PAY).unwrap();
        let payments = &read.tables["public.payments"];
        let is_sink = |checking| matches!(checking, Checking::Sink(_));
        assert!(is_sink(payments.written("iban", Insert)));
        assert!(is_sink(payments.compared("iban", Delete)));
        assert!(matches!(payments.compared("iban", Select), Checking::Free));
        assert!(is_sink(payments.written("amount", Insert)));
        assert!(matches!(payments.written("amount", Update), Checking::Free));
        assert!(is_sink(payments.compared("owner", Select)));
        assert!(matches!(
            payments.written("note", Insert),
            Checking::Inside(_)
        ));
        assert!(matches!(payments.compared("note", Update), Checking::Any));
        assert!(matches!(payments.written("else", Insert), Checking::Any));
        assert!(payments.must_choose(Select) && payments.must_choose(Delete));
        let contacts = &read.tables["public.contacts"];
        assert!(contacts.trusts("email") && !contacts.trusts("name"));
        assert!(!contacts.must_choose(Update) && !contacts.must_choose(Select));
        let notify = &read.functions["notify"];
        assert!(is_sink(notify.argument("1")));
        assert!(matches!(notify.argument("3"), Checking::Any));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("[tables.payments]\n", "with its schema"),
            (
                "[tables.\"a.b\"]\nsinks = [\"x\"]\ncontent = [\"x\"]\n",
                "a sink and content",
            ),
            (
                "[tables.\"a.b\"]\ntrusted = \"all\"\ncontent = [\"x\"]\n",
                "may write anything",
            ),
            (
                "[tables.\"a.b\"]\ntrusted = [\"x\"]\nsinks = { x = { on = [\"insert\"] } }\n",
                "may write anything",
            ),
            (
                "[tables.\"a.b\"]\nlists = { id = \"x\" }\ncontent = [\"id\"]\n",
                "may write anything",
            ),
            ("[tables.\"a.b\"]\nreads = true\n", "unknown field"),
            (
                "[functions.f]\nsinks = { \"1\" = { on = [\"insert\"] } }\n",
                "`on`",
            ),
            (
                "[tools.f]\nsinks = { to = { on = [\"insert\"] } }\n",
                "`on`",
            ),
        ] {
            let found = Annotations::parse(Path::new("db.toml"), text).unwrap_err();
            assert!(found[0].message.contains(says), "{text}: {found:?}");
        }
    }
}
