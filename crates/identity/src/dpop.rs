//! Proofs of possession (RFC 9449): every request is signed with the key that the token is bound
//! to, so that whoever steals a token has nothing.

use std::hash::BuildHasher;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;

use crate::jws::{Compact, Header, Malformed, bounded};
use crate::nonce::Nonces;
use crate::public_key::{InvalidKey, PublicKey};
use crate::replay::{Memory, Refused};
use crate::uri::same_endpoint;
use crate::{CLOCK_SKEW_SECONDS, base64url, sha256};

/// Longest proof, in bytes.
const LIMIT: usize = 4096;
/// Oldest proof that is accepted, in seconds.
const OLDEST_SECONDS: i64 = 60;
/// Longest `jti`, in bytes.
const JTI_LIMIT: usize = 256;
/// Headers that are remembered with the key in them. Each is at most [`LIMIT`] bytes long.
const KNOWN_HEADERS: usize = 2048;

/// The request that a proof must have been made for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The URL that was called; query and fragment do not matter.
    pub url: &'a str,
    /// The access token that came with it; none at the token endpoint.
    pub access_token: Option<&'a str>,
}

/// The thumbprint of the key that a proof was made with (RFC 7638, SHA-256, base64url).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbprint(Arc<str>);

impl Thumbprint {
    /// As it stands in `cnf.jkt`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a proof was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text is no acceptable signed text, or a claim is missing.
    #[error("the proof is malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A token of another kind.
    #[error("the proof's `typ` must be `dpop+jwt`")]
    WrongType,
    /// Another algorithm than the key's.
    #[error("the proof must be signed with ES256 or EdDSA, as its key says")]
    WrongAlgorithm,
    /// The key in the header is none that is accepted.
    #[error("the proof's `jwk` is not accepted: {0}")]
    Key(#[from] InvalidKey),
    /// Made with another key than the one that is expected.
    #[error("the proof was made with another key than the token is bound to")]
    OtherKey,
    /// Made for another method.
    #[error("the proof's `htm` is not the method of the request")]
    WrongMethod,
    /// Made for another URL.
    #[error("the proof's `htu` is not the URL of the request")]
    WrongUrl,
    /// Made for another token, or for none.
    #[error("the proof's `ath` is not the hash of the access token")]
    WrongToken,
    /// Made too long ago.
    #[error("the proof is older than {OLDEST_SECONDS} seconds: make a new one for each request")]
    TooOld,
    /// Made before anything was remembered.
    #[error("the proof was made before this server was started: make a new one for each request")]
    BeforeStart,
    /// Made in the future.
    #[error("the proof is from the future: check the clocks")]
    FromTheFuture,
    /// Not signed by the key that it names.
    #[error("the proof's signature does not verify")]
    BadSignature,
    /// Without a nonce that is good now, where one is demanded (RFC 9449 §8).
    #[error(
        "the proof needs the nonce that this answer brings in `DPoP-Nonce`: make a new one with it"
    )]
    NonceNeeded,
    /// Used before.
    #[error("the proof was used before: make a new one for each request")]
    Replayed,
    /// The key makes more proofs than are remembered.
    #[error("too many proofs by this key within the last minute: slow down, or raise the capacity")]
    TooMany,
}

/// Verifies proofs, each once.
pub struct Proofs {
    used: Memory,
    /// The second since which all proofs are remembered.
    since: i64,
    nonces: Option<Nonces>,
    known: Box<[ArcSwapOption<Known>]>,
    hasher: std::hash::RandomState,
}

/// A header that was read before. It is the same in all proofs of a key, so reading it and taking
/// the key out of it is done once. Every signature is verified all the same.
struct Known {
    header: Box<str>,
    key: PublicKey,
    thumbprint: Thumbprint,
}

impl Proofs {
    /// Remembers up to about `capacity` proofs at a time (at least a few thousand), at 16 to 40
    /// bytes each. A proof is remembered for up to 80 seconds, and one key can take a quarter of
    /// the room: a million is good for 3,000 requests per second of one key.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            used: Memory::new(capacity, OLDEST_SECONDS),
            since: i64::MIN,
            nonces: None,
            known: (0..KNOWN_HEADERS).map(|_| ArcSwapOption::empty()).collect(),
            hasher: std::hash::RandomState::new(),
        }
    }

    /// Refuses proofs that were made before this moment: they may have been used at a process that
    /// ran here before, whose memory is gone. Without it a restart lets a copied proof work again.
    #[must_use]
    pub fn since(mut self, start: Timestamp) -> Self {
        self.since = start.as_second();
        self
    }

    /// Takes only proofs that carry one of these nonces, while they are demanded.
    #[must_use]
    pub fn with_nonces(mut self, nonces: Nonces) -> Self {
        self.nonces = Some(nonces);
        self
    }

    /// The nonce to use in the next proof, if one is demanded.
    #[must_use]
    pub fn nonce(&self, now: Timestamp) -> Option<Arc<str>> {
        self.nonces.as_ref()?.present(now)
    }

    /// Whether a proof is without a nonce that is demanded, whoever made it and for what. For whoever has
    /// something else to look at first that can be used only once.
    #[must_use]
    pub fn lacks_nonce(&self, proof: &str, now: Timestamp) -> bool {
        let Some(nonces) = self.nonces.as_ref().filter(|it| it.are_demanded()) else {
            return false;
        };
        let Ok(compact) = Compact::<LIMIT>::read(proof) else {
            return false;
        };
        let Ok(claims) = compact.claims() else {
            return false;
        };
        match claims.text("nonce") {
            Ok(nonce) => !nonce.is_some_and(|nonce| nonces.know(&nonce, now.as_second())),
            Err(_) => false,
        }
    }

    /// Checks a proof (RFC 9449 §4.3) and tells the key that it was made with, which the caller
    /// compares to the one that it expects.
    ///
    /// # Errors
    /// [`ProofError`]
    pub fn verify(
        &self,
        proof: &str,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<Thumbprint, ProofError> {
        self.check(proof, request, None, now)
    }

    /// Checks a proof that must have been made with the key that has this thumbprint. Proofs with
    /// other keys are refused before their signature is looked at and before they take any room, so
    /// prefer this wherever the key is known.
    ///
    /// # Errors
    /// [`ProofError`]
    pub fn verify_by(
        &self,
        proof: &str,
        request: &Request<'_>,
        thumbprint: &str,
        now: Timestamp,
    ) -> Result<Thumbprint, ProofError> {
        self.check(proof, request, Some(thumbprint), now)
    }

    fn check(
        &self,
        proof: &str,
        request: &Request<'_>,
        by: Option<&str>,
        now: Timestamp,
    ) -> Result<Thumbprint, ProofError> {
        let compact = Compact::<LIMIT>::read(proof)?;
        let slot = self.hasher.hash_one(compact.header_text);
        let slot = &self.known[usize::try_from(slot % KNOWN_HEADERS as u64).unwrap_or(0)];
        let known = slot.load();
        let (maker, is_new) = match &*known {
            Some(known) if *known.header == *compact.header_text => (Arc::clone(known), false),
            _ => (Arc::new(Known::read(compact.header_text)?), true),
        };
        if by.is_some_and(|by| by != maker.thumbprint.as_str()) {
            return Err(ProofError::OtherKey);
        }
        let claims = compact.claims()?;
        let required = |name| claims.required(name).map_err(Malformed::claims);
        if required("htm")? != request.method {
            return Err(ProofError::WrongMethod);
        }
        if !same_endpoint(&required("htu")?, request.url) {
            return Err(ProofError::WrongUrl);
        }
        if let Some(token) = request.access_token {
            let hash = base64url(&sha256(token.as_bytes()));
            if required("ath")? != hash {
                return Err(ProofError::WrongToken);
            }
        }
        let seconds = |name| claims.seconds(name).map_err(Malformed::claims);
        let made = seconds("iat")?.ok_or_else(|| Malformed::claims("`iat` is missing"))?;
        let now = now.as_second();
        let over = seconds("exp")?.is_some_and(|until| now >= until);
        if made < now - OLDEST_SECONDS || over {
            return Err(ProofError::TooOld);
        }
        if made < self.since {
            return Err(ProofError::BeforeStart);
        }
        let latest = now + CLOCK_SKEW_SECONDS;
        if made > latest || seconds("nbf")?.is_some_and(|from| from > latest) {
            return Err(ProofError::FromTheFuture);
        }
        let id = bounded(&claims, "jti", JTI_LIMIT)?;
        if !compact.is_signed_by(&maker.key) {
            return Err(ProofError::BadSignature);
        }
        // Only whoever has the key is asked for a nonce, and what lacks one is not remembered as used.
        if let Some(nonces) = self.nonces.as_ref().filter(|it| it.are_demanded()) {
            let nonce = claims.text("nonce").map_err(Malformed::claims)?;
            if !nonce.is_some_and(|nonce| nonces.know(&nonce, now)) {
                return Err(ProofError::NonceNeeded);
            }
        }
        let owner = maker.key.thumbprint_bytes();
        let used = self.used.use_once(owner, &id, made + OLDEST_SECONDS, now);
        used.map_err(|refused| match refused {
            Refused::Used | Refused::Forgotten => ProofError::Replayed,
            Refused::NoRoom => ProofError::TooMany,
        })?;
        // Only whoever has the key gets its header remembered.
        if is_new {
            slot.store(Some(Arc::clone(&maker)));
        }
        Ok(maker.thumbprint.clone())
    }
}

impl Known {
    fn read(text: &str) -> Result<Self, ProofError> {
        let header = Header::<LIMIT>::decode(text)?;
        let parameters = header.parameters()?;
        if parameters
            .text("typ")
            .map_err(Malformed::header)?
            .as_deref()
            != Some("dpop+jwt")
        {
            return Err(ProofError::WrongType);
        }
        let jwk = parameters
            .raw("jwk")
            .ok_or_else(|| Malformed::header("`jwk` is missing"))?;
        let algorithm = parameters.required("alg").map_err(Malformed::header)?;
        if !["ES256", "EdDSA"].contains(&&*algorithm) {
            return Err(ProofError::WrongAlgorithm);
        }
        let key = PublicKey::parse_jwk(jwk)?;
        // The key says which algorithm it is for; the header may only agree.
        if algorithm != key.kind().algorithm() {
            return Err(ProofError::WrongAlgorithm);
        }
        let thumbprint = Thumbprint(key.thumbprint().into());
        Ok(Self {
            header: text.into(),
            key,
            thumbprint,
        })
    }
}

#[cfg(test)]
mod tests;
