//! Messages of upstreams, looked at without being rewritten: members in their order, values as the
//! bytes that arrived.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// An object: names and raw values, in order, no name twice.
#[derive(Debug)]
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is no JSON object, or has a name twice.
    pub fn read(text: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Reads an object that is a value of another.
    #[must_use]
    pub fn of(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// A member's raw value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// A member that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        text(self.get(name)?)
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// Writes the object with the named members replaced, or added at the end.
    #[must_use]
    pub fn with(&self, changed: &[(&str, &[u8])]) -> Vec<u8> {
        let length: usize = self
            .0
            .iter()
            .map(|(n, v)| n.len() + v.get().len() + 4)
            .sum();
        let more: usize = changed.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
        let mut out = Vec::with_capacity(length + more + 2);
        out.push(b'{');
        let known = self.0.iter().map(|(name, value)| {
            let new = changed
                .iter()
                .find(|(other, _)| name == other)
                .map(|(_, value)| *value);
            (name.as_ref(), new.unwrap_or(value.get().as_bytes()))
        });
        let added = changed
            .iter()
            .filter(|(name, _)| self.get(name).is_none())
            .copied();
        for (position, (name, value)) in known.chain(added).enumerate() {
            if position > 0 {
                out.push(b',');
            }
            write_name(&mut out, name);
            out.push(b':');
            out.extend_from_slice(value);
        }
        out.push(b'}');
        out
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    serde_json::to_writer(out, name).expect("writing to a Vec cannot fail");
}

/// A raw value that is text.
#[must_use]
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(value.get())
        .ok()
        .map(|text| text.0)
}

/// A raw value that is an array.
#[must_use]
pub fn items(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// Joins raw values to an array.
#[must_use]
pub fn array<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (position, item) in items.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.push(b']');
    out
}

/// Joins names and raw values to an object.
#[must_use]
pub fn object<'a>(members: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (position, (name, value)) in members.enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_name(&mut out, name);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
    out
}

/// Text that is borrowed when it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(4);
                while let Some(Text(name)) = access.next_key()? {
                    members.push((name, access.next_value()?));
                }
                if has_twice(&members) {
                    return Err(de::Error::custom(
                        "a member name stands twice in one object",
                    ));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Messages have few members, which are compared directly; long objects are sorted first.
fn has_twice(members: &[(Cow<'_, str>, &RawValue)]) -> bool {
    if members.len() <= 16 {
        return members.iter().enumerate().any(|(position, (name, _))| {
            members[..position].iter().any(|(known, _)| known == name)
        });
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn members_keep_their_bytes_and_order() {
        let text = br#"{ "b" : 1.50e+2 , "a":{"x": [ ]},"\u0063":"\u0041" }"#;
        let members = Members::read(text).unwrap();
        assert_eq!(members.text("c").as_deref(), Some("A"));
        let out = members.with(&[("a", b"7"), ("z", b"null")]);
        assert_eq!(out, br#"{"b":1.50e+2,"a":7,"c":"\u0041","z":null}"#);
    }

    #[test]
    fn a_name_twice_is_refused() {
        assert!(Members::read(br#"{"a":1,"\u0061":2}"#).is_err());
    }

    proptest! {
        #[test]
        fn never_panics_and_writes_what_it_read(text in "[\\[\\]{}\",:0-9a\\\\ ]{0,40}") {
            if let Ok(members) = Members::read(text.as_bytes()) {
                let again: serde_json::Value = serde_json::from_slice(&members.with(&[])).unwrap();
                prop_assert_eq!(again, serde_json::from_str::<serde_json::Value>(&text).unwrap());
            }
        }
    }
}
