//! Phrases of rules: `ignore {all,any,} {previous,prior} {instructions,rules}`.

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

/// Ways to write a phrase that need no decoding, only another phrase: the name and the phrase.
pub(super) fn disguises(phrase: &str) -> [(&'static str, String); 3] {
    let letters = |change: fn(u8) -> u8| {
        phrase
            .chars()
            .map(|c| match u8::try_from(c) {
                Ok(byte) if byte.is_ascii_lowercase() => char::from(change(byte)),
                _ => c,
            })
            .collect::<String>()
    };
    [
        ("rot13", letters(|byte| (byte - b'a' + 13) % 26 + b'a')),
        ("atbash", letters(|byte| b'z' - (byte - b'a'))),
        ("reversed", phrase.chars().rev().collect()),
    ]
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
        let [rot, atbash, reversed] = disguises("abc xyz");
        assert_eq!(rot.1, "nop klm");
        assert_eq!(atbash.1, "zyx cba");
        assert_eq!(reversed.1, "zyx cba");
    }
}
