//! Responses to incidents: [`playbook`]s (OASIS CACAO 2.0) that people can read as procedures and the
//! process can carry out, and the [`blast`] radius of an agent or a task.
//!
//! Nothing here touches anything: what a step does is an [`Act`], a member of a closed set, and
//! [`means::Means`] carries it out. There are no shell commands. A [`run::Run`] is data: it is kept
//! before and after each step, so that it goes on after a crash where it was.

pub mod act;
pub mod blast;
pub mod bundled;
pub mod means;
pub mod mode;
pub mod playbook;
pub mod run;
pub mod signals;

pub use act::Act;
pub use mode::Modes;
pub use playbook::{Playbook, PlaybookError};
pub use run::Run;
