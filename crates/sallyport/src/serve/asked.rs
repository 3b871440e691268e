//! What other agents gave out is kept in the store: one writer takes over what was noted, as much as there
//! is at once, so that a conversation never waits for the disk.

use std::sync::Arc;

use a2a::kept::{Change, Given, Keeper, Kept};
use a2a::owned::{Begun, Kind};
use a2a::push::Registration;
use a2a::push::hook::Hook;
use gateway::caller::Principal;
use gateway::front::BoxFuture;
use jiff::Timestamp;
use model::Proof;
use serde_json::Value;
use store::{AskedChange, GivenId, Store, StoreError, Webhook};
use tokio::sync::{mpsc, oneshot};

/// Most changes that wait to be written; what comes beyond is not kept over a restart.
const WAITING: usize = 8_192;
/// Most changes that are written at once.
const AT_ONCE: usize = 512;

enum Note {
    Change(Box<AskedChange>),
    /// Tells when everything before is written.
    Flush(oneshot::Sender<bool>),
}

/// Writes what is noted.
pub(super) struct Asked(mpsc::Sender<Note>);

impl Asked {
    /// Begins to write into the store, until it is dropped.
    pub(super) fn start(store: Store) -> Arc<Self> {
        let (notes, noted) = mpsc::channel(WAITING);
        tokio::spawn(write(store, noted));
        Arc::new(Self(notes))
    }
}

async fn write(store: Store, mut noted: mpsc::Receiver<Note>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while noted.recv_many(&mut batch, AT_ONCE).await > 0 {
        let (mut changes, mut waiting) = (Vec::with_capacity(batch.len()), Vec::new());
        for note in batch.drain(..) {
            match note {
                Note::Change(change) => changes.push(*change),
                Note::Flush(told) => waiting.push(told),
            }
        }
        let written = store.keep_asked(&changes, Timestamp::now()).await;
        if let Err(error) = &written {
            tracing::warn!(
                %error,
                changes = changes.len(),
                "what other agents gave out is not kept over a restart"
            );
        }
        for told in waiting {
            let _ = told.send(written.is_ok());
        }
    }
}

impl Keeper for Asked {
    fn note(&self, change: Change) {
        if self
            .0
            .try_send(Note::Change(Box::new(stored(change))))
            .is_err()
        {
            tracing::warn!("too much waits to be written: something is not kept over a restart");
        }
    }

    fn flush(&self) -> BoxFuture<'_, bool> {
        Box::pin(async {
            let (tell, told) = oneshot::channel();
            self.0.send(Note::Flush(tell)).await.is_ok() && told.await.unwrap_or(false)
        })
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Task => "task",
        Kind::Context => "context",
    }
}

fn stored(change: Change) -> AskedChange {
    match change {
        Change::Given(given) => AskedChange::Given(GivenId {
            task: given.to.task,
            instance: given.to.instance,
            server: given.at,
            kind: word(given.kind).to_owned(),
            id: given.id,
            skill: given.begun.skill,
            sub_task: given.begun.sub_task,
        }),
        Change::Forgotten(of, server, kind, id) => AskedChange::Forgotten {
            task: of.task,
            instance: of.instance,
            server,
            kind: word(kind).to_owned(),
            id,
        },
        Change::Registered(it) => AskedChange::Registered(Webhook {
            address: it.address,
            token: it.token,
            task: it.principal.task,
            instance: it.principal.instance,
            proof: it.proof.as_str().to_owned(),
            server: it.server,
            asked_task: it.task,
            skill: it.begun.skill,
            sub_task: it.begun.sub_task,
            hook: it.hook.shown(a2a::method::Dialect::V1, "").to_string(),
        }),
        Change::Unregistered(address) => AskedChange::Unregistered(address),
    }
}

/// What the store has of tasks that are open.
///
/// # Errors
/// When the store cannot be read. What cannot be understood is left out, and said.
pub(super) async fn kept(store: &Store) -> Result<Kept, StoreError> {
    let now = Timestamp::now();
    let given = store.given_ids(now).await?.into_iter().map(|it| Given {
        to: Principal {
            instance: it.instance,
            task: it.task,
        },
        at: it.server,
        kind: match it.kind.as_str() {
            "context" => Kind::Context,
            _ => Kind::Task,
        },
        id: it.id,
        begun: Begun {
            skill: it.skill,
            sub_task: it.sub_task,
        },
    });
    let given = given.collect();
    let webhooks = store.webhooks(now).await?;
    let registered = webhooks.into_iter().filter_map(registration).collect();
    Ok(Kept { given, registered })
}

fn registration(it: Webhook) -> Option<Registration> {
    let read = || {
        let Value::Object(mut hook) = serde_json::from_str(&it.hook).ok()? else {
            return None;
        };
        let hook = Hook::read(a2a::method::Dialect::V1, "hook", &mut hook).ok()?;
        Some((hook, Proof::parse(&it.proof)?))
    };
    let Some((hook, proof)) = read() else {
        tracing::warn!(task = %it.task, "a webhook in the store cannot be understood");
        return None;
    };
    Some(Registration {
        address: it.address,
        token: it.token,
        principal: Principal {
            instance: it.instance,
            task: it.task,
        },
        proof,
        server: it.server,
        task: it.asked_task,
        begun: Begun {
            skill: it.skill,
            sub_task: it.sub_task,
        },
        hook,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_the_same_after_it_was_stored() {
        let mut hook = serde_json::json!({
            "id": "a", "url": "https://h/x", "token": "t",
            "authentication": { "scheme": "Bearer", "credentials": "c" },
        });
        let hook = hook.as_object_mut().unwrap();
        let given = Registration {
            address: [1; 32],
            token: [2; 32],
            principal: Principal {
                instance: model::InstanceId::new(Timestamp::UNIX_EPOCH, [1; 10]),
                task: model::TaskId::new(Timestamp::UNIX_EPOCH, [2; 10]),
            },
            proof: Proof::Dpop,
            server: model::ServerName::parse("desk").unwrap(),
            task: Some("t".to_owned()),
            begun: Begun {
                skill: "refund".to_owned(),
                sub_task: None,
            },
            hook: Hook::read(a2a::method::Dialect::V1, "hook", hook).unwrap(),
        };
        let AskedChange::Registered(kept) = stored(Change::Registered(Box::new(given.clone())))
        else {
            panic!("it is a registration");
        };
        assert!(registration(kept).unwrap() == given);
    }
}
