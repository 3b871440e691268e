//! What the database still has to answer, in its order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use gateway::pipeline::{Denied, Digest, Permit};
use model::Rule;
use model::record::Ended;

use super::named::Prepared;
use super::rows::Rows;
use crate::wire::backend::ErrorResponse;

/// One message to the database that is not answered yet.
pub(super) enum Expected {
    /// A text of statements; it ends with `ReadyForQuery`.
    Query(VecDeque<Running>),
    /// A statement of this name is prepared.
    Parse(String),
    /// A portal of this name is made.
    Bind(String),
    /// Something is described: a prepared statement, or a portal of one.
    Describe(Option<Arc<Prepared>>),
    /// Something is forgotten.
    Close,
    /// A portal is carried out.
    Execute(Box<Running>),
    /// The end of a batch, with what was permitted for preparing only.
    Sync(Vec<Running>),
    /// A failure that stands in for what was refused: this is what the client is told.
    Refusal(Bytes),
}

/// A statement that is carried out.
pub(super) struct Running {
    pub(super) permit: Permit,
    pub(super) digest: Digest,
    /// Rows that were returned.
    pub(super) returned: u64,
    /// What is known of them.
    pub(super) rows: Rows,
}

impl Running {
    pub(super) fn new(permit: Permit, rows: Rows) -> Self {
        Self {
            digest: permit.digest(),
            permit,
            returned: 0,
            rows,
        }
    }

    pub(super) fn finish(self, ended: Ended) {
        self.permit.finish(ended, self.digest);
    }
}

/// A denial as clients are told.
pub(super) fn denied(refused: &Denied) -> ErrorResponse {
    let denial = &refused.denial;
    let sqlstate = match denial.rule {
        Rule::AuditUnavailable => "58030",
        Rule::BudgetExhausted | Rule::RateLimited => "53400",
        _ => "42501",
    };
    let error = ErrorResponse::new(sqlstate, denial.reason.clone()).detail(format!(
        "Refused by rule {} in decision {}.",
        denial.rule, refused.decision
    ));
    match denial.remedy.is_empty() {
        true => error,
        false => error.hint(denial.remedy.clone()),
    }
}
