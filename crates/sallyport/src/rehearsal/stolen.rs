//! A stolen token: an enrolled agent, and a thief who has a copy of its token, but not its key.

use std::path::Path;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use identity::InstanceKey;

use crate::connect::authority::Authority;
use crate::connect::http::Http;
use crate::connect::instance::InstanceFolder;
use crate::connect::nonce::LastNonce;
use crate::connect::trouble::Trouble;
use crate::failure::Failure;

/// The two who make requests.
pub(crate) struct Sides {
    http: Http,
    /// With the key of the instance.
    pub(crate) agent: Authority,
    /// With a key of its own.
    pub(crate) thief: Authority,
    /// What the gateway wants to see in proofs.
    pub(crate) nonce: LastNonce,
}

impl Sides {
    /// Opens the folder of the enrolled instance.
    ///
    /// # Errors
    /// [`Failure`] when there is none.
    pub(crate) fn new(instance: &Path) -> Result<Self, Failure> {
        let (about, key) = InstanceFolder::open(instance)?;
        let http = Http::new(None)?;
        let other = InstanceKey::generate()
            .map_err(|error| Failure::new(format!("the thief has no key: {error}")))?;
        Ok(Self {
            agent: Authority::new(http.clone(), about.clone(), key),
            thief: Authority::new(http.clone(), about, other),
            nonce: LastNonce::default(),
            http,
        })
    }

    /// Sends a request as it is to what is called so.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer at all.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Failure> {
        let asked = self.http.ask(what, request.map(gateway::full));
        let answer = asked.await.map_err(failed)?;
        self.nonce.learn(&answer, None);
        Ok(answer)
    }
}

/// Makes an authorised request into one with the token alone, without any proof.
///
/// # Errors
/// [`Failure`] when there is no token in it.
pub(crate) fn take_proof(request: &mut Request<Bytes>) -> Result<(), Failure> {
    let headers = request.headers_mut();
    headers.remove("dpop");
    let bearer = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("DPoP "))
        .and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok())
        .ok_or_else(|| Failure::new("the agent's request has no token"))?;
    headers.insert(AUTHORIZATION, bearer);
    Ok(())
}

/// Trouble as it is told here: its remedies are for those who run agents.
pub(crate) fn failed(trouble: Trouble) -> Failure {
    Failure::new(trouble.to_string())
}
