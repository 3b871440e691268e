//! A call that could be made, and what an attacker would make of it.

use std::collections::BTreeMap;

use model::config::ServerKind;
use model::{Constraint, ServerName};
use serde_json::{Map, Value, json};

use super::value;

/// A call of a tool, or a request to an endpoint.
#[derive(Debug, Clone)]
pub(in crate::command::drill) struct Call {
    /// The server.
    pub(in crate::command::drill) server: ServerName,
    /// What it speaks: MCP or HTTP.
    pub(in crate::command::drill) kind: ServerKind,
    /// The tool, or the method and the path.
    pub(in crate::command::drill) name: String,
    /// The arguments of the usual work. Of requests: `path.NAME`, `query.NAME`, `body.NAME`.
    pub(in crate::command::drill) arguments: Map<String, Value>,
    /// What the grant says of them.
    pub(super) constrained: BTreeMap<String, Constraint>,
    /// Whether arguments that no constraint names may be passed.
    pub(super) takes_others: bool,
    /// Whether there is a limit to how often it may be made.
    pub(in crate::command::drill) is_limited: bool,
    /// Whether it changes nothing.
    pub(in crate::command::drill) reads: bool,
    /// Whether the server has annotations.
    pub(in crate::command::drill) is_annotated: bool,
    /// Its arguments that are checked for where they come from, with their types.
    pub(super) sinks: Vec<(String, &'static str)>,
    /// Its arguments that affect no one else.
    pub(super) contents: Vec<String>,
    /// Which of the template's `[[allow]]` allows it.
    pub(in crate::command::drill) allowed_at: Option<usize>,
}

impl Call {
    /// A call that nobody granted.
    pub(in crate::command::drill) fn ungranted(
        server: &ServerName,
        kind: ServerKind,
        name: &str,
    ) -> Self {
        Self {
            server: server.clone(),
            kind,
            name: name.to_owned(),
            arguments: Map::from_iter([("to".to_owned(), json!(value::ATTACKER))]),
            constrained: BTreeMap::new(),
            takes_others: true,
            is_limited: false,
            reads: false,
            is_annotated: false,
            sinks: Vec::new(),
            contents: Vec::new(),
            allowed_at: None,
        }
    }

    /// How it is called in reports.
    pub(in crate::command::drill) fn shown(&self) -> String {
        format!("`{}` at `{}`", self.name, self.server)
    }

    /// Its top-level arguments that the grant narrows.
    pub(in crate::command::drill) fn narrowed(&self) -> Vec<String> {
        let narrows = |constraint: &Constraint| {
            *constraint
                != Constraint {
                    optional: constraint.optional,
                    ..Constraint::default()
                }
        };
        let narrowed = self
            .constrained
            .iter()
            .filter(|(_, constraint)| narrows(constraint));
        narrowed
            .map(|(place, _)| place.clone())
            .filter(|place| !place.starts_with(['/']) && !place.starts_with("path."))
            .collect()
    }

    /// The arguments that an attacker wants, and the places of what the attacker chose; `None` when there is
    /// nothing to choose.
    pub(in crate::command::drill) fn steered(&self) -> Option<(Map<String, Value>, Vec<String>)> {
        let mut places: Vec<(String, &str)> = self.sinks.clone();
        if !self.is_annotated {
            places = self
                .constrained
                .iter()
                .filter(|(_, constraint)| !value::is_number(constraint))
                .map(|(place, _)| (place.clone(), "any"))
                .collect();
            let path = self
                .arguments
                .keys()
                .filter(|name| name.starts_with("path."));
            places.extend(path.map(|place| (place.clone(), "identifier")));
            if places.is_empty() && self.takes_others {
                places.push((self.free_argument("to"), "any"));
            }
        }
        let numbers = |place: &String| self.constrained.get(place).is_some_and(value::is_number);
        places.retain(|(place, _)| {
            let is_possible = self.takes_others || self.constrained.contains_key(place);
            is_possible && !numbers(place)
        });
        if places.is_empty() {
            return None;
        }
        let mut arguments = self.arguments.clone();
        for (place, kind) in &places {
            value::put(&mut arguments, place, value::wanted(kind));
        }
        Some((
            arguments,
            places.into_iter().map(|(place, _)| place).collect(),
        ))
    }

    /// The arguments with a text put where there is room for one, and the place; `None` when there is none.
    pub(in crate::command::drill) fn carrying(
        &self,
        text: &str,
    ) -> Option<(Map<String, Value>, String)> {
        let carried = |place: &str| {
            let value = match self.constrained.get(place) {
                Some(constraint) => value::carrying(constraint, text)?,
                None if self.takes_others => text.to_owned(),
                None => return None,
            };
            let mut arguments = self.arguments.clone();
            value::put(&mut arguments, place, Value::String(value));
            Some((arguments, place.to_owned()))
        };
        // Free text first; then whatever has room.
        self.contents
            .iter()
            .find_map(|place| carried(place))
            .or_else(|| {
                let is_checked = |place: &String| self.sinks.iter().any(|(sink, _)| sink == place);
                let mut places = self.constrained.keys().filter(|place| !is_checked(place));
                places.find_map(|place| carried(place))
            })
            .or_else(|| {
                let mut places = self.constrained.keys();
                places.find_map(|place| carried(place))
            })
            .or_else(|| carried(&self.free_argument("text")))
    }

    /// The name of an argument that no constraint names.
    fn free_argument(&self, name: &str) -> String {
        match self.kind {
            ServerKind::Http if self.reads => format!("query.{name}"),
            ServerKind::Http => format!("body.{name}"),
            _ => name.to_owned(),
        }
    }
}
