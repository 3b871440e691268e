//! What agents do, and what they usually do.
//!
//! [`Behaviour`] is fed the records of the audit log in order ([`Behaviour::observe`]) and says what is odd.
//! Time is the time of the records; nothing else is needed, so that a replay of the log finds the same.
//!
//! **Baselines.** There is one for each agent and template: what was touched, with arguments of which
//! shapes, what followed on what, how much, when. Until a baseline has [`WARM_TASKS`] tasks and
//! [`WARM_ACTIONS`] actions it only learns: an agent that is new is not odd. What needs no baseline (denial
//! pressure, loops, data that goes from a sensitive server to an external one, spreading from agent to
//! agent) is watched from the first record on.
//!
//! **Poisoning.** Whoever has an agent can teach its baseline slowly. A volume enters a baseline as no more
//! than a little above what is usual, and a baseline grows by no more than half in a day; when it has
//! doubled since its anchor, which is set anew each week, that is a finding of its own (`volume-drift`).
//! New things enter at once, and tasks that keep adding some are a finding (`scope-creep`). Whoever has an
//! agent from its first task on teaches it from the beginning: then only what needs no baseline is seen.
//!
//! **Tasks in tasks.** What a part of a task read that must not leave is known to all of that task, so that
//! delegating does not part the reading from the sending.
//!
//! **Memory.** Every collection has a constant for its size; see [`crate::Capped`] for what leaves.

mod baseline;
mod explain;
mod flows;
mod intents;
mod keeping;
mod observe;
mod pressure;
mod shape;
mod tasks;
mod volume;
mod windows;

pub use baseline::{Baseline, WARM_ACTIONS, WARM_TASKS};
pub use flows::{Label, Labels};
pub use keeping::{NotKept, Part};
pub use observe::{Behaviour, Settings};
pub use volume::Volume;
