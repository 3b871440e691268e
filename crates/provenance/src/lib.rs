//! Provenance-checked arguments: which values of a call could have come from what the task is for
//! or from sources that the administrator trusts, and which only from content that others wrote.
//!
//! No IO, no async, no clock, no randomness. [`Annotations`] say which arguments of a server's
//! tools decide who or what is affected, and what in its results is trusted. A [`Ledger`] remembers
//! what one task has seen; its [`Ledger::check`] accepts a call only if every such argument is
//! positively derivable. Nothing is matched against what is bad, so that a value that is encoded,
//! split, or written with look-alike characters simply matches nothing and is asked about.

pub mod annotations;
pub mod ledger;
pub mod place;
mod text;
mod value;
pub mod verdict;

pub use annotations::{Annotations, Endpoint, draft, draft_endpoints, draft_tables};
pub use ledger::{Asking, Called, Ledger, Limits, RowColumn, RowNotes};
pub use verdict::{Asked, Derivation, How, Origin, Reason, Verdict, visible};
