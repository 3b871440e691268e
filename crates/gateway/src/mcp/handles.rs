//! Handles that upstreams give out: ids of their tasks, and the state that clients must send back.
//!
//! All agents share the gateway's credential at an upstream, so the upstream cannot tell whose a
//! handle is. The gateway can: a handle is of use only to the principal that it was given to.

use std::collections::{HashMap, HashSet, VecDeque};

use model::ServerName;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::caller::Principal;

/// Most handles of one principal at one server; the oldest are forgotten first.
const PER_PRINCIPAL: usize = 1_024;

/// What a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The id of a task at the upstream.
    Task,
    /// `requestState` of a result that asks for input.
    State,
}

/// Who was given which handles.
#[derive(Default)]
pub(crate) struct Handles {
    given: Mutex<HashMap<(Principal, ServerName), Given>>,
}

#[derive(Default)]
struct Given {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Handles {
    /// A principal was given a handle.
    pub(crate) fn give(&self, to: Principal, server: &ServerName, kind: Kind, handle: &str) {
        let digest = digest(kind, handle);
        let mut given = self.given.lock();
        let given = given.entry((to, server.clone())).or_default();
        if !given.known.insert(digest) {
            return;
        }
        given.order.push_back(digest);
        if given.order.len() > PER_PRINCIPAL
            && let Some(oldest) = given.order.pop_front()
        {
            given.known.remove(&oldest);
        }
    }

    /// Whether a principal was given this handle.
    #[must_use]
    pub(crate) fn has(
        &self,
        principal: Principal,
        server: &ServerName,
        kind: Kind,
        handle: &str,
    ) -> bool {
        self.given
            .lock()
            .get(&(principal, server.clone()))
            .is_some_and(|given| given.known.contains(&digest(kind, handle)))
    }

    /// Forgets the handles of principals that are gone.
    pub(crate) fn retain(&self, alive: impl Fn(&Principal) -> bool) {
        self.given
            .lock()
            .retain(|(principal, _), _| alive(principal));
    }
}

fn digest(kind: Kind, handle: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([match kind {
        Kind::Task => 1,
        Kind::State => 2,
    }]);
    hash.update(handle.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use model::{InstanceId, TaskId};

    fn principal(n: u8) -> Principal {
        Principal {
            instance: InstanceId::new(Timestamp::UNIX_EPOCH, [n; 10]),
            task: TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        }
    }

    #[test]
    fn a_handle_is_of_use_only_to_whom_it_was_given() {
        let (handles, files) = (Handles::default(), ServerName::parse("files").unwrap());
        handles.give(principal(1), &files, Kind::Task, "t");
        assert!(handles.has(principal(1), &files, Kind::Task, "t"));
        assert!(!handles.has(principal(2), &files, Kind::Task, "t"));
        assert!(!handles.has(principal(1), &files, Kind::State, "t"));
        assert!(!handles.has(
            principal(1),
            &ServerName::parse("git").unwrap(),
            Kind::Task,
            "t"
        ));
        handles.retain(|p| *p != principal(1));
        assert!(!handles.has(principal(1), &files, Kind::Task, "t"));
    }

    #[test]
    fn a_flood_forgets_the_oldest_of_its_own() {
        let (handles, files) = (Handles::default(), ServerName::parse("files").unwrap());
        handles.give(principal(2), &files, Kind::Task, "mine");
        for n in 0..=PER_PRINCIPAL {
            handles.give(principal(1), &files, Kind::Task, &n.to_string());
        }
        assert!(!handles.has(principal(1), &files, Kind::Task, "0"));
        assert!(handles.has(principal(1), &files, Kind::Task, "1"));
        assert!(handles.has(principal(2), &files, Kind::Task, "mine"));
    }
}
