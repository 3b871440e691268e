//! The Cedar contexts of one task. They are the same for all its calls with one kind of proof, and
//! making one costs as much as asking the policies, so they are made when first needed and kept.

use std::sync::OnceLock;

use cedar_policy::Context;
use model::{Proof, Task, TaskId, TemplateName};

use crate::entities::context;

/// The contexts of the task that a grant was compiled for.
#[derive(Debug, Default)]
pub(crate) struct Contexts {
    bearer: OnceLock<Kept>,
    dpop: OnceLock<Kept>,
}

/// A context, and what it was made from.
#[derive(Debug)]
struct Kept {
    task: TaskId,
    template: TemplateName,
    purpose: Box<str>,
    context: Context,
}

impl Contexts {
    /// The context of a call without further facts. It is kept for callers that do not look bad, which
    /// are nearly all; a score changes by itself, so keeping others would gain little.
    pub(crate) fn of(&self, task: &Task, proof: Proof, risk: u8) -> Context {
        if risk > 0 {
            return context(task, proof, risk, None);
        }
        let kept = match proof {
            Proof::Bearer => &self.bearer,
            Proof::Dpop => &self.dpop,
        };
        let kept = kept.get_or_init(|| Kept {
            task: task.id,
            template: task.template.clone(),
            purpose: task.purpose.as_str().into(),
            context: context(task, proof, 0, None),
        });
        // Nothing keeps callers from using one compiled grant for several tasks, and the decision
        // must depend on nothing but its arguments.
        let same = kept.task == task.id
            && kept.template == task.template
            && *kept.purpose == *task.purpose;
        if same {
            kept.context.clone()
        } else {
            context(task, proof, 0, None)
        }
    }
}
