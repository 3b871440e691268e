//! Detectors for texts: what tools, prompts, resources and models say.
//!
//! A text is first unwrapped ([`unwrap`]: base64, hexadecimal, escapes, comments, invisible characters,
//! inside each other, within bounds), then every layer is brought into one form ([`crate::text`]) and
//! read by four readers: the [`rules`], the [`secrets`], [`personal`] data and planted [`canary`] tokens.
//! A [`Policy`] says what follows from what was seen.
//!
//! Time is linear in the text: phrases are found by one Aho-Corasick automaton, expressions by automata
//! without backtracking, and nothing is ever decompressed.

pub mod canary;
mod compiled;
mod condition;
pub mod invisible;
pub mod personal;
mod phrase;
mod policy;
pub mod rules;
mod scanner;
pub mod secrets;
pub mod unwrap;

pub use canary::{Canaries, Canary};
pub use policy::{Policy, Response};
pub use rules::{Place, Rule, RuleError, RuleSet};
pub use scanner::{Limits, Scan, Scanner};
