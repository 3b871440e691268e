//! Phrases of rules: `ignore {all,any,} {previous,prior} {instructions,rules}`.

use std::borrow::Cow;

/// Most phrases that one pattern may stand for.
pub(super) const EXPANSIONS: usize = 8_192;

/// All phrases that a pattern with alternatives in braces stands for; `None` when there are too many, or
/// braces do not match. An empty alternative leaves the word out. Braces are not nested.
pub(super) fn expand(pattern: &str) -> Option<Vec<String>> {
    let mut out = vec![String::new()];
    let mut rest = pattern;
    loop {
        let Some(open) = rest.find('{') else {
            if rest.contains('}') {
                return None;
            }
            out.iter_mut().for_each(|phrase| phrase.push_str(rest));
            return Some(out);
        };
        let (before, after) = (&rest[..open], &rest[open + 1..]);
        let close = after.find('}')?;
        if before.contains('}') || after[..close].contains('{') {
            return None;
        }
        let choices: Vec<&str> = after[..close].split(',').collect();
        if out.len() * choices.len() > EXPANSIONS {
            return None;
        }
        out = out
            .iter()
            .flat_map(|phrase| {
                choices
                    .iter()
                    .map(move |choice| format!("{phrase}{before}{choice}"))
            })
            .collect();
        rest = &after[close + 1..];
    }
}

/// A way to write a phrase: as it is, or such that only a reader who knows how would see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Disguise {
    None,
    Rot13,
    Atbash,
    Reversed,
}

impl Disguise {
    pub(super) const ALL: [Self; 4] = [Self::None, Self::Rot13, Self::Atbash, Self::Reversed];

    /// The word in findings; empty when there is no disguise.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Rot13 => "rot13",
            Self::Atbash => "atbash",
            Self::Reversed => "reversed",
        }
    }

    /// Puts it on a folded text, or takes it off again. The text stays as long as it is, in bytes.
    pub(super) fn turn(self, folded: &str) -> Cow<'_, str> {
        let letters = |change: fn(u8) -> u8| {
            let changed = folded.chars().map(|c| match u8::try_from(c) {
                Ok(byte) if byte.is_ascii_lowercase() => char::from(change(byte)),
                _ => c,
            });
            Cow::Owned(changed.collect())
        };
        match self {
            Self::None => Cow::Borrowed(folded),
            Self::Rot13 => letters(|byte| (byte - b'a' + 13) % 26 + b'a'),
            Self::Atbash => letters(|byte| b'z' - (byte - b'a')),
            Self::Reversed => Cow::Owned(folded.chars().rev().collect()),
        }
    }

    /// Where bytes of a turned text of this length were before.
    pub(super) fn span_before(self, length: usize, (start, end): (usize, usize)) -> (usize, usize) {
        match self {
            Self::None | Self::Rot13 | Self::Atbash => (start, end),
            Self::Reversed => (length.saturating_sub(end), length.saturating_sub(start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_alternatives() {
        assert_eq!(
            expand("a {b,c} d{,e}").unwrap(),
            ["a b d", "a b de", "a c d", "a c de"]
        );
        assert_eq!(expand("plain").unwrap(), ["plain"]);
        for bad in ["{", "}", "a}b{", "{a{b}}", "x {a"] {
            assert_eq!(expand(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pattern_cannot_explode() {
        assert_eq!(expand(&"{a,b}".repeat(14)), None);
        assert_eq!(expand(&"{a,b}".repeat(13)).unwrap().len(), 8_192);
    }

    #[test]
    fn disguises_are_what_they_are_called() {
        let turned = |disguise: Disguise| disguise.turn("abc xyz").into_owned();
        assert_eq!(
            Disguise::ALL.map(turned),
            ["abc xyz", "nop klm", "zyx cba", "zyx cba"]
        );
        for disguise in Disguise::ALL {
            let text = "né abc";
            assert_eq!(disguise.turn(&disguise.turn(text)), text);
            assert_eq!(disguise.turn(text).len(), text.len());
        }
        assert_eq!(Disguise::Reversed.span_before(7, (0, 3)), (4, 7));
    }
}
