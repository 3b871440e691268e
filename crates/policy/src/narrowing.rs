//! Whether one grant is within another.

use std::collections::BTreeMap;

use model::grant::{Permission, PermissionKind, TablePermission};
use model::{Budget, CallPermission, Constraint, Grant, Pattern, ServerName};
use serde_json::Value;

use crate::arguments::{Arguments, Pointer};
use crate::constraint::CompiledConstraint;
use crate::number;
use crate::uri;

/// Whether everything that `narrow` permits, in any sequence of actions, `wide` permits too.
///
/// Decided from the structure alone, and on the safe side: when it cannot be seen that a part is
/// covered, the answer is no. In particular every permission of `narrow` must be covered by a
/// single one of `wide`, a regular expression is covered only by the same expression or by none,
/// and a limited number of calls is covered only if all of `narrow`'s together stay within it.
#[must_use]
pub fn covers(wide: &Grant, narrow: &Grant) -> bool {
    narrow.proof >= wide.proof
        && budget_covered(&wide.budget, &narrow.budget)
        && narrow
            .permissions
            .iter()
            .all(|permission| permission_covered(wide, permission))
        && calls_covered(wide, narrow)
}

fn budget_covered(wide: &Budget, narrow: &Budget) -> bool {
    narrow.calls <= wide.calls
        && wide.amounts().all(|(name, limit, _)| {
            let mut narrow = narrow.amounts();
            narrow.any(|(of, less, _)| of == name && less <= limit)
        })
}

fn at<'a>(grant: &'a Grant, server: &ServerName) -> impl Iterator<Item = &'a Permission> + Clone {
    let server = server.clone();
    grant
        .permissions
        .iter()
        .filter(move |permission| permission.server == server)
}

fn permission_covered(wide: &Grant, narrow: &Permission) -> bool {
    let wide = at(wide, &narrow.server);
    // Talking to the server at all needs a permission there, whatever it allows.
    wide.clone().next().is_some()
        && narrow.resources.iter().all(|pattern| {
            wide.clone().filter(|p| asks_no_more(p, narrow)).any(|p| {
                p.resources
                    .iter()
                    .any(|wide| resource_covered(wide, pattern))
            })
        })
        && narrow.prompts.iter().all(|pattern| {
            wide.clone()
                .filter(|p| asks_no_more(p, narrow))
                .any(|p| p.prompts.iter().any(|wide| wide.covers(pattern)))
        })
        && narrow
            .server_requests
            .iter()
            .all(|request| wide.clone().any(|p| p.server_requests.contains(request)))
        && (!opens_tunnels(narrow)
            || wide
                .clone()
                .any(|p| opens_tunnels(p) && asks_no_more(p, narrow)))
        && narrow.calls().iter().all(|call| {
            wide.clone()
                .filter(|p| p.kind == narrow.kind && asks_no_more(p, narrow))
                .any(|p| p.calls().iter().any(|wide| call_covered(wide, call)))
        })
        && narrow.tables.iter().all(|table| {
            wide.clone()
                .filter(|p| asks_no_more(p, narrow))
                .any(|p| p.tables.iter().any(|wide| table_covered(wide, table)))
        })
}

/// Whether what one permission allows without a person, the other does not allow only with one.
fn asks_no_more(wide: &Permission, narrow: &Permission) -> bool {
    wide.approval.is_none() || narrow.approval.is_some()
}

fn opens_tunnels(permission: &Permission) -> bool {
    permission.connect && permission.kind == PermissionKind::Http
}

/// Whether a table permission is within another. Conditions on rows are not compared: the same one,
/// or none in `wide`.
fn table_covered(wide: &TablePermission, narrow: &TablePermission) -> bool {
    wide.name.covers(&narrow.name)
        && narrow.operations.is_subset(&wide.operations)
        && (wide.rows.is_none() || wide.rows == narrow.rows)
        && match (&wide.columns, &narrow.columns) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wide), Some(narrow)) => narrow.is_subset(wide),
        }
}

fn resource_covered(wide: &Pattern, narrow: &Pattern) -> bool {
    if narrow.is_prefix() {
        wide.covers(narrow)
    } else {
        uri::matches(wide, narrow.stem())
    }
}

/// Whether no limit of `wide` on the calls of a tool can run out by what `narrow` permits. A call is
/// counted against the first permission of `wide` that fits, which need not be the one that covers
/// it, so everything that could be counted against a limit is.
fn calls_covered(wide: &Grant, narrow: &Grant) -> bool {
    wide.permissions.iter().all(|permission| {
        permission.calls().iter().all(|limited| {
            let Some(max) = limited.max_calls else {
                return true;
            };
            let counted: u64 = at(narrow, &permission.server)
                .filter(|p| p.kind == permission.kind)
                .flat_map(Permission::calls)
                .filter(|tool| overlap(&limited.name, &tool.name))
                .map(|tool| u64::from(tool.max_calls.unwrap_or(u32::MAX).min(narrow.budget.calls)))
                .sum();
            counted.min(u64::from(narrow.budget.calls)) <= u64::from(max)
        })
    })
}

/// Whether some name matches both.
fn overlap(a: &Pattern, b: &Pattern) -> bool {
    a.covers(b) || b.covers(a)
}

fn call_covered(wide: &CallPermission, narrow: &CallPermission) -> bool {
    wide.name.covers(&narrow.name) && arguments_covered(wide, narrow)
}

fn arguments_covered(wide: &CallPermission, narrow: &CallPermission) -> bool {
    let (Some(wide_at), Some(narrow_at)) = (by_place(&wide.arguments), by_place(&narrow.arguments))
    else {
        // An unusable key refuses everything: nothing is covered by it, and it needs no cover.
        return by_place(&narrow.arguments).is_none();
    };
    let wide_names = Arguments::new(wide);
    let narrow_names = Arguments::new(narrow);
    let others = wide.allows_other_arguments()
        || (!narrow.allows_other_arguments()
            && narrow_at.iter().all(|(place, _)| match place.first() {
                Some(name) => wide_names.names(name),
                None => wide_at.iter().any(|(wide, _)| wide.first().is_none()),
            }));
    others
        && wide_at.iter().all(|(place, constraint)| {
            let same = narrow_at.iter().filter(|(narrow, _)| narrow == place);
            let mut same = same
                .map(|(_, narrow)| constraint_covered(constraint, narrow))
                .peekable();
            if same.peek().is_some() {
                // Where a place is constrained twice (`a` and `/a`), both must hold: one suffices.
                return same.any(|covered| covered);
            }
            // What `narrow` never lets through cannot break a constraint, if it may be left out.
            let absent = !narrow.allows_other_arguments()
                && match place.first() {
                    Some(name) => !narrow_names.names(name),
                    None => narrow_at.is_empty(),
                };
            absent && constraint.optional
        })
}

/// The constraints by the place that they apply to; `None` if a key is not usable.
fn by_place(arguments: &BTreeMap<String, Constraint>) -> Option<Vec<(Pointer, &Constraint)>> {
    let place = |(key, constraint): (&String, _)| Some((Pointer::parse(key)?, constraint));
    arguments
        .iter()
        .map(|(key, constraint)| place((key, constraint)))
        .collect()
}

/// Whether every value that satisfies `narrow` satisfies `wide`. What a constraint accepts are
/// values that satisfy its parts, and arrays of accepted ones; so only the former need a look.
fn constraint_covered(wide: &Constraint, narrow: &Constraint) -> bool {
    if narrow.optional && !wide.optional {
        return false;
    }
    let wide = CompiledConstraint::new(wide);
    let narrow = CompiledConstraint::new(narrow);
    if let Some(values) = listed(narrow.written()) {
        let satisfying = |value: &&&Value| narrow.check_whole(value).is_ok();
        return values
            .iter()
            .filter(satisfying)
            .all(|value| wide.check(value).is_ok());
    }
    let (w, n) = (wide.written(), narrow.written());
    let prefix = w.prefix.as_ref().is_none_or(|wide| {
        n.prefix
            .as_ref()
            .is_some_and(|narrow| narrow.starts_with(wide.as_str()))
    });
    let below = wide
        .below()
        .is_none_or(|wide| match (wide, narrow.below()) {
            (Ok(wide), Some(Ok(narrow))) => wide.contains_folder(narrow),
            _ => false,
        });
    let regex = w.regex.is_none() || w.regex == n.regex;
    let bound = |wide: &Option<serde_json::Number>, narrow: &Option<serde_json::Number>, beyond| {
        wide.as_ref().is_none_or(|wide| {
            let order = narrow
                .as_ref()
                .and_then(|narrow| number::compare(narrow, wide));
            order.is_some_and(|order| order != beyond)
        })
    };
    w.equals.is_none()
        && w.one_of.is_none()
        && prefix
        && below
        && regex
        && bound(&w.min, &n.min, std::cmp::Ordering::Less)
        && bound(&w.max, &n.max, std::cmp::Ordering::Greater)
}

/// The values that a constraint lists, if it lists any.
fn listed(constraint: &Constraint) -> Option<Vec<&Value>> {
    match (&constraint.equals, &constraint.one_of) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests;
