//! Detectors for texts: what tools, prompts, resources and models say.
//!
//! A text is first unwrapped ([`unwrap`]: base64, hexadecimal, escapes, comments, invisible characters,
//! inside each other, within bounds), then every layer is brought into one form ([`crate::text`]) and
//! read by four readers: the [`rules`], the [`secrets`], [`personal`] data and planted [`canary`] tokens.
//! A [`Policy`] says what follows from what was seen.
//!
//! Most texts hold nothing, and that is seen first: one pass over the bytes says whether anything is
//! wrapped, hidden or not ASCII, and one more, through two automata, which terms of rules the text could
//! have at all. Only for what is possible then is the text brought into its other forms, and read for
//! exactly that.
//!
//! Time is linear in the text: phrases are found by Aho-Corasick automata, long ones by their beginnings
//! and then among so many sorted ones, expressions by automata without backtracking, and nothing is ever decompressed.

mod anchors;
pub mod canary;
mod compiled;
mod condition;
mod gate;
pub mod invisible;
mod long_phrases;
pub mod personal;
mod phrase;
mod policy;
pub mod rules;
mod scan;
mod scanner;
pub mod secrets;
mod spans;
mod survey;
pub mod unwrap;

pub use canary::{Canaries, Canary};
pub use policy::{Policy, Response};
pub use rules::{Place, Rule, RuleError, RuleSet};
pub use scan::{NOT_ALL, Scan};
pub use scanner::{BrokenExample, Limits, Scanner};
