//! Anchors: literal texts of which at least one stands wherever an expression matches. They are found
//! much faster than expressions, so an expression is tried only where there is one.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{ExtractKind, Extractor};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// Most anchors of one expression; one with more is always tried.
const MOST: usize = 256;
/// Longest part of an anchor that is looked for, in bytes.
const LONGEST: usize = 10;

/// The anchors of an expression, in lower case; `None` when it has none that would help.
pub(super) fn of(expression: &str) -> Option<Vec<String>> {
    let hir = ParserBuilder::new().build().parse(expression).ok()?;
    let hir = lowered(&hir);
    // Whatever matches has each part of it.
    let parts: &[Hir] = match hir.kind() {
        HirKind::Concat(parts) => parts,
        _ => &[],
    };
    std::iter::once(&hir)
        .chain(parts)
        .flat_map(|part| [(part, ExtractKind::Prefix), (part, ExtractKind::Suffix)])
        .filter_map(|(part, kind)| extract(part, kind))
        .max_by_key(|anchors| anchors.iter().map(String::len).min())
}

fn extract(hir: &Hir, kind: ExtractKind) -> Option<Vec<String>> {
    let mut extractor = Extractor::new();
    extractor
        .kind(kind.clone())
        .limit_class(12)
        .limit_repeat(4)
        .limit_literal_len(LONGEST)
        .limit_total(8_192);
    let mut anchors = Vec::new();
    for literal in extractor.extract(hir).literals()? {
        let text = whole_characters(literal.as_bytes(), &kind)?.to_ascii_lowercase();
        if text.trim().is_empty() {
            return None;
        }
        anchors.push(text);
    }
    anchors.sort_unstable();
    anchors.dedup();
    // What has another one in front needs no place of its own.
    anchors.dedup_by(|next, kept| next.starts_with(kept.as_str()));
    (!anchors.is_empty() && anchors.len() <= MOST).then_some(anchors)
}

/// A literal without the character that its limit cut apart.
fn whole_characters<'a>(literal: &'a [u8], kind: &ExtractKind) -> Option<&'a str> {
    let within = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let whole = match kind {
        ExtractKind::Suffix => {
            let rest = literal.iter().take_while(|byte| within(byte)).count();
            &literal[rest..]
        }
        _ => match std::str::from_utf8(literal) {
            Ok(_) => literal,
            Err(error) => &literal[..error.valid_up_to()],
        },
    };
    std::str::from_utf8(whole).ok()
}

/// The expression without the capitals of ASCII that stand beside their small letters: anchors are looked
/// for in small letters, and there are fewer of them so.
fn lowered(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            let mut capitals = ClassUnicode::empty();
            for range in class.iter() {
                for small in (range.start()..=range.end()).take_while(|c| *c <= 'z') {
                    if small.is_ascii_lowercase() {
                        let capital = small.to_ascii_uppercase();
                        capitals.push(ClassUnicodeRange::new(capital, capital));
                    }
                }
            }
            let mut class = class.clone();
            class.difference(&capitals);
            Hir::class(Class::Unicode(class))
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(lowered).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(lowered).collect()),
        HirKind::Capture(capture) => lowered(&capture.sub),
        HirKind::Repetition(repetition) => Hir::repetition(regex_syntax::hir::Repetition {
            sub: Box::new(lowered(&repetition.sub)),
            ..repetition.clone()
        }),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchors(expression: &str) -> Vec<String> {
        of(expression).unwrap_or_default()
    }

    #[test]
    fn each_match_has_an_anchor() {
        assert_eq!(
            anchors(r"(?-u:\b)(?:send|forward|e-?mail)(?-u:\b)"),
            ["e-mail", "email", "forward", "send"]
        );
        assert_eq!(
            anchors(r"\.ssh/|id_(?:rsa|ecdsa)"),
            [".ssh/", "id_ecdsa", "id_rsa"]
        );
        assert_eq!(anchors(r"(?i)<img\s"), ["<img"]);
        assert_eq!(anchors(r"[a-z]{1,20}://"), ["://"]);
        assert_eq!(
            anchors(r"(?i)<(?:important|admin)>"),
            ["<admin>", "important>"]
        );
        assert_eq!(
            anchors(r"(?m)^\s*(?:user|human): ?[^\n]+"),
            ["human", "user"]
        );
        assert_eq!(anchors(r"<｜(?:User|Bot)｜>"), ["user｜>", "｜bot｜>"]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_matches_has_one(texts in [
            r"(?i)<(?:important|system[-_ ]?prompt|kiss)>",
            r"[a-z]{0,3}(?:user|human|система): ?[^\n]{1,9}",
            r"<｜(?:User|Assistant)｜>|\[/?INST\]",
            r"(?:send|e-?mail) [0-9]{1,4}(?:now|at once)?",
        ].map(|expression| {
            let matching = proptest::string::string_regex(expression).unwrap();
            proptest::strategy::Strategy::prop_map(matching, move |text| (expression, text))
        })) {
            for (expression, text) in texts {
                let text = text.to_ascii_lowercase();
                let anchors = of(expression).unwrap();
                proptest::prop_assert!(anchors.iter().any(|anchor| text.contains(anchor.as_str())));
            }
        }
    }

    #[test]
    fn what_may_match_anything_has_none() {
        for expression in [r"[a-z]+", r"(?:a|b)?[^x]{3}", r"\s+x?", r"\d{4}"] {
            assert_eq!(of(expression), None, "{expression}");
        }
    }
}
