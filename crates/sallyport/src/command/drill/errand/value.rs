//! Values of arguments: those that a task's work would have, and those that an attacker wants.

use model::Constraint;
use model::expression;
use serde_json::{Map, Value, json};

use super::expression::matching;

/// Where the attacker wants things to go.
pub(in crate::command::drill) const ATTACKER: &str = "collector@evil.example";
/// Arrays in the place of `*` have one element.
const DEEPEST: usize = 16;

/// What an argument of a type usually says; types are those of annotations.
pub(super) fn usual(kind: &str) -> Value {
    let text = match kind {
        "address" => "bo@drill.example",
        "account" => "DE02120300000000202051",
        "url" => "https://drill.example/item/4711",
        "path" => "/drill/report.txt",
        "identifier" | "number" => "4711",
        "date" => "2026-11-24",
        "datetime" => "2026-11-24 10:00",
        "time" => "10:00",
        "name" | "words" => "Bo Drill",
        _ => "drill4711",
    };
    json!(text)
}

/// What an attacker wants there instead.
pub(super) fn wanted(kind: &str) -> Value {
    let text = match kind {
        "account" => "GB33BUKB20201555555555",
        "url" => "https://evil.example/collect",
        "path" => "/evil.example/shadow",
        "identifier" | "number" => "90217",
        "date" => "2031-03-09",
        "datetime" => "2031-03-09 03:17",
        "time" => "03:17",
        "name" | "words" => "Mallory Evil",
        _ => ATTACKER,
    };
    json!(text)
}

/// A value that a constraint admits, like those of its type; `None` when none is found.
pub(super) fn admitted(constraint: &Constraint, kind: &str) -> Option<Value> {
    if let Some(value) = &constraint.equals {
        return Some(value.clone());
    }
    if let Some(values) = &constraint.one_of {
        return values.first().cloned();
    }
    let is_text =
        constraint.prefix.is_some() || constraint.below.is_some() || constraint.regex.is_some();
    if let (false, Some(number)) = (is_text, constraint.min.as_ref().or(constraint.max.as_ref())) {
        return Some(Value::Number(number.clone()));
    }
    let usual = usual(kind);
    let usual = usual.as_str().unwrap_or_default();
    carrying(constraint, usual)
        .or_else(|| {
            let text = constraint.regex.as_deref().and_then(matching)?;
            admits(constraint, &text).then_some(text)
        })
        .map(Value::String)
}

/// A value that a constraint admits and that has a text in it; `None` when there is no room for one.
pub(super) fn carrying(constraint: &Constraint, text: &str) -> Option<String> {
    let folder = constraint.below.as_deref();
    let below = folder.map(|folder| format!("{}/{text}", folder.trim_end_matches('/')));
    let after = constraint
        .prefix
        .as_deref()
        .map(|prefix| format!("{prefix}{text}"));
    [Some(text.to_owned()), below, after]
        .into_iter()
        .flatten()
        .find(|value| admits(constraint, value))
}

/// Whether a constraint admits a text. The gateway has the last word.
fn admits(constraint: &Constraint, text: &str) -> bool {
    let is = |value: &Value| value.as_str() == Some(text);
    let is_below = |folder: &String| {
        let rest = text.strip_prefix(folder.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) && !text.contains("..")
    };
    let matches =
        |pattern: &String| expression::whole(pattern).is_ok_and(|pattern| pattern.is_match(text));
    constraint.min.is_none()
        && constraint.max.is_none()
        && constraint.equals.as_ref().is_none_or(is)
        && constraint
            .one_of
            .as_ref()
            .is_none_or(|values| values.iter().any(is))
        && constraint
            .prefix
            .as_ref()
            .is_none_or(|prefix| text.starts_with(prefix.as_str()))
        && constraint.below.as_ref().is_none_or(is_below)
        && constraint.regex.as_ref().is_none_or(matches)
}

/// Whether what an argument says is fixed by numbers, so that no text of an attacker is worth trying.
pub(super) fn is_number(constraint: &Constraint) -> bool {
    constraint.min.is_some() || constraint.max.is_some()
}

/// Puts a value where a constraint or an annotation says: under an argument's name, or along a path such as
/// `/items/*/url`.
pub(super) fn put(arguments: &mut Map<String, Value>, place: &str, value: Value) {
    let Some(path) = place.strip_prefix('/') else {
        arguments.insert(place.to_owned(), value);
        return;
    };
    let steps: Vec<String> = path
        .split('/')
        .take(DEEPEST)
        .map(|step| step.replace("~1", "/").replace("~0", "~"))
        .collect();
    let Some((first, rest)) = steps.split_first() else {
        return;
    };
    let at = arguments.entry(first.clone()).or_insert(Value::Null);
    put_along(at, rest, value);
}

fn put_along(at: &mut Value, steps: &[String], value: Value) {
    let Some((step, rest)) = steps.split_first() else {
        *at = value;
        return;
    };
    if step == "*" {
        if !at.is_array() {
            *at = json!([null]);
        }
        put_along(&mut at[0], rest, value);
    } else {
        if !at.is_object() {
            *at = json!({});
        }
        put_along(&mut at[step.as_str()], rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraint(written: Value) -> Constraint {
        serde_json::from_value(written).unwrap()
    }

    #[test]
    fn values_are_what_constraints_admit() {
        for (written, kind, value) in [
            (json!({}), "address", json!("bo@drill.example")),
            (json!({"equals": 7}), "any", json!(7)),
            (json!({"one_of": ["EUR", "USD"]}), "any", json!("EUR")),
            (json!({"min": 1, "max": 5}), "number", json!(1)),
            (json!({"max": 5}), "any", json!(5)),
            (
                json!({"below": "/srv/t/"}),
                "any",
                json!("/srv/t/drill4711"),
            ),
            (json!({"prefix": "INV-"}), "identifier", json!("INV-4711")),
            (
                json!({"regex": "[^@]+@example[.]org"}),
                "address",
                json!("drill@example.org"),
            ),
        ] {
            assert_eq!(
                admitted(&constraint(written.clone()), kind),
                Some(value),
                "{written}"
            );
        }
        let impossible = constraint(json!({"prefix": "a", "regex": "b+"}));
        assert_eq!(admitted(&impossible, "any"), None);
    }

    #[test]
    fn a_text_is_carried_where_there_is_room() {
        let carried = |written: Value| carrying(&constraint(written), "s3cret");
        assert_eq!(carried(json!({})).as_deref(), Some("s3cret"));
        assert_eq!(
            carried(json!({"below": "/srv"})).as_deref(),
            Some("/srv/s3cret")
        );
        assert_eq!(
            carried(json!({"prefix": "Re: "})).as_deref(),
            Some("Re: s3cret")
        );
        for full in [
            json!({"equals": "x"}),
            json!({"one_of": ["x"]}),
            json!({"min": 1}),
            json!({"regex": "[a-z]+"}),
        ] {
            assert_eq!(carried(full.clone()), None, "{full}");
        }
    }

    #[test]
    fn places_are_made_where_there_are_none() {
        let mut arguments = Map::new();
        put(&mut arguments, "to", json!("a"));
        put(&mut arguments, "/items/*/url", json!("b"));
        put(&mut arguments, "/items/*/id", json!(1));
        put(&mut arguments, "/x/y~1z", json!(2));
        let expected = json!({"to": "a", "items": [{"url": "b", "id": 1}], "x": {"y/z": 2}});
        assert_eq!(Value::Object(arguments), expected);
    }
}
