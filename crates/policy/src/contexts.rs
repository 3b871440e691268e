//! The Cedar contexts of one task, and what the policies said in them. Both are the same for all its calls
//! with one kind of proof as long as it looks as bad, and making and asking cost more than all the rest of a
//! decision, so they are kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cedar_policy::Context;
use model::{Proof, Task, TaskId, TemplateName};

use crate::entities::context;
use crate::policies::{Prepared, Verdict};

/// Most contexts that are kept for one task. Its score changes by itself, and with it the context.
const CONTEXTS: usize = 4;
/// Most verdicts that are kept for one context.
const VERDICTS: usize = 16;

/// The contexts of the task that a grant was compiled for, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Contexts(Mutex<Vec<Kept>>);

/// A context, and what it was made from.
#[derive(Debug)]
struct Kept {
    task: TaskId,
    template: TemplateName,
    purpose: Box<str>,
    proof: Proof,
    risk: u8,
    circumstances: Arc<Circumstances>,
}

impl Kept {
    /// Nothing keeps callers from using one compiled grant for several tasks, and the decision must depend
    /// on nothing but its arguments.
    fn fits(&self, task: &Task, proof: Proof, risk: u8) -> bool {
        self.proof == proof
            && self.risk == risk
            && self.task == task.id
            && self.template == task.template
            && *self.purpose == *task.purpose
    }
}

impl Contexts {
    /// The context of a call without further facts.
    pub(crate) fn of(&self, task: &Task, proof: Proof, risk: u8) -> Arc<Circumstances> {
        let mut all = lock(&self.0);
        if let Some(kept) = all.iter().find(|kept| kept.fits(task, proof, risk)) {
            return Arc::clone(&kept.circumstances);
        }
        let circumstances = Arc::new(Circumstances::new(context(task, proof, risk, None)));
        if all.len() == CONTEXTS {
            all.remove(0);
        }
        all.push(Kept {
            task: task.id,
            template: task.template.clone(),
            purpose: task.purpose.as_str().into(),
            proof,
            risk,
            circumstances: Arc::clone(&circumstances),
        });
        circumstances
    }
}

/// A context, and what the policies said in it.
#[derive(Debug)]
pub(crate) struct Circumstances {
    context: Context,
    /// The newest last. A prepared request belongs to one set of policies and to agents and servers as they
    /// were: whatever changes of these makes a new one. And it is not freed while it is here, so no other
    /// one can be taken for it.
    verdicts: Mutex<Vec<(Arc<Prepared>, Verdict)>>,
}

impl Circumstances {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            verdicts: Mutex::default(),
        }
    }

    /// What the policies say to a request: policies are pure, so what they said to it before is what they
    /// would say again.
    pub(crate) fn verdict(
        &self,
        prepared: Arc<Prepared>,
        judge: impl FnOnce(&Prepared, Context) -> Verdict,
    ) -> Verdict {
        let known = lock(&self.verdicts)
            .iter()
            .find(|(of, _)| Arc::ptr_eq(of, &prepared))
            .map(|(_, verdict)| verdict.clone());
        if let Some(verdict) = known {
            return verdict;
        }
        let verdict = judge(&prepared, self.context.clone());
        let mut verdicts = lock(&self.verdicts);
        if verdicts.len() == VERDICTS {
            verdicts.remove(0);
        }
        verdicts.push((prepared, verdict.clone()));
        verdict
    }
}

/// Whoever panicked while it held the lock has left whole entries behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
