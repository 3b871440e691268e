//! Finding records. What a record says is the caller's business; that it is JSON is the only
//! assumption, and one that is not is never found.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::Reader;
use crate::error::AuditError;
use crate::tile::WIDTH;

impl Reader {
    /// The records of a range that fulfil a condition, in order.
    pub fn query<'a>(
        &'a self,
        range: Range<u64>,
        mut wanted: impl FnMut(u64, &Value) -> bool + 'a,
    ) -> impl Iterator<Item = Result<(u64, Bytes), AuditError>> + 'a {
        self.entries(range).filter(move |entry| match entry {
            Ok((index, record)) => matches(*index, record, &mut wanted),
            Err(_) => true,
        })
    }

    /// The newest `limit` records of a range that fulfil a condition, in order. Reads from the end and
    /// stops when it has them.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn query_last(
        &self,
        range: Range<u64>,
        limit: usize,
        mut wanted: impl FnMut(u64, &Value) -> bool,
    ) -> Result<Vec<(u64, Bytes)>, AuditError> {
        let mut found: VecDeque<(u64, Bytes)> = VecDeque::new();
        let mut end = range.end.min(self.size());
        while end > range.start && found.len() < limit {
            // A bundle at a time.
            let start = ((end - 1) / WIDTH * WIDTH).max(range.start);
            let mut part = Vec::new();
            for entry in self.query(start..end, &mut wanted) {
                part.push(entry?);
            }
            for entry in part.into_iter().rev().take(limit - found.len()) {
                found.push_front(entry);
            }
            end = start;
        }
        Ok(found.into())
    }
}

fn matches(index: u64, record: &[u8], wanted: &mut impl FnMut(u64, &Value) -> bool) -> bool {
    serde_json::from_slice(record).is_ok_and(|value| wanted(index, &value))
}
