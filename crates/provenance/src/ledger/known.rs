//! What may steer a call: the words and typed values of one level of trust.

use std::collections::HashMap;
use std::sync::LazyLock;

use jiff::civil::{Date, Time};
use regex::Regex;

use super::index::WordIndex;
use crate::annotations::Choose;
use crate::text;
use crate::value::number::Number;
use crate::value::{address, date, duration, number, url};

/// Values and words, each with the source that it was first seen in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) words: WordIndex,
    pub(crate) addresses: HashMap<String, u32>,
    pub(crate) accounts: HashMap<String, u32>,
    pub(crate) urls: HashMap<String, u32>,
    pub(crate) numbers: HashMap<Number, u32>,
    /// Numbers that are said to be percentages.
    pub(crate) percents: Vec<Number>,
    pub(crate) dates: HashMap<Date, u32>,
    pub(crate) yearless: HashMap<(i8, i8), u32>,
    pub(crate) years: HashMap<i16, u32>,
    pub(crate) times: HashMap<Time, u32>,
    /// In minutes.
    pub(crate) durations: HashMap<i64, u32>,
    /// Pieces between blanks, quotations and whole values, character for character.
    pub(crate) exact: HashMap<Box<str>, u32>,
    /// Texts that are said to be identifiers.
    pub(crate) identifiers: HashMap<Box<str>, u32>,
    facts: usize,
    full: bool,
}

/// An identifier that a read listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    pub(crate) source: u32,
    pub(crate) how: Choose,
}

/// The longest text that is kept character for character, in bytes.
const LONGEST_EXACT: usize = 512;

static GROUPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"\b(?:[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{2,4}){2,8}|[0-9]{2,6}(?:[ -][0-9]{2,6}){1,6})\b",
    )
    .expect("a constant expression")
});
static IDENTIFIED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"(?i)(?:\b(?:id|ids|number|no\.|nr\.?)(?: is)?\s*[:=]?\s*|#)['"`]?([a-z0-9][a-z0-9_.-]{0,63})"#)
        .expect("a constant expression")
});

impl Known {
    /// Notes everything that a text says. `whole` when the text is one value rather than prose.
    pub(crate) fn note(
        &mut self,
        text: &str,
        source: u32,
        today: Option<Date>,
        whole: bool,
        limit: usize,
    ) {
        self.words.add(&text::words(text), source, limit);
        let room = |known: &mut Self, cost: usize| {
            let fits = known.facts + cost <= limit;
            if fits {
                known.facts += cost
            } else {
                known.full = true
            }
            fits
        };
        let mut exact: Vec<&str> = text::pieces(text).chain(text::quoted(text)).collect();
        if whole {
            exact.push(text.trim());
        }
        for piece in exact {
            if piece.len() <= LONGEST_EXACT
                && !self.exact.contains_key(piece)
                && room(self, piece.len() + 32)
            {
                self.exact.insert(piece.into(), source);
            }
        }
        for address in address::all_in(text) {
            if room(self, address.len() + 48) {
                self.addresses.entry(address).or_insert(source);
            }
        }
        for url in url::all_in(text) {
            if room(self, url.len() + 48) {
                self.urls.entry(url).or_insert(source);
            }
        }
        for account in text::pieces(text)
            .chain(GROUPED.find_iter(text).map(|found| found.as_str()))
            .filter_map(address::account)
        {
            if room(self, account.len() + 48) {
                self.accounts.entry(account).or_insert(source);
            }
        }
        for found in number::all_in(text) {
            if room(self, 40) {
                self.numbers.entry(found.number).or_insert(source);
                if found.percent
                    && !self.percents.contains(&found.number)
                    && self.percents.len() < 8
                {
                    self.percents.push(found.number);
                }
            }
        }
        for found in IDENTIFIED.captures_iter(text) {
            if let Some(identifier) = found.get(1)
                && room(self, identifier.len() + 32)
            {
                let identifier = identifier.as_str().trim_end_matches(['.', '-', '_']);
                self.identifiers.entry(identifier.into()).or_insert(source);
            }
        }
        if whole && text.len() <= LONGEST_EXACT && room(self, text.len() + 32) {
            self.identifiers.entry(text.trim().into()).or_insert(source);
        }
        self.note_days(text, source, today, room);
    }

    fn note_days(
        &mut self,
        text: &str,
        source: u32,
        today: Option<Date>,
        room: impl Fn(&mut Self, usize) -> bool,
    ) {
        let days = date::all_in(text, today);
        for day in days.dates {
            if room(self, 32) {
                self.dates.entry(day).or_insert(source);
            }
        }
        for day in days.yearless {
            if room(self, 16) {
                self.yearless.entry(day).or_insert(source);
            }
        }
        for year in days.years {
            self.years.entry(year).or_insert(source);
        }
        for time in days.times {
            if room(self, 32) {
                self.times.entry(time).or_insert(source);
            }
        }
        for minutes in duration::all_in(text) {
            if room(self, 32) {
                self.durations.entry(minutes).or_insert(source);
            }
        }
    }

    /// Whether something did not fit.
    pub(crate) fn is_full(&self) -> bool {
        self.full || self.words.is_full()
    }
}
