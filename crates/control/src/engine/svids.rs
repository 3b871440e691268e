//! SVIDs: certificates for the instances of agents.

use std::sync::Arc;

use identity::svid::{Authority, Issued};
use jiff::Timestamp;
use model::record::Record;
use model::{AgentName, InstanceId, Lifecycle};

use super::{Actor, Engine, EngineError, to_the_end};

impl Engine {
    /// The certification authority of the trust domain.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// Issues an SVID to an instance, for the key of a certification request in PEM (RFC 2986). It is on record
    /// before anybody has it.
    ///
    /// # Errors
    /// [`EngineError`] when the request cannot be taken, the agent is not active, the instance is disabled, or
    /// the log cannot be written.
    pub async fn issue_svid(
        self: &Arc<Self>,
        agent: AgentName,
        instance: InstanceId,
        request: String,
    ) -> Result<Issued, EngineError> {
        let engine = Arc::clone(self);
        to_the_end(async move {
            // Whoever stops an agent has this alone, so nothing is issued once that has returned.
            let _shared = engine.changes.read().await;
            engine.may_give()?;
            let live = engine.live();
            let state = live.world().agent(&agent).map(|facts| facts.lifecycle);
            if state != Some(Lifecycle::Active) || live.is_disabled(&instance) {
                return Err(EngineError::Forbidden {
                    reason: "the agent is not active, or the instance was disabled".to_owned(),
                    remedy: "ask an operator to release the agent, or enrol a new instance"
                        .to_owned(),
                });
            }
            let now = Timestamp::now();
            let issued = engine
                .authority
                .issue(&request, &agent, &instance, now)
                .map_err(EngineError::invalid)?;
            let svid = &issued.svid;
            let actor = Actor::Instance {
                id: instance,
                agent: agent.clone(),
            };
            let record =
                Record::change(now, actor.to_string(), "svid.issued", svid.serial.as_str())
                    .with("agent", agent.as_str())
                    .with("thumbprint", svid.thumbprint.to_string())
                    .with("expires_at", svid.expires_at.to_string());
            engine.record(record).await?;
            Ok(issued)
        })
        .await
    }
}

/// The record of an authority that was made.
pub(super) fn made(actor: &Actor, now: Timestamp, authority: &Authority) -> Record {
    let subject = authority.trust_domain().to_string();
    let certificates = authority.bundle().certificates().len();
    Record::change(now, actor.to_string(), "authority.made", subject)
        .with("certificates", certificates)
}
