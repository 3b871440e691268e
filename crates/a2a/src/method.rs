//! The operations of the protocol, in the two revisions that are spoken (0.3 and 1.0).

/// A revision of the protocol, as far as messages look different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// 0.3: methods like `message/send`, objects with a `kind`.
    V03,
    /// 1.0: methods like `SendMessage`, ProtoJSON.
    V1,
}

impl Dialect {
    /// Both, the newer one first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V03];

    /// What the `A2A-Version` header says of it (1.0, §3.6).
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::V03 => "0.3",
            Self::V1 => "1.0",
        }
    }

    /// The dialect of a version; `None` for one that is not spoken here.
    #[must_use]
    pub fn of_version(version: &str) -> Option<Self> {
        match version.split('.').collect::<Vec<_>>()[..] {
            ["1", ..] => Some(Self::V1),
            ["0", "3", ..] => Some(Self::V03),
            _ => None,
        }
    }
}

/// An operation (1.0, §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Send a message and wait.
    Send,
    /// Send a message and get events.
    Stream,
    /// Get a task.
    GetTask,
    /// List tasks.
    ListTasks,
    /// Cancel a task.
    Cancel,
    /// Get the events of a task.
    Subscribe,
    /// Register a webhook for a task.
    SetPush,
    /// Read a registered webhook.
    GetPush,
    /// List the registered webhooks of a task.
    ListPush,
    /// Remove a registered webhook.
    DeletePush,
    /// Get the card that the caller may see.
    Card,
}

/// Each method with its names: 0.3 (§7), where it has it, and 1.0 (§9.4).
const NAMES: [(Method, Option<&str>, &str); 11] = [
    (Method::Send, Some("message/send"), "SendMessage"),
    (
        Method::Stream,
        Some("message/stream"),
        "SendStreamingMessage",
    ),
    (Method::GetTask, Some("tasks/get"), "GetTask"),
    (Method::ListTasks, Some("tasks/list"), "ListTasks"),
    (Method::Cancel, Some("tasks/cancel"), "CancelTask"),
    (
        Method::Subscribe,
        Some("tasks/resubscribe"),
        "SubscribeToTask",
    ),
    (
        Method::SetPush,
        Some("tasks/pushNotificationConfig/set"),
        "CreateTaskPushNotificationConfig",
    ),
    (
        Method::GetPush,
        Some("tasks/pushNotificationConfig/get"),
        "GetTaskPushNotificationConfig",
    ),
    (
        Method::ListPush,
        Some("tasks/pushNotificationConfig/list"),
        "ListTaskPushNotificationConfigs",
    ),
    (
        Method::DeletePush,
        Some("tasks/pushNotificationConfig/delete"),
        "DeleteTaskPushNotificationConfig",
    ),
    (
        Method::Card,
        Some("agent/getAuthenticatedExtendedCard"),
        "GetExtendedAgentCard",
    ),
];

impl Method {
    /// The method of a JSON-RPC name, and the dialect that it belongs to.
    #[must_use]
    pub fn parse(name: &str) -> Option<(Self, Dialect)> {
        NAMES.iter().find_map(|(method, old, new)| {
            if *new == name {
                Some((*method, Dialect::V1))
            } else if *old == Some(name) {
                Some((*method, Dialect::V03))
            } else {
                None
            }
        })
    }

    /// Its JSON-RPC name in a dialect.
    #[must_use]
    pub fn name(self, dialect: Dialect) -> &'static str {
        let (_, old, new) = NAMES
            .iter()
            .find(|(method, ..)| *method == self)
            .expect("every method stands in the table");
        match (dialect, old) {
            (Dialect::V03, Some(old)) => old,
            _ => new,
        }
    }

    /// Whether its answer is a stream of events.
    #[must_use]
    pub fn streams(self) -> bool {
        matches!(self, Self::Stream | Self::Subscribe)
    }

    /// Whether it sends a message.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::Send | Self::Stream)
    }

    /// Whether it is about webhooks.
    #[must_use]
    pub fn is_push(self) -> bool {
        matches!(
            self,
            Self::SetPush | Self::GetPush | Self::ListPush | Self::DeletePush
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_method() {
        for (method, ..) in NAMES {
            for dialect in Dialect::ALL {
                assert_eq!(Method::parse(method.name(dialect)), Some((method, dialect)));
            }
        }
        for unknown in ["sendmessage", "tasks/send", "message/send ", "", "Send"] {
            assert_eq!(Method::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn versions_are_of_the_dialects_or_none() {
        assert_eq!(Dialect::of_version("1.0"), Some(Dialect::V1));
        assert_eq!(Dialect::of_version("0.3.0"), Some(Dialect::V03));
        for other in ["0.2.5", "2.0", "", "10", "0.30"] {
            assert_eq!(Dialect::of_version(other), None, "{other}");
        }
    }
}
