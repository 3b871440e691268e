//! Rules compiled for reading texts: a gate, one automaton for each form of phrases, and the expressions.

use aho_corasick::{AhoCorasick, MatchKind};

use super::condition::NEAR_HITS;
use super::gate::{Beginnings, Builder, Gate, Means, Possible};
use super::long_phrases::{Collected, LongBeginnings, LongPhrases};
use super::phrase::Disguise;
use super::rules::{Place, Rule, RuleError, RuleSet, Term};
use super::{secrets, survey::Survey};
use crate::text::{self, Folded, Squeezed};

/// Phrases with fewer letters are looked for as words, longer ones in any disguise.
const LONG_PHRASE: usize = 12;

/// Rules ready for reading.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rules: Vec<Rule>,
    /// For each rule, the number of its first term among all terms.
    first_terms: Vec<usize>,
    /// All rules, and those that may hold for a text in which the gate noticed nothing.
    all: Vec<usize>,
    always: Vec<usize>,
    gate: Gate,
    words: Automaton,
    letters: LongPhrases<Meaning>,
}

/// A text in the forms that are looked at, made when they are needed.
pub(super) struct Forms<'a> {
    pub(super) text: &'a str,
    folded: Option<Folded>,
    squeezed: Option<Squeezed>,
}

impl<'a> Forms<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self {
            text,
            folded: None,
            squeezed: None,
        }
    }

    pub(super) fn folded(&mut self) -> &Folded {
        self.folded.get_or_insert_with(|| text::fold(self.text))
    }

    pub(super) fn both(&mut self) -> (&Folded, &Squeezed) {
        let folded = self.folded.get_or_insert_with(|| text::fold(self.text));
        let squeezed = self.squeezed.get_or_insert_with(|| text::squeeze(folded));
        (folded, squeezed)
    }
}

/// An automaton for phrases.
#[derive(Debug)]
struct Automaton {
    finds: Option<AhoCorasick>,
    means: Vec<Meaning>,
}

/// What finding a phrase means: a term of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Meaning {
    rule: usize,
    term: usize,
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

impl Hits {
    fn of(terms: usize) -> Self {
        Self {
            terms: vec![Vec::new(); terms],
            disguise: "",
        }
    }

    fn note(&mut self, term: usize, span: (usize, usize), disguise: &'static str) {
        if self.terms[term].len() < NEAR_HITS {
            self.terms[term].push(span);
            if self.disguise.is_empty() {
                self.disguise = disguise;
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.terms.iter().all(Vec::is_empty)
    }
}

impl Compiled {
    /// Compiles rules.
    ///
    /// # Errors
    /// [`RuleError`] when together they are too large.
    pub(super) fn new(set: RuleSet) -> Result<Self, RuleError> {
        let mut rules = set.rules;
        let mut gate = Builder::default();
        let mut words: Vec<(String, Meaning)> = Vec::new();
        let mut letters = Collected::new();
        let mut long = LongBeginnings::default();
        let mut first_terms = Vec::with_capacity(rules.len());
        let mut terms = 0;
        for (rule, of) in rules.iter_mut().enumerate() {
            first_terms.push(terms);
            for (term, what) in of.terms.iter_mut().enumerate() {
                let number = terms + term;
                let meaning = Meaning { rule, term };
                match what {
                    Term::Phrases(phrases) => {
                        // They stand in the automata from here on.
                        for phrase in std::mem::take(phrases) {
                            let squeezed = text::squeeze_phrase(&phrase);
                            if squeezed.len() < LONG_PHRASE {
                                gate.word(&phrase, Means::Term(number));
                                words.push((phrase, meaning));
                                continue;
                            }
                            letters.push(&squeezed, meaning);
                            long.add(&phrase, &mut gate);
                        }
                    }
                    Term::Folded(regex) => gate.folded(regex.as_str(), number),
                    Term::Raw(regex) => gate.raw(regex.as_str(), number),
                }
            }
            terms += of.terms.len();
        }
        let letters = letters.sorted(gate.beginnings());
        let gate = gate.build(terms, &secrets::keywords())?;
        let may_hold = |(rule, of): (usize, &Rule)| {
            let always = &gate.always()[first_terms[rule]..][..of.terms.len()];
            of.condition.may_hold(always).then_some(rule)
        };
        Ok(Self {
            all: (0..rules.len()).collect(),
            always: rules.iter().enumerate().filter_map(may_hold).collect(),
            gate,
            words: Automaton::new(words)?,
            letters,
            first_terms,
            rules,
        })
    }

    /// What a text could hold.
    pub(super) fn possible(
        &self,
        forms: &mut Forms<'_>,
        survey: Survey,
        canaries: Option<&Beginnings>,
    ) -> Possible {
        if survey.plain {
            let mut possible = self.gate.plain(forms.text, canaries);
            if self.goes_on(forms.text, &possible) {
                possible.long_phrases[Disguise::None as usize] = true;
                possible.noticed = true;
            }
            return possible;
        }
        let text = forms.text;
        let (folded, squeezed) = forms.both();
        self.gate.any(text, folded, squeezed, canaries)
    }

    /// Whether a plain text goes on like a long phrase anywhere where one may begin. Mostly it does not, and
    /// need not be squeezed then.
    fn goes_on(&self, text: &str, possible: &Possible) -> bool {
        let bytes = text.as_bytes();
        let mut rest = Vec::new();
        possible.begun.iter().any(|(after, beginning)| {
            rest.clear();
            let kept = (*after..bytes.len()).filter_map(|at| text::squeezed_byte(bytes, at));
            rest.extend(kept.take(self.letters.longest()));
            self.letters.any_goes_on(*beginning, &rest)
        })
    }

    /// The rules that hold for a text, by number, with what was found of them.
    pub(super) fn find(
        &self,
        forms: &mut Forms<'_>,
        mut possible: Possible,
        place: Place,
    ) -> Vec<(usize, Hits)> {
        let candidates = if possible.noticed {
            &self.all
        } else {
            &self.always
        };
        let mut hits: Vec<Option<Hits>> = vec![None; self.rules.len()];
        for disguise in Disguise::ALL {
            if possible.long_phrases[disguise as usize] {
                self.letters_in(forms, disguise, place, &mut hits, &mut possible);
            }
        }
        let mut found = Vec::new();
        let mut words_read = false;
        for rule in candidates.iter().copied() {
            let of = &self.rules[rule];
            let first = self.first_terms[rule];
            let possible_of = &mut possible.terms[first..first + of.terms.len()];
            if !of.applies.contains(&place)
                || !possible_of.contains(&true)
                || !of.condition.may_hold(possible_of)
            {
                continue;
            }
            let is_phrases = |(term, may): (&Term, &bool)| *may && matches!(term, Term::Phrases(_));
            if !words_read && of.terms.iter().zip(&*possible_of).any(is_phrases) {
                words_read = true;
                self.words_in(forms, place, &mut hits);
            }
            let mut of_rule = hits[rule]
                .take()
                .unwrap_or_else(|| Hits::of(of.terms.len()));
            if self.terms_of(rule, forms, possible_of, &mut of_rule) {
                found.push((rule, of_rule));
            }
        }
        found
    }

    /// Finds all long phrases that are written in a disguise.
    fn letters_in(
        &self,
        forms: &mut Forms<'_>,
        disguise: Disguise,
        place: Place,
        hits: &mut [Option<Hits>],
        possible: &mut Possible,
    ) {
        let (folded, squeezed) = forms.both();
        let turned;
        let squeezed = match disguise {
            Disguise::None => squeezed,
            _ => {
                turned = text::squeeze_turned(disguise.turn(folded.as_str()).into_owned());
                &turned
            }
        };
        let length = folded.as_str().len();
        let text = squeezed.as_str();
        let seen = self.gate.beginnings_in(text);
        self.letters.each(text, seen, |start, end, meaning| {
            let of = &self.rules[meaning.rule];
            if of.applies.contains(&place) {
                let mut span = squeezed.span(start, end);
                if disguise != Disguise::None {
                    let (start, end) = disguise.span_before(length, span);
                    span = folded.span(start, end);
                }
                hits[meaning.rule]
                    .get_or_insert_with(|| Hits::of(of.terms.len()))
                    .note(meaning.term, span, disguise.as_str());
                possible.terms[self.first_terms[meaning.rule] + meaning.term] = true;
            }
        });
    }

    /// Finds all short phrases.
    fn words_in(&self, forms: &mut Forms<'_>, place: Place, hits: &mut [Option<Hits>]) {
        let folded = forms.folded();
        let bytes = folded.as_str().as_bytes();
        self.words.each(folded.as_str(), |start, end, meaning| {
            let apart = |at: Option<&u8>| at.is_none_or(|byte| !byte.is_ascii_alphanumeric());
            let of = &self.rules[meaning.rule];
            if of.applies.contains(&place)
                && apart(start.checked_sub(1).and_then(|at| bytes.get(at)))
                && apart(bytes.get(end))
            {
                hits[meaning.rule]
                    .get_or_insert_with(|| Hits::of(of.terms.len()))
                    .note(meaning.term, folded.span(start, end), "");
            }
        });
    }

    /// Tries the expressions of a rule, as long as it can still hold; whether it does.
    fn terms_of(
        &self,
        rule: usize,
        forms: &mut Forms<'_>,
        possible: &mut [bool],
        hits: &mut Hits,
    ) -> bool {
        let of = &self.rules[rule];
        for (term, what) in of.terms.iter().enumerate() {
            if possible[term] {
                match what {
                    Term::Phrases(_) => {}
                    Term::Folded(regex) => {
                        let folded = forms.folded();
                        for found in regex.find_iter(folded.as_str()).take(NEAR_HITS) {
                            hits.note(term, folded.span(found.start(), found.end()), "");
                        }
                    }
                    Term::Raw(regex) => {
                        for found in regex.find_iter(forms.text).take(NEAR_HITS) {
                            hits.note(term, (found.start(), found.end()), "");
                        }
                    }
                }
            }
            possible[term] = !hits.terms[term].is_empty();
            if !possible[term] && !of.condition.may_hold(possible) {
                return false;
            }
        }
        for hits in &mut hits.terms {
            hits.sort_unstable_by_key(|(start, end)| (*end, *start));
        }
        !hits.is_empty() && of.condition.holds(&hits.terms)
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
