//! A card, looked at before anybody reads it: agents show what it says to their models.

use model::Denial;
use serde_json::{Map, Value};

use super::Card;

/// Looks at a document of this name. Returns what passes in its place, if something does, or the denial
/// when it must not pass.
pub type Look<'a> = &'a mut dyn FnMut(&str, &[u8]) -> Result<Option<Vec<u8>>, Denial>;

/// What findings call the card itself.
const CARD: &str = "agent-card";

impl Card {
    /// The card with those skills that `may` says and whose descriptions pass. What is taken out of it is
    /// taken out before it is signed.
    ///
    /// # Errors
    /// The denial when what it says of itself must not pass.
    pub fn looked_at(&self, may: impl Fn(&str) -> bool, look: Look<'_>) -> Result<Self, Denial> {
        let mut card = self.clone();
        let skills = card.taken.shift_remove("skills");
        let mut said = std::mem::take(&mut card.taken);
        let extensions = std::mem::take(&mut card.extensions);
        said.insert("extensions".to_owned(), extensions.into());
        if let Some(Value::Object(other)) = changed(look, CARD, &Value::Object(said.clone()))? {
            said = other;
        }
        card.extensions = match said.shift_remove("extensions") {
            Some(Value::Array(extensions)) => extensions,
            _ => Vec::new(),
        };
        let mut kept = Vec::new();
        let skills = skills.as_ref().and_then(Value::as_array);
        for skill in skills.into_iter().flatten() {
            let id = skill.get("id").and_then(Value::as_str).unwrap_or_default();
            if !may(id) {
                continue;
            }
            match changed(look, id, skill) {
                Ok(None) => kept.push(skill.clone()),
                // Under another id it could not be asked for.
                Ok(Some(other)) if other.get("id") == skill.get("id") => kept.push(other),
                Ok(Some(_)) | Err(_) => {}
            }
        }
        said.insert("skills".to_owned(), kept.into());
        card.taken = said;
        Ok(card)
    }
}

fn changed(look: Look<'_>, target: &str, said: &Value) -> Result<Option<Value>, Denial> {
    let text = said.to_string();
    let other = look(target, text.as_bytes())?;
    // What is taken out of JSON leaves JSON; should it not, nothing is left.
    let read =
        |text: Vec<u8>| serde_json::from_slice(&text).unwrap_or_else(|_| Value::Object(Map::new()));
    Ok(other.map(read))
}
