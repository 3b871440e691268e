//! Servers over pipes, as the enforcement point sees them: real programs, some of which misbehave.

#![expect(
    clippy::unwrap_used,
    reason = "what a test cannot unwrap is its failure"
)]

mod bridge;
mod hygiene;
mod misbehaviour;
mod official;
mod requests;
mod sessions;
