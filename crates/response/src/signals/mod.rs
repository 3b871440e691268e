//! Signals between security systems: the OpenID Shared Signals Framework 1.0 (SSF) with events of the
//! Continuous Access Evaluation Profile 1.0 (CAEP), carried by security event tokens (RFC 8417).
//!
//! Here is what they say and mean. Sending, receiving and keeping them is for whoever has a network, a
//! key and a store.

pub mod event;
pub mod received;
pub mod stream;
pub mod subject;
pub mod told;

pub use event::{CredentialChange, Event, EventKind, Level};
pub use received::{Received, Unacceptable};
pub use stream::{Method, Status, Stream, StreamError, StreamRequest};
pub use subject::{Subject, SubjectId};

/// The `typ` of security event tokens (RFC 8417 §2.3).
pub const TYPE: &str = "secevent+jwt";
/// The media type of one (RFC 8417 §7.2).
pub const MEDIA_TYPE: &str = "application/secevent+jwt";
