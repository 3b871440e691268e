//! Whole bodies, taken in within their limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::refusal::Refusal;

/// Bodies up to this many bytes need no room among the large ones, so that those cannot crowd them
/// out.
const SMALL: usize = 64 << 10;
/// Least room for large bodies, in bytes.
const LEAST_ROOM: usize = 512 << 20;

/// The memory for large bodies of all requests and answers. Each has its own limit, but there can be
/// as many as connections.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// A large body, which takes up room until the last who reads it is done.
struct Large {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Large {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Room {
    /// Room for at least eight bodies of this many bytes.
    pub(super) fn new(longest: usize) -> Self {
        let kibibytes = longest.saturating_mul(8).max(LEAST_ROOM) >> 10;
        Self(Arc::new(Semaphore::new(
            kibibytes.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Takes room for a body that has grown to this length; what it has already is in `taken`.
    fn take(&self, length: usize, taken: &mut Option<OwnedSemaphorePermit>) -> Result<(), Broken> {
        let held = taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = length.div_ceil(1 << 10).saturating_sub(held);
        if length <= SMALL || missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| Broken::NoRoom)?;
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(missing)
            .map_err(|_| Broken::NoRoom)?;
        match taken {
            Some(taken) => taken.merge(more),
            None => *taken = Some(more),
        }
        Ok(())
    }
}

/// Checks that the body is announced as JSON, and that the client takes both kinds of answer
/// (MCP, `basic/transports/streamable-http`, Sending Messages).
///
/// # Errors
/// 415 and 406.
pub(super) fn check_kinds(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let json = match (
        kinds.next().and_then(|kind| kind.to_str().ok()),
        kinds.next(),
    ) {
        (Some(kind), None) => is(kind, "application/json"),
        _ => false,
    };
    if !json {
        return Err(refuse(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send the header `Content-Type: application/json`",
        ));
    }
    if accepts(headers, "application/json") && accepts(headers, "text/event-stream") {
        Ok(())
    } else {
        Err(refuse(
            StatusCode::NOT_ACCEPTABLE,
            "send the header `Accept: application/json, text/event-stream`",
        ))
    }
}

/// Whether the `Accept` headers take a media type, by name or by wildcard.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let group = kind.split_once('/').map_or("", |(group, _)| group);
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').any(|range| {
                let range = range.split(';').next().unwrap_or_default().trim();
                range == "*/*"
                    || range.eq_ignore_ascii_case(kind)
                    || range
                        .strip_suffix("/*")
                        .is_some_and(|range| range.eq_ignore_ascii_case(group))
            })
        })
}

/// Whether a content type is this media type, whatever its parameters.
pub(super) fn is(content_type: &str, kind: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(kind)
}

/// Reads a whole body.
///
/// # Errors
/// 413 when it is longer than the limit, 408 when it takes longer than `time`, 400 when it breaks
/// off, 503 when there are too many large ones.
pub(super) async fn read<B>(
    body: B,
    limit: usize,
    time: Duration,
    room: &Room,
) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let too_long = || {
        refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the message is longer than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    match tokio::time::timeout(time, collect(body, limit, room)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(Broken::TooLong)) => Err(too_long()),
        Ok(Err(Broken::Off)) => Err(refuse(StatusCode::BAD_REQUEST, "the message broke off")),
        Ok(Err(Broken::NoRoom)) => Err(refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway holds as many large messages as it may: try again later",
        )),
        Err(_) => Err(refuse(
            StatusCode::REQUEST_TIMEOUT,
            &format!("the message took longer than {} seconds", time.as_secs()),
        )),
    }
}

/// Why a body is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is longer than the limit.
    TooLong,
    /// The sender broke off.
    Off,
    /// It is large, and there is no room for more of those.
    NoRoom,
}

/// Collects a body; one that arrives in one piece is not copied.
///
/// # Errors
/// [`Broken`]
pub(super) async fn collect<B>(mut body: B, limit: usize, room: &Room) -> Result<Bytes, Broken>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    let mut taken = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Broken::Off)?.into_data() else {
            continue;
        };
        let length = first.len() + more.len() + data.len();
        if length > limit {
            return Err(Broken::TooLong);
        }
        room.take(length, &mut taken)?;
        if first.is_empty() && more.is_empty() {
            first = data;
        } else {
            if !first.is_empty() {
                more.extend_from_slice(&std::mem::take(&mut first));
            }
            more.extend_from_slice(&data);
        }
    }
    let bytes = if more.is_empty() {
        first
    } else {
        more.freeze()
    };
    Ok(match taken {
        Some(_room) => Bytes::from_owner(Large { bytes, _room }),
        None => bytes,
    })
}

fn refuse(status: StatusCode, message: &str) -> Refusal {
    Refusal::new(status, None, super::agreement::INVALID_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http_body_util::{Full, StreamBody};

    fn headers(kind: &'static str, accept: &'static str) -> HeaderMap {
        HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(kind)),
            (ACCEPT, HeaderValue::from_static(accept)),
        ])
    }

    #[test]
    fn both_kinds_of_answer_must_be_taken() {
        let check =
            |kind, accept| check_kinds(&headers(kind, accept)).map_err(|r| r.status.as_u16());
        let both = "application/json, text/event-stream";
        assert_eq!(check("application/json", both), Ok(()));
        assert_eq!(
            check(
                "Application/JSON; charset=utf-8",
                "text/*;q=0.1, application/json"
            ),
            Ok(())
        );
        assert_eq!(check("application/json", "*/*"), Ok(()));
        assert_eq!(check("application/json", "application/json"), Err(406));
        assert_eq!(check("text/plain", both), Err(415));
        assert_eq!(check("application/jsonx", both), Err(415));
        assert_eq!(
            check_kinds(&HeaderMap::new()).unwrap_err().status.as_u16(),
            415
        );
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_have_limits() {
        let (time, room) = (Duration::from_secs(5), Room::new(5));
        let of = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(of("12345"), 5, time, &room).await.unwrap(), "12345");
        assert_eq!(
            read(of("123456"), 5, time, &room).await.unwrap_err().status,
            413
        );
        let frames = |texts: Vec<&'static str>| {
            let frames = texts.into_iter().map(|t| {
                Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from_static(t.as_bytes())))
            });
            StreamBody::new(futures_util::stream::iter(frames))
        };
        assert_eq!(
            read(frames(vec!["12", "", "34"]), 5, time, &room)
                .await
                .unwrap(),
            "1234"
        );
        assert_eq!(
            read(frames(vec!["123", "456"]), 5, time, &room)
                .await
                .unwrap_err()
                .status,
            413
        );
        let never = StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<Bytes>, std::io::Error>,
        >());
        assert_eq!(read(never, 5, time, &room).await.unwrap_err().status, 408);
        let broken = futures_util::stream::iter([Err::<http_body::Frame<Bytes>, _>(
            std::io::Error::other("reset"),
        )]);
        assert_eq!(
            read(StreamBody::new(broken), 5, time, &room)
                .await
                .unwrap_err()
                .status,
            400
        );
    }

    #[tokio::test]
    async fn there_is_only_so_much_room_for_large_bodies() {
        let room = Room::new(1 << 20);
        let large = || Full::new(Bytes::from(vec![0; 128 << 20]));
        let whole = |body| collect(body, 256 << 20, &room);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(whole(large()).await.unwrap());
        }
        let part = held[0].slice(1..3);
        assert_eq!(whole(large()).await, Err(Broken::NoRoom));
        let small = Full::new(Bytes::from(vec![b'x'; SMALL]));
        assert!(whole(small).await.is_ok(), "small ones always fit");
        held.clear();
        assert!(whole(large()).await.is_ok(), "room comes back");
        let mut all = Vec::new();
        while let Ok(body) = whole(large()).await {
            all.push(body);
        }
        assert_eq!(all.len(), 3, "a part keeps the whole");
        drop(part);
        assert!(whole(large()).await.is_ok());
    }
}
