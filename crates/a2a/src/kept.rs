//! What is kept over a restart: who was given which ids, and which webhooks are registered. The keeping
//! itself is not here. It does not hold up anything: what is lost by a crash in between is refused
//! afterwards, and never given to anybody else.

use std::sync::{Arc, OnceLock};

use gateway::caller::Principal;
use gateway::front::BoxFuture;
use model::ServerName;

use crate::owned::{Begun, Kind};
use crate::push::{Hash, Registration};

/// An id that was given to a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// To whom.
    pub to: Principal,
    /// By which agent.
    pub at: ServerName,
    /// What it names.
    pub kind: Kind,
    /// The id.
    pub id: String,
    /// What it belongs to.
    pub begun: Begun,
}

/// A change of what is kept.
pub enum Change {
    /// An id was given.
    Given(Box<Given>),
    /// An id was forgotten, since there were too many.
    Forgotten(Principal, ServerName, Kind, String),
    /// A webhook was registered.
    Registered(Box<Registration>),
    /// A webhook was removed.
    Unregistered(Hash),
}

/// Keeps changes.
pub trait Keeper: Send + Sync + 'static {
    /// Notes a change, to be kept soon and in its turn. Never waits.
    fn note(&self, change: Change);

    /// Resolves when all that was noted before is kept; false when it could not be.
    fn flush(&self) -> BoxFuture<'_, bool>;
}

/// What was kept of tasks that are open.
#[derive(Default)]
pub struct Kept {
    /// The ids, the oldest first.
    pub given: Vec<Given>,
    /// The webhooks.
    pub registered: Vec<Registration>,
}

/// The keeper, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Keeping(OnceLock<Arc<dyn Keeper>>);

impl Keeping {
    pub(crate) fn with(keeper: Arc<dyn Keeper>) -> Self {
        Self(OnceLock::from(keeper))
    }

    /// Takes over another's keeper; a second time nothing changes.
    pub(crate) fn take_over(&self, other: Self) {
        if let Some(keeper) = other.0.into_inner() {
            let _ = self.0.set(keeper);
        }
    }

    pub(crate) fn note(&self, change: Change) {
        if let Some(keeper) = self.0.get() {
            keeper.note(change);
        }
    }

    /// Waits until all is kept; true when there is nobody to keep it.
    pub(crate) async fn flush(&self) -> bool {
        match self.0.get() {
            Some(keeper) => keeper.flush().await,
            None => true,
        }
    }
}
