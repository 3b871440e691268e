//! The children of one server: whose they are, and how clients find them again.
//!
//! Before 2026-07-28 a child serves one session of one principal. Since then it serves all requests
//! of one principal. Children are never shared between principals: they may remember.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::config::Limits;
use model::name::ServerName;
use parking_lot::Mutex;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use super::child::{Child, ended};
use super::command::{Haste, Program};
use super::router::Era;
use crate::caller::Principal;
use crate::upstream::allowance::Allowance;
use crate::upstream::credential::Resolved;
use crate::upstream::freshness::Freshness;
use crate::upstream::{Shared, UpstreamError};

/// Names a child within its home.
pub(super) type Key = u64;

/// Where the child of a principal is, or is being started.
pub(super) type Cell = Arc<OnceCell<Arc<Child>>>;

/// The children of one server.
pub(super) struct Home {
    name: ServerName,
    program: Program,
    freshness: Arc<Freshness>,
    shared: Shared,
    /// Everything that runs for a child; done when all children have ended.
    tasks: TaskTracker,
    next: AtomicU64,
    state: Mutex<State>,
    warnings: Mutex<Allowance>,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// All children that run, also those that nobody finds any more.
    children: HashMap<Key, Arc<Child>>,
    /// Sessions, by their ids.
    sessions: HashMap<Box<str>, Arc<Child>>,
    /// The children of the modern era.
    cells: HashMap<Principal, Cell>,
}

impl Home {
    pub(super) fn new(
        name: &ServerName,
        program: Program,
        freshness: &Arc<Freshness>,
        shared: &Shared,
    ) -> Self {
        Self {
            name: name.clone(),
            program,
            freshness: Arc::clone(freshness),
            shared: shared.clone(),
            tasks: TaskTracker::new(),
            next: AtomicU64::new(0),
            state: Mutex::default(),
            warnings: Mutex::new(Allowance::new(20, 1, Instant::now())),
        }
    }

    pub(super) fn name(&self) -> &ServerName {
        &self.name
    }

    /// What the server has announced of its tools.
    pub(super) fn freshness(&self) -> &Arc<Freshness> {
        &self.freshness
    }

    pub(super) fn limits(&self) -> arc_swap::Guard<Arc<Limits>> {
        ArcSwap::load(&self.shared.limits)
    }

    pub(super) fn secrets(&self) -> &Resolved {
        self.program.secrets()
    }

    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Starts the program for a principal.
    pub(super) fn start(
        self: &Arc<Self>,
        principal: Principal,
        era: Era,
    ) -> Result<Arc<Child>, UpstreamError> {
        if self.state.lock().closed {
            return Err(UpstreamError::Disabled);
        }
        let place = self.shared.places.take(principal.task)?;
        let found = self.pinned()?;
        let started = self.program.start(found.as_deref()).map_err(|error| {
            let program = self.program.path().display();
            self.warn(&format!(
                "its program `{program}` could not be started: {error}"
            ));
            UpstreamError::Unreachable("its program could not be started".to_owned())
        })?;
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        // Known before its end can be seen, which takes the same lock.
        let mut state = self.state.lock();
        let child = Child::adopt(started, key, principal, era, self, place);
        state.children.insert(key, Arc::clone(&child));
        let closed = state.closed;
        drop(state);
        if closed {
            child.end(Haste::Now, &UpstreamError::Disabled);
            return Err(UpstreamError::Disabled);
        }
        Ok(child)
    }

    /// Where the program is, if its files were pinned; one that is not what was pinned is not started.
    fn pinned(&self) -> Result<Option<PathBuf>, UpstreamError> {
        // Large files take their time to be read the first time.
        let runtime = tokio::runtime::Handle::current().runtime_flavor();
        let looked = match runtime {
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| self.program.pinned()),
            _ => self.program.pinned(),
        };
        looked.map_err(|not_pinned| {
            self.warn(&format!("its program is not started: {not_pinned}"));
            self.shared.findings.report(&self.name, &not_pinned);
            UpstreamError::Unreachable(
                "its program is not the one that was pinned; an operator must look at it \
                 (`sallyport mcp pin --check`)"
                    .to_owned(),
            )
        })
    }

    /// Makes a session of a child: its id, of 192 random bits. `None` when the child has been ended.
    pub(super) fn open_session(&self, child: &Arc<Child>) -> Option<String> {
        let mut random = [0; 24];
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        let id = URL_SAFE_NO_PAD.encode(random);
        let mut state = self.state.lock();
        if !child.is_open() || !state.children.contains_key(&child.key) {
            return None;
        }
        state.sessions.insert(id.clone().into(), Arc::clone(child));
        Some(id)
    }

    /// The child of a session, if the session is this principal's.
    pub(super) fn session(&self, id: &str, principal: &Principal) -> Option<Arc<Child>> {
        let state = self.state.lock();
        let child = state.sessions.get(id)?;
        (child.principal == *principal && child.is_open()).then(|| Arc::clone(child))
    }

    /// Where the child of a principal is or will be (modern era).
    pub(super) fn cell(&self, principal: Principal) -> Cell {
        Arc::clone(self.state.lock().cells.entry(principal).or_default())
    }

    /// The child of a principal, if one runs (modern era).
    pub(super) fn running(&self, principal: &Principal) -> Option<Arc<Child>> {
        let state = self.state.lock();
        let child = state.cells.get(principal)?.get()?;
        child.is_open().then(|| Arc::clone(child))
    }

    /// Forgets a place where no child came to be, unless others still wait there.
    pub(super) fn give_back(&self, principal: &Principal, cell: &Cell) {
        let mut state = self.state.lock();
        let is_unused = state.cells.get(principal).is_some_and(|known| {
            // The map's own and the caller's.
            Arc::ptr_eq(known, cell) && Arc::strong_count(known) == 2 && !known.initialized()
        });
        if is_unused {
            state.cells.remove(principal);
        }
    }

    /// Lets the next request of a principal start a new child in place of one that ended.
    pub(super) fn replace(&self, principal: &Principal, cell: &Cell) {
        let mut state = self.state.lock();
        if state
            .cells
            .get(principal)
            .is_some_and(|known| Arc::ptr_eq(known, cell))
        {
            state.cells.remove(principal);
        }
    }

    /// A child has ended.
    pub(super) fn forget(&self, child: &Arc<Child>) {
        let mut state = self.state.lock();
        state.children.remove(&child.key);
        state.sessions.retain(|_, known| known.key != child.key);
        let is_its = |cell: &Cell| cell.get().is_some_and(|known| known.key == child.key);
        if state.cells.get(&child.principal).is_some_and(is_its) {
            state.cells.remove(&child.principal);
        }
    }

    /// Ends a session, at its client's wish.
    pub(super) fn end_session(&self, child: &Arc<Child>) {
        self.state
            .lock()
            .sessions
            .retain(|_, known| known.key != child.key);
        child.end(Haste::Gentle, &ended());
    }

    /// Ends the children of principals that are gone.
    pub(super) fn retire(&self, gone: &dyn Fn(&Principal) -> bool) {
        let mut state = self.state.lock();
        if state.children.is_empty() && state.cells.is_empty() {
            return;
        }
        let leaving: Vec<_> = state
            .children
            .values()
            .filter(|child| gone(&child.principal))
            .cloned()
            .collect();
        state.sessions.retain(|_, child| !gone(&child.principal));
        state.cells.retain(|principal, _| !gone(principal));
        drop(state);
        for child in leaving {
            child.end(Haste::Now, &UpstreamError::Disabled);
        }
    }

    /// Takes no requests any more, and begins to end all children.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let leaving: Vec<_> = state.children.values().cloned().collect();
        state.sessions.clear();
        state.cells.clear();
        drop(state);
        self.tasks.close();
        for child in leaving {
            child.end(Haste::Gentle, &UpstreamError::Disabled);
        }
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Tells the operator, but not more often than anyone can read.
    pub(super) fn warn(&self, text: &str) {
        if let Some(left_out) = self.warnings.lock().take(Instant::now()) {
            tracing::warn!(target: "upstream", server = %self.name, left_out, "{text}");
        }
    }
}
