//! What people do about what was seen: they close incidents, suppress findings, say what was a false alarm,
//! and set scores.
//!
//! What makes the watch see less is recorded first, as everything that gives. A score that is set holds
//! first, as everything that takes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use model::AgentName;
use model::record::Record;
use monitor::Finding;
use monitor::Subject;
use monitor::incidents::{Floor, Incident, Suppression, What};

use super::tasks::words;
use super::{Actor, Engine, EngineError, Restricted, to_the_end};
use crate::api;

/// Longest name of a rule, in bytes.
const RULE: usize = 128;

impl Engine {
    /// Closes an incident; as a false alarm, what it added to scores is taken back, and such findings count
    /// for less from now on.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such incident, or the log or the store cannot be used.
    pub async fn close_incident(
        self: &Arc<Self>,
        actor: Actor,
        id: u64,
        wanted: api::CloseIncident,
    ) -> Result<Incident, EngineError> {
        let note = words("note", &wanted.note)?;
        let what = if wanted.false_alarm {
            What::FalseAlarm
        } else {
            What::Closed
        };
        self.change_incident(actor, id, what, note).await
    }

    /// Writes a note on an incident.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such incident, or the log or the store cannot be used.
    pub async fn note_incident(
        self: &Arc<Self>,
        actor: Actor,
        id: u64,
        note: &str,
    ) -> Result<Incident, EngineError> {
        let note = words("note", note)?;
        if note.is_empty() {
            return Err(EngineError::invalid("`note` must say something"));
        }
        self.change_incident(actor, id, What::Noted, note).await
    }

    async fn change_incident(
        self: &Arc<Self>,
        actor: Actor,
        id: u64,
        what: What,
        note: String,
    ) -> Result<Incident, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let unknown = || EngineError::not_found("incident", id);
            if !engine.watch.recall(id).await? {
                return Err(unknown());
            }
            let now = Timestamp::now();
            let by = actor.to_string();
            let record = engine.watch.record_of_change(id, what, now, &by, &note);
            engine.record(record.ok_or_else(unknown)?).await?;
            let written = if note.is_empty() {
                String::new()
            } else {
                format!("{} {by}: {note}", now.strftime("%Y-%m-%d %H:%M:%SZ"))
            };
            let changed = engine
                .watch
                .change_incident(id, what, now, |incidents| match what {
                    What::FalseAlarm => incidents.false_alarm(id, &written, now),
                    What::Noted => incidents.note(id, &written),
                    _ => incidents.close(id, &written, now),
                });
            engine.watch.save().await?;
            changed.ok_or_else(unknown)
        })
        .await
    }

    /// Says whether a finding was right.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such finding, it has feedback already, or the log or the store cannot be used.
    pub async fn finding_feedback(
        self: &Arc<Self>,
        actor: Actor,
        id: u64,
        wanted: api::GiveFeedback,
    ) -> Result<api::Finding, EngineError> {
        let note = words("note", &wanted.note)?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let known = engine.watch.finding(id).await?;
            let mut finding = known.ok_or_else(|| EngineError::not_found("finding", id))?;
            if finding.feedback.is_some() {
                return Err(EngineError::conflict(
                    format!("somebody said something about finding {id} already"),
                    "look at it with `sallyport findings show`; an incident takes notes",
                ));
            }
            let now = Timestamp::now();
            let by = actor.to_string();
            let record = Record::change(now, by.as_str(), "finding.feedback", id.to_string())
                .with("right", wanted.right)
                .with("rule", finding.rule.as_str())
                .with("agent", finding.agent.as_ref().map(AgentName::as_str))
                .with("note", note.as_str());
            engine.record(record).await?;
            let about = Finding {
                rule: finding.rule.clone(),
                severity: finding.severity,
                asi: None,
                atlas: None,
                subject: Subject {
                    agent: finding.agent.clone(),
                    task: finding.task,
                    server: finding.server.clone(),
                    target: finding.target.clone(),
                },
                evidence: None,
                explanation: String::new(),
            };
            let scored = finding.scored.then_some((finding.origin, finding.at));
            engine.watch.change(now, |incidents| {
                incidents.feedback(&about, scored, wanted.right, now);
            });
            finding.feedback = Some(api::Feedback {
                right: wanted.right,
                by,
                at: now,
                note,
            });
            engine.watch.put_finding(finding.clone());
            engine.watch.save().await?;
            Ok(finding)
        })
        .await
    }

    /// Suppresses findings for a time.
    ///
    /// # Errors
    /// [`EngineError`] when it has no reason or ends later than in 90 days, there are too many, or the log or
    /// the store cannot be used.
    pub async fn suppress_findings(
        self: &Arc<Self>,
        actor: Actor,
        wanted: api::Suppress,
    ) -> Result<Suppression, EngineError> {
        let because = words("because", &wanted.because)?;
        if wanted.rule.is_empty() || wanted.rule.len() > RULE {
            return Err(EngineError::invalid("`rule` must name a rule"));
        }
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let now = Timestamp::now();
            let until = now
                .checked_add(Duration::from_secs(wanted.ttl_seconds))
                .unwrap_or(Timestamp::MAX);
            let suppression = Suppression {
                rule: wanted.rule,
                agent: wanted.agent,
                server: wanted.server,
                until,
                by: actor.to_string(),
                reason: because,
            };
            let may = engine
                .watch
                .look(|incidents| incidents.may_suppress(&suppression, now));
            may.map_err(|error| EngineError::invalid(error.to_string()))?;
            engine
                .record(suppression_record(
                    &actor,
                    "finding.suppressed",
                    &suppression,
                    now,
                ))
                .await?;
            let done = engine.watch.change(now, |incidents| {
                incidents.suppress(suppression.clone(), now)
            });
            done.map_err(|error| EngineError::invalid(error.to_string()))?;
            engine.watch.save().await?;
            Ok(suppression)
        })
        .await
    }

    /// Ends the suppressions of exactly this rule, agent and server; how many there were.
    ///
    /// # Errors
    /// [`EngineError`] when the store cannot be used.
    pub async fn end_suppression(
        self: &Arc<Self>,
        actor: Actor,
        wanted: api::EndSuppression,
    ) -> Result<usize, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            let now = Timestamp::now();
            let what = Suppression {
                rule: wanted.rule,
                agent: wanted.agent,
                server: wanted.server,
                until: now,
                by: String::new(),
                reason: String::new(),
            };
            let ended = engine
                .watch
                .change(now, |incidents| incidents.unsuppress(&what, now));
            if ended > 0 {
                let record = suppression_record(&actor, "finding.suppression_ended", &what, now);
                engine.record_or_owe(&record).await;
            }
            engine.watch.save().await?;
            Ok(ended)
        })
        .await
    }

    /// Sets the least score of an agent. It holds for the very next decision when this returns.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent, or the score is over 100.
    pub async fn set_risk(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        wanted: api::SetRisk,
    ) -> Result<Restricted<api::Risk>, EngineError> {
        let because = words("because", &wanted.because)?;
        if wanted.score > gateway::risk::MOST {
            return Err(EngineError::invalid("`score` is a number from 0 to 100"));
        }
        let engine = Arc::clone(self);
        to_the_end(async move {
            engine.is_agent(&agent)?;
            let now = Timestamp::now();
            let until = wanted.ttl_seconds.map(|seconds| {
                now.checked_add(Duration::from_secs(seconds))
                    .unwrap_or(Timestamp::MAX)
            });
            let floor = Floor {
                score: wanted.score,
                until,
                by: actor.to_string(),
                reason: because.clone(),
            };
            engine.watch.change(now, |incidents| {
                incidents.set_floor(agent.clone(), floor, now);
            });
            let record = Record::change(now, actor.to_string(), "agent.risk_set", agent.as_str())
                .with("score", wanted.score)
                .with("until", until.map(|until| until.to_string()))
                .with("because", because);
            engine.record_or_owe(&record).await;
            let mut warnings = Vec::new();
            if let Err(error) = engine.watch.save().await {
                warnings.push(format!(
                    "it holds while this process runs, but could not be stored ({error}); it is tried again"
                ));
            }
            Ok(Restricted {
                now: engine.watch.risk(&agent, now),
                warnings,
            })
        })
        .await
    }

    /// Forgets what an agent and its tasks did as far as scores go, and what was set for it.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent, or the log or the store cannot be used.
    pub async fn clear_risk(
        self: &Arc<Self>,
        actor: Actor,
        agent: AgentName,
        because: Option<String>,
    ) -> Result<api::Risk, EngineError> {
        let because = words("because", because.as_deref().unwrap_or_default())?;
        let engine = Arc::clone(self);
        to_the_end(async move {
            let _alone = engine.changes.write().await;
            engine.is_agent(&agent)?;
            let now = Timestamp::now();
            let before = engine.watch.risk(&agent, now);
            let record =
                Record::change(now, actor.to_string(), "agent.risk_cleared", agent.as_str())
                    .with("score", before.score)
                    .with("because", because);
            engine.record(record).await?;
            engine
                .watch
                .change(now, |incidents| incidents.clear_risk(&agent));
            engine.watch.save().await?;
            Ok(engine.watch.risk(&agent, now))
        })
        .await
    }

    /// How bad an agent looks.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such agent.
    pub fn risk(&self, agent: &AgentName) -> Result<api::Risk, EngineError> {
        self.is_agent(agent)?;
        Ok(self.watch.risk(agent, Timestamp::now()))
    }

    fn is_agent(&self, agent: &AgentName) -> Result<(), EngineError> {
        match self.live().world().agent(agent) {
            Some(_) => Ok(()),
            None => Err(EngineError::not_found("agent", agent)),
        }
    }
}

fn suppression_record(
    actor: &Actor,
    change: &str,
    suppression: &Suppression,
    now: Timestamp,
) -> Record {
    let agent = suppression.agent.as_ref().map(AgentName::as_str);
    let server = suppression.server.as_ref().map(|name| name.as_str());
    Record::change(now, actor.to_string(), change, suppression.rule.as_str())
        .with("agent", agent)
        .with("server", server)
        .with("until", suppression.until.to_string())
        .with("because", suppression.reason.as_str())
}
