//! A stolen token: whoever copied it tries to use it from elsewhere.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, Response};
use model::TaskId;
use serde_json::{Value, json};

use super::stage::Stage;
use super::table::Outcome;
use crate::connect::authority::Token;
use crate::failure::Failure;
use crate::rehearsal::stolen::{Sides, failed, take_proof};

const WHAT: &str = "the gateway";

/// The agent's own side, and a thief who has a copy of its token, but not its key.
pub(super) struct Theft {
    sides: Sides,
    resource: String,
    token: Token,
}

impl Theft {
    /// The agent gets a token for its task; the thief copies it.
    ///
    /// # Errors
    /// [`Failure`] when the agent gets none.
    pub(super) async fn new(
        stage: &Stage,
        instance: &std::path::Path,
        task: TaskId,
    ) -> Result<Self, Failure> {
        let sides = Sides::new(instance)?;
        let resource = format!("{}/mcp/files", stage.gateway);
        let token = sides.agent.token(&resource, task).await.map_err(failed)?;
        Ok(Self {
            sides,
            resource,
            token,
        })
    }

    /// The agent calls with a proof; then the thief sends the very same request again, with the
    /// proof that it saw.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn replay(&self) -> Result<(Outcome, Outcome), Failure> {
        let request = self.authorised()?;
        let copy = request.clone();
        Ok((self.send(request).await?, self.send(copy).await?))
    }

    /// The thief makes a fresh proof, with the only key that it has.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn other_key(&self) -> Result<Outcome, Failure> {
        let mut request = self.hello()?;
        self.sides
            .thief
            .authorise(&mut request, &self.token, None)
            .map_err(failed)?;
        self.send(request).await
    }

    /// The thief sends the token without any proof.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn bare(&self) -> Result<Outcome, Failure> {
        let mut request = self.authorised()?;
        take_proof(&mut request)?;
        self.send(request).await
    }

    /// What the agent sends.
    fn authorised(&self) -> Result<Request<Bytes>, Failure> {
        let mut request = self.hello()?;
        self.sides
            .agent
            .authorise(&mut request, &self.token, None)
            .map_err(failed)?;
        Ok(request)
    }

    fn hello(&self) -> Result<Request<Bytes>, Failure> {
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": { "name": "demo-agent", "version": "1" },
            },
        });
        Request::post(&self.resource)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, text/event-stream")
            .body(Bytes::from(body.to_string()))
            .map_err(|error| Failure::new(error.to_string()))
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Outcome, Failure> {
        Ok(outcome(&self.sides.send(WHAT, request).await?))
    }
}

fn outcome(answer: &Response<Bytes>) -> Outcome {
    if answer.status().is_success() {
        return Outcome::Allowed(format!("HTTP {}", answer.status().as_u16()));
    }
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let rule = body["error"]["data"]["rule"]
        .as_str()
        .unwrap_or("unknown_rule")
        .to_owned();
    let reason = body["error"]["message"].as_str().unwrap_or_default();
    Outcome::refused(rule, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_a_refusal() {
        let body =
            json!({ "error": { "message": "seen before", "data": { "rule": "unauthenticated" } } });
        let mut answer = Response::new(Bytes::from(body.to_string()));
        *answer.status_mut() = http::StatusCode::UNAUTHORIZED;
        assert_eq!(
            outcome(&answer),
            Outcome::refused("unauthenticated", "seen before")
        );
        let ok = Response::new(Bytes::new());
        assert!(matches!(outcome(&ok), Outcome::Allowed(_)));
    }
}
