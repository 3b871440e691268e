//! Who somebody is, proved with keys: access tokens, proofs of possession, client assertions,
//! certificates, and the keys behind them. No HTTP and no clock: time comes in as an argument.
//!
//! Everything here reads hostile input. There is one strict reader for signed texts ([RFC 7515]
//! compact form) and every kind of text goes through it, so that no two of them disagree about what
//! a token says: canonical base64url, no member twice, no extension that is not understood, and the
//! algorithm follows from the key and never from the text.
//!
//! [RFC 7515]: https://www.rfc-editor.org/rfc/rfc7515

pub mod assertion;
pub mod dpop;
pub mod nonce;
pub mod secret;
pub mod svid;
pub mod x509;

mod access;
mod foreign_keys;
mod instance_key;
mod jws;
mod key_ring;
mod members;
mod private_file;
mod public_key;
mod replay;
mod signing;
mod uri;

pub use access::{AccessClaims, Cnf, IssueError, TokenError};
pub use foreign_keys::{ForeignKeys, NotKeys, NotSigned};
pub use instance_key::InstanceKey;
pub use key_ring::{Detached, DocumentType, KeyInfo, KeyRing, ROTATE_AFTER};
pub use private_file::KeyError;
pub use public_key::{InvalidKey, KeyKind, PublicKey};
pub use signing::SigningFailed;

use jiff::SignedDuration;

/// Longest life of an access token. Keys that were rotated out verify for twice this time.
pub const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_secs(300);

/// How far ahead another machine's clock may be.
const CLOCK_SKEW_SECONDS: i64 = 5;

/// What a token is remembered by: SHA-256 of its text. A token has one text only, because
/// [`KeyRing::verify`] accepts no second encoding or second signature of the same claims.
#[must_use]
pub fn token_id(token: &str) -> [u8; 32] {
    sha256(token.as_bytes())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Bytes as base64url without padding (RFC 7515 §2).
fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url without padding into a buffer; only the one canonical text of some bytes is
/// accepted. Returns how many bytes there were; none when the text is wrong or too long.
fn decode_base64url(text: &str, buffer: &mut [u8]) -> Option<usize> {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode_slice(text, buffer)
        .ok()
}
