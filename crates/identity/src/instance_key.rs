//! The key of one instance: it makes client assertions and proofs of possession, and never leaves
//! its file.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::private_file::{self, KeyError};
use crate::signing::{SigningFailed, SigningKey, header};
use crate::{base64url, sha256};

/// Life of an assertion, in seconds.
const ASSERTION_SECONDS: i64 = 60;

/// An ES256 private key.
pub struct InstanceKey {
    signing: SigningKey,
    /// The header of every proof, which names the public key (RFC 9449 §4.2).
    proof_header: String,
}

impl InstanceKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn generate() -> Result<Self, SigningFailed> {
        SigningKey::generate().map(Self::new)
    }

    /// Reads a key from PKCS#8 in PEM.
    ///
    /// # Errors
    /// [`KeyError`], also when others can read the file.
    pub fn load_pem(path: &Path) -> Result<Self, KeyError> {
        private_file::load(path).map(Self::new)
    }

    /// Writes the key into a new file that only its owner can read.
    ///
    /// # Errors
    /// [`KeyError`], also when there is a file already.
    pub fn save_pem(&self, path: &Path) -> Result<(), KeyError> {
        private_file::save(&self.signing, path)
    }

    fn new(signing: SigningKey) -> Self {
        let jwk = signing.public().to_jwk();
        let proof_header = header(&json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk }));
        Self {
            signing,
            proof_header,
        }
    }

    /// The public key as a JWK.
    #[must_use]
    pub fn public_jwk(&self) -> Value {
        self.signing.public().to_jwk()
    }

    /// The JWK thumbprint (RFC 7638 with SHA-256), base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.signing.public().thumbprint()
    }

    /// Makes a client assertion (RFC 7523 §2.2) for the token endpoint of `audience`, good for one
    /// minute. The `jti` must never have been used before.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn sign_assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: Timestamp,
        jti: &str,
    ) -> Result<String, SigningFailed> {
        let now = now.as_second();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "iat": now,
            "exp": now.saturating_add(ASSERTION_SECONDS),
            "jti": jti,
        });
        let header = header(&json!({
            "typ": "JWT", "alg": "ES256", "kid": self.thumbprint(),
        }));
        self.signing.sign(&header, claims.to_string().as_bytes())
    }

    /// Makes a proof of possession (RFC 9449 §4.2) for one request. The `jti` must never have been
    /// used before; the nonce is the one that the server asked for.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn sign_dpop(
        &self,
        method: &str,
        url: &str,
        access_token: Option<&str>,
        nonce: Option<&str>,
        now: Timestamp,
        jti: &str,
    ) -> Result<String, SigningFailed> {
        let url = url.split(['?', '#']).next().unwrap_or(url);
        let claims = ProofClaims {
            jti,
            htm: method,
            htu: url,
            iat: now.as_second(),
            ath: access_token.map(|token| base64url(&sha256(token.as_bytes()))),
            nonce,
        };
        let claims = serde_json::to_vec(&claims).map_err(|_| SigningFailed)?;
        self.signing.sign(&self.proof_header, &claims)
    }
}

/// What stands in a proof (RFC 9449 §4.2).
#[derive(Serialize)]
struct ProofClaims<'a> {
    jti: &'a str,
    htm: &'a str,
    htu: &'a str,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ath: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
}

impl std::fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InstanceKey({})", self.thumbprint())
    }
}
