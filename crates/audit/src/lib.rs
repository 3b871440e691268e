//! The audit log: a transparency log on disk that independent tools can verify.
//!
//! A record is durable in a journal before its `append` returns (one `fdatasync` for a whole group).
//! A moment later it is in the log proper, which is laid out as C2SP tlog-tiles says: RFC 6962
//! hashes in `tile/<L>/<N>`, the records in `tile/entries/<N>`, and a `checkpoint` that is a C2SP
//! signed note. What the journal holds beyond the checkpoint is dropped once the tiles have it.
//!
//! | in the folder | what it is |
//! | --- | --- |
//! | `checkpoint` | the signed commitment to the whole log (C2SP tlog-checkpoint) |
//! | `tile/` | hashes and records (C2SP tlog-tiles) |
//! | `log.vkey` | the verifier key of the log (C2SP signed-note) |
//! | `journal/` | segments with the newest records |
//! | `tmp/` | files that are not complete yet |
//! | `lock` | held by the one process that writes |
//!
//! [`AuditLog`] writes, [`Reader`] reads, verifies and proves, also while another process writes.
//! What a record says is no business of this crate: it is bytes.

mod bundle;
mod checkpoint;
mod company;
pub mod disk;
mod error;
mod hash;
mod journal;
mod key;
mod log;
mod note;
mod proof;
mod publisher;
mod queue;
mod reader;
mod recovery;
mod scan;
mod stored;
mod tap;
mod tile;
mod tree;
mod writer;

pub use checkpoint::Checkpoint;
pub use error::{AuditError, Damage};
pub use hash::Hash;
pub use key::LogKey;
pub use log::{AuditLog, Options};
pub use note::{NoteError, VerifierKey};
pub use proof::{
    InclusionProof, ProofError, Proven, check_consistency, check_inclusion, check_proof,
};
pub use reader::{Entries, Problem, Reader, Report};
pub use recovery::Recovery;
pub use tap::{Companion, NewRecord, Tap, Tapped};

/// The longest record, in bytes: entry bundles have 16-bit lengths (C2SP tlog-tiles, Log entries).
pub const LONGEST_RECORD: usize = u16::MAX as usize;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fault_tests;
