//! Comparing the URL in a proof with the one that was called (RFC 9449 §4.3, check 9): without
//! query and fragment, after the normalisation of RFC 3986 §6.2.2 and §6.2.3.

use std::borrow::Cow;

/// Whether both name the same endpoint.
pub(crate) fn same_endpoint(claimed: &str, called: &str) -> bool {
    let (claimed, called) = (without_query(claimed), without_query(called));
    // Nearly always the client writes the URL as the server does.
    claimed == called && !claimed.is_empty()
        || matches!((normalise(claimed), normalise(called)), (Some(a), Some(b)) if a == b)
}

fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// The normal form of an http or https URL; none for anything else, and for URLs with user names.
fn normalise(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if authority.contains('@') || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    // The last colon begins the port, unless it stands inside of an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    let is_name = !host.is_empty() && !host.contains([':', '[', ']']);
    let is_address = host.starts_with('[') && host.find(']') == Some(host.len() - 1);
    if !(is_name || is_address) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut normal = format!("{scheme}://{}", host.to_ascii_lowercase());
    if !port.is_empty() && port != default_port {
        normal.push(':');
        normal.push_str(port);
    }
    let path = percent_normal(path);
    normal.push_str(&without_dots(&path));
    Some(normal)
}

/// Escapes of unreserved characters are undone, other escapes are written in capitals.
fn percent_normal(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3).unwrap_or(&rest[at..at + 1]);
        match u8::from_str_radix(&escape[1..], 16) {
            Ok(byte) if escape.len() == 3 && !escape.contains('+') => match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    normal.push(char::from(byte));
                }
                _ => normal.push_str(&escape.to_ascii_uppercase()),
            },
            _ => normal.push_str(escape),
        }
        rest = &rest[at + escape.len()..];
    }
    normal.push_str(rest);
    Cow::Owned(normal)
}

/// RFC 3986 §5.2.4 for a path that begins with a slash.
fn without_dots(path: &str) -> Cow<'_, str> {
    if !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        match (segment, segments.peek().is_none()) {
            ("." | "..", last) => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            (other, _) => kept.push(other),
        }
    }
    Cow::Owned(format!("/{}", kept.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equivalent_spellings_are_the_same_endpoint() {
        for (a, b) in [
            (
                "https://gw.example.org/mcp/files",
                "HTTPS://GW.example.ORG:443/mcp/files?x=1#y",
            ),
            (
                "http://127.0.0.1:8601/mcp/a",
                "http://127.0.0.1:8601/mcp/a?",
            ),
            ("http://h", "http://h:80/"),
            ("http://h:/x", "http://h/x"),
            ("http://[::1]:80/x", "http://[::1]/x"),
            ("http://[::AB]/x", "http://[::ab]/x"),
            ("http://h/%7ea%2Fb", "http://h/~a%2fb"),
            ("http://h/a/./b/../c", "http://h/a/c"),
            ("http://h/a/..", "http://h/"),
        ] {
            assert!(same_endpoint(a, b) && same_endpoint(b, a), "{a} {b}");
        }
    }

    #[test]
    fn other_endpoints_are_not_the_same() {
        for (a, b) in [
            ("https://h/x", "http://h/x"),
            ("https://h/x", "https://h:8443/x"),
            ("https://h/x", "https://h/X"),
            ("https://h/x", "https://h/x/"),
            ("https://h/x", "https://h.evil/x"),
            ("https://h/x", "https://u@h/x"),
            ("https://h@evil/x", "https://h/x"),
            ("https://h/a%2Fb", "https://h/a/b"),
            ("https://h/x", "/x"),
            ("https://h:4 43/x", "https://h/x"),
            ("", ""),
            ("?a", "?b"),
        ] {
            assert!(!same_endpoint(a, b) && !same_endpoint(b, a), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn normal_forms_are_fixed_points(url in "(http|HTTPS)://[aB.\\[\\]:0-9@]{1,8}(/[a./%2fE~é]{0,10})?") {
            if let Some(normal) = normalise(&url) {
                // Undoing an escape can make a new dot segment, never a new escape of a letter.
                let again = normalise(&normal);
                prop_assert_eq!(again.as_deref(), Some(normal.as_str()));
            }
        }

        #[test]
        fn never_panics(a in ".{0,40}", b in "[a-z:/%.@\\[\\]é]{0,40}") {
            let _ = same_endpoint(&a, &b);
        }
    }
}
