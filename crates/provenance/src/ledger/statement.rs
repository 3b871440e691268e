//! Checking a statement of a database.

use model::{Given, Steered, Steers, TableOperation};
use serde_json::Value;

use super::check::{Judged, MOST_VALUES, found_inside, is_field, is_nothing, pointer};
use super::{Ledger, Level};
use crate::annotations::{Annotations, Checking, Inside, Sink};
use crate::verdict::{Asked, Derivation, How, Origin, Reason, Verdict};

/// What a value is called that a statement computes.
const COMPUTED: &str = "(computed)";
/// What rows are called that no value chooses.
const ROWS: &str = "(rows)";

impl Ledger {
    /// Checks a statement before it is forwarded: whether each value that decides who or what is
    /// affected is derivable, and chooses the rows that it changes.
    #[must_use]
    pub fn check_statement(&self, annotations: &Annotations, steered: &[Steered]) -> Verdict {
        let mut judged = Judged::default();
        let any = Sink::default();
        let mut left = MOST_VALUES;
        for one in steered {
            let checking = checking(annotations, one);
            let is_free = match checking {
                Checking::Free => true,
                Checking::Inside(inside) => inside == Inside::default(),
                Checking::Sink(_) | Checking::Any => false,
            };
            if is_free {
                continue;
            }
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => {
                    judged
                        .asked
                        .push(self.unproved(&[], Value::Null, Reason::TooMany));
                    judged.more = true;
                    return judged.verdict();
                }
            };
            let sink = match checking {
                Checking::Sink(sink) => sink,
                Checking::Any | Checking::Inside(_) | Checking::Free => &any,
            };
            let steps = steps(one);
            match &one.given {
                Given::Value(value) => {
                    if let Checking::Inside(inside) = checking {
                        let leaves = leaves_of(value);
                        let found = leaves
                            .into_iter()
                            .flat_map(|leaf| found_inside(inside, leaf));
                        for found in found.collect::<Vec<_>>() {
                            self.judge(&mut judged, &steps, &Value::String(found), sink);
                        }
                    } else {
                        self.judge_all(&mut judged, &steps, value, sink);
                    }
                }
                Given::Column { table, column } => {
                    let known = annotations.tables.get(table);
                    if known.is_some_and(|table| table.trusts(column)) && !sink.only_from_task {
                        judged.derivations.push(Derivation {
                            argument: pointer(&steps),
                            how: How::Occurs,
                            origin: Origin::Annotations,
                        });
                    } else {
                        let value = Value::String(format!("{table}.{column}"));
                        judged.ask(|| self.unproved(&steps, value, Reason::Computed));
                    }
                }
                Given::Computed => {
                    let value = Value::String(COMPUTED.to_owned());
                    judged.ask(|| self.unproved(&steps, value, Reason::Computed));
                }
                // Nobody can judge what nobody is shown.
                Given::Unseen => {
                    let value = Value::String(COMPUTED.to_owned());
                    judged.ask(|| self.unproved(&steps, value, Reason::TooMany));
                    judged.more = true;
                }
                Given::Rows(_) => {
                    let value = Value::String(ROWS.to_owned());
                    judged.ask(|| self.unproved(&steps, value, Reason::AnyRows));
                }
            }
        }
        judged.verdict()
    }

    /// Whether every value that chose the rows of a read is derivable (else `None`), and whether words
    /// that the task says narrowed them.
    pub(super) fn chosen_rows(
        &self,
        annotations: &Annotations,
        steered: &[Steered],
    ) -> Option<bool> {
        let any = Sink::default();
        let mut narrowed = false;
        for one in steered {
            let table = annotations.tables.get(&one.of);
            let sink = table
                .and_then(|table| table.query(&one.column))
                .unwrap_or(&any);
            match &one.given {
                Given::Value(Value::Bool(_)) | Given::Rows(_) => {}
                Given::Value(value) => {
                    for leaf in leaves_of(value) {
                        if is_nothing(leaf) {
                            continue;
                        }
                        self.derive(leaf, sink, Level::Trusted)?;
                        let says = leaf.as_str().map(crate::text::words).unwrap_or_default();
                        narrowed |= crate::text::say_enough(&says)
                            && self.derive(leaf, sink, Level::Vouched).is_some();
                    }
                }
                Given::Column { table, column } => {
                    let table = annotations.tables.get(table)?;
                    if !table.trusts(column) {
                        return None;
                    }
                }
                Given::Computed | Given::Unseen => return None,
            }
        }
        Some(narrowed)
    }

    fn judge_all(&self, judged: &mut Judged, steps: &[String], value: &Value, sink: &Sink) {
        let leaves = leaves_of(value);
        if leaves.len() > MOST_VALUES {
            judged.ask(|| self.unproved(steps, Value::Null, Reason::TooMany));
            judged.more = true;
            return;
        }
        for leaf in leaves {
            self.judge(judged, steps, leaf, sink);
        }
        // Names of members may be values, as in a map from addresses to rights.
        for name in names_of(value) {
            self.judge(judged, steps, &Value::String(name), sink);
        }
    }

    fn unproved(&self, steps: &[String], value: Value, reason: Reason) -> Asked {
        Asked {
            seen: Vec::new(),
            ..self.asked(steps, &value, reason)
        }
    }
}

/// How one value is checked. Of a table that nobody annotated every column is a sink, but for reads.
fn checking<'a>(annotations: &'a Annotations, one: &Steered) -> Checking<'a> {
    let table = annotations.tables.get(&one.of);
    match (one.steers, &one.given) {
        (Steers::Compared(operation), Given::Rows(by)) => {
            let must = match table {
                Some(table) => table.must_choose(operation),
                None => operation != TableOperation::Select,
            };
            let is_checked = |column: &String| match table {
                Some(table) => !matches!(table.compared(column, operation), Checking::Free),
                None => true,
            };
            match must && !by.iter().any(is_checked) {
                true => Checking::Any,
                false => Checking::Free,
            }
        }
        (Steers::Written(operation), _) => match table {
            Some(table) => table.written(&one.column, operation),
            None => Checking::Any,
        },
        (Steers::Compared(operation), _) => match table {
            Some(table) => table.compared(&one.column, operation),
            None if operation == TableOperation::Select => Checking::Free,
            None => Checking::Any,
        },
        (Steers::Argument, _) => match annotations.functions.get(&one.of) {
            Some(function) => function.argument(&one.column),
            None => Checking::Any,
        },
    }
}

/// Where a value stands, for people and for approvals.
fn steps(one: &Steered) -> Vec<String> {
    let parts = [&one.of, &one.column];
    let named = parts.into_iter().filter(|part| !part.is_empty());
    let steps: Vec<String> = named.cloned().collect();
    match steps.is_empty() {
        true => vec!["statement".to_owned()],
        false => steps,
    }
}

fn leaves_of(value: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut left = vec![value];
    while let Some(next) = left.pop() {
        match next {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.values()),
            leaf => found.push(leaf),
        }
    }
    found
}

fn names_of(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![value];
    while let Some(next) = left.pop() {
        match next {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => {
                found.extend(members.keys().filter(|name| !is_field(name)).cloned());
                left.extend(members.values());
            }
            _ => {}
        }
    }
    found
}
