//! Paths that everyone reads in the same way.
//!
//! The gateway decides about a path, and the API acts on it. Whatever the two could read differently is
//! refused: dot segments, empty segments, encoded separators, path parameters, double encoding, second
//! spellings of one character. What is left is matched, and forwarded as it came.

/// Longest path, in bytes.
const LONGEST: usize = 4_096;
/// Most segments.
const SEGMENTS: usize = 64;

/// Why a path could be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// It is too long, or has too many segments.
    #[error("the path is longer than {LONGEST} bytes, or has more than {SEGMENTS} segments")]
    Long,
    /// It does not begin with `/`.
    #[error("the path does not begin with `/`")]
    Relative,
    /// An empty segment that is not the last.
    #[error("the path has an empty segment (`//`)")]
    Empty,
    /// `.`, `..`, and what else is made of dots alone.
    #[error("the path has a segment of dots")]
    Dots,
    /// A character that must be encoded, or means something to some servers: `;`, `\`.
    #[error("the path has a character that has to be encoded, or a `;` or `\\`")]
    Character,
    /// A `%` without two digits of hexadecimal.
    #[error("the path has a broken percent-encoding")]
    Encoding,
    /// An encoding of a character that stands for itself, is a separator, or with small letters.
    #[error("the path encodes a character that must not be encoded, or not in that way")]
    Spelling,
    /// The encoded bytes are no UTF-8.
    #[error("the path encodes what is not text")]
    NotText,
}

/// The segments of a path, decoded; the last one is empty when the path ends with `/`.
///
/// # Errors
/// [`Ambiguous`]
pub fn segments(path: &str) -> Result<Vec<String>, Ambiguous> {
    if path.len() > LONGEST {
        return Err(Ambiguous::Long);
    }
    let rest = path.strip_prefix('/').ok_or(Ambiguous::Relative)?;
    let written: Vec<&str> = rest.split('/').collect();
    if written.len() > SEGMENTS {
        return Err(Ambiguous::Long);
    }
    let last = written.len() - 1;
    let mut segments = Vec::with_capacity(written.len());
    for (at, segment) in written.into_iter().enumerate() {
        if segment.is_empty() && at != last {
            return Err(Ambiguous::Empty);
        }
        let segment = decode(segment)?;
        if !segment.is_empty() && segment.bytes().all(|byte| byte == b'.') {
            return Err(Ambiguous::Dots);
        }
        segments.push(segment);
    }
    Ok(segments)
}

fn decode(segment: &str) -> Result<String, Ambiguous> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
                return Err(Ambiguous::Encoding);
            };
            let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                return Err(Ambiguous::Encoding);
            };
            // Capital letters only: RFC 3986 §2.1 has both mean the same.
            let is_small = |digit: Digit| digit.is_small;
            if is_small(high) || is_small(low) {
                return Err(Ambiguous::Spelling);
            }
            let byte = high.value << 4 | low.value;
            let is_separator = matches!(byte, b'/' | b'\\' | b'.' | b'%' | b';');
            if is_separator || stands_for_itself(byte) || byte < 0x20 || byte == 0x7f {
                return Err(Ambiguous::Spelling);
            }
            decoded.push(byte);
        } else if stands_for_itself(byte) {
            decoded.push(byte);
        } else {
            return Err(Ambiguous::Character);
        }
    }
    String::from_utf8(decoded).map_err(|_| Ambiguous::NotText)
}

#[derive(Clone, Copy)]
struct Digit {
    value: u8,
    is_small: bool,
}

fn digit(byte: u8) -> Option<Digit> {
    let (value, is_small) = match byte {
        b'0'..=b'9' => (byte - b'0', false),
        b'A'..=b'F' => (byte - b'A' + 10, false),
        b'a'..=b'f' => (byte - b'a' + 10, true),
        _ => return None,
    };
    Some(Digit { value, is_small })
}

/// `pchar` of RFC 3986 §3.3 without `;`, which starts parameters for some servers.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b'='
                | b':'
                | b'@'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_paths_are_read() {
        let read = |path| segments(path).unwrap();
        assert_eq!(read("/"), [""]);
        assert_eq!(read("/a/b"), ["a", "b"]);
        assert_eq!(read("/a/"), ["a", ""]);
        assert_eq!(read("/a%20b/%C3%A4"), ["a b", "ä"]);
        assert_eq!(read("/v1.2/a@b:c,d"), ["v1.2", "a@b:c,d"]);
    }

    #[test]
    fn what_two_could_read_differently_is_refused() {
        use Ambiguous::*;
        for (path, why) in [
            ("", Relative),
            ("a", Relative),
            ("//a", Empty),
            ("/a//b", Empty),
            ("/a/../b", Dots),
            ("/./a", Dots),
            ("/a/...", Dots),
            ("/a/%2E%2E/b", Spelling),
            ("/a/.%2E/b", Spelling),
            ("/a%2Fb", Spelling),
            ("/a%2fb", Spelling),
            ("/a%5Cb", Spelling),
            ("/a%252Fb", Spelling),
            ("/%61dmin", Spelling),
            ("/%c3%a4", Spelling),
            ("/a%3Bb", Spelling),
            ("/a%00", Spelling),
            ("/a%0D%0Ab", Spelling),
            ("/a;b", Character),
            ("/a\\b", Character),
            ("/a b", Character),
            ("/ä", Character),
            ("/a\u{0}", Character),
            ("/a%2", Encoding),
            ("/a%", Encoding),
            ("/a%GG", Encoding),
            ("/%C3", NotText),
            ("/%C0%AF", NotText),
        ] {
            assert_eq!(segments(path), Err(why), "{path}");
        }
        assert_eq!(segments(&format!("/{}", "a".repeat(LONGEST))), Err(Long));
        assert_eq!(segments(&"/a".repeat(SEGMENTS + 1)), Err(Long));
    }

    /// The one way to write segments, made without the code under test.
    fn written(segments: &[String]) -> String {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            for byte in segment.bytes() {
                let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
                if plain {
                    path.push(char::from(byte));
                } else {
                    path.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        path
    }

    proptest! {
        #[test]
        fn each_path_has_one_spelling(path in "/[a-zA-Z0-9/%.;äA-F ~]{0,24}") {
            if let Ok(segments) = segments(&path) {
                prop_assert_eq!(written(&segments), path);
            }
        }

        #[test]
        fn any_text_can_be_written(segments_in in proptest::collection::vec("[^/\\\\.%;\\pC]{1,8}", 1..5)) {
            prop_assert_eq!(segments(&written(&segments_in)).unwrap(), segments_in);
        }
    }
}
