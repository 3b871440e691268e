//! Step 3: what a request says, as arguments of its endpoint.

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
    let essence = first
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    Ok(match essence.as_str() {
        "application/json" => Kind::Json,
        "application/x-www-form-urlencoded" => Kind::Form,
        other if other.ends_with("+json") => Kind::Json,
        _ => Kind::Other,
    })
}

/// How requests are read.
pub(crate) struct Reading<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) room: &'a Room,
    /// Whether bodies may pass that cannot be looked into.
    pub(crate) opaque_bodies: bool,
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
        return Ok((arguments, Sent::Whole(Bytes::new())));
    }
    let kind = kind(headers)?;
    if matches!(kind, Kind::Other) {
        return if reading.opaque_bodies {
            Ok((arguments, Sent::Opaque(body)))
        } else {
            Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body is neither JSON nor a form, so that nobody can look into it",
                "send JSON; an operator can let other bodies pass with `opaque_bodies`",
            ))
        };
    }
    let bytes = whole(body, limits, room).await?;
    if bytes.is_empty() {
        return Ok((arguments, Sent::Whole(bytes)));
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
    Ok((arguments, Sent::Whole(bytes)))
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
