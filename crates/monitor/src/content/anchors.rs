//! Anchors: literal texts of which at least one stands wherever an expression matches. They are found
//! much faster than expressions, so an expression is tried only where there is one.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;
use regex_syntax::hir::literal::{ExtractKind, Extractor, Seq};

/// Most anchors of one expression; one with more is always tried.
const MOST: usize = 256;
/// Longest part of an anchor that is looked for, in bytes.
const LONGEST: usize = 10;

/// The anchors of an expression, in lower case; `None` when it has none that would help.
pub(super) fn of(expression: &str) -> Option<Vec<String>> {
    let hir = ParserBuilder::new().build().parse(expression).ok()?;
    [ExtractKind::Prefix, ExtractKind::Suffix]
        .into_iter()
        .filter_map(|kind| extract(&hir, &kind))
        .max_by_key(|anchors| anchors.iter().map(String::len).min())
}

fn extract(hir: &Hir, kind: &ExtractKind) -> Option<Vec<String>> {
    let mut extractor = Extractor::new();
    extractor
        .kind(kind.clone())
        .limit_class(12)
        .limit_repeat(4)
        .limit_literal_len(LONGEST)
        .limit_total(8_192);
    let found: Seq = extractor.extract(hir);
    let mut anchors = Vec::new();
    for literal in found.literals()? {
        let text = std::str::from_utf8(literal.as_bytes()).ok()?;
        let text = text.to_ascii_lowercase();
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
    }

    #[test]
    fn what_may_match_anything_has_none() {
        for expression in [r"[a-z]+", r"(?:a|b)?[^x]{3}", r"\s+x?", r"\d{4}-\d{2}"] {
            assert_eq!(of(expression), None, "{expression}");
        }
    }
}
