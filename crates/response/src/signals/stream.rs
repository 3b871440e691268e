//! Event streams: what a receiver may say about its own (SSF 1.0 §8.1.1 and §8.1.2).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::supported;

/// Push-based delivery (RFC 8935).
const PUSH: &str = "urn:ietf:rfc:8935";
/// Poll-based delivery (RFC 8936).
const POLL: &str = "urn:ietf:rfc:8936";
/// Longest description that is kept, in characters.
const DESCRIPTION: usize = 200;
/// Most event types that a request may name.
const REQUESTED: usize = 64;
/// The least time between two verifications of a stream, in seconds.
pub const VERIFY_EVERY: i64 = 10;

/// The delivery methods that there are, by URI.
pub const METHODS: [&str; 2] = [PUSH, POLL];

/// How events reach the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// They are sent to it.
    Push,
    /// It asks for them.
    Poll,
}

impl Method {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Poll => "poll",
        }
    }

    /// The URI of the method.
    #[must_use]
    pub fn uri(self) -> &'static str {
        match self {
            Self::Push => PUSH,
            Self::Poll => POLL,
        }
    }
}

/// Whether events go over a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// They do.
    Enabled,
    /// They are held until it is enabled again.
    Paused,
    /// They do not, and are not held.
    Disabled,
}

impl Status {
    /// The word in requests, answers and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// A stream to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Names it.
    pub id: String,
    /// How events are delivered.
    pub method: Method,
    /// What the receiver asked for; none when it asked for everything.
    #[serde(default)]
    pub requested: Option<Vec<String>>,
    /// What the receiver calls it.
    #[serde(default)]
    pub description: String,
    /// Whether events go over it.
    pub status: Status,
    /// Why, if that was said.
    #[serde(default)]
    pub reason: String,
}

/// What a receiver wants its stream to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamRequest {
    /// The stream, where the request names one.
    pub id: Option<String>,
    /// How events are to be delivered, and to which URL.
    pub delivery: Option<(Method, Option<String>)>,
    /// The events that it wants.
    pub requested: Option<Vec<String>>,
    /// What it calls the stream.
    pub description: Option<String>,
}

/// Why a request about a stream is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The body is not what it must be.
    #[error("{0}")]
    Malformed(&'static str),
    /// A delivery method that there is not.
    #[error("the delivery method must be `{PUSH}` (push) or `{POLL}` (poll)")]
    Method,
    /// Events are pushed to the place in the configuration, and to no other.
    #[error(
        "events are pushed only to the place that the configuration gives this receiver: {0}; leave \
         `authorization_header` out, the server's credential is used"
    )]
    Place(String),
}

impl StreamRequest {
    /// Reads the body of a request to the configuration endpoint.
    ///
    /// # Errors
    /// [`StreamError`]
    pub fn read(body: &Value) -> Result<Self, StreamError> {
        let object = body
            .as_object()
            .ok_or(StreamError::Malformed("the body must be a JSON object"))?;
        let text = |name: &str, wrong| match object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(StreamError::Malformed(wrong)),
        };
        let requested = match object.get("events_requested") {
            None | Some(Value::Null) => None,
            Some(Value::Array(all)) if (1..=REQUESTED).contains(&all.len()) => Some(
                all.iter()
                    .filter_map(Value::as_str)
                    .filter(|uri| supported().iter().any(|known| known == uri))
                    .map(str::to_owned)
                    .collect(),
            ),
            Some(_) => {
                return Err(StreamError::Malformed(
                    "`events_requested` must be an array of 1 to 64 URIs",
                ));
            }
        };
        let description = text("description", "`description` must be a text")?;
        Ok(Self {
            id: text("stream_id", "`stream_id` must be a text")?,
            delivery: object.get("delivery").map(delivery).transpose()?,
            requested,
            description: description.map(|text| {
                let plain = text.chars().filter(|c| !c.is_control());
                plain.take(DESCRIPTION).collect()
            }),
        })
    }

    /// Whether events may be delivered as the request says. `place` is where the configuration lets them
    /// be pushed to.
    ///
    /// # Errors
    /// [`StreamError::Place`]
    pub fn check_place(&self, place: Option<&str>) -> Result<(), StreamError> {
        match (&self.delivery, place) {
            (Some((Method::Push, _)), None) => Err(StreamError::Place("none".to_owned())),
            (Some((Method::Push, Some(url))), Some(place)) if url != place => {
                Err(StreamError::Place(place.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// A new stream as the request says. Without a method, events are polled (§8.1.1.1).
    #[must_use]
    pub fn stream(self, id: String) -> Stream {
        Stream {
            id,
            method: self.delivery.map_or(Method::Poll, |(method, _)| method),
            requested: self.requested,
            description: self.description.unwrap_or_default(),
            status: Status::Enabled,
            reason: String::new(),
        }
    }

    /// Changes what the request names, and leaves the rest (§8.1.1.3).
    pub fn update(self, stream: &mut Stream) {
        if let Some((method, _)) = self.delivery {
            stream.method = method;
        }
        if let Some(requested) = self.requested {
            stream.requested = Some(requested);
        }
        if let Some(description) = self.description {
            stream.description = description;
        }
    }

    /// Changes everything; what the request does not name is taken away (§8.1.1.4).
    pub fn replace(self, stream: &mut Stream) {
        stream.method = self.delivery.map_or(Method::Poll, |(method, _)| method);
        stream.requested = self.requested;
        stream.description = self.description.unwrap_or_default();
    }
}

fn delivery(value: &Value) -> Result<(Method, Option<String>), StreamError> {
    let method = match value.get("method").and_then(Value::as_str) {
        Some(PUSH) => Method::Push,
        Some(POLL) => Method::Poll,
        _ => return Err(StreamError::Method),
    };
    if value
        .get("authorization_header")
        .is_some_and(|it| !it.is_null())
    {
        return Err(StreamError::Malformed(
            "`authorization_header` is not taken: what is pushed carries the credential that the \
             configuration gives the receiver's server",
        ));
    }
    let url = value.get("endpoint_url").and_then(Value::as_str);
    Ok((method, url.map(str::to_owned)))
}

impl Stream {
    /// Whether events of this type go over it, once it is enabled.
    #[must_use]
    pub fn wants(&self, uri: &str) -> bool {
        self.requested
            .as_ref()
            .is_none_or(|requested| requested.iter().any(|wanted| wanted == uri))
    }

    /// The stream's configuration. `endpoint` is where events are pushed to, or polled.
    #[must_use]
    pub fn to_json(&self, issuer: &str, audience: &str, endpoint: &str) -> Value {
        let supported = supported();
        let delivered: Vec<_> = supported.iter().filter(|uri| self.wants(uri)).collect();
        json!({
            "stream_id": self.id,
            "iss": issuer,
            "aud": audience,
            "delivery": { "method": self.method.uri(), "endpoint_url": endpoint },
            "events_supported": supported,
            "events_requested": self.requested.as_deref().unwrap_or(&supported),
            "events_delivered": delivered,
            "min_verification_interval": VERIFY_EVERY,
            "description": self.description,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<StreamRequest, StreamError> {
        StreamRequest::read(&body)
    }

    #[test]
    fn without_a_method_events_are_polled() {
        let stream = read(json!({})).unwrap().stream("s".to_owned());
        assert_eq!(stream.method, Method::Poll);
        assert!(supported().iter().all(|uri| stream.wants(uri)));
    }

    #[test]
    fn unknown_events_are_ignored_and_the_rest_is_delivered() {
        let risk = &supported()[2];
        let request = read(json!({ "events_requested": ["urn:other", risk] })).unwrap();
        let stream = request.stream("s".to_owned());
        let told = stream.to_json("https://us", "https://them", "https://us/poll");
        assert_eq!(told["events_delivered"], json!([risk]));
        assert!(!stream.wants(&supported()[0]));
    }

    #[test]
    fn nothing_is_pushed_to_another_place() {
        let push = |url: &str| {
            read(json!({ "delivery": { "method": PUSH, "endpoint_url": url } })).unwrap()
        };
        let place = Some("https://siem/events");
        assert!(push("https://siem/events").check_place(place).is_ok());
        assert!(push("https://siem/events.evil").check_place(place).is_err());
        assert!(push("https://siem/events").check_place(None).is_err());
        let header = json!({ "delivery": { "method": PUSH, "authorization_header": "Bearer x" } });
        assert!(matches!(read(header), Err(StreamError::Malformed(_))));
        assert_eq!(
            read(json!({ "delivery": { "method": "smtp" } })),
            Err(StreamError::Method)
        );
    }

    #[test]
    fn an_update_keeps_what_it_does_not_name_and_a_replacement_does_not() {
        let mut stream = read(json!({ "description": "a", "delivery": { "method": PUSH } }))
            .unwrap()
            .stream("s".to_owned());
        read(json!({ "description": "b" }))
            .unwrap()
            .update(&mut stream);
        assert_eq!((stream.method, &*stream.description), (Method::Push, "b"));
        read(json!({ "stream_id": "s" }))
            .unwrap()
            .replace(&mut stream);
        assert_eq!((stream.method, &*stream.description), (Method::Poll, ""));
    }
}
