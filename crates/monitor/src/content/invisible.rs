//! Characters in a text that its reader does not see.

use std::collections::BTreeMap;

use crate::finding::{Asi, Atlas, Evidence, Finding, Severity, Subject};
use crate::text::{Hidden, hidden};

/// Fewest direction marks that are more than a language needs.
const MARKS: usize = 8;
/// Fewest variation selectors in a row that cannot be about how a character looks.
const SELECTORS: usize = 4;

/// What hides in a text: one finding for each kind of hidden character that has no business there.
/// Joiners within scripts and emoji, single selectors and byte order marks at the beginning have.
#[must_use]
pub fn scan(place: &str, text: &str) -> Vec<Finding> {
    let mut seen: BTreeMap<Hidden, (usize, usize, usize)> = BTreeMap::new();
    let mut note = |kind, at: usize, length| {
        let entry = seen.entry(kind).or_insert((0, at, at));
        entry.0 += 1;
        entry.2 = at + length;
    };
    if text
        .bytes()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r'))
    {
        return Vec::new();
    }
    let mut before = ' ';
    let mut selectors = 0;
    let mut chars = text.char_indices().peekable();
    let mut flag = false;
    while let Some((at, c)) = chars.next() {
        let after = chars.peek().map_or(' ', |(_, c)| *c);
        let kind = hidden(c);
        flag = c == '\u{1f3f4}' || (flag && kind == Some(Hidden::Tag));
        selectors = if kind == Some(Hidden::Variation) {
            selectors + 1
        } else {
            0
        };
        match kind {
            // A flag of a region is a black flag with tags.
            Some(Hidden::Tag) if flag => {}
            Some(Hidden::Variation) if selectors < SELECTORS => {}
            Some(Hidden::ZeroWidth) => {
                let joins = matches!(
                    c,
                    '\u{200c}' | '\u{200d}' | '\u{34f}' | '\u{180b}'..='\u{180e}'
                );
                let within = !before.is_ascii() && !after.is_ascii();
                let mark = c == '\u{feff}' && at == 0;
                let hyphen = c == '\u{ad}' && before.is_alphabetic() && after.is_alphabetic();
                if !(joins && within && hidden(before).is_none() || mark || hyphen) {
                    note(Hidden::ZeroWidth, at, c.len_utf8());
                }
            }
            Some(Hidden::Control) if matches!(c, '\u{c}' | '\u{b}' | '\u{85}') => {}
            Some(kind) => note(kind, at, c.len_utf8()),
            None => {}
        }
        before = c;
    }
    let mut findings: Vec<Finding> = Vec::new();
    for (kind, (count, start, end)) in seen {
        let marks_only = kind == Hidden::Bidirectional
            && count < MARKS
            && !text[start..end]
                .contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'));
        let severity = match kind {
            Hidden::Tag => Severity::High,
            Hidden::Variation => Severity::High,
            Hidden::Bidirectional if marks_only => continue,
            Hidden::Bidirectional => Severity::Medium,
            Hidden::Control if text[start..end].contains('\u{1b}') => continue,
            Hidden::ZeroWidth if count < 3 => Severity::Low,
            Hidden::ZeroWidth | Hidden::Filler | Hidden::Control => Severity::Medium,
        };
        findings.push(Finding {
            rule: format!("hidden-{}", kind.as_str().replace(' ', "-")),
            severity,
            asi: Some(Asi::Asi01),
            atlas: Atlas::known(Atlas::OBFUSCATION),
            subject: Subject::default(),
            evidence: Some(Evidence::of(place, text, start, end)),
            explanation: format!(
                "The text has {count} {} character{} that a model reads and a person does not see",
                kind.as_str(),
                if count == 1 { "" } else { "s" }
            ),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<String> {
        scan("text", text)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn what_scripts_and_emoji_need_is_fine() {
        for text in [
            "plain\n\ttext",
            "👩\u{200d}💻 and ❤\u{fe0f}",
            "می\u{200c}خواهم",
            "\u{feff}begins with a mark",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "Donau\u{ad}dampf\u{ad}schiff",
            "שלום\u{200f}!",
        ] {
            assert_eq!(rules(text), Vec::<String>::new(), "{text:?}");
        }
    }

    #[test]
    fn what_hides_is_found() {
        assert_eq!(rules("a\u{200b}b"), ["hidden-zero-width"]);
        assert_eq!(rules("a\u{200d}b"), ["hidden-zero-width"]);
        assert_eq!(rules("x\u{202e}cba"), ["hidden-bidirectional"]);
        assert_eq!(rules("x\u{e0041}\u{e0042}"), ["hidden-tag"]);
        assert_eq!(
            rules("🙂\u{e0141}\u{e0142}\u{e0143}\u{e0144}"),
            ["hidden-variation-selector"]
        );
        assert_eq!(rules("a\u{3164}"), ["hidden-blank-letter"]);
        assert_eq!(rules("a\u{8}b"), ["hidden-control"]);
    }

    #[test]
    fn the_evidence_shows_it() {
        let quote = &scan("text", "a\u{e0041}").remove(0).evidence.unwrap().quote;
        assert_eq!(quote, "\\u{e0041}");
    }
}
