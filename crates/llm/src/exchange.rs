//! One exchange with a provider: the request on its way, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use gateway::Body;
use gateway::live::CutSignal;
use gateway::pipeline::{Denied, Digest, Permit};
use http::{HeaderMap, Response};
use model::DecisionId;
use model::record::Ended;
use serde_json::{Map, Value, json};

use crate::Shared;
use crate::meter::{Bound, Meter};
use crate::refusal::Refusal;
use crate::request::Asked;
use crate::surface::Api;
use crate::traffic::{Calls, Runs};
use crate::visit::Visit;

/// Most tools, results and calls of one exchange that a record lists; the rest is counted.
const LISTED: usize = 32;
/// Longest name in a record, in characters.
const NAME_CHARACTERS: usize = 64;

/// One exchange with a provider.
pub(crate) struct Exchange {
    pub(crate) visit: Visit,
    pub(crate) asked: Asked,
    pub(crate) headers: HeaderMap,
    pub(crate) account: Account,
}

impl Exchange {
    /// An exchange for a permitted request.
    pub(crate) fn new(
        visit: Visit,
        permit: Permit,
        asked: Asked,
        bound: Bound,
        headers: HeaderMap,
    ) -> Self {
        let price = visit.provider.price(&asked.model).copied();
        let mut account = Account {
            shared: Arc::clone(&visit.shared),
            meter: Meter::new(price, bound),
            digest: Some(permit.digest()),
            calls: Calls::default(),
            redacted: 0,
            api: visit.api,
            stage: Stage::Waiting,
            permit: Some(permit),
        };
        account.note_request(&asked);
        Self {
            visit,
            asked,
            headers,
            account,
        }
    }

    /// Steps 6 to 8.
    pub(crate) async fn carry_out(self) -> Response<Body> {
        let surface = self.visit.surface();
        match self.send().await {
            Ok((exchange, response)) => exchange.answer(response).await,
            Err(refusal) => refusal.response(surface),
        }
    }

    /// Whether the task limits what models may use, so that no answer may be of any length.
    pub(crate) fn is_limited(&self) -> bool {
        let budget = self.visit.caller.task.grant().budget();
        budget.tokens.is_some() || budget.micro_usd.is_some()
    }

    /// How long the task goes on.
    pub(crate) fn expires_in(&self) -> Duration {
        gateway::wait(self.visit.caller.task.task().expires_at)
    }

    /// Tells when it must stop.
    pub(crate) fn signal(&self) -> CutSignal {
        self.visit.caller.signal()
    }
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No provider has the request.
    Waiting,
    /// A provider has it, and nothing of the answer was seen.
    Sent,
    /// The answer passes.
    Answering,
}

/// What an exchange uses, and what was seen in it: told to the task's budget and to the record,
/// whichever way it ends.
pub(crate) struct Account {
    shared: Arc<Shared>,
    permit: Option<Permit>,
    pub(crate) meter: Meter,
    /// Of what the agent gets, as long as it has not ended.
    digest: Option<Digest>,
    pub(crate) calls: Calls,
    /// How often something was taken out of the answer.
    pub(crate) redacted: u64,
    api: Api,
    pub(crate) stage: Stage,
}

impl Account {
    /// The leave for it, as long as it has not ended.
    pub(crate) fn permit(&mut self) -> &mut Permit {
        self.permit.as_mut().expect("taken by what ends it only")
    }

    /// The decision that permits it, as long as it has not ended.
    pub(crate) fn decision(&self) -> Option<DecisionId> {
        self.permit.as_ref().map(Permit::decision)
    }

    /// Takes in what the agent gets.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
    }

    /// Tells the budget what a stream has used so far.
    ///
    /// # Errors
    /// [`Denied`] when the budget is used up.
    pub(crate) fn spend_so_far(&mut self) -> Result<(), Denied> {
        let amount = self.meter.so_far();
        if amount.is_nothing() {
            return Ok(());
        }
        self.permit().spend(amount)
    }

    /// Takes in a part of the answer: a whole one, or the data of an event. What the model wrote in an
    /// event is counted by whoever reads it.
    pub(crate) fn see(&mut self, part: &Value, whole: bool) {
        if whole {
            self.meter.wrote(crate::traffic::written(self.api, part));
            self.calls.answer(self.api, part);
        } else {
            self.calls.event(self.api, part);
        }
        let inside = part.get("response").or_else(|| part.get("message"));
        for usage in [
            part.get("usage"),
            inside.and_then(|inside| inside.get("usage")),
        ] {
            let kind = part.get("type").and_then(Value::as_str);
            let begins = matches!(
                kind,
                Some("message_start" | "response.created" | "response.in_progress")
            );
            if let Some(usage) = usage {
                self.meter.reports(usage, whole || !begins);
            }
        }
    }

    /// Ends it: what it used is counted, and what became of it is recorded.
    pub(crate) fn finish(mut self, ended: Ended) {
        self.settle();
        if let Some((permit, digest)) = self.permit.take().zip(self.digest.take()) {
            permit.finish(ended, digest);
        }
    }

    /// Ends one that the provider refused: it used nothing.
    pub(crate) fn finish_unused(mut self, ended: Ended) {
        self.stage = Stage::Waiting;
        self.finish(ended);
    }

    fn settle(&mut self) {
        if self.redacted > 0 {
            let redacted = self.redacted;
            self.permit().note("redacted_in_answer", redacted);
        }
        let amount = match self.stage {
            Stage::Waiting => return,
            Stage::Sent => self.meter.all(),
            Stage::Answering => self.meter.rest(),
        };
        let calls = self.tool_calls();
        let usage = self.meter.reported();
        let permit = self.permit();
        // That the budget is used up is for the next action to say: this one has ended.
        let _ = permit.spend(amount);
        if let Some(calls) = calls {
            permit.note("tool_calls", calls);
        }
        if let Some(tokens) = usage {
            let usage = json!({
                "input": tokens.input, "cache_read": tokens.cache_read,
                "cache_write": tokens.cache_write, "output": tokens.output,
            });
            permit.note("reported_tokens", usage);
        }
    }

    /// Names, sizes and hashes of what the request carries; never content. What was sent is kept, where
    /// content is.
    fn note_request(&mut self, asked: &Asked) {
        let traffic = &asked.traffic;
        let hash = self.permit().hash(asked.body());
        let mut request = sized(asked.body(), hash.clone());
        request.insert("pictures".to_owned(), traffic.pictures.into());
        let tools: Vec<Value> = traffic
            .tools
            .iter()
            .take(LISTED)
            .map(|tool| {
                let mut noted = Map::new();
                noted.insert("name".to_owned(), self.name(&tool.name).into());
                noted.insert("sha256".to_owned(), gateway::hex(&tool.hash).into());
                if tool.runs == Runs::AtTheProvider {
                    noted.insert("runs".to_owned(), "at the provider".into());
                }
                noted.into()
            })
            .collect();
        // The last ones are new; conversations repeat the others.
        let newest = traffic.results.iter().rev().take(LISTED);
        let results: Vec<Value> = newest
            .map(|result| {
                let mut noted = self.part(result.content.as_bytes());
                noted.insert("call".to_owned(), self.name(&result.call).into());
                if let Some(tool) = &result.tool {
                    noted.insert("tool".to_owned(), self.name(tool).into());
                }
                noted.into()
            })
            .collect();
        let more = traffic.more
            + traffic.tools.len().saturating_sub(LISTED)
            + traffic.results.len().saturating_sub(LISTED);
        let permit = self.permit();
        permit.keep("request", asked.body(), hash);
        permit.note("request", request);
        if !tools.is_empty() {
            permit.note("tools", tools);
        }
        if !results.is_empty() {
            permit.note("tool_results", results);
        }
        if more > 0 {
            permit.note("not_listed", more);
        }
    }

    fn tool_calls(&self) -> Option<Value> {
        let calls = self.calls.iter().take(LISTED).map(|call| {
            let mut noted = self.part(call.arguments.as_bytes());
            noted.insert("name".to_owned(), self.name(&call.name).into());
            noted
        });
        let calls: Vec<Value> = calls.map(Value::Object).collect();
        (!calls.is_empty()).then(|| calls.into())
    }

    /// A name that an agent or a model chose, without secrets.
    fn name(&self, name: &str) -> String {
        let shown = self.shared.pipeline.shown(name);
        shown.chars().take(NAME_CHARACTERS).collect()
    }

    /// The length of a part, and its salted hash.
    fn part(&self, bytes: &[u8]) -> Map<String, Value> {
        let hash = self.permit.as_ref().and_then(|permit| permit.hash(bytes));
        sized(bytes, hash)
    }

    /// The decision to cut it off.
    pub(crate) fn cut_off(&mut self) -> Refusal {
        Refusal::denied(&self.permit().cut_off())
    }
}

/// An exchange that the agent left, or that a panic ended, is counted all the same; the permit records
/// that it was cancelled or cut.
impl Drop for Account {
    fn drop(&mut self) {
        if self.permit.is_some() {
            self.settle();
        }
        if let Some((permit, digest)) = self.permit.take().zip(self.digest.take()) {
            permit.abandon(digest);
        }
    }
}

fn sized(bytes: &[u8], hash: Option<String>) -> Map<String, Value> {
    let mut noted = Map::new();
    noted.insert("bytes".to_owned(), bytes.len().into());
    if let Some(hash) = hash {
        noted.insert("hash".to_owned(), hash.into());
    }
    noted
}
