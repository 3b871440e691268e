//! The revisions of MCP, and which methods each one has.

use std::fmt;

/// A revision of the protocol. Later revisions are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05, over streamable HTTP as some clients still negotiate it.
    V2024_11_05,
    /// 2025-03-26: sessions, batches.
    V2025_03_26,
    /// 2025-06-18: elicitation, the version header.
    V2025_06_18,
    /// 2025-11-25: tasks, polling of streams.
    V2025_11_25,
    /// 2026-07-28: stateless.
    V2026_07_28,
}

impl Revision {
    /// All that are known here, oldest first.
    pub(crate) const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];

    /// Those of the modern era, as they are offered in errors.
    pub(crate) const MODERN: [&'static str; 1] = ["2026-07-28"];

    /// Reads a revision; `None` when it is not known here.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|revision| revision.as_str() == text)
    }

    /// Its date.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Whether each request stands for itself (`basic/versioning`, Terminology).
    #[must_use]
    pub(crate) fn is_modern(self) -> bool {
        self >= Self::V2026_07_28
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The requests that clients may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `initialize`
    Initialize,
    /// `server/discover`
    Discover,
    /// `ping`
    Ping,
    /// `logging/setLevel`
    SetLevel,
    /// `tools/list`
    ListTools,
    /// `tools/call`
    CallTool,
    /// `resources/list`
    ListResources,
    /// `resources/templates/list`
    ListTemplates,
    /// `resources/read`
    ReadResource,
    /// `resources/subscribe`
    Subscribe,
    /// `resources/unsubscribe`
    Unsubscribe,
    /// `prompts/list`
    ListPrompts,
    /// `prompts/get`
    GetPrompt,
    /// `completion/complete`
    Complete,
    /// `subscriptions/listen`
    Listen,
    /// `tasks/get`
    GetTask,
    /// `tasks/list`
    ListTasks,
    /// `tasks/result`
    TaskResult,
    /// `tasks/update`
    UpdateTask,
    /// `tasks/cancel`
    CancelTask,
}

impl Method {
    /// The method of a name in a revision; `None` when that revision has no such request.
    #[must_use]
    pub(crate) fn of(revision: Revision, name: &str) -> Option<Self> {
        let (method, from, until) = match name {
            "initialize" => (Self::Initialize, OLDEST, LAST_LEGACY),
            "ping" => (Self::Ping, OLDEST, LAST_LEGACY),
            "logging/setLevel" => (Self::SetLevel, OLDEST, LAST_LEGACY),
            "resources/subscribe" => (Self::Subscribe, OLDEST, LAST_LEGACY),
            "resources/unsubscribe" => (Self::Unsubscribe, OLDEST, LAST_LEGACY),
            "tools/list" => (Self::ListTools, OLDEST, NEWEST),
            "tools/call" => (Self::CallTool, OLDEST, NEWEST),
            "resources/list" => (Self::ListResources, OLDEST, NEWEST),
            "resources/templates/list" => (Self::ListTemplates, OLDEST, NEWEST),
            "resources/read" => (Self::ReadResource, OLDEST, NEWEST),
            "prompts/list" => (Self::ListPrompts, OLDEST, NEWEST),
            "prompts/get" => (Self::GetPrompt, OLDEST, NEWEST),
            "completion/complete" => (Self::Complete, OLDEST, NEWEST),
            "tasks/get" => (Self::GetTask, LAST_LEGACY, NEWEST),
            "tasks/cancel" => (Self::CancelTask, LAST_LEGACY, NEWEST),
            "tasks/list" => (Self::ListTasks, LAST_LEGACY, LAST_LEGACY),
            "tasks/result" => (Self::TaskResult, LAST_LEGACY, LAST_LEGACY),
            "tasks/update" => (Self::UpdateTask, NEWEST, NEWEST),
            "server/discover" => (Self::Discover, NEWEST, NEWEST),
            "subscriptions/listen" => (Self::Listen, NEWEST, NEWEST),
            _ => return None,
        };
        (from..=until).contains(&revision).then_some(method)
    }

    /// The parameter that `Mcp-Name` repeats (2026-07-28 `basic/transports/streamable-http`, and
    /// the tasks extension).
    #[must_use]
    pub(crate) fn named_by(self) -> Option<&'static str> {
        match self {
            Self::CallTool | Self::GetPrompt => Some("name"),
            Self::ReadResource => Some("uri"),
            Self::GetTask | Self::UpdateTask | Self::CancelTask => Some("taskId"),
            _ => None,
        }
    }
}

const OLDEST: Revision = Revision::V2024_11_05;
const LAST_LEGACY: Revision = Revision::V2025_11_25;
const NEWEST: Revision = Revision::V2026_07_28;

/// Whether clients may send this notification in a revision.
#[must_use]
pub(crate) fn is_client_notification(revision: Revision, name: &str) -> bool {
    match name {
        "notifications/cancelled" => true,
        "notifications/initialized"
        | "notifications/progress"
        | "notifications/roots/list_changed" => !revision.is_modern(),
        "notifications/tasks/status" => revision == LAST_LEGACY,
        _ => false,
    }
}

/// Whether servers may send this notification in a revision.
#[must_use]
pub(crate) fn is_server_notification(revision: Revision, name: &str) -> bool {
    match name {
        "notifications/progress"
        | "notifications/message"
        | "notifications/resources/updated"
        | "notifications/resources/list_changed"
        | "notifications/tools/list_changed"
        | "notifications/prompts/list_changed" => true,
        "notifications/cancelled" => !revision.is_modern(),
        "notifications/elicitation/complete" | "notifications/tasks/status" => {
            revision == LAST_LEGACY
        }
        "notifications/subscriptions/acknowledged" | "notifications/tasks" => revision.is_modern(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_revision_has_its_own_methods() {
        let of = Method::of;
        for gone in [
            "ping",
            "initialize",
            "logging/setLevel",
            "resources/subscribe",
            "tasks/list",
        ] {
            assert_eq!(of(Revision::V2026_07_28, gone), None, "{gone}");
            assert!(of(Revision::V2025_11_25, gone).is_some(), "{gone}");
        }
        assert_eq!(of(Revision::V2025_06_18, "tasks/get"), None);
        assert_eq!(of(Revision::V2025_11_25, "server/discover"), None);
        assert_eq!(
            of(Revision::V2026_07_28, "tools/call"),
            Some(Method::CallTool)
        );
        for unknown in [
            "",
            "Tools/call",
            "tools/call ",
            "sampling/createMessage",
            "rpc.discover",
        ] {
            assert!(
                Revision::ALL.into_iter().all(|r| of(r, unknown).is_none()),
                "{unknown}"
            );
        }
    }

    #[test]
    fn notifications_of_servers_belong_to_revisions() {
        let is = is_server_notification;
        assert!(is(
            Revision::V2026_07_28,
            "notifications/subscriptions/acknowledged"
        ));
        assert!(!is(
            Revision::V2025_11_25,
            "notifications/subscriptions/acknowledged"
        ));
        assert!(is(
            Revision::V2025_11_25,
            "notifications/elicitation/complete"
        ));
        assert!(!is(
            Revision::V2026_07_28,
            "notifications/elicitation/complete"
        ));
        assert!(
            Revision::ALL
                .into_iter()
                .all(|r| is(r, "notifications/progress"))
        );
        for unknown in [
            "",
            "notifications/x",
            "tools/call",
            "notifications/initialized",
        ] {
            assert!(
                Revision::ALL.into_iter().all(|r| !is(r, unknown)),
                "{unknown}"
            );
        }
    }

    #[test]
    fn dates_round_trip() {
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str()), Some(revision));
        }
        assert_eq!(Revision::parse("2026-07-29"), None);
    }
}
