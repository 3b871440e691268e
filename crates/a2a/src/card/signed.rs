//! Signatures of cards (1.0, §8.4): JWS beside the card in the canonical form of RFC 8785.
//!
//! What exactly is signed is read differently. The specification keeps required members that are
//! empty, the official SDK drops them; and readers of 0.3 sign that revision's form of the card. A card
//! may have several signatures, and one that verifies is enough, so there is one for each reading.

use identity::{DocumentType, KeyRing, PublicKey, SigningFailed};
use serde_json::{Map, Value, json};

/// The members of a card of 1.0 (§4.4.1).
const MEMBERS: [&str; 13] = [
    "name",
    "description",
    "supportedInterfaces",
    "provider",
    "version",
    "documentationUrl",
    "capabilities",
    "securitySchemes",
    "securityRequirements",
    "defaultInputModes",
    "defaultOutputModes",
    "skills",
    "iconUrl",
];

/// Signs a card in its forms, and puts the forms together: readers of each revision see theirs.
pub(super) fn sign(
    new: Map<String, Value>,
    old: Option<Map<String, Value>>,
    keys: &KeyRing,
    jku: &str,
) -> Result<Map<String, Value>, SigningFailed> {
    let mut readings = vec![canonical(&Value::Object(new.clone()))];
    readings.push(canonical(&without_empty(&Value::Object(new.clone()))));
    if let Some(old) = &old {
        let all = without_empty(&Value::Object(old.clone()));
        let text = canonical(&without_defaults(all.clone()));
        readings.extend([canonical(&all), ascii(&text), text]);
    }
    readings.sort_unstable();
    readings.dedup();
    let mut signatures = Vec::with_capacity(readings.len());
    for reading in readings {
        let signed = keys.sign_document(DocumentType::Jose, &[("jku", jku)], &reading)?;
        signatures.push(json!({
            "protected": signed.protected, "signature": signed.signature,
        }));
    }
    let mut card = new;
    if let Some(old) = old {
        merge(&mut card, old);
    }
    card.insert("signatures".to_owned(), signatures.into());
    Ok(card)
}

/// A card of 0.3 without what that revision's SDK takes for granted.
fn without_defaults(mut card: Value) -> Value {
    if let Value::Object(card) = &mut card {
        for name in ["preferredTransport", "protocolVersion"] {
            card.remove(name);
        }
        if let Some(Value::Object(schemes)) = card.get_mut("securitySchemes") {
            for scheme in schemes.values_mut().filter_map(Value::as_object_mut) {
                scheme.remove("type");
            }
        }
    }
    card
}

/// The same JSON in ASCII, as that SDK writes it.
fn ascii(text: &[u8]) -> Vec<u8> {
    let mut ascii = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        if character.is_ascii() {
            ascii.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            ascii.push_str(&format!("\\u{unit:04x}"));
        }
    }
    ascii.into_bytes()
}

/// Adds what is not there.
fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name, value);
            }
        }
    }
}

/// The form of RFC 8785.
fn canonical(card: &Value) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(card).unwrap_or_default()
}

/// Without empty texts, lists and objects, at any depth.
fn without_empty(value: &Value) -> Value {
    fn kept(value: &Value) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::String(text) if text.is_empty() => None,
            Value::Array(items) => {
                let items: Vec<Value> = items.iter().filter_map(kept).collect();
                (!items.is_empty()).then(|| items.into())
            }
            Value::Object(members) => {
                let members: Map<String, Value> = members
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), kept(value)?)))
                    .collect();
                (!members.is_empty()).then(|| members.into())
            }
            other => Some(other.clone()),
        }
    }
    kept(value).unwrap_or_else(|| Value::Object(Map::new()))
}

/// What of a card one of the keys has signed; `None` when that is nothing.
pub(super) fn verified(
    mut card: Map<String, Value>,
    keys: &[PublicKey],
) -> Option<Map<String, Value>> {
    let Some(Value::Array(signatures)) = card.remove("signatures") else {
        return None;
    };
    let mut new = card.clone();
    new.retain(|name, _| MEMBERS.contains(&name.as_str()));
    let new = Value::Object(new);
    let all = Value::Object(card);
    // As it stands, as the specification has it, and as the official SDK writes it down, which leaves
    // out what belongs to the form of 0.3.
    let stripped = without_legacy(&new);
    let readings = [
        without_empty(&all),
        all,
        without_empty(&new),
        new,
        without_empty(&stripped),
        stripped,
    ];
    for reading in readings {
        let text = canonical(&reading);
        let signed = signatures.iter().take(16).any(|signature| {
            let part = |name| signature.get(name).and_then(Value::as_str);
            let (Some(protected), Some(signature)) = (part("protected"), part("signature")) else {
                return false;
            };
            keys.iter()
                .any(|key| key.verifies_detached(protected, &text, signature))
        });
        if let (true, Value::Object(reading)) = (signed, reading) {
            return Some(reading);
        }
    }
    None
}

/// Security schemes and requirements without the members that 0.3 has for them: a card of both
/// revisions has both, side by side.
fn without_legacy(card: &Value) -> Value {
    const SCHEMES: [&str; 5] = [
        "apiKeySecurityScheme",
        "httpAuthSecurityScheme",
        "oauth2SecurityScheme",
        "openIdConnectSecurityScheme",
        "mtlsSecurityScheme",
    ];
    let mut card = card.clone();
    if let Some(Value::Object(schemes)) = card.get_mut("securitySchemes") {
        for scheme in schemes.values_mut().filter_map(Value::as_object_mut) {
            scheme.retain(|name, _| SCHEMES.contains(&name.as_str()));
        }
    }
    if let Some(Value::Object(capabilities)) = card.get_mut("capabilities") {
        capabilities.remove("stateTransitionHistory");
    }
    if let Some(Value::Array(skills)) = card.get_mut("skills") {
        for skill in skills.iter_mut().filter_map(Value::as_object_mut) {
            skill.remove("security");
        }
    }
    card
}
