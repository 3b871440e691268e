//! The file format of annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use model::{Mistake, TableOperation};
use regex::RegexBuilder;
use serde::Deserialize;

use super::tables::{Function, Table, WrittenFunction, WrittenTable};
use super::{Beside, Choose, Inside, Kind, Listing, Sink, Tool, Trusted, When};
use crate::place::Place;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tools: BTreeMap<String, toml::Spanned<WrittenTool>>,
    #[serde(default)]
    endpoints: BTreeMap<String, toml::Spanned<WrittenTool>>,
    #[serde(default)]
    tables: BTreeMap<String, toml::Spanned<WrittenTable>>,
    #[serde(default)]
    functions: BTreeMap<String, toml::Spanned<WrittenFunction>>,
}

/// Everything that a file says.
#[derive(Default)]
pub(super) struct Read {
    pub(super) tools: BTreeMap<String, Tool>,
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) functions: BTreeMap<String, Function>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTool {
    #[serde(default)]
    reads: bool,
    #[serde(default)]
    sinks: Arguments,
    #[serde(default)]
    queries: Arguments,
    #[serde(default)]
    content: Contents,
    #[serde(default)]
    trusted: WrittenTrusted,
    #[serde(default)]
    lists: BTreeMap<String, WrittenListing>,
    #[serde(default, rename = "notes")]
    _notes: String,
}

/// Arguments, as a list of places or with a type for each.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a list of arguments, or a table that says the type of each, such as { recipient = \"address\" }"
)]
pub(super) enum Arguments {
    Untyped(Vec<String>),
    Typed(BTreeMap<String, WrittenSink>),
}

impl Default for Arguments {
    fn default() -> Self {
        Self::Untyped(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a type (any, address, account, url, path, identifier, number, date, datetime, time, name, words, exact), or a table with `type`, `of`, `choose`, `harmless`, `said_as`, `from`, `on`"
)]
pub(super) enum WrittenSink {
    Kind(Kind),
    Full(FullSink),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullSink {
    #[serde(default, rename = "type")]
    kind: Kind,
    of: Option<String>,
    #[serde(default)]
    choose: Choose,
    #[serde(default)]
    harmless: BTreeSet<String>,
    #[serde(default)]
    said_as: BTreeMap<String, Vec<String>>,
    from: Option<From>,
    /// For columns: the operations that they are checked in.
    on: Option<BTreeSet<TableOperation>>,
}

impl WrittenSink {
    pub(super) fn on(&self) -> Option<&BTreeSet<TableOperation>> {
        match self {
            Self::Kind(_) => None,
            Self::Full(full) => full.on.as_ref(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum From {
    Task,
    Anywhere,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a list of arguments, or a table that says what to check inside each, such as { body = [\"urls\"] }"
)]
pub(super) enum Contents {
    Free(Vec<String>),
    Checked(BTreeMap<String, Vec<WrittenInside>>),
}

impl Default for Contents {
    fn default() -> Self {
        Self::Free(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenInside {
    Urls,
    Addresses,
}

#[derive(Default, Deserialize)]
#[serde(
    untagged,
    expecting = "\"all\", or a list of places such as \"/*/email\", of { path, when } and of { lines }"
)]
enum WrittenTrusted {
    #[default]
    Nothing,
    Word(TrustWord),
    Parts(Vec<TrustedPart>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TrustWord {
    All,
    Nothing,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a place such as \"/*/email\", { path = \"/*/body\", when = { \"/*/sender\" = \"named\" } }, or { lines = \"(?m)^Name: (.*)$\" }"
)]
enum TrustedPart {
    Place(String),
    Conditional(Conditional),
    Lines(Lines),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Conditional {
    path: String,
    when: Option<BTreeMap<String, WrittenBeside>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    lines: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"named\", or a list of values")]
enum WrittenBeside {
    Word(BesideWord),
    OneOf(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BesideWord {
    Named,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "what the identifiers are of, or { of = \"file\", name = \"/*/filename\" }"
)]
pub(super) enum WrittenListing {
    Of(String),
    Full(FullListing),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullListing {
    pub(super) of: String,
    pub(super) name: Option<String>,
}

/// Longest file, in bytes.
const LONGEST: usize = 1 << 20;

pub(super) fn parse(file: &Path, text: &str) -> Result<Read, Vec<Mistake>> {
    if text.len() > LONGEST {
        let message = format!("annotations are at most {LONGEST} bytes long");
        return Err(vec![Mistake::new(file, message)]);
    }
    let written: Written = toml::from_str(text)
        .map_err(|error| vec![Mistake::new(file, error.message().to_owned()).at(error.span())])?;
    let mut reader = Reader {
        file,
        mistakes: Vec::new(),
        span: 0..0,
        tool: String::new(),
    };
    let mut read = Read::default();
    let named = |what| move |(name, tool)| (what, name, tool);
    let all = (written.tools.into_iter().map(named("tool")))
        .chain(written.endpoints.into_iter().map(named("endpoint")));
    for (what, name, spanned) in all {
        reader.span = spanned.span();
        reader.tool = format!("{what} `{name}`");
        let tool = reader.tool(spanned.into_inner());
        read.tools.insert(name, tool);
    }
    for (name, spanned) in written.tables {
        reader.span = spanned.span();
        reader.tool = format!("table `{name}`");
        let table = reader.table(&name, spanned.into_inner());
        read.tables.insert(name, table);
    }
    for (name, spanned) in written.functions {
        reader.span = spanned.span();
        reader.tool = format!("function `{name}`");
        let function = reader.function(spanned.into_inner());
        read.functions.insert(name, function);
    }
    if reader.mistakes.is_empty() {
        Ok(read)
    } else {
        Err(reader.mistakes)
    }
}

pub(super) struct Reader<'a> {
    file: &'a Path,
    mistakes: Vec<Mistake>,
    span: Range<usize>,
    tool: String,
}

impl Reader<'_> {
    pub(super) fn mistake(&mut self, message: impl std::fmt::Display, hint: &str) {
        let message = format!("{}: {message}", self.tool);
        self.mistakes.push(
            Mistake::new(self.file, message)
                .at(Some(self.span.clone()))
                .hint(hint),
        );
    }

    fn place(&mut self, text: &str) -> Option<Place> {
        match Place::parse(text) {
            Ok(place) => Some(place),
            Err(error) => {
                self.mistake(error, "see docs/provenance.md");
                None
            }
        }
    }

    fn tool(&mut self, written: WrittenTool) -> Tool {
        let mut tool = Tool {
            reads: written.reads,
            sinks: self.arguments(written.sinks),
            queries: self.arguments(written.queries),
            content: contents(written.content),
            trusted: self.trusted(written.trusted),
            lists: Vec::new(),
        };
        if !tool.reads && !tool.queries.is_empty() {
            let hint = "name them in `sinks`, or say `reads = true`";
            self.mistake("`queries` belong to tools that only read", hint);
        }
        for (place, _) in tool.sinks.iter().chain(&tool.queries) {
            if let Some(name) = place.first()
                && place.is_whole_argument()
                && tool.content.contains_key(name)
            {
                let hint = "keep it in one of the two";
                self.mistake(format!("argument `{name}` is a sink and content"), hint);
            }
        }
        for (at, listing) in written.lists {
            let (of, name) = match listing {
                WrittenListing::Of(of) => (of, None),
                WrittenListing::Full(full) => (full.of, full.name),
            };
            let name = name.and_then(|name| self.place(&name));
            if let Some(at) = self.place(&at) {
                tool.lists.push(Listing { at, of, name });
            }
        }
        tool
    }

    fn arguments(&mut self, written: Arguments) -> Vec<(Place, Sink)> {
        let mut arguments: Vec<(Place, Sink)> = match written {
            Arguments::Untyped(places) => places
                .iter()
                .filter_map(|place| Some((self.place(place)?, Sink::default())))
                .collect(),
            Arguments::Typed(sinks) => sinks
                .into_iter()
                .filter_map(|(place, sink)| Some((self.place(&place)?, self.sink(sink))))
                .collect(),
        };
        arguments
            .sort_by_key(|(place, _)| std::cmp::Reverse(place.to_string().matches('/').count()));
        arguments
    }

    fn sink(&mut self, written: WrittenSink) -> Sink {
        self.never_on(&written);
        self.plain_sink(written)
    }

    /// Operations belong to columns.
    pub(super) fn never_on(&mut self, written: &WrittenSink) {
        if written.on().is_some() {
            self.mistake(
                "`on` belongs to `sinks` of tables",
                "leave it out: it says in which operations a column is checked",
            );
        }
    }

    /// A sink, operations aside.
    pub(super) fn plain_sink(&mut self, written: WrittenSink) -> Sink {
        match written {
            WrittenSink::Kind(kind) => Sink {
                kind,
                ..Sink::default()
            },
            WrittenSink::Full(full) => {
                if full.kind != Kind::Identifier
                    && (full.of.is_some() || full.choose != Choose::Listed)
                {
                    let hint = "add `type = \"identifier\"`, or leave them out";
                    self.mistake("`of` and `choose` are for identifiers", hint);
                }
                Sink {
                    kind: full.kind,
                    of: full.of,
                    choose: full.choose,
                    harmless: full.harmless,
                    said_as: full.said_as,
                    only_from_task: matches!(full.from, Some(From::Task)),
                }
            }
        }
    }

    fn trusted(&mut self, written: WrittenTrusted) -> Trusted {
        let parts = match written {
            WrittenTrusted::Nothing | WrittenTrusted::Word(TrustWord::Nothing) => {
                return Trusted::Nothing;
            }
            WrittenTrusted::Word(TrustWord::All) => return Trusted::All,
            WrittenTrusted::Parts(parts) => parts,
        };
        let mut places = Vec::new();
        let mut lines = Vec::new();
        for part in parts {
            match part {
                TrustedPart::Place(path) => {
                    places.extend(self.place(&path).map(|path| (path, None)))
                }
                TrustedPart::Conditional(Conditional { path, when }) => {
                    let when: Vec<When> = when
                        .into_iter()
                        .flatten()
                        .filter_map(|(field, is)| {
                            Some(When {
                                field: self.place(&field)?,
                                is: beside(is),
                            })
                        })
                        .collect();
                    if when.len() > 1 {
                        self.mistake("`when` names more than one field", "name one");
                    }
                    places.extend(
                        self.place(&path)
                            .map(|path| (path, when.into_iter().next())),
                    );
                }
                TrustedPart::Lines(Lines { lines: text }) => {
                    match RegexBuilder::new(&text).size_limit(1 << 18).build() {
                        Ok(expression) if expression.captures_len() > 1 => lines.push(expression),
                        Ok(_) => self.mistake(
                            "`lines` has no group",
                            "put what is trusted in parentheses, as in `(?m)^Name: (.*)$`",
                        ),
                        Err(error) => self.mistake(error, "write a regular expression"),
                    }
                }
            }
        }
        Trusted::Some { places, lines }
    }
}

fn beside(written: WrittenBeside) -> Beside {
    match written {
        WrittenBeside::Word(BesideWord::Named) => Beside::Named,
        WrittenBeside::OneOf(values) => Beside::OneOf(values),
    }
}

pub(super) fn contents(written: Contents) -> BTreeMap<String, Inside> {
    match written {
        Contents::Free(names) => names
            .into_iter()
            .map(|name| (name, Inside::default()))
            .collect(),
        Contents::Checked(names) => names
            .into_iter()
            .map(|(name, checks)| {
                let inside = Inside {
                    urls: checks
                        .iter()
                        .any(|check| matches!(check, WrittenInside::Urls)),
                    addresses: checks
                        .iter()
                        .any(|check| matches!(check, WrittenInside::Addresses)),
                };
                (name, inside)
            })
            .collect(),
    }
}

/// Whether a word is a type that the file format knows; for drafts.
#[cfg(test)]
pub(super) fn is_kind(word: &str) -> bool {
    use serde::de::IntoDeserializer as _;
    let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        word.into_deserializer();
    Kind::deserialize(word).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(text: &str) -> Vec<Mistake> {
        parse(Path::new("annotations/mail.toml"), text)
            .err()
            .unwrap()
    }

    #[test]
    fn a_whole_file() {
        let text = r#"
            [tools.send]
            sinks = { to = "address", "/files/*/id" = { type = "identifier", of = "file", choose = "narrowed" } }
            content = { body = ["urls"], subject = [] }
            notes = "leaves the company"
            [tools.search]
            reads = true
            queries = { query = "name" }
            trusted = ["/*/contact", { path = "/*/body", when = { "/*/sender" = "named" } }, { lines = "(?m)^To: (.*)$" }]
            lists = { "/*/id" = { of = "mail", name = "/*/subject" } }
            [tools.today]
            reads = true
            trusted = "all"
            [tools.rename]
            sinks = ["from", "to"]
        "#;
        let tools = parse(Path::new("mail.toml"), text).unwrap().tools;
        let send = &tools["send"];
        assert_eq!(send.sinks[0].0.to_string(), "/files/*/id");
        assert!(send.content["body"].urls && !send.content["subject"].urls);
        assert!(matches!(tools["today"].trusted, Trusted::All));
        assert_eq!(tools["rename"].sinks.len(), 2);
        let api = "[endpoints.\"POST /mails\"]\nsinks = { \"body.to\" = \"address\" }\n";
        let endpoints = parse(Path::new("api.toml"), api).unwrap().tools;
        assert_eq!(endpoints["POST /mails"].sinks[0].0.to_string(), "body.to");
    }

    #[test]
    fn mistakes_say_where_and_what_to_do() {
        for (text, says) in [
            ("[tools.send]\nsink = []", "unknown field `sink`"),
            (
                "[tools.send]\nsinks = { to = \"adress\" }",
                "a list of arguments",
            ),
            ("[tools.send]\nqueries = [\"q\"]", "only read"),
            (
                "[tools.send]\nsinks = [\"to\"]\ncontent = [\"to\"]",
                "a sink and content",
            ),
            ("[tools.send]\nsinks = [\"\"]", "must not be empty"),
            ("[tools.send]\ntrusted = [{ lines = \"a\" }]", "no group"),
            (
                "[tools.send]\ntrusted = [{ lines = \"(\" }]",
                "unclosed group",
            ),
            (
                "[tools.send]\nsinks = { a = { type = \"url\", of = \"x\" } }",
                "for identifiers",
            ),
        ] {
            let found = mistakes(text);
            assert!(found[0].message.contains(says), "{text}: {found:?}");
            assert!(found[0].span.is_some(), "{text}");
        }
    }
}
