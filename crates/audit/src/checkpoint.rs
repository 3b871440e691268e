//! Checkpoints: signed commitments to the whole log (C2SP tlog-checkpoint).

use crate::hash::Hash;
use crate::key::LogKey;
use crate::note::{self, NoteError, VerifierKey};

/// A commitment to the first `size` records of a log, with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
    note: String,
}

impl Checkpoint {
    /// Reads a checkpoint and checks that the log has signed it.
    ///
    /// # Errors
    /// When it is malformed, not signed by the key, changed, or of another log.
    pub fn verify(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        key.open(note)?;
        let checkpoint = Self::parse(note)?;
        if checkpoint.origin != key.name() {
            return Err(NoteError::NotACheckpoint(
                "its origin is not the name of the key",
            ));
        }
        Ok(checkpoint)
    }

    /// Reads a checkpoint without looking at its signatures.
    pub(crate) fn parse(note: &str) -> Result<Self, NoteError> {
        let (text, _) = note::split(note)?;
        let mut lines = text.split_terminator('\n');
        let mut line = |what| {
            lines
                .next()
                .filter(|l| !l.is_empty())
                .ok_or(NoteError::NotACheckpoint(what))
        };
        let origin = line("no origin")?.to_owned();
        let size_text = line("no size")?;
        let size: u64 = size_text
            .parse()
            .map_err(|_| NoteError::NotACheckpoint("no size"))?;
        if size.to_string() != size_text {
            return Err(NoteError::NotACheckpoint(
                "the size is not written as a plain number",
            ));
        }
        let root =
            Hash::parse(line("no root hash")?).ok_or(NoteError::NotACheckpoint("no root hash"))?;
        if lines.any(str::is_empty) {
            return Err(NoteError::NotACheckpoint("an empty line"));
        }
        Ok(Self {
            origin,
            size,
            root,
            note: note.to_owned(),
        })
    }

    pub(crate) fn sign(size: u64, root: Hash, key: &LogKey) -> Self {
        let origin = key.verifier().name().to_owned();
        let text = format!("{origin}\n{size}\n{root}\n");
        let line = key.signature_line(text.as_bytes());
        Self {
            origin,
            size,
            root,
            note: format!("{text}\n{line}"),
        }
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// How many records it covers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root hash of the tree over these records.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The signed note, as it is in the file `checkpoint`.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_checkpoint_verifies_and_has_the_exact_form() {
        let key = LogKey::generate("example.com/log").unwrap();
        let root = Hash::of_leaf(b"a");
        let made = Checkpoint::sign(7, root, &key);
        assert!(
            made.note()
                .starts_with(&format!("example.com/log\n7\n{root}\n\n— example.com/log "))
        );
        assert_eq!(
            Checkpoint::verify(made.note(), key.verifier()),
            Ok(made.clone())
        );
        let forged = made.note().replacen("\n7\n", "\n8\n", 1);
        assert!(matches!(
            Checkpoint::verify(&forged, key.verifier()),
            Err(NoteError::Forged(_))
        ));
        let other = LogKey::generate("example.com/log").unwrap();
        assert!(matches!(
            Checkpoint::verify(made.note(), other.verifier()),
            Err(NoteError::NotSigned(_))
        ));
    }

    /// The example of tlog-checkpoint, with and without a witness's cosignature and an extension.
    #[test]
    fn the_example_of_the_standard_is_read() {
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let lines = "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
            — witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        for extension in ["", "an extension\n"] {
            let read = Checkpoint::parse(&format!("{text}{extension}{lines}")).unwrap();
            assert_eq!(
                (read.origin(), read.size()),
                ("example.com/behind-the-sofa", 20_852_163)
            );
        }
        for bad in [
            text.replace("20852163", "020852163"),
            text.replace("20852163", "+20852163"),
            text.replace("CsUY", "csUYAA"),
            text.replace("20852163\n", "20852163\n\n"),
            text.lines()
                .take(2)
                .map(|line| format!("{line}\n"))
                .collect(),
        ] {
            let read = Checkpoint::parse(&format!("{bad}{lines}"));
            assert!(matches!(read, Err(NoteError::NotACheckpoint(_))), "{bad}");
        }
    }
}
