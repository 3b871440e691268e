//! The gate: two automata that run over a text once and say which terms of rules it could hold. Of an
//! ordinary text hardly any, so that nothing else need be done with it.
//!
//! One automaton reads the folded text: short phrases, the [`anchors`] of expressions, and the keywords of
//! credentials. The other reads the squeezed text: the beginnings of long phrases, in all disguises. (A
//! third one reads texts as they are that are not plain.) For plain ASCII, which most texts are, both forms come out of a table, one byte after the other, and are
//! never written down.

use std::collections::BTreeMap;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};

use super::anchors;
use super::phrase::Disguise;
use super::rules::RuleError;
use crate::text::{Folded, Squeezed, squeezed_byte};

/// How much of the beginning of a long phrase is looked for, in bytes.
pub(super) const BEGINNING: usize = 8;
/// Most places in a plain text where a long phrase may begin that are looked at one by one. Where there are
/// more, all of the text is.
const BEGUN: usize = 64;

/// The part of a long phrase by which it is noticed.
pub(super) fn beginning(phrase: &str) -> &str {
    let mut end = phrase.len().min(BEGINNING);
    while !phrase.is_char_boundary(end) {
        end += 1;
    }
    &phrase[..end]
}

/// What finding something at the gate means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Means {
    /// A term of a rule may have a hit, by its number among all terms.
    Term(usize),
    /// A long phrase may be there, written so.
    LongPhrase(Disguise),
    /// A form of a credential may be there, by its number.
    Secret(usize),
}

/// What a text could hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Possible {
    /// For each term of all rules, whether it can have hits.
    pub(super) terms: Vec<bool>,
    /// For each [`Disguise`], whether there may be a long phrase in it.
    pub(super) long_phrases: [bool; Disguise::ALL.len()],
    /// Where the beginnings of long phrases end that stand in a plain text as they are, with their numbers.
    pub(super) begun: Vec<(usize, usize)>,
    /// For each form of credentials, whether there may be one.
    pub(super) secrets: Vec<bool>,
    /// Whether there may be a canary token.
    pub(super) canary: bool,
    /// Whether there may be a hit of a term that could be excluded beforehand.
    pub(super) noticed: bool,
}

/// The gate of a set of rules.
#[derive(Debug)]
pub(super) struct Gate {
    words: Automatic,
    letters: Automatic,
    raw: Automatic,
    /// Terms that cannot be excluded beforehand.
    always: Vec<bool>,
    secrets: usize,
}

/// Collects what is looked for.
#[derive(Debug, Default)]
pub(super) struct Builder {
    words: BTreeMap<String, Vec<Means>>,
    letters: BTreeMap<String, Vec<Means>>,
    raw: BTreeMap<String, Vec<Means>>,
    always: Vec<usize>,
}

impl Builder {
    /// A short phrase, folded.
    pub(super) fn word(&mut self, phrase: &str, means: Means) {
        self.words.entry(phrase.to_owned()).or_default().push(means);
    }

    /// The [`beginning`] of a long phrase in a disguise, squeezed.
    pub(super) fn beginning(&mut self, beginning: &str, disguise: Disguise) {
        let means = Means::LongPhrase(disguise);
        match self.letters.get_mut(beginning) {
            Some(known) if known.contains(&means) => {}
            Some(known) => known.push(means),
            None => {
                self.letters.insert(beginning.to_owned(), vec![means]);
            }
        }
    }

    /// All of them, in order: the number of each is the one that [`Gate::beginnings_in`] tells.
    pub(super) fn beginnings(&self) -> impl Iterator<Item = &str> {
        self.letters.keys().map(String::as_str)
    }

    /// An expression over the folded text.
    pub(super) fn folded(&mut self, expression: &str, term: usize) {
        match anchors::of(expression) {
            Some(anchors) => {
                for anchor in anchors {
                    self.word(&anchor, Means::Term(term));
                }
            }
            None => self.always.push(term),
        }
    }

    /// An expression over the text as it is.
    pub(super) fn raw(&mut self, expression: &str, term: usize) {
        let Some(anchors) = anchors::of(expression) else {
            self.always.push(term);
            return;
        };
        for anchor in anchors {
            // In plain texts it stands as it is, unless there is a blank in it: folding makes one of many.
            if anchor.bytes().all(|byte| byte.is_ascii_graphic()) {
                self.word(&anchor, Means::Term(term));
            } else if anchor.is_ascii() && !anchor.bytes().any(|byte| byte.is_ascii_control()) {
                self.always.push(term);
            }
            self.raw.entry(anchor).or_default().push(Means::Term(term));
        }
    }

    /// Builds the gate for so many terms and forms of credentials.
    ///
    /// # Errors
    /// [`RuleError`] when the automata would be too large.
    pub(super) fn build(
        mut self,
        terms: usize,
        keywords: &[(String, usize)],
    ) -> Result<Gate, RuleError> {
        for (keyword, form) in keywords {
            self.word(keyword, Means::Secret(*form));
        }
        let mut always = vec![false; terms];
        for term in self.always {
            always[term] = true;
        }
        Ok(Gate {
            words: Automatic::new(self.words)?,
            letters: Automatic::new(self.letters)?,
            raw: Automatic::new(self.raw)?,
            always,
            secrets: keywords.iter().map(|(_, form)| form + 1).max().unwrap_or(0),
        })
    }
}

impl Gate {
    /// Looks at a text of printable ASCII.
    pub(super) fn plain(&self, text: &str, canaries: Option<&Beginnings>) -> Possible {
        let mut possible = self.possible();
        let mut words = self.words.begin();
        let mut letters = self.letters.begin();
        let mut tokens = canaries.map(Beginnings::begin);
        let bytes = text.as_bytes();
        let mut blank = true;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {
                    if !blank {
                        self.words.step(&mut words, b' ', None, &mut possible);
                    }
                    blank = true;
                    continue;
                }
                _ => self
                    .words
                    .step(&mut words, byte.to_ascii_lowercase(), None, &mut possible),
            }
            blank = false;
            if let Some(kept) = squeezed_byte(bytes, at) {
                self.letters
                    .step(&mut letters, kept, Some(at + 1), &mut possible);
                if let (Some(of), Some(state)) = (canaries, &mut tokens) {
                    possible.canary |= of.step(state, kept);
                }
            }
        }
        possible
    }

    /// Looks at any text, brought into both forms before.
    pub(super) fn any(
        &self,
        text: &str,
        folded: &Folded,
        squeezed: &Squeezed,
        canaries: Option<&Beginnings>,
    ) -> Possible {
        let mut possible = self.possible();
        let mut state = self.words.begin();
        for byte in folded.as_str().bytes() {
            self.words.step(&mut state, byte, None, &mut possible);
        }
        let mut state = self.letters.begin();
        for byte in squeezed.as_str().bytes() {
            self.letters.step(&mut state, byte, None, &mut possible);
        }
        if let Some(canaries) = canaries {
            let mut state = canaries.begin();
            for byte in squeezed.as_str().bytes() {
                possible.canary |= canaries.step(&mut state, byte);
            }
        }
        // Credentials are of ASCII, and what folds to their keywords need not be: all are looked for.
        possible.secrets.fill(true);
        let mut state = self.raw.begin();
        for byte in text.bytes() {
            self.raw
                .step(&mut state, byte.to_ascii_lowercase(), None, &mut possible);
        }
        possible
    }

    /// Where beginnings of long phrases stand in a squeezed text, with their numbers in their order: those
    /// that end first come first.
    pub(super) fn beginnings_in(&self, squeezed: &str) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        let Some(finds) = &self.letters.finds else {
            return all;
        };
        let mut state = self.letters.begin();
        for (at, byte) in squeezed.bytes().enumerate() {
            state.0 = finds.next_state(Anchored::No, state.0, byte);
            if finds.is_special(state.0) && finds.is_match(state.0) {
                for hit in 0..finds.match_len(state.0) {
                    let beginning = finds.match_pattern(state.0, hit);
                    all.push((at + 1 - finds.pattern_len(beginning), beginning.as_usize()));
                }
            }
        }
        all
    }

    fn possible(&self) -> Possible {
        Possible {
            terms: self.always.clone(),
            long_phrases: [false; Disguise::ALL.len()],
            begun: Vec::new(),
            secrets: vec![false; self.secrets],
            canary: false,
            noticed: false,
        }
    }

    /// For each term, whether every text could hold it.
    pub(super) fn always(&self) -> &[bool] {
        &self.always
    }
}

/// An automaton, and what its patterns mean.
#[derive(Debug)]
struct Automatic {
    finds: Option<DFA>,
    means: Vec<Vec<Means>>,
}

impl Automatic {
    fn new(patterns: BTreeMap<String, Vec<Means>>) -> Result<Self, RuleError> {
        let (patterns, means): (Vec<String>, Vec<Vec<Means>>) = patterns.into_iter().unzip();
        let finds = if patterns.is_empty() {
            None
        } else {
            Some(automaton(&patterns)?)
        };
        Ok(Self { finds, means })
    }

    fn begin(&self) -> State {
        State::begin(self.finds.as_ref())
    }

    /// Goes on by a byte. `after` is where a text goes on whose long phrases are looked at one by one.
    #[inline]
    fn step(&self, state: &mut State, byte: u8, after: Option<usize>, possible: &mut Possible) {
        let Some(finds) = &self.finds else { return };
        state.0 = finds.next_state(Anchored::No, state.0, byte);
        if finds.is_special(state.0) && finds.is_match(state.0) {
            self.note(finds, *state, after, possible);
        }
    }

    #[cold]
    fn note(&self, finds: &DFA, state: State, after: Option<usize>, possible: &mut Possible) {
        for hit in 0..finds.match_len(state.0) {
            let pattern = finds.match_pattern(state.0, hit).as_usize();
            for means in &self.means[pattern] {
                if let (Means::LongPhrase(Disguise::None), Some(after)) = (means, after)
                    && possible.begun.len() < BEGUN
                {
                    possible.begun.push((after, pattern));
                    continue;
                }
                possible.noticed = true;
                match means {
                    Means::Term(term) => possible.terms[*term] = true,
                    Means::LongPhrase(disguise) => possible.long_phrases[*disguise as usize] = true,
                    Means::Secret(form) => possible.secrets[*form] = true,
                }
            }
        }
    }
}

/// Where an automaton stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct State(aho_corasick::automaton::StateID);

impl State {
    fn begin(finds: Option<&DFA>) -> Self {
        let start = finds.and_then(|finds| finds.start_state(Anchored::No).ok());
        Self(start.unwrap_or_default())
    }
}

/// The beginnings of canary tokens, squeezed.
#[derive(Debug, Clone)]
pub(super) struct Beginnings(DFA);

impl Beginnings {
    pub(super) fn new(tokens: &[String]) -> Option<Self> {
        let beginnings: Vec<String> = tokens
            .iter()
            .map(|token| token.chars().take(BEGINNING).collect())
            .collect();
        (!beginnings.is_empty())
            .then(|| automaton(&beginnings).ok())
            .flatten()
            .map(Self)
    }

    fn begin(&self) -> State {
        State::begin(Some(&self.0))
    }

    #[inline]
    fn step(&self, state: &mut State, byte: u8) -> bool {
        state.0 = self.0.next_state(Anchored::No, state.0, byte);
        self.0.is_special(state.0) && self.0.is_match(state.0)
    }
}

fn automaton(patterns: &[String]) -> Result<DFA, RuleError> {
    DFA::builder()
        .match_kind(MatchKind::Standard)
        .start_kind(aho_corasick::StartKind::Unanchored)
        .prefilter(false)
        .build(patterns)
        .map_err(|_| RuleError::Limit {
            what: "phrases, written out",
            most: super::rules::PHRASES,
        })
}
