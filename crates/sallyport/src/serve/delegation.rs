//! Sub-tasks for agents that are asked by others: the enforcement point asks, the engine opens them.

use std::collections::BTreeMap;
use std::sync::Arc;

use a2a::delegation::{Delegation, Delegations};
use control::{Actor, Engine, OpenTask};
use gateway::front::BoxFuture;
use model::{Denial, Rule, TaskId};

struct Through(Arc<Engine>);

/// Opens sub-tasks through the engine.
pub(super) fn through(engine: &Arc<Engine>) -> Arc<dyn Delegations> {
    Arc::new(Through(Arc::clone(engine)))
}

impl Through {
    async fn open_part(&self, wanted: Delegation) -> Result<TaskId, Denial> {
        let refused = |reason: String, remedy: String| Denial {
            rule: Rule::NotGranted,
            reason: format!("the other agent gets no task to act under: {reason}"),
            remedy,
        };
        let parent = self.0.live().task(&wanted.parent).ok_or_else(|| {
            refused(
                "the task is over".to_owned(),
                "open a new task for further work".to_owned(),
            )
        })?;
        // What narrows the task narrows its part, where the part's template knows it.
        let world = Arc::clone(&self.0.live().world());
        let known = world.templates().get(&wanted.template);
        let parameters: BTreeMap<String, String> = parent
            .task()
            .parameters
            .iter()
            .filter(|(name, _)| known.is_some_and(|it| it.parameters.contains_key(*name)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let actor = Actor::Instance {
            id: wanted.by,
            agent: parent.task().agent.clone(),
        };
        let open = OpenTask {
            agent: wanted.agent,
            instance: None,
            parent: Some(wanted.parent),
            template: wanted.template,
            parameters,
            purpose: wanted.purpose,
            life: None,
        };
        match self.0.open_task(actor, open).await {
            Ok(task) => Ok(task.id),
            Err(error) => Err(refused(error.to_string(), error.remedy())),
        }
    }
}

impl Delegations for Through {
    fn open(&self, wanted: Delegation) -> BoxFuture<'_, Result<TaskId, Denial>> {
        Box::pin(self.open_part(wanted))
    }

    fn close(&self, task: TaskId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let because = Some("the agent that was asked has answered".to_owned());
            // It may have ended already, which is as good.
            if let Err(error) = self.0.complete_task(Actor::Sallyport, task, because).await {
                tracing::debug!(%task, %error, "a part of a task was not completed");
            }
        })
    }
}
