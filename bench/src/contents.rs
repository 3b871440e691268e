//! Contents of results: harmless texts of the kinds that tools give. Their words differ from one to the next, as they
//! do in life, so that nothing is known from before.

use std::fmt::Write as _;

use clap::ValueEnum;

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Sentences.
    Prose,
    /// A list of objects.
    Json,
    /// A line of text, and then what looks like a file in base64.
    Base64,
    /// A page with elements and attributes.
    Html,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Prose, Self::Json, Self::Base64, Self::Html];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prose => "prose",
            Self::Json => "json",
            Self::Base64 => "base64",
            Self::Html => "html",
        }
    }

    /// A text of this kind and of exactly so many bytes, all of them ASCII; each number has another.
    #[must_use]
    pub fn text(self, number: u64, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 256);
        let mut random = Random(number);
        while text.len() < bytes {
            let (a, b) = (random.next() % 1_000_000, random.next() % 1_000);
            let word = WORDS[usize::try_from(random.next() % 12).unwrap_or_default()];
            // Writing to a text does not fail.
            let _ = match self {
                Self::Prose => write!(
                    text,
                    "Parcel {a} left the {word} depot at noon; the customer of order {b} asked for it twice and was \
                     told that it arrives on Monday. "
                ),
                Self::Json => write!(
                    text,
                    "{}{{\"id\":{a},\"name\":\"{word} {b}\",\"city\":\"London\",\"tags\":[\"{word}\",\"open\"],\
                     \"when\":\"2026-11-{:02}T12:00:00Z\"}}",
                    if text.is_empty() { '[' } else { ',' },
                    b % 28 + 1
                ),
                Self::Base64 if text.is_empty() => write!(text, "scan-{a}.png: "),
                Self::Base64 => text.write_char(random.letter()),
                Self::Html => writeln!(
                    text,
                    "<tr class=\"row\" id=\"r{a}\"><td><a href=\"/orders/{b}\">{word} &amp; sons</a></td>\
                     <td>{b}.50</td></tr>"
                ),
            };
        }
        text.truncate(bytes);
        text
    }
}

const WORDS: [&str; 12] = [
    "northern", "copper", "harbour", "meadow", "violin", "garden", "bridge", "candle", "winter",
    "orchard", "lamp", "river",
];

/// Numbers that look random and are the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn letter(&mut self) -> char {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        char::from(LETTERS[usize::try_from(self.next() % 64).unwrap_or_default()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_their_length_and_differ() {
        for kind in Kind::ALL {
            let text = kind.text(7, 4096);
            assert_eq!(text.len(), 4096);
            assert_eq!(text, kind.text(7, 4096));
            assert_ne!(text, kind.text(8, 4096));
        }
    }
}
