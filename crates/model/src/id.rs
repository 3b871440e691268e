//! Identifiers: a prefix that says what they name, and a UUIDv7 (RFC 9562 §5.7), so that they sort
//! by time. Time and randomness come in as arguments.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why an identifier was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: expected `{prefix}` followed by 32 lower-case hexadecimal digits")]
pub struct InvalidId {
    /// What kind of identifier was expected.
    pub what: &'static str,
    /// The prefix that it must have.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier from the time and ten random bytes.
            #[must_use]
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// Parses the textual form exactly: prefix, then 32 lower-case hexadecimal digits.
            ///
            /// # Errors
            /// [`InvalidId`] for anything else.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let error = InvalidId { what: $what, prefix: $prefix };
                let hex = text.strip_prefix($prefix).ok_or(error.clone())?;
                let exact = hex.len() == 32
                    && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                if !exact {
                    return Err(error);
                }
                Uuid::try_parse(hex).map(Self).map_err(|_| error)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut buffer = [0u8; 32];
                f.write_str($prefix)?;
                f.write_str(self.0.simple().encode_lower(&mut buffer))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id!(
    /// Names one task.
    TaskId,
    "task_",
    "task id"
);
id!(
    /// Names one running copy of an agent; it is the OAuth `client_id` of that copy.
    InstanceId,
    "inst_",
    "instance id"
);
id!(
    /// Names one decision; it stands in the denial, in the record and in the answer to the agent.
    DecisionId,
    "dec_",
    "decision id"
);
id!(
    /// Names one request for a person's approval; it stands in the denial, and in the record of what it let
    /// through.
    ApprovalId,
    "apr_",
    "approval id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_and_sort_by_time() {
        let early = TaskId::new(Timestamp::from_second(1_000).unwrap(), [9; 10]);
        let late = TaskId::new(Timestamp::from_second(2_000).unwrap(), [1; 10]);
        assert!(early < late);
        assert_eq!(TaskId::parse(&early.to_string()).unwrap(), early);
    }

    #[test]
    fn only_the_exact_form_is_an_id() {
        let good = TaskId::new(Timestamp::UNIX_EPOCH, [7; 10]).to_string();
        assert!(InstanceId::parse(&good).is_err());
        assert!(TaskId::parse(&good.to_uppercase()).is_err());
        assert!(TaskId::parse(&format!("{good} ")).is_err());
        assert!(TaskId::parse(&good[..good.len() - 1]).is_err());
        assert!(TaskId::parse("task_{0190b6a0-0000-7000-8000-0000000}").is_err());
    }
}
