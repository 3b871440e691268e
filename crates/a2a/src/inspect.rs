//! Step 7 for what another agent says: answers, events and notifications. Its card: [`crate::card`].

use bytes::Bytes;
use gateway::caller::Caller;
use gateway::inspection::{About, Following, Inspection, Role, Spot, What};
use gateway::pipeline::{Denied, Permit};
use model::{Denial, ServerName};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::method::Dialect;
use crate::refusal::Refusal;
use crate::watch::kind_of;

/// Whose words they are: those of the agent at `server`, asked for the skill `target`.
pub(crate) fn about<'a>(
    caller: &'a Caller,
    server: &'a ServerName,
    target: &'a str,
    permit: &Permit,
) -> About<'a> {
    About {
        what: What::AgentAnswer,
        caller,
        server,
        target,
        decision: Some(permit.decision()),
    }
}

/// Looks at a whole answer. Returns what passes in its place, if something does.
///
/// # Errors
/// The denial when it must not pass.
pub(crate) fn whole(
    inspection: &Inspection,
    about: &About<'_>,
    text: &[u8],
) -> Result<Option<Bytes>, Denial> {
    let other = inspection.sorted(about, text, &of_whole).taken()?;
    Ok(other.map(Bytes::from))
}

/// The same for an event of a stream, or a notification: what is split over several of them is found too.
///
/// # Errors
/// The denial when it must not pass.
pub(crate) fn event(
    following: &mut Following,
    about: &About<'_>,
    spot: Option<Spot>,
    text: &[u8],
) -> Result<Option<Bytes>, Denial> {
    let sort = match spot {
        Some(_) => of_event,
        None => of_whole,
    };
    let other = following.document(about, spot, text, &sort).taken()?;
    Ok(other.map(Bytes::from))
}

/// Files are base64 (1.0, §4.1.6: `raw`; 0.3, §6.6.2: `bytes`).
fn of_whole(name: &str, _: &str) -> Role {
    match name {
        "raw" | "bytes" => Role::Base64,
        _ => Role::Own,
    }
}

/// What parts say goes on from event to event.
fn of_event(name: &str, text: &str) -> Role {
    match name {
        "text" => Role::Piece,
        _ => of_whole(name, text),
    }
}

/// Where the content of an event stands: each artifact is a text of its own, and so are the messages, also
/// those of statuses. A task is all there, and goes on with nothing.
pub(crate) fn spot(dialect: Dialect, event: &Map<String, Value>) -> Option<Spot> {
    let (kind, event) = kind_of(dialect, event).ok()?;
    match kind {
        "artifactUpdate" | "artifact-update" => {
            let id = event.get("artifact").and_then(|it| it.get("artifactId"));
            let hash = Sha256::digest(id.and_then(Value::as_str).unwrap_or_default());
            let first = hash.first_chunk().copied().unwrap_or_default();
            Some(Spot([1, u64::from_be_bytes(first), 0]))
        }
        "message" | "statusUpdate" | "status-update" => Some(Spot([0, 0, 0])),
        _ => None,
    }
}

/// The answer in place of one that must not pass; the permit's record says so.
pub(crate) fn blocked(permit: &mut Permit, what: What, denial: Denial) -> Refusal {
    permit.note("blocked", what.as_str());
    Refusal::denied(&Denied {
        decision: permit.decision(),
        denial,
        requested: None,
        retry_after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_artifact_is_a_text_of_its_own() {
        let of = |dialect, event: Value| spot(dialect, event.as_object().unwrap());
        let new = |id: &str| {
            of(
                Dialect::V1,
                json!({ "artifactUpdate": { "artifact": { "artifactId": id } } }),
            )
        };
        let old = |id: &str| {
            let artifact = json!({ "artifactId": id });
            of(
                Dialect::V03,
                json!({ "kind": "artifact-update", "artifact": artifact }),
            )
        };
        assert_eq!(new("a"), old("a"));
        assert!(new("a").is_some() && new("a") != new("b"));
        let said = of(Dialect::V1, json!({ "message": { "parts": [] } }));
        let status = json!({ "kind": "status-update", "status": {} });
        assert_eq!(said, of(Dialect::V03, status));
        assert_eq!(of(Dialect::V1, json!({ "task": { "id": "t" } })), None);
        assert_eq!(of(Dialect::V1, json!({ "a": {}, "b": {} })), None);
    }
}
