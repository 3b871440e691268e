//! Rows with something taken out of them.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use gateway::pipeline::RowColumn;
use model::{Denial, Rule};

use super::Rows;
use super::columns::Written;
use crate::wire::HEADER;
use crate::wire::backend::put;
use crate::wire::value::{Format, types};

/// What stands in place of a JSON value out of which nothing could be taken alone.
const REDACTED_JSON: &str = "\"[redacted]\"";

/// Rows with other values in the place of some: row, column, the bytes that stay before the text (`None`
/// where there is no text to change), and the text.
pub(super) fn rows(
    taken: &[Bytes],
    rows: &[Vec<Option<&[u8]>>],
    changed: impl Iterator<Item = (usize, usize, Option<usize>, String)>,
    written: Written<'_>,
) -> Vec<Bytes> {
    let mut others: HashMap<usize, HashMap<usize, (Option<usize>, String)>> = HashMap::new();
    for (row, column, before, text) in changed {
        others
            .entry(row)
            .or_default()
            .insert(column, (before, text));
    }
    let each = taken.iter().zip(rows).enumerate();
    each.map(|(at, (message, values))| {
        let Some(others) = others.get(&at) else {
            return message.clone();
        };
        let mut buffer = BytesMut::with_capacity(message.len() + 64);
        put(&mut buffer, b'D', |body| {
            body.put_u16(u16::try_from(values.len()).unwrap_or(u16::MAX));
            for (column, value) in values.iter().enumerate() {
                match (value, others.get(&column)) {
                    (None, _) => body.put_i32(-1),
                    (Some(value), None) => value_into(body, &[value]),
                    (Some(value), Some((before, text))) => {
                        let (oid, format) = written.of(column);
                        match before {
                            Some(before) => {
                                let kept = value.get(..*before).unwrap_or_default();
                                let whole = value.get(*before..).unwrap_or_default();
                                let text = still_json(oid, whole, text);
                                value_into(body, &[kept, text.as_bytes()]);
                            }
                            // As empty as its type lets it be.
                            None if oid == types::BYTEA && format == Format::Text => {
                                value_into(body, &[b"\\x"]);
                            }
                            None if oid == types::BYTEA => value_into(body, &[]),
                            None => body.put_i32(-1),
                        }
                    }
                }
            }
        });
        buffer.freeze()
    })
    .collect()
}

fn value_into(body: &mut BytesMut, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    body.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    parts.iter().for_each(|part| body.put_slice(part));
}

/// A text that stays JSON where it was.
fn still_json<'t>(oid: u32, before: &[u8], text: &'t str) -> Cow<'t, str> {
    let is_json = matches!(oid, types::JSON | types::JSONB);
    let reads = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).is_ok();
    if is_json && reads(before) && !reads(text.as_bytes()) {
        Cow::Borrowed(REDACTED_JSON)
    } else {
        Cow::Borrowed(text)
    }
}

/// Copied data with something taken out; `None` when that would change what else it says: fields and lines
/// must stay what they are.
pub(super) fn copied(
    taken: &[Bytes],
    texts: &[Cow<'_, str>],
    others: Vec<Option<String>>,
    is_binary: bool,
) -> Option<Vec<Bytes>> {
    taken
        .iter()
        .zip(texts)
        .zip(others)
        .map(|((message, text), other)| {
            let Some(other) = other else {
                return Some(message.clone());
            };
            let is_exact = message.get(HEADER..) == Some(text.as_bytes());
            let marks = |text: &str| {
                let count = |mark| text.matches(mark).count();
                (
                    count('\n'),
                    count('\t'),
                    count('"'),
                    count(','),
                    count('\\'),
                )
            };
            if is_binary || !is_exact || marks(text) != marks(&other) {
                return None;
            }
            let mut buffer = BytesMut::with_capacity(message.len() + 64);
            put(&mut buffer, b'd', |body| body.put_slice(other.as_bytes()));
            Some(buffer.freeze())
        })
        .collect()
}

/// Why copied data does not pass out of which something should be taken.
pub(super) fn cannot(server: &str, is_binary: bool) -> Denial {
    let form = if is_binary {
        "binary form"
    } else {
        "this form"
    };
    Denial {
        rule: Rule::ContentBlocked,
        reason: format!(
            "something would have to be taken out of the result, and cannot be in {form}"
        ),
        remedy: format!(
            "read it with SELECT; an operator sees what was found (server `{server}`), and `[inspection]` \
             says what is taken out"
        ),
    }
}

impl Rows {
    /// Where the values of each column come from, unchanged, as far as the statement says.
    pub(super) fn origins(&self, count: usize) -> Vec<RowColumn> {
        let known = self
            .flows
            .as_ref()
            .and_then(|flows| flows.outputs.as_deref());
        let known = known.filter(|known| known.len() == count);
        let columns = self.columns.as_deref();
        (0..count)
            .map(|at| {
                let named = columns.map(|columns| columns.name(at));
                let output = known.and_then(|known| known.get(at));
                // A column that was added since the session began would shift those behind it.
                let same = |output: &&crate::sql::flows::Given| {
                    named.is_none_or(|named| output.name.is_empty() || named == output.name)
                };
                let output = output.filter(same);
                RowColumn {
                    name: match (named, output) {
                        (Some(named), _) => named.to_owned(),
                        (None, Some(output)) => output.name.clone(),
                        (None, None) => (at + 1).to_string(),
                    },
                    of: output.and_then(|output| output.of.clone()),
                }
            })
            .collect()
    }

    /// A column of which nothing is known.
    pub(super) fn unknown(name: &str) -> RowColumn {
        RowColumn {
            name: name.to_owned(),
            of: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::values;
    use super::*;

    fn row(values: &[Option<&[u8]>]) -> Bytes {
        let mut buffer = BytesMut::new();
        put(&mut buffer, b'D', |body| {
            body.put_u16(u16::try_from(values.len()).unwrap());
            for value in values {
                match value {
                    Some(value) => value_into(body, &[value]),
                    None => body.put_i32(-1),
                }
            }
        });
        buffer.freeze()
    }

    #[test]
    fn lengths_are_right_after_something_was_taken_out() {
        let taken = [
            row(&[Some(b"1"), Some(b"a secret here"), None]),
            row(&[Some(b"2"), Some(b"\x01{\"k\":\"secret\"}"), None]),
        ];
        let read: Vec<_> = taken
            .iter()
            .map(|row| values(&row[HEADER..]).unwrap())
            .collect();
        let changed = [
            (0, 1, Some(0), "a [redacted] here".to_owned()),
            (1, 1, Some(1), "{\"k\":\"[redacted]\"}".to_owned()),
        ];
        let written = Written {
            columns: None,
            asked: None,
        };
        let other = rows(&taken, &read, changed.into_iter(), written);
        assert_eq!(
            values(&other[0][HEADER..]).unwrap(),
            [Some(&b"1"[..]), Some(b"a [redacted] here"), None]
        );
        assert_eq!(
            values(&other[1][HEADER..]).unwrap()[1],
            Some(&b"\x01{\"k\":\"[redacted]\"}"[..])
        );
        let length = u32::from_be_bytes(other[0][1..5].try_into().unwrap());
        assert_eq!(length as usize, other[0].len() - 1);
    }

    #[test]
    fn json_stays_json() {
        assert_eq!(still_json(types::JSON, b"{\"a\":1}", "{\"a"), REDACTED_JSON);
        assert_eq!(still_json(types::TEXT, b"{\"a\":1}", "{\"a"), "{\"a");
        assert_eq!(still_json(types::JSON, b"{\"a\":1}", "[2]"), "[2]");
    }

    #[test]
    fn lines_and_fields_of_copied_data_stay() {
        let mut buffer = BytesMut::new();
        put(&mut buffer, b'd', |body| body.put_slice(b"1\tsecret\n"));
        let taken = [buffer.freeze()];
        let texts = [Cow::Borrowed("1\tsecret\n")];
        let with = |other: &str, is_binary| {
            copied(&taken, &texts, vec![Some(other.to_owned())], is_binary)
        };
        let passed = with("1\t[redacted]\n", false).unwrap();
        assert_eq!(&passed[0][HEADER..], b"1\t[redacted]\n");
        assert!(with("1[redacted]\n", false).is_none(), "a field is gone");
        assert!(
            with("1\t[redacted]", false).is_none(),
            "the line's end is gone"
        );
        assert!(with("1\t[redacted]\n", true).is_none());
    }
}
