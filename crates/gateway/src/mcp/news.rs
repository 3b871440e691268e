//! What the gateway itself tells clients that listen to a server: that the tools which they may see are others
//! now, after a review, or because a definition was found changed that the server did not speak of.

use std::sync::Arc;

use policy::ServerTools;
use serde_json::json;
use tokio::sync::watch;

use super::exchange::{Call, Exchange};
use crate::upstream::freshness::TOOLS_CHANGED;

/// When to tell one client.
pub(super) struct News {
    changes: watch::Receiver<u64>,
    known: Option<Arc<ServerTools>>,
}

impl News {
    /// What there may be to tell a client, if it listens.
    pub(super) fn of(exchange: &Exchange) -> Option<Self> {
        let listens =
            exchange.opens_stream || exchange.calls.iter().any(|call| call.hears_of_tools);
        listens.then(|| {
            let changes = exchange.shared.pipeline.live().tools_changes();
            Self {
                changes,
                known: tools_of(exchange),
            }
        })
    }

    /// Whether the tools of the exchange's server stand differently than when this was asked before.
    pub(super) fn is_new(&mut self, exchange: &Exchange) -> bool {
        let before = std::mem::replace(&mut self.known, tools_of(exchange));
        let tools = |of: &Option<Arc<ServerTools>>| of.as_ref().map(|of| of.tools.clone());
        tools(&before) != tools(&self.known)
    }
}

fn tools_of(exchange: &Exchange) -> Option<Arc<ServerTools>> {
    let world = exchange.shared.pipeline.live().world();
    world.tools(&exchange.server).map(Arc::clone)
}

/// Resolves when there may be something to tell.
pub(super) async fn changed(news: Option<&mut News>) {
    // Its sender lives as long as the gateway.
    if let Some(news) = news
        && news.changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The notification that the tools changed; since 2026-07-28 it names the subscription that it is for.
fn tools_changed(subscription: Option<&Call>) -> String {
    let mut message = json!({ "jsonrpc": "2.0", "method": TOOLS_CHANGED });
    if let Some(call) = subscription {
        message["params"] =
            json!({ "_meta": { "io.modelcontextprotocol/subscriptionId": call.id } });
    }
    message.to_string()
}

/// What one client is told: on the stream of its session, or once for each subscription that asked for it.
pub(super) fn messages(exchange: &Exchange) -> Vec<String> {
    if exchange.opens_stream {
        return vec![tools_changed(None)];
    }
    let calls = exchange.calls.iter().filter(|call| call.hears_of_tools);
    calls.map(|call| tools_changed(Some(call))).collect()
}
