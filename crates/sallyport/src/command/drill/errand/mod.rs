//! What a task of a template can do, as calls that could be made: names and arguments that its grant admits.

mod call;
mod expression;
pub(super) mod value;

use std::collections::BTreeMap;

use model::config::ServerKind;
use model::grant::{NeedsApproval, Permission};
use model::{CallPermission, Constraint, Pattern, ServerName, Template};
use provenance::Annotations;
use serde_json::{Map, Value};
use web::routes::Route;

pub(super) use self::call::Call;
use self::expression::matching;
use crate::setup::Setup;

/// Most calls of one pattern.
const MOST_OF_ONE: usize = 3;
/// Most calls of one template.
const MOST: usize = 24;
/// Longest list of values in a purpose, in characters.
const LONGEST: usize = 400;

/// Work of one template.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    /// The template.
    pub(super) template: Template,
    /// Its text, for naming lines of it.
    pub(super) text: String,
    /// The parameters of a task.
    pub(super) parameters: BTreeMap<String, String>,
    /// What the task is for; empty when the template says it.
    pub(super) purpose: String,
    /// What it may call.
    pub(super) calls: Vec<Call>,
    /// What it may do and nobody tries here, with the reason.
    pub(super) left_out: Vec<String>,
}

impl Errand {
    /// What a task of a template can do at these servers; at all when there are none.
    ///
    /// # Errors
    /// Why no task can be opened from it here.
    pub(super) fn of(
        setup: &Setup,
        template: &Template,
        text: &str,
        servers: &[ServerName],
    ) -> Result<Self, String> {
        if template.grant.proof == model::Proof::Certificate {
            return Err("its tasks need a client certificate, and the twin has no TLS".to_owned());
        }
        let mut parameters = BTreeMap::new();
        for (name, parameter) in &template.parameters {
            if parameter.default.is_none() {
                let value = matching(&parameter.pattern).ok_or_else(|| {
                    format!(
                        "no value could be made for its parameter `{name}`: `{}`",
                        parameter.pattern
                    )
                })?;
                parameters.insert(name.clone(), value);
            }
        }
        let (grant, _) = template
            .fill(&parameters)
            .map_err(|error| error.to_string())?;
        let mut errand = Self {
            template: template.clone(),
            text: text.to_owned(),
            parameters,
            purpose: String::new(),
            calls: Vec::new(),
            left_out: Vec::new(),
        };
        for (position, permission) in grant.permissions.iter().enumerate() {
            if servers.is_empty() || servers.contains(&permission.server) {
                errand.permission(setup, position, permission);
            }
        }
        errand.calls.truncate(MOST);
        if errand.calls.is_empty() {
            let why = match &errand.left_out[..] {
                [] => "it allows nothing at these servers".to_owned(),
                reasons => reasons.join("; "),
            };
            return Err(why);
        }
        if template.purpose.is_none() {
            errand.purpose = errand.words();
        }
        Ok(errand)
    }

    fn permission(&mut self, setup: &Setup, position: usize, permission: &Permission) {
        let server = &permission.server;
        let Some(configured) = setup.config.servers.get(server) else {
            return;
        };
        let kind = configured.kind;
        if !matches!(kind, ServerKind::Mcp | ServerKind::Http) {
            let what = kind.as_str();
            self.left_out.push(format!(
                "`{server}` is of the kind `{what}`, which no stand-in plays"
            ));
            return;
        }
        if permission.approval == Some(NeedsApproval::Always) {
            let where_ = self.line(Some(position));
            self.left_out.push(format!(
                "what {where_} allows at `{server}` needs a person's approval each time"
            ));
            return;
        }
        let annotations = setup.annotations.get(server).map(AsRef::as_ref);
        for allowed in permission.calls() {
            let names = match kind {
                ServerKind::Mcp => tools(&allowed.name, annotations),
                _ => endpoints(&allowed.name, &routes(configured)),
            };
            if names.is_empty() {
                self.left_out.push(format!(
                    "`{}` names no endpoint of `{server}`",
                    allowed.name
                ));
            }
            for name in names {
                let known = |call: &Call| call.server == *server && call.name == name;
                if self.calls.iter().any(known) {
                    continue;
                }
                match call(server, kind, &name, allowed, annotations) {
                    Ok(mut call) => {
                        call.allowed_at = Some(position);
                        self.calls.push(call);
                    }
                    Err(argument) => self.left_out.push(format!(
                        "no value could be made for `{argument}` of `{name}` at `{server}`"
                    )),
                }
            }
        }
    }

    /// The purpose of a task whose words steer every argument of its usual work.
    fn words(&self) -> String {
        let mut words = "A rehearsal about".to_owned();
        let mut known: Vec<String> = Vec::new();
        for call in &self.calls {
            for (place, kind) in &call.sinks {
                let text = match call.arguments.get(place) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Number(number)) => number.to_string(),
                    _ => value::usual(kind).as_str().unwrap_or_default().to_owned(),
                };
                let text = if *kind == "identifier" {
                    format!("id {text}")
                } else {
                    text
                };
                let is_new = !known.contains(&text) && !text.chars().any(char::is_control);
                if is_new && words.chars().count() + text.chars().count() < LONGEST {
                    words.push_str(if known.is_empty() { " " } else { ", " });
                    words.push_str(&text);
                    known.push(text);
                }
            }
        }
        if known.is_empty() {
            words.push_str(" what this template is for");
        }
        words
    }

    /// The file of the template, and the line where something is allowed.
    pub(super) fn line(&self, position: Option<usize>) -> String {
        let file = format!("templates/{}.toml", self.template.name);
        let is_allow = |line: &str| line.trim_start().starts_with("[[allow]]");
        let mut lines = self
            .text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_allow(line));
        match position.and_then(|position| lines.nth(position)) {
            Some((at, _)) => format!("{file}:{}", at + 1),
            None => file,
        }
    }

    /// Whether the template itself says how much its tasks may do.
    pub(super) fn has_budget(&self) -> bool {
        let read: Result<toml::Table, _> = self.text.parse();
        read.is_ok_and(|table| {
            let budget = table.get("budget").and_then(toml::Value::as_table);
            budget.is_some_and(|budget| budget.contains_key("calls"))
        })
    }
}

/// The endpoints of an API, by their names.
pub(super) fn routes(server: &model::config::Server) -> Vec<String> {
    let declared = server.http.openapi.as_ref().and_then(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        web::openapi::routes(&text).ok()
    });
    let written = server
        .http
        .routes
        .iter()
        .filter_map(|text| Route::parse(text).ok());
    let all = written.chain(declared.into_iter().flatten());
    all.map(|route| route.name()).collect()
}

fn tools(pattern: &Pattern, annotations: Option<&Annotations>) -> Vec<String> {
    if !pattern.is_prefix() {
        return vec![pattern.stem().to_owned()];
    }
    let annotated = annotations.into_iter().flat_map(Annotations::tools);
    let named: Vec<String> = annotated
        .filter(|name| pattern.matches(name))
        .take(MOST_OF_ONE)
        .map(str::to_owned)
        .collect();
    if named.is_empty() {
        return vec![format!("{}drill", pattern.stem())];
    }
    named
}

fn endpoints(pattern: &Pattern, routes: &[String]) -> Vec<String> {
    let fitting = routes.iter().filter(|name| pattern.matches(name));
    let plain =
        fitting.filter(|name| !name.starts_with("WEBSOCKET") && !name.starts_with("OPTIONS"));
    plain.take(MOST_OF_ONE).cloned().collect()
}

/// A call that a permission allows, or the argument that no value was found for.
fn call(
    server: &ServerName,
    kind: ServerKind,
    name: &str,
    allowed: &CallPermission,
    annotations: Option<&Annotations>,
) -> Result<Call, String> {
    let said: Vec<(String, &'static str)> = annotations
        .into_iter()
        .flat_map(|said| said.sinks(name))
        .collect();
    let contents: Vec<String> = annotations
        .into_iter()
        .flat_map(|said| said.contents(name))
        .map(str::to_owned)
        .collect();
    let kind_of = |place: &str| {
        let typed = said.iter().find(|(sink, _)| sink == place);
        typed.map_or("any", |(_, kind)| *kind)
    };
    let mut arguments = Map::new();
    for (place, constraint) in &allowed.arguments {
        if !constraint.optional {
            let value = value::admitted(constraint, kind_of(place)).ok_or_else(|| place.clone())?;
            value::put(&mut arguments, place, value);
        }
    }
    let in_path = name
        .split('/')
        .filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'));
    for parameter in in_path.map(|parameter| format!("path.{parameter}")) {
        if !arguments.contains_key(&parameter) {
            let value = value::usual(kind_of(&parameter));
            arguments.insert(parameter, value);
        }
    }
    if allowed.allows_other_arguments() {
        let others = said.iter().map(|(place, kind)| (place, *kind));
        for (place, kind) in others.chain(contents.iter().map(|place| (place, "any"))) {
            if !allowed.arguments.contains_key(place) && !arguments.contains_key(place) {
                value::put(&mut arguments, place, value::usual(kind));
            }
        }
    }
    let reads = match annotations {
        Some(said) if said.tools().any(|tool| tool == name) => said.reads(name),
        _ => reads_by_name(kind, name),
    };
    let constrained: BTreeMap<String, Constraint> = allowed.arguments.clone();
    // Of a tool that is in no annotation, every argument is checked.
    let is_named = annotations.is_some_and(|said| said.tools().any(|tool| tool == name));
    let sinks = if annotations.is_some() && !is_named {
        arguments
            .keys()
            .map(|place| (place.clone(), "any"))
            .collect()
    } else {
        said
    };
    Ok(Call {
        server: server.clone(),
        kind,
        name: name.to_owned(),
        arguments,
        constrained,
        takes_others: allowed.allows_other_arguments(),
        is_limited: allowed.max_calls.is_some(),
        reads,
        is_annotated: annotations.is_some(),
        sinks,
        contents,
        allowed_at: None,
    })
}

/// What a name suggests, where nobody said what a tool does.
fn reads_by_name(kind: ServerKind, name: &str) -> bool {
    const WORDS: [&str; 14] = [
        "read", "get", "list", "search", "find", "fetch", "query", "show", "describe", "view",
        "lookup", "check", "count", "status",
    ];
    if kind == ServerKind::Http {
        return name.starts_with("GET ") || name.starts_with("HEAD ");
    }
    let lower = name.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    words.any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests;
