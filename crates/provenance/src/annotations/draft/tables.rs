//! A first draft for a database, from what it says of its own tables.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{key_text, kind};

/// A readable file of annotations to start from: tables with the names and types of their columns, as
/// `format_type` writes them. Nothing is trusted in a draft, and every column that is not plainly free
/// text is a sink.
#[must_use]
pub fn draft_tables<'a>(
    server: &str,
    tables: impl IntoIterator<Item = (&'a str, &'a [(String, String)])>,
) -> String {
    let mut text = format!(
        "# Provenance annotations of database `{server}`: a draft made from its own catalog.\n\
         # Go through it table by table; docs/provenance.md explains each word.\n\
         #   sinks    columns that decide who or what is affected, with their type: what is written there, and\n\
         #            what UPDATE and DELETE choose rows by; with on = [\"select\", …] in those operations\n\
         #   content  columns that affect no one else: free text. They still may not choose rows to change\n\
         #   queries  types of columns by which SELECT chooses: nothing is trusted unless they are derivable\n\
         #   trusted  columns that no outsider can write: \"all\", or [\"email\"]\n\
         #   lists    identifiers that reads list: {{ id = {{ of = \"customer\", name = \"name\" }} }}\n\
         #   any_rows true: UPDATE and DELETE may go without a value that chooses the rows\n\
         # A table that is not here counts as one whose columns all are sinks. Functions that the configuration\n\
         # adds have theirs in [functions.NAME], by the numbers of their arguments: sinks = {{ \"1\" = \"address\" }}\n"
    );
    for (table, columns) in tables {
        one(&mut text, table, columns);
    }
    text
}

fn one(text: &mut String, table: &str, columns: &[(String, String)]) {
    let _ = writeln!(text, "\n[tables.{}]", key_text(table));
    let thing = singular(table.rsplit('.').next().unwrap_or(table));
    let mut sinks = Vec::new();
    let mut content = Vec::new();
    let mut listed = None;
    for (column, data_type) in columns {
        let kind = match column.to_ascii_lowercase().as_str() {
            "id" | "uuid" => {
                listed = Some(column);
                Some(format!(
                    "{{ type = \"identifier\", of = {} }}",
                    key_text(&thing)
                ))
            }
            _ => kind(column, &schema(data_type)),
        };
        match kind {
            Some(kind) => sinks.push(format!("{} = {kind}", key_text(column))),
            None => content.push(key_text(column)),
        }
    }
    if !sinks.is_empty() {
        let _ = writeln!(text, "sinks = {{ {} }}", sinks.join(", "));
    }
    if !content.is_empty() {
        let _ = writeln!(text, "content = [{}]", content.join(", "));
    }
    if let Some(id) = listed {
        let named = |wanted: &str| columns.iter().find(|(column, _)| column.as_str() == wanted);
        let name = ["name", "title", "subject", "filename"];
        let name = name.into_iter().find_map(named).map(|(name, _)| name);
        let name = name.map_or(String::new(), |name| format!(", name = {}", key_text(name)));
        let (id, thing) = (key_text(id), key_text(&thing));
        let _ = writeln!(text, "# lists = {{ {id} = {{ of = {thing}{name} }} }}");
    }
}

/// What kind of value a type of the database holds, as JSON Schema says it.
fn schema(data_type: &str) -> Value {
    let plain = data_type.trim_end_matches("[]");
    let plain = plain.split(['(', ' ']).next().unwrap_or_default();
    match plain {
        "smallint" | "integer" | "bigint" | "numeric" | "real" | "double" | "money" => {
            json!({ "type": "number" })
        }
        "uuid" => json!({ "type": "string", "format": "uuid" }),
        "date" => json!({ "type": "string", "format": "date" }),
        "timestamp" => json!({ "type": "string", "format": "date-time" }),
        "time" => json!({ "type": "string", "format": "time" }),
        "text" | "character" | "name" | "citext" => json!({ "type": "string" }),
        _ => json!({}),
    }
}

/// What one row of a table is: `customers` has a `customer` in each.
fn singular(table: &str) -> String {
    match table.strip_suffix("ies") {
        Some(stem) if !stem.is_empty() => format!("{stem}y"),
        _ => match table.strip_suffix('s') {
            Some(stem) if !stem.is_empty() && !stem.ends_with('s') => stem.to_owned(),
            _ => table.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::annotations::Annotations;
    use proptest::prelude::*;

    fn columns(all: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned =
            |(name, data_type): &(&str, &str)| ((*name).to_owned(), (*data_type).to_owned());
        all.iter().map(owned).collect()
    }

    #[test]
    fn a_draft_of_tables_can_be_read_and_trusts_nothing() {
        let payments = columns(&[
            ("id", "integer"),
            ("iban", "text"),
            ("amount", "numeric(10,2)"),
            ("due", "date"),
            ("description", "text"),
            ("customer_id", "uuid"),
        ]);
        let text = draft_tables("bank", [("public.payments", &payments[..])]);
        assert!(text.contains("[tables.\"public.payments\"]"), "{text}");
        for says in [
            "\"iban\" = \"account\"",
            "\"amount\" = \"number\"",
            "\"due\" = \"date\"",
            "\"id\" = { type = \"identifier\", of = \"payment\" }",
            "content = [\"description\"]",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
        let read = Annotations::parse(Path::new("bank.toml"), &text).unwrap();
        assert_eq!(read.of_databases().collect::<Vec<_>>(), ["public.payments"]);
        assert!(!read.tables["public.payments"].trusts("iban"));
    }

    proptest! {
        #[test]
        fn whatever_tables_are_called_the_draft_can_be_read(
            table in "[^.]{1,20}", column in ".{1,20}", data_type in ".{0,20}",
        ) {
            let table = format!("public.{table}");
            let all = columns(&[(&column, &data_type), ("id", "integer")]);
            let read = Annotations::parse(Path::new("x.toml"), &draft_tables("x", [(&table[..], &all[..])]));
            prop_assert!(column == "id" || read.is_ok(), "{:?}", read.err());
        }
    }
}
