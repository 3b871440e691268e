//! Signed notes and verifier keys with Ed25519 (C2SP signed-note).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The signature type of Ed25519 (signed-note, Signature types).
const ED25519_TYPE: u8 = 1;
/// Longest note, in bytes; enough for dozens of post-quantum signatures.
pub(crate) const LONGEST: usize = 256 * 1024;

/// Why a note or a verifier key is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// The text has not the form of a signed note.
    #[error("this is no signed note (C2SP signed-note): {0}")]
    Malformed(&'static str),
    /// The note's text has not the form of a checkpoint.
    #[error("this is no checkpoint (C2SP tlog-checkpoint): {0}")]
    NotACheckpoint(&'static str),
    /// The key has not signed the note.
    #[error("the note carries no signature of `{0}`")]
    NotSigned(String),
    /// There is a signature of the key, and it is wrong.
    #[error("the signature of `{0}` does not belong to this note: it was changed")]
    Forged(String),
    /// The verifier key is none.
    #[error("`{0}` is no verifier key (C2SP signed-note): name+id+base64 with Ed25519")]
    VerifierKey(String),
}

/// Whether a text can name a key: not empty, without Unicode spaces, `+` and control characters.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The public key of a log with the log's name: what a verifier needs. Its text form is the `vkey` of
/// C2SP signed-note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

impl VerifierKey {
    pub(crate) fn new(name: &str, key: [u8; 32]) -> Self {
        Self {
            name: name.to_owned(),
            key,
        }
    }

    /// The name of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id: the first four bytes of SHA-256(name || 0x0A || 0x01 || public key).
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519_TYPE])
            .chain_update(self.key)
            .finalize();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }

    /// The signature line for a signature made with this key.
    pub(crate) fn signature_line(&self, signature: &[u8]) -> String {
        let mut bytes = self.id().to_be_bytes().to_vec();
        bytes.extend_from_slice(signature);
        format!("— {} {}\n", self.name, STANDARD.encode(bytes))
    }

    /// The text of a signed note, if this key has signed it. Signatures of other keys are ignored,
    /// as the standard demands.
    ///
    /// # Errors
    /// When the note is malformed, is not signed by this key, or was changed.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let id = self.id().to_be_bytes();
        let mut signed = false;
        for line in signatures.split_terminator('\n') {
            let (name, bytes) = signature(line)?;
            let Some(signature) = bytes.strip_prefix(&id).filter(|_| name == self.name) else {
                continue;
            };
            UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(text.as_bytes(), signature)
                .map_err(|_| NoteError::Forged(self.name.clone()))?;
            signed = true;
        }
        if signed {
            Ok(text)
        } else {
            Err(NoteError::NotSigned(self.to_string()))
        }
    }
}

/// A note's text and its signature lines.
pub(crate) fn split(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > LONGEST {
        return Err(NoteError::Malformed("it is too long"));
    }
    if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Malformed("it contains control characters"));
    }
    let end = note
        .rfind("\n\n")
        .ok_or(NoteError::Malformed("no blank line before signatures"))?;
    let (text, signatures) = (&note[..=end], &note[end + 2..]);
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(NoteError::Malformed("no complete signature line"));
    }
    Ok((text, signatures))
}

/// The name and the bytes (key id and signature) of a signature line.
fn signature(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    const MALFORMED: NoteError =
        NoteError::Malformed("a line after the blank line is no signature");
    let (name, base64) = line
        .strip_prefix("— ")
        .and_then(|rest| rest.split_once(' '))
        .ok_or(MALFORMED)?;
    let bytes = STANDARD.decode(base64).map_err(|_| MALFORMED)?;
    if !is_key_name(name) || bytes.len() < 5 {
        return Err(MALFORMED);
    }
    Ok((name, bytes))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = [ED25519_TYPE; 33];
        key[1..].copy_from_slice(&self.key);
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.id(),
            STANDARD.encode(key)
        )
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let parse = || {
            let (name, rest) = text.split_once('+')?;
            let (_, key) = rest.split_once('+')?;
            let key = STANDARD.decode(key).ok()?;
            let key = key.strip_prefix(&[ED25519_TYPE])?.try_into().ok()?;
            let parsed = Self::new(name, key);
            // The id is computed, so the text is right only if it comes out again.
            (is_key_name(name) && parsed.to_string() == text).then_some(parsed)
        };
        parse().ok_or_else(|| NoteError::VerifierKey(text.chars().take(200).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of signed-note, Verifier keys.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\
        — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    #[test]
    fn the_example_of_the_standard_verifies() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(key.to_string(), VKEY);
        assert_eq!((key.name(), key.id()), ("example.com/foo", 0x530d_903a));
        assert_eq!(key.open(NOTE).unwrap(), "This is an example message.\n");
    }

    #[test]
    fn signatures_of_others_are_ignored_and_not_enough() {
        let key: VerifierKey = VKEY.parse().unwrap();
        let other = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        assert!(key.open(&format!("{NOTE}{other}")).is_ok());
        let (text, _) = split(NOTE).unwrap();
        let unsigned = key.open(&format!("{text}\n{other}")).map(str::to_owned);
        assert_eq!(unsigned, Err(NoteError::NotSigned(VKEY.to_owned())));
        let renamed = NOTE.replace("— example.com/foo", "— example.com/bar");
        assert!(matches!(key.open(&renamed), Err(NoteError::NotSigned(_))));
    }

    #[test]
    fn a_changed_note_is_refused() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert!(matches!(
            key.open(&NOTE.replace("an", "the")),
            Err(NoteError::Forged(_))
        ));
        for bad in [
            "",
            "\n\n",
            "a\n\n",
            "a\n\n— n\n",
            "a\n— n AAAAAAAA\n",
            "a\r\n\n— n AAAAAAAA\n",
            "a\n\n— n AAAAAAAA",
        ] {
            assert!(
                matches!(key.open(bad), Err(NoteError::Malformed(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn verifier_keys_are_strict() {
        for bad in [
            VKEY.replace("530d903a", "530d903b"),
            VKEY.replace("530d903a", "530D903A"),
            VKEY.replace("AekyeRrm", "BOkyeRrm"),
            VKEY.replace("foo", "f oo"),
            VKEY[1..].to_owned(),
            String::new(),
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}", middle in "[\n— a+A=]{0,40}") {
            let key: VerifierKey = VKEY.parse().unwrap();
            let note = format!("{text}{middle}");
            prop_assert!(key.open(&note).is_err());
            let _ = text.parse::<VerifierKey>();
        }
    }
}
