//! Deriving one value from what may steer calls. Every rule here only ever accepts; what no rule
//! accepts is asked about.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::civil::{Date, DateTime, Time};
use serde_json::Value;

use super::known::{Known, Listed};
use super::{Ledger, Level};
use crate::annotations::{Choose, Kind, Sink};
use crate::text;
use crate::value::number::Number;
use crate::value::{address, date, url};
use crate::verdict::{How, Origin};

/// What a value was derived from.
type Derived = (How, Origin);

/// The longest value that is looked for, in bytes.
const LONGEST: usize = 4_096;
/// Most numbers of one level that are computed with, so that chance hits stay rare.
const MOST_OPERANDS: usize = 64;

impl Ledger {
    /// How one value that is not a collection can be derived; `None` if it cannot.
    pub(super) fn derive(&self, value: &Value, sink: &Sink, level: Level) -> Option<Derived> {
        let text = match value {
            Value::Null => return Some((How::Harmless, Origin::Annotations)),
            Value::String(text) if text.is_empty() => {
                return Some((How::Harmless, Origin::Annotations));
            }
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Array(_) | Value::Object(_) => return None,
        };
        if sink.harmless.contains(&text) {
            return Some((How::Harmless, Origin::Annotations));
        }
        if text.len() > LONGEST || text::is_deceptive(&text) || value.is_boolean() {
            return None;
        }
        if let Some(said) = sink.said_as.get(&text)
            && let Some(derived) = said.iter().find_map(|phrase| self.phrase(phrase, level))
        {
            return Some(derived);
        }
        match sink.kind {
            Kind::Any => self.any(&text, value, sink, level),
            Kind::Address => self.recipient(&text, level),
            Kind::Account => self.account(&text, level),
            Kind::Url => self.url(&text, level),
            Kind::Path => self.path(&text, level),
            Kind::Identifier => self.identifier(&text, sink, level),
            Kind::Number => self.number(&text, level),
            Kind::Date => date::parse(&text).and_then(|(day, _)| self.day(day, level)),
            Kind::Datetime => {
                date::parse(&text).and_then(|(day, time)| self.moment(day, time, level))
            }
            Kind::Time => date::parse_time(&text).and_then(|time| self.time(time, level)),
            Kind::Name => self.name(&text, level),
            Kind::Words => self.words(&text, level),
            Kind::Exact => self.look(level, |known| &known.exact, text.as_str()),
        }
    }

    fn any(&self, text: &str, value: &Value, sink: &Sink, level: Level) -> Option<Derived> {
        if text.contains("://") {
            return self.url(text, level);
        }
        if text.contains('@') {
            return self
                .recipient(text, level)
                .or_else(|| self.name(text, level));
        }
        if let Some((day, time)) = date::parse(text) {
            return self.moment(day, time, level);
        }
        if value.is_number() || Number::parse(text).is_some() {
            return self
                .number(text, level)
                .or_else(|| self.identifier(text, sink, level));
        }
        self.name(text, level)
            .or_else(|| self.path(text, level))
            .or_else(|| self.identifier(text, sink, level))
    }

    /// Looks a value up at every level, nearest first.
    fn look<K, Q>(
        &self,
        level: Level,
        map: impl Fn(&Known) -> &HashMap<K, u32>,
        key: &Q,
    ) -> Option<Derived>
    where
        K: Hash + Eq + std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.known(level).find_map(|(ledger, known)| {
            map(known)
                .get(key)
                .map(|source| (How::Occurs, ledger.origin(*source)))
        })
    }

    fn phrase(&self, phrase: &str, level: Level) -> Option<Derived> {
        let words = text::words(phrase);
        if words.is_empty() {
            return None;
        }
        self.known(level).find_map(|(ledger, known)| {
            let source = *known.words.find(&words, 1).first()?;
            Some((How::Occurs, ledger.origin(source)))
        })
    }

    /// Someone: one mail address or several between commas, else the name of an account, a user
    /// or a channel.
    fn recipient(&self, text: &str, level: Level) -> Option<Derived> {
        if text.contains('@') {
            let mut last = None;
            for one in text.split([',', ';']) {
                let address = match address::parse(one.trim()) {
                    Some(address) => self.look(level, |known| &known.addresses, &address),
                    None => one
                        .trim()
                        .strip_prefix('@')
                        .filter(|user| !user.contains('@'))
                        .and_then(|user| self.name(user, level)),
                };
                last = Some(address?);
            }
            return last;
        }
        self.look(level, |known| &known.exact, text)
            .or_else(|| self.account(text, level))
            .or_else(|| self.name(text.strip_prefix('#').unwrap_or(text), level))
    }

    fn account(&self, text: &str, level: Level) -> Option<Derived> {
        let account = address::account(text)?;
        self.look(level, |known| &known.accounts, &account)
    }

    fn url(&self, text: &str, level: Level) -> Option<Derived> {
        if let Some(url) = url::parse(text) {
            return self.look(level, |known| &known.urls, &url);
        }
        url::without_scheme(text)?
            .iter()
            .find_map(|url| self.look(level, |known| &known.urls, url))
    }

    /// A path that occurs as it is, or a known folder with a known name in it.
    fn path(&self, text: &str, level: Level) -> Option<Derived> {
        let odd = text.contains(['\\', '%', '\0']) || text.split('/').any(|step| step == "..");
        if odd {
            return None;
        }
        let plain = text.strip_prefix("./").unwrap_or(text);
        self.look(level, |known| &known.exact, plain).or_else(|| {
            let (folder, name) = plain.rsplit_once('/')?;
            let exact = |text: &str| self.look(level, |known| &known.exact, text);
            let folder = exact(folder).or_else(|| exact(&format!("{folder}/")))?;
            exact(name)?;
            Some((How::Computed, folder.1))
        })
    }

    pub(super) fn listing(&self, of: &str, text: &str) -> Option<(Listed, Origin)> {
        let key: (Box<str>, Box<str>) = (of.into(), text.into());
        self.chain().find_map(|ledger| {
            let listed = *ledger.listed.get(&key)?;
            Some((listed, ledger.origin(listed.source)))
        })
    }

    fn identifier(&self, text: &str, sink: &Sink, level: Level) -> Option<Derived> {
        let listed = |of: &str| -> Option<Derived> {
            let (listed, origin) = self.listing(of, text)?;
            let needed = if level < Level::Trusted {
                Choose::Narrowed
            } else {
                sink.choose
            };
            (listed.how >= needed).then_some((How::Listed, origin))
        };
        if let Some(derived) = sink.of.as_deref().and_then(listed) {
            return Some(derived);
        }
        // A listing says of what its identifiers are; that a trusted result holds the same
        // characters somewhere says nothing.
        let stated = if sink.of.is_some() {
            level.min(Level::Vouched)
        } else {
            level
        };
        if let Some(derived) = self.look(stated, |known| &known.identifiers, text) {
            return Some(derived);
        }
        let telling = text.len() >= 4
            && text.chars().any(|c| !c.is_ascii_lowercase())
            && !(text.len() < 6 && text.chars().all(|c| c.is_ascii_digit()))
            && !text.contains(':');
        telling.then(|| self.look(stated, |known| &known.exact, text))?
    }

    fn number(&self, text: &str, level: Level) -> Option<Derived> {
        let number = Number::parse(text)?;
        self.look(level, |known| &known.numbers, &number)
            .or_else(|| self.computed(number, level))
    }

    /// A sum, difference, product or percentage of two numbers of which the task itself says one.
    ///
    /// Too many numbers rule this out, so a ledger that may lack some computes with the task's own alone:
    /// what was lost must never make more derivable than what is there.
    fn computed(&self, wanted: Number, level: Level) -> Option<Derived> {
        let level = if self.missed { Level::Task } else { level };
        let task: Vec<Number> = self
            .known(Level::Task)
            .flat_map(|(_, known)| known.numbers.keys().copied())
            .take(9)
            .collect();
        if task.is_empty() || task.len() > 8 {
            return None;
        }
        let percents: Vec<Number> = self
            .known(Level::Task)
            .flat_map(|(_, known)| known.percents.iter().copied())
            .collect();
        for (ledger, known) in self.known(level) {
            if known.numbers.len() > MOST_OPERANDS {
                continue;
            }
            for (one, source) in &known.numbers {
                let part = |percent: &Number| percent.percent_of(*one);
                let found = task.iter().any(|other| {
                    [
                        one.plus(*other),
                        one.minus(*other),
                        other.minus(*one),
                        one.times(*other),
                    ]
                    .contains(&Some(wanted))
                }) || percents.iter().filter_map(part).any(|part| {
                    [Some(part), one.plus(part), one.minus(part)].contains(&Some(wanted))
                });
                if found {
                    return Some((How::Computed, ledger.origin(*source)));
                }
            }
        }
        None
    }

    fn day(&self, day: Date, level: Level) -> Option<Derived> {
        if let Some(derived) = self.look(level, |known| &known.dates, &day) {
            return Some(derived);
        }
        let near = self
            .today
            .is_some_and(|today| (today.year() - day.year()).abs() <= 1)
            || self
                .known(level)
                .any(|(_, known)| known.years.contains_key(&day.year()));
        if near
            && let Some(derived) =
                self.look(level, |known| &known.yearless, &(day.month(), day.day()))
        {
            return Some(derived);
        }
        // A known day and a duration in whole days that the task says.
        let minutes: Vec<i64> = self
            .durations()
            .filter(|minutes| minutes % (24 * 60) == 0)
            .collect();
        minutes.into_iter().find_map(|minutes| {
            let from = date::later(day.to_datetime(Time::midnight()), -minutes)?.date();
            let (_, origin) = self.look(level, |known| &known.dates, &from)?;
            Some((How::Computed, origin))
        })
    }

    /// The durations that the task says, in minutes; a few.
    fn durations(&self) -> impl Iterator<Item = i64> {
        self.known(Level::Vouched)
            .flat_map(|(_, known)| known.durations.keys().copied())
            .take(16)
    }

    fn moment(&self, day: Date, time: Option<Time>, level: Level) -> Option<Derived> {
        let Some(time) = time else {
            return self.day(day, level);
        };
        let stated = |at: DateTime| {
            let derived = self.day(at.date(), level)?;
            self.look(level, |known| &known.times, &at.time())?;
            Some(derived)
        };
        let at = day.to_datetime(time);
        stated(at).or_else(|| {
            self.durations().find_map(|minutes| {
                let (_, origin) = stated(date::later(at, -minutes)?)?;
                Some((How::Computed, origin))
            })
        })
    }

    fn time(&self, time: Time, level: Level) -> Option<Derived> {
        let stated = |time: Time| self.look(level, |known| &known.times, &time);
        stated(time).or_else(|| {
            self.durations().find_map(|minutes| {
                let day = Date::new(2000, 1, 2).ok()?;
                let (_, origin) = stated(date::later(day.to_datetime(time), -minutes)?.time())?;
                Some((How::Computed, origin))
            })
        })
    }

    /// A name: its words one after another, case and punctuation aside; or exactly.
    fn name(&self, text: &str, level: Level) -> Option<Derived> {
        if let Some(derived) = self.look(level, |known| &known.exact, text) {
            return Some(derived);
        }
        plainly_punctuated(text).then(|| self.phrase(text, level))?
    }

    /// A short text of which every word is known.
    fn words(&self, text: &str, level: Level) -> Option<Derived> {
        if let Some(derived) = self.name(text, level) {
            return Some(derived);
        }
        let words = text::words(text);
        if !plainly_punctuated(text) || words.is_empty() || words.len() > 16 {
            return None;
        }
        let mut last = None;
        for word in &words {
            last = Some(self.phrase(word, level)?);
        }
        last.map(|(_, origin)| (How::Computed, origin))
    }
}

/// Whether the marks between the words of a name are such as stand in names, so that leaving them
/// out of the comparison does not make an address, a path or a formula of it.
fn plainly_punctuated(text: &str) -> bool {
    text.chars().all(|c| {
        c.is_alphanumeric()
            || " '’\"“”.,:!?&()-–_/#+*".contains(c)
            || !c.is_ascii() && !c.is_whitespace() && !crate::text::is_symbol(c)
    }) && !text.contains("//")
        && !text.contains("..")
}
