//! What was approved, and how a listing compares with it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use model::ServerName;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::definition::{Definition, Hash};
use crate::text;

/// Most tools of one server that can be approved.
const TOOLS_PER_SERVER: usize = 1_024;
/// Longest difference that is shown, in lines.
const DIFF_LINES: usize = 400;
/// Longest line of a difference, in characters.
const DIFF_CHARS: usize = 400;

/// The definitions that somebody approved, by server and tool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pins {
    servers: BTreeMap<ServerName, BTreeMap<String, Pin>>,
}

/// An approved definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pin {
    /// Its hash.
    pub hash: Hash,
    /// It, so that a change can be shown.
    pub definition: Definition,
    /// Who approved it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// How a tool stands to what was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is what was approved.
    Unchanged,
    /// Nobody approved a tool of that name.
    New,
    /// Another definition was approved; the difference, as a unified diff for people.
    Changed {
        /// From what was approved to what is there.
        diff: String,
    },
    /// The listing has the name twice, so that nobody can say which one a call reaches.
    Ambiguous,
    /// It was approved and is not listed any more.
    Gone,
}

/// How a listing stands to what was approved: each tool once, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The tools and how they stand.
    pub tools: BTreeMap<String, Standing>,
}

/// Why a definition cannot be approved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The server has too many already.
    #[error("server `{server}` has {TOOLS_PER_SERVER} approved tools, and there cannot be more")]
    TooMany {
        /// The server.
        server: ServerName,
    },
}

impl Pins {
    /// Approves a definition; it takes the place of what was approved under the name.
    ///
    /// # Errors
    /// [`PinError`] when the server has too many tools.
    pub fn approve(
        &mut self,
        server: &ServerName,
        definition: Definition,
        by: &str,
        at: Timestamp,
    ) -> Result<(), PinError> {
        let tools = self.servers.entry(server.clone()).or_default();
        if tools.len() >= TOOLS_PER_SERVER && !tools.contains_key(definition.name()) {
            return Err(PinError::TooMany {
                server: server.clone(),
            });
        }
        let pin = Pin {
            hash: definition.hash(),
            by: by.to_owned(),
            at,
            definition,
        };
        tools.insert(pin.definition.name().to_owned(), pin);
        Ok(())
    }

    /// Takes an approval back. False when there was none.
    pub fn withdraw(&mut self, server: &ServerName, tool: &str) -> bool {
        let tools = self.servers.get_mut(server);
        tools.is_some_and(|tools| tools.remove(tool).is_some())
    }

    /// What was approved under a name.
    #[must_use]
    pub fn get(&self, server: &ServerName, tool: &str) -> Option<&Pin> {
        self.servers.get(server)?.get(tool)
    }

    /// Everything that was approved, by server and tool.
    pub fn iter(&self) -> impl Iterator<Item = (&ServerName, &Pin)> {
        self.servers
            .iter()
            .flat_map(|(server, tools)| tools.values().map(move |pin| (server, pin)))
    }

    /// Whether exactly this definition was approved. This is what an enforcement point asks.
    #[must_use]
    pub fn holds(&self, server: &ServerName, definition: &Definition) -> bool {
        self.get(server, definition.name())
            .is_some_and(|pin| pin.hash == definition.hash())
    }

    /// Compares a whole listing with what was approved.
    #[must_use]
    pub fn compare(&self, server: &ServerName, listing: &[Definition]) -> Comparison {
        let none = BTreeMap::new();
        let approved = self.servers.get(server).unwrap_or(&none);
        let mut tools = BTreeMap::new();
        for definition in listing {
            let name = definition.name().to_owned();
            let standing = match approved.get(&name) {
                _ if tools.contains_key(&name) => Standing::Ambiguous,
                None => Standing::New,
                Some(pin) if pin.hash == definition.hash() => Standing::Unchanged,
                Some(pin) => Standing::Changed {
                    diff: difference(&pin.definition, definition),
                },
            };
            tools.insert(name, standing);
        }
        let listed: BTreeSet<&str> = listing.iter().map(Definition::name).collect();
        let gone = approved
            .keys()
            .filter(|name| !listed.contains(name.as_str()));
        tools.extend(gone.map(|name| (name.clone(), Standing::Gone)));
        Comparison { tools }
    }
}

/// The difference of two definitions, as a unified diff of their lines in which nothing acts or hides.
#[must_use]
pub fn difference(before: &Definition, after: &Definition) -> String {
    let shown = |definition: &Definition| {
        let mut lines = definition.lines();
        lines.truncate(DIFF_LINES * 4);
        lines.join("\n") + "\n"
    };
    let (before, after) = (shown(before), shown(after));
    let diff = TextDiff::from_lines(before.as_str(), after.as_str());
    let whole = diff
        .unified_diff()
        .context_radius(3)
        .header("approved", "listed now")
        .to_string();
    let mut out = String::with_capacity(whole.len());
    for (count, line) in whole.lines().enumerate() {
        if count == DIFF_LINES {
            out.push_str("… more differences are not shown\n");
            break;
        }
        out.push_str(&text::escaped(line, DIFF_CHARS));
        out.push('\n');
    }
    if out.is_empty() {
        out.push_str("the definitions differ beyond what is shown of definitions of this size\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server() -> ServerName {
        ServerName::parse("files").unwrap()
    }

    fn tool(name: &str, description: &str) -> Definition {
        Definition::of(&json!({"name": name, "description": description,
            "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}}}))
        .unwrap()
    }

    #[test]
    fn a_listing_is_compared_with_what_was_approved() {
        let mut pins = Pins::default();
        for (name, text) in [("read", "Reads."), ("write", "Writes."), ("old", "Old.")] {
            pins.approve(&server(), tool(name, text), "ada", Timestamp::UNIX_EPOCH)
                .unwrap();
        }
        let listing = [
            tool("read", "Reads."),
            tool("write", "Writes.\n\u{1b}[8mTwice."),
            tool("new", "x"),
        ];
        let compared = pins.compare(&server(), &listing).tools;
        assert_eq!(compared["read"], Standing::Unchanged);
        assert_eq!(compared["new"], Standing::New);
        assert_eq!(compared["old"], Standing::Gone);
        let Standing::Changed { diff } = &compared["write"] else {
            panic!("{compared:?}");
        };
        assert!(diff.contains("--- approved\n+++ listed now\n"), "{diff}");
        assert!(diff.contains("\n+  \\u{1b}[8mTwice.\n"), "{diff}");
        assert!(diff.contains("\n   Writes.\n"), "{diff}");
        assert!(pins.holds(&server(), &listing[0]) && !pins.holds(&server(), &listing[1]));
        assert!(!pins.holds(&ServerName::parse("other").unwrap(), &listing[0]));
    }

    #[test]
    fn a_name_listed_twice_is_nobodys() {
        let mut pins = Pins::default();
        pins.approve(&server(), tool("a", "x"), "ada", Timestamp::UNIX_EPOCH)
            .unwrap();
        let listing = [tool("a", "x"), tool("a", "y")];
        assert_eq!(
            pins.compare(&server(), &listing).tools["a"],
            Standing::Ambiguous
        );
    }

    #[test]
    fn there_cannot_be_more_than_may_be() {
        let mut pins = Pins::default();
        let mut approve = |n: usize| {
            pins.approve(
                &server(),
                tool(&format!("t{n}"), ""),
                "ada",
                Timestamp::UNIX_EPOCH,
            )
        };
        assert!((0..TOOLS_PER_SERVER).all(|n| approve(n).is_ok()));
        assert!(approve(TOOLS_PER_SERVER).is_err());
        assert!(approve(0).is_ok(), "what is there can be approved anew");
    }

    #[test]
    fn a_difference_is_bounded() {
        let mut pins = Pins::default();
        pins.approve(&server(), tool("a", "x"), "ada", Timestamp::UNIX_EPOCH)
            .unwrap();
        let changed = tool("a", &"line\n".repeat(40_000));
        let compared = pins.compare(&server(), &[changed]).tools;
        let Standing::Changed { diff } = &compared["a"] else {
            panic!("{compared:?}");
        };
        assert!(diff.lines().count() <= DIFF_LINES + 1);
    }
}
