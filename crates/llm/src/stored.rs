//! Which answers that a provider keeps belong to which task. All agents share the provider's key, so
//! without this one could go on with the conversation of another.

use model::{ServerName, TaskId};

/// Most answers that are remembered. An older one cannot be gone on with.
const MOST: u64 = 50_000;
/// Longest id, in bytes.
const ID_BYTES: usize = 256;

/// The answers that were given, by task.
pub(crate) struct Stored {
    /// With the tokens that going on reads again.
    answers: moka::sync::Cache<(TaskId, ServerName, String), u64>,
}

impl Default for Stored {
    fn default() -> Self {
        Self {
            answers: moka::sync::Cache::new(MOST),
        }
    }
}

impl Stored {
    /// Remembers an answer of a task, with the tokens of the whole conversation so far.
    pub(crate) fn keep(&self, task: TaskId, server: &ServerName, id: &str, tokens: u64) {
        if (1..=ID_BYTES).contains(&id.len()) {
            let key = (task, server.clone(), id.to_owned());
            self.answers.insert(key, tokens);
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

    #[test]
    fn an_answer_is_its_tasks_alone() {
        let stored = Stored::default();
        let task = |n| TaskId::new(jiff::Timestamp::UNIX_EPOCH, [n; 10]);
        let server = |name| ServerName::parse(name).unwrap();
        stored.keep(task(1), &server("ai"), "resp_1", 7);
        assert_eq!(stored.find(task(1), &server("ai"), "resp_1"), Some(7));
        assert_eq!(stored.find(task(2), &server("ai"), "resp_1"), None);
        assert_eq!(stored.find(task(1), &server("other"), "resp_1"), None);
        let long = "x".repeat(ID_BYTES + 1);
        stored.keep(task(1), &server("ai"), &long, 7);
        assert_eq!(stored.find(task(1), &server("ai"), &long), None);
    }
}
