//! A first draft for an HTTP API, from its endpoints.

use std::fmt::Write as _;

use serde_json::Value;

use super::{key_text, kind, sorted, summary};

/// An endpoint, as far as the API says what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Its name in grants, such as `GET /customers/{id}`.
    pub name: String,
    /// What it is for, in the words of the API; may be empty.
    pub summary: String,
    /// Its arguments as templates call them (`path.id`, `query.page`, `body.amount`), with their schemas.
    pub arguments: Vec<(String, Value)>,
    /// Whether there may be more arguments, of which the API says nothing.
    pub open: bool,
}

/// A readable file of annotations to start from. What GET and HEAD ask for counts as read, as HTTP has it
/// (RFC 9110 §9.2.1), marked for review; nothing is trusted in a draft.
#[must_use]
pub fn draft_endpoints<'a>(
    server: &str,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> String {
    let mut text = format!(
        "# Provenance annotations of API `{server}`: a draft made from its endpoints.\n\
         # Go through it endpoint by endpoint; docs/provenance.md explains each word.\n\
         #   reads    the request changes nothing, also outside (check it: the method says so, not the API)\n\
         #   sinks    arguments that decide who or what is affected, with their type\n\
         #   content  free text and other arguments that affect no one else\n\
         #   queries  types of a read's arguments: nothing is trusted unless they are derivable\n\
         #   trusted  parts of the answer that no outsider can write: \"all\", or [\"/*/email\"]\n\
         #   lists    identifiers in the answer: {{ \"/*/id\" = {{ of = \"customer\", name = \"/*/name\" }} }}\n\
         # An endpoint that is not here counts as one that changes something, with every argument a sink.\n"
    );
    for endpoint in endpoints {
        one(&mut text, endpoint);
    }
    text
}

fn one(text: &mut String, endpoint: &Endpoint) {
    text.push('\n');
    summary(text, &endpoint.summary);
    let _ = writeln!(text, "[endpoints.{}]", key_text(&endpoint.name));
    let (method, path) = endpoint.name.split_once(' ').unwrap_or_default();
    let reads = matches!(method, "GET" | "HEAD");
    if reads {
        text.push_str("reads = true  # says the method; true?\n");
    } else if method == "DELETE" {
        text.push_str("# may destroy: consider choose = \"narrowed\" for its identifiers\n");
    } else if method == "WEBSOCKET" {
        text.push_str("# what passes after the opening is not checked by provenance\n");
    }
    let arguments = endpoint
        .arguments
        .iter()
        .map(|(name, schema)| (name.as_str(), kind(&telling(name, path), schema)));
    sorted(text, reads, arguments);
    if endpoint.open {
        text.push_str("# the API does not say what else a request has: name what affects no one in `content`\n");
    }
}

/// The name of an argument by itself; an `id` in a path is one of what stands before it.
fn telling(name: &str, path: &str) -> String {
    let Some(parameter) = name.strip_prefix("path.") else {
        let (_, own) = name.split_once('.').unwrap_or(("", name));
        return own.to_owned();
    };
    let segments: Vec<&str> = path.split('/').collect();
    let at = segments
        .iter()
        .position(|segment| *segment == format!("{{{parameter}}}"));
    let before = at.and_then(|at| at.checked_sub(1)).map(|at| segments[at]);
    match before.filter(|before| !before.is_empty() && !before.starts_with('{')) {
        Some(before) if matches!(parameter, "id" | "uuid" | "key") => {
            format!("{}_{parameter}", before.strip_suffix('s').unwrap_or(before))
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::annotations::Annotations;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_draft_can_be_read_and_trusts_nothing() {
        let string = || json!({"type": "string"});
        let endpoints = [
            Endpoint {
                name: "GET /customers/{id}".to_owned(),
                summary: "One customer.\nMore.".to_owned(),
                arguments: vec![
                    ("path.id".to_owned(), string()),
                    ("query.page".to_owned(), json!({"type": "integer"})),
                ],
                open: false,
            },
            Endpoint {
                name: "POST /mails".to_owned(),
                summary: String::new(),
                arguments: vec![
                    ("body.to".to_owned(), string()),
                    ("body.text".to_owned(), string()),
                ],
                open: true,
            },
        ];
        let text = draft_endpoints("crm", &endpoints);
        for line in [
            "# One customer.",
            "[endpoints.\"GET /customers/{id}\"]",
            "queries = { \"path.id\" = { type = \"identifier\", of = \"customer\" }, \"query.page\" = \"number\" }",
            "sinks = { \"body.to\" = \"address\" }",
            "content = [\"body.text\"]",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let read = Annotations::parse(Path::new("crm.toml"), &text).unwrap();
        assert!(read.tool("GET /customers/{id}").unwrap().reads);
        assert!(!read.tool("POST /mails").unwrap().reads);
    }

    proptest! {
        #[test]
        fn whatever_endpoints_and_arguments_are_called_the_draft_can_be_read(
            path in "[a-z{}]{0,20}", argument in ".{1,20}", about in ".{0,60}",
        ) {
            let endpoint = Endpoint {
                name: format!("PUT /{path}"),
                summary: about,
                arguments: vec![(format!("body.{argument}"), json!({"type": "string"}))],
                open: true,
            };
            let read = Annotations::parse(Path::new("x.toml"), &draft_endpoints("x", [&endpoint]));
            prop_assert!(read.is_ok(), "{:?}", read.err());
        }
    }
}
