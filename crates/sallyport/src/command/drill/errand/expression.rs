//! Texts that regular expressions of templates match from end to end.

use model::expression;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest text that is made, in bytes.
const LONGEST: usize = 512;
/// How often something is repeated that may be repeated as often as one likes.
const REPEATED: u32 = 5;
/// What is taken first from a class of characters, so that texts look like words and numbers.
const PREFERRED: &str = "drill1-_";

/// A text that an expression matches from end to end; `None` when none is found.
pub(super) fn matching(pattern: &str) -> Option<String> {
    let parsed = regex_syntax::parse(pattern).ok()?;
    let mut text = String::new();
    write(&parsed, &mut text)?;
    // Anchors and boundaries inside an expression are not looked at above.
    let whole = expression::whole(pattern).ok()?;
    whole.is_match(&text).then_some(text)
}

fn write(part: &Hir, text: &mut String) -> Option<()> {
    if text.len() > LONGEST {
        return None;
    }
    match part.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(()),
        HirKind::Literal(literal) => {
            text.push_str(std::str::from_utf8(&literal.0).ok()?);
            Some(())
        }
        HirKind::Class(class) => {
            text.push(one_of(class, text.len())?);
            Some(())
        }
        HirKind::Repetition(repetition) => {
            let most = repetition.max.unwrap_or(u32::MAX);
            for _ in 0..REPEATED.clamp(repetition.min, most.max(repetition.min)) {
                write(&repetition.sub, text)?;
            }
            Some(())
        }
        HirKind::Capture(capture) => write(&capture.sub, text),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| write(part, text)),
        HirKind::Alternation(parts) => {
            let before = text.len();
            parts.iter().find_map(|part| {
                text.truncate(before);
                write(part, text)
            })
        }
    }
}

/// A character of a class; `at` says where it will stand.
fn one_of(class: &Class, at: usize) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class
            .ranges()
            .iter()
            .map(|range| (range.start(), range.end()))
            .collect(),
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .filter(|range| range.end().is_ascii())
            .map(|range| (char::from(range.start()), char::from(range.end())))
            .collect(),
    };
    let holds = |wanted: char| {
        let mut ranges = ranges.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&wanted))
    };
    let here = PREFERRED.chars().cycle().nth(at % 5);
    let preferred = here.into_iter().chain(PREFERRED.chars());
    preferred
        .chain('!'..='~')
        .find(|wanted| holds(*wanted))
        .or_else(|| ranges.first().map(|(first, _)| *first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_look_like_what_is_meant() {
        for (pattern, text) in [
            ("[0-9]{1,6}", "11111"),
            ("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "drilld"),
            (r"[^@]+@example\.org", "drill@example.org"),
            (r"\d{4}-\d{2}-\d{2}", "1111-11-11"),
            ("(?:EU|US)-[A-Z]{2}", "EU-AA"),
            ("x{0}", ""),
            ("a?b*", "abbbbb"),
        ] {
            assert_eq!(matching(pattern).as_deref(), Some(text), "{pattern}");
        }
    }

    #[test]
    fn nothing_is_made_where_nothing_fits() {
        // Never matched, no expression, and longer than anybody wants.
        for pattern in ["[^\\s\\S]", "a\\bb", "(", "(?:a{900}){900}", "[a-z]{600}"] {
            assert_eq!(matching(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_made_matches(pattern in "(\\(\\?:)?[a-c.\\[\\]^|*+?{}0-9)\\\\dws-]{1,12}") {
            if let Some(text) = matching(&pattern) {
                prop_assert!(expression::whole(&pattern).unwrap().is_match(&text));
            }
        }
    }
}
