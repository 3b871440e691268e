//! A text with its escapes undone, which remembers where each part of it stood: one escape in the middle of a
//! credential keeps it from being recognised, and every reader undoes it.

/// A part of the reading, up to the next.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Where it begins in the reading, and in the text.
    here: usize,
    there: usize,
    /// Whether it is the same in both, byte for byte.
    same: bool,
}

/// A reading of a text.
#[derive(Debug)]
pub(super) struct Undone {
    pub(super) text: String,
    steps: Vec<Step>,
    /// How long the text was.
    length: usize,
}

impl Undone {
    /// Undoes escapes of JSON and its relatives (`\u0041`, `\/`), percent-encoded ASCII (RFC 3986) and
    /// character references of XML and HTML; nothing when there are none. Once, as readers do.
    pub(super) fn of(text: &str) -> Option<Self> {
        if !text.bytes().any(|byte| matches!(byte, b'\\' | b'%' | b'&')) {
            return None;
        }
        let mut undone = Self {
            text: String::with_capacity(text.len()),
            steps: Vec::new(),
            length: text.len(),
        };
        let mut at = 0;
        let mut same_from = 0;
        while let Some(next) = text[at..].find(['\\', '%', '&']) {
            let sign = at + next;
            let Some((character, length)) = escape(&text[sign..]) else {
                at = sign + 1;
                continue;
            };
            undone.same(text, same_from, sign);
            undone.steps.push(Step {
                here: undone.text.len(),
                there: sign,
                same: false,
            });
            undone.text.push(character);
            at = sign + length;
            same_from = at;
        }
        if undone.steps.is_empty() {
            return None;
        }
        undone.same(text, same_from, text.len());
        Some(undone)
    }

    fn same(&mut self, text: &str, from: usize, to: usize) {
        if from < to {
            self.steps.push(Step {
                here: self.text.len(),
                there: from,
                same: true,
            });
            self.text.push_str(&text[from..to]);
        }
    }

    /// Where a part of the reading stood in the text.
    pub(super) fn span(&self, start: usize, end: usize) -> (usize, usize) {
        let index = |at: usize| {
            let after = self.steps.partition_point(|step| step.here <= at);
            after.saturating_sub(1)
        };
        let begin = self.steps[index(start)];
        let from = if begin.same {
            begin.there + (start - begin.here)
        } else {
            begin.there
        };
        let last = index(end.max(start + 1) - 1);
        let step = self.steps[last];
        let to = if step.same {
            step.there + (end.max(start) - step.here)
        } else {
            self.steps
                .get(last + 1)
                .map_or(self.length, |next| next.there)
        };
        (from, to.max(from))
    }
}

/// The character that an escape at the beginning of a text stands for, and how long the escape is.
fn escape(text: &str) -> Option<(char, usize)> {
    let bytes = text.as_bytes();
    match bytes.first()? {
        b'%' => {
            let code = hexadecimal(bytes.get(1..3)?)?;
            let character = char::from_u32(code).filter(char::is_ascii)?;
            Some((character, 3))
        }
        b'&' => reference(text),
        _ => match bytes.get(1)? {
            b'u' => unicode(bytes),
            b'n' | b'r' | b't' => Some((' ', 2)),
            byte @ (b'/' | b'"' | b'\\' | b'\'') => Some((char::from(*byte), 2)),
            b'x' => {
                let character = char::from_u32(hexadecimal(bytes.get(2..4)?)?)?;
                Some((character, 4))
            }
            _ => None,
        },
    }
}

/// `\u0041`, and two of them for what is beyond the first plane (RFC 8259 §7).
fn unicode(bytes: &[u8]) -> Option<(char, usize)> {
    let first = hexadecimal(bytes.get(2..6)?)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 6));
    }
    let second = bytes
        .get(6..8)
        .filter(|escape| *escape == b"\\u")
        .and_then(|_| hexadecimal(bytes.get(8..12)?))
        .filter(|second| (0xdc00..0xe000).contains(second))?;
    let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
    (first < 0xdc00)
        .then(|| char::from_u32(code))
        .flatten()
        .map(|character| (character, 12))
}

/// `&#65;`, `&#x41;`, and the five names of XML; HTML reads numbers without the `;` too.
fn reference(text: &str) -> Option<(char, usize)> {
    for (name, character) in [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&apos;", '\''),
    ] {
        if text.starts_with(name) {
            return Some((character, name.len()));
        }
    }
    let number = text.strip_prefix("&#")?;
    let (digits, radix, before) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16, 3),
        None => (number, 10, 2),
    };
    let length = digits
        .bytes()
        .take(8)
        .take_while(|byte| char::from(*byte).is_digit(radix))
        .count();
    let code = u32::from_str_radix(&digits[..length], radix).ok()?;
    let ends = usize::from(digits.as_bytes().get(length) == Some(&b';'));
    char::from_u32(code).map(|character| (character, before + length + ends))
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| {
        Some(value * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn single_escapes_are_undone_and_known_by_their_place() {
        for (text, expected, stood) in [
            (r"x gh\u0070_a y", "x ghp_a y", r"gh\u0070_a"),
            ("x gh%70_a y", "x ghp_a y", "gh%70_a"),
            ("x gh&#112;_a y", "x ghp_a y", "gh&#112;_a"),
            ("x gh&#x70;_a y", "x ghp_a y", "gh&#x70;_a"),
            (r"x g\x68p_a y", "x ghp_a y", r"g\x68p_a"),
            (r"x ghp\u005Fa y", "x ghp_a y", r"ghp\u005Fa"),
        ] {
            let undone = Undone::of(text).unwrap();
            assert_eq!(undone.text, expected);
            let at = undone.text.find("ghp_a").unwrap();
            let (from, to) = undone.span(at, at + 5);
            assert_eq!(&text[from..to], stood);
        }
        assert_eq!(Undone::of(r"\ud83d\ude42!").unwrap().text, "🙂!");
        assert_eq!(Undone::of(r"\\u0041").unwrap().text, r"\u0041", "once");
        for none in [
            "plain",
            "50% of it",
            "a & b",
            r"C:\dir",
            "%c3%a9",
            r"\ud83d x",
            "&#;",
        ] {
            assert!(Undone::of(none).is_none(), "{none}");
        }
    }

    proptest! {
        #[test]
        fn every_part_has_a_place_on_the_borders_of_characters(text in r"(\\u00[46][1-9]|%4[1-9]|&#6[5-9];|é|[a-z\\%&;]){0,20}") {
            if let Some(undone) = Undone::of(&text) {
                let borders: Vec<usize> = undone.text.char_indices().map(|(at, _)| at).chain([undone.text.len()]).collect();
                for (nth, start) in borders.iter().enumerate() {
                    for end in &borders[nth + 1..] {
                        let (from, to) = undone.span(*start, *end);
                        prop_assert!(from < to && to <= text.len());
                        prop_assert!(text.is_char_boundary(from) && text.is_char_boundary(to));
                    }
                }
                let all = undone.span(0, undone.text.len());
                prop_assert_eq!(all, (0, text.len()));
            }
        }
    }
}
