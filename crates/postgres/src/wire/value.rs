//! Values as they are on the wire, as text: §55.1.3 of the manual and the binary formats of the types.
//! What is not read here for certain is not read at all.

use std::sync::Arc;

use bytes::Buf as _;
use jiff::civil::{DateTime, Time, date};
use jiff::{SignedDuration, Span};

use super::{Fields, WireError};

/// Numbers of types (`pg_type.oid`).
pub mod types {
    /// `boolean`
    pub const BOOL: u32 = 16;
    /// `bytea`
    pub const BYTEA: u32 = 17;
    /// `"char"`
    pub const CHAR: u32 = 18;
    /// `name`
    pub const NAME: u32 = 19;
    /// `bigint`
    pub const INT8: u32 = 20;
    /// `smallint`
    pub const INT2: u32 = 21;
    /// `integer`
    pub const INT4: u32 = 23;
    /// `text`
    pub const TEXT: u32 = 25;
    /// `oid`
    pub const OID: u32 = 26;
    /// `json`
    pub const JSON: u32 = 114;
    /// `real`
    pub const FLOAT4: u32 = 700;
    /// `double precision`
    pub const FLOAT8: u32 = 701;
    /// A string whose type nobody said.
    pub const UNKNOWN: u32 = 705;
    /// `money`
    pub const MONEY: u32 = 790;
    /// `character`
    pub const BPCHAR: u32 = 1042;
    /// `character varying`
    pub const VARCHAR: u32 = 1043;
    /// `date`
    pub const DATE: u32 = 1082;
    /// `time`
    pub const TIME: u32 = 1083;
    /// `timestamp`
    pub const TIMESTAMP: u32 = 1114;
    /// `timestamp with time zone`
    pub const TIMESTAMPTZ: u32 = 1184;
    /// `interval`
    pub const INTERVAL: u32 = 1186;
    /// `time with time zone`
    pub const TIMETZ: u32 = 1266;
    /// `numeric`
    pub const NUMERIC: u32 = 1700;
    /// `uuid`
    pub const UUID: u32 = 2950;
    /// `jsonb`
    pub const JSONB: u32 = 3802;
}

/// Most elements of an array that are read.
const ELEMENTS: usize = 10_000;
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// How values are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// As text.
    #[default]
    Text,
    /// In the form of their type.
    Binary,
}

impl Format {
    /// By its number; `None` for one that there is not.
    #[must_use]
    pub fn of(number: u16) -> Option<Self> {
        match number {
            0 => Some(Self::Text),
            1 => Some(Self::Binary),
            _ => None,
        }
    }
}

/// How each of several values is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Formats {
    /// All as text.
    #[default]
    Text,
    /// All in this way.
    All(Format),
    /// Each in its own.
    Each(Arc<[Format]>),
}

impl Formats {
    /// How one is written.
    #[must_use]
    pub fn of(&self, at: usize) -> Format {
        match self {
            Self::Text => Format::Text,
            Self::All(format) => *format,
            Self::Each(formats) => formats.get(at).copied().unwrap_or_default(),
        }
    }

    /// Reads them from a message, where their number comes first.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, WireError> {
        let format = |fields: &mut Fields<'_>| {
            let format = Format::of(fields.int16()?);
            format.ok_or_else(|| fields.malformed())
        };
        Ok(match fields.int16()? {
            0 => Self::Text,
            1 => Self::All(format(fields)?),
            count => {
                let each = (0..count).map(|_| format(fields));
                Self::Each(each.collect::<Result<_, _>>()?)
            }
        })
    }

    /// Whether they can be those of so many values.
    pub(super) fn fit(&self, count: usize) -> bool {
        match self {
            Self::Text | Self::All(_) => true,
            Self::Each(formats) => formats.len() == count,
        }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// As text; numbers and dates as the database writes them.
    Text(String),
    /// The elements of an array, whatever its dimensions; without NULLs.
    Elements(Vec<String>),
}

/// Reads a value of a type; `None` when nobody can say what it is.
#[must_use]
pub fn read(oid: u32, format: Format, bytes: &[u8]) -> Option<Read> {
    if format == Format::Text {
        return Some(Read::Text(std::str::from_utf8(bytes).ok()?.to_owned()));
    }
    match scalar(oid, bytes) {
        Some(text) => Some(Read::Text(text)),
        None if is_array(oid) => array(bytes).map(Read::Elements),
        None => None,
    }
}

/// Whether the binary form of a type is its text.
#[must_use]
pub fn is_text(oid: u32) -> bool {
    matches!(
        oid,
        types::TEXT
            | types::VARCHAR
            | types::BPCHAR
            | types::NAME
            | types::CHAR
            | types::UNKNOWN
            | types::JSON
    )
}

fn scalar(oid: u32, bytes: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
    Some(match oid {
        oid if is_text(oid) => text(bytes)?,
        types::JSONB => match bytes {
            [1, rest @ ..] => text(rest)?,
            _ => return None,
        },
        types::BOOL => match bytes {
            [0] => "false".to_owned(),
            [1] => "true".to_owned(),
            _ => return None,
        },
        types::INT2 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::INT4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::INT8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::OID => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::FLOAT4 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::FLOAT8 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        types::NUMERIC => numeric(bytes)?,
        types::DATE => {
            let days = i32::from_be_bytes(bytes.try_into().ok()?);
            // Not every number of days is one that there is.
            let days = Span::new().try_days(days).ok()?;
            let day = date(2000, 1, 1).checked_add(days).ok()?;
            day.to_string()
        }
        types::TIME => time(i64::from_be_bytes(bytes.try_into().ok()?))?.to_string(),
        types::TIMESTAMP => moment(bytes)?.to_string().replace('T', " "),
        types::TIMESTAMPTZ => format!("{}+00", moment(bytes)?.to_string().replace('T', " ")),
        types::UUID => {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            let hex = gateway::hex(&bytes);
            format!(
                "{}-{}-{}-{}-{}",
                hex.get(..8)?,
                hex.get(8..12)?,
                hex.get(12..16)?,
                hex.get(16..20)?,
                hex.get(20..)?
            )
        }
        _ => return None,
    })
}

fn time(micros: i64) -> Option<Time> {
    (0..DAY).contains(&micros).then(|| {
        Time::midnight()
            .checked_add(SignedDuration::from_micros(micros))
            .ok()
    })?
}

fn moment(bytes: &[u8]) -> Option<DateTime> {
    let micros = i64::from_be_bytes(bytes.try_into().ok()?);
    let begin = date(2000, 1, 1).at(0, 0, 0, 0);
    begin.checked_add(SignedDuration::from_micros(micros)).ok()
}

/// Groups of four decimal digits, with the weight of the first (`numeric_send`).
fn numeric(mut bytes: &[u8]) -> Option<String> {
    if bytes.len() < 8 {
        return None;
    }
    let count = usize::from(bytes.get_u16());
    let weight = i32::from(bytes.get_i16());
    let sign = bytes.get_u16();
    let scale = usize::from(bytes.get_u16());
    if bytes.len() != count * 2 || scale > 1_000 || weight.abs() > 1_000 {
        return None;
    }
    let groups: Vec<u16> =
        std::iter::from_fn(|| bytes.has_remaining().then(|| bytes.get_u16())).collect();
    if groups.iter().any(|group| *group > 9_999) {
        return None;
    }
    let at = |place: i32| {
        let index = usize::try_from(weight - place).ok();
        index
            .and_then(|index| groups.get(index))
            .copied()
            .unwrap_or(0)
    };
    let mut text = match sign {
        0x0000 => String::new(),
        0x4000 => "-".to_owned(),
        _ => return None,
    };
    let mut whole = String::new();
    for place in (0..=weight.max(0)).rev() {
        whole.push_str(&format!("{:04}", at(place)));
    }
    let whole = whole.trim_start_matches('0');
    text.push_str(if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let mut fraction = String::new();
        let mut place = -1;
        while fraction.len() < scale {
            fraction.push_str(&format!("{:04}", at(place)));
            place -= 1;
        }
        text.push('.');
        text.push_str(fraction.get(..scale)?);
    }
    Some(text)
}

/// The array types of what is read above.
fn is_array(oid: u32) -> bool {
    matches!(
        oid,
        1000 | 1002
            | 1003
            | 1005
            | 1007
            | 1009
            | 1014
            | 1015
            | 1016
            | 1021
            | 1022
            | 1028
            | 1115
            | 1182
            | 1183
            | 1185
            | 1231
            | 199
            | 2951
            | 3807
    )
}

/// Dimensions, whether there are NULLs, the type of elements; then the elements (`array_send`).
fn array(mut bytes: &[u8]) -> Option<Vec<String>> {
    if bytes.len() < 12 {
        return None;
    }
    let dimensions = usize::try_from(bytes.get_i32()).ok()?;
    bytes.get_i32();
    let oid = bytes.get_u32();
    if dimensions > 6 || bytes.len() < dimensions * 8 {
        return None;
    }
    let mut count = usize::from(dimensions > 0);
    for _ in 0..dimensions {
        count = count.checked_mul(usize::try_from(bytes.get_i32()).ok()?)?;
        bytes.get_i32();
    }
    if count > ELEMENTS {
        return None;
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        if bytes.len() < 4 {
            return None;
        }
        let length = bytes.get_i32();
        if length == -1 {
            continue;
        }
        let length = usize::try_from(length).ok()?;
        let (element, rest) = bytes.split_at_checked(length)?;
        elements.push(scalar(oid, element)?);
        bytes = rest;
    }
    bytes.is_empty().then_some(elements)
}

/// The elements of an array that is written as text (§8.15.6); `None` when it is not one.
#[must_use]
pub fn elements(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    let mut elements = Vec::new();
    let mut depth = 0_usize;
    let mut rest = text.chars().peekable();
    // Whether an element may begin here.
    let mut open = false;
    while let Some(c) = rest.next() {
        if elements.len() > ELEMENTS {
            return None;
        }
        match c {
            '{' if depth == 0 || open => {
                depth += 1;
                open = true;
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                open = false;
                if depth == 0 {
                    return rest.next().is_none().then_some(elements);
                }
            }
            ',' if depth > 0 && !open => open = true,
            c if c.is_ascii_whitespace() => {}
            '"' if open => {
                let mut element = String::new();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => element.push(rest.next()?),
                        c => element.push(c),
                    }
                }
                elements.push(element);
                open = false;
            }
            first if open && first != ',' => {
                let mut element = String::new();
                let mut c = first;
                loop {
                    match c {
                        '\\' => element.push(rest.next()?),
                        '"' | '{' => return None,
                        c => element.push(c),
                    }
                    match rest.peek() {
                        None => return None,
                        Some(',' | '}') => break,
                        Some(_) => c = rest.next()?,
                    }
                }
                let element = element.trim_end();
                if !element.eq_ignore_ascii_case("null") {
                    elements.push(element.to_owned());
                }
                open = false;
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(oid: u32, bytes: &[u8]) -> Option<String> {
        match read(oid, Format::Binary, bytes) {
            Some(Read::Text(text)) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn binary_values_are_what_the_database_writes() {
        assert_eq!(
            binary(types::INT4, &7_i32.to_be_bytes()).as_deref(),
            Some("7")
        );
        assert_eq!(
            binary(types::INT8, &(-5_i64).to_be_bytes()).as_deref(),
            Some("-5")
        );
        assert_eq!(binary(types::INT4, &[0, 1]), None);
        assert_eq!(
            binary(types::DATE, &0_i32.to_be_bytes()).as_deref(),
            Some("2000-01-01")
        );
        assert_eq!(binary(types::DATE, &i32::MAX.to_be_bytes()), None);
        assert_eq!(binary(types::DATE, &i32::MIN.to_be_bytes()), None);
        assert_eq!(
            binary(types::TIMESTAMP, &(DAY + 3_600_000_000).to_be_bytes()).as_deref(),
            Some("2000-01-02 01:00:00")
        );
        assert_eq!(binary(types::TIME, &(DAY + 1).to_be_bytes()), None);
        assert_eq!(
            binary(types::JSONB, b"\x01{\"a\":1}").as_deref(),
            Some("{\"a\":1}")
        );
        assert_eq!(binary(types::JSONB, b"\x02{}"), None);
        let uuid: Vec<u8> = (0..16).collect();
        assert_eq!(
            binary(types::UUID, &uuid).as_deref(),
            Some("00010203-0405-0607-0809-0a0b0c0d0e0f")
        );
        // 12345.670, 0.0001, -1.
        let parts = |parts: &[u16]| {
            parts
                .iter()
                .flat_map(|p| p.to_be_bytes())
                .collect::<Vec<u8>>()
        };
        for (groups, says) in [
            (parts(&[3, 1, 0, 3, 1, 2345, 6700]), "12345.670"),
            (parts(&[1, 0xffff, 0, 4, 1]), "0.0001"),
            (parts(&[1, 0, 0x4000, 0, 1]), "-1"),
            (parts(&[1, 1, 0, 0, 3]), "30000"),
            (parts(&[0, 0, 0, 2]), "0.00"),
        ] {
            assert_eq!(binary(types::NUMERIC, &groups).as_deref(), Some(says));
        }
        assert_eq!(binary(types::NUMERIC, &parts(&[0, 0, 0xc000, 0])), None);
        assert_eq!(binary(600, &[0; 16]), None, "a point");
        assert_eq!(binary(0, b"x"), None, "nobody said what it is");
    }

    #[test]
    fn arrays_are_read_in_both_forms() {
        let mut bytes = Vec::new();
        for number in [1_i32, 0, 25, 2, 1] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        for text in ["ann", "bob"] {
            bytes.extend_from_slice(&3_i32.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let both = vec!["ann".to_owned(), "bob".to_owned()];
        assert_eq!(
            read(1009, Format::Binary, &bytes),
            Some(Read::Elements(both.clone()))
        );
        assert_eq!(read(1009, Format::Binary, &bytes[..20]), None);
        assert_eq!(elements("{ann,bob}"), Some(both));
        for (text, says) in [
            ("{}", Some(vec![])),
            ("{\"a,\\\"b\", c d ,NULL}", Some(vec!["a,\"b", "c d"])),
            ("{{1,2},{3,4}}", Some(vec!["1", "2", "3", "4"])),
            ("[0:1]={1,2}", None),
            ("ann", None),
            ("{a", None),
            ("{a}b", None),
            ("{a\"b}", None),
            ("{,a}", None),
        ] {
            let says = says.map(|all: Vec<&str>| all.into_iter().map(str::to_owned).collect());
            assert_eq!(elements(text), says, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(oid in 0_u32..4_000, bytes in proptest::collection::vec(any::<u8>(), 0..64), text in "[{}\\\\\",a1 ]{0,20}") {
            let _ = read(oid, Format::Binary, &bytes);
            let _ = elements(&text);
        }
    }
}
