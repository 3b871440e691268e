//! Which version of HTTP a server is spoken to with.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether a server is spoken to over HTTP/2: `false`, `true` or `"auto"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Http2 {
    /// Never: over HTTP/1.1, with a connection for each request that is under way.
    #[default]
    Never,
    /// If the server chooses it when TLS is set up (ALPN); over HTTP/1.1 otherwise, and in clear.
    Offered,
    /// Always: over TLS the server must choose it, and in clear it is known to speak it (RFC 9113 §3.3).
    Always,
}

/// The word of [`Http2::Offered`].
const AUTO: &str = "auto";

impl Serialize for Http2 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Never => serializer.serialize_bool(false),
            Self::Always => serializer.serialize_bool(true),
            Self::Offered => serializer.serialize_str(AUTO),
        }
    }
}

impl<'de> Deserialize<'de> for Http2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Http2;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`true`, `false` or `\"auto\"`")
    }

    fn visit_bool<E: Error>(self, always: bool) -> Result<Http2, E> {
        Ok(if always { Http2::Always } else { Http2::Never })
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Http2, E> {
        match word {
            AUTO => Ok(Http2::Offered),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Line {
        http2: Http2,
    }

    #[test]
    fn it_is_written_as_it_is_read_and_nothing_else_is() {
        for (text, http2) in [
            ("http2 = false\n", Http2::Never),
            ("http2 = true\n", Http2::Always),
            ("http2 = \"auto\"\n", Http2::Offered),
        ] {
            let line = Line { http2 };
            assert_eq!(toml::from_str::<Line>(text).unwrap(), line);
            assert_eq!(toml::to_string(&line).unwrap(), text);
        }
        for wrong in ["http2 = 2", "http2 = \"on\"", "http2 = \"true\""] {
            let error = toml::from_str::<Line>(wrong).unwrap_err().to_string();
            assert!(error.contains("`\"auto\"`"), "{error}");
        }
    }
}
