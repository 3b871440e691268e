//! The vocabulary of Sallyport as types, and the parsing of what users write.
//!
//! No IO, no async, no clock, no randomness: everything here is data. The words are those of
//! ARCHITECTURE.md; the same words appear in the API, the command line and the log.

pub mod action;
pub mod agent;
pub mod approval;
pub mod config;
pub mod decision;
pub mod expression;
pub mod grant;
pub mod id;
pub mod inspection;
pub mod json;
pub mod mistake;
pub mod money;
pub mod name;
pub mod pattern;
pub mod provenance;
pub mod rate;
pub mod record;
pub mod spending;
pub mod statement;
pub mod task;
pub mod template;

pub use action::{Action, Operation};
pub use agent::{Agent, Instance, Lifecycle, Proof};
pub use approval::{Approval, ApprovalLevel, ApprovalStatus};
pub use decision::{Decision, Denial, Outcome, Rule};
pub use grant::{Budget, CallPermission, Constraint, Grant, Permission};
pub use id::{ApprovalId, DecisionId, InstanceId, TaskId};
pub use mistake::Mistake;
pub use name::{AgentName, SegmentName, ServerName, SpiffeId, TemplateName, TrustDomain};
pub use pattern::Pattern;
pub use rate::{Rate, RateLimit};
pub use spending::Spent;
pub use statement::{Given, Statement, Steered, Steering, Steers, TableAccess, TableOperation};
pub use task::{Task, TaskStatus};
pub use template::Template;
