//! Who is calling: the second step of an action's path.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use identity::nonce::{Demand, Nonces};
use identity::svid::Svid;
use identity::{AccessClaims, Cnf, KeyRing, dpop};
use jiff::Timestamp;
use model::{AgentName, Denial, InstanceId, Proof, Rule, TaskId, TaskStatus};

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::live::{CutSignal, Live, LiveTask};
use crate::{peer, single};

/// An authenticated caller: the only way to have one is [`Authenticator::authenticate`].
pub struct Caller {
    /// The agent.
    pub agent: AgentName,
    /// The instance.
    pub instance: InstanceId,
    /// How it proved possession of its key on this call.
    pub proof: Proof,
    /// The task that its token names.
    pub task: Arc<LiveTask>,
    /// When its token expires. What outlives the request ends then.
    pub expires: Timestamp,
    /// Cancelled when something that this caller relies on is withdrawn after the checks.
    pub(crate) signal: CutSignal,
}

impl Caller {
    /// The caller as the decision takes it.
    #[must_use]
    pub fn facts(&self) -> policy::Caller<'_> {
        policy::Caller {
            agent: &self.agent,
            instance: &self.instance,
            proof: self.proof,
            risk: self.task.risk(),
        }
    }

    /// Tells when something that this caller relies on was withdrawn.
    #[must_use]
    pub fn signal(&self) -> CutSignal {
        self.signal.clone()
    }

    /// The last look before anything of this caller leaves for an upstream: `None` when its task
    /// has ended or something that it relies on was withdrawn.
    pub(crate) fn begin_dispatch(&self) -> Option<TaskTrackerToken> {
        self.task.begin_dispatch(&self.signal, Timestamp::now())
    }

    /// The one for whom an upstream sends something by itself, later than the request that asked for it:
    /// `proof` is what that request was made with. Nobody is authenticated here, so this is for what the
    /// gateway was told to expect, at an address that it made up itself. `None` when the task or the
    /// instance is over.
    pub(crate) fn expecting(live: &Live, principal: Principal, proof: Proof) -> Option<Self> {
        let task = live.task(&principal.task)?;
        // Taken before the looks at what may have been withdrawn, as for everyone else.
        let signal = task.lock().cut_signal();
        let open = task.status_at(Timestamp::now()) == TaskStatus::Open;
        (open && !live.is_disabled(&principal.instance)).then(|| Self {
            agent: task.task().agent.clone(),
            instance: principal.instance,
            proof,
            expires: task.task().expires_at,
            task,
            signal,
        })
    }

    /// The identity that sessions and handles are bound to.
    #[must_use]
    pub fn principal(&self) -> Principal {
        Principal {
            instance: self.instance,
            task: self.task.task().id,
        }
    }
}

/// What sessions, streams and handles are bound to: possession of a handle is not authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The instance.
    pub instance: InstanceId,
    /// The task.
    pub task: TaskId,
}

/// The `error` of a challenge to a proof without a good nonce (RFC 9449 §9).
pub const USE_NONCE: &str = "use_dpop_nonce";

/// Why a request has no caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unauthenticated {
    /// The `error` of the challenge (RFC 6750 §3.1, RFC 9449 §7.1); none when no token was sent.
    pub error: Option<&'static str>,
    /// The reason, in words.
    pub reason: String,
    /// The scheme that the client should use.
    pub scheme: Proof,
    /// A nonce to use in the next proof (RFC 9449 §9).
    pub nonce: Option<String>,
}

impl Unauthenticated {
    fn new(error: Option<&'static str>, scheme: Proof, reason: impl Into<String>) -> Self {
        Self {
            error,
            reason: reason.into(),
            scheme,
            nonce: None,
        }
    }

    /// Whether what was shown is no credential, or not a good one. Nothing at all is not wrong, nor is a proof
    /// that lacks a nonce.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        self.error.is_some_and(|error| error != USE_NONCE)
    }

    /// The refusal as it is recorded.
    #[must_use]
    pub fn denial(&self) -> Denial {
        if self.error == Some(USE_NONCE) {
            return Denial {
                rule: Rule::NonceNeeded,
                reason: self.reason.clone(),
                remedy: "send the same again with a new proof that has the nonce in it".to_owned(),
            };
        }
        Denial {
            rule: Rule::Unauthenticated,
            reason: self.reason.clone(),
            remedy: "get a token for this resource from the authorization server that the \
                     protected resource metadata names"
                .to_owned(),
        }
    }
}

/// Turns requests into callers.
pub struct Authenticator {
    keys: Arc<KeyRing>,
    issuer: String,
    proofs: dpop::Proofs,
    nonces: Demand,
    /// Tokens whose signature was verified before, by their SHA-256 hash. Only the signature and
    /// the parsing are saved: expiry, revocation and audience are checked on every call.
    verified: moka::sync::Cache<[u8; 32], Arc<AccessClaims>>,
}

impl Authenticator {
    /// Accepts tokens of one issuer, with proofs that are made from now on, and with nonces once those are
    /// demanded.
    ///
    /// # Panics
    /// When the cryptographic library makes nothing of a key that it made itself.
    #[must_use]
    pub fn new(keys: Arc<KeyRing>, issuer: String, proofs: dpop::Proofs) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(50_000)
            .time_to_live(std::time::Duration::from_secs(300))
            .build();
        let nonces = Demand::default();
        let secret = keys
            .secret("nonces of the gateway")
            .expect("a key that signs can be written down");
        let made = Nonces::new(&secret, nonces.clone());
        Self {
            keys,
            issuer,
            proofs: proofs.since(Timestamp::now()).with_nonces(made),
            nonces,
            verified,
        }
    }

    /// Whether proofs must carry nonces, to be changed at any time, and shared by all who demand them.
    pub(crate) fn nonces(&self) -> &Demand {
        &self.nonces
    }

    /// The nonce to use in the next proof, if one is demanded.
    pub(crate) fn nonce(&self, now: Timestamp) -> Option<Arc<str>> {
        self.proofs.nonce(now)
    }

    /// Whether a token's signature was verified before, so that looking at it again takes nothing.
    #[must_use]
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.verified.contains_key(&identity::token_id(token))
    }

    /// Authenticates a request for a resource: token, proof of possession, task. The token must be
    /// made for `asked.resource`, and the proof for `asked.method` and `asked.url`.
    ///
    /// # Errors
    /// [`Unauthenticated`] with the challenge to answer with.
    pub fn authenticate(
        &self,
        live: &Live,
        asked: &Asked<'_>,
        credentials: &Credentials<'_>,
        now: Timestamp,
    ) -> Result<Caller, Unauthenticated> {
        let Credentials { scheme, token, .. } = *credentials;
        let id = identity::token_id(token);
        let invalid =
            |reason: &str| Unauthenticated::new(Some("invalid_token"), scheme, reason.to_owned());
        let claims = match self.verified.get(&id) {
            Some(claims) => claims,
            None => {
                let mut claims = self
                    .keys
                    .verify(token, &self.issuer, now)
                    .map_err(|error| invalid(&error.to_string()))?;
                // Of no use here, and the only claim without a bound but the token's own.
                claims.authorization_details = None;
                let claims = Arc::new(claims);
                self.verified.insert(id, Arc::clone(&claims));
                claims
            }
        };
        if claims.is_expired(now) {
            return Err(invalid("the token has expired"));
        }
        if !claims.is_for(asked.resource) {
            return Err(invalid("the token was not made for this resource"));
        }
        let proof = match (scheme, &claims.cnf) {
            (Proof::Dpop, Some(Cnf::Key { jkt })) => {
                self.prove(asked, credentials, jkt, now)?;
                Proof::Dpop
            }
            (Proof::Bearer, None) => Proof::Bearer,
            // Whose certificate it is was seen when the token was issued, and the token expires with it.
            (Proof::Bearer, Some(Cnf::Certificate { x5t })) => {
                let presented = credentials.certificate.map(|svid| svid.thumbprint);
                if presented != Some(*x5t) {
                    return Err(invalid(
                        "the token is bound to a certificate, and this connection was not made with it",
                    ));
                }
                Proof::Certificate
            }
            (_, Some(Cnf::Certificate { .. })) => {
                return Err(Unauthenticated::new(
                    Some("invalid_token"),
                    Proof::Bearer,
                    "the token is bound to a certificate: send it with the Bearer scheme, on a connection \
                     made with that certificate",
                ));
            }
            (_, Some(Cnf::Key { .. })) => {
                return Err(Unauthenticated::new(
                    Some("invalid_token"),
                    Proof::Dpop,
                    "the token is bound to a key: send it with the DPoP scheme and a proof",
                ));
            }
            (_, None) => {
                return Err(invalid(
                    "the token is not bound to a key: send it as a bearer token",
                ));
            }
        };
        let task = claims
            .task
            .as_ref()
            .and_then(|id| live.task(id))
            .ok_or_else(|| invalid("the token names no task that is known here"))?;
        if !is_of(&task, &claims.agent, &claims.client_id)
            || asked.task.is_some_and(|named| *named != task.task().id)
        {
            return Err(invalid(
                "the token's task is not the caller's, or not the URL's",
            ));
        }
        // Taken before the last looks at what may have been withdrawn: whoever withdraws something
        // sets it first and cuts second, so a cut that these looks miss is seen in the signal.
        let signal = task.lock().cut_signal();
        if live.is_revoked(&id) {
            return Err(invalid("the token was revoked"));
        }
        if let Some(why) = withdrawn(live, &claims.agent, &claims.client_id, claims.iat) {
            return Err(invalid(why));
        }
        Ok(Caller {
            agent: claims.agent.clone(),
            instance: claims.client_id,
            proof,
            task,
            expires: Timestamp::from_second(claims.exp).unwrap_or(now),
            signal,
        })
    }

    /// Authenticates who presents an SVID in place of a token, and names a task: the task must be its agent's.
    /// The certificate was verified when the connection was made.
    ///
    /// # Errors
    /// [`Unauthenticated`]; whether there is such a task of somebody else is not told.
    pub fn authenticate_by_svid(
        live: &Live,
        svid: &Svid,
        task: &TaskId,
        now: Timestamp,
    ) -> Result<Caller, Unauthenticated> {
        let refused =
            |reason: &str| Unauthenticated::new(Some("invalid_token"), Proof::Certificate, reason);
        if svid.is_expired(now) {
            return Err(refused("the certificate has expired"));
        }
        let task = live
            .task(task)
            .filter(|task| is_of(task, &svid.agent, &svid.instance))
            .ok_or_else(|| refused("the certificate's agent has no such task"))?;
        // Before the last looks, as for those who show a token.
        let signal = task.lock().cut_signal();
        let issued = svid.issued_at.as_second();
        if let Some(why) = withdrawn(live, &svid.agent, &svid.instance, issued) {
            return Err(refused(why));
        }
        Ok(Caller {
            agent: svid.agent.clone(),
            instance: svid.instance,
            proof: Proof::Certificate,
            task,
            expires: svid.expires_at,
            signal,
        })
    }

    fn prove(
        &self,
        asked: &Asked<'_>,
        credentials: &Credentials<'_>,
        thumbprint: &str,
        now: Timestamp,
    ) -> Result<(), Unauthenticated> {
        let failed =
            |reason: String| Unauthenticated::new(Some("invalid_dpop_proof"), Proof::Dpop, reason);
        let proof = credentials
            .proof
            .ok_or_else(|| failed("exactly one DPoP header is needed".to_owned()))?;
        let request = dpop::Request {
            method: asked.method,
            url: asked.url,
            access_token: Some(credentials.token),
        };
        self.proofs
            .verify_by(proof, &request, thumbprint, now)
            .map(drop)
            .map_err(|error| match error {
                dpop::ProofError::NonceNeeded => Unauthenticated {
                    nonce: self.proofs.nonce(now).map(|nonce| nonce.to_string()),
                    ..Unauthenticated::new(Some(USE_NONCE), Proof::Dpop, error.to_string())
                },
                error => failed(error.to_string()),
            })
    }
}

/// Whether a task is an agent's, and not another instance's.
fn is_of(task: &LiveTask, agent: &AgentName, instance: &InstanceId) -> bool {
    let task = task.task();
    task.agent == *agent && task.instance.is_none_or(|owner| owner == *instance)
}

/// Why a credential is good for nothing any more that an instance was given at some time, in seconds since 1970.
fn withdrawn(
    live: &Live,
    agent: &AgentName,
    instance: &InstanceId,
    issued: i64,
) -> Option<&'static str> {
    if live.refuses_issued(agent, issued) {
        Some("all tokens that the agent had then were revoked")
    } else if live.is_disabled(instance) {
        Some("the instance was disabled")
    } else {
        None
    }
}

/// What is asked for, as far as tokens and proofs are about it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The URL of the protected resource.
    pub resource: &'a str,
    /// The method that a proof must be made for (RFC 9449 §4.2, `htm`).
    pub method: &'a str,
    /// The URL that a proof must be made for (`htu`), without query and fragment.
    pub url: &'a str,
    /// The task that the URL names, if it names one.
    pub task: Option<&'a TaskId>,
}

/// What a caller shows.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The scheme that the token came with.
    pub scheme: Proof,
    /// The access token.
    pub token: &'a str,
    /// The one DPoP proof, if exactly one came.
    pub proof: Option<&'a str>,
    /// The SVID that the connection was made with, if it was made with one.
    pub certificate: Option<&'a Svid>,
}

impl<'a> Credentials<'a> {
    /// Those of a request: the one `Authorization` header, the one `DPoP` header, and what its connection was
    /// made with.
    ///
    /// # Errors
    /// [`Unauthenticated`] when there is no token, or not exactly one.
    pub fn of<B>(request: &'a Request<B>) -> Result<Self, Unauthenticated> {
        let headers = request.headers();
        let (scheme, token) = authorization(headers)?;
        Ok(Self {
            scheme,
            token,
            proof: single(headers, "dpop"),
            certificate: peer::of_request(request.extensions()),
        })
    }
}

/// The scheme and token of the one `Authorization` header.
fn authorization(headers: &HeaderMap) -> Result<(Proof, &str), Unauthenticated> {
    let missing = || Unauthenticated::new(None, Proof::Dpop, "no access token was sent");
    let malformed = || {
        Unauthenticated::new(
            Some("invalid_request"),
            Proof::Dpop,
            "send exactly one Authorization header with the scheme DPoP or Bearer",
        )
    };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(malformed());
    }
    let value = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = value.split_once(' ').ok_or_else(malformed)?;
    let scheme = if scheme.eq_ignore_ascii_case("dpop") {
        Proof::Dpop
    } else if scheme.eq_ignore_ascii_case("bearer") {
        Proof::Bearer
    } else {
        return Err(malformed());
    };
    let token = token.trim();
    if token.is_empty() {
        Err(malformed())
    } else {
        Ok((scheme, token))
    }
}

#[cfg(test)]
impl Caller {
    /// One with an open task that grants nothing.
    pub(crate) fn of_nobody() -> Self {
        use model::{Grant, Task};
        use tokio_util::sync::CancellationToken;

        let grant: Grant = serde_json::from_value(serde_json::json!({
            "permissions": [], "budget": { "calls": 1 }, "proof": "dpop",
        }))
        .unwrap();
        let now = Timestamp::now();
        let task = Task {
            id: TaskId::new(now, [1; 10]),
            agent: "triage".parse().unwrap(),
            instance: None,
            parent: None,
            template: "triage".parse().unwrap(),
            parameters: std::collections::BTreeMap::new(),
            purpose: String::new(),
            grant,
            opened_at: now,
            expires_at: now.checked_add(std::time::Duration::from_secs(60)).unwrap(),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        };
        let task = LiveTask::new(
            task,
            None,
            Arc::default(),
            b"salt",
            policy::Usage::default(),
        );
        Self {
            agent: "triage".parse().unwrap(),
            instance: InstanceId::new(now, [1; 10]),
            proof: Proof::Dpop,
            task: Arc::new(task),
            expires: now,
            signal: CutSignal::of(CancellationToken::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn read(values: &[&'static str]) -> Result<(Proof, String), Option<&'static str>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        authorization(&headers)
            .map(|(scheme, token)| (scheme, token.to_owned()))
            .map_err(|refused| refused.error)
    }

    #[test]
    fn one_header_with_one_of_two_schemes() {
        assert_eq!(read(&["DPoP abc"]), Ok((Proof::Dpop, "abc".to_owned())));
        assert_eq!(
            read(&["bearer  abc "]),
            Ok((Proof::Bearer, "abc".to_owned()))
        );
        assert_eq!(read(&[]), Err(None));
        for bad in [
            &["Bearer"][..],
            &["Bearer "],
            &["Basic abc"],
            &["abc"],
            &["DPoP a", "DPoP a"],
        ] {
            assert_eq!(read(bad), Err(Some("invalid_request")), "{bad:?}");
        }
    }
}
