//! How a program that the gateway starts is confined.

use std::fmt;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How a program that the gateway starts is confined: `confine = "required"`, or a table with more.
///
/// Whatever is said here, the program never reaches the data directory and the files of secrets, and never
/// changes the configuration, unless `enforce` is `off`.
// The derived functions, which `remote` keeps aside, read and write the table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct Confine {
    /// Whether it must be.
    pub enforce: Enforce,
    /// What it may read and execute, besides the system's folders, its own program and what it may write;
    /// by default everything.
    pub read: Option<Vec<PathBuf>>,
    /// What it may write, besides a temporary folder of its own; by default its `directory` and the folders
    /// and files that its command names.
    pub write: Option<Vec<PathBuf>>,
    /// Whether it may write the caches of package managers in its home (`.npm`, `.cache` and the like).
    pub caches: bool,
    /// Memory that one of its processes may use for data, in bytes.
    pub memory_bytes: u64,
    /// Longest file that it may write, in bytes.
    pub file_bytes: u64,
    /// Files that one of its processes may have open.
    pub open_files: u64,
    /// Processes and threads at which its user starts no more from within this program.
    pub processes: u64,
}

/// Whether a program must be confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforce {
    /// Without a kernel that can keep it from files, it is not started.
    Required,
    /// As far as the kernel can; what it cannot is said.
    #[default]
    Available,
    /// Not at all, but for the limits on what it uses.
    Off,
}

impl Enforce {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Available => "available",
            Self::Off => "off",
        }
    }
}

impl Default for Confine {
    fn default() -> Self {
        Self {
            enforce: Enforce::default(),
            read: None,
            write: None,
            caches: true,
            memory_bytes: 4 << 30,
            file_bytes: 4 << 30,
            open_files: 4_096,
            processes: 4_096,
        }
    }
}

impl Serialize for Confine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Confine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Confine;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"required\", \"available\", \"off\" or a table")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Confine, E> {
                let all = [Enforce::Required, Enforce::Available, Enforce::Off];
                let known = all.into_iter().find(|known| known.as_str() == word);
                let enforce = known
                    .ok_or_else(|| E::unknown_variant(word, &["required", "available", "off"]))?;
                Ok(Confine {
                    enforce,
                    ..Confine::default()
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Confine, A::Error> {
                Confine::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Holder {
        confine: Confine,
    }

    fn read(text: &str) -> Result<Confine, String> {
        toml::from_str::<Holder>(&format!("confine = {text}"))
            .map(|holder| holder.confine)
            .map_err(|error| error.message().to_owned())
    }

    #[test]
    fn a_word_or_a_table() {
        let word = read("\"required\"").unwrap();
        assert_eq!(word.enforce, Enforce::Required);
        assert_eq!(word.memory_bytes, Confine::default().memory_bytes);
        let table = read("{ write = [\"/srv\"], memory_bytes = 5 }").unwrap();
        assert_eq!(table.enforce, Enforce::Available);
        assert_eq!(table.write, Some(vec![PathBuf::from("/srv")]));
        assert_eq!((table.memory_bytes, table.caches), (5, true));
        assert!(read("\"of\"").unwrap_err().contains("required"));
        assert!(read("{ writes = [] }").unwrap_err().contains("writes"));
        assert!(read("7").unwrap_err().contains("or a table"));
    }
}
