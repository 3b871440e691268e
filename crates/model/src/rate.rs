//! How often something may be done.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most calls in a second or a minute, and most at once.
const MOST: u32 = 1_000_000;

/// So many calls in a second or a minute, spread evenly, and so many at once. Written as
/// `{ per_second = 10, burst = 20 }` or `{ per_minute = 30 }`; without a `burst` as many may come at once as
/// in the second or the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Rate {
    calls: u32,
    per: Per,
    burst: u32,
}

/// The stretch of time that calls are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// One second.
    Second,
    /// 60 seconds.
    Minute,
}

impl Per {
    /// Its length, in nanoseconds.
    #[must_use]
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
        }
    }
}

/// A rate that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// It does not say how often, or says it twice.
    #[error("a rate states either `per_second` or `per_minute`")]
    NotOne,
    /// A number is 0, or too big.
    #[error("`{name}` of a rate is {value}; it must be 1 to {MOST}")]
    OutOfRange {
        /// Which one.
        name: &'static str,
        /// What it says.
        value: u32,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_second: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

impl TryFrom<Written> for Rate {
    type Error = InvalidRate;

    fn try_from(written: Written) -> Result<Self, InvalidRate> {
        let (calls, per) = match (written.per_second, written.per_minute) {
            (Some(calls), None) => (calls, Per::Second),
            (None, Some(calls)) => (calls, Per::Minute),
            _ => return Err(InvalidRate::NotOne),
        };
        Self::new(calls, per, written.burst.unwrap_or(calls))
    }
}

impl From<Rate> for Written {
    fn from(rate: Rate) -> Self {
        let of = |per| (rate.per == per).then_some(rate.calls);
        Self {
            per_second: of(Per::Second),
            per_minute: of(Per::Minute),
            burst: Some(rate.burst),
        }
    }
}

impl Rate {
    /// A rate.
    ///
    /// # Errors
    /// [`InvalidRate::OutOfRange`]
    pub fn new(calls: u32, per: Per, burst: u32) -> Result<Self, InvalidRate> {
        let name = match per {
            Per::Second => "per_second",
            Per::Minute => "per_minute",
        };
        for (name, value) in [(name, calls), ("burst", burst)] {
            if !(1..=MOST).contains(&value) {
                return Err(InvalidRate::OutOfRange { name, value });
            }
        }
        Ok(Self { calls, per, burst })
    }

    /// So many calls a second, and so many at once.
    pub(crate) const fn a_second(calls: u32, burst: u32) -> Self {
        Self {
            calls,
            per: Per::Second,
            burst,
        }
    }

    /// How many calls in its stretch of time: 1 to 1,000,000.
    #[must_use]
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Its stretch of time.
    #[must_use]
    pub fn per(&self) -> Per {
        self.per
    }

    /// How many may come at once: 1 to 1,000,000.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// From one call to the next when they are spread evenly, in nanoseconds; at least 1,000.
    #[must_use]
    pub fn interval(&self) -> u64 {
        self.per.nanos() / u64::from(self.calls)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = if self.calls == 1 { "call" } else { "calls" };
        write!(
            f,
            "{} {calls} a {}, {} at once",
            self.calls,
            self.per.word(),
            self.burst
        )
    }
}

/// A limit on how often, or none: a [`Rate`], or `"off"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RateLimit {
    /// As often as wanted.
    #[default]
    Off,
    /// So often at most.
    At(Rate),
}

impl RateLimit {
    /// The rate, if there is a limit.
    #[must_use]
    pub fn rate(self) -> Option<Rate> {
        match self {
            Self::Off => None,
            Self::At(rate) => Some(rate),
        }
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::At(rate) => rate.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Limit;

        impl<'de> Visitor<'de> for Limit {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\", or a rate such as { per_second = 10, burst = 20 }")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RateLimit, E> {
                match text {
                    "off" => Ok(RateLimit::Off),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RateLimit, A::Error> {
                Rate::deserialize(MapAccessDeserializer::new(map)).map(RateLimit::At)
            }
        }

        deserializer.deserialize_any(Limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct One {
        rate: RateLimit,
    }

    fn read(text: &str) -> Result<RateLimit, String> {
        toml::from_str::<One>(&format!("rate = {text}"))
            .map(|one| one.rate)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_rate_is_written_per_second_or_per_minute() {
        let rate = |text| read(text).unwrap().rate().unwrap();
        let usual = rate("{ per_second = 10, burst = 20 }");
        assert_eq!((usual.interval(), usual.burst()), (100_000_000, 20));
        assert_eq!(usual.to_string(), "10 calls a second, 20 at once");
        let slow = rate("{ per_minute = 1 }");
        assert_eq!((slow.interval(), slow.burst()), (60_000_000_000, 1));
        assert_eq!(slow.to_string(), "1 call a minute, 1 at once");
        assert_eq!(read("\"off\""), Ok(RateLimit::Off));
    }

    #[test]
    fn what_is_no_rate_is_said_so() {
        for (wrong, said) in [
            ("{}", "either"),
            ("{ per_second = 1, per_minute = 1 }", "either"),
            ("{ per_second = 0 }", "`per_second` of a rate is 0"),
            ("{ per_second = 1, burst = 0 }", "`burst` of a rate is 0"),
            ("{ per_minute = 1000001 }", "1000001"),
            ("{ per_hour = 1 }", "per_hour"),
            ("\"on\"", "\"off\", or a rate such as"),
            ("7", "\"off\", or a rate such as"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn rates_round_trip() {
        for text in [
            "\"off\"",
            "{ per_second = 3, burst = 7 }",
            "{ per_minute = 3 }",
        ] {
            let one = One {
                rate: read(text).unwrap(),
            };
            let again: One = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
            assert_eq!(again.rate, one.rate, "{text}");
        }
    }
}
