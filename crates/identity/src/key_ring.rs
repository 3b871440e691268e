//! The signing keys of the token service: one signs, the ones before it still verify.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::access::{self, AccessClaims, IssueError, TokenError};
use crate::private_file::{self, KeyError};
use crate::signing::{SigningFailed, SigningKey, header};
use crate::{CLOCK_SKEW_SECONDS, TOKEN_LIFETIME};

/// A key signs for this long; then [`KeyRing::rotate_if_due`] makes a new one.
pub const ROTATE_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A key that was replaced still verifies for this long: every token that it signed is dead before.
const KEEP: SignedDuration = SignedDuration::from_secs(2 * TOKEN_LIFETIME.as_secs());

/// The signing keys. Reading them takes no lock.
pub struct KeyRing {
    dir: PathBuf,
    keys: ArcSwap<Vec<Arc<Key>>>,
    /// Held while the folder changes.
    changing: Mutex<()>,
}

/// One key, in the ring's order: the newest first.
struct Key {
    kid: String,
    /// The header of the tokens that it signs.
    header: String,
    signing: SigningKey,
    created_at: Timestamp,
    path: PathBuf,
}

/// What there is to know of a key without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyInfo {
    /// Its id: the JWK thumbprint (RFC 7638).
    pub kid: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it verifies; none for the one that signs.
    pub verifies_until: Option<Timestamp>,
}

/// What a document that the ring signs is. Never an access token, whose type is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentType {
    /// A document whose kind its place says (RFC 7515 §4.1.9, `JOSE`), such as a card of an agent.
    Jose,
    /// A credential for one request to an HTTP API.
    Call,
    /// A security event token (RFC 8417 §2.3).
    SecurityEvent,
}

impl DocumentType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Jose => "JOSE",
            Self::Call => "sallyport-call+jwt",
            Self::SecurityEvent => "secevent+jwt",
        }
    }
}

/// A signature beside what it signs (RFC 7515, Appendix F), both parts in base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detached {
    /// The protected header.
    pub protected: String,
    /// The signature.
    pub signature: String,
}

impl KeyRing {
    /// Opens the folder of signing keys; an empty one gets its first key.
    ///
    /// # Errors
    /// [`KeyError`], also when others can look into the folder or read a key.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Self, KeyError> {
        private_file::private_dir(dir)?;
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(KeyError::io(dir))? {
            let path = entry.map_err(KeyError::io(dir))?.path();
            if path
                .extension()
                .is_some_and(|end| end == private_file::UNFINISHED)
            {
                // A crash came between; nothing was signed with it.
                std::fs::remove_file(&path).map_err(KeyError::io(&path))?;
                continue;
            }
            keys.push(Arc::new(Key::load(path)?));
        }
        keys.sort_by(|a, b| (b.created_at, &b.kid).cmp(&(a.created_at, &a.kid)));
        let ring = Self {
            dir: dir.to_owned(),
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::new(()),
        };
        if ring.keys.load().is_empty() {
            ring.rotate(now)?;
        } else {
            ring.prune(now)?;
        }
        Ok(ring)
    }

    /// Signs an access token with the newest key.
    ///
    /// # Errors
    /// [`IssueError`] when the token would live or be too long.
    pub fn issue(&self, claims: &AccessClaims) -> Result<String, IssueError> {
        let life = claims.exp.saturating_sub(claims.iat);
        if life <= 0 || life > TOKEN_LIFETIME.as_secs() {
            return Err(IssueError::Lifetime);
        }
        let payload = serde_json::to_vec(claims).map_err(|_| IssueError::TooLong)?;
        let keys = self.keys.load();
        let newest = keys
            .first()
            .expect("a ring is made with a key, and the newest one is kept");
        let token = newest.signing.sign(&newest.header, &payload)?;
        if token.len() > access::LIMIT {
            return Err(IssueError::TooLong);
        }
        Ok(token)
    }

    /// Signs a document that is no access token with the newest key: a JWS (RFC 7515) whose protected
    /// header has `alg` and `kid` besides the given parameters. `typ` must be none that tokens have.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn sign_document(
        &self,
        typ: DocumentType,
        parameters: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<Detached, SigningFailed> {
        let (protected, compact) = self.signed(typ, parameters, payload)?;
        let signature = compact.rsplit('.').next().unwrap_or_default().to_owned();
        Ok(Detached {
            protected,
            signature,
        })
    }

    /// The same, as one text: header, payload and signature (RFC 7515 §7.1).
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn sign_compact(&self, typ: DocumentType, payload: &[u8]) -> Result<String, SigningFailed> {
        self.signed(typ, &[], payload).map(|(_, compact)| compact)
    }

    /// The protected header, and the whole in the compact form.
    fn signed(
        &self,
        typ: DocumentType,
        parameters: &[(&str, &str)],
        payload: &[u8],
    ) -> Result<(String, String), SigningFailed> {
        let keys = self.keys.load();
        let newest = keys
            .first()
            .expect("a ring is made with a key, and the newest one is kept");
        let mut members = json!({ "alg": "ES256", "typ": typ.as_str(), "kid": newest.kid });
        for (name, value) in parameters {
            members[*name] = json!(value);
        }
        let protected = header(&members);
        let compact = newest.signing.sign(&protected, payload)?;
        Ok((protected, compact))
    }

    /// Checks an access token: its form, its signature, its issuer and its times. Whom it is for
    /// ([`AccessClaims::is_for`]) and whether it was revoked is for the caller to check.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn verify(
        &self,
        token: &str,
        issuer: &str,
        now: Timestamp,
    ) -> Result<AccessClaims, TokenError> {
        let (kid, compact) = access::open(token)?;
        let keys = self.keys.load();
        let position = keys
            .iter()
            .position(|key| key.kid == kid)
            .ok_or(TokenError::UnknownKey)?;
        if verifies_until(&keys, position).is_some_and(|until| now >= until) {
            return Err(TokenError::UnknownKey);
        }
        access::verify(&compact, keys[position].signing.public(), issuer, now)
    }

    /// A secret made from the newest key, for one purpose: whoever has it learns nothing of the key, and
    /// another purpose has another. It is the same until the keys are rotated and the ring is opened anew.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn secret(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, SigningFailed> {
        let keys = self.keys.load();
        let newest = keys
            .first()
            .expect("a ring is made with a key, and the newest one is kept");
        newest.signing.secret(purpose)
    }

    /// The public keys as a JWK set (RFC 7517 §5), for whoever else verifies tokens.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let keys = self.keys.load();
        let all = keys.iter().map(|key| {
            let mut jwk = key.signing.public().to_jwk();
            jwk["kid"] = json!(key.kid);
            jwk["use"] = json!("sig");
            jwk["alg"] = json!("ES256");
            jwk
        });
        json!({ "keys": all.collect::<Vec<_>>() })
    }

    /// Makes a new key, which signs from now on. The ones before verify on for a while. Returns the
    /// new key's id.
    ///
    /// # Errors
    /// [`KeyError`]; then the old key goes on signing.
    pub fn rotate(&self, now: Timestamp) -> Result<String, KeyError> {
        let changing = self.changing.lock();
        let key = Arc::new(self.make(now)?);
        let kid = key.kid.clone();
        let mut keys = vec![key];
        keys.extend(self.keys.load().iter().cloned());
        self.keys.store(Arc::new(keys));
        drop(changing);
        self.prune(now)?;
        Ok(kid)
    }

    /// Makes a new key when the newest one has signed for [`ROTATE_AFTER`], and removes the keys
    /// whose time is over. Call it now and then.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn rotate_if_due(&self, now: Timestamp) -> Result<Option<String>, KeyError> {
        let newest = self.keys.load().first().map(|key| key.created_at);
        if newest.is_some_and(|since| now.duration_since(since) >= ROTATE_AFTER) {
            return self.rotate(now).map(Some);
        }
        self.prune(now)?;
        Ok(None)
    }

    /// The keys, the one that signs first.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyInfo> {
        let keys = self.keys.load();
        let about = keys.iter().enumerate().map(|(position, key)| KeyInfo {
            kid: key.kid.clone(),
            created_at: key.created_at,
            verifies_until: verifies_until(&keys, position),
        });
        about.collect()
    }

    /// A new key, on the disk.
    fn make(&self, now: Timestamp) -> Result<Key, KeyError> {
        let signing = SigningKey::generate()?;
        // Later than the one before, whatever the clock says: the order decides which one signs.
        let newest = self
            .keys
            .load()
            .first()
            .map(|key| key.created_at.as_second());
        let created = newest.map_or(now.as_second(), |newest| now.as_second().max(newest + 1));
        let created_at = Timestamp::from_second(created).unwrap_or(now);
        let path = self.dir.join(private_file::dated_name(
            created_at,
            &signing.public().thumbprint(),
        ));
        private_file::save(&signing, &path)?;
        Ok(Key::new(signing, created_at, path))
    }

    /// Removes the keys that verify nothing any more.
    fn prune(&self, now: Timestamp) -> Result<(), KeyError> {
        let over = |keys: &[Arc<Key>]| {
            (0..keys.len()).find(|p| verifies_until(keys, *p).is_some_and(|until| now >= until))
        };
        if over(&self.keys.load()).is_none() {
            return Ok(());
        }
        let _changing = self.changing.lock();
        let keys = self.keys.load_full();
        let Some(first) = over(&keys) else {
            return Ok(());
        };
        // Newest first, so everything behind the first one that is over is over as well.
        self.keys.store(Arc::new(keys[..first].to_vec()));
        for key in &keys[first..] {
            match std::fs::remove_file(&key.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(KeyError::io(&key.path)(error));
                }
                _ => {}
            }
        }
        private_file::sync_parent(&keys[first].path)
    }
}

/// Until when a key verifies; none for the newest. One that was replaced is kept from then on; a
/// clock that may be ahead counts in its favour.
fn verifies_until(keys: &[Arc<Key>], position: usize) -> Option<Timestamp> {
    let replaced_at = keys.get(position.checked_sub(1)?)?.created_at;
    let keep = KEEP + SignedDuration::from_secs(CLOCK_SKEW_SECONDS);
    Some(replaced_at.checked_add(keep).unwrap_or(Timestamp::MAX))
}

impl Key {
    fn new(signing: SigningKey, created_at: Timestamp, path: PathBuf) -> Self {
        let kid = signing.public().thumbprint();
        let header = header(&json!({ "typ": access::TYPE, "alg": "ES256", "kid": kid }));
        Self {
            kid,
            header,
            signing,
            created_at,
            path,
        }
    }

    /// Reads a key; its file's name says when it was made, and must be the key's own.
    fn load(path: PathBuf) -> Result<Self, KeyError> {
        let (signing, created_at) = private_file::load_dated(&path)?;
        Ok(Self::new(signing, created_at, path))
    }
}

#[cfg(test)]
mod tests;
