//! Parts of a text that were found to be something, without overlap.

use std::collections::BTreeMap;

/// Parts of a text, by their first byte.
#[derive(Debug, Default)]
pub(super) struct Spans(BTreeMap<usize, usize>);

impl Spans {
    /// Takes a part, unless some of it is taken.
    pub(super) fn take(&mut self, start: usize, end: usize) -> bool {
        let before = self.0.range(..end).next_back();
        let free = before.is_none_or(|(_, taken)| *taken <= start);
        if free {
            self.0.insert(start, end);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_twice() {
        let mut spans = Spans::default();
        assert!(spans.take(10, 20) && spans.take(20, 30) && spans.take(0, 10));
        for (start, end) in [(5, 6), (15, 16), (9, 11), (0, 40), (29, 35)] {
            assert!(!spans.take(start, end), "{start}..{end}");
        }
        assert!(spans.take(30, 31));
    }
}
