//! What a playbook must be beyond its form: steps that exist and are reached, branches that end, and
//! nothing that could do anything but acts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::condition::Condition;
use super::variable::{self, Name};
use super::written::{Written, WrittenCommand, WrittenStep};
use super::{
    Action, BYTES, Command, Kind, Playbook, PlaybookError, START_LINE, STEPS, Step, Variable,
};
use crate::act::{ACTS, Act};

/// Longest name and description, in characters.
const NAME: usize = 200;
const WORDS: usize = 4_000;
/// How deep branches are nested at most.
const NESTED: usize = 16;
/// Most commands of a step.
const COMMANDS: usize = 32;
/// Longest delay and timeout: 30 days, in milliseconds.
const LONGEST: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Reads a playbook.
pub(super) fn read(text: &str) -> Result<Playbook, Vec<PlaybookError>> {
    let one = |what: String| vec![PlaybookError::new("the document", what)];
    let limits = model::json::Limits {
        bytes: BYTES,
        depth: 32,
    };
    let value =
        model::json::parse(text.as_bytes(), limits).map_err(|error| one(error.to_string()))?;
    let written: Written = serde_json::from_value(value).map_err(|error| one(error.to_string()))?;
    let mut checking = Checking {
        wrong: Vec::new(),
        written: &written,
        variables: BTreeMap::new(),
    };
    let playbook = checking.playbook(text);
    if checking.wrong.is_empty() {
        Ok(playbook)
    } else {
        Err(checking.wrong)
    }
}

struct Checking<'w> {
    wrong: Vec<PlaybookError>,
    written: &'w Written,
    variables: BTreeMap<Name, Variable>,
}

impl Checking<'_> {
    fn wrong(&mut self, place: &str, what: impl Into<String>) {
        self.wrong.push(PlaybookError::new(place, what));
    }

    fn playbook(&mut self, text: &str) -> Playbook {
        let written = self.written;
        if written.kind != "playbook" || written.spec_version != "cacao-2.0" {
            self.wrong("type", "it is no playbook of `spec_version` `cacao-2.0`");
        }
        if !is_id(&written.id, "playbook") {
            self.wrong("id", "it is not `playbook--` and a UUID");
        }
        if written.revoked {
            self.wrong("revoked", "whoever made it took it back");
        }
        if written.priority > 100 || written.severity > 100 || written.impact > 100 {
            self.wrong("severity", "priority, severity and impact are at most 100");
        }
        let times = [&written.created, &written.modified];
        let spans = [&written.valid_from, &written.valid_until];
        let times = times.into_iter().chain(spans.into_iter().flatten());
        if times
            .into_iter()
            .any(|time| time.parse::<jiff::Timestamp>().is_err())
        {
            self.wrong("created", "a time is not like `2026-11-24T12:00:00.000Z`");
        }
        self.words("name", &written.name, NAME, true);
        self.words("description", &written.description, WORDS, false);
        for (name, about) in &written.playbook_variables {
            match Name::parse(name) {
                Err(error) => self.wrong("playbook_variables", error.to_string()),
                Ok(key) => {
                    if about.kind.is_empty() || (about.external && about.constant) {
                        self.wrong(name, "it has no type, or is external and constant at once");
                    }
                    let variable = Variable {
                        description: about.description.clone(),
                        value: about.value.clone(),
                        constant: about.constant,
                        external: about.external,
                    };
                    self.variables.insert(key, variable);
                }
            }
        }
        let mut agents = BTreeMap::new();
        for (id, agent) in &written.agent_definitions {
            if !is_id(id, &agent.kind) {
                self.wrong(id, "the id of an agent begins with its type");
            }
            agents.insert(id.clone(), agent.name.clone());
        }
        for (id, target) in &written.target_definitions {
            if !is_id(id, &target.kind) {
                self.wrong(id, "the id of a target begins with its type");
            }
        }
        if written.workflow.len() > STEPS {
            self.wrong("workflow", format!("it has more than {STEPS} steps"));
        }
        let mut steps = BTreeMap::new();
        for (id, step) in written.workflow.iter().take(STEPS) {
            if let Some(read) = self.step(id, step) {
                steps.insert(id.clone(), read);
            }
        }
        let playbook = Playbook {
            id: written.id.clone(),
            name: written.name.clone(),
            description: written.description.clone(),
            modified: written.modified.clone(),
            hash: hex(&Sha256::digest(text.as_bytes())),
            severity: written.severity,
            labels: written.labels.clone(),
            variables: std::mem::take(&mut self.variables),
            steps,
            start: written.workflow_start.clone(),
            exception: written.workflow_exception.clone(),
            agents,
        };
        if self.wrong.is_empty() {
            self.paths(&playbook);
        }
        playbook
    }

    fn words(&mut self, place: &str, text: &str, most: usize, needed: bool) {
        let lines = text.lines().all(|line| !line.chars().any(char::is_control));
        if text.chars().count() > most || !lines || (needed && text.trim().is_empty()) {
            self.wrong(
                place,
                format!("words are at most {most} characters, without control characters"),
            );
        }
    }

    fn step(&mut self, id: &str, step: &WrittenStep) -> Option<Step> {
        if !is_id(id, &step.kind) {
            self.wrong(id, "the id of a step is its type, `--` and a UUID");
            return None;
        }
        self.words(id, &step.name, NAME, false);
        self.words(id, &step.description, WORDS, false);
        if step.delay > LONGEST || step.timeout.is_some_and(|it| it == 0 || it > LONGEST) {
            self.wrong(id, "a delay or timeout is at most 30 days");
        }
        let (success, failure) = (step.on_success.is_some(), step.on_failure.is_some());
        if step.on_completion.is_some() && (success || failure) {
            self.wrong(
                id,
                "it has `on_completion`, and `on_success` or `on_failure`",
            );
        }
        let allowed: &[&str] = match step.kind.as_str() {
            "start" | "end" => &[],
            "action" => &["commands", "agent", "targets", "in_args", "out_args"],
            "parallel" => &["next_steps"],
            "if-condition" => &["condition", "on_true", "on_false"],
            "while-condition" => &["condition", "on_true"],
            "switch-condition" => &["switch"],
            "playbook-action" => {
                self.wrong(id, "playbooks that call others are not carried out here");
                return None;
            }
            "single" => {
                self.wrong(id, "`single` is of CACAO 1.x: write `action`");
                return None;
            }
            _ => {
                self.wrong(id, "there is no such type of step");
                return None;
            }
        };
        for (member, there) in step.special() {
            if there && !allowed.contains(&member) {
                self.wrong(
                    id,
                    format!("a step of type `{}` has no `{member}`", step.kind),
                );
            }
        }
        let kind = match step.kind.as_str() {
            "start" => Kind::Start,
            "end" => Kind::End,
            "action" => self.action(id, step)?,
            "parallel" => match &step.next_steps {
                Some(branches) if !branches.is_empty() => Kind::Parallel(branches.clone()),
                _ => {
                    self.wrong(id, "`next_steps` is missing or empty");
                    return None;
                }
            },
            "switch-condition" => self.switch(id, step)?,
            _ => self.condition(id, step)?,
        };
        if matches!(kind, Kind::Start | Kind::End) && (success || failure) {
            self.wrong(id, "it can neither succeed nor fail");
        }
        if kind == Kind::End && step.on_completion.is_some() {
            self.wrong(id, "nothing follows an end");
        }
        Some(Step {
            name: step.name.clone(),
            description: step.description.clone(),
            kind,
            delay: step.delay,
            timeout: step.timeout,
            on_completion: step.on_completion.clone(),
            on_success: step.on_success.clone(),
            on_failure: step.on_failure.clone(),
        })
    }

    fn condition(&mut self, id: &str, step: &WrittenStep) -> Option<Kind> {
        let text = step.condition.as_deref().unwrap_or_default();
        let condition = match Condition::parse(text) {
            Ok(condition) => condition,
            Err(why) => {
                self.wrong(id, format!("`condition`: {why}"));
                return None;
            }
        };
        for name in condition.variables() {
            self.known(id, &name);
        }
        let Some(on_true) = step.on_true.clone() else {
            self.wrong(id, "`on_true` is missing");
            return None;
        };
        Some(match step.kind.as_str() {
            "while-condition" => Kind::While { condition, on_true },
            _ => Kind::If {
                condition,
                on_true,
                on_false: step.on_false.clone(),
            },
        })
    }

    fn switch(&mut self, id: &str, step: &WrittenStep) -> Option<Kind> {
        let name = step.switch.as_deref().unwrap_or_default();
        let name = name.strip_suffix(":value").unwrap_or(name);
        let (Ok(variable), Some(cases)) = (Name::parse(name), &step.cases) else {
            self.wrong(id, "`switch` names no variable, or there are no `cases`");
            return None;
        };
        self.known(id, &variable);
        if cases.is_empty() {
            self.wrong(id, "`cases` is empty");
        }
        Some(Kind::Switch {
            variable,
            cases: cases.clone(),
        })
    }

    fn known(&mut self, id: &str, name: &Name) {
        if !self.variables.contains_key(name) {
            self.wrong(
                id,
                format!("there is no variable `{name}` in `playbook_variables`"),
            );
        }
    }

    fn action(&mut self, id: &str, step: &WrittenStep) -> Option<Kind> {
        let agent = step.agent.as_deref().unwrap_or_default();
        let Some(known) = self.written.agent_definitions.get(agent) else {
            self.wrong(id, "`agent` is none of `agent_definitions`");
            return None;
        };
        for target in step.targets.iter().flatten() {
            if !self.written.target_definitions.contains_key(target) {
                self.wrong(id, "a target is none of `target_definitions`");
            }
        }
        for name in step.in_args.iter().chain(&step.out_args).flatten() {
            match Name::parse(name) {
                Ok(name) => self.known(id, &name),
                Err(error) => self.wrong(id, error.to_string()),
            }
        }
        let out = match step.out_args.as_deref() {
            None | Some([]) => None,
            Some([one]) => Name::parse(one).ok(),
            Some(_) => {
                self.wrong(id, "one variable at most takes what comes out");
                None
            }
        };
        if let Some(name) = &out
            && self.variables.get(name).is_some_and(|it| it.constant)
        {
            self.wrong(id, format!("`{name}` is constant"));
        }
        let commands = step.commands.as_deref().unwrap_or_default();
        if commands.is_empty() || commands.len() > COMMANDS {
            self.wrong(id, format!("a step has 1 to {COMMANDS} commands"));
            return None;
        }
        let mut read = Vec::with_capacity(commands.len());
        for command in commands {
            read.push(self.command(id, command)?);
        }
        let manual = |command: &Command| matches!(command, Command::Manual { .. });
        if read.iter().any(manual) && !read.iter().all(manual) {
            self.wrong(id, "a step is for people or for Sallyport, not for both");
        }
        let people = ["individual", "group", "organization", "location", "sector"];
        if read.iter().all(manual) != people.contains(&known.kind.as_str()) {
            self.wrong(
                id,
                "`manual` commands are for people (`individual`, `group`, `organization`), all others \
                 for `security-category` or `http-api`",
            );
        }
        Some(Kind::Action(Action {
            agent: agent.to_owned(),
            commands: read,
            out,
        }))
    }

    fn command(&mut self, id: &str, command: &WrittenCommand) -> Option<Command> {
        let text = command.command.as_deref().unwrap_or_default();
        match command.kind.as_str() {
            "manual" => {
                if command.headers.is_some() || command.content.is_some() {
                    self.wrong(id, "a `manual` command has no `headers` and no `content`");
                }
                self.words(id, text, WORDS, true);
                for name in variable::used(text) {
                    self.known(id, &name);
                }
                Some(Command::Manual {
                    text: text.to_owned(),
                })
            }
            "http-api" => self.act(id, command, text),
            other => {
                let shown: String = other
                    .chars()
                    .take(40)
                    .flat_map(char::escape_debug)
                    .collect();
                self.wrong(
                    id,
                    format!(
                        "`{shown}` commands are never carried out: only `manual`, and `http-api` to \
                         Sallyport itself, are"
                    ),
                );
                None
            }
        }
    }

    fn act(&mut self, id: &str, command: &WrittenCommand, start: &str) -> Option<Command> {
        if start != START_LINE {
            self.wrong(
                id,
                format!("the only request that is carried out is `{START_LINE}`"),
            );
            return None;
        }
        let plain = |name: &String, values: &Vec<String>| {
            name.eq_ignore_ascii_case("content-type") && values[..] == ["application/json"]
        };
        if let Some(headers) = &command.headers
            && !headers.iter().all(|(name, values)| plain(name, values))
        {
            self.wrong(id, "the only header is `Content-Type: application/json`");
        }
        let content = command.content.as_deref().unwrap_or_default();
        let limits = model::json::Limits {
            bytes: 16 << 10,
            depth: 2,
        };
        let members = match model::json::parse(content.as_bytes(), limits) {
            Ok(Value::Object(members)) => members,
            _ => {
                self.wrong(id, "`content` is no JSON object without objects in it");
                return None;
            }
        };
        let name = members
            .get("action")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !ACTS.iter().any(|(known, _)| *known == name) {
            let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
            self.wrong(id, format!("there is no act `{shown}`"));
            return None;
        }
        let mut sample = Map::new();
        for (member, value) in &members {
            let used = value.as_str().map(variable::used).unwrap_or_default();
            for name in &used {
                self.known(id, name);
            }
            let value = match used.is_empty() {
                true => value.clone(),
                false => Act::sample(member).into(),
            };
            sample.insert(member.clone(), value);
        }
        if let Err(why) = Act::read(sample) {
            self.wrong(id, format!("`{name}`: {why}"));
            return None;
        }
        Some(Command::Act {
            name: name.to_owned(),
            members,
        })
    }

    /// Follows all ways from the start: every step is reached by one of them, branches end, and no way
    /// leads round in a circle but through a `while-condition`.
    fn paths(&mut self, playbook: &Playbook) {
        let starts = playbook
            .steps
            .values()
            .filter(|step| step.kind == Kind::Start);
        if starts.count() != 1
            || playbook.steps.get(&playbook.start).map(|step| &step.kind) != Some(&Kind::Start)
        {
            self.wrong("workflow_start", "it must name the one `start` step");
            return;
        }
        let mut walk = Walk {
            playbook,
            seen: BTreeSet::new(),
            way: Vec::new(),
            nested: 0,
            wrong: Vec::new(),
        };
        walk.branch(&playbook.start, "workflow_start");
        if let Some(exception) = &playbook.exception {
            walk.branch(exception, "workflow_exception");
        }
        let Walk { seen, wrong, .. } = walk;
        self.wrong.extend(wrong);
        let unreached = playbook.steps.keys().filter(|id| !seen.contains(*id));
        for id in unreached.cloned().collect::<Vec<_>>() {
            self.wrong(&id, "no way leads to this step");
        }
    }
}

struct Walk<'p> {
    playbook: &'p Playbook,
    seen: BTreeSet<String>,
    /// The steps that are being gone through now.
    way: Vec<String>,
    /// How many branches deep it is.
    nested: usize,
    wrong: Vec<PlaybookError>,
}

impl Walk<'_> {
    /// Follows a step and everything behind it.
    fn branch(&mut self, id: &str, from: &str) {
        let Some(step) = self.playbook.steps.get(id) else {
            let what = format!("it leads to `{}`, which is not there", id.escape_debug());
            self.wrong.push(PlaybookError::new(from, what));
            return;
        };
        if self.way.iter().any(|before| before == id) {
            let what = "it leads back to where it came from: only `while-condition` goes round";
            self.wrong.push(PlaybookError::new(from, what));
            return;
        }
        if self.nested > NESTED {
            let what = format!("branches are nested more than {NESTED} deep");
            self.wrong.push(PlaybookError::new(from, what));
            return;
        }
        if !self.seen.insert(id.to_owned()) {
            // Followed before, on another way.
            return;
        }
        self.way.push(id.to_owned());
        let inner: Vec<&String> = match &step.kind {
            Kind::Parallel(branches) => branches.iter().collect(),
            Kind::If {
                on_true, on_false, ..
            } => std::iter::once(on_true).chain(on_false).collect(),
            Kind::While { on_true, .. } => vec![on_true],
            Kind::Switch { cases, .. } => cases.values().collect(),
            Kind::Start | Kind::End | Kind::Action(_) => Vec::new(),
        };
        let next = [&step.on_completion, &step.on_success, &step.on_failure];
        let next: Vec<&String> = next.into_iter().flatten().collect();
        let goes_on = step.on_completion.is_some() || step.on_success.is_some();
        if step.kind != Kind::End && !goes_on {
            let what = "it has no next step: a branch ends with a step of type `end`";
            self.wrong.push(PlaybookError::new(id, what));
        }
        self.nested += 1;
        for inner in inner {
            self.branch(inner, id);
        }
        self.nested -= 1;
        for next in next {
            self.branch(next, id);
        }
        self.way.pop();
    }
}

/// Whether an id is a type and a UUID (§10.10).
fn is_id(id: &str, kind: &str) -> bool {
    let Some(uuid) = id
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix("--"))
    else {
        return false;
    };
    let groups: Vec<&str> = uuid.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
