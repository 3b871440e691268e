//! One session of an agent: it authenticates, gets a role of its own, and every statement in it is decided.

mod client;
mod deciding;
mod entry;
mod expected;
mod named;
mod relay;
mod rows;
mod steering;
mod upstream;

use std::sync::Arc;

use crate::door::Endpoint;
use crate::listen::Greeted;
use crate::role::Role;

/// Serves a session to its end, and drops its role.
pub(crate) async fn run(endpoint: &Arc<Endpoint>, greeted: Greeted) {
    let stopping = endpoint.stopping.clone();
    let entered = tokio::select! {
        entered = entry::enter(endpoint, greeted) => entered,
        () = stopping.cancelled() => return,
    };
    let Some((client, admitted)) = entered else {
        return;
    };
    let (database, role) = (Arc::clone(&admitted.database), admitted.role.clone());
    relay::relay(endpoint, client, admitted).await;
    drop_role(&database, &role).await;
}

/// Drops a role; what does not succeed is left to the sweep.
async fn drop_role(database: &crate::upstream::Database, role: &str) {
    if let Err(error) = Role::drop(database, role).await {
        tracing::warn!(server = %database.name, role, %error, "the role of a session is dropped later");
    }
}
