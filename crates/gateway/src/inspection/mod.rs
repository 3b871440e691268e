//! Step 7, shared by all enforcement points: what passes is looked at, and what follows is said.
//!
//! An enforcement point says what it has ([`What`]) and whose it is ([`About`]), hands over the text or
//! the JSON document, and does what the [`Verdict`] says: it passes the message, passes another one in
//! its place, or answers with the denial in its own protocol's form.
//!
//! ```text
//! let about = About { what: What::ModelAnswer, caller, server, target, decision: Some(permit.decision()) };
//! match pipeline.inspection().json(&about, &body) {
//!     Verdict::Pass => body,
//!     Verdict::Redacted(other) => other.into(),
//!     Verdict::Blocked(denial) => return refuse(denial),
//! }
//! ```
//!
//! What the detectors saw goes to the [`Sink`], which nobody waits for and which exists from the start:
//! `pipeline.inspection().sink().take()` gives its other end, once.
//!
//! A detector is evidence, not a barrier: whatever it misses is still held by grant, policy and budget.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use model::config::{self, Config};
use model::inspection::Response;
use model::{DecisionId, Denial, Rule, ServerName, TemplateName};
use monitor::content::{Canaries, Place, Policy, Scan, Scanner};
use monitor::{Finding, Subject, text::escaped};

use crate::caller::Caller;

mod arguments;
mod body;
mod document;
mod encoded;
mod fields;
mod follow;
mod parts;
mod sink;
mod text;
mod tools;

pub use body::{Media, Passing, Terms};
pub use encoded::is_binary;
pub use follow::{Following, Spot};
pub use sink::{Observed, Sink, WAITING};
use text::Texts;
pub use text::{Role, Sort};
pub(crate) use tools::Standings;
pub use tools::{Listed, PinBook};

/// Longest message that is looked at where it is, in bytes. A longer one would keep other work of the
/// same thread waiting.
const AT_ONCE: usize = 64 << 10;
/// Longest target in a finding, in characters.
const TARGET_CHARACTERS: usize = 256;

/// What is looked at.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The definition of a tool, or another description that a server gives of itself.
    ToolDefinition,
    /// What an agent asks for: the arguments of a call, a request, a statement, a message.
    Arguments,
    /// The result of a tool.
    ToolResult,
    /// A prompt of a server, or what a server asks an agent's model or user.
    Prompt,
    /// A resource.
    Resource,
    /// What an agent asks a model.
    ModelRequest,
    /// What a model answers.
    ModelAnswer,
    /// The body of an answer of an HTTP API.
    HttpAnswer,
    /// What another agent answers.
    AgentAnswer,
    /// Rows of a database.
    Rows,
    /// A program that the gateway starts.
    Program,
}

impl What {
    /// The word in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToolDefinition => "tool-definition",
            Self::Arguments => "arguments",
            Self::ToolResult => "tool-result",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::ModelRequest => "model-request",
            Self::ModelAnswer => "model-answer",
            Self::HttpAnswer => "http-answer",
            Self::AgentAnswer => "agent-answer",
            Self::Rows => "rows",
            Self::Program => "program",
        }
    }

    /// As it is called to an agent.
    fn called(self) -> &'static str {
        match self {
            Self::ToolDefinition => "the definition",
            Self::Arguments => "the request",
            Self::ToolResult => "the tool's result",
            Self::Prompt => "the prompt",
            Self::Resource => "the resource",
            Self::ModelRequest => "the request to the model",
            Self::ModelAnswer => "the model's answer",
            Self::HttpAnswer | Self::AgentAnswer => "the answer",
            Self::Rows => "the result",
            Self::Program => "the program",
        }
    }

    /// The place that rules call it by.
    fn place(self) -> Place {
        match self {
            Self::ToolDefinition => Place::Tool,
            Self::Arguments => Place::Arguments,
            Self::Prompt => Place::Prompt,
            Self::Resource => Place::Resource,
            Self::ModelRequest | Self::ModelAnswer => Place::Model,
            Self::ToolResult
            | Self::HttpAnswer
            | Self::AgentAnswer
            | Self::Rows
            | Self::Program => Place::Result,
        }
    }

    /// Whether an agent says it.
    fn is_said_by_an_agent(self) -> bool {
        matches!(self, Self::Arguments | Self::ModelRequest)
    }
}

/// Whose it is.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// What it is.
    pub what: What,
    /// Whose action it belongs to.
    pub caller: &'a Caller,
    /// The server that it comes from or goes to.
    pub server: &'a ServerName,
    /// The tool, resource, prompt, endpoint, model, skill or tables.
    pub target: &'a str,
    /// The decision on the action, which names its records.
    pub decision: Option<DecisionId>,
}

impl About<'_> {
    fn subject(&self) -> Subject {
        Subject {
            agent: Some(self.caller.agent.clone()),
            task: Some(self.caller.task.task().id),
            server: Some(self.server.clone()),
            target: (!self.target.is_empty()).then(|| escaped(self.target, TARGET_CHARACTERS)),
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<T> {
    /// It passes as it is.
    Pass,
    /// This passes in its place.
    Redacted(T),
    /// It does not pass; this says why, and fits every protocol's form.
    Blocked(Denial),
}

/// What is looked for, and what is done about it, as people wrote it.
pub struct Rules {
    scanner: Arc<Scanner>,
    everywhere: Policy,
    servers: BTreeMap<ServerName, Policy>,
    /// Whether there are servers where nothing is looked for.
    idle: bool,
    templates: BTreeMap<TemplateName, model::inspection::Inspection>,
}

impl Rules {
    /// Puts rules and policies together. Templates that state nothing need not be given.
    #[must_use]
    pub fn new(
        scanner: Arc<Scanner>,
        config: &Config,
        templates: BTreeMap<TemplateName, model::inspection::Inspection>,
    ) -> Self {
        let policy =
            |server: &config::Server| Policy::of(&server.inspection.within(&config.inspection));
        let servers: BTreeMap<_, _> = config
            .servers
            .iter()
            .map(|(name, server)| (name.clone(), policy(server)))
            .collect();
        Self {
            scanner,
            everywhere: Policy::of(&config.inspection),
            idle: servers.values().any(Policy::is_idle),
            servers,
            templates,
        }
    }

    /// What reads texts.
    #[must_use]
    pub fn scanner(&self) -> &Arc<Scanner> {
        &self.scanner
    }

    /// Whether nothing is looked for in this.
    fn is_idle(&self, about: &About<'_>) -> bool {
        self.idle && self.policy(about).is_idle()
    }

    fn at_server(&self, server: &ServerName) -> &Policy {
        self.servers.get(server).unwrap_or(&self.everywhere)
    }

    fn policy(&self, about: &About<'_>) -> Cow<'_, Policy> {
        let at_server = self.at_server(about.server);
        let policy = match self.templates.get(&about.caller.task.task().template) {
            Some(template) => Cow::Owned(at_server.strengthened(template)),
            None => Cow::Borrowed(at_server),
        };
        if about.what.is_said_by_an_agent() {
            Cow::Owned(policy.for_what_agents_say())
        } else {
            policy
        }
    }
}

impl Default for Rules {
    /// The rules that come with the program, and the default policy everywhere.
    fn default() -> Self {
        Self {
            scanner: Scanner::shared(),
            everywhere: Policy::default(),
            servers: BTreeMap::new(),
            idle: false,
            templates: BTreeMap::new(),
        }
    }
}

/// The inspection of one process.
pub struct Inspection {
    rules: ArcSwap<Rules>,
    canaries: ArcSwap<Canaries>,
    sink: Sink,
    book: ArcSwapOption<Arc<dyn PinBook>>,
    fingerprints: tools::Fingerprints,
}

impl Default for Inspection {
    fn default() -> Self {
        Self {
            rules: ArcSwap::from_pointee(Rules::default()),
            canaries: ArcSwap::default(),
            sink: Sink::default(),
            book: ArcSwapOption::const_empty(),
            fingerprints: tools::Fingerprints::default(),
        }
    }
}

impl Inspection {
    /// Takes other rules and policies into use, for the very next message.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// The rules and policies in use.
    #[must_use]
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Watches for these canary tokens from now on.
    pub fn set_canaries(&self, canaries: Canaries) {
        self.canaries.store(Arc::new(canaries));
    }

    /// Who keeps what was approved of tools. Without one nothing is ever approved by itself.
    pub fn set_book(&self, book: Arc<dyn PinBook>) {
        self.book.store(Some(Arc::new(book)));
    }

    /// Where findings go.
    #[must_use]
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Looks at a text.
    #[must_use]
    pub fn text(&self, about: &About<'_>, text: &str) -> Verdict<String> {
        let scan = self.scan(about, text);
        self.judge(about, scan, |scan| scan.redact(text).into_owned())
    }

    /// Looks at the texts of a JSON document: all of them together, names of members included. The
    /// document must have been read as JSON before.
    #[must_use]
    pub fn json(&self, about: &About<'_>, document: &[u8]) -> Verdict<Vec<u8>> {
        match self.documents(about, &[document]) {
            Verdict::Pass => Verdict::Pass,
            Verdict::Redacted(mut other) => match other.pop().flatten() {
                Some(other) => Verdict::Redacted(other),
                None => Verdict::Pass,
            },
            Verdict::Blocked(denial) => Verdict::Blocked(denial),
        }
    }

    /// The same for several documents that belong together, such as the members of a message. Redacted
    /// are those of them that something is taken out of.
    #[must_use]
    pub fn documents(
        &self,
        about: &About<'_>,
        documents: &[&[u8]],
    ) -> Verdict<Vec<Option<Vec<u8>>>> {
        if self.rules.load().is_idle(about) {
            return Verdict::Pass;
        }
        let texts = Texts::of(documents);
        let scan = self.scan(about, &texts.joined);
        self.judge(about, scan, |scan| {
            let numbered = documents.iter().enumerate();
            numbered
                .map(|(number, document)| texts.replaced(number, document, &scan.redactions))
                .collect()
        })
    }

    /// Begins to look at a text that comes in pieces.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> Following {
        Following::new(Arc::clone(self))
    }

    /// Reports a finding that somebody else made.
    pub fn report(&self, about: &About<'_>, mut finding: Finding, response: Response) {
        finding.subject = about.subject();
        self.put(about.what, about.decision, finding, response);
    }

    fn put(&self, what: What, decision: Option<DecisionId>, finding: Finding, response: Response) {
        self.sink.put(Observed {
            at: Timestamp::now(),
            what,
            decision,
            response,
            finding,
        });
    }

    fn scan(&self, about: &About<'_>, text: &str) -> Scan {
        self.scan_by(about.what, text, |rules| rules.policy(about))
    }

    fn scan_by(
        &self,
        what: What,
        text: &str,
        policy: impl FnOnce(&Rules) -> Cow<'_, Policy>,
    ) -> Scan {
        let look = || {
            let rules = self.rules.load();
            let policy = policy(&rules);
            let canaries = self.canaries.load();
            parts::scanned(text, |part| {
                rules.scanner.scan(part, what.place(), &canaries, &policy)
            })
        };
        let may_block = || {
            let runtime = tokio::runtime::Handle::try_current();
            runtime.is_ok_and(|runtime| {
                runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread
            })
        };
        if text.len() > AT_ONCE && may_block() {
            tokio::task::block_in_place(look)
        } else {
            look()
        }
    }

    fn judge<T>(
        &self,
        about: &About<'_>,
        scan: Scan,
        redacted: impl FnOnce(&Scan) -> T,
    ) -> Verdict<T> {
        self.judged(about, scan, |_| true, redacted)
    }

    /// The same, reporting only what is new.
    fn judged<T>(
        &self,
        about: &About<'_>,
        scan: Scan,
        mut is_new: impl FnMut(&Finding) -> bool,
        redacted: impl FnOnce(&Scan) -> T,
    ) -> Verdict<T> {
        let verdict = verdict(about.what, about.server, &scan, redacted);
        for finding in scan.findings {
            if is_new(&finding) {
                self.report(about, finding, scan.response);
            }
        }
        verdict
    }
}

/// What follows from a look.
fn verdict<T>(
    what: What,
    server: &ServerName,
    scan: &Scan,
    redacted: impl FnOnce(&Scan) -> T,
) -> Verdict<T> {
    match scan.response {
        Response::Block => Verdict::Blocked(blocked(what, server, scan)),
        _ if !scan.redactions.is_empty() => Verdict::Redacted(redacted(scan)),
        _ => Verdict::Pass,
    }
}

/// What an agent is told. It names the rule and quotes nothing.
fn blocked(what: What, server: &ServerName, scan: &Scan) -> Denial {
    let rule = scan.blocked_by.as_deref().unwrap_or("inspection");
    Denial {
        rule: Rule::ContentBlocked,
        reason: format!("{} does not pass: rule `{rule}`", what.called()),
        remedy: format!(
            "leave it out; an operator sees what was found (rule `{rule}`, server `{server}`), and `[inspection]` \
             says what is blocked"
        ),
    }
}
