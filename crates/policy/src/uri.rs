//! Patterns for resources. A pattern that is a prefix covers only URIs with one reading, so that
//! `file:///srv/docs/*` does not cover `file:///srv/docs/..%2f..%2fetc/passwd`.

use model::Pattern;

use crate::path::{MAX_BYTES, is_dots};
use crate::unicode::{has_one_reading, is_attached};

/// Whether a resource pattern covers a URI: an exact one exactly this text, a prefix only what
/// can be read in one way.
pub(crate) fn matches(pattern: &Pattern, uri: &str) -> bool {
    pattern.matches(uri) && (!pattern.is_prefix() || has_one_spelling(uri))
}

/// Whether some URI that a template (RFC 6570) makes could be covered by the pattern. Only what
/// stands before the first expression is certain.
pub(crate) fn may_match_template(pattern: &Pattern, template: &str) -> bool {
    let certain = template.split('{').next().unwrap_or(template);
    if certain.len() == template.len() {
        return matches(pattern, template);
    }
    pattern.stem().starts_with(certain)
        || (pattern.is_prefix() && certain.starts_with(pattern.stem()))
}

/// Whether every reader sees the same parts in a URI (RFC 3986 §6.2.2 and beyond): no dot segments,
/// no empty segments inside the path, nothing encoded that could separate or be written plainly,
/// no user information.
fn has_one_spelling(uri: &str) -> bool {
    if uri.is_empty() || uri.len() > MAX_BYTES {
        return false;
    }
    let plain = |c: char| {
        !c.is_ascii_control()
            && !matches!(
                c,
                ' ' | '\\' | '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}'
            )
    };
    if !uri.chars().all(plain) || !decodes_plainly(uri) {
        return false;
    }
    let after_scheme = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let path_and_more = match after_scheme.strip_prefix("//") {
        Some(rest) => {
            let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if authority.contains('@') || is_dots(authority) {
                return false;
            }
            rest
        }
        None => after_scheme,
    };
    let (path, more) = path_and_more.split_at(
        path_and_more
            .find(['?', '#'])
            .unwrap_or(path_and_more.len()),
    );
    let names = path.strip_prefix('/').unwrap_or(path);
    let names = names.strip_suffix('/').unwrap_or(names);
    let path_is_plain = path.is_empty()
        || path == "/"
        || names
            .split('/')
            .all(|name| !name.is_empty() && !is_dots(name) && !name.starts_with(is_attached));
    path_is_plain && !more.split(['?', '#', '/', '&', '=', ';']).any(is_dots)
}

/// Whether per-cent encoding is used only where it must be: not for letters, digits and other
/// unreserved characters, not for separators, and for text beyond ASCII only in plain UTF-8.
fn decodes_plainly(uri: &str) -> bool {
    if !uri.contains('%') {
        return has_one_reading(uri);
    }
    let mut decoded = Vec::with_capacity(uri.len());
    let mut rest = uri.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = code.and_then(|code| u8::from_str_radix(code, 16).ok()) else {
            return false;
        };
        let separates = matches!(byte, b'/' | b'\\' | b'%' | b'?' | b'#' | b';' | b':' | b'@');
        let unreserved = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        if separates || unreserved || byte.is_ascii_control() {
            return false;
        }
        decoded.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(decoded).is_ok_and(|text| has_one_reading(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn prefixes_cover_plain_uris() {
        for (text, uri) in [
            ("file:///srv/docs/*", "file:///srv/docs/a%20b/%C3%BC.txt"),
            ("file:///srv/docs/*", "file:///srv/docs/"),
            ("*", "memo://insights"),
            ("*", "urn:isbn:1"),
            ("*", "demo://resource/dynamic/text/1"),
            ("https://x/*", "https://x/a?q=https://y/z"),
            ("postgres://*", "postgres://db/table/schema"),
        ] {
            assert!(matches(&pattern(text), uri), "{uri}");
        }
    }

    #[test]
    fn prefixes_cannot_be_escaped() {
        let docs = pattern("file:///srv/docs/*");
        for bad in [
            "..",
            "../etc",
            "a/../../etc",
            "%2e%2e/etc",
            "%2E%2E/x",
            "..%2fetc",
            "a%2fb",
            "a%5cb",
            "a\\..\\b",
            "%252e%252e/x",
            "a//b",
            "./a",
            "%00",
            "%0a",
            "a b",
            "\u{FF0E}\u{FF0E}/x",
            "%EF%BC%8E%EF%BC%8E/x",
            "%c0%ae%c0%ae/x",
            "..;/x",
            "%2",
            "%zz",
            "%61",
            "a?x=../../b",
            "a#../b",
            "%3f",
            "...",
            "\u{200C}",
            "%E2%80%8C",
            "\u{338}a",
            "{x}",
        ] {
            assert!(!matches(&docs, &format!("file:///srv/docs/{bad}")), "{bad}");
        }
        assert!(!matches(&pattern("https://x*"), "https://x@evil/"));
        // Whoever writes a URI out in full means exactly that one.
        assert!(matches(&pattern("odd://a//../b"), "odd://a//../b"));
    }

    #[test]
    fn templates_show_when_they_can_make_something_granted() {
        for (text, template, expected) in [
            ("file:///srv/*", "file:///srv/{name}", true),
            ("file:///srv/a", "file:///{+path}", true),
            ("file:///srv/*", "file:///{+path}", true),
            ("file:///srv/*", "file:///etc/{name}", false),
            ("file:///srv/a", "file:///srv/a{?x}", true),
            ("file:///srv/a", "file:///srv/ab{x}", false),
            ("*", "x://{a}", true),
            ("file:///a", "file:///a", true),
            ("file:///a", "file:///b", false),
        ] {
            assert_eq!(
                may_match_template(&pattern(text), template),
                expected,
                "{text} {template}"
            );
        }
    }

    proptest! {
        #[test]
        fn never_panics(uri in any::<String>()) {
            let _ = matches(&pattern("*"), &uri);
        }

        #[test]
        fn nothing_covered_resolves_elsewhere(tail in "(\\.|/|%2[eEfF]|%25|;|a|b|\\?|é| |~){0,8}") {
            let uri = format!("file:///srv/docs/{tail}");
            if matches(&pattern("file:///srv/docs/*"), &uri) {
                let once = uri.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
                for reading in [uri.clone(), once.replace("%25", "%"), once] {
                    let mut depth = 0_i32;
                    for name in reading["file:///srv/docs/".len()..].split(['/', '?']) {
                        let name = name.split(';').next().unwrap();
                        depth += match name { "" | "." => 0, ".." => -1, _ => 1 };
                        prop_assert!(depth >= 0, "{uri} {reading}");
                    }
                }
            }
        }
    }
}
