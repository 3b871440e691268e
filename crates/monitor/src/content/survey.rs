//! A first look at a text, in one pass over its bytes: what it cannot hold need not be looked for.

/// Fewest characters of a run that may be base64 or base32.
pub(super) const SHORTEST_RUN: u32 = 20;
/// Fewest hexadecimal digits that may be a text.
const SHORTEST_HEXADECIMAL: u32 = 16;
/// Fewest escapes that make a text an escaped one.
pub(super) const FEWEST_ESCAPES: usize = 3;

/// A byte is of base64, in either alphabet.
const RUN: u8 = 1;
/// A byte may stand among hexadecimal digits.
const AMONG_DIGITS: u8 = 2;
/// A byte is a hexadecimal digit.
const DIGIT: u8 = 4;
/// A byte is no printable ASCII and no ordinary white space.
const ODD: u8 = 8;
/// A byte is not of ASCII.
const HIGH: u8 = 16;
/// A byte begins an escape.
const ESCAPE: u8 = 32;
/// A byte is of markup.
const MARKUP: u8 = 64;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut at = 0;
    while at < 256 {
        let byte = at as u8;
        let mut class = 0;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_') {
            class |= RUN;
        }
        if byte.is_ascii_hexdigit() {
            class |= DIGIT | AMONG_DIGITS;
        }
        if matches!(byte, b'x' | b'X' | b'\\' | b' ' | b':' | b',' | b'-') {
            class |= AMONG_DIGITS;
        }
        if !matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r') {
            class |= ODD;
        }
        if !byte.is_ascii() {
            class |= HIGH;
        }
        if matches!(byte, b'%' | b'=' | b'&' | b'\\') {
            class |= ESCAPE;
        }
        if matches!(byte, b'<' | b']') {
            class |= MARKUP;
        }
        classes[at] = class;
        at += 1;
    }
    classes
}

/// What a text may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survey {
    /// It is printable ASCII with ordinary white space, and nothing else.
    pub(super) plain: bool,
    /// It is ASCII.
    pub(super) ascii: bool,
    /// There is a run that may be base64 or base32.
    pub(super) run: bool,
    /// There are enough hexadecimal digits beside each other.
    pub(super) hexadecimal: bool,
    /// There may be escapes, of some kind.
    pub(super) escapes: bool,
    /// There may be markup.
    pub(super) markup: bool,
}

impl Survey {
    pub(super) fn of(text: &str) -> Self {
        let (mut seen, mut run, mut longest, mut digits, mut most) = (0u8, 0u32, 0u32, 0u32, 0u32);
        let mut escapes = 0;
        for byte in text.bytes() {
            let class = CLASSES[usize::from(byte)];
            seen |= class;
            escapes += usize::from((class & ESCAPE) / ESCAPE);
            // Without branches: where runs end is as random as words are long.
            run = (run + 1) * u32::from(class & RUN);
            longest = longest.max(run);
            digits =
                (digits + u32::from((class & DIGIT) >> 2)) * u32::from((class & AMONG_DIGITS) >> 1);
            most = most.max(digits);
        }
        Self {
            plain: seen & ODD == 0,
            ascii: seen & HIGH == 0,
            run: longest >= SHORTEST_RUN,
            hexadecimal: most >= SHORTEST_HEXADECIMAL,
            escapes: escapes >= FEWEST_ESCAPES,
            markup: seen & MARKUP != 0,
        }
    }
}

/// Whether a sign stands in a text often enough to be an escape.
pub(super) fn has_escapes(text: &str, sign: u8) -> bool {
    text.bytes().filter(|byte| *byte == sign).count() >= FEWEST_ESCAPES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_a_text_may_hold() {
        let plain = Survey::of("An ordinary text,\n\tabout: deeds, faded and 2026-11-24.");
        assert!(plain.plain && plain.ascii && !plain.run && !plain.hexadecimal);
        assert!(Survey::of(&"A".repeat(20)).run && !Survey::of(&"A".repeat(19)).run);
        let digits = "6769 6e6f:72, 0x65 \\x20";
        assert!(Survey::of(&format!("{digits} 61")).hexadecimal);
        assert!(!Survey::of("6769 6e6f 7265").hexadecimal);
        let escape = Survey::of("\u{1b}[0m");
        assert!(!escape.plain && escape.ascii);
        assert!(!Survey::of("é").ascii);
        assert!(Survey::of("%69%67%6e").escapes && !Survey::of("100 % = all").escapes);
        assert!(Survey::of("a <b>").markup && Survey::of("[x]: y").markup && !plain.markup);
    }
}
