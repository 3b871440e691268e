//! What one call added to a ledger, as bytes that can be kept: values with their labels, so that nothing has
//! to be judged again when they are read back, whatever the annotations say by then.
//!
//! | part | bytes |
//! | --- | --- |
//! | version and kind | 1 |
//! | run of the process, number of the call | 8 + 4 |
//! | of a result: its [`Origin`] without the place, as JSON | 4 + length |
//! | of a result: its values, each with its label, texts with their lengths | |
//! | of a result: whether everything is in it | 1 |
//!
//! Numbers are big-endian. Whoever keeps entries seals them: they hold what the task has read in clear.

use model::provenance::Origin;

use super::Level;
use super::recall::{Malformed, Mark};
use crate::annotations::Choose;

/// An entry that says which state of another ledger this one began with.
const BEGINS: u8 = 0x10;
/// An entry that holds what a result added.
const RESULT: u8 = 0x11;

/// Labels of values.
const UNTRUSTED: u8 = 0;
/// And the level, 1 to 3.
const TRUSTED: u8 = 1;
/// And how it was chosen, 0 to 2.
const LISTED: u8 = 16;
/// Ends the values.
const END: u8 = 255;

/// Largest entry, in bytes. What does not fit is left out, and the entry says so.
pub(super) const LARGEST: usize = 2 << 20;

/// An entry that is being written.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    bytes: Vec<u8>,
    left_out: bool,
}

impl Entry {
    /// Begins the entry of a result.
    pub(super) fn new(mark: Mark, origin: &Origin) -> Self {
        let mut bytes = head(RESULT, mark);
        // An origin is made of strings and numbers alone, which always have a form in JSON.
        let origin = serde_json::to_vec(origin).unwrap_or_default();
        text(&mut bytes, &origin);
        Self {
            bytes,
            left_out: false,
        }
    }

    /// Adds a value and its label.
    pub(super) fn value(&mut self, level: Option<Level>, place: &str, value: &str) {
        let label = level.map_or(UNTRUSTED, |level| TRUSTED + level as u8 - 1);
        self.add(label, &[place, value]);
    }

    /// Adds an identifier that the result lists, and of what.
    pub(super) fn listed(&mut self, how: Choose, of: &str, place: &str, identifier: &str) {
        let how = match how {
            Choose::Listed => 0,
            Choose::Narrowed => 1,
            Choose::Named => 2,
        };
        self.add(LISTED + how, &[of, place, identifier]);
    }

    fn add(&mut self, label: u8, texts: &[&str]) {
        let cost = 1 + texts.iter().map(|text| 4 + text.len()).sum::<usize>();
        if self.bytes.len() + cost > LARGEST {
            self.left_out = true;
            return;
        }
        self.bytes.push(label);
        for one in texts {
            text(&mut self.bytes, one.as_bytes());
        }
    }

    /// The entry, complete. `all`: whether the ledger took in everything.
    pub(super) fn finish(mut self, all: bool) -> Vec<u8> {
        self.bytes.push(END);
        self.bytes.push(u8::from(all && !self.left_out));
        self.bytes
    }
}

/// The entry that says which state of another ledger this one began with.
pub(super) fn begins(mark: Mark) -> Vec<u8> {
    head(BEGINS, mark)
}

fn head(kind: u8, mark: Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(kind);
    bytes.extend_from_slice(&mark.run.to_be_bytes());
    bytes.extend_from_slice(&mark.call.to_be_bytes());
    bytes
}

fn text(into: &mut Vec<u8>, text: &[u8]) {
    // Entries are far smaller than 4 GiB; a longer text was left out before.
    let length = u32::try_from(text.len()).unwrap_or(0);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(&text[..length as usize]);
}

/// An entry that was read back.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// Which state of another ledger this one began with.
    Begins(Mark),
    /// What a result added.
    Result {
        mark: Mark,
        origin: Origin,
        values: Vec<Value>,
        /// Whether it holds everything that the result had.
        all: bool,
    },
}

/// One value of an entry.
#[derive(Debug, PartialEq)]
pub(super) enum Value {
    Seen {
        level: Option<Level>,
        place: String,
        text: String,
    },
    Listed {
        how: Choose,
        of: String,
        place: String,
        identifier: String,
    },
}

impl Read {
    /// Reads an entry; strictly, so that nothing is taken for what it is not.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let kind = reader.byte()?;
        let mark = Mark {
            run: u64::from_be_bytes(reader.array()?),
            call: u32::from_be_bytes(reader.array()?),
        };
        let read = match kind {
            BEGINS => Self::Begins(mark),
            RESULT => {
                let origin = serde_json::from_str(reader.text()?).map_err(|_| Malformed)?;
                let mut values = Vec::new();
                while let Some(value) = reader.value()? {
                    values.push(value);
                }
                let all = match reader.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed),
                };
                Self::Result {
                    mark,
                    origin,
                    values,
                    all,
                }
            }
            _ => return Err(Malformed),
        };
        if reader.0.is_empty() {
            Ok(read)
        } else {
            Err(Malformed)
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = u32::from_be_bytes(self.array()?);
        let bytes = self.take(usize::try_from(length).map_err(|_| Malformed)?)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed)
    }

    /// The next value; `None` behind the last one.
    fn value(&mut self) -> Result<Option<Value>, Malformed> {
        let seen = |reader: &mut Self, level| {
            Ok(Some(Value::Seen {
                level,
                place: reader.text()?.to_owned(),
                text: reader.text()?.to_owned(),
            }))
        };
        let listed = |reader: &mut Self, how| {
            Ok(Some(Value::Listed {
                how,
                of: reader.text()?.to_owned(),
                place: reader.text()?.to_owned(),
                identifier: reader.text()?.to_owned(),
            }))
        };
        match self.byte()? {
            END => Ok(None),
            UNTRUSTED => seen(self, None),
            1 => seen(self, Some(Level::Task)),
            2 => seen(self, Some(Level::Vouched)),
            3 => seen(self, Some(Level::Trusted)),
            16 => listed(self, Choose::Listed),
            17 => listed(self, Choose::Narrowed),
            18 => listed(self, Choose::Named),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: Mark = Mark { run: 7, call: 3 };

    fn origin() -> Origin {
        Origin::Result {
            server: "mail".to_owned(),
            tool: "people".to_owned(),
            call: 3,
            arguments: "{}".to_owned(),
            place: String::new(),
            at: None,
            decision: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let mut entry = Entry::new(MARK, &origin());
        entry.value(None, "/a", &"x".repeat(LARGEST));
        entry.value(None, "/b", "small");
        let bytes = entry.finish(true);
        assert!(bytes.len() < 1_000);
        let Read::Result { values, all, .. } = Read::parse(&bytes).unwrap() else {
            panic!("it is a result");
        };
        assert_eq!((values.len(), all), (1, false));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        let whole = {
            let mut entry = Entry::new(MARK, &origin());
            entry.value(Some(Level::Trusted), "/a", "ann@corp.example");
            entry.finish(true)
        };
        for cut in 0..whole.len() {
            assert!(Read::parse(&whole[..cut]).is_err(), "{cut}");
        }
        let more = [&whole[..], b"x"].concat();
        assert!(Read::parse(&more).is_err());
        assert!(Read::parse(&[0x12; 40]).is_err());
        assert_eq!(Read::parse(&begins(MARK)).unwrap(), Read::Begins(MARK));
    }

    fn value() -> impl Strategy<Value = Value> {
        let seen =
            (0_usize..4, any::<String>(), any::<String>()).prop_map(|(level, place, text)| {
                let levels = [
                    None,
                    Some(Level::Task),
                    Some(Level::Vouched),
                    Some(Level::Trusted),
                ];
                Value::Seen {
                    level: levels[level],
                    place,
                    text,
                }
            });
        let listed = (
            0_usize..3,
            any::<String>(),
            any::<String>(),
            any::<String>(),
        )
            .prop_map(|(how, of, place, identifier)| Value::Listed {
                how: [Choose::Listed, Choose::Narrowed, Choose::Named][how],
                of,
                place,
                identifier,
            });
        prop_oneof![seen, listed]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(run: u64, call: u32, all: bool, values in proptest::collection::vec(value(), 0..8)) {
            let mark = Mark { run, call };
            let mut entry = Entry::new(mark, &origin());
            for value in &values {
                match value {
                    Value::Seen { level, place, text } => entry.value(*level, place, text),
                    Value::Listed { how, of, place, identifier } => entry.listed(*how, of, place, identifier),
                }
            }
            let read = Read::parse(&entry.finish(all)).unwrap();
            prop_assert_eq!(read, Read::Result { mark, origin: origin(), values, all });
        }

        #[test]
        fn whatever_is_read_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Read::parse(&bytes);
        }
    }
}
