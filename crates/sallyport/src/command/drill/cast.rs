//! Who plays the agent: a name and a segment with which a template's tasks can be opened and its usual work is
//! permitted. A drill whose ordinary work is refused says nothing about the attack.

use std::path::Path;
use std::sync::LazyLock;

use model::config::ServerKind;
use model::inspection::FirstContact;
use model::{AgentName, Pattern, SegmentName};
use regex::Regex;

use super::agent::{Agent, Answer};
use super::errand::{Call, Errand};
use super::stand_in::StandIn;
use super::twin::Twin;
use super::written::STRANGER;
use crate::failure::Failure;
use crate::setup::{self, Setup};

/// The name where any will do.
const ANY: &str = "drill-agent";
/// Most roles that are tried for one template.
const MOST: usize = 8;
/// Longest policies that are read for names, in bytes.
const LONGEST: usize = 1 << 20;

/// An agent that could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Role {
    /// Its name.
    pub(super) name: String,
    /// Its segment.
    pub(super) segment: Option<String>,
}

impl Role {
    /// An agent of no segment that no policy means.
    pub(super) fn stranger() -> Self {
        Self {
            name: STRANGER.to_owned(),
            segment: None,
        }
    }

    /// How it is called in reports.
    pub(super) fn shown(&self) -> String {
        match &self.segment {
            Some(segment) => format!("{} ({segment})", self.name),
            None => self.name.clone(),
        }
    }
}

/// A template, an agent for it, and what of its work is possible.
pub(super) struct Part {
    /// What it can do.
    pub(super) errand: Errand,
    /// As whom.
    pub(super) role: Role,
    /// What of it was done without being refused.
    pub(super) calls: Vec<Call>,
}

impl Part {
    /// The call that content comes in with: one that reads, if there is one without a limit of its own.
    pub(super) fn reading(&self) -> Option<&Call> {
        let best = |call: &&Call| (call.reads, !call.is_limited);
        self.calls.iter().rev().max_by_key(best)
    }

    /// The calls that change something.
    pub(super) fn acting(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| !call.reads)
    }

    /// The first call of an MCP server.
    pub(super) fn of_mcp(&self) -> Option<&Call> {
        self.calls.iter().find(|call| call.kind == ServerKind::Mcp)
    }
}

/// The roles that could be those of a template's agents, those that policies and servers name first.
pub(super) fn roles(setup: &Setup, errand: &Errand) -> Vec<Role> {
    let (named, segments) = in_policies(&setup::folder_of(&setup.file).join("policies"));
    let template = &errand.template;
    let mut names: Vec<String> = Vec::new();
    for pattern in &template.agents {
        names.extend(named.iter().filter(|name| pattern.matches(name)).cloned());
        names.extend(name_of(pattern));
    }
    let mut within: Vec<Option<String>> = template
        .segments
        .iter()
        .map(|it| Some(it.to_string()))
        .collect();
    if names.is_empty() {
        names.push(ANY.to_owned());
    } else {
        let servers = errand
            .calls
            .iter()
            .filter_map(|call| setup.config.servers.get(&call.server));
        let of_servers = servers.filter_map(|server| server.segment.as_ref());
        within.extend(segments.into_iter().map(Some));
        within.extend(of_servers.map(|segment| Some(segment.to_string())));
        within.push(None);
    }
    let mut roles: Vec<Role> = Vec::new();
    for segment in within {
        for name in &names {
            let role = Role {
                name: name.clone(),
                segment: segment.clone(),
            };
            let is_usable = AgentName::parse(name).is_ok()
                && segment
                    .as_deref()
                    .is_none_or(|name| SegmentName::parse(name).is_ok());
            if is_usable && !roles.contains(&role) {
                roles.push(role);
            }
        }
    }
    roles.truncate(MOST);
    roles
}

fn name_of(pattern: &Pattern) -> Option<String> {
    let stem = pattern.stem();
    match pattern.is_prefix() {
        false => Some(stem.to_owned()),
        true if stem.is_empty() => Some(ANY.to_owned()),
        true => Some(format!("{stem}drill")),
    }
}

/// The agents, and the segments of agents, that policies name.
fn in_policies(folder: &Path) -> (Vec<String>, Vec<String>) {
    static AGENTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"Sallyport::Agent::"([^"]{1,64})""#).expect("the expression is well formed")
    });
    static SEGMENTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"principal\s+in\s+Sallyport::Segment::"([^"]{1,64})""#)
            .expect("the expression is well formed")
    });
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let mut text = String::new();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|end| end == "cedar"))
    {
        if text.len() < LONGEST {
            let read = std::fs::read_to_string(file).unwrap_or_default();
            // What a comment shows is nobody's name.
            let said = read
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            said.for_each(|line| text.extend([line, "\n"]));
        }
    }
    let found = |expression: &Regex| {
        let all = expression
            .captures_iter(&text)
            .map(|found| found[1].to_owned());
        let mut names: Vec<String> = Vec::new();
        for name in all {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    (found(&AGENTS), found(&SEGMENTS))
}

/// Tries a template's usual work as an agent at a twin.
///
/// # Errors
/// [`Failure`] when the twin is broken. Why none of the work is possible is in the value.
pub(super) async fn try_out(
    twin: &Twin,
    stand_in: &StandIn,
    setup: &Setup,
    errand: &Errand,
    role: &Role,
) -> Result<Result<Part, String>, Failure> {
    let instance = twin.enrol(role).await?;
    let opened = open(twin, errand, role).await;
    let task = match opened {
        Ok(task) => task,
        Err(failure) => return Ok(Err(failure.to_string())),
    };
    let mut agent = Agent::new(&instance, &twin.gateway, task)?;
    meet(twin, stand_in, setup, &mut agent, &errand.calls).await?;
    let mut part = Part {
        errand: errand.clone(),
        role: role.clone(),
        calls: Vec::new(),
    };
    let mut refused = Vec::new();
    for call in &errand.calls {
        match agent.make(call, &call.arguments).await? {
            Answer::Passed(_) => part.calls.push(call.clone()),
            Answer::Refused(rule, reason) => {
                refused.push(format!("{}: {rule}: {reason}", call.shown()));
            }
        }
    }
    if part.calls.is_empty() {
        return Ok(Err(refused.join("; ")));
    }
    part.errand.left_out.extend(refused);
    Ok(Ok(part))
}

/// Opens a task for an errand.
///
/// # Errors
/// [`Failure`] with what was said.
pub(super) async fn open(
    twin: &Twin,
    errand: &Errand,
    role: &Role,
) -> Result<model::TaskId, Failure> {
    let template = errand.template.name.as_str();
    twin.open(role, template, &errand.parameters, &errand.purpose)
        .await
}

/// Has the servers' tools seen for the first time and, where everything waits for a review, reviewed.
///
/// # Errors
/// [`Failure`] when the twin is broken.
pub(super) async fn meet(
    twin: &Twin,
    stand_in: &StandIn,
    setup: &Setup,
    agent: &mut Agent,
    calls: &[Call],
) -> Result<(), Failure> {
    let mut met = Vec::new();
    for call in calls.iter().filter(|call| call.kind == ServerKind::Mcp) {
        stand_in.has(&call.server, &call.name);
    }
    for call in calls.iter().filter(|call| call.kind == ServerKind::Mcp) {
        let is_reviewed = setup
            .config
            .servers
            .get(&call.server)
            .is_some_and(|server| server.pins == FirstContact::Review);
        if is_reviewed && !met.contains(&&call.server) {
            met.push(&call.server);
            agent.tools(&call.server).await?;
            let review = [
                "mcp",
                "review",
                call.server.as_str(),
                "--accept-all",
                "--json",
            ];
            twin.run(&review, &[]).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_the_template_means() {
        let named = |pattern: &str| name_of(&Pattern::parse(pattern).unwrap());
        assert_eq!(named("desk").as_deref(), Some("desk"));
        assert_eq!(named("support-*").as_deref(), Some("support-drill"));
        assert_eq!(named("*").as_deref(), Some(ANY));
        assert!(AgentName::parse(STRANGER).is_ok());
    }

    #[test]
    fn policies_say_which_agents_and_segments_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let policy = "// Sallyport::Agent::\"nobody\"\npermit (principal == Sallyport::Agent::\"desk\", action, resource);\n\
            forbid (principal in Sallyport::Segment::\"care\", action, resource in Sallyport::Segment::\"money\");";
        std::fs::write(folder.path().join("a.cedar"), policy).unwrap();
        std::fs::write(folder.path().join("a.txt"), "Sallyport::Agent::\"other\"").unwrap();
        let (agents, segments) = in_policies(folder.path());
        assert_eq!(
            (agents, segments),
            (vec!["desk".to_owned()], vec!["care".to_owned()])
        );
        assert_eq!(
            in_policies(&folder.path().join("none")),
            (Vec::new(), Vec::new())
        );
    }
}
