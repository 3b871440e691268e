//! Which records are wanted.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use model::record::{Event, Record};
use model::{AgentName, DecisionId, Rule, ServerName};

/// Selects records. What is not given does not matter; what is given must hold altogether.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Which records")]
pub(crate) struct Selection {
    /// What this agent did, and what was done to it
    #[arg(long)]
    agent: Option<AgentName>,
    /// What belongs to this task: its id, or the end of it
    #[arg(long)]
    task: Option<String>,
    /// What was attempted at this server
    #[arg(long)]
    server: Option<ServerName>,
    /// Records of this kind
    #[arg(long, value_parser = ["intent", "result", "refusal", "change", "finding", "incident"])]
    event: Option<String>,
    /// What was denied or refused
    #[arg(long)]
    denied: bool,
    /// What was refused by this rule, such as `argument_refused`
    #[arg(long)]
    rule: Option<String>,
    /// Not before this time, or so long ago: `2026-11-24T08:00:00Z` or `2h`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this time, or so long ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Records with this text anywhere in them; upper and lower case are the same
    #[arg(long)]
    text: Option<String>,
    /// The decisions that were selected, since their results name nothing else.
    #[arg(skip)]
    decisions: BTreeSet<DecisionId>,
}

impl Selection {
    /// Whether everything is wanted.
    pub(crate) fn is_everything(&self) -> bool {
        self.agent.is_none()
            && self.task.is_none()
            && self.server.is_none()
            && self.event.is_none()
            && !self.denied
            && self.rule.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.text.is_none()
    }

    /// Whether a record is wanted. `line` is the record as it stands in the log; records must come
    /// in their order, so that results follow their actions.
    pub(crate) fn wants(&mut self, record: &Record, line: &str) -> bool {
        let wanted = self.in_time(record.time)
            && self.of_kind(&record.event)
            && self.refused(&record.event)
            && self.of_task(&record.event)
            && self
                .text
                .as_ref()
                .is_none_or(|text| line.to_lowercase().contains(&text.to_lowercase()));
        let about = self.about(&record.event);
        if let Event::Intent(intent) = &record.event
            && about
            && intent.permitted
        {
            self.decisions.insert(intent.decision);
        }
        if let Event::Result(result) = &record.event {
            self.decisions.remove(&result.decision);
        }
        wanted && about
    }

    fn in_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    fn of_kind(&self, event: &Event) -> bool {
        let kind = match event {
            Event::Intent(_) => "intent",
            Event::Result(_) => "result",
            Event::Refusal(_) => "refusal",
            Event::Change(_) => "change",
            Event::Finding(_) => "finding",
            Event::Incident(_) => "incident",
        };
        self.event.as_ref().is_none_or(|wanted| wanted == kind)
    }

    fn refused(&self, event: &Event) -> bool {
        let rule = match event {
            Event::Intent(intent) => intent.denial.as_ref().map(|denial| denial.rule),
            Event::Refusal(refusal) => Some(refusal.denial.rule),
            Event::Result(_) | Event::Change(_) | Event::Finding(_) | Event::Incident(_) => None,
        };
        let by = |wanted: &String| rule.map(Rule::as_str) == Some(wanted.as_str());
        (!self.denied || rule.is_some()) && self.rule.as_ref().is_none_or(by)
    }

    fn of_task(&self, event: &Event) -> bool {
        let Some(wanted) = &self.task else {
            return true;
        };
        let wanted = wanted.trim_start_matches('…');
        let is = |id: &str| !wanted.is_empty() && id.ends_with(wanted);
        match event {
            Event::Intent(intent) => is(&intent.task.to_string()),
            Event::Result(result) => is(&result.task.to_string()),
            Event::Change(change) => {
                is(&change.subject)
                    || change
                        .details
                        .get("task")
                        .and_then(|task| task.as_str())
                        .is_some_and(is)
            }
            Event::Finding(found) => found.task.is_some_and(|task| is(&task.to_string())),
            Event::Refusal(refusal) => refusal.task.is_some_and(|task| is(&task.to_string())),
            Event::Incident(_) => false,
        }
    }

    /// Whether it is about the agent and the server.
    fn about(&self, event: &Event) -> bool {
        if self.agent.is_none() && self.server.is_none() {
            return true;
        }
        let agent = |name: &str| {
            self.agent
                .as_ref()
                .is_none_or(|wanted| wanted.as_str() == name)
        };
        let server = |name: &str| {
            self.server
                .as_ref()
                .is_none_or(|wanted| wanted.as_str() == name)
        };
        match event {
            Event::Intent(intent) => agent(intent.agent.as_str()) && server(intent.server.as_str()),
            Event::Result(result) => self.decisions.contains(&result.decision),
            Event::Finding(found) => {
                found.agent.as_ref().is_none_or(|name| agent(name.as_str()))
                    && (self.agent.is_none() || found.agent.is_some())
                    && found
                        .server
                        .as_ref()
                        .is_none_or(|name| server(name.as_str()))
                    && (self.server.is_none() || found.server.is_some())
            }
            Event::Incident(changed) => {
                self.server.is_none() && changed.agents.iter().any(|name| agent(name.as_str()))
            }
            Event::Refusal(refusal) => {
                let of_agent = match &refusal.agent {
                    Some(name) => agent(name.as_str()),
                    None => self.agent.is_none(),
                };
                let at = refusal.endpoint.rsplit('/').next().unwrap_or_default();
                of_agent && (self.server.is_none() || server(at))
            }
            Event::Change(change) => {
                let names = |kind: &str, wanted: &str| {
                    (change.change.starts_with(kind) && change.subject == wanted)
                        || change
                            .details
                            .get(kind)
                            .is_some_and(|value| value == wanted)
                };
                self.agent
                    .as_ref()
                    .is_none_or(|wanted| names("agent", wanted.as_str()))
                    && self
                        .server
                        .as_ref()
                        .is_none_or(|wanted| names("server", wanted.as_str()))
            }
        }
    }
}

/// A time, a date, or how long ago.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>() {
        return jiff::tz::TimeZone::UTC
            .to_timestamp(date.at(0, 0, 0, 0))
            .map_err(|error| error.to_string());
    }
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|ago| Timestamp::now().checked_sub(ago.abs()).ok())
        .ok_or_else(|| "write it like `2026-11-24T08:00:00Z`, `2026-11-24` or `2h`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::{at, denial, intent};
    use super::*;
    use model::TaskId;
    use model::record::{ActionResult, Ended};

    fn wants(selection: &mut Selection, record: &Record) -> bool {
        let line = String::from_utf8(record.to_bytes()).unwrap();
        selection.wants(record, &line)
    }

    #[test]
    fn each_filter_excludes_something() {
        let permitted = intent(None);
        let denied = intent(Some(denial()));
        let agent = |name| AgentName::parse(name).unwrap();
        let wanted = |selection: Selection| {
            let mut selection = selection;
            (
                wants(&mut selection, &permitted),
                wants(&mut selection, &denied),
            )
        };
        let nothing = Selection::default;
        assert_eq!(wanted(nothing()), (true, true));
        assert_eq!(
            wanted(Selection {
                denied: true,
                ..nothing()
            }),
            (false, true)
        );
        assert_eq!(
            wanted(Selection {
                rule: Some("argument_refused".into()),
                ..nothing()
            }),
            (false, true)
        );
        assert_eq!(
            wanted(Selection {
                rule: Some("policy_forbids".into()),
                ..nothing()
            }),
            (false, false)
        );
        assert_eq!(
            wanted(Selection {
                agent: Some(agent("triage")),
                ..nothing()
            }),
            (true, true)
        );
        assert_eq!(
            wanted(Selection {
                agent: Some(agent("other")),
                ..nothing()
            }),
            (false, false)
        );
        assert_eq!(
            wanted(Selection {
                event: Some("change".into()),
                ..nothing()
            }),
            (false, false)
        );
        assert_eq!(
            wanted(Selection {
                since: Some(at(2)),
                ..nothing()
            }),
            (false, false)
        );
        assert_eq!(
            wanted(Selection {
                until: Some(at(2)),
                ..nothing()
            }),
            (true, true)
        );
        assert_eq!(
            wanted(Selection {
                text: Some("NOT BELOW".into()),
                ..nothing()
            }),
            (false, true)
        );
        let task = TaskId::new(at(0), [3; 10]).to_string();
        let end = format!("…{}", &task[task.len() - 8..]);
        assert_eq!(
            wanted(Selection {
                task: Some(end),
                ..nothing()
            }),
            (true, true)
        );
        assert_eq!(
            wanted(Selection {
                task: Some("00000000".into()),
                ..nothing()
            }),
            (false, false)
        );
    }

    #[test]
    fn results_follow_the_actions_that_were_selected() {
        let result = Record::new(
            at(2),
            Event::Result(Box::new(ActionResult {
                decision: DecisionId::new(at(1), [1; 10]),
                task: TaskId::new(at(0), [3; 10]),
                within: Vec::new(),
                ended: Ended::Answered,
                micros: 1,
                bytes: 1,
                hash: None,
                spent: model::Spent::default(),
                notes: std::collections::BTreeMap::new(),
            })),
        );
        let agent = AgentName::parse("triage").ok();
        let mut selection = Selection {
            agent,
            ..Selection::default()
        };
        assert!(!wants(&mut selection, &result));
        assert!(wants(&mut selection, &intent(None)));
        assert!(wants(&mut selection, &result));
    }

    #[test]
    fn times_are_points_or_ages() {
        assert_eq!(
            moment("2026-11-24").unwrap().to_string(),
            "2026-11-24T00:00:00Z"
        );
        assert!(moment("2h").unwrap() < Timestamp::now());
        assert!(moment("yesterday-ish").is_err());
    }
}
