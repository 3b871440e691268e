//! Personal data in texts. Whatever has a check digit is checked, so that numbers are not mistaken for it.

use std::sync::LazyLock;

pub use model::inspection::PersonalData as Kind;
use regex::Regex;

use super::spans::Spans;

/// Most data that is reported of one text.
const MOST: usize = 16_384;

/// Personal data in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Personal {
    /// What it is.
    pub kind: Kind,
    /// The first byte of it.
    pub start: usize,
    /// The first byte after it.
    pub end: usize,
}

macro_rules! expression {
    ($text:expr) => {{
        static EXPRESSION: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("a constant expression"));
        &*EXPRESSION
    }};
}

/// The personal data in a text, at most [`MOST`], in order and without overlap.
#[must_use]
pub fn find(text: &str) -> Vec<Personal> {
    let mut found: Vec<Personal> = Vec::new();
    let mut spans = Spans::default();
    let mut note = |kind, expression: &Regex, sound: fn(&str) -> bool| {
        for hit in expression.find_iter(text) {
            let (start, end) = (hit.start(), hit.end());
            let alone = is_alone(text, start, end);
            let full = found.len() == MOST;
            if !full && alone && sound(hit.as_str()) && spans.take(start, end) {
                found.push(Personal { kind, start, end });
            }
        }
    };
    if text.contains('@') {
        let email = expression!(
            r"(?-u)[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}"
        );
        note(Kind::Email, email, |_| true);
    }
    if text.bytes().filter(u8::is_ascii_digit).take(9).count() == 9 {
        let iban = expression!(r"(?-u)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?");
        note(Kind::Iban, iban, is_iban);
        let card = expression!(r"(?-u)[2-6][0-9]{3}(?:[ -]?[0-9]{2,6}){2,4}");
        note(Kind::CreditCard, card, is_card);
        let ssn = expression!(r"(?-u)[0-9]{3}-[0-9]{2}-[0-9]{4}");
        note(Kind::Ssn, ssn, is_ssn);
        let phone = expression!(
            r"(?-u)\+[1-9][0-9]{0,2}(?:[ .()-]{1,2}[0-9]{1,8}){1,6}|\+[1-9][0-9]{8,14}|\(?[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-][0-9]{4}"
        );
        note(Kind::Phone, phone, is_phone);
    }
    found.sort_unstable_by_key(|one| one.start);
    found
}

/// Whether it is not a part of something longer.
fn is_alone(text: &str, start: usize, end: usize) -> bool {
    let part =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = text.as_bytes();
    let before = start.checked_sub(1).and_then(|at| bytes.get(at));
    let longer = |byte: Option<&u8>| matches!(byte, Some(b'-' | b'.'));
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let begins_within = part(before) || (longer(before) && start >= 2 && digit(start - 2));
    let ends_within = part(bytes.get(end)) || (longer(bytes.get(end)) && digit(end + 1));
    !begins_within && !ends_within
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// ISO 13616: length by country, and ISO 7064 MOD 97-10.
fn is_iban(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    let length = match &plain[..2] {
        "NO" => 15,
        "BE" => 16,
        "DK" | "FI" | "FO" | "GL" | "NL" => 18,
        "MK" | "SI" => 19,
        "AT" | "BA" | "EE" | "KZ" | "LT" | "LU" | "XK" => 20,
        "CH" | "CR" | "HR" | "LI" | "LV" => 21,
        "BG" | "BH" | "DE" | "GB" | "GE" | "IE" | "ME" | "RS" => 22,
        "AE" | "GI" | "IL" | "IQ" | "OM" | "SO" | "TL" => 23,
        "AD" | "CZ" | "ES" | "MD" | "PK" | "RO" | "SA" | "SE" | "SK" | "TN" | "VG" => 24,
        "LY" | "PT" | "ST" => 25,
        "IS" | "TR" => 26,
        "BI" | "DJ" | "FR" | "GR" | "IT" | "MC" | "MR" | "SM" => 27,
        "AL" | "AZ" | "BY" | "CY" | "DO" | "GT" | "HU" | "LB" | "NI" | "PL" | "SV" => 28,
        "BR" | "EG" | "PS" | "QA" | "UA" => 29,
        "JO" | "KW" | "MU" | "YE" => 30,
        "MT" | "SC" => 31,
        "LC" => 32,
        "RU" => 33,
        _ => return false,
    };
    let (country, rest) = plain.split_at(4);
    plain.len() == length
        && rest
            .chars()
            .chain(country.chars())
            .try_fold(0u32, |sum, c| {
                let value = c.to_digit(36)?;
                let shift = if value > 9 { 100 } else { 10 };
                Some((sum * shift + value) % 97)
            })
            == Some(1)
}

/// ISO/IEC 7812: issuers with their lengths, and the check digit of annex B.
fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let first = |count: usize| {
        digits
            .iter()
            .take(count)
            .fold(0, |all, digit| all * 10 + digit)
    };
    let known = match digits.len() {
        15 => matches!(first(2), 34 | 37),
        14 => matches!(first(2), 36 | 38 | 39) || matches!(first(3), 300..=305),
        16 => {
            first(1) == 4
                || matches!(first(2), 51..=55 | 62 | 65)
                || matches!(first(4), 2221..=2720 | 3528..=3589 | 6011)
        }
        13 | 19 => first(1) == 4,
        _ => false,
    };
    let repeated = digits.iter().all(|digit| *digit == digits[0]);
    known && !repeated && luhn(&digits)
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Numbers that were ever assigned: no area 000, 666 or 9xx, no group 00, no serial 0000.
fn is_ssn(text: &str) -> bool {
    let area = &text[..3];
    let known_example = matches!(text, "123-45-6789" | "078-05-1120" | "219-09-9999");
    area != "000"
        && area != "666"
        && !area.starts_with('9')
        && &text[4..6] != "00"
        && &text[7..] != "0000"
        && !known_example
}

fn is_phone(text: &str) -> bool {
    matches!(digits(text).len(), 9..=15)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        find(text).into_iter().map(|one| one.kind).collect()
    }

    #[test]
    fn what_is_sound_is_found() {
        for (text, kind) in [
            ("write to ada.l+x@mail.example.co.uk.", Kind::Email),
            ("call +49 30 123456-78 now", Kind::Phone),
            ("call (415) 555-2671", Kind::Phone),
            ("+14155552671", Kind::Phone),
            ("DE89 3704 0044 0532 0130 00", Kind::Iban),
            ("GB82WEST12345698765432", Kind::Iban),
            ("card 4111 1111 1111 1111", Kind::CreditCard),
            ("3782-822463-10005", Kind::CreditCard),
            ("ssn 536-22-1234", Kind::Ssn),
        ] {
            assert_eq!(kinds(text), [kind], "{text}");
        }
    }

    #[test]
    fn numbers_are_not_mistaken_for_it() {
        for text in [
            "DE89 3704 0044 0532 0130 01",
            "4111 1111 1111 1112",
            "000-12-3456 and 666-12-3456 and 912-12-3456",
            "2026-11-24 12:00:00.123456",
            "0000000000000000",
            "version 1.2.3.4-5678901234",
            "uuid 018f4e6a-1111-4222-8333-123456789012",
            "user@localhost and @mention",
        ] {
            assert_eq!(kinds(text), [], "{text}");
        }
    }

    proptest! {
        #[test]
        fn one_wrong_digit_is_noticed(at in 4usize..22, add in 1u8..10) {
            let mut iban = *b"DE89370400440532013000";
            iban[at] = (iban[at] - b'0' + add) % 10 + b'0';
            prop_assert!(!is_iban(std::str::from_utf8(&iban).unwrap()));
        }

        #[test]
        fn spans_are_in_the_text(text in "[0-9A-Z@+a-z. -]{0,120}") {
            let found = find(&text);
            prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(found.iter().all(|one| text.get(one.start..one.end).is_some()));
        }
    }
}
