//! Checking the arguments of a call.

use serde_json::{Map, Value};

use super::{Ledger, Level};
use crate::annotations::{Annotations, Inside, Sink};
use crate::text;
use crate::value::{address, url};
use crate::verdict::{Asked, Derivation, Origin, Reason, Verdict, visible};

/// Most values in the arguments of one call that are checked; more are asked about.
pub(super) const MOST_VALUES: usize = 4_096;
/// Most values that one verdict asks about.
pub(super) const MOST_ASKED: usize = 32;
/// Longest value that a verdict quotes, in characters.
const QUOTED: usize = 120;

impl Ledger {
    /// Checks a call before it is forwarded: whether each argument that decides who or what is
    /// affected is derivable from the task's inputs, from trusted results, or from listings.
    #[must_use]
    pub fn check(
        &self,
        annotations: &Annotations,
        tool: &str,
        arguments: &Map<String, Value>,
    ) -> Verdict {
        let annotated = annotations.tool(tool);
        let Some(leaves) = leaves(arguments) else {
            let asked = self.asked(&[], &Value::Null, Reason::TooMany);
            return Verdict::Ask {
                asked: vec![asked],
                more: true,
                derivations: Vec::new(),
            };
        };
        let any = Sink::default();
        let mut judged = Judged::default();
        let mut judge = |steps: &[String], value: &Value, sink: &Sink| {
            self.judge(&mut judged, steps, value, sink);
        };
        for (steps, value) in &leaves {
            let first = steps.first().map_or("", String::as_str);
            let sink = annotated.and_then(|tool| {
                tool.sinks
                    .iter()
                    .find(|(place, _)| place.covers(steps))
                    .map(|(_, sink)| sink)
            });
            match (annotated, sink) {
                (_, Some(sink)) => judge(steps, value, sink),
                (Some(tool), None) => match tool.content.get(first) {
                    Some(inside) => {
                        for found in found_inside(*inside, value) {
                            judge(steps, &Value::String(found), &any);
                        }
                    }
                    None if tool.reads => {}
                    None => judge(steps, value, &any),
                },
                (None, None) => judge(steps, value, &any),
            }
        }
        if annotated.is_none_or(|tool| !tool.reads) {
            for steps in keys_that_are_values(arguments) {
                let first = steps.first().map_or("", String::as_str);
                if annotated.is_none_or(|tool| !tool.content.contains_key(first)) {
                    let key = steps.last().cloned().unwrap_or_default();
                    judge(&steps, &Value::String(key), &any);
                }
            }
        }
        judged.verdict()
    }

    /// Whether a value that decides something is derivable, or is asked about.
    pub(super) fn judge(&self, judged: &mut Judged, steps: &[String], value: &Value, sink: &Sink) {
        if is_nothing(value) {
            return;
        }
        let level = if sink.only_from_task {
            Level::Task
        } else {
            Level::Trusted
        };
        match self.derive(value, sink, level) {
            Some((how, origin)) => judged.derivations.push(Derivation {
                argument: pointer(steps),
                how,
                origin,
            }),
            None => judged.ask(|| self.asked(steps, value, self.why(value, sink))),
        }
    }

    pub(super) fn why(&self, value: &Value, sink: &Sink) -> Reason {
        let shown = shown(value);
        if text::is_deceptive(&shown) {
            return Reason::Deceptive;
        }
        if let Some(of) = &sink.of
            && self.listing(of, &shown).is_some()
        {
            return Reason::NotChosen;
        }
        if self.where_seen(&shown).is_empty() {
            Reason::Nowhere
        } else {
            Reason::OnlyUntrusted
        }
    }

    fn where_seen(&self, shown: &str) -> Vec<Origin> {
        let words = text::careless_words(shown);
        self.chain()
            .flat_map(|ledger| {
                ledger
                    .seen
                    .find(&words, 3)
                    .into_iter()
                    .map(|source| ledger.origin(source))
            })
            .take(3)
            .collect()
    }

    pub(super) fn asked(&self, steps: &[String], value: &Value, reason: Reason) -> Asked {
        let shown = shown(value);
        Asked {
            argument: pointer(steps),
            value: visible(&shown, QUOTED),
            reason,
            seen: self.where_seen(&shown),
            incomplete: self.chain().any(Ledger::is_full),
            exact: value.clone(),
        }
    }
}

/// What was found about the values of one call or statement.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) derivations: Vec<Derivation>,
    pub(super) asked: Vec<Asked>,
    pub(super) more: bool,
}

impl Judged {
    pub(super) fn ask(&mut self, one: impl FnOnce() -> Asked) {
        if self.asked.len() < MOST_ASKED {
            self.asked.push(one());
        } else {
            self.more = true;
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        let Self {
            derivations,
            asked,
            more,
        } = self;
        if asked.is_empty() {
            Verdict::Accepted { derivations }
        } else {
            Verdict::Ask {
                asked,
                more,
                derivations,
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

pub(super) fn pointer(steps: &[String]) -> String {
    steps.iter().fold(String::new(), |pointer, step| {
        pointer + "/" + &step.replace('~', "~0").replace('/', "~1")
    })
}

/// Every value that is not a collection, with the steps that lead to it; `None` if there are too
/// many.
pub(super) fn leaves(arguments: &Map<String, Value>) -> Option<Vec<(Vec<String>, &Value)>> {
    fn walk<'a>(
        value: &'a Value,
        steps: &mut Vec<String>,
        found: &mut Vec<(Vec<String>, &'a Value)>,
    ) -> Option<()> {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    steps.push(at.to_string());
                    walk(item, steps, found)?;
                    steps.pop();
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    steps.push(name.clone());
                    walk(member, steps, found)?;
                    steps.pop();
                }
            }
            leaf => {
                if found.len() >= MOST_VALUES {
                    return None;
                }
                found.push((steps.clone(), leaf));
            }
        }
        Some(())
    }
    let mut found = Vec::new();
    for (name, value) in arguments {
        walk(value, &mut vec![name.clone()], &mut found)?;
    }
    Some(found)
}

/// Names of members inside arguments that are values rather than names of fields, as in a map from
/// addresses to rights.
fn keys_that_are_values(arguments: &Map<String, Value>) -> Vec<Vec<String>> {
    fn walk(value: &Value, steps: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    steps.push(at.to_string());
                    walk(item, steps, found);
                    steps.pop();
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    steps.push(name.clone());
                    if !is_field(name) && found.len() < MOST_VALUES {
                        found.push(steps.clone());
                    }
                    walk(member, steps, found);
                    steps.pop();
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (name, value) in arguments {
        walk(value, &mut vec![name.clone()], &mut found);
    }
    found
}

/// Whether the name of a member is that of a field, rather than a value.
pub(super) fn is_field(name: &str) -> bool {
    name.len() <= 40
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// The URLs and addresses inside a content argument that are checked.
pub(super) fn found_inside(inside: Inside, value: &Value) -> Vec<String> {
    let Some(text) = value.as_str() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if inside.urls {
        found.extend(url::all_in(text));
        // Whatever looks like the start of a URL but is not one is checked as it stands.
        found.extend(
            text::pieces(text)
                .filter(|piece| piece.contains("://") && url::parse(piece).is_none())
                .map(str::to_owned),
        );
    }
    if inside.addresses {
        found.extend(
            text::pieces(text)
                .filter(|piece| piece.contains('@'))
                .map(str::to_owned),
        );
        found.extend(address::all_in(text));
    }
    found
}
