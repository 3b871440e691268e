//! Who is calling: the second step of an action's path.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::{AccessClaims, KeyRing, dpop};
use jiff::Timestamp;
use model::{AgentName, Denial, InstanceId, Proof, Rule, TaskId, TaskStatus};

use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::live::{CutSignal, Live, LiveTask};

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

    /// The refusal as it is recorded.
    #[must_use]
    pub fn denial(&self) -> Denial {
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
    /// Tokens whose signature was verified before, by their SHA-256 hash. Only the signature and
    /// the parsing are saved: expiry, revocation and audience are checked on every call.
    verified: moka::sync::Cache<[u8; 32], Arc<AccessClaims>>,
}

impl Authenticator {
    /// Accepts tokens of one issuer, with proofs that are made from now on.
    #[must_use]
    pub fn new(keys: Arc<KeyRing>, issuer: String, proofs: dpop::Proofs) -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(50_000)
            .time_to_live(std::time::Duration::from_secs(300))
            .build();
        Self {
            keys,
            issuer,
            proofs: proofs.since(Timestamp::now()),
            verified,
        }
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
        let bound_to = claims.cnf.as_ref().map(|cnf| cnf.jkt.as_str());
        let proof = match (scheme, bound_to) {
            (Proof::Dpop, Some(thumbprint)) => {
                self.prove(asked, credentials, thumbprint, now)?;
                Proof::Dpop
            }
            (Proof::Bearer, None) => Proof::Bearer,
            (Proof::Bearer, Some(_)) => {
                return Err(Unauthenticated::new(
                    Some("invalid_token"),
                    Proof::Dpop,
                    "the token is bound to a key: send it with the DPoP scheme and a proof",
                ));
            }
            (Proof::Dpop, None) => {
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
        if task.task().agent != claims.agent
            || task
                .task()
                .instance
                .is_some_and(|owner| owner != claims.client_id)
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
        if live.refuses_issued(&claims.agent, claims.iat) {
            return Err(invalid("all tokens that the agent had then were revoked"));
        }
        if live.is_disabled(&claims.client_id) {
            return Err(invalid("the instance was disabled"));
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
            .map_err(|error| failed(error.to_string()))
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
}

impl<'a> Credentials<'a> {
    /// Those of a request: the one `Authorization` header, and the one `DPoP` header.
    ///
    /// # Errors
    /// [`Unauthenticated`] when there is no token, or not exactly one.
    pub fn of(headers: &'a HeaderMap) -> Result<Self, Unauthenticated> {
        let (scheme, token) = authorization(headers)?;
        let mut proofs = headers.get_all("dpop").iter();
        let proof = match (proofs.next(), proofs.next()) {
            (Some(proof), None) => proof.to_str().ok(),
            _ => None,
        };
        Ok(Self {
            scheme,
            token,
            proof,
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
