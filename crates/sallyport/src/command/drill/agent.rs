//! The agent of a drill: enrolled like any other, and obedient to whoever attacks.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use model::config::ServerKind;
use model::{Rule, ServerName, TaskId};
use serde_json::{Map, Value, json};

use super::errand::Call;
use crate::connect::authority::Token;
use crate::failure::Failure;
use crate::rehearsal::stolen::{Sides, failed, take_proof};

/// The revision of MCP that it speaks: every request stands for itself.
const REVISION: &str = "2026-07-28";
const WHAT: &str = "the twin of the gateway";
/// The rule of a request whose sender is not known.
const UNAUTHENTICATED: &str = "unauthenticated";

/// How a request was answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// With a result.
    Passed(Value),
    /// Not: the rule, and the reason in words.
    Refused(String, String),
}

/// An enrolled instance with a task.
pub(super) struct Agent {
    sides: Sides,
    gateway: String,
    task: TaskId,
    tokens: BTreeMap<ServerName, Token>,
}

/// What a thief has of the agent's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stolen {
    /// The token, and a key of the thief's own.
    OtherKey,
    /// The token alone.
    TokenAlone,
}

impl Agent {
    /// Opens the folder of the enrolled instance.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub(super) fn new(instance: &Path, gateway: &str, task: TaskId) -> Result<Self, Failure> {
        Ok(Self {
            sides: Sides::new(instance)?,
            gateway: gateway.to_owned(),
            task,
            tokens: BTreeMap::new(),
        })
    }

    /// Goes on with another task.
    pub(super) fn turn_to(&mut self, task: TaskId) {
        self.task = task;
        self.tokens.clear();
    }

    /// Makes a call.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn make(
        &mut self,
        call: &Call,
        arguments: &Map<String, Value>,
    ) -> Result<Answer, Failure> {
        let request = self.request(call, arguments)?;
        self.ask(call.kind, &call.server, request).await
    }

    /// The names of the tools that it is shown by an MCP server.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn tools(&mut self, server: &ServerName) -> Result<Vec<String>, Failure> {
        let request = self.message(server, "tools/list", json!({}))?;
        let Answer::Passed(result) = self.ask(ServerKind::Mcp, server, request).await? else {
            return Ok(Vec::new());
        };
        let tools = result["tools"].as_array().into_iter().flatten();
        Ok(tools
            .filter_map(|tool| tool["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// A call that was authorised, to be sent more than once.
    ///
    /// # Errors
    /// [`Failure`] when the agent gets no token.
    pub(super) async fn authorised(&mut self, call: &Call) -> Result<Request<Bytes>, Failure> {
        let mut request = self.request(call, &call.arguments)?;
        let token = self.token(call.kind, &call.server).await?;
        let nonce = self.sides.nonce.last();
        self.sides
            .agent
            .authorise(&mut request, &token, nonce.as_deref())
            .map_err(failed)?;
        Ok(request)
    }

    /// The same call as somebody makes it who has less than the agent.
    ///
    /// # Errors
    /// [`Failure`] when the agent gets no token.
    pub(super) async fn stolen(
        &mut self,
        call: &Call,
        what: Stolen,
    ) -> Result<Request<Bytes>, Failure> {
        let mut request = self.authorised(call).await?;
        if what == Stolen::OtherKey {
            request.headers_mut().remove("dpop");
            request.headers_mut().remove(AUTHORIZATION);
            let token = self.token(call.kind, &call.server).await?;
            let nonce = self.sides.nonce.last();
            self.sides
                .thief
                .authorise(&mut request, &token, nonce.as_deref())
                .map_err(failed)?;
            return Ok(request);
        }
        take_proof(&mut request)?;
        Ok(request)
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Answer, Failure> {
        Ok(understood(&self.sides.send(WHAT, request).await?))
    }

    async fn ask(
        &mut self,
        kind: ServerKind,
        server: &ServerName,
        request: Request<Bytes>,
    ) -> Result<Answer, Failure> {
        let token = match self.token(kind, server).await {
            Ok(token) => token,
            // Who is quarantined gets no token any more.
            Err(failure) => return Ok(Answer::Refused("no_token".to_owned(), failure.to_string())),
        };
        let again = request.clone();
        for mut request in [request, again] {
            let nonce = self.sides.nonce.last();
            self.sides
                .agent
                .authorise(&mut request, &token, nonce.as_deref())
                .map_err(failed)?;
            let answer = self.send(request).await?;
            // As every client does: the same again, with what the answer brought.
            let lacks = |rule: &str| [Rule::NonceNeeded.as_str(), UNAUTHENTICATED].contains(&rule);
            if self.sides.nonce.last() == nonce
                || !matches!(&answer, Answer::Refused(rule, _) if lacks(rule))
            {
                return Ok(answer);
            }
        }
        Err(Failure::new(
            "the gateway asks for one nonce after the other",
        ))
    }

    async fn token(&mut self, kind: ServerKind, server: &ServerName) -> Result<Token, Failure> {
        if let Some(token) = self.tokens.get(server) {
            return Ok(token.clone());
        }
        let resource = self.url(kind, server);
        let token = self
            .sides
            .agent
            .token(&resource, self.task)
            .await
            .map_err(failed)?;
        self.tokens.insert(server.clone(), token.clone());
        Ok(token)
    }

    fn url(&self, kind: ServerKind, server: &ServerName) -> String {
        format!("{}/{}/{server}", self.gateway, kind.as_str())
    }

    fn request(
        &self,
        call: &Call,
        arguments: &Map<String, Value>,
    ) -> Result<Request<Bytes>, Failure> {
        if call.kind == ServerKind::Mcp {
            let params = json!({ "name": call.name, "arguments": arguments });
            return self.message(&call.server, "tools/call", params);
        }
        let target = Target::of(&call.name, arguments);
        let method = Method::from_bytes(target.method.as_bytes());
        let method = method.map_err(|error| Failure::new(error.to_string()))?;
        let url = format!("{}{}", self.url(call.kind, &call.server), target.path);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(ACCEPT, "*/*");
        if !target.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Bytes::from(target.body))
            .map_err(|error| Failure::new(error.to_string()))
    }

    fn message(
        &self,
        server: &ServerName,
        method: &str,
        mut params: Value,
    ) -> Result<Request<Bytes>, Failure> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "drill", "version": "1" },
        });
        let mut request = Request::post(self.url(ServerKind::Mcp, server))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", REVISION)
            .header("mcp-method", method);
        if let Some(name) = params["name"].as_str() {
            request = request.header("mcp-name", name);
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        request
            .body(Bytes::from(body.to_string()))
            .map_err(|error| Failure::new(error.to_string()))
    }
}

/// A request to an endpoint of an HTTP API, made from its arguments.
#[derive(Debug, PartialEq)]
struct Target {
    method: String,
    /// Path and query.
    path: String,
    /// JSON, or nothing.
    body: String,
}

impl Target {
    fn of(endpoint: &str, arguments: &Map<String, Value>) -> Self {
        let (method, template) = endpoint.split_once(' ').unwrap_or((endpoint, "/"));
        let mut path = template.to_owned();
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut has_query = false;
        let mut members = Map::new();
        let mut body = String::new();
        for (name, value) in arguments {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            if let Some(parameter) = name.strip_prefix("path.") {
                path = path.replace(&format!("{{{parameter}}}"), &segment(&text));
            } else if let Some(parameter) = name.strip_prefix("query.") {
                query.append_pair(parameter, &text);
                has_query = true;
            } else if let Some(member) = name.strip_prefix("body.") {
                members.insert(member.to_owned(), value.clone());
            } else if name == "body" {
                body = value.to_string();
            }
        }
        if has_query {
            path = format!("{path}?{}", query.finish());
        }
        if !members.is_empty() {
            body = Value::Object(members).to_string();
        }
        Self {
            method: method.to_owned(),
            path,
            body,
        }
    }
}

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            written.push(char::from(byte));
        } else {
            written.push_str(&format!("%{byte:02X}"));
        }
    }
    written
}

fn understood(answer: &Response<Bytes>) -> Answer {
    let text = String::from_utf8_lossy(answer.body());
    // One answer, as JSON or as the last event of a stream.
    let event = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data:"));
    let body: Value = serde_json::from_str(event.unwrap_or(&text)).unwrap_or_default();
    let is_message = body.get("jsonrpc").is_some() || body.get("error").is_some();
    if answer.status().is_success() {
        if body.get("result").is_some() {
            return Answer::Passed(body["result"].clone());
        }
        // What APIs answer is whatever they answer.
        if !is_message && !body.is_null() {
            return Answer::Passed(body);
        }
    }
    // Errors of JSON-RPC, or problem details.
    let error = &body["error"];
    let rule = error["data"]["rule"].as_str().or(body["rule"].as_str());
    let rule = match (rule, answer.status()) {
        (Some(rule), _) => rule.to_owned(),
        // A challenge names no rule.
        (None, StatusCode::UNAUTHORIZED) => UNAUTHENTICATED.to_owned(),
        (None, status) => format!("http_{}", status.as_u16()),
    };
    let reason = error["message"].as_str().or(body["detail"].as_str());
    Answer::Refused(rule, reason.unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let mut answer = Response::new(Bytes::from(body.to_owned()));
        *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
        understood(&answer)
    }

    #[test]
    fn what_is_no_result_is_a_refusal() {
        let passed = r#"{"id":1,"result":{"content":[]}}"#;
        assert!(matches!(answer(200, passed), Answer::Passed(_)));
        let event = format!("event: message\ndata: {passed}\n\n");
        assert!(matches!(answer(200, &event), Answer::Passed(_)));
        let refused = r#"{"error":{"message":"no","data":{"rule":"provenance"}}}"#;
        for status in [200, 403] {
            let expected = Answer::Refused("provenance".to_owned(), "no".to_owned());
            assert_eq!(answer(status, refused), expected);
        }
        let problem = r#"{"detail":"no","rule":"not_granted"}"#;
        let expected = Answer::Refused("not_granted".to_owned(), "no".to_owned());
        assert_eq!(answer(403, problem), expected);
        assert!(matches!(answer(200, r#"{"text":"x"}"#), Answer::Passed(_)));
        for (status, body) in [(200, ""), (502, "<html>"), (500, passed)] {
            assert!(
                matches!(answer(status, body), Answer::Refused(..)),
                "{body}"
            );
        }
    }

    #[test]
    fn requests_are_made_of_arguments() {
        let arguments = json!({
            "path.id": "a/b c", "query.q": "x&y", "query.n": 7, "body.to": "a@b", "body.deep": [1],
        });
        let target = Target::of("PUT /customers/{id}/mail", arguments.as_object().unwrap());
        assert_eq!(target.method, "PUT");
        assert_eq!(target.path, "/customers/a%2Fb%20c/mail?q=x%26y&n=7");
        let body: Value = serde_json::from_str(&target.body).unwrap();
        assert_eq!(body, json!({"to": "a@b", "deep": [1]}));
        let bare = Target::of("GET /", &Map::new());
        assert_eq!((bare.path.as_str(), bare.body.as_str()), ("/", ""));
    }
}
