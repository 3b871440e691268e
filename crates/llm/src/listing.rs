//! The list of models, cut to what the task may use.

use std::time::Instant;

use gateway::inspection::{About, What};
use gateway::intake::collect;
use gateway::{Body, full};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Incoming;
use model::config::Surface;
use model::record::Ended;
use model::{Action, Operation};
use policy::Listed;
use serde_json::{Value, json};

use crate::provider::Address;
use crate::refusal::Refusal;
use crate::send::{Cut, Outgoing, Said, ask};
use crate::visit::Visit;

/// Most models that are listed.
const MOST: usize = 2_000;

impl Visit {
    /// Answers with the models of all addresses that the task may use, each once, by the names that
    /// agents use.
    pub(crate) async fn list(self) -> Response<Body> {
        match self.listed().await {
            Ok(response) => response,
            Err(refusal) => refusal.response(self.surface()),
        }
    }

    async fn listed(&self) -> Result<Response<Body>, Refusal> {
        let action = Action::new(
            self.route.server.clone(),
            self.api.name(),
            Operation::Converse,
        );
        let attempted = self.shared.pipeline.attempt(&self.caller, action).await;
        let mut permit = attempted.map_err(|denied| Refusal::denied(&denied))?;
        let leave = permit
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        let signal = permit.signal();
        let mut models: Vec<Value> = Vec::new();
        let mut answered = false;
        let now = Instant::now();
        for address in self
            .provider
            .addresses
            .iter()
            .filter(|at| at.may_be_asked(&self.caller.agent, now))
        {
            let said = ask(address, self.question(), &self.caller.agent, &signal).await;
            let response = match said {
                Err(Cut) => return Err(Refusal::denied(&permit.cut_off())),
                Ok(Said::Answer(response)) if response.status().is_success() => response,
                Ok(_) => continue,
            };
            let read = tokio::select! {
                biased;
                () = signal.cut() => return Err(Refusal::denied(&permit.cut_off())),
                read = self.read(response) => read,
            };
            if let Some(entries) = read {
                answered = true;
                self.add(address, entries, &mut models);
            }
        }
        drop(leave);
        let mut digest = permit.digest();
        if !answered {
            let decision = permit.decision();
            permit.finish(Ended::UpstreamFailed, digest);
            return Err(Refusal::upstream(
                decision,
                "no address of the provider lists its models",
            ));
        }
        let mut text = document(self.surface(), models).to_string().into_bytes();
        let about = About {
            what: What::ModelAnswer,
            caller: &self.caller,
            server: &self.route.server,
            target: "models",
            decision: Some(permit.decision()),
        };
        let inspection = self.shared.pipeline.inspection();
        match inspection.json(&about, &text).taken() {
            Ok(None) => {}
            Ok(Some(other)) => {
                permit.note("redacted_in_answer", 1);
                text = other;
            }
            Err(denial) => {
                let decision = permit.decision();
                permit.note("blocked", about.what.as_str());
                permit.finish(Ended::UpstreamError, digest);
                return Err(Refusal::blocked(Some(decision), denial));
            }
        }
        digest.update(&text);
        permit.finish(Ended::Answered, digest);
        let mut response = Response::new(full(text));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }

    fn question(&self) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let mut path = self.api.path_behind(self.surface()).to_owned();
        if self.surface() == Surface::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
            path.push_str("?limit=1000");
        }
        Outgoing {
            method: Method::GET,
            path,
            headers,
            body: bytes::Bytes::new(),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Option<Vec<Value>> {
        let limit = self.limits.response_bytes;
        let body = collect(response.into_body(), limit, &self.shared.room);
        let time = std::time::Duration::from_secs(self.limits.upstream_seconds);
        let text = tokio::time::timeout(time, body).await.ok()?.ok()?;
        let mut document: Value = serde_json::from_slice(&text).ok()?;
        match document.get_mut("data")?.take() {
            Value::Array(entries) => Some(entries),
            _ => None,
        }
    }

    /// Adds what an address has: its models by their own names where it is asked for them, and by the
    /// names that the configuration gives them.
    fn add(&self, address: &Address, entries: Vec<Value>, models: &mut Vec<Value>) {
        let id = |entry: &Value| entry.get("id").and_then(Value::as_str).map(str::to_owned);
        for (name, model) in address.aliases() {
            let known = entries
                .iter()
                .find(|entry| id(entry).as_deref() == Some(model));
            let mut entry = known.cloned().unwrap_or_else(|| unknown(self.surface()));
            entry["id"] = name.into();
            self.add_one(name, entry, models);
        }
        for entry in entries {
            if let Some(name) = id(&entry)
                && entry.is_object()
                && address.has(&name)
            {
                self.add_one(&name, entry, models);
            }
        }
    }

    fn add_one(&self, name: &str, entry: Value, models: &mut Vec<Value>) {
        let listed = models.iter().any(|entry| entry["id"] == name);
        if !listed && models.len() < MOST && self.may_list(name) {
            models.push(entry);
        }
    }

    fn may_list(&self, model: &str) -> bool {
        let item = Listed::Model(model);
        self.shared
            .pipeline
            .may_list(&self.caller, &self.route.server, item)
    }
}

/// A model that the provider does not list.
fn unknown(surface: Surface) -> Value {
    match surface {
        Surface::OpenAi => json!({ "id": "", "object": "model", "created": 0, "owned_by": "" }),
        Surface::Anthropic => json!({
            "id": "", "type": "model", "display_name": "", "created_at": "1970-01-01T00:00:00Z",
        }),
    }
}

fn document(surface: Surface, models: Vec<Value>) -> Value {
    match surface {
        Surface::OpenAi => json!({ "object": "list", "data": models }),
        Surface::Anthropic => {
            let id = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
            json!({
                "first_id": id(models.first()),
                "last_id": id(models.last()),
                "has_more": false,
                "data": models,
            })
        }
    }
}
