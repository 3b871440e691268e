//! The tasks and contexts that other agents gave out, and to whom.
//!
//! All callers share the gateway's credential at the upstream, so the upstream cannot tell whose a task
//! is. The gateway can: an id is of use only to the principal that it was given to, and what began
//! under one skill stays with that skill. So it is over a restart too.

use std::collections::{HashMap, VecDeque};

use gateway::caller::Principal;
use model::{ServerName, TaskId};
use parking_lot::Mutex;

use crate::kept::{Change, Given as KeptId, Keeping};

/// Most ids of each kind, of one principal at one agent; the oldest are forgotten first.
const MOST: usize = 1_024;

/// What is known of a task or a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The skill that it began with.
    pub skill: String,
    /// The sub-task that the other agent acts under.
    pub sub_task: Option<TaskId>,
}

/// Who was given which ids.
#[derive(Default)]
pub struct Owned {
    given: Mutex<HashMap<(Principal, ServerName), Given>>,
    keeping: Keeping,
}

#[derive(Default)]
struct Given {
    tasks: Bounded,
    contexts: Bounded,
}

#[derive(Default)]
struct Bounded {
    known: HashMap<String, Begun>,
    order: VecDeque<String>,
}

impl Bounded {
    /// Returns whether the id is new, and which one had to go for it.
    fn insert(&mut self, id: &str, begun: &Begun) -> (bool, Option<String>) {
        if self.known.contains_key(id) {
            // What it began with stays.
            return (false, None);
        }
        self.known.insert(id.to_owned(), begun.clone());
        self.order.push_back(id.to_owned());
        let oldest = (self.order.len() > MOST)
            .then(|| self.order.pop_front())
            .flatten();
        if let Some(oldest) = &oldest {
            self.known.remove(oldest);
        }
        (true, oldest)
    }
}

/// What an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task.
    Task,
    /// A context.
    Context,
}

impl Owned {
    /// A principal was given an id.
    pub fn give(&self, to: Principal, at: &ServerName, kind: Kind, id: &str, begun: &Begun) {
        if id.is_empty() || id.len() > crate::message::ID_BYTES {
            return;
        }
        let mut all = self.given.lock();
        let given = all.entry((to, at.clone())).or_default();
        let (new, gone) = match kind {
            Kind::Task => given.tasks.insert(id, begun),
            Kind::Context => given.contexts.insert(id, begun),
        };
        if let Some(gone) = gone {
            self.keeping
                .note(Change::Forgotten(to, at.clone(), kind, gone));
        }
        if new {
            self.keeping.note(Change::Given(Box::new(KeptId {
                to,
                at: at.clone(),
                kind,
                id: id.to_owned(),
                begun: begun.clone(),
            })));
        }
    }

    /// Says where they are kept over a restart. What is given before is not.
    pub(crate) fn keep_with(&self, keeping: Keeping) {
        self.keeping.take_over(keeping);
    }

    /// What is known of an id, if this principal was given it.
    #[must_use]
    pub fn find(&self, of: Principal, at: &ServerName, kind: Kind, id: &str) -> Option<Begun> {
        let given = self.given.lock();
        let given = given.get(&(of, at.clone()))?;
        let ids = match kind {
            Kind::Task => &given.tasks,
            Kind::Context => &given.contexts,
        };
        ids.known.get(id).cloned()
    }

    /// Forgets the ids of principals that are gone.
    pub fn retain(&self, alive: impl Fn(&Principal) -> bool) {
        self.given
            .lock()
            .retain(|(principal, _), _| alive(principal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::InstanceId;

    fn principal(n: u8) -> Principal {
        Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [n; 10]),
            task: TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        }
    }

    fn begun(skill: &str) -> Begun {
        Begun {
            skill: skill.to_owned(),
            sub_task: None,
        }
    }

    #[test]
    fn an_id_is_of_use_only_to_whom_it_was_given_and_keeps_its_skill() {
        let (owned, desk) = (Owned::default(), ServerName::parse("desk").unwrap());
        owned.give(principal(1), &desk, Kind::Task, "t", &begun("a"));
        owned.give(principal(1), &desk, Kind::Task, "t", &begun("b"));
        let found = |n, kind| owned.find(principal(n), &desk, kind, "t");
        assert_eq!(found(1, Kind::Task), Some(begun("a")));
        assert_eq!(found(1, Kind::Context), None);
        assert_eq!(found(2, Kind::Task), None);
        let other = ServerName::parse("other").unwrap();
        assert_eq!(owned.find(principal(1), &other, Kind::Task, "t"), None);
        owned.retain(|p| *p != principal(1));
        assert_eq!(found(1, Kind::Task), None);
    }

    #[test]
    fn a_flood_forgets_the_oldest_of_its_own() {
        let (owned, desk) = (Owned::default(), ServerName::parse("desk").unwrap());
        owned.give(principal(2), &desk, Kind::Task, "mine", &begun("a"));
        for n in 0..=MOST {
            owned.give(principal(1), &desk, Kind::Task, &n.to_string(), &begun("a"));
        }
        let has = |n, id: &str| owned.find(principal(n), &desk, Kind::Task, id).is_some();
        assert!(!has(1, "0") && has(1, "1") && has(2, "mine"));
    }
}
