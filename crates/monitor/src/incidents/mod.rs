//! Findings that belong together, what is known already, and how bad an agent looks.
//!
//! [`Incidents::take`] puts each finding where it belongs: into the open incident of its task, of its agent
//! or (when no agent is known) of its server, if that had something within [`WINDOW_SECONDS`]; otherwise a
//! new incident begins. The same finding again is only counted. What was suppressed does not come in; what
//! people called false alarms comes in one step lower.
//!
//! Scores are numbers from 0 to 100. An agent gets points for what it did, half of which are gone after a
//! day; for what it was only given, and for what is only odd, up to a limit. A task's points do not fade.
//!
//! However much a detector is made to find, an incident holds [`FINDINGS`] findings and counts the rest,
//! and there are [`INCIDENTS`] incidents: closed ones leave first, then the least severe and oldest.

mod change;
mod incident;
mod known;
mod risk;
mod suppression;
mod taken;

pub use change::{IncidentChange, What};
pub use incident::{Incident, IncidentStatus, Seen};
pub use known::Known;
pub use risk::{Floor, Origin, Risk, TaskRisk};
pub use suppression::{Suppression, SuppressionError};
pub use taken::{FINDINGS, INCIDENTS, Incidents, Receipt, Taken, WINDOW_SECONDS};
