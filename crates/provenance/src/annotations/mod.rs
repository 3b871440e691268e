//! Annotations: what an administrator says about the tools of one server.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::Mistake;
use regex::Regex;
use sha2::{Digest, Sha256};

use crate::place::Place;

mod draft;
mod tables;
mod written;

pub use draft::{Endpoint, draft, draft_endpoints, draft_tables};
pub(crate) use tables::{Checking, Function, Table};

/// What is known about the tools, endpoints or tables of one server. Read from `annotations/<server>.toml`; the file
/// format is described in `docs/provenance.md`.
#[derive(Debug, Clone, Default)]
pub struct Annotations {
    pub(crate) tools: BTreeMap<String, Tool>,
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) functions: BTreeMap<String, Function>,
    version: String,
}

/// What is known about one tool.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tool {
    /// It changes nothing: only arguments that are named as sinks are checked.
    pub(crate) reads: bool,
    /// Arguments that decide who or what is affected. Ordered so that deeper places come first.
    pub(crate) sinks: Vec<(Place, Sink)>,
    /// Types of arguments that choose what a read answers; they are never refused, but unless all
    /// are derivable, nothing in the answer is trusted.
    pub(crate) queries: Vec<(Place, Sink)>,
    /// Arguments that affect no one else: free text, page sizes.
    pub(crate) content: BTreeMap<String, Inside>,
    /// What in its results is trusted.
    pub(crate) trusted: Trusted,
    /// The identifiers that its results list.
    pub(crate) lists: Vec<Listing>,
}

/// What of a content argument is checked nevertheless.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) urls: bool,
    pub(crate) addresses: bool,
}

/// One checked argument.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink {
    pub(crate) kind: Kind,
    /// For identifiers: of what.
    pub(crate) of: Option<String>,
    /// For identifiers: how they must have been chosen.
    pub(crate) choose: Choose,
    /// Values that do no harm wherever they come from.
    pub(crate) harmless: BTreeSet<String>,
    /// Other words for values: a value counts as said when one of its words is.
    pub(crate) said_as: BTreeMap<String, Vec<String>>,
    /// Whether only the task's own words count, not trusted results.
    pub(crate) only_from_task: bool,
}

/// The types of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Whatever the value looks like.
    #[default]
    Any,
    /// A mail address, or the name of an account, a user or a channel.
    Address,
    /// An account number, compared without the blanks and hyphens of its groups.
    Account,
    /// A URL.
    Url,
    /// The path of a file.
    Path,
    /// An identifier.
    Identifier,
    /// An amount or another number.
    Number,
    /// A day; the time of day may be any.
    Date,
    /// A day and a time of day.
    Datetime,
    /// A time of day.
    Time,
    /// A name or short text, word for word.
    Name,
    /// A short text made of words that are all known.
    Words,
    /// A text, character for character.
    Exact,
}

impl Kind {
    /// The word in annotations.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Address => "address",
            Self::Account => "account",
            Self::Url => "url",
            Self::Path => "path",
            Self::Identifier => "identifier",
            Self::Number => "number",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Time => "time",
            Self::Name => "name",
            Self::Words => "words",
            Self::Exact => "exact",
        }
    }
}

/// How an identifier must have been chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Choose {
    /// Any that a read listed.
    #[default]
    Listed,
    /// One from a listing that the task's own words narrowed, or whose name the task says.
    Narrowed,
    /// One whose name the task says.
    Named,
}

/// What in a result is trusted.
#[derive(Debug, Clone, Default)]
pub(crate) enum Trusted {
    /// Nothing.
    #[default]
    Nothing,
    /// The whole result.
    All,
    /// Values at some places, and parts of a text that an expression's groups match.
    Some {
        places: Vec<(Place, Option<When>)>,
        lines: Vec<Regex>,
    },
}

/// When a place is trusted: what must stand beside it.
#[derive(Debug, Clone)]
pub(crate) struct When {
    pub(crate) field: Place,
    pub(crate) is: Beside,
}

/// What stands beside a trusted value.
#[derive(Debug, Clone)]
pub(crate) enum Beside {
    /// A value that the task itself says.
    Named,
    /// One of these values; `@example.org` stands for every address of a domain.
    OneOf(Vec<String>),
}

/// Identifiers in a result.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) at: Place,
    /// Of what.
    pub(crate) of: String,
    /// Where the name of the thing stands.
    pub(crate) name: Option<Place>,
}

impl Annotations {
    /// Reads the annotations of one server.
    ///
    /// # Errors
    /// Every mistake in the text, each with its place.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        let read = written::parse(file, text)?;
        let hash = Sha256::digest(text.as_bytes());
        Ok(Self {
            tools: read.tools,
            tables: read.tables,
            functions: read.functions,
            version: hash[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
        })
    }

    /// Names what they say: 32 hexadecimal digits of a SHA-256 hash over the text.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether a tool or endpoint changes nothing, as far as they say.
    #[must_use]
    pub fn reads(&self, tool: &str) -> bool {
        self.tool(tool).is_some_and(|tool| tool.reads)
    }

    /// Whether an argument of a tool or endpoint affects no one, whatever it says.
    #[must_use]
    pub fn is_content(&self, tool: &str, argument: &str) -> bool {
        self.tool(tool)
            .and_then(|tool| tool.content.get(argument))
            .is_some_and(|inside| *inside == Inside::default())
    }

    /// The arguments of a tool or endpoint that are checked, by their places, each with the word for its type.
    pub fn sinks(&self, tool: &str) -> impl Iterator<Item = (String, &'static str)> {
        let sinks = self.tool(tool).into_iter().flat_map(|tool| &tool.sinks);
        sinks.map(|(place, sink)| (place.to_string(), sink.kind.as_str()))
    }

    /// The arguments of a tool or endpoint that affect no one else, such as free text.
    pub fn contents(&self, tool: &str) -> impl Iterator<Item = &str> {
        let contents = self
            .tool(tool)
            .into_iter()
            .flat_map(|tool| tool.content.keys());
        contents.map(String::as_str)
    }

    /// The tools that are annotated.
    pub fn tools(&self) -> impl Iterator<Item = &str> {
        self.tools.keys().map(String::as_str)
    }

    /// The tables that are annotated, and the functions.
    pub fn of_databases(&self) -> impl Iterator<Item = &str> {
        let names = self.tables.keys().chain(self.functions.keys());
        names.map(String::as_str)
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }
}
