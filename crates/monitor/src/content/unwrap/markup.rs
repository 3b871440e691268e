//! What markup and invisible characters hide.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use regex::Regex;

use super::{Push, readable};
use crate::content::survey::FEWEST_ESCAPES;

/// Messages in characters that nobody sees: tags are ASCII, variation selectors are bytes.
pub(super) fn invisible(text: &str, push: &mut Push<'_>) -> bool {
    if text.is_ascii() {
        return true;
    }
    let mut tags = Vec::new();
    let mut selected = Vec::new();
    let (mut first, mut last) = (None, 0);
    for (at, c) in text.char_indices() {
        let code = u32::from(c);
        match code {
            0xe0020..=0xe007e => tags.extend(u8::try_from(code - 0xe0000)),
            0xfe00..=0xfe0f => selected.extend(u8::try_from(code - 0xfe00)),
            0xe0100..=0xe01ef => selected.extend(u8::try_from(code - 0xe0100 + 16)),
            _ => continue,
        }
        first.get_or_insert(at);
        last = at + c.len_utf8();
    }
    let span = (first.unwrap_or(0), last);
    for (kind, bytes) in [("tag characters", tags), ("variation selectors", selected)] {
        if let Some(decoded) = readable(bytes)
            && !push(kind, decoded, span, true)
        {
            return false;
        }
    }
    true
}

/// Comments, elements that are not shown, and words that markup cuts apart.
pub(super) fn markup(text: &str, push: &mut Push<'_>) -> bool {
    static COMMENTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?s)<!--(.+?)-->|(?m)^\[[^\]\n]{1,60}\]:\s*(?:#|<>)\s*[(\x22'](.+?)[)\x22']\s*$",
        )
        .expect("a constant expression")
    });
    static UNSEEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(concat!(
            r"(?i)<[a-z][^<>]{0,200}(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0",
            r"|opacity\s*:\s*0|color\s*:\s*(?:white|#fff|transparent))[^<>]{0,200}>([^<]{8,})",
        ))
        .expect("a constant expression")
    });
    static ELEMENTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?s)</?[A-Za-z][^<>]{0,300}>|<!--.*?-->").expect("a constant expression")
    });
    if !(text.contains('<') || text.contains("]:")) {
        return true;
    }
    static TELLING: LazyLock<AhoCorasick> = LazyLock::new(|| {
        AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(["display", "visibility", "font-size", "opacity", "color"])
            .expect("a constant set")
    });
    let has_comments = text.contains("<!--") || text.contains("]:");
    for (may_be, kind, expression) in [
        (has_comments, "comment", &*COMMENTS),
        (TELLING.is_match(text), "hidden element", &*UNSEEN),
    ] {
        if !may_be {
            continue;
        }
        for found in expression.captures_iter(text) {
            let Some(inner) = found.get(1).or_else(|| found.get(2)) else {
                continue;
            };
            let span = (inner.start(), inner.end());
            if !push(kind, inner.as_str().to_owned(), span, true) {
                return false;
            }
        }
    }
    if ELEMENTS.find_iter(text).take(FEWEST_ESCAPES).count() == FEWEST_ESCAPES {
        let apart = |found: &regex::Captures<'_>| {
            if separates(&found[0]) { "\n" } else { "" }
        };
        let plain = ELEMENTS.replace_all(text, apart).into_owned();
        return push("markup removed", plain, (0, text.len()), false);
    }
    true
}

/// Whether what stands before an element and what stands after it are apart for whoever reads the page: a
/// paragraph ends there, or a line, or a cell.
fn separates(element: &str) -> bool {
    let name = element.trim_start_matches(['<', '/']);
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    let name = name[..end.unwrap_or(name.len())].to_ascii_lowercase();
    matches!(
        name.as_str(),
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "body"
            | "br"
            | "caption"
            | "dd"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "head"
            | "header"
            | "hr"
            | "html"
            | "legend"
            | "li"
            | "main"
            | "nav"
            | "ol"
            | "option"
            | "p"
            | "pre"
            | "section"
            | "select"
            | "table"
            | "tbody"
            | "td"
            | "textarea"
            | "tfoot"
            | "th"
            | "thead"
            | "title"
            | "tr"
            | "ul"
    )
}
