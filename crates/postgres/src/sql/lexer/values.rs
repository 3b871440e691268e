//! What the constants of a statement say, where that is asked.

use std::fmt::Write as _;

/// A statement in which each constant is its own number, and what those constants say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// The statement's shape with the number of each constant in its place: `'0'` for the first if it is a
    /// string, `1` for the second if it is a number. So a tree that is made of it says which constant
    /// stands where.
    pub numbered: String,
    /// The constants in their order; `None` for what cannot be read as text.
    pub constants: Vec<Option<String>>,
}

impl Values {
    pub(super) fn push(&mut self, token: &str) {
        if !self.numbered.is_empty() {
            self.numbered.push(' ');
        }
        self.numbered.push_str(token);
    }

    pub(super) fn constant(&mut self, says: Option<String>, is_string: bool) {
        if !self.numbered.is_empty() {
            self.numbered.push(' ');
        }
        let number = self.constants.len();
        let _ = match is_string {
            true => write!(self.numbered, "'{number}'"),
            false => write!(self.numbered, "{number}"),
        };
        self.constants.push(says);
    }
}

/// What an `E''` constant says (§4.1.2.2); `None` when that is no text.
pub(super) fn unescaped(content: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(content.len());
    let mut rest = content;
    // The first half of a character beyond the basic plane.
    let mut high: Option<u32> = None;
    while let Some(c) = take(&mut rest) {
        let whole = match c {
            // It is doubled.
            '\'' => {
                take(&mut rest);
                c
            }
            '\\' => match take(&mut rest)? {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                digit @ '0'..='7' => {
                    let first = digit.to_digit(8)?;
                    let (more, count) = digits(&mut rest, 2, 8);
                    let value = (first << (3 * count)) | more;
                    // One byte, of which the database takes the lower eight bits.
                    bytes.push(u8::try_from(value & 0xff).ok()?);
                    continue;
                }
                'x' => {
                    let (value, count) = digits(&mut rest, 2, 16);
                    if count == 0 {
                        'x'
                    } else {
                        bytes.push(u8::try_from(value).ok()?);
                        continue;
                    }
                }
                unit @ ('u' | 'U') => {
                    let wanted = if unit == 'u' { 4 } else { 8 };
                    let (value, count) = digits(&mut rest, wanted, 16);
                    if count != wanted {
                        return None;
                    }
                    match (value, high.take()) {
                        (0xd800..=0xdbff, None) => {
                            high = Some(value);
                            continue;
                        }
                        (0xdc00..=0xdfff, Some(high)) => {
                            char::from_u32(0x10000 + ((high - 0xd800) << 10) + (value - 0xdc00))?
                        }
                        (value, None) => char::from_u32(value)?,
                        (_, Some(_)) => return None,
                    }
                }
                other => other,
            },
            c => c,
        };
        if high.is_some() {
            return None;
        }
        bytes.extend_from_slice(whole.encode_utf8(&mut [0; 4]).as_bytes());
    }
    match high {
        None => String::from_utf8(bytes).ok(),
        Some(_) => None,
    }
}

fn take(rest: &mut &str) -> Option<char> {
    let mut chars = rest.chars();
    let first = chars.next();
    *rest = chars.as_str();
    first
}

/// Up to so many digits: their value, and how many there were.
fn digits(rest: &mut &str, most: usize, radix: u32) -> (u32, usize) {
    let (mut value, mut count) = (0_u32, 0);
    while count < most
        && let Some(digit) = rest.chars().next().and_then(|c| c.to_digit(radix))
    {
        value = value.wrapping_mul(radix).wrapping_add(digit);
        count += 1;
        take(rest);
    }
    (value, count)
}

#[cfg(test)]
mod tests {
    use super::super::{lex, lex_with_values};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constants_are_numbered_and_kept() {
        let text =
            r"SELECT 'it''s', E'a\tb\'c\x41\101\u00e9', $x$d'$x$, 1.5e3, X'1f', N'n' -- 'no'";
        let lexed = lex_with_values(text).unwrap();
        let values = lexed[0].values.as_ref().unwrap();
        assert_eq!(values.numbered, "SELECT '0' , '1' , '2' , 3 , '4' , '5'");
        let says: Vec<_> = values.constants.iter().map(Option::as_deref).collect();
        assert_eq!(
            says,
            [
                Some("it's"),
                Some("a\tb'cAAé"),
                Some("d'"),
                Some("1.5e3"),
                None,
                Some("n")
            ]
        );
    }

    #[test]
    fn escapes_are_read_as_the_database_reads_them() {
        for (written, says) in [
            (r"\\", Some("\\")),
            (r"a\z''b", Some("az'b")),
            (r"\U0001F600", Some("😀")),
            (r"\ud83d\ude00", Some("😀")),
            (r"\xc3\xa9", Some("é")),
            (r"\xff", None),
            (r"\u12", None),
            (r"\ud83dx", None),
            (r"\ude00", None),
            (r"\1234", Some("S4")),
        ] {
            assert_eq!(unescaped(written).as_deref(), says, "{written}");
        }
    }

    proptest! {
        #[test]
        fn keeping_values_changes_nothing_else(text in "[a-z0-9'$\\\\ ,.()=E\n-]{0,40}") {
            let plain = lex(&text);
            let kept = lex_with_values(&text);
            prop_assert_eq!(plain.is_ok(), kept.is_ok());
            if let (Ok(plain), Ok(kept)) = (plain, kept) {
                for (one, other) in plain.iter().zip(&kept) {
                    prop_assert_eq!(&one.shape, &other.shape);
                    let values = other.values.as_ref().unwrap();
                    let constants = one.shape.split(' ').filter(|t| *t == "'?'" || *t == "0");
                    prop_assert_eq!(constants.count(), values.constants.len());
                }
            }
        }
    }
}
