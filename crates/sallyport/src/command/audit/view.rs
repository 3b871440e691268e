//! How records look: a line for each in aligned columns, or a sheet with everything.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anstyle::Style;
use jiff::Timestamp;
use model::record::{
    ActionResult, Change, Ended, Event, Found, IncidentChanged, Intent, Record, Refusal,
};
use model::{AgentName, DecisionId, Denial, TaskId};
use serde_json::Value;

use crate::output::{self, BAD, FAINT, GOOD, STRONG, WARN, instant, paint, visible};

/// Actions whose results are still to come and whose agents are remembered for them.
const REMEMBERED: usize = 4_096;
/// Longest cell, in characters; the sheet of a record has everything.
const CELL: usize = 60;
/// Longest detail of a change in a line, in characters.
const DETAIL: usize = 40;

/// One record as a line in a table.
pub(crate) struct Row {
    cells: [(String, Style); 7],
}

const HEADING: [&str; 7] = ["#", "TIME", "WHO", "TASK", "WHAT", "OUTCOME", "WHY"];
/// Columns are at least this wide, so that a stream of lines stays aligned.
const NARROWEST: [usize; 7] = [4, 20, 12, 9, 24, 9, 0];

/// Turns records into rows; remembers actions, so that their results can say whose they are.
#[derive(Default)]
pub(crate) struct View {
    actions: BTreeMap<DecisionId, (String, String)>,
    order: VecDeque<DecisionId>,
}

impl View {
    /// The row of the record at a position; `None` stands for one that cannot be read.
    pub(crate) fn row(&mut self, index: u64, record: Option<&Record>) -> Row {
        let Some(record) = record else {
            return Row::new(
                index,
                None,
                ["", "", "a record that this version does not know", "", ""],
                BAD,
            );
        };
        let time = Some(record.time);
        match &record.event {
            Event::Intent(intent) => self.intent(index, time, intent),
            Event::Result(result) => self.result(index, time, result),
            Event::Refusal(refusal) => refused(index, time, refusal),
            Event::Change(change) => changed(index, time, change),
            Event::Finding(found) => finding(index, time, found),
            Event::Incident(incident) => incident_changed(index, time, incident),
        }
    }

    fn intent(&mut self, index: u64, time: Option<Timestamp>, intent: &Intent) -> Row {
        let what = action(intent);
        if intent.permitted {
            self.remember(intent.decision, intent.agent.to_string(), what.clone());
        }
        let (outcome, style, why) = match &intent.denial {
            None => ("permitted", GOOD, intent.policies.join(", ")),
            Some(denial) => ("denied", BAD, because(denial)),
        };
        let task = short_task(&intent.task);
        Row::new(
            index,
            time,
            [intent.agent.as_str(), &task, &what, outcome, &why],
            style,
        )
    }

    fn remember(&mut self, decision: DecisionId, agent: String, what: String) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.actions.remove(&oldest);
        }
        self.order.push_back(decision);
        self.actions.insert(decision, (agent, what));
    }

    fn result(&mut self, index: u64, time: Option<Timestamp>, result: &ActionResult) -> Row {
        let (agent, what) = self
            .actions
            .remove(&result.decision)
            .unwrap_or_else(|| (String::new(), format!("result of {}", result.decision)));
        let (word, style) = ended(result.ended);
        let why = format!(
            "{} in {}",
            output::bytes(result.bytes),
            micros(result.micros)
        );
        let what = format!("  {what}");
        Row::new(
            index,
            time,
            [&agent, &short_task(&result.task), &what, word, &why],
            style,
        )
    }
}

fn refused(index: u64, time: Option<Timestamp>, refusal: &Refusal) -> Row {
    let who = match (&refusal.agent, &refusal.caller) {
        (Some(agent), _) => agent.to_string(),
        (None, Some(caller)) => short(caller),
        (None, None) => "unknown".to_owned(),
    };
    let task = refusal.task.as_ref().map(short_task).unwrap_or_default();
    let word = match refusal.times {
        1 => "refused".to_owned(),
        times => format!("refused {times}x"),
    };
    let why = because(&refusal.denial);
    Row::new(
        index,
        time,
        [&who, &task, &refusal.endpoint, &word, &why],
        BAD,
    )
}

fn changed(index: u64, time: Option<Timestamp>, change: &Change) -> Row {
    let (task, what) = match TaskId::parse(&change.subject) {
        Ok(task) => (short_task(&task), change.change.clone()),
        Err(_) => (
            String::new(),
            format!("{} {}", change.change, short(&change.subject)),
        ),
    };
    let details: Vec<String> = change
        .details
        .iter()
        .map(|(name, value)| (name, plain(value)))
        .filter(|(_, value)| !value.is_empty() && value != "null" && value != "{}")
        .map(|(name, value)| format!("{name}={}", cut(&value, DETAIL)))
        .collect();
    let style = match change.change.rsplit_once('.').map(|(_, verb)| verb) {
        Some("quarantined" | "retired" | "revoked" | "disabled" | "failed" | "refused") => WARN,
        _ => Style::new(),
    };
    Row::new(
        index,
        time,
        [
            &short(&change.actor),
            &task,
            &what,
            "changed",
            &details.join(" "),
        ],
        style,
    )
}

fn finding(index: u64, time: Option<Timestamp>, found: &Found) -> Row {
    let who = found.agent.as_ref().map_or("unknown", AgentName::as_str);
    let task = found.task.as_ref().map(short_task).unwrap_or_default();
    let what = format!("finding {} {}", found.finding, found.rule);
    let style = output::severity_style(found.severity);
    Row::new(
        index,
        time,
        [
            who,
            &task,
            &what,
            found.severity.as_str(),
            &found.explanation,
        ],
        style,
    )
}

fn incident_changed(index: u64, time: Option<Timestamp>, changed: &IncidentChanged) -> Row {
    let who = changed.by.as_deref().unwrap_or("sallyport");
    let what = format!("incident {} {}", changed.incident, changed.change);
    let agents: Vec<&str> = changed.agents.iter().map(AgentName::as_str).collect();
    let why = match &changed.note {
        Some(note) => note.clone(),
        None => format!("{} {}", agents.join(", "), changed.rules.join(", ")),
    };
    let style = output::severity_style(changed.severity);
    Row::new(
        index,
        time,
        [who, "", &what, changed.severity.as_str(), why.trim()],
        style,
    )
}

impl Row {
    fn new(index: u64, time: Option<Timestamp>, cells: [&str; 5], style: Style) -> Self {
        let [who, task, what, outcome, why] = cells;
        let cell = |text: &str, style| (cut(&visible(text), CELL), style);
        Self {
            cells: [
                (index.to_string(), FAINT),
                (time.map(instant).unwrap_or_default(), FAINT),
                cell(who, STRONG),
                cell(task, FAINT),
                cell(what, Style::new()),
                cell(outcome, style),
                (visible(why), FAINT),
            ],
        }
    }
}

/// The widths of the columns.
pub(crate) struct Columns([usize; 7]);

impl Columns {
    /// Wide enough for these rows.
    pub(crate) fn fit(rows: &[Row]) -> Self {
        let mut widths = NARROWEST;
        for row in rows {
            for (width, (text, _)) in widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(text.chars().count());
            }
        }
        Self(widths)
    }

    /// The heading.
    pub(crate) fn heading(&self) -> String {
        let cells = HEADING.map(|title| (title.to_owned(), FAINT));
        self.line(&Row { cells })
    }

    /// One row.
    pub(crate) fn line(&self, row: &Row) -> String {
        let mut line = String::new();
        for (position, ((text, style), width)) in row.cells.iter().zip(self.0).enumerate() {
            let blanks = " ".repeat(width.saturating_sub(text.chars().count()));
            match position {
                0 => line.push_str(&format!("{blanks}{}", paint(*style, text))),
                // Nothing comes after the last one.
                6 if text.is_empty() => {}
                6 => line.push_str(&format!("  {}", paint(*style, text))),
                _ => line.push_str(&format!("  {}{blanks}", paint(*style, text))),
            }
        }
        line.trim_end().to_owned()
    }
}

/// Everything of a record, for reading one closely.
pub(crate) fn sheet(index: u64, record: &Record) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("record", index.to_string()),
        ("time", record.time.to_string()),
    ];
    let mut add = |name: &'static str, value: String| {
        if !value.is_empty() {
            rows.push((name, visible(&value)));
        }
    };
    let denial = |denial: &Denial| {
        [
            ("rule", denial.rule.to_string()),
            ("reason", denial.reason.clone()),
            ("remedy", denial.remedy.clone()),
        ]
    };
    match &record.event {
        Event::Intent(intent) => {
            add("event", "an action was decided".to_owned());
            add("agent", intent.agent.to_string());
            add("instance", intent.instance.to_string());
            add("proof", intent.proof.as_str().to_owned());
            add("task", intent.task.to_string());
            add("server", intent.server.to_string());
            add("method", intent.method.clone());
            add("target", intent.target.clone());
            add("arguments", text(intent.arguments.as_ref()));
            add("arguments hash", text(intent.arguments_hash.as_ref()));
            add(
                "outcome",
                if intent.permitted {
                    "permitted"
                } else {
                    "denied"
                }
                .to_owned(),
            );
            for (name, value) in intent.denial.iter().flat_map(denial) {
                add(name, value);
            }
            add("policies", intent.policies.join(", "));
            add("policy version", intent.policy_version.clone());
            add(
                "permission",
                match intent.permission {
                    Some((permission, Some(tool))) => format!("{permission}, tool {tool}"),
                    Some((permission, None)) => permission.to_string(),
                    None => String::new(),
                },
            );
            if intent.risk > 0 {
                add("risk", format!("{} of 100", intent.risk));
            }
            add("decision", intent.decision.to_string());
        }
        Event::Result(result) => {
            add("event", "a permitted action ended".to_owned());
            add("outcome", ended(result.ended).0.to_owned());
            add("task", result.task.to_string());
            add("took", micros(result.micros));
            add("answer", output::bytes(result.bytes));
            add("answer hash", text(result.hash.as_ref()));
            add("decision", result.decision.to_string());
        }
        Event::Refusal(refusal) => {
            add(
                "event",
                "a request was refused before it became an action".to_owned(),
            );
            add("endpoint", refusal.endpoint.clone());
            add(
                "caller",
                refusal
                    .caller
                    .clone()
                    .unwrap_or_else(|| "unknown".to_owned()),
            );
            if let Some(agent) = &refusal.agent {
                add("agent", agent.to_string());
            }
            if let Some(task) = &refusal.task {
                add("task", task.to_string());
            }
            if refusal.times > 1 {
                add("times", refusal.times.to_string());
            }
            if let Some(since) = refusal.since {
                add("since", since.to_string());
            }
            if let Some(decision) = refusal.decision {
                add("decision", decision.to_string());
            }
            for (name, value) in denial(&refusal.denial) {
                add(name, value);
            }
        }
        Event::Change(change) => {
            add("event", "the control plane changed".to_owned());
            add("actor", change.actor.clone());
            add("change", change.change.clone());
            add("subject", change.subject.clone());
            let details: Vec<String> = change
                .details
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)))
                .collect();
            add("details", details.join(" "));
        }
        Event::Finding(found) => {
            add("event", "a detector saw something".to_owned());
            add("finding", found.finding.to_string());
            add("rule", found.rule.clone());
            add("severity", found.severity.to_string());
            add("what", found.explanation.clone());
            add("agent", text(found.agent.as_ref()));
            add("task", text(found.task.as_ref()));
            add("server", text(found.server.as_ref()));
            add("target", text(found.target.as_ref()));
            add("place", text(found.place.as_ref()));
            add("doing", found.origin.clone());
            add(
                "tags",
                [text(found.asi.as_ref()), text(found.atlas.as_ref())]
                    .join(" ")
                    .trim()
                    .to_owned(),
            );
            add(
                "about",
                found
                    .about
                    .map(|index| format!("record {index}"))
                    .unwrap_or_default(),
            );
            add("decision", text(found.decision.as_ref()));
            add("incident", text(found.incident.as_ref()));
            if found.unrecorded > 0 {
                add(
                    "before it",
                    format!("{} findings without a record", found.unrecorded),
                );
            }
        }
        Event::Incident(changed) => {
            let agents: Vec<&str> = changed.agents.iter().map(AgentName::as_str).collect();
            add("event", "an incident began or changed".to_owned());
            add("incident", changed.incident.to_string());
            add("change", changed.change.clone());
            add("severity", changed.severity.to_string());
            add("agents", agents.join(", "));
            add("rules", changed.rules.join(", "));
            add("findings", changed.findings.to_string());
            add("by", text(changed.by.as_ref()));
            add("note", text(changed.note.as_ref()));
        }
    }
    rows
}

/// What was attempted, in a few words: where, what, and the arguments that may be seen.
fn action(intent: &Intent) -> String {
    let what = if intent.target.is_empty() {
        &intent.method
    } else {
        &intent.target
    };
    let mut text = format!("{} {what}", intent.server);
    if let Some(Value::Object(arguments)) = &intent.arguments {
        for (name, value) in arguments {
            text.push_str(&format!(" {name}={}", plain(value)));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Nothing for what is not there.
fn text(part: Option<&impl ToString>) -> String {
    part.map(ToString::to_string).unwrap_or_default()
}

fn because(denial: &Denial) -> String {
    format!("{}: {}", denial.rule, denial.reason)
}

fn ended(ended: Ended) -> (&'static str, Style) {
    match ended {
        Ended::Answered => ("answered", GOOD),
        Ended::UpstreamError => ("answered with an error", WARN),
        Ended::UpstreamFailed => ("server failed", BAD),
        Ended::Cancelled => ("cancelled", WARN),
        Ended::Cut => ("cut", WARN),
        Ended::NotForwarded => ("not forwarded", WARN),
    }
}

fn micros(micros: u64) -> String {
    let time = Duration::from_micros(micros);
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000_000 => format!("{} ms", time.as_millis()),
        _ => output::span(time),
    }
}

/// The end of a task's id, which tells tasks apart; `--task` takes it.
fn short_task(task: &TaskId) -> String {
    short(&task.to_string())
}

/// Ids are long and begin alike: their ends tell them apart.
fn short(text: &str) -> String {
    let prefixes = ["task_", "inst_", "dec_"];
    if prefixes.iter().any(|prefix| text.starts_with(prefix)) && text.len() > 8 && text.is_ascii() {
        format!("…{}", &text[text.len() - 8..])
    } else {
        text.to_owned()
    }
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use model::{InstanceId, Proof, Rule, ServerName};

    pub(in super::super) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    pub(in super::super) fn intent(denial: Option<Denial>) -> Record {
        let intent = Intent {
            decision: DecisionId::new(at(1), [1; 10]),
            agent: AgentName::parse("triage").unwrap(),
            instance: InstanceId::new(at(0), [2; 10]),
            proof: Proof::Dpop,
            task: TaskId::new(at(0), [3; 10]),
            server: ServerName::parse("files").unwrap(),
            method: "tools/call".to_owned(),
            target: "read_text_file".to_owned(),
            arguments: Some(serde_json::json!({ "path": "/srv/\u{1b}[2Jx" })),
            arguments_hash: Some("ab".to_owned()),
            permitted: denial.is_none(),
            denial,
            policies: vec!["granted-actions".to_owned()],
            policy_version: "7c".to_owned(),
            permission: Some((0, Some(0))),
            within: Vec::new(),
            approval: None,
            approval_level: model::ApprovalLevel::Usual,
            provenance: None,
            expected: model::Spent::default(),
            risk: 0,
        };
        Record::new(at(1), Event::Intent(Box::new(intent)))
    }

    pub(in super::super) fn denial() -> Denial {
        Denial {
            rule: Rule::ArgumentRefused,
            reason: "`path` is not below the folder".to_owned(),
            remedy: "ask for a wider task".to_owned(),
        }
    }

    fn result() -> Record {
        let result = ActionResult {
            decision: DecisionId::new(at(1), [1; 10]),
            task: TaskId::new(at(0), [3; 10]),
            within: Vec::new(),
            ended: Ended::Answered,
            micros: 3_456,
            bytes: 1_234,
            hash: None,
            spent: model::Spent::default(),
            notes: BTreeMap::new(),
        };
        Record::new(at(2), Event::Result(Box::new(result)))
    }

    #[test]
    fn records_are_readable_lines() {
        let denial_of_nobody = Denial {
            rule: Rule::Unauthenticated,
            reason: "no token".to_owned(),
            remedy: String::new(),
        };
        let refusal = Refusal::new("/mcp/files", denial_of_nobody);
        let records = [
            Record::change(at(0), "operator", "agent.registered", "triage")
                .with("sponsor", "ada@example.org"),
            Record::change(
                at(0),
                "operator",
                "task.opened",
                TaskId::new(at(0), [3; 10]).to_string(),
            ),
            intent(None),
            result(),
            intent(Some(denial())),
            Record::new(at(3), Event::Refusal(Box::new(refusal))),
        ];
        let mut view = View::default();
        let mut rows: Vec<Row> = (7u64..)
            .zip(&records)
            .map(|(index, record)| view.row(index, Some(record)))
            .collect();
        rows.push(view.row(13, None));
        let columns = Columns::fit(&rows);
        let mut lines = vec![columns.heading()];
        lines.extend(rows.iter().map(|row| columns.line(row)));
        let text = anstream::adapter::strip_str(&lines.join("\n")).to_string();
        assert!(!text.contains('\u{1b}'));
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_sheet_has_everything_of_a_decision() {
        let rows = sheet(7, &intent(Some(denial())));
        let text: Vec<String> = rows
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
