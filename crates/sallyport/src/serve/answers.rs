//! Which answers of models belong to which task is kept in the store, by one writer that takes over what was
//! noted: no answer waits for the disk.

use std::sync::Arc;

use jiff::Timestamp;
use llm::stored::{Answer, Ledger, MOST};
use store::{Store, StoreError, StoredAnswer};
use tokio::sync::mpsc;

/// Most answers that wait to be written; what comes beyond cannot be gone on with after a restart.
const WAITING: usize = 8_192;
/// Most answers that are written at once.
const AT_ONCE: usize = 512;

/// Writes what is noted.
pub(super) struct Answers(mpsc::Sender<StoredAnswer>);

impl Answers {
    /// Begins to write into the store, until it is dropped.
    pub(super) fn start(store: Store) -> Arc<Self> {
        let (notes, noted) = mpsc::channel(WAITING);
        tokio::spawn(write(store, noted));
        Arc::new(Self(notes))
    }
}

async fn write(store: Store, mut noted: mpsc::Receiver<StoredAnswer>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    let most = u32::try_from(MOST).unwrap_or(u32::MAX);
    while noted.recv_many(&mut batch, AT_ONCE).await > 0 {
        if let Err(error) = store.keep_answers(&batch, most, Timestamp::now()).await {
            tracing::warn!(
                %error,
                answers = batch.len(),
                "some answers of models cannot be gone on with after a restart"
            );
        }
        batch.clear();
    }
}

impl Ledger for Answers {
    fn note(&self, answer: &Answer) {
        let answer = StoredAnswer {
            task: answer.task,
            server: answer.server.clone(),
            id: answer.id.clone(),
            tokens: answer.tokens,
        };
        if self.0.try_send(answer).is_err() {
            tracing::warn!("too much waits to be written: an answer cannot be gone on with later");
        }
    }
}

/// The answers that belong to tasks that are open.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn kept(store: &Store) -> Result<Vec<Answer>, StoreError> {
    let kept = store.stored_answers(Timestamp::now()).await?;
    let kept = kept.into_iter().map(|it| Answer {
        task: it.task,
        server: it.server,
        id: it.id,
        tokens: it.tokens,
    });
    Ok(kept.collect())
}
