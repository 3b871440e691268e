//! What verification finds.

use std::fmt;

use crate::error::Damage;

/// Most problems that are listed one by one; more are only counted.
const MOST: usize = 10_000;

/// Something in the log that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The record, if it is about one.
    pub index: Option<u64>,
    /// The file, relative to the log's folder.
    pub file: String,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    /// Without the file.
    pub(crate) fn in_words(&self) -> String {
        match self.index {
            Some(index) => format!("record {index}: {}", self.what),
            None => self.what.clone(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.in_words())
    }
}

/// A bounded list of problems.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
    more: u64,
}

impl Problems {
    pub(crate) fn record(&mut self, index: u64, file: String, what: &str) {
        self.add(Problem {
            index: Some(index),
            file,
            what: what.to_owned(),
        });
    }

    pub(crate) fn file(&mut self, damage: Damage) {
        self.add(Problem {
            index: None,
            file: damage.file,
            what: damage.what,
        });
    }

    fn add(&mut self, problem: Problem) {
        if self.list.len() < MOST {
            self.list.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// How many are not in the list.
    pub(crate) fn more(&self) -> u64 {
        self.more
    }

    pub(crate) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}
