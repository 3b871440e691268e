//! A P-256 private key and what it signs (ES256, RFC 7518 §3.4).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use zeroize::Zeroizing;

use crate::base64url;
use crate::public_key::PublicKey;

/// The cryptographic library could not make a key or a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed to make a key or a signature")]
pub struct SigningFailed;

/// A private key with its public half. The library wipes it when it is dropped.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    pub(crate) fn generate() -> Result<Self, SigningFailed> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::of(pair.map_err(|_| SigningFailed)?)
    }

    /// From PKCS#8 (RFC 5958).
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, SigningFailed> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        Self::of(pair.map_err(|_| SigningFailed)?)
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, SigningFailed> {
        let public = PublicKey::p256(pair.public_key().as_ref()).map_err(|_| SigningFailed)?;
        Ok(Self { pair, public })
    }

    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, SigningFailed> {
        let document = self.pair.to_pkcs8v1().map_err(|_| SigningFailed)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// A secret for one purpose, made from the key (HMAC-SHA-256 over the purpose).
    pub(crate) fn secret(&self, purpose: &str) -> Result<Zeroizing<[u8; 32]>, SigningFailed> {
        let der = self.to_pkcs8()?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &der);
        let label = format!("sallyport secret for {purpose}");
        let tag = hmac::sign(&key, label.as_bytes());
        let mut secret = Zeroizing::new([0; 32]);
        secret.copy_from_slice(tag.as_ref());
        Ok(secret)
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a header and a payload: the compact form (RFC 7515 §7.1). The header is given as the
    /// base64url text that it has there.
    pub(crate) fn sign(&self, header: &str, payload: &[u8]) -> Result<String, SigningFailed> {
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let mut text = String::with_capacity(header.len() + payload.len() * 4 / 3 + 96);
        text.push_str(header);
        text.push('.');
        engine.encode_string(payload, &mut text);
        let signature = self
            .pair
            .sign(&SystemRandom::new(), text.as_bytes())
            .map_err(|_| SigningFailed)?;
        let mut signature: [u8; 64] = signature.as_ref().try_into().map_err(|_| SigningFailed)?;
        make_low(&mut signature);
        text.push('.');
        engine.encode_string(signature, &mut text);
        Ok(text)
    }
}

/// A header as the base64url text that stands in front of the signed text.
pub(crate) fn header(header: &serde_json::Value) -> String {
    base64url(header.to_string().as_bytes())
}

/// The order of P-256 (SEC 2 §2.4.2), and half of it.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const HALF: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// Whether a signature is the one of the two equivalent ones that [`SigningKey`] makes: (r, s) and
/// (r, -s) verify alike, and whoever holds one can write down the other without the key.
pub(crate) fn is_low(signature: &[u8; 64]) -> bool {
    // Both are big-endian, so they compare like numbers.
    signature[32..] <= HALF[..]
}

/// Replaces s by the order minus s where s is the larger one.
pub(crate) fn make_low(signature: &mut [u8; 64]) {
    if is_low(signature) {
        return;
    }
    let mut borrow = false;
    for (s, n) in signature[32..].iter_mut().zip(ORDER).rev() {
        let (less, first) = n.overflowing_sub(*s);
        let (less, second) = less.overflowing_sub(u8::from(borrow));
        *s = less;
        borrow = first || second;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The other signature that verifies.
    pub(crate) fn other_signature(token: &str) -> String {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = [0; 64];
        crate::decode_base64url(signature, &mut bytes).unwrap();
        let mut borrow = 0i16;
        for index in (32..64).rev() {
            let digit = i16::from(ORDER[index - 32]) - i16::from(bytes[index]) - borrow;
            borrow = i16::from(digit < 0);
            bytes[index] = u8::try_from(digit.rem_euclid(256)).unwrap();
        }
        format!("{signed}.{}", base64url(&bytes))
    }

    #[test]
    fn signatures_are_low_and_verify() {
        let key = SigningKey::generate().unwrap();
        for round in 0..64u8 {
            let text = key.sign("e30", &[round]).unwrap();
            let (signed, signature) = text.rsplit_once('.').unwrap();
            let mut bytes = [0; 64];
            assert_eq!(crate::decode_base64url(signature, &mut bytes), Some(64));
            assert!(is_low(&bytes));
            assert!(key.public().verifies(signed.as_bytes(), &bytes));
            let other = other_signature(&text);
            let mut second = [0; 64];
            crate::decode_base64url(other.rsplit_once('.').unwrap().1, &mut second).unwrap();
            assert!(!is_low(&second));
            assert!(key.public().verifies(signed.as_bytes(), &second));
            make_low(&mut second);
            assert_eq!(second, bytes);
        }
    }
}
