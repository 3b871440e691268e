//! Noting what a task sees: its inputs, and the results of its calls.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use jiff::civil::Date;
use model::DecisionId;
use serde_json::{Map, Value};

use super::known::Listed;
use super::{Ledger, Level};
use crate::annotations::{Annotations, Beside, Choose, Kind, Listing, Sink, Tool, Trusted, When};
use crate::text;
use crate::value::address;
use crate::verdict::{Origin, visible};

/// A call that was forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Called<'a> {
    /// The server.
    pub server: &'a str,
    /// The tool or endpoint.
    pub tool: &'a str,
    /// The arguments.
    pub arguments: &'a Map<String, Value>,
    /// When it was decided.
    pub at: Option<Timestamp>,
    /// The decision that permitted it.
    pub decision: Option<DecisionId>,
    /// Whether its result is a `CallToolResult` of MCP, which carries the value; else it is the value.
    pub is_mcp: bool,
    /// Whether it failed, so that nothing in its result is trusted. MCP says so in the result itself.
    pub failed: bool,
}

impl<'a> Called<'a> {
    /// A call of a tool of which nobody said when it was.
    #[must_use]
    pub fn new(server: &'a str, tool: &'a str, arguments: &'a Map<String, Value>) -> Self {
        Self {
            server,
            tool,
            arguments,
            at: None,
            decision: None,
            is_mcp: true,
            failed: false,
        }
    }
}

/// Longest text of others in an origin, in characters.
const QUOTED: usize = 120;
/// Most fields of one result that are noted one by one.
const MOST_FIELDS: usize = 8_192;

impl Ledger {
    /// Notes what the task was opened with. `today` is what its words such as "tomorrow" start
    /// from. What stands here steers calls, so it must come from whom the task is for, before the
    /// agent has read anything that others wrote.
    pub fn note_input(
        &mut self,
        purpose: &str,
        parameters: &BTreeMap<String, String>,
        today: Option<Date>,
    ) {
        self.today = today;
        let limit = self.limits.trusted;
        if let Some(source) = self.source(Origin::Purpose) {
            self.known[0].note(purpose, source, today, false, limit);
        }
        for (name, value) in parameters {
            if let Some(source) = self.source(Origin::Parameter { name: name.clone() }) {
                self.known[0].note(value, source, today, true, limit);
            }
        }
    }

    /// Notes what an agent said when it opened the task. It steers nothing, and is kept only to say where a
    /// value was seen.
    pub fn note_handed_on(&mut self, inputs: &[&str]) {
        if let Some(source) = self.source(Origin::Delegation) {
            for input in inputs {
                self.note_untrusted(input, source);
            }
        }
    }

    /// Says that the task has read what is not known here, as after a restart: what cannot be derived is
    /// asked about all the same, and the person who is asked is told.
    pub fn miss_some(&mut self) {
        self.full = true;
        self.missed = true;
    }

    /// Notes the result of a call that was forwarded: a `CallToolResult` of MCP, or any JSON value.
    /// Without annotations nothing in it is trusted.
    pub fn note_result(
        &mut self,
        annotations: Option<&Annotations>,
        called: &Called<'_>,
        result: &Value,
    ) {
        let Called {
            server,
            tool,
            arguments,
            ..
        } = *called;
        self.calls = self.calls.saturating_add(1);
        // A value that only looks like a result of MCP is not unpacked: a text in it stays a text.
        let is_error = result.get("isError").and_then(Value::as_bool) == Some(true);
        let failed = called.failed || (called.is_mcp && is_error);
        let document = match called.is_mcp {
            true => plain(result),
            false => result.clone(),
        };
        let annotated = annotations.and_then(|annotations| annotations.tool(tool));
        let chosen = annotated
            .filter(|_| !failed)
            .and_then(|tool| self.chosen(tool, arguments));
        let origin = Reading {
            server,
            tool,
            call: self.calls,
            arguments: visible(&Value::Object(arguments.clone()).to_string(), QUOTED),
            at: called.at,
            decision: called.decision,
        };
        self.begin_entry(&origin);
        let trust = match (annotated, chosen) {
            (Some(tool), Some(_)) => self.trusted_places(&tool.trusted, &document),
            _ => Trust::Places(HashMap::new()),
        };
        let mut left = MOST_FIELDS;
        self.note_fields(
            &document,
            &mut String::new(),
            None,
            &trust,
            &origin,
            &mut left,
        );
        if let (Some(tool), Some(narrowed)) = (annotated, chosen) {
            if let (Trusted::Some { lines, .. }, Value::String(text)) = (&tool.trusted, &document) {
                let parts: Vec<String> = lines
                    .iter()
                    .flat_map(|lines| lines.captures_iter(text))
                    .take(MOST_FIELDS)
                    .flat_map(|found| {
                        found
                            .iter()
                            .skip(1)
                            .flatten()
                            .map(|part| part.as_str().to_owned())
                            .collect::<Vec<_>>()
                    })
                    .collect();
                for part in parts {
                    self.note_at(&part, "", Some(Level::Trusted), &origin);
                }
            }
            for listing in &tool.lists {
                self.note_listing(listing, &document, narrowed, &origin);
            }
        }
    }

    /// Whether everything that chose this result is derivable (else `None`), and whether it was
    /// narrowed by words that the task says.
    fn chosen(&self, tool: &Tool, arguments: &Map<String, Value>) -> Option<bool> {
        if !tool.reads {
            // It was forwarded, so its sinks were derivable or a person approved them.
            return Some(true);
        }
        let mut narrowed = false;
        for (steps, value) in super::check::leaves(arguments)? {
            let first = steps.first().map_or("", String::as_str);
            if tool.content.contains_key(first) || value.is_boolean() {
                continue;
            }
            let any = Sink::default();
            let sink = tool
                .queries
                .iter()
                .chain(&tool.sinks)
                .find(|(place, _)| place.covers(&steps))
                .map_or(&any, |(_, sink)| sink);
            self.derive(value, sink, Level::Trusted)?;
            let says = value.as_str().map(text::words).unwrap_or_default();
            narrowed |=
                text::say_enough(&says) && self.derive(value, sink, Level::Vouched).is_some();
        }
        Some(narrowed)
    }

    fn trusted_places(&self, trusted: &Trusted, document: &Value) -> Trust {
        let places = match trusted {
            Trusted::Nothing => return Trust::Places(HashMap::new()),
            Trusted::All => return Trust::All,
            Trusted::Some { places, .. } => places,
        };
        let mut found = HashMap::new();
        for (place, when) in places {
            for standing in place.all_in(document).into_iter().take(MOST_FIELDS) {
                let level = match when {
                    None => Some(Level::Trusted),
                    Some(when) => self.stands_beside(when, document, &standing.each),
                };
                if let Some(level) = level {
                    found.insert(standing.pointer, level);
                }
            }
        }
        Trust::Places(found)
    }

    /// The level that a value is trusted at when what must stand beside it does.
    fn stands_beside(&self, when: &When, document: &Value, each: &[String]) -> Option<Level> {
        let beside = when.field.beside(document, each);
        let texts: Option<Vec<&str>> = beside
            .iter()
            .map(|standing| standing.value.as_str())
            .collect();
        let texts = texts.filter(|texts| !texts.is_empty())?;
        let (holds, level) = match &when.is {
            Beside::Named => (
                texts.iter().all(|text| {
                    let value = Value::String((*text).to_owned());
                    let says = text::say_enough(&text::words(text));
                    says && self.derive(&value, &Sink::default(), Level::Task).is_some()
                }),
                Level::Vouched,
            ),
            Beside::OneOf(values) => (
                texts
                    .iter()
                    .all(|text| values.iter().any(|value| is_one_of(text, value))),
                Level::Trusted,
            ),
        };
        holds.then_some(level)
    }

    fn note_fields(
        &mut self,
        value: &Value,
        pointer: &mut String,
        inherited: Option<Level>,
        trust: &Trust,
        origin: &Reading<'_>,
        left: &mut usize,
    ) {
        let level = inherited.or_else(|| match trust {
            Trust::All => Some(Level::Trusted),
            Trust::Places(places) => places.get(pointer.as_str()).copied(),
        });
        let length = pointer.len();
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    pointer.push('/');
                    pointer.push_str(&at.to_string());
                    self.note_fields(item, pointer, level, trust, origin, left);
                    pointer.truncate(length);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.note_field(name, pointer, level, origin, left);
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    self.note_fields(member, pointer, level, trust, origin, left);
                    pointer.truncate(length);
                }
            }
            Value::String(text) => self.note_field(text, pointer, level, origin, left),
            Value::Number(number) => {
                self.note_field(&number.to_string(), pointer, level, origin, left);
            }
        }
    }

    fn note_field(
        &mut self,
        text: &str,
        pointer: &str,
        level: Option<Level>,
        origin: &Reading<'_>,
        left: &mut usize,
    ) {
        let Some(remaining) = left.checked_sub(1) else {
            self.full = true;
            return;
        };
        *left = remaining;
        self.note_at(text, pointer, level, origin);
    }

    /// Notes one value of a result.
    pub(super) fn note_at(
        &mut self,
        text: &str,
        place: &str,
        level: Option<Level>,
        origin: &Reading<'_>,
    ) {
        if let Some(source) = self.source(origin.at(place)) {
            self.note_from(source, text, place, level);
        }
    }

    /// Notes one value of a source.
    pub(super) fn note_from(&mut self, source: u32, text: &str, place: &str, level: Option<Level>) {
        let fits = match level {
            Some(level) => {
                self.note_trusted(text, source, level);
                true
            }
            None => self.note_untrusted(text, source),
        };
        if let Some(entry) = self.entry.as_mut().filter(|_| fits) {
            entry.value(level, place, text);
        }
    }

    pub(super) fn note_trusted(&mut self, text: &str, source: u32, level: Level) {
        let limit = self.limits.trusted;
        self.known[level as usize - 1].note(text, source, None, true, limit);
    }

    /// False when it does not fit.
    pub(super) fn note_untrusted(&mut self, text: &str, source: u32) -> bool {
        self.seen
            .add(&text::careless_words(text), source, self.limits.untrusted)
    }

    fn note_listing(
        &mut self,
        listing: &Listing,
        document: &Value,
        narrowed: bool,
        origin: &Reading<'_>,
    ) {
        for standing in listing.at.all_in(document).into_iter().take(MOST_FIELDS) {
            let identifier = match standing.value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => continue,
            };
            let named = listing.name.as_ref().is_some_and(|name| {
                name.beside(document, &standing.each).iter().any(|name| {
                    let says = name.value.as_str().map(text::words).unwrap_or_default();
                    let name = Sink {
                        kind: Kind::Name,
                        ..Sink::default()
                    };
                    text::say_enough(&says)
                        && self
                            .derive(&Value::String(says.join(" ")), &name, Level::Vouched)
                            .is_some()
                })
            });
            let how = match (named, narrowed) {
                (true, _) => Choose::Named,
                (false, true) => Choose::Narrowed,
                (false, false) => Choose::Listed,
            };
            if !self.note_listed(&listing.of, &identifier, how, &standing.pointer, origin) {
                return;
            }
        }
    }

    /// Notes one identifier that a result lists; false when there is no room for more.
    pub(super) fn note_listed(
        &mut self,
        of: &str,
        identifier: &str,
        how: Choose,
        place: &str,
        origin: &Reading<'_>,
    ) -> bool {
        if self.listed.len() >= self.limits.sources {
            self.full = true;
            return false;
        }
        let Some(source) = self.source(origin.at(place)) else {
            return false;
        };
        if let Some(entry) = &mut self.entry {
            entry.listed(how, of, place, identifier);
        }
        let key = (of.into(), identifier.into());
        let entry = self.listed.entry(key).or_insert(Listed { source, how });
        if how > entry.how {
            *entry = Listed { source, how };
        }
        true
    }
}

/// A result that is being noted.
pub(super) struct Reading<'a> {
    pub(super) server: &'a str,
    pub(super) tool: &'a str,
    pub(super) call: u32,
    pub(super) arguments: String,
    pub(super) at: Option<Timestamp>,
    pub(super) decision: Option<DecisionId>,
}

impl Reading<'_> {
    pub(super) fn at(&self, place: &str) -> Origin {
        Origin::Result {
            server: self.server.to_owned(),
            tool: self.tool.to_owned(),
            call: self.call,
            arguments: self.arguments.clone(),
            place: visible(place, QUOTED),
            at: self.at,
            decision: self.decision,
        }
    }
}

/// What of one result is trusted.
enum Trust {
    All,
    /// By pointer; what stands inside is trusted too.
    Places(HashMap<String, Level>),
}

fn is_one_of(text: &str, value: &str) -> bool {
    match value.strip_prefix('@') {
        Some(domain) => address::parse(text)
            .and_then(|address| {
                address
                    .split_once('@')
                    .map(|(_, host)| host.eq_ignore_ascii_case(domain))
            })
            .unwrap_or(false),
        None => text == value,
    }
}

/// The value that a `CallToolResult` of MCP carries: its structured content, or its text, read as
/// JSON where it is JSON. Anything else is its own value.
fn plain(result: &Value) -> Value {
    if let Some(structured) = result
        .get("structuredContent")
        .filter(|value| value.is_object())
    {
        // SDKs wrap results that are not objects, since structured content must be one.
        return match structured.as_object() {
            Some(members) if members.len() == 1 && members.contains_key("result") => {
                members["result"].clone()
            }
            _ => structured.clone(),
        };
    }
    let Some(blocks) = result.get("content").and_then(Value::as_array) else {
        return result.clone();
    };
    let mut values: Vec<Value> = blocks
        .iter()
        .map(|block| {
            let text = block
                .get("text")
                .or_else(|| block.pointer("/resource/text"))
                .and_then(Value::as_str);
            match text {
                Some(text) => {
                    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
                }
                None => Value::Null,
            }
        })
        .collect();
    match values.len() {
        1 => values.remove(0),
        _ => Value::Array(values),
    }
}
