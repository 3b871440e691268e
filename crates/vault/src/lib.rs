//! The vault: payloads that are kept for investigation, each task's under a key of its own.
//!
//! The audit log says what happened and holds salted hashes; it is never changed. What was said is here,
//! sealed (AES-256-GCM-SIV, RFC 8452), and can be destroyed: whoever destroys a task's key destroys the
//! task's payloads, and the log still verifies.
//!
//! | in the folder | what it is |
//! | --- | --- |
//! | `segments/` | sealed payloads, in files that are only ever appended to ([`heads`] reads what is in clear) |
//! | `keys/` | the key of each task, sealed with the vault's own, which is in a file for its owner only |
//!
//! Nobody waits for the vault: producers hand [`Bundle`]s over, and are told once the payloads are durable,
//! or why they are not kept. What waits is bounded in bytes, what is kept by [`Limits`]; what is over one is
//! not kept, and that is said. [`Vault`] is the only handle.
//!
//! Beside them are [`Journals`]: what open tasks must not lose over a restart, sealed with the same key, and
//! destroyed when the task ends.

mod error;
mod frame;
mod holdings;
mod journal;
mod keys;
mod payload;
mod room;
mod secret;
mod segment;
mod vault;
mod writer;

pub use error::{NotKept, VaultError};
pub use frame::Head;
pub use holdings::{Expired, Holding, Limits};
pub use journal::{Damage, JournalLimits, Journals, KeptEntries};
pub use payload::{Bundle, Capture, Kept, Payload};
pub use vault::{Shown, Vault, heads};

#[cfg(test)]
mod tests;
