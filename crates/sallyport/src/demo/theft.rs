//! A stolen token: whoever copied it tries to use it from elsewhere.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use identity::InstanceKey;
use model::TaskId;
use serde_json::{Value, json};

use super::stage::Stage;
use super::table::Outcome;
use crate::connect::authority::{Authority, Token};
use crate::connect::http::Http;
use crate::connect::instance::InstanceFolder;
use crate::connect::trouble::Trouble;
use crate::failure::Failure;

const WHAT: &str = "the gateway";

/// The agent's own side, and a thief who has a copy of its token, but not its key.
pub(super) struct Theft {
    http: Http,
    resource: String,
    agent: Authority,
    thief: Authority,
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
        let (about, key) = InstanceFolder::open(instance)?;
        let http = Http::new(None)?;
        let other = InstanceKey::generate()
            .map_err(|error| Failure::new(format!("the thief has no key: {error}")))?;
        let agent = Authority::new(http.clone(), about.clone(), key);
        let thief = Authority::new(http.clone(), about, other);
        let resource = format!("{}/mcp/files", stage.gateway);
        let token = agent.token(&resource, task).await.map_err(failed)?;
        Ok(Self {
            http,
            resource,
            agent,
            thief,
            token,
        })
    }

    /// The agent calls with a proof; then the thief sends the very same request again, with the
    /// proof that it saw.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn replay(&self) -> Result<(Outcome, Outcome), Failure> {
        let mut request = self.hello()?;
        self.agent
            .authorise(&mut request, &self.token, None)
            .map_err(failed)?;
        let copy = request.clone();
        Ok((self.send(request).await?, self.send(copy).await?))
    }

    /// The thief makes a fresh proof, with the only key that it has.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn other_key(&self) -> Result<Outcome, Failure> {
        let mut request = self.hello()?;
        self.thief
            .authorise(&mut request, &self.token, None)
            .map_err(failed)?;
        self.send(request).await
    }

    /// The thief sends the token without any proof.
    ///
    /// # Errors
    /// [`Failure`] when the gateway does not answer at all.
    pub(super) async fn bare(&self) -> Result<Outcome, Failure> {
        let mut request = self.hello()?;
        self.agent
            .authorise(&mut request, &self.token, None)
            .map_err(failed)?;
        let headers = request.headers_mut();
        headers.remove("dpop");
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("DPoP "))
            .and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok())
            .ok_or_else(|| Failure::new("the agent's request has no token"))?;
        headers.insert(AUTHORIZATION, bearer);
        self.send(request).await
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
        let answer = self
            .http
            .ask(WHAT, request.map(gateway::full))
            .await
            .map_err(failed)?;
        Ok(outcome(&answer))
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

fn failed(trouble: Trouble) -> Failure {
    Failure::new(trouble.to_string())
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
