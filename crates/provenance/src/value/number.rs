//! Numbers and amounts of money, exactly.

use std::sync::LazyLock;

use regex::Regex;

/// A number with up to six decimal places, as millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Number(i128);

const SCALE: i128 = 1_000_000;
const LARGEST: i128 = 1_000_000_000_000_000 * SCALE;

/// A number in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) number: Number,
    /// Whether a percent sign or word follows.
    pub(crate) percent: bool,
}

static WRITTEN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:[0-9]{1,3}(?:[,'][0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
        .expect("a constant expression")
});

const WORDS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// A small number written as a word.
pub(crate) fn word(word: &str) -> Option<i64> {
    WORDS
        .iter()
        .position(|known| *known == word)
        .and_then(|at| i64::try_from(at).ok())
}

impl Number {
    pub(crate) fn whole(value: i64) -> Self {
        Self(i128::from(value) * SCALE)
    }

    /// A number in digits: `1200`, `1,200.50`, `-3`, with a currency sign or code before or after.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text
            .trim_start_matches(|c: char| "$€£¥₹".contains(c) || c == ' ')
            .trim_end_matches(|c: char| "$€£¥₹".contains(c) || c == ' ');
        let text = ["USD", "EUR", "GBP", "CHF", "JPY"]
            .iter()
            .fold(text, |text, code| {
                text.strip_prefix(code)
                    .or(text.strip_suffix(code))
                    .unwrap_or(text)
                    .trim()
            });
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let whole = WRITTEN
            .find(digits)
            .is_some_and(|found| found.range() == (0..digits.len()));
        if !whole || digits.len() > 24 {
            return None;
        }
        let digits: String = digits
            .chars()
            .filter(|c| !matches!(c, ',' | '\''))
            .collect();
        let (units, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 6 {
            return None;
        }
        let millionths: i128 = format!("{fraction:0<6}").parse().ok()?;
        let value = units.parse::<i128>().ok()?.checked_mul(SCALE)? + millionths;
        Self::bounded(if negative { -value } else { value })
    }

    fn bounded(value: i128) -> Option<Self> {
        (value.abs() <= LARGEST).then_some(Self(value))
    }

    pub(crate) fn plus(self, other: Self) -> Option<Self> {
        Self::bounded(self.0 + other.0)
    }

    pub(crate) fn minus(self, other: Self) -> Option<Self> {
        Self::bounded(self.0 - other.0)
    }

    pub(crate) fn times(self, other: Self) -> Option<Self> {
        Self::bounded(self.0.checked_mul(other.0)? / SCALE)
    }

    /// This many hundredths of a number, to the nearest hundredth of a unit.
    pub(crate) fn percent_of(self, whole: Self) -> Option<Self> {
        let exact = self.times(whole)?.0 / 100;
        let cent = SCALE / 100;
        let rounded = (exact + exact.signum() * cent / 2) / cent * cent;
        Self::bounded(rounded)
    }
}

/// The numbers in a text, in digits and in words up to twenty, without those that are part of a
/// longer token such as a date, a time, a version or an identifier.
pub(crate) fn all_in(text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    for written in WRITTEN.find_iter(text) {
        let before = text[..written.start()].chars().next_back();
        let mut after = text[written.end()..].chars();
        let (next, second) = (after.next(), after.next());
        let joined = |c: Option<char>, other: Option<char>| match c {
            None => false,
            Some(c) if c.is_alphanumeric() => true,
            Some('-' | '/' | ':' | '_' | '@' | '.' | ',') => {
                other.is_some_and(char::is_alphanumeric)
            }
            Some(_) => false,
        };
        let earlier = text[..written.start()].chars().rev().nth(1);
        if joined(before, earlier) || joined(next, second) {
            continue;
        }
        if let Some(number) = Number::parse(written.as_str()) {
            let rest = text[written.end()..].trim_start();
            let percent = rest.starts_with('%') || rest.starts_with("percent");
            found.push(Found { number, percent });
        }
    }
    for name in text.split(|c: char| !c.is_alphanumeric()) {
        if let Some(value) = word(&name.to_ascii_lowercase()) {
            found.push(Found {
                number: Number::whole(value),
                percent: false,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(text: &str) -> Vec<Number> {
        all_in(text).iter().map(|found| found.number).collect()
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(Number::parse("$1,200.50"), Number::parse("1200.5"));
        assert_eq!(Number::parse("EUR 98.70"), Number::parse("98.7"));
        for no in [
            "",
            "1e3",
            "0x10",
            "1,20",
            "12 34",
            "1.2.3",
            "１２",
            "1_000",
            "1.0000001",
        ] {
            assert_eq!(Number::parse(no), None, "{no}");
        }
        let ten = Number::parse("10").unwrap();
        assert_eq!(
            ten.percent_of(Number::parse("50").unwrap()),
            Number::parse("5")
        );
    }

    #[test]
    fn dates_and_identifiers_are_not_amounts() {
        assert_eq!(numbers("on 2024-05-19 at 12:30, v1.2.3, id A17, 1/2"), []);
        assert_eq!(
            numbers("pay 100.5, or two times $30."),
            ["100.5", "30", "2"].map(|n| Number::parse(n).unwrap())
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = (Number::parse(&text), all_in(&text));
        }

        #[test]
        fn whole_numbers_stay_themselves(value in -1_000_000_000_000_i64..1_000_000_000_000) {
            prop_assert_eq!(Number::parse(&value.to_string()), Some(Number::whole(value)));
        }
    }
}
