//! Rules compiled for reading texts: one automaton for all phrases, one for all expressions.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{RegexSet, RegexSetBuilder};

use super::condition::NEAR_HITS;
use super::phrase::disguises;
use super::rules::{Place, Rule, RuleError, RuleSet, Term};
use crate::text::{self, Folded, Squeezed};

/// Phrases with fewer letters are looked for as words, longer ones in any disguise.
const LONG_PHRASE: usize = 12;
/// Most memory of the automata for expressions, in bytes.
const SET_BYTES: usize = 64 << 20;

/// Rules ready for reading.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rules: Vec<Rule>,
    words: Automaton,
    letters: Automaton,
    folded: Expressions,
    raw: Expressions,
}

/// An automaton for phrases.
#[derive(Debug)]
struct Automaton {
    finds: Option<AhoCorasick>,
    means: Vec<Meaning>,
}

/// What finding a phrase means: a term of a rule, in a disguise.
#[derive(Debug, Clone, Copy)]
struct Meaning {
    rule: usize,
    term: usize,
    disguise: &'static str,
}

#[derive(Debug)]
struct Expressions {
    set: RegexSet,
    means: Vec<(usize, usize)>,
}

/// What was found of one rule: for each term, where in the original.
#[derive(Debug, Clone, Default)]
pub(super) struct Hits {
    pub(super) terms: Vec<Vec<(usize, usize)>>,
    /// The disguise of the first phrase that was in one.
    pub(super) disguise: &'static str,
}

impl Hits {
    /// The bytes from the first hit to the end of the last one that is near to it.
    pub(super) fn span(&self) -> (usize, usize) {
        let all = || self.terms.iter().flatten();
        let start = all().map(|(start, _)| *start).min().unwrap_or(0);
        let near = all().filter(|(at, _)| *at < start + crate::finding::EVIDENCE_CHARS);
        let end = near.map(|(_, end)| *end).max().unwrap_or(start);
        (start, end)
    }
}

impl Compiled {
    /// Compiles rules.
    ///
    /// # Errors
    /// [`RuleError`] when together they are too large.
    pub(super) fn new(set: RuleSet) -> Result<Self, RuleError> {
        let rules = set.rules;
        let mut words: Vec<(String, Meaning)> = Vec::new();
        let mut letters: Vec<(String, Meaning)> = Vec::new();
        let mut folded = Vec::new();
        let mut raw = Vec::new();
        for (rule, of) in rules.iter().enumerate() {
            for (term, what) in of.terms.iter().enumerate() {
                let meaning = Meaning {
                    rule,
                    term,
                    disguise: "",
                };
                match what {
                    Term::Phrases(phrases) => {
                        for phrase in phrases {
                            let squeezed = text::squeeze_phrase(phrase);
                            if squeezed.len() < LONG_PHRASE {
                                words.push((phrase.clone(), meaning));
                                continue;
                            }
                            letters.push((squeezed, meaning));
                            for (disguise, other) in disguises(phrase) {
                                let meaning = Meaning {
                                    disguise,
                                    ..meaning
                                };
                                letters.push((text::squeeze_phrase(&other), meaning));
                            }
                        }
                    }
                    Term::Folded(regex) => folded.push((regex.as_str(), (rule, term))),
                    Term::Raw(regex) => raw.push((regex.as_str(), (rule, term))),
                }
            }
        }
        Ok(Self {
            words: Automaton::new(words)?,
            letters: Automaton::new(letters)?,
            folded: Expressions::new(folded)?,
            raw: Expressions::new(raw)?,
            rules,
        })
    }

    /// What there is of the rules in a text. The result has an entry for each rule.
    pub(super) fn find(
        &self,
        text: &str,
        folded: &Folded,
        squeezed: &Squeezed,
        place: Place,
    ) -> Vec<Hits> {
        let mut hits: Vec<Hits> = vec![Hits::default(); self.rules.len()];
        let mut note = |rule: usize, term: usize, span: (usize, usize), disguise: &'static str| {
            let of = &self.rules[rule];
            if !of.applies.contains(&place) {
                return;
            }
            let hits = &mut hits[rule];
            if hits.terms.is_empty() {
                hits.terms.resize(of.terms.len(), Vec::new());
            }
            if hits.terms[term].len() < NEAR_HITS {
                hits.terms[term].push(span);
                if hits.disguise.is_empty() {
                    hits.disguise = disguise;
                }
            }
        };
        let bytes = folded.as_str().as_bytes();
        self.words.each(folded.as_str(), |start, end, meaning| {
            let apart = |at: Option<&u8>| at.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            if apart(start.checked_sub(1).and_then(|at| bytes.get(at))) && apart(bytes.get(end)) {
                note(meaning.rule, meaning.term, folded.span(start, end), "");
            }
        });
        self.letters.each(squeezed.as_str(), |start, end, meaning| {
            let span = squeezed.span(start, end);
            note(meaning.rule, meaning.term, span, meaning.disguise);
        });
        for (rule, term) in self.folded.matching(folded.as_str()) {
            if let Term::Folded(regex) = &self.rules[rule].terms[term] {
                for found in regex.find_iter(folded.as_str()).take(NEAR_HITS) {
                    note(rule, term, folded.span(found.start(), found.end()), "");
                }
            }
        }
        for (rule, term) in self.raw.matching(text) {
            if let Term::Raw(regex) = &self.rules[rule].terms[term] {
                for found in regex.find_iter(text).take(NEAR_HITS) {
                    note(rule, term, (found.start(), found.end()), "");
                }
            }
        }
        hits
    }
}

impl Automaton {
    fn new(phrases: Vec<(String, Meaning)>) -> Result<Self, RuleError> {
        let (texts, means): (Vec<String>, Vec<Meaning>) = phrases.into_iter().unzip();
        if texts.is_empty() {
            return Ok(Self { finds: None, means });
        }
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(&texts)
            .map_err(|_| RuleError::Limit {
                what: "phrases, written out",
                most: super::rules::PHRASES,
            })?;
        Ok(Self {
            finds: Some(built),
            means,
        })
    }

    fn each(&self, text: &str, mut found: impl FnMut(usize, usize, Meaning)) {
        let Some(finds) = &self.finds else { return };
        for hit in finds.find_overlapping_iter(text) {
            found(hit.start(), hit.end(), self.means[hit.pattern().as_usize()]);
        }
    }
}

impl Expressions {
    fn new(all: Vec<(&str, (usize, usize))>) -> Result<Self, RuleError> {
        let (patterns, means): (Vec<&str>, Vec<(usize, usize)>) = all.into_iter().unzip();
        let set = RegexSetBuilder::new(&patterns)
            .size_limit(SET_BYTES)
            .dfa_size_limit(SET_BYTES)
            .build()
            .map_err(|_| RuleError::Limit {
                what: "bytes of compiled expressions",
                most: SET_BYTES,
            })?;
        Ok(Self { set, means })
    }

    fn matching(&self, text: &str) -> Vec<(usize, usize)> {
        if self.means.is_empty() {
            return Vec::new();
        }
        self.set
            .matches(text)
            .into_iter()
            .map(|at| self.means[at])
            .collect()
    }
}
