//! Places in JSON: a pointer (RFC 6901) in which `*` stands for every element or member.

use std::fmt;

use serde_json::Value;

/// A place in a JSON value: `/items/*/url`. Without a leading `/`, the name of one argument.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Named(String),
    Each,
}

/// Why a text does not name a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlace {
    /// The text is empty.
    #[error(
        "a place must not be empty; write an argument's name, or a path such as `/items/*/url`"
    )]
    Empty,
    /// It has more than 16 steps or is longer than 512 bytes.
    #[error("a place has at most 16 steps and 512 bytes")]
    TooLong,
}

/// One value of a document, where it stands, and what the `*` of the place stood for.
#[derive(Debug, Clone)]
pub(crate) struct Standing<'a> {
    /// The value.
    pub(crate) value: &'a Value,
    /// Where it stands, as a pointer.
    pub(crate) pointer: String,
    /// The element or member that each `*` stood for, in order.
    pub(crate) each: Vec<String>,
}

impl Place {
    /// Reads a place.
    ///
    /// # Errors
    /// [`InvalidPlace`] when it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidPlace> {
        if text.is_empty() {
            return Err(InvalidPlace::Empty);
        }
        let steps: Vec<Step> = match text.strip_prefix('/') {
            None => vec![Step::Named(text.to_owned())],
            Some(path) => path
                .split('/')
                .map(|step| match step {
                    "*" => Step::Each,
                    name => Step::Named(name.replace("~1", "/").replace("~0", "~")),
                })
                .collect(),
        };
        if steps.len() > 16 || text.len() > 512 {
            return Err(InvalidPlace::TooLong);
        }
        Ok(Self(steps))
    }

    /// The argument or member that the place is in; `None` when it starts with `*`.
    #[must_use]
    pub fn first(&self) -> Option<&str> {
        match self.0.first() {
            Some(Step::Named(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether the place is one whole argument.
    #[must_use]
    pub fn is_whole_argument(&self) -> bool {
        self.0.len() == 1
    }

    /// Whether a value that stands after these steps is at this place or inside it.
    pub(crate) fn covers(&self, steps: &[String]) -> bool {
        self.0.len() <= steps.len()
            && self.0.iter().zip(steps).all(|(mine, step)| match mine {
                Step::Each => true,
                Step::Named(name) => name == step,
            })
    }

    /// Every value at this place.
    pub(crate) fn all_in<'a>(&self, document: &'a Value) -> Vec<Standing<'a>> {
        let mut found = Vec::new();
        let start = Standing {
            value: document,
            pointer: String::new(),
            each: Vec::new(),
        };
        walk(&self.0, start, &mut found);
        found
    }

    /// The values at this place where its first `*`s stand for what another place's stood for.
    pub(crate) fn beside<'a>(&self, document: &'a Value, each: &[String]) -> Vec<Standing<'a>> {
        let mut found = self.all_in(document);
        found.retain(|standing| {
            standing
                .each
                .iter()
                .zip(each)
                .all(|(mine, other)| mine == other)
        });
        found
    }
}

fn walk<'a>(steps: &[Step], at: Standing<'a>, found: &mut Vec<Standing<'a>>) {
    let Some((step, rest)) = steps.split_first() else {
        found.push(at);
        return;
    };
    let child = |name: &str, value: &'a Value, each: bool| {
        let escaped = name.replace('~', "~0").replace('/', "~1");
        let mut known = at.each.clone();
        if each {
            known.push(name.to_owned());
        }
        Standing {
            value,
            pointer: format!("{}/{escaped}", at.pointer),
            each: known,
        }
    };
    match (step, at.value) {
        (Step::Named(name), Value::Object(members)) => {
            if let Some(value) = members.get(name) {
                walk(rest, child(name, value, false), found);
            }
        }
        (Step::Named(name), Value::Array(items)) => {
            if let Some((at, value)) = name
                .parse()
                .ok()
                .and_then(|at: usize| Some((at, items.get(at)?)))
            {
                walk(rest, child(&at.to_string(), value, false), found);
            }
        }
        (Step::Each, Value::Object(members)) => {
            for (name, value) in members {
                walk(rest, child(name, value, true), found);
            }
        }
        (Step::Each, Value::Array(items)) => {
            for (at, value) in items.iter().enumerate() {
                walk(rest, child(&at.to_string(), value, true), found);
            }
        }
        _ => {}
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [Step::Named(name)] = &self.0[..] {
            return f.write_str(name);
        }
        for step in &self.0 {
            match step {
                Step::Each => f.write_str("/*")?,
                Step::Named(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stars_stand_for_every_element_and_are_remembered() {
        let document = json!([{"id": 1, "to": ["a", "b"]}, {"id": 2, "to": ["c"]}, 7]);
        let place = Place::parse("/*/to/*").unwrap();
        let found = place.all_in(&document);
        let pointers: Vec<_> = found.iter().map(|at| at.pointer.as_str()).collect();
        assert_eq!(pointers, ["/0/to/0", "/0/to/1", "/1/to/0"]);
        let ids = Place::parse("/*/id")
            .unwrap()
            .beside(&document, &found[2].each);
        assert_eq!(ids[0].value, &json!(2));
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for text in ["recipient", "/items/*/a~1b", "/*"] {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Place::parse(""), Err(InvalidPlace::Empty));
    }
}
