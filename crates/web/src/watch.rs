//! Step 7: what is looked at in the answer of one request, and for whom.

use std::sync::Arc;

use gateway::caller::Caller;
use gateway::inspection::{About, Inspection, What};
use model::{DecisionId, ServerName};

/// What answers to one request are looked at with. It outlives the request: answers stream.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) inspection: Arc<Inspection>,
    caller: Arc<Caller>,
    server: ServerName,
    endpoint: Arc<str>,
    decision: DecisionId,
}

impl Watch {
    /// For a request; none where nothing that could be seen would change anything.
    pub(crate) fn of(
        inspection: &Arc<Inspection>,
        caller: &Arc<Caller>,
        server: &ServerName,
        endpoint: Arc<str>,
        decision: DecisionId,
    ) -> Option<Self> {
        let watch = Self {
            inspection: Arc::clone(inspection),
            caller: Arc::clone(caller),
            server: server.clone(),
            endpoint,
            decision,
        };
        (!inspection.is_idle(&watch.about())).then_some(watch)
    }

    /// What the API says.
    pub(crate) fn about(&self) -> About<'_> {
        self.about_what(What::HttpAnswer)
    }

    /// What the agent says after the request, on a WebSocket.
    pub(crate) fn about_what_is_asked(&self) -> About<'_> {
        self.about_what(What::Arguments)
    }

    fn about_what(&self, what: What) -> About<'_> {
        About {
            what,
            caller: &self.caller,
            server: &self.server,
            target: &self.endpoint,
            decision: Some(self.decision),
        }
    }

    /// Whether a body is waited for as long as it takes, since what is not looked at as a whole does not pass.
    pub(crate) fn is_strict(&self) -> bool {
        self.inspection.is_strict(&self.about())
    }
}
