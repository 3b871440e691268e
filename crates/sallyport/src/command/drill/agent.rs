//! The agent of a drill: enrolled like any other, and obedient to whoever attacks.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response};
use model::TaskId;
use serde_json::{Value, json};

use crate::connect::authority::Token;
use crate::failure::Failure;
use crate::rehearsal::stolen::{Sides, failed, take_proof};

/// The revision of MCP that it speaks: every request stands for itself.
const REVISION: &str = "2026-07-28";
const WHAT: &str = "the twin of the gateway";

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
    tokens: BTreeMap<String, Token>,
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

    /// Calls a tool.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn call(
        &mut self,
        server: &str,
        tool: &str,
        arguments: Value,
    ) -> Result<Answer, Failure> {
        let params = json!({ "name": tool, "arguments": arguments });
        self.ask(server, "tools/call", params).await
    }

    /// The names of the tools that it is shown.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(super) async fn tools(&mut self, server: &str) -> Result<Vec<String>, Failure> {
        let answer = self.ask(server, "tools/list", json!({})).await?;
        let Answer::Passed(result) = answer else {
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
    pub(super) async fn authorised(
        &mut self,
        server: &str,
        tool: &str,
        arguments: Value,
    ) -> Result<Request<Bytes>, Failure> {
        let params = json!({ "name": tool, "arguments": arguments });
        let mut request = self.request(server, "tools/call", params)?;
        let token = self.token(server).await?;
        self.sides
            .agent
            .authorise(&mut request, &token, None)
            .map_err(failed)?;
        Ok(request)
    }

    /// The same call as somebody makes it who has less than the agent.
    ///
    /// # Errors
    /// [`Failure`] when the agent gets no token.
    pub(super) async fn stolen(
        &mut self,
        server: &str,
        tool: &str,
        arguments: Value,
        what: Stolen,
    ) -> Result<Request<Bytes>, Failure> {
        let mut request = self.authorised(server, tool, arguments).await?;
        if what == Stolen::OtherKey {
            request.headers_mut().remove("dpop");
            request.headers_mut().remove(AUTHORIZATION);
            let token = self.token(server).await?;
            self.sides
                .thief
                .authorise(&mut request, &token, None)
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

    async fn ask(&mut self, server: &str, method: &str, params: Value) -> Result<Answer, Failure> {
        let mut request = self.request(server, method, params)?;
        let token = match self.token(server).await {
            Ok(token) => token,
            // Who is quarantined gets no token any more.
            Err(failure) => return Ok(Answer::Refused("no_token".to_owned(), failure.to_string())),
        };
        self.sides
            .agent
            .authorise(&mut request, &token, None)
            .map_err(failed)?;
        self.send(request).await
    }

    async fn token(&mut self, server: &str) -> Result<Token, Failure> {
        if let Some(token) = self.tokens.get(server) {
            return Ok(token.clone());
        }
        let resource = format!("{}/mcp/{server}", self.gateway);
        let token = self
            .sides
            .agent
            .token(&resource, self.task)
            .await
            .map_err(failed)?;
        self.tokens.insert(server.to_owned(), token.clone());
        Ok(token)
    }

    fn request(
        &self,
        server: &str,
        method: &str,
        mut params: Value,
    ) -> Result<Request<Bytes>, Failure> {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "drill", "version": "1" },
        });
        let mut request = Request::post(format!("{}/mcp/{server}", self.gateway))
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

fn understood(answer: &Response<Bytes>) -> Answer {
    let text = String::from_utf8_lossy(answer.body());
    // One answer, as JSON or as the last event of a stream.
    let event = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("data:"));
    let body: Value = serde_json::from_str(event.unwrap_or(&text)).unwrap_or_default();
    if answer.status().is_success() && body.get("result").is_some() {
        return Answer::Passed(body["result"].clone());
    }
    let error = &body["error"];
    let rule = error["data"]["rule"].as_str().map_or_else(
        || format!("http_{}", answer.status().as_u16()),
        str::to_owned,
    );
    let reason = error["message"].as_str().unwrap_or_default();
    Answer::Refused(rule, reason.to_owned())
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
        for (status, body) in [(200, ""), (502, "<html>"), (500, passed)] {
            assert!(
                matches!(answer(status, body), Answer::Refused(..)),
                "{body}"
            );
        }
    }
}
