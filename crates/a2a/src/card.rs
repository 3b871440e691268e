//! Agent cards: what of the other agent's card is taken over, and what the gateway says instead.
//! Pure.
//!
//! A card is built anew from what is known to be harmless; everything else of the upstream's, its URLs
//! and its security schemes above all, stays behind.

use std::collections::BTreeSet;

use identity::{KeyRing, PublicKey, SigningFailed};
use serde_json::{Map, Value, json};

use crate::method::Dialect;

mod looked_at;
mod signed;

pub use looked_at::Look;

/// Most skills of a card.
const SKILLS: usize = 512;

/// What of a card is taken over, besides its skills.
const TAKEN: [&str; 9] = [
    "name",
    "description",
    "version",
    "provider",
    "documentationUrl",
    "iconUrl",
    "defaultInputModes",
    "defaultOutputModes",
    "skills",
];
/// What of a skill is taken over.
const SKILL: [&str; 7] = [
    "id",
    "name",
    "description",
    "tags",
    "examples",
    "inputModes",
    "outputModes",
];

/// What a card says of the other agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// What is taken over.
    taken: Map<String, Value>,
    /// The extensions that are taken over: those that the configuration lists.
    extensions: Vec<Value>,
    /// The skills that it declares.
    pub skills: Vec<String>,
    /// The path of its JSON-RPC interface, by dialect.
    rpc: [Option<String>; 2],
    /// The path of its HTTP+JSON interface (1.0).
    rest: Option<String>,
    /// Whether it streams.
    pub streams: bool,
    /// Whether it sends push notifications.
    pub pushes: bool,
}

/// What the gateway says of itself in a card.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The URL that the caller reaches the agent by.
    pub url: &'a str,
    /// The issuer of tokens.
    pub issuer: &'a str,
    /// Whether push notifications are passed on.
    pub pushes: bool,
}

/// Why a card cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable(pub &'static str);

impl Card {
    /// Reads a card. `base` is the path of the configured URL, without a trailing slash: interfaces
    /// are used by their path below it, at the configured host, whatever host the card names. With
    /// `keys`, one of them must have signed it, and only what is signed counts.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn read(
        card: Map<String, Value>,
        base: &str,
        keys: &[PublicKey],
        extensions: &[String],
    ) -> Result<Self, Unusable> {
        let mut card = if keys.is_empty() {
            card
        } else {
            signed::verified(card, keys).ok_or(Unusable(
                "it is not signed by any of the keys that the configuration pins",
            ))?
        };
        let mut read = Self {
            taken: Map::new(),
            extensions: Vec::new(),
            skills: Vec::new(),
            rpc: [None, None],
            rest: None,
            streams: false,
            pushes: false,
        };
        for (binding, version, path) in interfaces(&card, base) {
            let Some(dialect) = Dialect::of_version(&version) else {
                continue;
            };
            match (binding.as_str(), dialect) {
                ("JSONRPC", dialect) => {
                    read.rpc[dialect as usize].get_or_insert(path);
                }
                ("HTTP+JSON", Dialect::V1) => {
                    read.rest.get_or_insert(path);
                }
                // gRPC, and the HTTP+JSON binding of 0.3, are not spoken here.
                _ => {}
            }
        }
        if read.rpc == [None, None] && read.rest.is_none() {
            return Err(Unusable(
                "it names no JSON-RPC or HTTP+JSON interface of 0.3 or 1.0 below the configured URL",
            ));
        }
        if let Some(Value::Object(capabilities)) = card.get("capabilities") {
            read.streams = capabilities.get("streaming") == Some(&Value::Bool(true));
            read.pushes = capabilities.get("pushNotifications") == Some(&Value::Bool(true));
            let offered = capabilities.get("extensions").and_then(Value::as_array);
            read.extensions = offered
                .into_iter()
                .flatten()
                .filter(|one| {
                    let uri = one.get("uri").and_then(Value::as_str);
                    uri.is_some_and(|uri| extensions.iter().any(|listed| listed == uri))
                })
                .map(|one| keep(one, &["uri", "description", "required"]))
                .collect();
        }
        for name in TAKEN {
            if let Some(value) = card.remove(name) {
                read.taken.insert(name.to_owned(), value);
            }
        }
        read.take_skills()?;
        for name in ["provider", "name", "description", "version"] {
            let shape = |value: &Value| match name {
                "provider" => value.is_object(),
                _ => value.is_string(),
            };
            read.taken
                .retain(|member, value| member != name || shape(value));
        }
        if let Some(provider) = read.taken.get_mut("provider") {
            *provider = keep(provider, &["organization", "url"]);
        }
        Ok(read)
    }

    fn take_skills(&mut self) -> Result<(), Unusable> {
        let skills = match self.taken.remove("skills") {
            None => Vec::new(),
            Some(Value::Array(skills)) if skills.len() <= SKILLS => skills,
            Some(_) => return Err(Unusable("its skills are no list, or more than 512")),
        };
        let mut seen = BTreeSet::new();
        let mut kept = Vec::new();
        for skill in &skills {
            let id = skill.get("id").and_then(Value::as_str);
            let Some(id) = id.filter(|id| !id.is_empty() && id.len() <= crate::message::ID_BYTES)
            else {
                return Err(Unusable("one of its skills has no id, or a long one"));
            };
            if !seen.insert(id) {
                return Err(Unusable("two of its skills have the same id"));
            }
            self.skills.push(id.to_owned());
            kept.push(keep(skill, &SKILL));
        }
        self.taken.insert("skills".to_owned(), kept.into());
        Ok(())
    }

    /// The path of the JSON-RPC interface of a dialect.
    #[must_use]
    pub fn rpc(&self, dialect: Dialect) -> Option<&str> {
        self.rpc[dialect as usize].as_deref()
    }

    /// The path of the HTTP+JSON interface.
    #[must_use]
    pub fn rest(&self) -> Option<&str> {
        self.rest.as_deref()
    }

    /// The card that callers get, signed by the token service: once for each way in which readers of the
    /// two revisions write down what is signed. [`Self::looked_at`] comes before.
    ///
    /// # Errors
    /// [`SigningFailed`]
    pub fn rewritten(
        &self,
        offer: &Offer<'_>,
        keys: &KeyRing,
    ) -> Result<Map<String, Value>, SigningFailed> {
        let common = &self.taken;
        let new = self.form_1(offer, common);
        let old = self.form_03(offer, common);
        let jku = format!("{}/oauth/jwks", offer.issuer);
        signed::sign(new, old, keys, &jku)
    }

    /// What is said in 1.0 only, and the rest.
    fn form_1(&self, offer: &Offer<'_>, common: &Map<String, Value>) -> Map<String, Value> {
        let mut card = common.clone();
        let mut interfaces = Vec::new();
        let mut interface = |binding: &str, version: &str| {
            interfaces.push(json!({
                "url": offer.url, "protocolBinding": binding, "protocolVersion": version,
            }));
        };
        for dialect in Dialect::ALL {
            if self.rpc(dialect).is_some() {
                interface("JSONRPC", dialect.version());
            }
        }
        if self.rest.is_some() {
            interface("HTTP+JSON", Dialect::V1.version());
        }
        let mut capabilities = json!({
            "streaming": self.streams,
            "pushNotifications": self.pushes && offer.pushes,
            "extendedAgentCard": true,
        });
        if !self.extensions.is_empty() {
            capabilities["extensions"] = self.extensions.clone().into();
        }
        card.insert("supportedInterfaces".to_owned(), interfaces.into());
        card.insert("capabilities".to_owned(), capabilities);
        card.insert(
            "securitySchemes".to_owned(),
            json!({ "sallyport": { "oauth2SecurityScheme": {
                "description": SCHEME,
                "flows": flows(offer),
                "oauth2MetadataUrl": metadata_url(offer),
            } } }),
        );
        card.insert(
            "securityRequirements".to_owned(),
            json!([{ "schemes": { "sallyport": { "list": ["a2a"] } } }]),
        );
        card
    }

    /// The card in the form of 0.3; `None` when the other agent does not speak it.
    fn form_03(
        &self,
        offer: &Offer<'_>,
        common: &Map<String, Value>,
    ) -> Option<Map<String, Value>> {
        self.rpc(Dialect::V03)?;
        let mut card = common.clone();
        let mut capabilities = json!({
            "streaming": self.streams,
            "pushNotifications": self.pushes && offer.pushes,
        });
        if !self.extensions.is_empty() {
            capabilities["extensions"] = self.extensions.clone().into();
        }
        let more = json!({
            "url": offer.url,
            "preferredTransport": "JSONRPC",
            "protocolVersion": "0.3.0",
            "supportsAuthenticatedExtendedCard": true,
            "capabilities": capabilities,
            "securitySchemes": { "sallyport": {
                "type": "oauth2",
                "description": SCHEME,
                "flows": flows(offer),
                "oauth2MetadataUrl": metadata_url(offer),
            } },
            "security": [{ "sallyport": ["a2a"] }],
        });
        if let Value::Object(more) = more {
            card.extend(more);
        }
        Some(card)
    }
}

/// What the scheme says in words: DPoP has none of its own in cards.
const SCHEME: &str = "OAuth 2.0 client credentials with private_key_jwt (RFC 7523); \
    tokens are bound to a key and sent with a DPoP proof (RFC 9449)";

fn flows(offer: &Offer<'_>) -> Value {
    json!({ "clientCredentials": {
        "tokenUrl": format!("{}/oauth/token", offer.issuer),
        "scopes": { "a2a": "Ask other agents for what the task allows" },
    } })
}

fn metadata_url(offer: &Offer<'_>) -> String {
    format!("{}/.well-known/oauth-authorization-server", offer.issuer)
}

/// These members of an object only.
fn keep(value: &Value, names: &[&str]) -> Value {
    let Value::Object(members) = value else {
        return Value::Object(Map::new());
    };
    let kept = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone())));
    Value::Object(kept.collect())
}

/// The interfaces of a card of either revision: binding, version, and path below the base.
fn interfaces(card: &Map<String, Value>, base: &str) -> Vec<(String, String, String)> {
    let text =
        |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut found = Vec::new();
    let mut add = |binding: Option<String>, version: Option<String>, url: Option<String>| {
        if let (Some(binding), Some(version), Some(url)) = (binding, version, url)
            && let Some(path) = below(&url, base)
        {
            found.push((binding, version, path));
        }
    };
    let new = card.get("supportedInterfaces").and_then(Value::as_array);
    for one in new.into_iter().flatten().take(64) {
        // With a tenant, each message would have to name it.
        if one
            .get("tenant")
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            add(
                text(one, "protocolBinding"),
                text(one, "protocolVersion"),
                text(one, "url"),
            );
        }
    }
    let member = |name: &str| card.get(name).and_then(Value::as_str).map(str::to_owned);
    let version = || member("protocolVersion").or_else(|| Some("0.3.0".to_owned()));
    if card.contains_key("url") {
        let binding = member("preferredTransport").or_else(|| Some("JSONRPC".to_owned()));
        add(binding, version(), member("url"));
    }
    let more = card.get("additionalInterfaces").and_then(Value::as_array);
    for one in more.into_iter().flatten().take(64) {
        add(text(one, "transport"), version(), text(one, "url"));
    }
    found
}

/// The path of a URL below a base path, from its `/` on; empty for the base itself.
fn below(url: &str, base: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let path = &rest[rest.find('/').unwrap_or(rest.len())..];
    let clean = path.len() <= 1_024
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/-._~:@".contains(&b))
        && !path.contains("//")
        && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    let rest = path.strip_prefix(base)?;
    (clean && (rest.is_empty() || rest.starts_with('/'))).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests;
