//! Queries that everyone reads in the same way.

use serde_json::{Map, Value};

/// Most parameters.
const PARAMETERS: usize = 256;

/// Why a query or a form could be read in two ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// `;` separates parameters for some servers.
    #[error("it has a `;`, which some servers take for a separator: encode it as `%3B`")]
    Semicolon,
    /// Too many parameters.
    #[error("it has more than {PARAMETERS} parameters")]
    Many,
    /// A parameter without a name, or an empty one between two `&`.
    #[error("it has a parameter without a name")]
    Unnamed,
    /// A `%` without two digits of hexadecimal, or bytes that are no UTF-8.
    #[error("it has a broken percent-encoding")]
    Encoding,
    /// A control character.
    #[error("it has a control character")]
    Control,
}

/// The parameters of a query, or of a form (`application/x-www-form-urlencoded`), each under its name
/// behind the prefix. One that occurs several times is an array, so that a constraint holds for each.
///
/// # Errors
/// [`Ambiguous`]
pub fn parameters(
    text: &str,
    prefix: &str,
    into: &mut Map<String, Value>,
) -> Result<(), Ambiguous> {
    if text.is_empty() {
        return Ok(());
    }
    if text.contains(';') {
        return Err(Ambiguous::Semicolon);
    }
    for (count, pair) in text.split('&').enumerate() {
        if count >= PARAMETERS {
            return Err(Ambiguous::Many);
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        if name.is_empty() {
            return Err(Ambiguous::Unnamed);
        }
        let value = Value::String(value);
        match into.get_mut(&format!("{prefix}{name}")) {
            None => drop(into.insert(format!("{prefix}{name}"), value)),
            Some(Value::Array(all)) => all.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, Ambiguous> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let [Some(high), Some(low)] = digits.map(|digit| {
                    let digit = char::from(digit?).to_digit(16)?;
                    u8::try_from(digit).ok()
                }) else {
                    return Err(Ambiguous::Encoding);
                };
                high << 4 | low
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    let text = String::from_utf8(decoded).map_err(|_| Ambiguous::Encoding)?;
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(Ambiguous::Control);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, Ambiguous> {
        let mut all = Map::new();
        parameters(text, "query.", &mut all)?;
        Ok(Value::Object(all))
    }

    #[test]
    fn parameters_are_read_and_repeated_ones_are_arrays() {
        assert_eq!(read(""), Ok(json!({})));
        assert_eq!(
            read("a=1&b=x%20y+z&c&a=2&a=3"),
            Ok(json!({"query.a": ["1", "2", "3"], "query.b": "x y z", "query.c": ""}))
        );
    }

    #[test]
    fn what_two_could_read_differently_is_refused() {
        for (text, why) in [
            ("a=1;b=2", Ambiguous::Semicolon),
            ("=1", Ambiguous::Unnamed),
            ("a=1&&b=2", Ambiguous::Unnamed),
            ("a=%", Ambiguous::Encoding),
            ("a=%G1", Ambiguous::Encoding),
            ("a=%FF", Ambiguous::Encoding),
            ("a=%00", Ambiguous::Control),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
        let many = vec!["a=1"; PARAMETERS + 1].join("&");
        assert_eq!(read(&many), Err(Ambiguous::Many));
    }
}
