//! Characters that mislead: those that are not seen, those that look like others, those that act.

mod fold;
mod hidden;
mod names;

pub use fold::{Folded, Squeezed, fold, squeeze, squeeze_phrase};
pub(crate) use fold::{fold_phrase, squeeze_turned, squeezed_byte};
pub use hidden::{Hidden, hidden};
pub use names::{skeleton, words};

/// A text fit to be shown anywhere: whatever acts, hides or looks like ASCII without being it is written
/// as `\u{…}`. Cut to a number of characters, with `…` where something is missing.
#[must_use]
pub fn escaped(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most * 4));
    for (count, c) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            ' '..='~' => out.push(c),
            _ if c.is_control() || hidden(c).is_some() || fold::looks_ascii(c) => {
                out.extend(c.escape_unicode());
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_act_or_hide() {
        assert_eq!(escaped("a\u{1b}[2Jb", 99), "a\\u{1b}[2Jb");
        assert_eq!(escaped("a\u{202e}b\u{e0041}", 99), "a\\u{202e}b\\u{e0041}");
        assert_eq!(escaped("p\u{430}y", 99), "p\\u{430}y");
        assert_eq!(escaped("grüße 東京", 99), "grüße 東京");
        assert_eq!(escaped("abc", 2), "ab…");
    }
}
