//! Secrets that are shown once: enrolment tokens and the operator's token. Only their hash is kept.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

/// Prefix of enrolment tokens.
pub const ENROLMENT: &str = "spe_";
/// Prefix of the operator's token.
pub const OPERATOR: &str = "spo_";

/// Makes a secret: the prefix, so that scanners find it where it does not belong, and 256 random
/// bits in base64url.
///
/// # Panics
/// When the operating system gives no randomness: nothing can be kept safe then.
#[must_use]
pub fn generate(prefix: &str) -> Zeroizing<String> {
    use base64::Engine as _;
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).expect("the operating system gives randomness");
    // Room for all of it, so that growing leaves no copy behind.
    let mut secret = Zeroizing::new(String::with_capacity(prefix.len() + 64));
    secret.push_str(prefix);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut secret);
    secret
}

/// What a secret is remembered by: SHA-256. Nobody can guess 256 bits, so nothing slower is needed.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    crate::sha256(secret.as_bytes())
}

/// Whether a secret is the one with this hash, in the same time whatever the answer.
#[must_use]
pub fn matches(secret: &str, expected: &[u8; 32]) -> bool {
    let mut actual = hash(secret);
    let same = actual.ct_eq(expected).into();
    actual.zeroize();
    same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (generate(ENROLMENT), generate(ENROLMENT));
        assert_ne!(one, other);
        assert!(one.starts_with("spe_"));
        assert_eq!(one.len(), "spe_".len() + 43);
    }

    #[test]
    fn only_the_secret_matches_its_hash() {
        let secret = generate(OPERATOR);
        let hash = hash(&secret);
        assert!(matches(&secret, &hash));
        for wrong in [
            "",
            "spo_",
            &secret[..secret.len() - 1],
            &format!("{} ", &*secret),
        ] {
            assert!(!matches(wrong, &hash));
        }
    }
}
