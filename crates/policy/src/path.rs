//! Paths and URLs read in the one way that every program reads them, or not at all.
//!
//! Whether `/srv/a/..%2fb` lies below `/srv/a` depends on who reads it. So [`normalise`] accepts
//! only spellings about which no two readers disagree, and everything else is refused: it need not
//! know which reader the upstream is.

use crate::unicode::{has_one_reading, is_attached};

/// Longest path that is accepted, in bytes (Linux `PATH_MAX`).
pub const MAX_BYTES: usize = 4096;

/// A path or URL with only one reading, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location<'a> {
    /// What it starts from: empty for a relative path, `/` for an absolute one, and
    /// `scheme://authority` for a URL.
    pub root: &'a str,
    /// The names from there on, none of them empty, `.` or `..`.
    pub segments: Vec<&'a str>,
}

/// Why a text is not accepted as a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// It is empty or too long.
    #[error("it is empty or longer than 4096 bytes")]
    Length,
    /// A `.` or `..` segment, or one that some readers take for it.
    #[error("it has a `.` or `..` segment, or one that some programs read as that")]
    DotSegment,
    /// Two separators in a row: some readers see a host (`//server/share`), others one separator.
    #[error("it has two `/` in a row")]
    DoubledSeparator,
    /// A character that some readers give a meaning of its own: `\`, `%`, `:` and the like.
    #[error("it has the character {0:?}, which programs read in different ways")]
    Character(char),
    /// Characters that normalise to others, are invisible, or look like separators.
    #[error(
        "it has characters that change when they are normalised, are invisible, or look like separators"
    )]
    Unicode,
    /// A segment ends in a dot or a space, or begins with a space: some readers drop these.
    #[error("a name in it begins or ends with a space, or ends with a dot")]
    Trimmed,
    /// A segment begins with `~`, which some readers take for a home folder.
    #[error("a name in it begins with `~`")]
    Home,
    /// A device name such as `CON` or `NUL`, which is no file on some systems.
    #[error("a name in it is a device name on some systems")]
    Device,
    /// A URL whose scheme or authority is not plain.
    #[error("its scheme or host is not plain")]
    Authority,
}

/// Reads a path or URL, unless it could be read in two ways.
///
/// Accepted are absolute paths (`/srv/a`), relative paths (`docs/a`) and URLs with an authority
/// (`https://host/a`, `file:///srv/a`; a query is allowed and ignored, except after `file:`). One
/// separator at the end is ignored. Nothing is decoded, resolved or folded: a text that would need
/// that is refused. Windows paths are not accepted.
///
/// # Errors
/// [`Ambiguous`] says what could be read in two ways.
pub fn normalise(text: &str) -> Result<Location<'_>, Ambiguous> {
    if text.is_empty() || text.len() > MAX_BYTES {
        return Err(Ambiguous::Length);
    }
    if !has_one_reading(text) {
        return Err(Ambiguous::Unicode);
    }
    match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => url(text, scheme, rest),
        _ => {
            let (root, names) = match text.strip_prefix('/') {
                Some(names) => (&text[..1], names),
                None => ("", text),
            };
            Ok(Location {
                root,
                segments: segments(names, Form::Path)?,
            })
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Path,
    Url,
}

fn url<'a>(text: &'a str, scheme: &str, rest: &'a str) -> Result<Location<'a>, Ambiguous> {
    let plain_scheme = scheme.len() >= 2
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let is_file = scheme.eq_ignore_ascii_case("file");
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let plain_authority = (is_file || !authority.is_empty())
        && !authority.starts_with('.')
        && !authority.contains("..")
        && authority
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']'));
    if !plain_scheme || !plain_authority {
        return Err(Ambiguous::Authority);
    }
    let root = &text[..text.len() - after.len()];
    let (path, query) = match after.split_once('?') {
        Some((_, _)) if is_file => return Err(Ambiguous::Character('?')),
        Some((path, query)) => (path, query),
        None => (after, ""),
    };
    let odd = |c: &char| c.is_ascii_control() || matches!(c, '\\' | '#' | ' ');
    if let Some(c) = query.chars().find(odd) {
        return Err(Ambiguous::Character(c));
    }
    let names = path.strip_prefix('/').unwrap_or(path);
    Ok(Location {
        root,
        segments: segments(names, Form::Url)?,
    })
}

fn segments(names: &str, form: Form) -> Result<Vec<&str>, Ambiguous> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names = names.strip_suffix('/').unwrap_or(names);
    names
        .split('/')
        .map(|name| check(name, form).map(|()| name))
        .collect()
}

fn check(name: &str, form: Form) -> Result<(), Ambiguous> {
    let Some(first) = name.chars().next() else {
        return Err(Ambiguous::DoubledSeparator);
    };
    if is_dots(name) {
        return Err(Ambiguous::DotSegment);
    }
    if let Some(c) = name.chars().find(|c| is_special(*c, form)) {
        return Err(Ambiguous::Character(c));
    }
    // Shells and globbing readers make `..` of `.[.]`.
    if first == '.' && name.contains('[') {
        return Err(Ambiguous::Character('['));
    }
    if is_attached(first) {
        return Err(Ambiguous::Unicode);
    }
    if first == ' ' || name.ends_with(['.', ' ']) {
        return Err(Ambiguous::Trimmed);
    }
    if first == '~' {
        return Err(Ambiguous::Home);
    }
    if form == Form::Path && is_device(name) {
        return Err(Ambiguous::Device);
    }
    Ok(())
}

/// `.`, whatever begins with `..`, and `.;x`: some servers cut parameters off after resolving.
pub(crate) fn is_dots(name: &str) -> bool {
    name == "." || name.starts_with("..") || name.starts_with(".;")
}

/// Characters with a meaning of their own to some reader: escapes (`%`, `\`), variables and
/// command substitution (`$`, `` ` ``), brace expansion, and what Windows reserves, such as `:` for
/// drives and alternate streams. In URLs, `:` is ordinary, and `?` never gets here.
fn is_special(c: char, form: Form) -> bool {
    match c {
        '%' | '\\' | '$' | '`' | '{' | '}' | '<' | '>' | '"' | '|' | '*' => true,
        '?' | ':' => form == Form::Path,
        '#' | ' ' => form == Form::Url,
        _ => c.is_ascii_control(),
    }
}

/// Device names of DOS, also with an ending (Win32 "Naming Files, Paths, and Namespaces").
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    match stem.len() {
        3 => ["con", "prn", "aux", "nul"].into_iter().any(is),
        4 | 5 => {
            let port = stem.get(..3).is_some_and(|three| {
                three.eq_ignore_ascii_case("com") || three.eq_ignore_ascii_case("lpt")
            });
            let digit = stem.get(3..).is_some_and(|rest| {
                matches!(
                    rest,
                    "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
                )
            });
            port && digit
        }
        6 => is("conin$") || is("clock$"),
        7 => is("conout$"),
        _ => false,
    }
}

/// A folder that paths are compared with: the `below` of a constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    root: Box<str>,
    segments: Box<[Box<str>]>,
}

impl Folder {
    /// Reads a folder.
    ///
    /// # Errors
    /// [`Ambiguous`] when [`normalise`] does not accept it.
    pub fn parse(text: &str) -> Result<Self, Ambiguous> {
        let location = normalise(text)?;
        Ok(Self {
            root: location.root.into(),
            segments: location.segments.into_iter().map(Into::into).collect(),
        })
    }

    /// Whether a path is this folder or lies below it, compared name by name; case matters.
    #[must_use]
    pub fn contains(&self, location: &Location<'_>) -> bool {
        *self.root == *location.root
            && self.segments.len() <= location.segments.len()
            && self
                .segments
                .iter()
                .zip(&location.segments)
                .all(|(a, b)| **a == **b)
    }

    /// Whether another folder is this one or lies below it.
    #[must_use]
    pub fn contains_folder(&self, other: &Self) -> bool {
        self.root == other.root && other.segments.starts_with(&self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    fn below(folder: &str, text: &str) -> bool {
        let folder = Folder::parse(folder).unwrap();
        normalise(text).is_ok_and(|location| folder.contains(&location))
    }

    #[test]
    fn plain_paths_are_compared_name_by_name() {
        for (folder, good) in [
            ("/srv/a", "/srv/a"),
            ("/srv/a", "/srv/a/"),
            ("/srv/a/", "/srv/a/b c/ü.txt"),
            ("/", "/etc/x"),
            ("docs", "docs/.hidden/a-b_c@1+2=3,4'5!&(6)"),
            ("/srv/a", "/srv/a/[id].tsx"),
            (
                "https://api.example.org/v1",
                "https://api.example.org/v1/models:run?q=%2e%2e/x",
            ),
            ("https://api.example.org", "https://api.example.org/"),
            ("file:///srv/a", "file:///srv/a/b"),
            ("/srv/a", "/srv/a/file~"),
            ("/srv/a", "/srv/a/console.log"),
        ] {
            assert!(below(folder, good), "{good}");
        }
        for (folder, bad) in [
            ("/srv/a", "/srv"),
            ("/srv/a", "/srv/ab"),
            ("/srv/a", "srv/a"),
            ("srv/a", "/srv/a"),
            ("/srv/a", "/srv/A/x"),
            ("/srv/a", "file:///srv/a/x"),
            ("file:///srv/a", "/srv/a/x"),
            ("file:///srv/a", "FILE:///srv/a/x"),
            ("file:///srv/a", "file://localhost/srv/a/x"),
            (
                "https://api.example.org/v1",
                "https://api.example.org.evil/v1/x",
            ),
            ("https://api.example.org", "https://api.example.org@evil/v1"),
            ("https://api.example.org", "https://api.example.org:443/v1"),
            ("https://api.example.org", "http://api.example.org/v1"),
        ] {
            assert!(!below(folder, bad), "{bad}");
        }
    }

    #[test]
    fn whatever_could_be_read_two_ways_is_refused() {
        for bad in [
            "",
            "/srv/a/..",
            "/srv/a/../b",
            "/srv/a/./b",
            "/srv/a//b",
            "//srv/a",
            "/srv/a/b//",
            "/srv/a/%2e%2e/b",
            "/srv/a/%252e%252e/b",
            "/srv/a/..%2fb",
            "/srv/a/%c0%ae%c0%ae/b",
            "/srv/a/%u002e",
            "/srv/a/..\\b",
            "\\srv\\a",
            "/srv/a/b\\..\\..\\c",
            "/srv/a/\0",
            "/srv/a/x\ny",
            "/srv/a/...",
            "/srv/a/.. /b",
            "/srv/a/ ../b",
            "/srv/a/..;/b",
            "/srv/a/.;x/b",
            "/srv/a/b.",
            "/srv/a/b ",
            "~/x",
            "~root/x",
            "/srv/a/~/x",
            "C:/x",
            "c:\\x",
            "C:x",
            "\\\\host\\share",
            "//host/share",
            "//?/C:/x",
            "file:/etc/passwd",
            "file:srv/a",
            "/srv/a/file:///etc/passwd",
            "/srv/a/x::$DATA",
            "/srv/a/$HOME",
            "/srv/a/`id`",
            "/srv/a/{..,b}",
            "/srv/a/.[.]/b",
            "/srv/a/.?/b",
            "/srv/a/*",
            "/srv/a/NUL",
            "/srv/a/con.txt",
            "/srv/a/COM1",
            "/srv/a/lpt\u{b9}",
            "/srv/a/\u{FF0E}\u{FF0E}/b",
            "/srv/a/\u{2025}/b",
            "/srv/a/..\u{2215}b",
            "/srv/a/\u{338}b",
            "/srv/a/.\u{200d}./b",
            "/srv/a/e\u{301}",
            "/srv/a/\u{202e}b",
            "/srv/a/\u{7f}",
            "https://user@host/x",
            "https:///x",
            "https://host/a#b",
            "https://host/a?b\\c",
            "https://ho%73t/x",
            "https:/host/x",
            "https://host/..?x",
            "https://..//x",
            "1x://host/a",
            "x://h/a b",
            "file:///srv/a?x",
            "file:///C:/x/..",
            "javascript:alert(1)",
        ] {
            assert!(normalise(bad).is_err(), "{bad:?} {:?}", normalise(bad));
        }
        assert!(normalise(&format!("/{}", "a".repeat(MAX_BYTES))).is_err());
    }

    /// Readers that decode, fold and resolve in the ways that upstreams do.
    fn readings(text: &str) -> Vec<String> {
        use unicode_normalization::UnicodeNormalization;
        let mut all = vec![text.to_owned()];
        let steps: [fn(&str) -> String; 6] = [
            decode,
            |text| text.replace('\\', "/"),
            |text| text.nfkc().collect(),
            |text| {
                text.chars()
                    .filter(|c| !matches!(c, '\u{200B}'..='\u{200F}' | '\u{FEFF}'))
                    .collect()
            },
            |text| {
                text.split('/')
                    .map(|s| {
                        let cut = s.split(';').next().unwrap_or(s);
                        let trimmed = cut.trim_matches(' ');
                        if trimmed.starts_with("..")
                            && trimmed.bytes().all(|b| matches!(b, b'.' | b' '))
                        {
                            ".."
                        } else {
                            trimmed
                        }
                    })
                    .collect::<Vec<_>>()
                    .join("/")
            },
            |text| text.split('\0').next().unwrap_or_default().to_owned(),
        ];
        for _ in 0..2 {
            for step in steps {
                let more: Vec<String> = all.iter().map(|text| step(text)).collect();
                all.extend(more);
                all.sort();
                all.dedup();
            }
        }
        all
    }

    fn decode(text: &str) -> String {
        let mut out = Vec::new();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let code = (bytes[at] == b'%')
                .then(|| text.get(at + 1..at + 3))
                .flatten();
            match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    at += 3;
                }
                None => {
                    out.push(bytes[at]);
                    at += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Resolves as an operating system does, without links.
    fn resolve(text: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for component in Path::new(text).components() {
            match component {
                Component::ParentDir => {
                    names.pop();
                }
                Component::Normal(name) => names.push(name.to_string_lossy().into_owned()),
                _ => {}
            }
        }
        names
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn no_reading_of_an_accepted_path_leaves_the_folder(
            parts in proptest::collection::vec(prop_oneof![
                Just("/"), Just(".."), Just("."), Just("%2e"), Just("%252e"), Just("%2f"), Just("\\"),
                Just("%5c"), Just("\u{FF0E}"), Just("\u{2025}"), Just("\u{FF0F}"), Just("\u{200C}"),
                Just(" "), Just(";"), Just("\0"), Just("a"), Just("b"), Just("~"), Just("%"), Just("é"),
                Just("//"), Just("%00"), Just("%25"), Just("2e"), Just("etc"), Just("?"), Just("#"),
            ], 0..8),
        ) {
            let text = format!("/srv/a/{}", parts.concat());
            let folder = Folder::parse("/srv/a").unwrap();
            if normalise(&text).is_ok_and(|location| folder.contains(&location)) {
                for reading in readings(&text) {
                    let names = resolve(&reading);
                    prop_assert!(names.len() >= 2 && names[0] == "srv" && names[1] == "a", "{text:?} {reading:?}");
                }
            }
        }

        #[test]
        fn never_panics_and_rebuilds_the_text(text in any::<String>()) {
            if let Ok(location) = normalise(&text) && !text.contains('?') {
                let joined = location.segments.join("/");
                let slash = if location.root.len() > 1 && text.len() > location.root.len() { "/" } else { "" };
                let rebuilt = format!("{}{slash}{joined}", location.root);
                prop_assert_eq!(rebuilt.trim_end_matches('/'), text.trim_end_matches('/'));
            }
        }

        #[test]
        fn ordinary_paths_are_accepted(names in proptest::collection::vec("[a-z][a-z0-9_-]{5,9}(\\.[a-z]{2})?", 1..6)) {
            let path = format!("/srv/{}", names.join("/"));
            prop_assert!(normalise(&path).is_ok());
            prop_assert!(below("/srv", &path));
            prop_assert!(below(&path, &path));
        }
    }
}
