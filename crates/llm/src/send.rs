//! Step 6: to the first address of the provider that answers. Nothing has reached the agent before, so
//! the next one may be asked; once an answer has begun, it is that one.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use gateway::live::CutSignal;
use gateway::pipeline::Permit;
use gateway::upstream::UpstreamError;
use gateway::{Body, full};
use http::header::{ACCEPT, CONTENT_ENCODING, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use model::AgentName;
use model::record::Ended;

use crate::exchange::{Exchange, Stage};
use crate::provider::Address;
use crate::refusal::Refusal;

/// One request as an address gets it.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Outgoing {
    fn request(self) -> Request<Body> {
        let mut request = Request::new(full(self.body));
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        let agent = HeaderValue::from_static(concat!("sallyport/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        request
    }
}

/// What an address said.
pub(crate) enum Said {
    /// An answer that is the agent's business: a result, or an error of its request.
    Answer(Response<Incoming>),
    /// That it has no room, or fails: another one may be asked.
    Failure(Response<Incoming>),
    /// Nothing that can be passed on, in words that name no address and no secret.
    Nothing {
        reason: String,
        was_sent: bool,
        /// Whether it may be otherwise the next time.
        passes: bool,
    },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut;

/// Asks one address, for an agent.
///
/// # Errors
/// [`Cut`]
pub(crate) async fn ask(
    address: &Address,
    outgoing: Outgoing,
    agent: &AgentName,
    signal: &CutSignal,
) -> Result<Said, Cut> {
    let path = outgoing.path.clone();
    let sent = tokio::select! {
        biased;
        () = signal.cut() => return Err(Cut),
        sent = address.web.send(outgoing.request(), &path) => sent,
    };
    let said = match sent {
        Err(error) => Said::Nothing {
            passes: true,
            was_sent: error == UpstreamError::Timeout,
            reason: error.to_string(),
        },
        Ok(response) => judge(address, response),
    };
    match &said {
        Said::Answer(_) => address.succeeded(agent),
        Said::Failure(_) | Said::Nothing { .. } => address.failed(agent, Instant::now()),
    }
    Ok(said)
}

fn judge(address: &Address, response: Response<Incoming>) -> Said {
    let status = response.status();
    let nothing = |reason: &str| Said::Nothing {
        reason: reason.to_owned(),
        was_sent: false,
        passes: false,
    };
    let compressed = response
        .headers()
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity");
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        warn(address, "refuses the gateway's credential", status);
        return nothing(
            "the provider does not let the gateway in; an operator must see to its credential",
        );
    }
    if status.is_redirection() || status.is_informational() {
        warn(
            address,
            "points elsewhere; redirects are not followed",
            status,
        );
        return nothing("the provider's answer points elsewhere");
    }
    if compressed {
        warn(
            address,
            "compresses its answer, though that was not asked for",
            status,
        );
        return Said::Nothing {
            reason: "the provider's answer is compressed, though that was not asked for".to_owned(),
            was_sent: true,
            passes: false,
        };
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        Said::Failure(response)
    } else {
        Said::Answer(response)
    }
}

fn warn(address: &Address, what: &str, status: StatusCode) {
    let server = address.web.name();
    tracing::warn!(target: "upstream", %server, %status, "an address of the provider {what}");
}

impl Exchange {
    /// Sends the request, and waits for the head of the answer.
    ///
    /// # Errors
    /// [`Refusal`] when there is no answer; what became of it is recorded.
    pub(crate) async fn send(mut self) -> Result<(Self, Response<Incoming>), Refusal> {
        let agent = &self.visit.caller.agent;
        let provider = &self.visit.provider;
        let addresses = provider.for_model(&self.asked.model, agent, Instant::now());
        if addresses.is_empty() {
            let decision = self.account.permit().decision();
            self.account.finish(Ended::NotForwarded);
            let reason = "no address of this server has the model";
            return Err(Refusal::upstream(decision, reason).for_good());
        }
        // Whoever ends the task waits for this, and nothing leaves without it.
        let leave = self
            .account
            .permit()
            .dispatch()
            .map_err(|denied| Refusal::denied(&denied))?;
        let expiry = self.expires_in();
        let outcome = tokio::time::timeout(expiry, self.try_each(&addresses)).await;
        drop(leave);
        match outcome {
            Ok(Ok(response)) => Ok((self, response)),
            Ok(Err(Failed::Refused(refusal))) => {
                self.account.finish(Ended::UpstreamFailed);
                Err(refusal)
            }
            Ok(Err(Failed::Cut)) | Err(_) => {
                let refusal = self.account.cut_off();
                self.account.finish(Ended::Cut);
                Err(refusal)
            }
        }
    }

    async fn try_each(&mut self, addresses: &[Arc<Address>]) -> Result<Response<Incoming>, Failed> {
        let signal = self.signal();
        let (mut told, mut may_pass) = (String::new(), false);
        for (position, address) in addresses.iter().enumerate() {
            let outgoing = self.outgoing(address);
            self.account.stage = Stage::Sent;
            let said = ask(address, outgoing, &self.visit.caller.agent, &signal)
                .await
                .map_err(|Cut| Failed::Cut)?;
            let is_last = position + 1 == addresses.len();
            match said {
                Said::Answer(response) => {
                    self.note_address(address, response.status());
                    return Ok(response);
                }
                Said::Failure(response) if is_last => {
                    self.note_address(address, response.status());
                    return Ok(response);
                }
                Said::Failure(_) => self.account.stage = Stage::Waiting,
                Said::Nothing {
                    reason,
                    was_sent,
                    passes,
                } => {
                    may_pass = passes;
                    if was_sent {
                        // It may have read all, and written all: the budget errs on the side of less.
                        let amount = self.account.meter.all();
                        let permit = self.account.permit();
                        permit
                            .spend(amount)
                            .map_err(|denied| Failed::Refused(Refusal::denied(&denied)))?;
                    }
                    self.account.stage = Stage::Waiting;
                    told = reason;
                }
            }
        }
        let decision = self.account.permit().decision();
        let refusal = Refusal::upstream(decision, told);
        Err(Failed::Refused(if may_pass {
            refusal
        } else {
            refusal.for_good()
        }))
    }

    fn outgoing(&self, address: &Address) -> Outgoing {
        let mut headers = self.headers.clone();
        let accept = if self.asked.stream {
            "text/event-stream, application/json"
        } else {
            "application/json"
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let longest = self.visit.provider.llm.max_output_tokens;
        let longest = self.is_limited().then_some(u64::from(longest));
        Outgoing {
            method: self.visit.api.method(),
            path: self.visit.api.path_behind(self.visit.surface()).to_owned(),
            headers,
            body: self
                .asked
                .body_for(address.name_of(&self.asked.model), longest),
        }
    }

    /// Which of the addresses answered, and what it calls the model.
    fn note_address(&mut self, address: &Address, status: StatusCode) {
        let all = &self.visit.provider.addresses;
        let position = all
            .iter()
            .position(|at| std::ptr::eq(Arc::as_ptr(at), address));
        let model = address.name_of(&self.asked.model).to_owned();
        let permit: &mut Permit = self.account.permit();
        permit.note("address", position.map_or(0, |position| position + 1));
        permit.note("status", status.as_u16());
        if model != self.asked.model {
            permit.note("model", model);
        }
    }
}

enum Failed {
    Cut,
    Refused(Refusal),
}
