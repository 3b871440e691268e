//! Webhooks as agents register them, in the two dialects. Pure.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::message::{self, ID_BYTES};
use crate::method::{Dialect, Method};
use crate::refusal::{Fault, Refusal};

/// Longest token or credential of a webhook, in bytes.
const SECRET_BYTES: usize = 4_096;

/// A webhook of an agent: where it wants to be told of a task, and how it knows that it is told by whom
/// it asked.
#[derive(Clone, PartialEq, Eq)]
pub struct Hook {
    /// How the agent calls it; unique within a task.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// What comes in `X-A2A-Notification-Token`.
    pub token: Option<Zeroizing<String>>,
    /// What comes in `Authorization`: the scheme, and what follows it.
    pub authentication: Option<(String, Option<Zeroizing<String>>)>,
}

/// What a request about webhooks asks.
pub struct Asked {
    /// The task that it is about.
    pub task: String,
    /// The webhook that it names.
    pub id: Option<String>,
    /// The webhook that it registers.
    pub hook: Option<Hook>,
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(Fault::InvalidParams, message)
}

/// Reads the parameters of a request about webhooks (1.0, §3.1.7 to §3.1.10; 0.3, §7.5 to §7.8).
///
/// # Errors
/// [`Refusal`] for whatever the protocol does not allow.
pub fn asked(
    method: Method,
    dialect: Dialect,
    params: &mut Map<String, Value>,
) -> Result<Asked, Refusal> {
    let names: &[&str] = match (method, dialect) {
        (Method::SetPush, Dialect::V1) => {
            &["tenant", "id", "taskId", "url", "token", AUTHENTICATION]
        }
        (Method::SetPush, Dialect::V03) => &["taskId", "pushNotificationConfig", "metadata"],
        (Method::ListPush, Dialect::V1) => &["tenant", "taskId", "pageSize", "pageToken"],
        (_, Dialect::V1) => &["tenant", "taskId", "id"],
        (Method::ListPush, Dialect::V03) => &["id", "metadata"],
        (_, Dialect::V03) => &["id", "pushNotificationConfigId", "metadata"],
    };
    message::known("params", params, names)?;
    if dialect == Dialect::V1 {
        message::no_tenant(params)?;
    }
    params.remove("metadata");
    let (task, id) = match (method, dialect) {
        (Method::SetPush, _) => ("taskId", None),
        (_, Dialect::V1) => ("taskId", Some("id")),
        (_, Dialect::V03) => ("id", Some("pushNotificationConfigId")),
    };
    let missing = || wrong(format!("`params.{task}` is missing"));
    let task = message::id("params", params, task)?.ok_or_else(missing)?;
    let id = match id {
        Some(name) => message::id("params", params, name)?,
        None => None,
    };
    let hook = match (method, dialect) {
        (Method::SetPush, Dialect::V1) => {
            params.remove("taskId");
            Some(Hook::read(dialect, "params", params)?)
        }
        (Method::SetPush, Dialect::V03) => match params.get_mut("pushNotificationConfig") {
            Some(Value::Object(config)) => {
                Some(Hook::read(dialect, "pushNotificationConfig", config)?)
            }
            _ => return Err(wrong("`params.pushNotificationConfig` is not an object")),
        },
        _ => None,
    };
    if method == Method::DeletePush && id.is_none() {
        return Err(wrong("say which webhook is meant"));
    }
    Ok(Asked { task, id, hook })
}

const AUTHENTICATION: &str = "authentication";

impl Hook {
    /// Reads a webhook (1.0, §4.3.1; 0.3, §6.8). Without an id it has an empty one.
    ///
    /// # Errors
    /// [`Refusal`] for whatever the protocol does not allow, and for what no header can hold.
    pub fn read(
        dialect: Dialect,
        place: &str,
        config: &mut Map<String, Value>,
    ) -> Result<Self, Refusal> {
        let names: &[&str] = match dialect {
            Dialect::V1 => &["tenant", "id", "taskId", "url", "token", AUTHENTICATION],
            Dialect::V03 => &["id", "url", "token", AUTHENTICATION],
        };
        message::known(place, config, names)?;
        if dialect == Dialect::V1 {
            message::no_tenant(config)?;
            // Of a message's webhook the task is not known yet; of any other it is known otherwise.
            if message::id(place, config, "taskId")?.is_some() {
                return Err(wrong(format!("`{place}.taskId` has no meaning here")));
            }
        }
        let url = message::text(place, config, "url")?
            .filter(|url| !url.is_empty())
            .ok_or_else(|| wrong(format!("`{place}.url` is missing")))?;
        let url = url.to_owned();
        let token = secret(place, config, "token")?;
        let authentication = match config.get_mut(AUTHENTICATION) {
            None => None,
            Some(Value::Object(about)) => Some(authentication(dialect, about)?),
            Some(_) => {
                return Err(wrong(format!(
                    "`{place}.{AUTHENTICATION}` is not an object"
                )));
            }
        };
        Ok(Self {
            id: message::id(place, config, "id")?.unwrap_or_default(),
            url,
            token,
            authentication,
        })
    }

    /// The webhook as it was registered, for the agent that did.
    #[must_use]
    pub fn shown(&self, dialect: Dialect, task: &str) -> Value {
        let mut config = json!({ "id": self.id, "url": self.url });
        if let Some(token) = &self.token {
            config["token"] = token.as_str().into();
        }
        if let Some((scheme, credentials)) = &self.authentication {
            let mut about = match dialect {
                Dialect::V1 => json!({ "scheme": scheme }),
                Dialect::V03 => json!({ "schemes": [scheme] }),
            };
            if let Some(credentials) = credentials {
                about["credentials"] = credentials.as_str().into();
            }
            config[AUTHENTICATION] = about;
        }
        match dialect {
            Dialect::V1 => {
                if !task.is_empty() {
                    config["taskId"] = task.into();
                }
                config
            }
            Dialect::V03 => json!({ "taskId": task, "pushNotificationConfig": config }),
        }
    }
}

/// The scheme and the credentials. 0.3 has a list of schemes, of which the credentials are for the first.
fn authentication(
    dialect: Dialect,
    about: &mut Map<String, Value>,
) -> Result<(String, Option<Zeroizing<String>>), Refusal> {
    let names = match dialect {
        Dialect::V1 => ["scheme", "credentials"],
        Dialect::V03 => ["schemes", "credentials"],
    };
    message::known(AUTHENTICATION, about, &names)?;
    let scheme = match dialect {
        Dialect::V1 => about.get("scheme"),
        Dialect::V03 => about.get("schemes").and_then(|schemes| schemes.get(0)),
    };
    let scheme = scheme
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let token = scheme
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if scheme.is_empty() || scheme.len() > 64 || !token {
        return Err(wrong(
            "`authentication` names no scheme of HTTP authentication",
        ));
    }
    let credentials = secret(AUTHENTICATION, about, "credentials")?;
    Ok((scheme, credentials))
}

/// A secret that can stand in a header.
fn secret(
    place: &str,
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<Zeroizing<String>>, Refusal> {
    match members.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text))
            if text.len() <= SECRET_BYTES && text.bytes().all(|b| (b' '..=b'~').contains(&b)) =>
        {
            Ok(Some(Zeroizing::new(text)))
        }
        Some(_) => Err(wrong(format!(
            "`{place}.{name}` cannot stand in a header, or has more than {SECRET_BYTES} bytes"
        ))),
    }
}

/// What the other agent is given instead of an agent's webhook: the gateway's address, and a token.
#[must_use]
pub fn given(dialect: Dialect, id: &str, task: Option<&str>, url: &str, token: &str) -> Value {
    debug_assert!(id.len() <= ID_BYTES);
    match dialect {
        Dialect::V1 => {
            let mut config = json!({
                "id": id, "url": url, "token": token,
                "authentication": { "scheme": "Bearer", "credentials": token },
            });
            if let Some(task) = task {
                config["taskId"] = task.into();
            }
            config
        }
        Dialect::V03 => {
            let config = json!({
                "id": id, "url": url, "token": token,
                "authentication": { "schemes": ["Bearer"], "credentials": token },
            });
            match task {
                Some(task) => json!({ "taskId": task, "pushNotificationConfig": config }),
                None => config,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn webhooks_of_both_dialects_read_the_same() {
        let mut new = map(json!({
            "taskId": "t", "id": "a", "url": "https://h/x", "token": "s",
            "authentication": { "scheme": "Bearer", "credentials": "c" },
        }));
        let mut old = map(json!({ "taskId": "t", "pushNotificationConfig": {
            "id": "a", "url": "https://h/x", "token": "s",
            "authentication": { "schemes": ["Bearer", "Basic"], "credentials": "c" },
        } }));
        let (was_new, was_old) = (new.clone(), old.clone());
        let new = asked(Method::SetPush, Dialect::V1, &mut new).unwrap();
        let old = asked(Method::SetPush, Dialect::V03, &mut old).unwrap();
        let (new, old) = (new.hook.unwrap(), old.hook.unwrap());
        assert!(new == old);
        assert_eq!(new.shown(Dialect::V1, "t"), Value::Object(was_new));
        let shown = old.shown(Dialect::V03, "t");
        assert_eq!(shown["taskId"], was_old["taskId"]);
        let schemes = &shown["pushNotificationConfig"]["authentication"]["schemes"];
        assert_eq!(schemes, &json!(["Bearer"]));
        // What is stored is read back the same.
        let mut stored = map(new.shown(Dialect::V1, ""));
        assert!(Hook::read(Dialect::V1, "hook", &mut stored).unwrap() == new);
    }

    #[test]
    fn what_would_be_read_in_two_ways_or_split_a_header_is_refused() {
        for bad in [
            json!({ "taskId": "t" }),
            json!({ "url": "https://h/" }),
            json!({ "taskId": "t", "url": "" }),
            json!({ "taskId": "t", "task_id": "u", "url": "https://h/" }),
            json!({ "taskId": "t", "url": "https://h/", "token": "a\r\nb: c" }),
            json!({ "taskId": "t", "url": "https://h/", "token": 1 }),
            json!({ "taskId": "t", "url": "https://h/", "token": "x".repeat(SECRET_BYTES + 1) }),
            json!({ "taskId": "t", "url": "https://h/", "authentication": { "scheme": "Bearer x" } }),
            json!({ "taskId": "t", "url": "https://h/", "authentication": {} }),
            json!({ "taskId": "t", "url": "https://h/", "tenant": "other" }),
            json!({ "taskId": "t", "url": "https://h/", "id": "x".repeat(ID_BYTES + 1) }),
        ] {
            let refused = asked(Method::SetPush, Dialect::V1, &mut map(bad.clone()));
            assert!(refused.is_err(), "{bad}");
        }
        let delete = json!({ "taskId": "t" });
        assert!(asked(Method::DeletePush, Dialect::V1, &mut map(delete)).is_err());
    }
}
