//! Detectors. They look and say what they saw; what is done about it is decided elsewhere.
//!
//! | module | what it looks at |
//! | --- | --- |
//! | [`tools`] | definitions of tools: pinned, compared, and read for what hides in them |
//! | [`content`] | texts: results of tools, prompts, resources, traffic of models |
//! | [`behaviour`] | the records of the audit log, as a stream |
//! | [`incidents`] | findings: which belong together, which are known, how bad an agent looks |
//!
//! No IO, no async, no clock, no randomness: time comes in with each record, random bytes with each
//! canary token. Everything has a bound that is a constant with a name: a fully hostile server or agent
//! makes a detector say "too much to look at", never makes it grow or stall.
//!
//! A detector is evidence, not a barrier: whatever it misses is still held by the grant, the policy and
//! the budget of the task.

pub mod behaviour;
mod capped;
pub mod content;
pub mod finding;
pub mod incidents;
pub mod text;
pub mod tools;

pub use capped::Capped;
pub use finding::{Asi, Atlas, Evidence, Finding, Severity, Subject};
