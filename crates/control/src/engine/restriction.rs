//! Changes that take something away. They hold before anything is written, and what could not be
//! written is owed: kept in memory, tried again each second, and shown in the status.

use std::collections::VecDeque;

use jiff::Timestamp;
use model::approval::Decided;
use model::record::Record;
use model::{
    AgentName, ApprovalId, ApprovalStatus, InstanceId, Lifecycle, ServerName, TaskId, TaskStatus,
};
use parking_lot::Mutex;

use super::Engine;
use store::{Held, RaisedLevel, StoreError};

/// Most restrictions that are owed at once. Beyond it the log and the store have been gone for a
/// long time; what is dropped then goes to the process's own log in full.
const MOST_OWED: usize = 10_000;

/// The answer to a restriction: what was restricted, and what is still owed.
#[derive(Debug, Clone, PartialEq)]
pub struct Restricted<T> {
    /// What was restricted, as it is now.
    pub now: T,
    /// What could not be written yet, in words.
    pub warnings: Vec<String>,
}

/// What was taken away, as the store keeps it.
#[derive(Debug, Clone)]
pub(super) enum Restriction {
    /// An agent was quarantined or retired.
    Lifecycle(AgentName, Lifecycle),
    /// An instance was disabled.
    Instance(InstanceId),
    /// A task ended.
    Task {
        id: TaskId,
        status: TaskStatus,
        at: Timestamp,
        because: String,
    },
    /// A token was revoked.
    Token { hash: [u8; 32], expires: Timestamp },
    /// A server was disabled.
    Server(ServerName),
    /// A person refused something, or took back what they had allowed.
    Approval {
        id: ApprovalId,
        status: ApprovalStatus,
        decided: Decided,
    },
    /// More of what an agent or a task does needs a person.
    Level(RaisedLevel),
    /// Something was held back by hand.
    Hold(Held),
    /// All tokens were revoked that an agent was given up to a moment.
    TokensOf(AgentName, Timestamp),
}

/// A restriction that holds but is not written everywhere.
struct Debt {
    /// What the store still has to be told, if it could not be.
    unstored: Option<Restriction>,
    /// What the log still has to be told.
    record: Vec<u8>,
}

/// What is owed, the oldest first.
#[derive(Default)]
pub(super) struct Owed(Mutex<VecDeque<Debt>>);

impl Owed {
    /// How many restrictions are not written everywhere.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether the store has not been told of all of them.
    pub(super) fn has_unstored(&self) -> bool {
        self.0.lock().iter().any(|debt| debt.unstored.is_some())
    }

    /// Takes over records that an earlier process kept in the store.
    pub(super) fn inherit(&self, records: Vec<Vec<u8>>) {
        let debts = records.into_iter().map(|record| Debt {
            unstored: None,
            record,
        });
        self.0.lock().extend(debts);
    }

    fn push(&self, debt: Debt) {
        let mut debts = self.0.lock();
        if debts.len() < MOST_OWED {
            debts.push_back(debt);
        } else {
            let record = String::from_utf8_lossy(&debt.record).into_owned();
            tracing::error!(
                record,
                "too much is owed to the log already: this is not kept"
            );
        }
    }
}

impl Engine {
    /// Writes a restriction that holds in memory already: into the store with its record, then
    /// into the log. Returns what could not be written, in words, and whether the store says that
    /// this was the first to make it.
    pub(super) async fn write_restriction(
        &self,
        restriction: Restriction,
        record: &Record,
    ) -> (Vec<String>, bool) {
        let record = record.to_bytes();
        match self.store_restriction(&restriction, &record).await {
            Ok(false) => (Vec::new(), false),
            Ok(true) => {
                let warnings = match self.pay(&record).await {
                    Ok(()) => Vec::new(),
                    Err(why) => {
                        self.owed.push(Debt {
                            unstored: None,
                            record,
                        });
                        vec![format!(
                            "it holds, but the audit log could not be written ({why}); \
                             the record is kept and will be written as soon as it can be"
                        )]
                    }
                };
                (warnings, true)
            }
            Err(error) => {
                tracing::error!(%error, "a restriction holds, but could not be stored");
                let warning = format!(
                    "it holds while this process runs, but could not be stored ({error}); \
                     it is tried again each second"
                );
                self.owed.push(Debt {
                    unstored: Some(restriction),
                    record,
                });
                (vec![warning], true)
            }
        }
    }

    /// Records what has happened already; when the log cannot be written, as soon as it can.
    pub(crate) async fn record_or_owe(&self, record: &Record) {
        if let Err(error) = self.live().record(record.clone()).await {
            tracing::error!(%error, "a change was made, but could not be recorded yet");
            self.owed.push(Debt {
                unstored: None,
                record: record.to_bytes(),
            });
        }
    }

    /// Tries once more to write what is owed, the oldest first, until something fails again.
    pub(super) async fn pay_owed(&self) {
        loop {
            let next = {
                let debts = self.owed.0.lock();
                debts
                    .front()
                    .map(|debt| (debt.unstored.clone(), debt.record.clone()))
            };
            let Some((unstored, record)) = next else {
                return;
            };
            if let Some(restriction) = unstored {
                match self.store_restriction(&restriction, &record).await {
                    Ok(_) => {
                        if let Some(debt) = self.owed.0.lock().front_mut() {
                            debt.unstored = None;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a restriction still cannot be stored");
                        return;
                    }
                }
            }
            if let Err(why) = self.pay(&record).await {
                tracing::warn!(why, "a restriction still cannot be recorded");
                return;
            }
            self.owed.0.lock().pop_front();
        }
    }

    /// Writes an owed record into the log and settles it in the store.
    async fn pay(&self, record: &[u8]) -> Result<(), String> {
        let written = self.live().audit().append(record.to_vec()).await;
        written.map_err(|error| error.to_string())?;
        // Unsettled, it would only be written a second time at the next start.
        if let Err(error) = self.store.settle(record).await {
            tracing::warn!(%error, "a record was written but could not be settled");
        }
        Ok(())
    }

    async fn store_restriction(
        &self,
        restriction: &Restriction,
        record: &[u8],
    ) -> Result<bool, StoreError> {
        let owed = Some(record);
        match restriction {
            Restriction::Lifecycle(agent, next) => {
                self.store.set_lifecycle(agent, *next, owed).await
            }
            Restriction::Instance(id) => self.store.disable_instance(id, owed).await,
            Restriction::Task {
                id,
                status,
                at,
                because,
            } => self.store.end_task(id, *status, *at, because, owed).await,
            Restriction::Token { hash, expires } => {
                self.store.revoke_token(hash, *expires, owed).await
            }
            Restriction::Server(name) => self.store.set_server_enabled(name, false, owed).await,
            Restriction::Approval {
                id,
                status,
                decided,
            } => self.store.end_approval(id, *status, decided, owed).await,
            Restriction::Level(raised) => {
                self.store.set_approval_level(raised, owed).await?;
                Ok(true)
            }
            Restriction::Hold(held) => self.store.hold(held, owed).await,
            Restriction::TokensOf(agent, at) => self.store.set_token_floor(agent, *at, owed).await,
        }
    }
}
