//! Bodies of messages: whether they are of a kind that MCP has, and whole, within their limits.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body::Body as HttpBody;

use super::refusal::Refusal;
use crate::intake::{Broken, Room, collect};

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
}
