//! Escapes: percent-encoding, quoted-printable, character references, `\u`.

use super::Push;
use crate::content::survey::{FEWEST_ESCAPES, has_escapes};

/// Escapes within a text: each kind that occurs often enough makes one layer of the whole.
pub(super) fn escapes(text: &str, push: &mut Push<'_>) -> bool {
    for (kind, sign, decode) in [
        (
            "percent",
            b'%',
            percent as fn(&str) -> Option<(char, usize)>,
        ),
        ("quoted-printable", b'=', quoted),
        ("character references", b'&', reference),
        ("unicode escapes", b'\\', backslash),
    ] {
        if !has_escapes(text, sign) {
            continue;
        }
        if let Some((decoded, span)) = unescape(text, char::from(sign), decode)
            && !push(kind, decoded, span, false)
        {
            return false;
        }
    }
    true
}

/// Replaces the escapes that `decode` knows; bytes of several escapes may make up one character.
fn unescape(
    text: &str,
    sign: char,
    decode: fn(&str) -> Option<(char, usize)>,
) -> Option<(String, (usize, usize))> {
    let mut out = Vec::with_capacity(text.len());
    let (mut count, mut first, mut last) = (0usize, None, 0);
    let mut rest = text;
    while let Some(at) = rest.find(sign) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let place = text.len() - rest.len();
        if let Some((c, length)) = decode(rest) {
            // Characters below 256 stand for bytes: two of them may be one character of UTF-8.
            match u8::try_from(c) {
                Ok(byte) if c != '\0' => out.push(byte),
                Ok(_) => {}
                Err(_) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
            count += 1;
            first.get_or_insert(place);
            last = place + length;
            rest = &rest[length..];
        } else {
            out.extend_from_slice(&rest.as_bytes()[..sign.len_utf8()]);
            rest = &rest[sign.len_utf8()..];
        }
    }
    out.extend_from_slice(rest.as_bytes());
    if count < FEWEST_ESCAPES {
        return None;
    }
    let decoded = String::from_utf8(out).unwrap_or_else(|error| {
        error
            .as_bytes()
            .iter()
            .map(|byte| char::from(*byte))
            .collect()
    });
    // Spaces may be several bytes long.
    let first = text[..first?]
        .char_indices()
        .rfind(|(_, c)| c.is_whitespace())
        .map_or(0, |(at, space)| at + space.len_utf8());
    let last = text[last..]
        .find(char::is_whitespace)
        .map_or(text.len(), |at| last + at);
    Some((decoded, (first, last)))
}

fn hex_char(digits: Option<&str>) -> Option<char> {
    let digits = digits?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    char::from_u32(u32::from_str_radix(digits, 16).ok()?)
}

fn percent(rest: &str) -> Option<(char, usize)> {
    Some((hex_char(rest.get(1..3))?, 3))
}

fn quoted(rest: &str) -> Option<(char, usize)> {
    // A soft line break (RFC 2045 §6.7) stands for nothing.
    for soft in ["=\r\n", "=\n"] {
        if rest.starts_with(soft) {
            return Some(('\0', soft.len()));
        }
    }
    let digits = rest.get(1..3)?;
    (!digits.bytes().any(|byte| byte.is_ascii_lowercase()))
        .then_some(())
        .and_then(|()| Some((hex_char(Some(digits))?, 3)))
}

fn reference(rest: &str) -> Option<(char, usize)> {
    let end = rest.bytes().take(12).position(|byte| byte == b';')?;
    let name = rest.get(1..end)?;
    let c = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(digits) => hex_char(Some(digits))?,
            None => char::from_u32(number.parse().ok()?)?,
        },
        None => match name {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            "nbsp" => ' ',
            _ => return None,
        },
    };
    Some((c, end + 1))
}

fn backslash(rest: &str) -> Option<(char, usize)> {
    match rest.as_bytes().get(1)? {
        b'x' => Some((hex_char(rest.get(2..4))?, 4)),
        b'u' if rest.as_bytes().get(2) == Some(&b'{') => {
            let end = rest.bytes().take(12).position(|byte| byte == b'}')?;
            Some((hex_char(rest.get(3..end))?, end + 1))
        }
        b'u' => Some((hex_char(rest.get(2..6))?, 6)),
        b'U' => Some((hex_char(rest.get(2..10))?, 10)),
        b'n' => Some(('\n', 2)),
        _ => None,
    }
}
