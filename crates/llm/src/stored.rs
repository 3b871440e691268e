//! Which answers that a provider keeps belong to which task. All agents share the provider's key, so
//! without this one could go on with the conversation of another.

use std::sync::{Arc, OnceLock};

use model::{ServerName, TaskId};

/// Most answers that are remembered. An older one cannot be gone on with.
pub const MOST: u64 = 50_000;
/// Longest id, in bytes.
const ID_BYTES: usize = 256;

/// An answer that a provider keeps, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The task that it was given to.
    pub task: TaskId,
    /// The server whose answer it is.
    pub server: ServerName,
    /// The provider's id of it.
    pub id: String,
    /// The tokens that going on with it reads again: those of the whole conversation so far.
    pub tokens: u64,
}

/// Keeps them over a restart.
pub trait Ledger: Send + Sync {
    /// Takes in an answer that is new, or has other tokens than before. Never waits.
    fn note(&self, answer: &Answer);
}

/// The answers that were given, by task.
pub(crate) struct Stored {
    /// With the tokens that going on reads again.
    answers: moka::sync::Cache<(TaskId, ServerName, String), u64>,
    ledger: OnceLock<Arc<dyn Ledger>>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            answers: moka::sync::Cache::new(MOST),
            ledger: OnceLock::new(),
        }
    }
}

impl Stored {
    /// Goes on with what was kept, and keeps what comes.
    pub(crate) fn remember(&self, kept: Vec<Answer>, ledger: Arc<dyn Ledger>) {
        for answer in kept {
            let key = (answer.task, answer.server, answer.id);
            self.answers.insert(key, answer.tokens);
        }
        // The first one stays.
        let _ = self.ledger.set(ledger);
    }

    /// Remembers an answer of a task, with the tokens of the whole conversation so far.
    pub(crate) fn keep(&self, task: TaskId, server: &ServerName, id: &str, tokens: u64) {
        if !(1..=ID_BYTES).contains(&id.len()) {
            return;
        }
        let key = (task, server.clone(), id.to_owned());
        if self.answers.get(&key) == Some(tokens) {
            return;
        }
        self.answers.insert(key, tokens);
        if let Some(ledger) = self.ledger.get() {
            ledger.note(&Answer {
                task,
                server: server.clone(),
                id: id.to_owned(),
                tokens,
            });
        }
    }

    /// The tokens of an answer that was given to this task; `None` when it was not.
    pub(crate) fn find(&self, task: TaskId, server: &ServerName, id: &str) -> Option<u64> {
        if id.len() > ID_BYTES {
            return None;
        }
        self.answers.get(&(task, server.clone(), id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    fn task(n: u8) -> TaskId {
        TaskId::new(jiff::Timestamp::UNIX_EPOCH, [n; 10])
    }

    fn server(name: &str) -> ServerName {
        ServerName::parse(name).unwrap()
    }

    #[test]
    fn an_answer_is_its_tasks_alone() {
        let stored = Stored::default();
        stored.keep(task(1), &server("ai"), "resp_1", 7);
        assert_eq!(stored.find(task(1), &server("ai"), "resp_1"), Some(7));
        assert_eq!(stored.find(task(2), &server("ai"), "resp_1"), None);
        assert_eq!(stored.find(task(1), &server("other"), "resp_1"), None);
        let long = "x".repeat(ID_BYTES + 1);
        stored.keep(task(1), &server("ai"), &long, 7);
        assert_eq!(stored.find(task(1), &server("ai"), &long), None);
    }

    struct Noted(Mutex<Vec<Answer>>);

    impl Ledger for Noted {
        fn note(&self, answer: &Answer) {
            self.0.lock().push(answer.clone());
        }
    }

    #[test]
    fn what_was_kept_is_known_after_a_restart_and_noted_when_it_changes() {
        let noted = Arc::new(Noted(Mutex::default()));
        let stored = Stored::default();
        stored.remember(Vec::new(), noted.clone());
        for tokens in [0, 0, 9, 9] {
            stored.keep(task(1), &server("ai"), "resp_1", tokens);
        }
        let kept = noted.0.lock().clone();
        assert_eq!(kept.iter().map(|it| it.tokens).collect::<Vec<_>>(), [0, 9]);
        let again = Stored::default();
        again.remember(kept, noted);
        assert_eq!(again.find(task(1), &server("ai"), "resp_1"), Some(9));
        assert_eq!(again.find(task(2), &server("ai"), "resp_1"), None);
    }
}
