//! The lexical rules of PostgreSQL (manual §4.1), as its own scanner has them.
//!
//! Where a comment, a string or an operator ends decides what a statement says. If the parser here and
//! the database saw that differently, a statement could hide from the one what it says to the other. So
//! the text is taken apart here by the database's rules, and the parser gets a text in which nothing is
//! left to interpret: comments are gone, every constant is `'?'` or `0`, and tokens stand apart. What is
//! not lexed without doubt is refused.

use std::fmt::Write as _;

mod constants;
mod values;

use constants::Quoted;
pub use values::Values;

/// Longest identifier, in bytes; PostgreSQL cuts off longer ones (`NAMEDATALEN` - 1).
pub const IDENTIFIER_BYTES: usize = 63;
/// Most operators that may follow one another without a comma or the end of parentheses: the depth of
/// the expression that comes of them.
const CHAIN: usize = 400;
/// Deepest parentheses and brackets.
const DEPTH: usize = 48;
/// Most statements in one text.
const STATEMENTS: usize = 64;

/// One statement of a text, with what the parser is given for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lexed {
    /// The statement without comments, and with `'?'` and `0` for its constants.
    pub shape: String,
    /// The contents of its string constants, for the few statements that are decided on them: those that
    /// begin with `SET` or `RESET`.
    pub strings: Vec<String>,
    /// Its constants, where they were asked for: see [`lex_with_values`].
    pub values: Option<Values>,
}

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LexicalError {
    /// A comment, a constant or an identifier does not end.
    #[error("{0} does not end")]
    Unterminated(&'static str),
    /// Something that is not understood beyond doubt.
    #[error("{0}")]
    Refused(&'static str),
    /// The text is more complex than the limits allow.
    #[error("the statement is too complex: more than {0} {1}")]
    TooComplex(usize, &'static str),
}

/// Operators that are known; others may be anything.
const OPERATORS: [&str; 46] = [
    "+", "-", "*", "/", "%", "^", "<", ">", "=", "<=", ">=", "<>", "!=", "||", "~", "~*", "!~",
    "!~*", "~~", "~~*", "!~~", "!~~*", "&", "|", "#", "<<", ">>", "->", "->>", "#>", "#>>", "@>",
    "<@", "?", "?|", "?&", "&&", "@@", "-|-", "&<", "&>", "=>", "|/", "@", "@?", "#-",
];

/// Takes a text apart into its statements; empty ones are left out.
///
/// # Errors
/// [`LexicalError`]
pub fn lex(text: &str) -> Result<Vec<Lexed>, LexicalError> {
    taken_apart(text, None)
}

/// The same, keeping what the constants say.
///
/// # Errors
/// [`LexicalError`]
pub fn lex_with_values(text: &str) -> Result<Vec<Lexed>, LexicalError> {
    taken_apart(text, Some(Values::default()))
}

fn taken_apart(text: &str, values: Option<Values>) -> Result<Vec<Lexed>, LexicalError> {
    let mut lexer = Lexer {
        rest: text,
        done: Vec::new(),
        shape: String::with_capacity(text.len().min(4096)),
        strings: Vec::new(),
        keeps_strings: false,
        values,
        chains: vec![0],
        chained: 0,
    };
    lexer.run()?;
    Ok(lexer.done)
}

struct Lexer<'a> {
    rest: &'a str,
    done: Vec<Lexed>,
    shape: String,
    strings: Vec<String>,
    keeps_strings: bool,
    /// Those of the statement so far, where they are asked for.
    values: Option<Values>,
    /// Operators in a row, for each open parenthesis.
    chains: Vec<usize>,
    /// Their sum.
    chained: usize,
}

impl<'a> Lexer<'a> {
    fn run(&mut self) -> Result<(), LexicalError> {
        while let Some(first) = self.rest.bytes().next() {
            match first {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.skip(1),
                b'-' if self.rest.starts_with("--") => self.line_comment(),
                b'/' if self.rest.starts_with("/*") => self.block_comment()?,
                b'\'' => self.quoted(Quoted::Plain)?,
                b'"' => self.quoted_identifier()?,
                b'$' => self.dollar()?,
                b'0'..=b'9' => self.number()?,
                b'.' if self.rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => {
                    self.number()?;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => self.word()?,
                b'(' | b'[' => {
                    if self.chains.len() > DEPTH {
                        return Err(LexicalError::TooComplex(DEPTH, "open parentheses"));
                    }
                    self.chains.push(0);
                    self.single();
                }
                b')' | b']' => {
                    match self.chains.pop() {
                        Some(chain) if !self.chains.is_empty() => self.chained -= chain,
                        _ => return Err(LexicalError::Refused("a parenthesis was never opened")),
                    }
                    self.single();
                }
                b',' => {
                    if let Some(chain) = self.chains.last_mut() {
                        self.chained -= std::mem::take(chain);
                    }
                    self.single();
                }
                b'.' => {
                    if self.rest.starts_with("..") {
                        return Err(LexicalError::Refused("`..` is not understood"));
                    }
                    self.single();
                }
                b':' if self.rest.starts_with("::") => {
                    self.chain()?;
                    self.push("::");
                    self.skip(2);
                }
                b':' if self.rest.starts_with(":=") => {
                    return Err(LexicalError::Refused("write `=>` for `:=`"));
                }
                b':' => self.single(),
                b';' => {
                    if self.chains.len() > 1 {
                        return Err(LexicalError::Refused("a `;` within parentheses"));
                    }
                    self.skip(1);
                    self.end()?;
                }
                b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#'
                | b'%' | b'^' | b'&' | b'|' | b'`' | b'?' => self.operator()?,
                _ => return Err(LexicalError::Refused("a character that SQL does not use")),
            }
        }
        if self.chains.len() > 1 {
            return Err(LexicalError::Unterminated("a parenthesis"));
        }
        self.end()
    }

    /// Ends a statement.
    fn end(&mut self) -> Result<(), LexicalError> {
        self.chains = vec![0];
        self.chained = 0;
        self.keeps_strings = false;
        let strings = std::mem::take(&mut self.strings);
        if self.shape.is_empty() {
            return Ok(());
        }
        if self.done.len() == STATEMENTS {
            return Err(LexicalError::TooComplex(STATEMENTS, "statements at once"));
        }
        let shape = std::mem::take(&mut self.shape);
        let values = self.values.as_mut().map(std::mem::take);
        self.done.push(Lexed {
            shape,
            strings,
            values,
        });
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    fn push(&mut self, token: &str) {
        if !self.shape.is_empty() {
            self.shape.push(' ');
        }
        self.shape.push_str(token);
        if let Some(values) = &mut self.values {
            values.push(token);
        }
    }

    /// The same for what stands for a constant.
    fn push_constant(&mut self, token: &str, says: Option<String>) {
        if !self.shape.is_empty() {
            self.shape.push(' ');
        }
        self.shape.push_str(token);
        if let Some(values) = &mut self.values {
            values.constant(says, token.starts_with('\''));
        }
    }

    fn single(&mut self) {
        let (token, rest) = self.rest.split_at(1);
        self.push(token);
        self.rest = rest;
    }

    /// Counts one more operator in a row.
    fn chain(&mut self) -> Result<(), LexicalError> {
        if let Some(chain) = self.chains.last_mut() {
            *chain += 1;
        }
        self.chained += 1;
        if self.chained > CHAIN {
            return Err(LexicalError::TooComplex(
                CHAIN,
                "operators in one expression",
            ));
        }
        Ok(())
    }

    fn line_comment(&mut self) {
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        self.skip(end);
    }

    /// Comments nest (§4.1.5).
    fn block_comment(&mut self) -> Result<(), LexicalError> {
        let bytes = self.rest.as_bytes();
        let (mut depth, mut at) = (0_usize, 0);
        loop {
            match (bytes.get(at), bytes.get(at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                (Some(_), _) => at += 1,
                (None, _) => return Err(LexicalError::Unterminated("a comment")),
            }
        }
        self.skip(at);
        Ok(())
    }

    fn word(&mut self) -> Result<(), LexicalError> {
        let length = self.rest.bytes().take_while(|b| is_word(*b)).count();
        let (word, rest) = self.rest.split_at(length);
        let prefixes = word.len() == 1 && rest.starts_with('\'');
        if prefixes {
            match word {
                "e" | "E" => {
                    self.rest = rest;
                    return self.quoted(Quoted::Escapes);
                }
                "b" | "B" | "x" | "X" => {
                    self.rest = rest;
                    return self.quoted(Quoted::Bits);
                }
                "n" | "N" => {
                    self.rest = rest;
                    return self.quoted(Quoted::Plain);
                }
                _ => {
                    return Err(LexicalError::Refused(
                        "a prefix of a string is not understood",
                    ));
                }
            }
        }
        if matches!(word, "u" | "U") && rest.starts_with('&') {
            let quoted = rest.get(1..).is_some_and(|r| r.starts_with(['"', '\'']));
            if quoted {
                return Err(LexicalError::Refused(
                    "Unicode escapes (`U&`) are not taken: write the characters themselves",
                ));
            }
        }
        if word.len() > IDENTIFIER_BYTES {
            return Err(LexicalError::Refused("an identifier of more than 63 bytes"));
        }
        if self.shape.is_empty() {
            self.keeps_strings =
                word.eq_ignore_ascii_case("set") || word.eq_ignore_ascii_case("reset");
        }
        const CHAINING: [&str; 16] = [
            "and",
            "or",
            "not",
            "union",
            "intersect",
            "except",
            "is",
            "isnull",
            "notnull",
            "like",
            "ilike",
            "in",
            "between",
            "collate",
            "at",
            "similar",
        ];
        if CHAINING
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
        {
            self.chain()?;
        }
        self.push(word);
        self.rest = rest;
        Ok(())
    }

    /// The longest operator, by the rules of §4.1.3.
    fn operator(&mut self) -> Result<(), LexicalError> {
        let run = self
            .rest
            .bytes()
            .take_while(|b| b"+-*/<>=~!@#%^&|`?".contains(b));
        let mut token = self.rest.get(..run.count()).unwrap_or("");
        for comment in ["--", "/*"] {
            if let Some(at) = token.find(comment) {
                token = token.get(..at).unwrap_or("");
            }
        }
        if token.len() > 1 && !token.bytes().any(|b| b"~!@#%^&|`?".contains(&b)) {
            while token.len() > 1 && token.ends_with(['+', '-']) {
                token = token.get(..token.len() - 1).unwrap_or("");
            }
        }
        if !OPERATORS.contains(&token) {
            return Err(LexicalError::Refused("an operator that is not known here"));
        }
        self.chain()?;
        self.push(token);
        self.skip(token.len());
        Ok(())
    }
}

/// Whether a byte may go on an identifier.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// The text of a shape without trailing spaces, cut to a length, for messages.
#[must_use]
pub fn excerpt(shape: &str) -> String {
    let mut text = String::new();
    for (at, c) in shape.chars().enumerate() {
        if at == 80 {
            text.push('…');
            break;
        }
        let _ = text.write_char(c);
    }
    text
}

#[cfg(test)]
mod tests;
