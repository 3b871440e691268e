//! Step 3: what a request says, as arguments of its endpoint.

use std::collections::HashSet;

use bytes::Bytes;
use gateway::intake::{Broken, Room, collect};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use model::config::Limits;
use model::json;
use serde_json::{Map, Value};

use crate::query;
use crate::routes::Route;

/// The body of a request, on its way to the API.
pub(crate) enum Sent {
    /// None, or one that was looked into.
    Whole(Bytes),
    /// One that passes unseen, as it comes.
    Opaque(Incoming),
}

/// Why a request is refused before anything is decided.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    pub(crate) remedy: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, reason: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            status,
            reason: reason.into(),
            remedy,
        }
    }
}

/// What kinds of body can be looked into.
enum Kind {
    Json,
    Form,
    Other,
}

fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (kinds.next(), kinds.next());
    if second.is_some() {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "there is more than one Content-Type",
            "send one",
        ));
    }
    let text = first
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    let text = text.to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let kind = match parts.next().unwrap_or_default() {
        "application/json" => Kind::Json,
        "application/x-www-form-urlencoded" => Kind::Form,
        other if other.ends_with("+json") => Kind::Json,
        _ => return Ok(Kind::Other),
    };
    // The same bytes are another text in another character set, and some servers take the last of several
    // types.
    let is_utf8 = |part: &str| matches!(part, "charset=utf-8" | "charset=\"utf-8\"");
    if text.contains(',') || parts.any(|part| part.contains("charset") && !is_utf8(part)) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type names a character set other than UTF-8, or more than one type",
            "send UTF-8, and one type",
        ));
    }
    Ok(kind)
}

/// Two names in one object that some servers take for one: equal but for small and capital letters
/// (Go's `encoding/json` among others), or with a part in brackets behind (`id` and `id[]`, PHP).
fn confusable(members: &Map<String, Value>) -> Option<&str> {
    let mut plain = HashSet::with_capacity(members.len());
    let mut bracketed = Vec::new();
    for name in members.keys() {
        let folded = name.to_lowercase();
        if let Some((before, _)) = folded.split_once('[') {
            bracketed.push((name, before.to_owned()));
        }
        if !plain.insert(folded) {
            return Some(name);
        }
    }
    let both = bracketed
        .into_iter()
        .find(|(_, before)| plain.contains(before));
    both.map(|(name, _)| name.as_str())
        .or_else(|| members.values().find_map(confusable_within))
}

/// The same in all objects of a value; its depth is limited already.
fn confusable_within(value: &Value) -> Option<&str> {
    match value {
        Value::Object(members) => confusable(members),
        Value::Array(all) => all.iter().find_map(confusable_within),
        _ => None,
    }
}

/// The arguments, if each of them is one for every server.
fn distinct(arguments: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    match confusable(&arguments) {
        None => Ok(arguments),
        Some(name) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            format!(
                "`{}` is so like another name beside it that some servers take the two for one",
                name.escape_debug()
            ),
            "send one of the two",
        )),
    }
}

/// How requests are read.
pub(crate) struct Reading<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) room: &'a Room,
    /// The longest body that may pass though it cannot be looked into; none may if absent.
    pub(crate) opaque_bytes: Option<u64>,
}

/// The parts of a request that make its arguments.
pub(crate) struct Parts<'a> {
    pub(crate) route: &'a Route,
    /// The values of the path's parameters.
    pub(crate) path: Vec<(&'a str, String)>,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Incoming,
}

/// The arguments of a request: `path.NAME`, `query.NAME`, `body.NAME` or `body`; and its body.
///
/// # Errors
/// [`Refusal`]
pub(crate) async fn of(
    request: Parts<'_>,
    reading: &Reading<'_>,
) -> Result<(Map<String, Value>, Sent), Refusal> {
    let Parts {
        route,
        path,
        query,
        headers,
        body,
    } = request;
    let Reading { limits, room, .. } = reading;
    let mut arguments = Map::new();
    for (name, value) in path {
        arguments.insert(format!("path.{name}"), Value::String(value));
    }
    query::parameters(query.unwrap_or_default(), "query.", &mut arguments).map_err(|why| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("the query could be read in two ways: {why}"),
            "write `name=value` pairs with `&` between them, percent-encoded as UTF-8",
        )
    })?;
    for name in &route.numbers {
        if let Some(value) = arguments.get_mut(name) {
            number(name, value)?;
        }
    }
    if body.is_end_stream() {
        return Ok((distinct(arguments)?, Sent::Whole(Bytes::new())));
    }
    let kind = kind(headers)?;
    if matches!(kind, Kind::Other) {
        return match reading.opaque_bytes {
            Some(limit) if body.size_hint().lower() > limit => Err(Refusal::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body is longer than {limit} bytes"),
                "send less at once; an operator can raise `opaque_bytes` of the API",
            )),
            Some(_) => Ok((distinct(arguments)?, Sent::Opaque(body))),
            None => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is neither JSON nor a form, so that nobody can look into it",
                "send JSON; an operator can let other bodies pass with `opaque_bodies`",
            )),
        };
    }
    let bytes = whole(body, limits, room).await?;
    if bytes.is_empty() {
        return Ok((distinct(arguments)?, Sent::Whole(bytes)));
    }
    match kind {
        Kind::Json => json_body(&bytes, limits, &mut arguments)?,
        Kind::Form | Kind::Other => {
            let text = std::str::from_utf8(&bytes).ok();
            let read = text.ok_or(query::Ambiguous::Encoding);
            read.and_then(|text| query::parameters(text, "body.", &mut arguments))
                .map_err(|why| {
                    Refusal::new(
                        StatusCode::BAD_REQUEST,
                        format!("the form could be read in two ways: {why}"),
                        "write `name=value` pairs with `&` between them, percent-encoded as UTF-8",
                    )
                })?;
        }
    }
    Ok((distinct(arguments)?, Sent::Whole(bytes)))
}

fn json_body(
    bytes: &[u8],
    limits: &Limits,
    arguments: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let limits = json::Limits {
        bytes: limits.request_bytes,
        depth: limits.json_depth,
    };
    let document = json::parse(bytes, limits).map_err(|error| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            error.to_string(),
            "send JSON that every parser reads in the same way",
        )
    })?;
    match document {
        Value::Object(members) => {
            let named = members.into_iter();
            arguments.extend(named.map(|(name, value)| (format!("body.{name}"), value)));
        }
        other => drop(arguments.insert("body".to_owned(), other)),
    }
    Ok(())
}

async fn whole(body: Incoming, limits: &Limits, room: &Room) -> Result<Bytes, Refusal> {
    let limit = limits.request_bytes;
    let too_long = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {limit} bytes"),
            "send less at once",
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let time = std::time::Duration::from_secs(limits.request_seconds);
    match tokio::time::timeout(time, collect(body, limit, room)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLong)) => Err(too_long()),
        Ok(Err(Broken::Off)) => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "the body broke off",
            "send it whole",
        )),
        Ok(Err(Broken::NoRoom)) => Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway holds as many large bodies as it may",
            "try again later",
        )),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body took longer than {} seconds", time.as_secs()),
            "send it faster, or less at once",
        )),
    }
}

/// Makes the text of a parameter that is declared to be a number one, so that bounds can hold it.
fn number(name: &str, value: &mut Value) -> Result<(), Refusal> {
    let wrong = || {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            format!("`{name}` is declared to be a number, and is none as JSON writes them"),
            "write it in digits, without a sign `+` and without leading zeros",
        )
    };
    match value {
        Value::Array(all) => all.iter_mut().try_for_each(|value| number(name, value)),
        Value::String(text) => {
            let read: serde_json::Number = serde_json::from_str(text).map_err(|_| wrong())?;
            // One spelling: what is written back must be what came.
            if read.to_string() != *text {
                return Err(wrong());
            }
            *value = Value::Number(read);
            Ok(())
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use serde_json::json;

    fn read(value: &'static str) -> Option<Kind> {
        let headers = [(CONTENT_TYPE, HeaderValue::from_static(value))];
        kind(&headers.into_iter().collect()).ok()
    }

    #[test]
    fn a_body_is_looked_into_only_in_the_character_set_that_the_api_reads() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
            "application/merge-patch+json; v=1",
        ] {
            assert!(matches!(read(json), Some(Kind::Json)), "{json}");
        }
        assert!(matches!(
            read("application/x-www-form-urlencoded"),
            Some(Kind::Form)
        ));
        assert!(matches!(read("text/plain; charset=x"), Some(Kind::Other)));
        for refused in [
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-7",
            "application/json; charset*=utf-7",
            "application/json; a=b, text/xml",
            "application/x-www-form-urlencoded; charset=utf-16",
        ] {
            assert!(read(refused).is_none(), "{refused}");
        }
    }

    #[test]
    fn names_that_some_servers_take_for_one_are_found_wherever_they_are() {
        let found = |value: &Value| confusable_within(value).is_some();
        for refused in [
            json!({"body.amount": 1, "body.Amount": 9000}),
            json!({"query.id": "7", "query.id[]": "8"}),
            json!({"query.id": "7", "query.ID[0]": "8"}),
            json!({"body.a": [{"b": {"x": 1, "X": 2}}]}),
        ] {
            assert!(found(&refused), "{refused}");
        }
        for fine in [
            json!({"path.id": "7", "query.id": "7", "body.id": 7}),
            json!({"query.filter[a]": "1", "query.filter[b]": "2"}),
            json!({"body.a": {"x": 1}, "body.b": {"X": 1}}),
        ] {
            assert!(!found(&fine), "{fine}");
        }
    }
}
