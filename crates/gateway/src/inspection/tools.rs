//! The tools that a server lists, compared with what was approved of them.

use std::collections::HashMap;
use std::sync::Arc;

use model::inspection::{Response, Severity};
use model::{ServerName, json};
use monitor::tools::Definition;
use monitor::{Asi, Atlas, Evidence, Finding, Subject};
use policy::{DefinitionHash, ServerTools};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{About, Inspection};
use crate::front::BoxFuture;
use crate::live::Live;
use crate::mcp::raw::Members;

/// Most definitions whose hash is remembered, at about 200 bytes each.
const FINGERPRINTS: u64 = 16_384;
/// Longest definition, as it is listed, in bytes.
const ITEM_BYTES: usize = 256 << 10;
/// Deepest nesting of a definition.
const ITEM_DEPTH: usize = 64;
/// Longest name of a tool, in bytes; the protocol recommends 128 characters.
const NAME_BYTES: usize = 512;

/// What a server listed that is not known yet, or not like this.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The server.
    pub server: ServerName,
    /// The definitions that change something: new ones, changed ones, and changed ones that are again
    /// as approved. Each name once.
    pub definitions: Vec<Definition>,
    /// Whether there is no further page of the listing.
    pub complete: bool,
}

/// Keeps what was approved, durably. It decides what a first contact approves, keeps what waits for a
/// review, and publishes both to the world (`policy::World::with_tools`) before it returns.
pub trait PinBook: Send + Sync {
    /// Takes in what a server listed. What could not be kept is not approved: then the world stays as it
    /// was, and what is new in the listing is not shown.
    fn listed(&self, listed: Listed) -> BoxFuture<'_, ()>;
}

/// Hashes of definitions by the bytes of the items that they were in: listings are mostly the same.
pub(super) struct Fingerprints {
    known: moka::sync::Cache<[u8; 32], Option<Arc<(String, DefinitionHash)>>>,
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self {
            known: moka::sync::Cache::new(FINGERPRINTS),
        }
    }
}

impl Fingerprints {
    /// The name and hash of a definition; `None` when it is none that two readers would take alike.
    fn of(&self, item: &RawValue) -> Option<Arc<(String, DefinitionHash)>> {
        let key: [u8; 32] = Sha256::digest(item.get().as_bytes()).into();
        self.known.get_with(key, || {
            let definition = definition(item)?;
            let hash = definition.hash().into();
            Some(Arc::new((definition.name().to_owned(), hash)))
        })
    }
}

/// Reads a definition strictly: no member twice, since one reader takes the first and another the last.
fn definition(item: &RawValue) -> Option<Definition> {
    let limits = json::Limits {
        bytes: ITEM_BYTES,
        depth: ITEM_DEPTH,
    };
    let value = json::parse(item.get().as_bytes(), limits).ok()?;
    let definition = Definition::of(&value).ok()?;
    (definition.name().len() <= NAME_BYTES).then_some(definition)
}

/// Which items of a listing of tools may be shown.
pub(crate) enum Standings {
    /// Nobody asks for approval at this server.
    Unpinned,
    /// For each item, whether it may.
    Each(Vec<bool>),
}

impl Standings {
    /// Whether the item at a position may be shown.
    pub(crate) fn may_show(&self, position: usize) -> bool {
        match self {
            Self::Unpinned => true,
            Self::Each(each) => each.get(position).copied().unwrap_or(false),
        }
    }
}

impl Inspection {
    /// Compares the tools of a listing with what was approved, and has the book keep what is new.
    pub(crate) async fn standings(
        &self,
        live: &Live,
        about: &About<'_>,
        listing: &Members<'_>,
    ) -> Standings {
        let of_server = || live.world().tools(about.server).map(Arc::clone);
        let Some(known) = of_server() else {
            return Standings::Unpinned;
        };
        let items = listing.get("tools").and_then(crate::mcp::raw::items);
        let items = items.unwrap_or_default();
        let read: Vec<_> = items
            .iter()
            .map(|item| self.fingerprints.of(item))
            .collect();
        let mut named: HashMap<&str, usize> = HashMap::new();
        for (name, _) in read.iter().flatten().map(|it| &**it) {
            *named.entry(name).or_default() += 1;
        }
        self.malformed(about, &read, &named);
        let is_one = |name: &str| named.get(name) == Some(&1);
        let unsettled: Vec<Definition> = items
            .iter()
            .zip(&read)
            .filter(|(_, read)| {
                read.as_ref()
                    .is_some_and(|it| is_one(&it.0) && !known.is_settled(&it.0, &it.1))
            })
            .filter_map(|(item, _)| definition(item))
            .collect();
        let complete = listing
            .get("nextCursor")
            .is_none_or(|cursor| cursor.get() == "null");
        let now = if (!unsettled.is_empty() || (complete && !known.met))
            && let Some(book) = self.book.load_full()
        {
            book.listed(Listed {
                server: about.server.clone(),
                definitions: unsettled,
                complete,
            })
            .await;
            of_server().unwrap_or(known)
        } else {
            known
        };
        let may_show = |tools: &ServerTools, it: &(String, DefinitionHash)| {
            is_one(&it.0) && tools.may_show(&it.0, &it.1)
        };
        Standings::Each(
            read.iter()
                .map(|read| read.as_ref().is_some_and(|it| may_show(&now, it)))
                .collect(),
        )
    }

    /// Reports what is no definition, and names that are listed twice.
    fn malformed(
        &self,
        about: &About<'_>,
        read: &[Option<Arc<(String, DefinitionHash)>>],
        named: &HashMap<&str, usize>,
    ) {
        let malformed = read.iter().filter(|read| read.is_none()).count();
        let twice = named.iter().find(|(_, count)| **count > 1);
        let finding = |rule: &str, explanation: String, name: &str| Finding {
            rule: rule.to_owned(),
            severity: Severity::Medium,
            asi: Some(Asi::Asi04),
            atlas: Atlas::parse(Atlas::MASQUERADING).ok(),
            subject: Subject::default(),
            evidence: (!name.is_empty()).then(|| Evidence::of("name", name, 0, name.len())),
            explanation,
        };
        if malformed > 0 {
            let explanation = format!(
                "{malformed} of the listed tools cannot be read in one way only, and are not shown"
            );
            self.report(
                about,
                finding("tool-malformed", explanation, ""),
                Response::Redact,
            );
        }
        if let Some((name, count)) = twice {
            let explanation = format!(
                "A name is listed {count} times: nobody can say which one a call reaches, so none is shown"
            );
            self.report(
                about,
                finding("tool-listed-twice", explanation, name),
                Response::Redact,
            );
        }
    }
}
