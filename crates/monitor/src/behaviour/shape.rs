//! The shape of arguments: their names and types and about how large they are, never what they say.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Most members and items that a shape looks at.
const PARTS: usize = 256;
/// Deepest nesting that a shape looks at.
const DEEPEST: usize = 8;

/// A number for the shape of arguments. Equal shapes have equal numbers.
#[must_use]
pub(super) fn shape(arguments: &Value) -> u64 {
    let mut text = String::new();
    let mut left = PARTS;
    describe(arguments, 0, &mut left, &mut text);
    digest(&text)
}

/// A number for a text, the same in every process.
#[must_use]
pub(super) fn digest(text: &str) -> u64 {
    let hash = Sha256::digest(text.as_bytes());
    let mut first = [0u8; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first)
}

fn describe(value: &Value, depth: usize, left: &mut usize, out: &mut String) {
    if *left == 0 || depth > DEEPEST {
        out.push('…');
        return;
    }
    *left -= 1;
    match value {
        Value::Null => out.push('0'),
        Value::Bool(_) => out.push('b'),
        Value::Number(_) => out.push('n'),
        Value::String(text) => out.push_str(match text.len() {
            0..=256 => "s",
            257..=4_096 => "t",
            _ => "T",
        }),
        Value::Array(items) => {
            out.push('[');
            if let Some(first) = items.first() {
                describe(first, depth + 1, left, out);
            }
            out.push_str(if items.len() > 64 { "+]" } else { "]" });
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in sorted.into_iter().take(PARTS) {
                out.push_str(name);
                out.push(':');
                describe(value, depth + 1, left, out);
                out.push(',');
            }
            out.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contents_do_not_matter_and_names_do() {
        assert_eq!(
            shape(&json!({"a": "x", "b": [1]})),
            shape(&json!({"b": [2, 3], "a": "y"}))
        );
        assert_ne!(
            shape(&json!({"a": "x"})),
            shape(&json!({"a": "x", "bcc": "y"}))
        );
        assert_ne!(
            shape(&json!({"a": "x"})),
            shape(&json!({"a": "x".repeat(500)}))
        );
    }
}
