//! Characters that programs read in different ways, so that no path or URI may contain them.

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::is_nfkc;

/// Whether a text beyond ASCII has one reading only: it is the same under every Unicode
/// normalisation that file systems and libraries apply (NFKC is the strongest that composes), and
/// has nothing invisible, no private meaning and no look-alike of `/`, `\`, `.`, `:` or `%`.
pub(crate) fn has_one_reading(text: &str) -> bool {
    text.is_ascii() || (is_nfkc(text) && !text.chars().any(is_doubtful))
}

/// Whether a character attaches to the one before it, which must then not be a separator.
pub(crate) fn is_attached(c: char) -> bool {
    !c.is_ascii() && is_combining_mark(c)
}

fn is_doubtful(c: char) -> bool {
    if c.is_ascii() {
        return false;
    }
    c.is_control()
        || c.is_whitespace()
        || is_invisible(c)
        || is_unassigned_for_good(c)
        || is_alike(c)
}

/// Format characters and default-ignorable code points (Unicode DerivedCoreProperties): some file
/// systems drop them when comparing names, so `.<U+200C>.` becomes `..`.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xAD | 0x34F | 0x61C | 0x600..=0x605 | 0x6DD | 0x70F | 0x890 | 0x891 | 0x8E2
        | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
        | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0
        | 0xFFF0..=0xFFFD | 0x110BD | 0x110CD | 0x13430..=0x1345F | 0x1BCA0..=0x1BCA3
        | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
}

/// Private use (some systems store reserved characters such as `\` there) and non-characters.
fn is_unassigned_for_good(c: char) -> bool {
    matches!(u32::from(c), 0xE000..=0xF8FF | 0xFDD0..=0xFDEF | 0xF_0000..)
        || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Characters that best-fit conversion to an older code page, or a reader's eye, takes for a
/// separator, dot, colon or per-cent sign, and that NFKC leaves alone.
fn is_alike(c: char) -> bool {
    matches!(
        c,
        // Slashes: fraction, division, box drawing, mathematical, big, ideographic strokes, repeat marks.
        '\u{2044}' | '\u{2215}' | '\u{2571}' | '\u{27CB}' | '\u{29F8}' | '\u{31D3}' | '\u{3033}'
        | '\u{1735}'
        // Backslashes; the yen and won signs stand where some code pages have the backslash.
        | '\u{2216}' | '\u{2572}' | '\u{27CD}' | '\u{29F5}' | '\u{29F9}' | '\u{31D4}' | '\u{A5}'
        | '\u{20A9}'
        // Dots.
        | '\u{701}' | '\u{702}' | '\u{A4F8}' | '\u{A4FA}' | '\u{10A50}' | '\u{1D16D}'
        // Colons and per-cent signs.
        | '\u{2236}' | '\u{A789}' | '\u{66A}' | '\u{2052}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_of_the_world_pass() {
        for good in [
            "résumé",
            "Übung",
            "報告書",
            "отчёт",
            "تقرير",
            "रिपोर्ट",
            "보고서",
            "naïve – v2",
        ] {
            assert!(has_one_reading(good), "{good}");
        }
    }

    #[test]
    fn tricks_do_not() {
        for bad in [
            "\u{FF0E}\u{FF0E}",
            "\u{2025}",
            "\u{2024}",
            "\u{FF0F}",
            "\u{2215}",
            "\u{FE52}",
            "re\u{301}sume",
            ".\u{200C}.",
            "a\u{202E}b",
            "\u{F05C}",
            "\u{FEFF}a",
            "a\u{A0}b",
            "\u{A5}",
            "\u{FFFF}",
            "\u{FFFD}",
            "\u{2028}",
            "a\u{85}",
            "\u{FF05}2e",
            "\u{E0041}",
        ] {
            assert!(!has_one_reading(bad), "{bad:?}");
        }
    }
}
