//! What begins a run of a playbook, and what the run is about.

use std::sync::Arc;

use jiff::Timestamp;
use model::config::Trigger;
use monitor::incidents::Incident;
use response::Run;
use response::run::About;

use super::{Kept, Responder, run_id};
use crate::engine::{Actor, EngineError};

/// Most runs that are not over, and how many of them incidents may begin: whoever can cause incidents must
/// not keep people from beginning one.
pub(super) const OPEN: u32 = 1_000;
const TRIGGERED: u32 = 500;
impl Responder {
    /// Begins the playbook that the configuration has for an incident, unless it has run for it already.
    pub(super) async fn triggered(self: &Arc<Self>, incident: &Incident) {
        let current = self.current.load_full();
        let fits = |trigger: &&Trigger| {
            incident.severity >= trigger.severity
                && (trigger.rules.is_empty()
                    || trigger
                        .rules
                        .iter()
                        .any(|pattern| incident.rules.iter().any(|rule| pattern.matches(rule))))
        };
        let Some(trigger) = current.settings.triggers.iter().find(fits) else {
            return;
        };
        let about = About {
            incident: Some(incident.id.to_string()),
            ..About::default()
        };
        match self
            .begin(Actor::Sallyport, &trigger.playbook, about, false, true)
            .await
        {
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, incident = incident.id, "a playbook could not be begun");
            }
        }
    }

    /// Begins a run. A dry one does nothing, is not kept, and shows what would be done. With `once`, a run of
    /// the same playbook about the same incident that was as bad is given back instead.
    ///
    /// # Errors
    /// [`EngineError`] when there is no such playbook, or what it is about is not there, too many runs are
    /// open, or the store cannot be used.
    pub async fn begin(
        self: &Arc<Self>,
        actor: Actor,
        name: &str,
        about: About,
        dry: bool,
        once: bool,
    ) -> Result<Run, EngineError> {
        let current = self.current.load_full();
        let known = current
            .playbooks
            .get(name)
            .ok_or_else(|| EngineError::not_found("playbook", name))?;
        let about = self.complete(about).await?;
        let now = Timestamp::now();
        let id = run_id(now);
        let mut run = Run::begin(
            id.clone(),
            name,
            &known.playbook,
            about,
            actor.to_string(),
            dry,
            now,
        );
        if dry {
            run.go_on(&known.playbook, &current.modes, now);
            self.note_run(&run, "playbook.rehearsed").await;
            return Ok(run);
        }
        let _one = self.beginning.lock().await;
        let open = self.engine.store().open_runs().await?;
        let most = u64::from(if once { TRIGGERED } else { OPEN });
        if open >= most {
            return Err(EngineError::TooMany(format!(
                "{open} runs of playbooks are not over"
            )));
        }
        let subject = subject_of(&run);
        if once {
            let before = self.engine.store().runs_about(name, &subject).await?;
            let before = before
                .iter()
                .filter_map(|row| serde_json::from_str::<Kept>(&row.body).ok())
                .find(|kept| rank(&kept.run.about) >= rank(&run.about));
            if let Some(before) = before {
                return Ok(before.run);
            }
        }
        self.note_run(&run, "playbook.started").await;
        let kept = Kept {
            run: run.clone(),
            text: known.text.clone(),
        };
        self.keep(&kept).await?;
        self.spawn(id);
        Ok(run)
    }

    /// Fills in what follows from what is known.
    async fn complete(&self, mut about: About) -> Result<About, EngineError> {
        if let Some(id) = &about.incident {
            let number = id.parse::<u64>().ok();
            let incident = match number {
                Some(number) => self.engine.watch().incident(number).await?,
                None => None,
            };
            let incident = incident.ok_or_else(|| EngineError::not_found("incident", id))?;
            let worst = incident
                .findings
                .iter()
                .max_by_key(|it| it.finding.severity);
            about.agent = about.agent.or_else(|| incident.agents.first().cloned());
            about.task = about.task.or_else(|| incident.tasks.last().copied());
            about.server = about.server.or_else(|| incident.servers.first().cloned());
            about.severity = Some(incident.severity.as_str().to_owned());
            if let Some(worst) = worst {
                about.tool = about.tool.or_else(|| worst.finding.subject.target.clone());
                about.summary = about
                    .summary
                    .or_else(|| Some(worst.finding.explanation.clone()));
            }
        }
        if let Some(task) = &about.task {
            let task = self.engine.visible_task(&Actor::Operator, task).await;
            match (task, &about.agent, &about.incident) {
                (Ok(task), None, _) => about.agent = Some(task.agent),
                (Ok(task), Some(agent), None) if task.agent != *agent => {
                    return Err(EngineError::invalid("the task is not the agent's"));
                }
                (Ok(_), ..) => {}
                // What an incident names may be over and gone.
                (Err(_), _, Some(_)) => about.task = None,
                (Err(error), _, None) => return Err(error),
            }
        }
        let world = self.engine.live().world();
        if let Some(agent) = &about.agent {
            match world.agent(agent) {
                Some(facts) => about.segment = about.segment.or_else(|| facts.segment.clone()),
                None => return Err(EngineError::not_found("agent", agent)),
            }
        }
        if let Some(server) = &about.server
            && world.server(server).is_none()
            && about.incident.is_none()
        {
            return Err(EngineError::not_found("server", server));
        }
        Ok(about)
    }
}

/// What a run is about, in one word.
pub(super) fn subject_of(run: &Run) -> String {
    let about = &run.about;
    match (&about.incident, &about.task, &about.agent, &about.server) {
        (Some(incident), ..) => format!("incident/{incident}"),
        (None, Some(task), ..) => task.to_string(),
        (None, None, Some(agent), _) => format!("agent/{agent}"),
        (None, None, None, Some(server)) => format!("server/{server}"),
        _ => "nothing".to_owned(),
    }
}

/// How bad what a run is about was.
fn rank(about: &About) -> Option<model::inspection::Severity> {
    about
        .severity
        .as_deref()
        .and_then(model::inspection::Severity::parse)
}
