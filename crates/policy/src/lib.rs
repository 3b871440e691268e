//! The decision: a pure function of the world, the task and the action.
//!
//! [`decide`] asks, in this order: is the agent active, is the task open and the caller's, is the
//! proof strong enough, is the server granted, is the operation granted, do the arguments hold, was
//! the tool's definition approved, is there budget left, and do the organisation's Cedar policies permit it. The first "no" is the
//! answer. No IO, no clock and no randomness: time and ids come in as arguments, so that a decision
//! can be reproduced from its record.

mod allowed;
mod arguments;
mod candidates;
mod constraint;
mod contexts;
mod decide;
mod denials;
mod entities;
mod grant;
mod holds;
mod narrowing;
mod number;
pub mod path;
mod policies;
mod tools;
mod unicode;
mod uri;
mod usage;
mod world;

pub use allowed::{Allowed, InvalidAllowance};
pub use decide::{Attempt, Caller, Caution, Listed, decide, may_list};
pub use grant::CompiledGrant;
pub use holds::Holds;
pub use narrowing::covers;
pub use policies::Policies;
pub use tools::{DefinitionHash, Quarantined, ServerTools, ToolStanding, Unapproved};
pub use usage::{NOTED, Usage};
pub use world::{AgentFacts, ServerFacts, World};
