//! What results say that the gateway must know, and what is taken out of them.

use jiff::Timestamp;
use model::Operation;
use model::grant::ServerRequest;
use policy::Listed;
use serde_json::Value;
use serde_json::value::RawValue;

use super::annotations;
use super::contents::Whose;
use super::exchange::Exchange;
use super::handles::Kind;
use super::listing::Listing;
use super::raw::{self, Members};
use super::recheck::Page;
use super::refusal::Refusal;
use super::revision::{Method, Revision};
use crate::inspection::{About, Standings, What};
use crate::pipeline::{Denied, Permit};

/// Most requests for input in one result.
const INPUTS_LIMIT: usize = 64;

/// What becomes of a result.
#[derive(Debug)]
pub(super) enum Looked {
    /// It passes as it is.
    Keep,
    /// This takes its place.
    Changed(Vec<u8>),
    /// This error takes its place.
    Refused(Refusal),
}

impl Exchange {
    /// Looks at the result of a method.
    pub(super) async fn result(&mut self, method: Method, whose: &Whose, raw: &RawValue) -> Looked {
        let looked = self.of_method(method, whose, raw).await;
        self.contents(method, whose, raw, looked)
    }

    async fn of_method(&mut self, method: Method, whose: &Whose, raw: &RawValue) -> Looked {
        if let Some(listing) = Listing::of(method) {
            let standings = match method {
                Method::ListTools => self.standings(whose, raw).await,
                _ => Standings::Unpinned,
            };
            return self.listed(method, listing, raw, &standings);
        }
        let Some(result) = Members::of(raw) else {
            return unusable("the server's answer is not what the method answers with");
        };
        match method {
            Method::Initialize => self.initialized(&result),
            Method::CallTool
            | Method::GetPrompt
            | Method::ReadResource
            | Method::GetTask
            | Method::TaskResult
            | Method::UpdateTask => {
                self.note_handles(method, &result);
                let looked = self.inputs(&result).await;
                self.keep_private(method, &result, looked)
            }
            _ if result.get("inputRequests").is_some() => {
                unusable("the server asks for input where the protocol has no room for it")
            }
            _ => Looked::Keep,
        }
    }

    /// How the tools of a listing stand to what was approved.
    async fn standings(&self, whose: &Whose, raw: &RawValue) -> Standings {
        let Some(result) = Members::of(raw) else {
            return Standings::Unpinned;
        };
        let about = About {
            what: What::ToolDefinition,
            caller: &self.caller,
            server: &self.server,
            target: "",
            decision: whose.decision,
        };
        let pipeline = &self.shared.pipeline;
        let inspection = pipeline.inspection();
        let standings = inspection.standings(pipeline.live(), &about, &result).await;
        let next = result.text("nextCursor");
        match (&self.learns, next, whose.listing_since) {
            (Some(learns), next, _) => {
                *learns.lock() = Some(next.map_or(Page::Last, |next| Page::More(next.into())));
            }
            (None, None, Some(since)) => self.tools_listed(since),
            (None, _, _) => {}
        }
        standings
    }

    /// A listing: only what the task may ever use, and of tools only those whose definition was approved.
    fn listed(
        &self,
        method: Method,
        listing: Listing,
        raw: &RawValue,
        standings: &Standings,
    ) -> Looked {
        let shared = &self.shared;
        let live = shared.pipeline.live();
        let (world, caller) = (live.world(), self.caller.facts());
        let (task, now) = (&self.caller.task, Timestamp::now());
        let principal = self.caller.principal();
        let may = |item: Listed<'_>| {
            let grant = task.grant();
            policy::may_list(&world, &caller, task.task(), grant, &self.server, item, now)
        };
        let keep = |position: usize, name: &str, item: &Members<'_>| match method {
            Method::ListTools => {
                may(Listed::Tool(name)) && standings.may_show(position) && self.is_sound(name, item)
            }
            Method::ListPrompts => may(Listed::Prompt(name)),
            Method::ListResources => may(Listed::Resource(name)),
            Method::ListTemplates => may(Listed::ResourceTemplate(name)),
            Method::ListTasks => shared
                .handles
                .has(principal, &self.server, Kind::Task, name),
            _ => false,
        };
        match listing.cut(raw, self.is_modern(), keep) {
            Ok(None) => Looked::Keep,
            Ok(Some(new)) => Looked::Changed(new),
            Err(problem) => unusable(problem.to_string()),
        }
    }

    /// Whether a tool's definition may be shown, as far as its `x-mcp-header` annotations go; what
    /// they say is kept for checking calls. The revisions before have no such thing.
    fn is_sound(&self, name: &str, tool: &Members<'_>) -> bool {
        if !self.is_modern() {
            return true;
        }
        let known = self.shared.annotations(&self.server);
        // An escape could hide the annotation from a search for its name.
        let schema = tool
            .get("inputSchema")
            .map(RawValue::get)
            .filter(|schema| schema.contains(annotations::ANNOTATION) || schema.contains("\\u"));
        let read = match schema.map(serde_json::from_str::<Value>) {
            None => Ok(Vec::new()),
            Some(Ok(schema)) => annotations::read(&schema),
            Some(Err(_)) => Err("a schema that cannot be read"),
        };
        match read {
            Ok(annotated) => {
                known.learn(name, annotated);
                true
            }
            Err(reason) => {
                if self.may_warn() {
                    let tool: String = name.chars().take(128).collect();
                    tracing::warn!(server = %self.server, tool, reason, "a tool is not listed");
                }
                false
            }
        }
    }

    /// The handshake settles the revision that everything after it is read by.
    fn initialized(&mut self, result: &Members<'_>) -> Looked {
        let settled = result
            .text("protocolVersion")
            .and_then(|version| Revision::parse(&version))
            .filter(|revision| !revision.is_modern());
        match (settled, &self.session) {
            (Some(revision), Some(session)) => {
                session.settle(revision);
                Looked::Keep
            }
            (Some(_), None) => Looked::Keep,
            (None, session) => {
                if let Some(session) = session {
                    self.shared.sessions.end(session);
                }
                unusable("the server wants a revision of the protocol that is not known here")
            }
        }
    }

    /// Handles are of use only to whom they are given.
    fn note_handles(&self, method: Method, result: &Members<'_>) {
        let give = |kind, handle: &str| {
            self.shared
                .handles
                .give(self.caller.principal(), &self.server, kind, handle);
        };
        if let Some(state) = result.text("requestState") {
            give(Kind::State, &state);
        }
        if method != Method::CallTool {
            return;
        }
        // 2025-11-25 puts the task into a member of its own; the extension of 2026-07-28 does not.
        let nested = result.get("task").and_then(Members::of);
        let task = nested.as_ref().unwrap_or(result).text("taskId");
        if let Some(task) = task {
            give(Kind::Task, &task);
        }
    }

    /// Requests for input (`basic/patterns/mrtr`): those that are refused are taken out; when none
    /// is left, nothing that the agent could do would help, so the whole becomes an error.
    pub(super) async fn inputs(&mut self, result: &Members<'_>) -> Looked {
        let Some(requests) = result
            .get("inputRequests")
            .filter(|raw| raw.get() != "null")
        else {
            return Looked::Keep;
        };
        let Some(requests) = Members::of(requests) else {
            return unusable("the server's requests for input cannot be read");
        };
        let all = requests.iter().count();
        if all > INPUTS_LIMIT {
            return unusable("the server asks for more input than one answer may");
        }
        let mut kept: Vec<(&str, &[u8])> = Vec::new();
        let mut denied = None;
        for (key, request) in requests.iter() {
            let method = Members::of(request).and_then(|request| request.text("method"));
            let kind = method.as_deref().and_then(ServerRequest::of_method);
            let (Some(kind), Some(method)) = (kind, method) else {
                self.withhold("a request for input of an unknown kind");
                continue;
            };
            match self
                .attempt(&method, Operation::Answer { request: kind })
                .await
            {
                Ok(permit) => {
                    if self.pass_on(permit, request.get().as_bytes()) {
                        kept.push((key, request.get().as_bytes()));
                    }
                }
                Err(refused) => denied = Some(refused),
            }
        }
        if kept.len() == all {
            Looked::Keep
        } else if kept.is_empty() {
            nothing_left(denied)
        } else {
            let kept = raw::object(kept.into_iter());
            Looked::Changed(result.with(&[("inputRequests", &kept)]))
        }
    }

    /// Uses the leave for a request of the server that is delivered with an answer. False when the
    /// leave is over.
    pub(super) fn pass_on(&mut self, mut permit: Permit, delivered: &[u8]) -> bool {
        let Ok(leave) = permit.dispatch() else {
            return false;
        };
        let mut digest = permit.digest();
        digest.update(delivered);
        permit.finish(model::record::Ended::Answered, digest);
        drop(leave);
        true
    }

    /// What was read under one grant must not be served to others from a shared cache
    /// (`server/utilities/caching`).
    fn keep_private(&self, method: Method, result: &Members<'_>, looked: Looked) -> Looked {
        let public = method == Method::ReadResource
            && self.is_modern()
            && result.text("cacheScope").as_deref() == Some("public");
        match looked {
            Looked::Keep if public => {
                Looked::Changed(result.with(&[("cacheScope", b"\"private\"")]))
            }
            other => other,
        }
    }
}

fn nothing_left(denied: Option<Denied>) -> Looked {
    match denied {
        Some(denied) => {
            let mut refusal = Refusal::denied(&denied, None);
            refusal.message = format!("the server asks for input: {}", refusal.message);
            Looked::Refused(refusal)
        }
        None => unusable("the server asks for input of a kind that the protocol does not have"),
    }
}

fn unusable(message: impl Into<String>) -> Looked {
    Looked::Refused(Refusal::upstream(None, message))
}
