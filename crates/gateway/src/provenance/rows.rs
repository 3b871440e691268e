//! Step 7 at databases: rows are noted before the agent has them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use model::{Action, DecisionId, Operation, ServerName, Statement};
use provenance::{Annotations, Asking, Ledger, RowNotes};

use super::Annotated;
use crate::live::LiveTask;

/// A statement whose rows are to be noted.
pub(crate) struct RowReading {
    task: Arc<LiveTask>,
    annotations: Option<Arc<Annotations>>,
    server: ServerName,
    statement: Statement,
    decision: DecisionId,
    at: Timestamp,
    /// How many results the ledger had taken in with the last rows; 0 before any.
    noted: AtomicU32,
}

impl RowReading {
    /// What to remember of a statement until its rows come; nothing where no server is annotated.
    pub(crate) fn of(
        annotated: &Annotated,
        task: &Arc<LiveTask>,
        action: &Action,
        decision: DecisionId,
        at: Timestamp,
    ) -> Option<Box<Self>> {
        let Operation::Query { statement } = &action.operation else {
            return None;
        };
        if annotated.is_empty() {
            return None;
        }
        Some(Box::new(Self {
            task: Arc::clone(task),
            annotations: annotated.get(&action.server).cloned(),
            server: action.server.clone(),
            statement: Statement {
                // It may be long, and nothing is judged by it.
                text: String::new(),
                shape: statement.shape.clone(),
                accesses: statement.accesses.clone(),
                steering: statement.steering.clone(),
            },
            decision,
            at,
            noted: AtomicU32::new(0),
        }))
    }

    /// Notes rows.
    pub(crate) fn note<'v, R>(&self, notes: &mut RowNotes, rows: impl Iterator<Item = R>)
    where
        R: Iterator<Item = Option<&'v str>>,
    {
        let asking = Asking {
            server: self.server.as_str(),
            statement: &self.statement,
            at: Some(self.at),
            decision: Some(self.decision),
        };
        let annotations = self.annotations.as_deref();
        let noted = self
            .task
            .note_in_ledger(|ledger| ledger.note_rows(annotations, &asking, notes, rows));
        self.noted.store(noted, Ordering::Relaxed);
    }

    /// Says that the task reads what nobody can look into.
    pub(crate) fn miss(&self) {
        self.task.with_ledger(Ledger::miss_some);
    }

    /// How many results the task's ledger had taken in when the last rows were, with them.
    pub(crate) fn noted(&self) -> Option<u32> {
        Some(self.noted.load(Ordering::Relaxed)).filter(|noted| *noted > 0)
    }
}
