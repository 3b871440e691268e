//! The words that a task has seen, in order, so that a phrase is found by its rarest word.

use std::collections::HashMap;

use crate::text::LONGEST_WORD;

/// An index over texts, each from one numbered source. What does not fit is left out, and
/// [`WordIndex::is_full`] says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct WordIndex {
    ids: HashMap<Box<str>, u32>,
    /// Where each word stands in `sequence`; the word with number n is at n - 1.
    places: Vec<Vec<u32>>,
    /// The numbers of the words; 0 between texts and for words that match nothing.
    sequence: Vec<u32>,
    /// Where each text starts in `sequence`, and its source.
    starts: Vec<(u32, u32)>,
    bytes: usize,
    full: bool,
}

impl WordIndex {
    /// Adds one text, unless it would make the index larger than `limit` bytes: then false.
    pub(crate) fn add(&mut self, words: &[String], source: u32, limit: usize) -> bool {
        let cost = 24
            + words
                .iter()
                .map(|word| 8 + word.len().min(LONGEST_WORD))
                .sum::<usize>();
        if self.bytes + cost > limit {
            self.full = true;
            return false;
        }
        self.bytes += cost;
        let Ok(start) = u32::try_from(self.sequence.len()) else {
            self.full = true;
            return false;
        };
        self.starts.push((start, source));
        for word in words {
            let number = if word.len() > LONGEST_WORD {
                0
            } else {
                self.number(word)
            };
            if number > 0
                && let Ok(at) = u32::try_from(self.sequence.len())
            {
                self.places[number as usize - 1].push(at);
            }
            self.sequence.push(number);
        }
        self.sequence.push(0);
        true
    }

    fn number(&mut self, word: &str) -> u32 {
        if let Some(number) = self.ids.get(word) {
            return *number;
        }
        self.places.push(Vec::new());
        // Far fewer words fit into the limit than numbers into 32 bits.
        let number = u32::try_from(self.places.len()).unwrap_or(0);
        self.ids.insert(word.into(), number);
        number
    }

    /// Whether something did not fit.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// The sources of the first few texts in which these words stand one after another.
    pub(crate) fn find(&self, words: &[String], most: usize) -> Vec<u32> {
        let mut sources = Vec::new();
        let numbers: Option<Vec<u32>> = words
            .iter()
            .map(|word| self.ids.get(word.as_str()).copied())
            .collect();
        let Some(numbers) = numbers else {
            return sources;
        };
        let rarest = numbers
            .iter()
            .enumerate()
            .min_by_key(|(_, number)| self.places[**number as usize - 1].len());
        let Some((offset, rarest)) = rarest else {
            return sources;
        };
        for place in &self.places[*rarest as usize - 1] {
            let Some(start) = (*place as usize).checked_sub(offset) else {
                continue;
            };
            if self.sequence.get(start..start + numbers.len()) == Some(&numbers[..]) {
                let source = self.source_at(start);
                if !sources.contains(&source) {
                    sources.push(source);
                    if sources.len() >= most {
                        break;
                    }
                }
            }
        }
        sources
    }

    fn source_at(&self, place: usize) -> u32 {
        let after = self
            .starts
            .partition_point(|(start, _)| *start as usize <= place);
        self.starts
            .get(after.saturating_sub(1))
            .map_or(0, |(_, source)| *source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::words;
    use proptest::prelude::*;

    const ROOMY: usize = 1 << 20;

    #[test]
    fn phrases_do_not_reach_over_the_end_of_a_text() {
        let mut index = WordIndex::default();
        index.add(&words("alpha beta"), 7, ROOMY);
        index.add(&words("gamma alpha"), 8, ROOMY);
        assert_eq!(index.find(&words("beta"), 3), [7]);
        assert_eq!(index.find(&words("alpha"), 3), [7, 8]);
        assert!(index.find(&words("beta gamma"), 3).is_empty());
        assert!(index.find(&[], 3).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let mut index = WordIndex::default();
        index.add(&words("alpha"), 1, 64);
        assert!(!index.is_full());
        index.add(&words("beta gamma delta"), 2, 64);
        assert!(index.is_full());
        assert!(index.find(&words("beta"), 1).is_empty());
    }

    proptest! {
        #[test]
        fn finds_exactly_what_stands_there(text in "[ab ]{0,20}", phrase in "[ab]{1,2}( [ab]{1,2}){0,2}") {
            let mut index = WordIndex::default();
            index.add(&words(&text), 1, ROOMY);
            let (all, some) = (words(&text), words(&phrase));
            let stands = all.windows(some.len()).any(|window| window == &some[..]);
            prop_assert_eq!(!index.find(&some, 1).is_empty(), stands);
        }
    }
}
