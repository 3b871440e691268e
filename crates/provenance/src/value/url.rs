//! URLs (RFC 3986) in one form: scheme and host without case, no default port, and everything
//! after the host byte for byte.

/// Top-level names that are file extensions too; such a text is a file name, not a host.
const FILE_EXTENSIONS: [&str; 24] = [
    "md", "sh", "zip", "mov", "rs", "py", "pl", "ps", "txt", "doc", "docx", "xls", "xlsx", "pdf",
    "csv", "json", "toml", "yaml", "html", "png", "jpg", "ppt", "pptx", "xml",
];

/// The canonical form of an absolute URL; `None` for what is not one, has user information, a
/// backslash, a blank, a dot segment, or anything that is not ASCII.
pub(crate) fn parse(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    let plain = rest
        .chars()
        .all(|c| c.is_ascii_graphic() && !"\\\"<>^`{|}".contains(c));
    if !scheme_ok || !plain {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = authority.to_ascii_lowercase();
    let authority = match scheme.as_str() {
        "http" => authority.strip_suffix(":80").unwrap_or(&authority),
        "https" => authority.strip_suffix(":443").unwrap_or(&authority),
        _ => &authority,
    };
    let path = &tail[..tail.find(['?', '#']).unwrap_or(tail.len())];
    let dotted = path.split('/').any(|segment| {
        matches!(
            segment.to_ascii_lowercase().replace("%2e", ".").as_str(),
            "." | ".."
        )
    });
    if authority.is_empty() || authority.contains(['@', '%']) || dotted {
        return None;
    }
    let slash = if tail.starts_with('/') { "" } else { "/" };
    Some(format!("{scheme}://{authority}{slash}{tail}"))
}

/// The canonical forms that a text without a scheme may stand for (`www.example.org/x`).
pub(crate) fn without_scheme(text: &str) -> Option<[String; 2]> {
    let host = text.split(['/', '?', '#', ':']).next()?;
    let last = host.rsplit('.').next()?.to_ascii_lowercase();
    let is_host = host.contains('.')
        && last.len() >= 2
        && last.chars().all(|c| c.is_ascii_alphabetic())
        && !FILE_EXTENSIONS.contains(&last.as_str())
        && host.split('.').all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    if !is_host {
        return None;
    }
    Some([
        parse(&format!("https://{text}"))?,
        parse(&format!("http://{text}"))?,
    ])
}

/// The URLs in a text, canonical, also those without a scheme.
pub(crate) fn all_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for piece in crate::text::pieces(text) {
        let piece = match piece.split_once("](") {
            Some((_, link)) => link,
            None => piece,
        };
        if let Some(url) = parse(piece) {
            found.push(url);
        } else if !piece.contains('@')
            && let Some(urls) = without_scheme(piece)
        {
            found.extend(urls);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        assert_eq!(
            parse("HTTPS://Example.org:443").unwrap(),
            "https://example.org/"
        );
        assert_ne!(parse("https://e.org/A"), parse("https://e.org/a"));
        for odd in [
            "https://good.org@evil.org/",
            "https://good.org\\@evil.org",
            "https://g.org/../x",
            "https://g.org/%2e%2E/x",
            "https://gооd.org/",
            "https:///x",
            "javascript:alert(1)",
        ] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_host_with_another_behind_it_is_another() {
        let known = all_in("see www.good.org, and (https://a.org/x).");
        assert!(known.contains(&"https://www.good.org/".to_owned()));
        assert!(known.contains(&"https://a.org/x".to_owned()));
        assert!(!known.contains(&parse("https://www.good.org.evil.org").unwrap()));
        assert!(all_in("ann@example.org and notes.md").is_empty());
    }
}
