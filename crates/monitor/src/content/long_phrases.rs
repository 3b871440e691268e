//! Long phrases: some ten thousand. They stand sorted in one text. Where the gate has seen the beginning of
//! some, those that go on like the text are found by halving.
//!
//! An automaton over whole phrases would find them too, but takes tens of megabytes and a tenth of a second to
//! make, each time the process starts.

use std::collections::{BTreeMap, HashSet};

use super::gate::{BEGINNING, Builder, beginning};
use super::phrase::Disguise;
use crate::text::squeeze_phrase;

/// How much of a phrase is turned into a disguise to see how it begins there, in characters. Where that is not
/// enough, because hardly anything is left of it squeezed, the whole phrase is.
const TURNED: usize = 24;

/// Sorted phrases, squeezed, and what each of them means.
#[derive(Debug)]
pub(super) struct LongPhrases<M> {
    /// All phrases, one after the other.
    text: Box<str>,
    phrases: Vec<Phrase>,
    /// For each phrase the numbers of its meanings, in the order in which they were given.
    means: Vec<u32>,
    meanings: Vec<M>,
    /// For each beginning that is looked for, in order, the phrases that begin so.
    ranges: Vec<(u32, u32)>,
    /// The length of the longest phrase, in bytes.
    longest: usize,
}

/// One phrase.
#[derive(Debug, Clone, Copy)]
struct Phrase {
    /// Where it begins in the text of all, and where the next one does.
    at: u32,
    end: u32,
    /// The longest other phrase that this one begins with; its own number when there is none.
    within: u32,
    /// Where its meanings begin; those of the next phrase follow.
    means: u32,
}

/// Phrases as they are given, one after the other in one text.
pub(super) struct Collected<M> {
    text: String,
    /// Where each begins and ends, and the number of its meaning.
    given: Vec<(u32, u32, u32)>,
    meanings: Vec<M>,
    known: BTreeMap<M, u32>,
}

impl<M: Copy + Ord> Collected<M> {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            given: Vec::new(),
            meanings: Vec::new(),
            known: BTreeMap::new(),
        }
    }

    /// Adds a phrase, squeezed.
    pub(super) fn push(&mut self, phrase: &str, meaning: M) {
        let meanings = &mut self.meanings;
        let means = *self.known.entry(meaning).or_insert_with(|| {
            meanings.push(meaning);
            number(meanings.len() - 1)
        });
        let at = number(self.text.len());
        self.text.push_str(phrase);
        self.given.push((at, number(self.text.len()), means));
    }

    /// Sorts them. [`LongPhrases::each`] is told of beginnings by their numbers in these.
    pub(super) fn sorted<'a>(self, beginnings: impl Iterator<Item = &'a str>) -> LongPhrases<M> {
        let Self {
            text: all,
            mut given,
            meanings,
            ..
        } = self;
        let text_of = |(at, end, _): (u32, u32, u32)| &all[at as usize..end as usize];
        // The order of those that are alike stays.
        given.sort_by(|one, other| text_of(*one).cmp(text_of(*other)));
        let mut text = String::with_capacity(all.len());
        let mut phrases: Vec<Phrase> = Vec::new();
        let mut means = Vec::with_capacity(given.len());
        for one in given {
            let phrase = text_of(one);
            let last = phrases.last();
            if last.is_none_or(|last| text[last.at as usize..] != *phrase) {
                let at = number(text.len());
                text.push_str(phrase);
                let this = number(phrases.len());
                let mut within = phrases.len().checked_sub(1).map(number);
                // What the one before begins with, longest first, as far as this one begins so too.
                while let Some(other) = within {
                    let of = phrases[other as usize];
                    if phrase.starts_with(&text[of.at as usize..of.end as usize]) {
                        break;
                    }
                    within = (of.within != other).then_some(of.within);
                }
                phrases.push(Phrase {
                    at,
                    end: number(text.len()),
                    within: within.unwrap_or(this),
                    means: number(means.len()),
                });
            }
            means.push(one.2);
        }
        let mut of = LongPhrases {
            text: text.into_boxed_str(),
            phrases,
            means,
            meanings,
            ranges: Vec::new(),
            longest: 0,
        };
        let lengths = of.phrases.iter().map(|phrase| of.text_of(*phrase).len());
        of.longest = lengths.max().unwrap_or(0);
        of.ranges = beginnings.map(|beginning| of.range(beginning)).collect();
        of
    }
}

impl<M: Copy + Ord> LongPhrases<M> {
    /// The phrases that begin so.
    fn range(&self, beginning: &str) -> (u32, u32) {
        let from = self
            .phrases
            .partition_point(|phrase| self.text_of(*phrase) < beginning);
        let many = self.phrases[from..]
            .partition_point(|phrase| self.text_of(*phrase).starts_with(beginning));
        (number(from), number(from + many))
    }

    fn text_of(&self, phrase: Phrase) -> &str {
        &self.text[phrase.at as usize..phrase.end as usize]
    }

    /// The length of the longest phrase, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// The phrases with this beginning that a text begins with, without their first `known` bytes.
    fn going_on(&self, beginning: usize, known: usize, text: &[u8]) -> impl Iterator<Item = u32> {
        let rest_of = move |phrase: Phrase| &self.text_of(phrase).as_bytes()[known..];
        let (from, to) = self.ranges[beginning];
        let among = &self.phrases[from as usize..to as usize];
        // The last one that does not come behind the text. Whatever the text begins with, it begins with too.
        let upto = among.partition_point(|phrase| rest_of(*phrase) <= text);
        let last = upto.checked_sub(1).map(|last| from + number(last));
        std::iter::successors(last, |at| {
            let within = self.phrases[*at as usize].within;
            (within != *at).then_some(within)
        })
        .filter(move |at| text.starts_with(rest_of(self.phrases[*at as usize])))
    }

    /// Whether a text that comes after a beginning of ASCII goes on like a phrase with it.
    pub(super) fn any_goes_on(&self, beginning: usize, text: &[u8]) -> bool {
        self.going_on(beginning, BEGINNING, text).next().is_some()
    }

    /// Tells of each phrase in a text, with where it begins and ends: in the order in which they end, and of
    /// those that end together the longest first. `seen` are places where phrases can begin, with the numbers
    /// of the beginnings that stand there, the shortest first.
    pub(super) fn each(
        &self,
        text: &str,
        mut seen: Vec<(usize, usize)>,
        mut found: impl FnMut(usize, usize, M),
    ) {
        seen.sort_by_key(|(start, _)| *start);
        // All that begin like a longer beginning begin like the shorter one too.
        seen.dedup_by_key(|(start, _)| *start);
        let mut hits: Vec<(usize, usize, u32)> = Vec::new();
        for (start, beginning) in seen {
            for at in self.going_on(beginning, 0, &text.as_bytes()[start..]) {
                let length = self.text_of(self.phrases[at as usize]).len();
                hits.push((start + length, start, at));
            }
        }
        hits.sort_unstable();
        for (end, start, at) in hits {
            let from = self.phrases[at as usize].means as usize;
            let next = self.phrases.get(at as usize + 1);
            let to = next.map_or(self.means.len(), |next| next.means as usize);
            for meaning in &self.means[from..to] {
                found(start, end, self.meanings[*meaning as usize]);
            }
        }
    }
}

/// Tells the gate how long phrases begin. Many begin alike, and each beginning is turned once.
#[derive(Default)]
pub(super) struct LongBeginnings {
    heads: HashSet<String>,
    tails: HashSet<String>,
}

impl LongBeginnings {
    /// Tells how a phrase begins, in all disguises.
    pub(super) fn add(&mut self, phrase: &str, gate: &mut Builder) {
        let to = phrase.char_indices().nth(TURNED).map(|(at, _)| at);
        let head = &phrase[..to.unwrap_or(phrase.len())];
        if !self.heads.contains(head) {
            let mut enough = true;
            for disguise in [Disguise::None, Disguise::Rot13, Disguise::Atbash] {
                enough &= tell(head, phrase, disguise, gate);
            }
            if enough {
                self.heads.insert(head.to_owned());
            }
        }
        let from = phrase.char_indices().rev().nth(TURNED).map(|(at, _)| at);
        let tail = &phrase[from.unwrap_or(0)..];
        if !self.tails.contains(tail) && tell(tail, phrase, Disguise::Reversed, gate) {
            self.tails.insert(tail.to_owned());
        }
    }
}

/// Tells the gate how a phrase begins in a disguise. Whether the part of it that is turned says enough: that
/// is so for all phrases with this part.
fn tell(part: &str, phrase: &str, disguise: Disguise, gate: &mut Builder) -> bool {
    let begins = squeeze_phrase(&disguise.turn(part));
    // What stands beside the cut is not read as it is in the whole phrase.
    let enough = beginning(&begins).len() + 4 < begins.len();
    if enough || part.len() == phrase.len() {
        gate.beginning(beginning(&begins), disguise);
    } else {
        let whole = squeeze_phrase(&disguise.turn(phrase));
        gate.beginning(beginning(&whole), disguise);
    }
    enough
}

/// A place among phrases. Rules are limited far below what does not fit.
fn number(place: usize) -> u32 {
    u32::try_from(place).expect("files of rules are limited to far less than 4 GiB of phrases")
}

#[cfg(test)]
mod tests {
    use aho_corasick::{AhoCorasick, MatchKind};
    use proptest::prelude::*;

    use super::*;

    /// Every place at which a beginning stands, as the gate sees it.
    fn seen(text: &str, beginnings: &[String]) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        for (number, beginning) in beginnings.iter().enumerate() {
            let places = text.char_indices().map(|(at, _)| at);
            all.extend(
                places
                    .filter(|at| text[*at..].starts_with(beginning.as_str()))
                    .map(|at| (at, number, at + beginning.len())),
            );
        }
        all.sort_by_key(|(at, _, end)| (*end, *at));
        all.into_iter()
            .map(|(at, number, _)| (at, number))
            .collect()
    }

    fn by_halving(phrases: &[(String, u8)], text: &str) -> Vec<(usize, usize, u8)> {
        let mut collected = Collected::new();
        // Some beginnings are looked for that no phrase has.
        let mut beginnings = vec!["aab".to_owned(), "éé".to_owned()];
        for (phrase, meaning) in phrases {
            collected.push(phrase, *meaning);
            beginnings.push(beginning(phrase).to_owned());
        }
        beginnings.sort_unstable();
        beginnings.dedup();
        let long = collected.sorted(beginnings.iter().map(String::as_str));
        let mut all = Vec::new();
        long.each(text, seen(text, &beginnings), |start, end, meaning| {
            all.push((start, end, meaning));
        });
        all
    }

    fn by_automaton(phrases: &[(String, u8)], text: &str) -> Vec<(usize, usize, u8)> {
        let texts: Vec<_> = phrases.iter().map(|(phrase, _)| phrase).collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(texts)
            .unwrap();
        let hits = automaton.find_overlapping_iter(text);
        hits.map(|hit| (hit.start(), hit.end(), phrases[hit.pattern().as_usize()].1))
            .collect()
    }

    proptest! {
        /// It finds what an automaton over the phrases finds, in the same order.
        #[test]
        fn it_is_an_automaton(
            phrases in proptest::collection::vec(("[abé]{1,14}", any::<u8>()), 1..40),
            text in "[abé]{0,200}",
        ) {
            prop_assert_eq!(by_halving(&phrases, &text), by_automaton(&phrases, &text));
        }
    }

    #[test]
    fn one_phrase_may_begin_with_another_and_mean_two_things() {
        let phrases = [
            ("ignorepreviousinstructions", 1),
            ("ignoreprevious", 2),
            ("ignoreprevious", 3),
            ("previousinstructions", 4),
        ]
        .map(|(phrase, meaning)| (phrase.to_owned(), meaning));
        let text = "xignorepreviousinstructionsx";
        let found = by_halving(&phrases, text);
        assert_eq!(found, [(1, 15, 2), (1, 15, 3), (1, 27, 1), (7, 27, 4)]);
        assert!(by_halving(&phrases, "ignoreprevio").is_empty());
        assert!(by_halving(&[], text).is_empty());
    }
}
