//! Constants, quoted identifiers and parameters.

use super::{IDENTIFIER_BYTES, Lexer, LexicalError, is_word, values};

/// The kinds of quoted constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoted {
    /// Every character stands for itself.
    Plain,
    /// With the backslash escapes of `E''`.
    Escapes,
    /// A string of bits.
    Bits,
}

impl Lexer<'_> {
    /// A string constant.
    pub(super) fn quoted(&mut self, kind: Quoted) -> Result<(), LexicalError> {
        let escapes = kind == Quoted::Escapes;
        let bytes = self.rest.as_bytes();
        let mut at = 1;
        loop {
            match bytes.get(at) {
                Some(b'\'') if bytes.get(at + 1) == Some(&b'\'') => at += 2,
                Some(b'\'') => break,
                Some(b'\\') if escapes => at += 2,
                Some(_) => at += 1,
                None => return Err(LexicalError::Unterminated("a string")),
            }
        }
        if self.keeps_strings && !escapes {
            let content = self.rest.get(1..at).unwrap_or("");
            self.strings.push(content.replace("''", "'"));
        } else if self.keeps_strings {
            return Err(LexicalError::Refused("escapes in the value of a setting"));
        }
        let says = self.values.is_some().then(|| {
            let content = self.rest.get(1..at).unwrap_or("");
            match kind {
                Quoted::Plain => Some(content.replace("''", "'")),
                Quoted::Escapes => values::unescaped(content),
                Quoted::Bits => None,
            }
        });
        self.skip(at + 1);
        self.constant(says.flatten())
    }

    /// Ends a string constant. Constants that only a line break and comments part are one, with the
    /// escapes of the first (§4.1.2.1); nothing else may have one string right behind another.
    fn constant(&mut self, says: Option<String>) -> Result<(), LexicalError> {
        if self.shape.ends_with("'?'") {
            return Err(LexicalError::Refused(
                "write a string constant in one piece, not continued behind a line break",
            ));
        }
        self.push_constant("'?'", says);
        Ok(())
    }

    pub(super) fn quoted_identifier(&mut self) -> Result<(), LexicalError> {
        let bytes = self.rest.as_bytes();
        let mut at = 1;
        loop {
            match bytes.get(at) {
                Some(b'"') if bytes.get(at + 1) == Some(&b'"') => at += 2,
                Some(b'"') => break,
                Some(b'\\') => {
                    return Err(LexicalError::Refused("a backslash in a quoted identifier"));
                }
                Some(byte) if byte.is_ascii_control() => {
                    return Err(LexicalError::Refused(
                        "a control character in a quoted identifier",
                    ));
                }
                Some(_) => at += 1,
                None => return Err(LexicalError::Unterminated("a quoted identifier")),
            }
        }
        if at == 1 {
            return Err(LexicalError::Refused("an empty identifier"));
        }
        if at - 1 > IDENTIFIER_BYTES {
            return Err(LexicalError::Refused("an identifier of more than 63 bytes"));
        }
        let (token, rest) = self.rest.split_at(at + 1);
        self.push(token);
        self.rest = rest;
        Ok(())
    }

    /// A parameter `$1` or a dollar-quoted string (§4.1.2.4).
    pub(super) fn dollar(&mut self) -> Result<(), LexicalError> {
        let after = self.rest.get(1..).unwrap_or("");
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            if digits > 5 || after.as_bytes().get(digits).is_some_and(|b| is_word(*b)) {
                return Err(LexicalError::Refused(
                    "a parameter's number is not understood",
                ));
            }
            let (token, rest) = self.rest.split_at(1 + digits);
            self.push(token);
            self.rest = rest;
            return Ok(());
        }
        let tag = after
            .bytes()
            .take_while(|b| is_word(*b) && *b != b'$')
            .count();
        if after.as_bytes().get(tag) != Some(&b'$') {
            return Err(LexicalError::Refused("a `$` that begins nothing"));
        }
        if self.keeps_strings {
            return Err(LexicalError::Refused(
                "dollar quotes in the value of a setting",
            ));
        }
        let delimiter = self.rest.get(..tag + 2).unwrap_or("");
        let body = self.rest.get(tag + 2..).unwrap_or("");
        match body.find(delimiter) {
            Some(end) => {
                let says = self
                    .values
                    .is_some()
                    .then(|| body.get(..end).unwrap_or("").to_owned());
                self.rest = body.get(end + delimiter.len()..).unwrap_or("");
                self.constant(says)
            }
            None => Err(LexicalError::Unterminated("a dollar-quoted string")),
        }
    }

    pub(super) fn number(&mut self) -> Result<(), LexicalError> {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            rest.iter().take_while(|b| b.is_ascii_digit()).count()
        };
        let mut at = digits(0);
        if bytes.get(at) == Some(&b'.') {
            at += 1 + digits(at + 1);
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let exponent = digits(at + 1 + sign);
            if exponent == 0 {
                return Err(LexicalError::Refused("a number is not understood"));
            }
            at += 1 + sign + exponent;
        }
        // `0x1f`, `1_000`, `1a` and `1..2` mean different things to different versions.
        if bytes.get(at).is_some_and(|b| is_word(*b) || *b == b'.') {
            return Err(LexicalError::Refused("a number is not understood"));
        }
        let says = self
            .values
            .is_some()
            .then(|| self.rest.get(..at).unwrap_or("").to_owned());
        self.skip(at);
        self.push_constant("0", says);
        Ok(())
    }
}
