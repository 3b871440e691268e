//! Reading text as words. What is accepted is compared strictly here: characters that look alike
//! stay different, and a value with characters that a reader cannot see equals nothing.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;

/// The longest word that is kept, in bytes; a longer one matches nothing.
pub(crate) const LONGEST_WORD: usize = 128;

/// Whether a value holds characters that a reader cannot see or that stand for others: controls,
/// format characters (zero-width, bidirectional), fillers, private use, and characters whose
/// canonical form is another single character (such as the Kelvin sign).
pub(crate) fn is_deceptive(value: &str) -> bool {
    value.chars().any(|c| {
        if c.is_ascii() {
            return c.is_control() && !matches!(c, '\n' | '\t' | '\r');
        }
        c.is_control() || is_invisible(c) || std::iter::once(c).nfc().next() != Some(c)
    })
}

fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0x00AD | 0x034F | 0x061C | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F
        | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0x2800 | 0x3164
        | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE000..=0xF8FF | 0xE0000..=0xE0FFF | 0xF0000..=0x10FFFF)
}

/// Whether a character beyond ASCII is a mark rather than a letter, a digit or a combining sign.
pub(crate) fn is_symbol(c: char) -> bool {
    !is_word(c)
}

/// One letter without its case, when upper and lower case are one to one; else as it is, so that
/// no two letters of different scripts become one.
fn fold(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(small), None) => {
            let mut back = small.to_uppercase();
            if back.next() == Some(c) && back.next().is_none() {
                small
            } else {
                c
            }
        }
        _ => c,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || canonical_combining_class(c) != 0
}

/// The words of a text, in order: runs of letters and digits, composed and without case.
pub(crate) fn words(text: &str) -> Vec<String> {
    if text.is_ascii() {
        // Composed as it is.
        return text
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect();
    }
    composed_words(text)
}

fn composed_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in text.nfc() {
        if is_word(c) {
            word.push(fold(c));
        } else if !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The words of a text as a careless reader sees them: compatibility forms resolved, invisible
/// characters dropped. For saying where a value was seen, never for accepting one.
pub(crate) fn careless_words(text: &str) -> Vec<String> {
    if text.is_ascii() {
        return words(text);
    }
    let text: String = text.chars().filter(|c| !is_invisible(*c)).nfkc().collect();
    words(&text.to_lowercase())
}

/// The pieces of a text between blanks, without the punctuation around them.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .map(|piece| {
            piece
                .trim_start_matches(['"', '\'', '`', '(', '[', '{', '<', '“', '‘', '«'])
                .trim_end_matches([
                    '"', '\'', '`', ')', ']', '}', '>', '”', '’', '»', '.', ',', ';', ':', '!', '?',
                ])
        })
        .filter(|piece| !piece.is_empty())
}

/// The parts of a text in quotation marks, without the marks.
pub(crate) fn quoted(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (open, close) in [
        ('"', '"'),
        ('\'', '\''),
        ('`', '`'),
        ('“', '”'),
        ('‘', '’'),
        ('«', '»'),
    ] {
        let mut rest = text;
        while let Some(start) = rest.find(open) {
            let opens = rest[..start]
                .chars()
                .next_back()
                .is_none_or(|before| !before.is_alphanumeric());
            let inner = &rest[start + open.len_utf8()..];
            match (opens, inner.find(close)) {
                (true, Some(end)) => {
                    found.push(&inner[..end]);
                    rest = &inner[end + close.len_utf8()..];
                }
                (false, Some(_)) => rest = inner,
                (_, None) => break,
            }
        }
    }
    found
}

/// Whether words say enough to choose something: at least one of four letters or digits that is
/// not among the commonest of English.
pub(crate) fn say_enough(words: &[String]) -> bool {
    const COMMON: [&str; 40] = [
        "about", "after", "also", "any", "been", "before", "could", "each", "file", "find", "for",
        "from", "give", "have", "help", "here", "into", "just", "know", "like", "make", "more",
        "need", "other", "please", "should", "some", "tell", "thanks", "that", "their", "them",
        "then", "there", "they", "this", "what", "when", "with", "your",
    ];
    words
        .iter()
        .any(|word| word.chars().count() >= 4 && !COMMON.contains(&word.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_alikes_stay_different() {
        assert_ne!(words("Kelvin"), words("\u{212A}elvin2"));
        assert!(is_deceptive("\u{212A}elvin"));
        assert!(is_deceptive("a\u{200B}b"));
        assert!(is_deceptive("a\u{202E}b"));
        assert!(!is_deceptive("Café Zürich, 東京"));
        assert_ne!(words("раypal"), words("paypal"));
        assert_ne!(words("ｐａｙ"), words("pay"));
    }

    #[test]
    fn composed_and_decomposed_are_one_text() {
        assert_eq!(words("Cafe\u{301}"), words("CAFÉ"));
        assert!(!is_deceptive("Cafe\u{301}"));
    }

    #[test]
    fn quotations_are_found_and_apostrophes_are_not() {
        assert_eq!(quoted("it's 'a b' and \"c\""), ["c", "a b"]);
    }
}
