//! The members of one JSON object, read strictly and without copying.

use std::borrow::Cow;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Most members of one object.
const LIMIT: usize = 64;

/// Why a text is no acceptable object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadMembers {
    /// Not a JSON object, too many members, or one member name twice.
    #[error("not a JSON object in which every name stands once")]
    NotAnObject,
    /// A member has another type than the standard gives it.
    #[error("`{0}` has the wrong type")]
    WrongType(&'static str),
    /// A member that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

/// The members of an object, in the order of the text.
#[derive(Debug)]
pub(crate) struct Members<'a>(Vec<(Name<'a>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object.
    ///
    /// # Errors
    /// [`BadMembers::NotAnObject`] also when a name stands twice, in whatever spelling.
    pub(crate) fn read(text: &'a [u8]) -> Result<Self, BadMembers> {
        let text = std::str::from_utf8(text).map_err(|_| BadMembers::NotAnObject)?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer
            .deserialize_map(Collect)
            .map_err(|_| BadMembers::NotAnObject)?;
        deserializer.end().map_err(|_| BadMembers::NotAnObject)?;
        Ok(members)
    }

    /// Whether there is a member of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A member as it was written.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(known, _)| known.0 == name)
            .map(|(_, value)| value.get())
    }

    /// A string.
    ///
    /// # Errors
    /// [`BadMembers::WrongType`] when it is something else.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, BadMembers> {
        self.typed::<Name<'a>>(name)
            .map(|found| found.map(|text| text.0))
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// [`BadMembers`]
    pub(crate) fn required(&self, name: &'static str) -> Result<Cow<'a, str>, BadMembers> {
        self.text(name)?.ok_or(BadMembers::Missing(name))
    }

    /// A time in seconds since 1970 (NumericDate, RFC 7519 §2). Fractions are cut off.
    ///
    /// # Errors
    /// [`BadMembers::WrongType`] when it is no number in the range of such times.
    pub(crate) fn seconds(&self, name: &'static str) -> Result<Option<i64>, BadMembers> {
        /// The year 9999 ends here; sums with small numbers cannot overflow.
        const LATEST: f64 = 253_402_300_799.0;
        let Some(number) = self.typed::<f64>(name)? else {
            return Ok(None);
        };
        if (0.0..=LATEST).contains(&number) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "in range, and cut on purpose"
            )]
            return Ok(Some(number as i64));
        }
        Err(BadMembers::WrongType(name))
    }

    /// A member of some type; `null` is no value of any.
    ///
    /// # Errors
    /// [`BadMembers::WrongType`] when it is something else.
    pub(crate) fn typed<T: serde::Deserialize<'a>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, BadMembers> {
        let raw = self.raw(name);
        raw.map(|raw| serde_json::from_str(raw).map_err(|_| BadMembers::WrongType(name)))
            .transpose()
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Name<'de>, &'de RawValue)> = Vec::with_capacity(8);
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            if members.len() == LIMIT || members.iter().any(|(known, _)| known.0 == name.0) {
                return Err(A::Error::custom(
                    "a name stands twice, or there are too many",
                ));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// A string that is copied only when it was written with escapes.
#[derive(Debug)]
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_stands_once_in_whatever_spelling() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{},"y":1,"x":{}}"#,
            "[]",
            "7",
            "",
            "{",
            "{}{}",
            r#"{"a":1,}"#,
            "null",
        ] {
            assert_eq!(
                Members::read(bad.as_bytes()).err(),
                Some(BadMembers::NotAnObject),
                "{bad}"
            );
        }
        let many: Vec<String> = (0..=LIMIT).map(|n| format!("\"{n}\":0")).collect();
        assert!(Members::read(format!("{{{}}}", many.join(",")).as_bytes()).is_err());
        assert!(Members::read(format!("{{{}}}", many[1..].join(",")).as_bytes()).is_ok());
    }

    #[test]
    fn members_have_their_types() {
        let text = br#"{"s":"x","e":"a\u0062","n":1700000000.9,"neg":-1,"big":1e99,"null":null}"#;
        let members = Members::read(text).unwrap();
        assert!(matches!(members.text("s"), Ok(Some(Cow::Borrowed("x")))));
        assert_eq!(members.text("e").unwrap().unwrap(), "ab");
        assert_eq!(members.seconds("n"), Ok(Some(1_700_000_000)));
        assert_eq!(members.seconds("none"), Ok(None));
        for wrong in ["neg", "big", "s", "null"] {
            assert_eq!(members.seconds(wrong), Err(BadMembers::WrongType(wrong)));
        }
        assert_eq!(members.text("null"), Err(BadMembers::WrongType("null")));
        assert_eq!(members.required("none"), Err(BadMembers::Missing("none")));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::read(&bytes);
        }

        #[test]
        fn reads_what_the_library_reads(text in "\\{(\"[ab]\":[0-9\"\\[\\]{}]{1,3},?){0,3}\\}") {
            if let Ok(members) = Members::read(text.as_bytes()) {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                prop_assert_eq!(members.0.len(), value.as_object().unwrap().len());
            }
        }
    }
}
