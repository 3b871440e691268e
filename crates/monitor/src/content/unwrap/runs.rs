//! Base64, base32 and hexadecimal digits.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regex::Regex;

use super::{Push, readable};
use crate::content::survey::SHORTEST_RUN;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Base64 (also of URLs, also over lines) and base32 (RFC 4648).
pub(super) fn runs(text: &str, push: &mut Push<'_>) -> bool {
    let bytes = text.as_bytes();
    let of_run =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let mut at = 0;
    while at < bytes.len() {
        if !of_run(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        let mut run = Vec::with_capacity(64);
        let mut line = 0;
        while at < bytes.len() {
            if of_run(bytes[at]) {
                run.push(bytes[at]);
                line += 1;
                at += 1;
            } else if let Some(more) = line_break(bytes, at).filter(|more| {
                line >= SHORTEST_RUN as usize && bytes.get(*more).is_some_and(|byte| of_run(*byte))
            }) {
                at = more;
                line = 0;
            } else {
                break;
            }
        }
        let end = at;
        while bytes.get(at) == Some(&b'=') {
            at += 1;
        }
        if run.len() < SHORTEST_RUN as usize {
            continue;
        }
        let decoded = base64_of(&run).map(|text| ("base64", text));
        if let Some((kind, decoded)) =
            decoded.or_else(|| base32_of(&run).map(|text| ("base32", text)))
            && !push(kind, decoded, (start, at.max(end)), true)
        {
            return false;
        }
    }
    true
}

/// The byte after a line's end and what mail puts before lines.
fn line_break(bytes: &[u8], at: usize) -> Option<usize> {
    let mut next = at;
    if bytes.get(next) == Some(&b'\r') {
        next += 1;
    }
    if bytes.get(next) != Some(&b'\n') {
        return None;
    }
    next += 1;
    while matches!(bytes.get(next), Some(b' ' | b'\t' | b'>')) {
        next += 1;
    }
    Some(next)
}

/// Decodes a run, also when up to three characters before it are not part of it.
fn base64_of(run: &[u8]) -> Option<String> {
    let engine = if run.iter().any(|byte| matches!(byte, b'-' | b'_')) {
        &URL
    } else {
        &STANDARD
    };
    (0..4).find_map(|skip| {
        let run = run.get(skip..)?;
        // A look at the beginning saves decoding what is no text.
        let head = engine.decode(run.get(..16)?).ok()?;
        let head = match std::str::from_utf8(&head) {
            Ok(head) => head.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return None,
        };
        if head < 9 {
            return None;
        }
        let whole = run.len() - usize::from(run.len() % 4 == 1);
        readable(engine.decode(&run[..whole]).ok()?)
    })
}

fn base32_of(run: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(run.len() * 5 / 8);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in run {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        buffer = (buffer << 5) | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from((buffer >> bits) & 0xff).unwrap_or(0));
        }
    }
    readable(out)
}

/// Pairs of hexadecimal digits, also with signs between or before them.
pub(super) fn hexadecimal(text: &str, push: &mut Push<'_>) -> bool {
    static PAIRS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i-u)(?:(?:\\x|0x)?[0-9a-f]{2}[ :,-]{0,2}){8,}")
            .expect("a constant expression")
    });
    for found in PAIRS.find_iter(text) {
        let mut bytes = Vec::new();
        let mut high = None;
        let mut rest = found.as_str().as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            if *byte == b'0' && matches!(after.first(), Some(b'x' | b'X')) {
                rest = &after[1..];
                continue;
            }
            let Some(digit) = char::from(*byte).to_digit(16) else {
                continue;
            };
            match high.take() {
                None => high = Some(digit),
                Some(high) => bytes.push(u8::try_from(high * 16 + digit).unwrap_or(0)),
            }
        }
        if let Some(decoded) = readable(bytes)
            && !push("hexadecimal", decoded, (found.start(), found.end()), true)
        {
            return false;
        }
    }
    true
}
