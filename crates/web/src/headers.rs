//! Which headers pass, in which direction.

use gateway::named_by_connection;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES, ALT_SVC, AUTHORIZATION, CACHE_CONTROL,
    CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, ETAG,
    FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What of a request any API may see.
static PASSED: [HeaderName; 12] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_TYPE,
    CONTENT_LANGUAGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    IF_RANGE,
    RANGE,
    CACHE_CONTROL,
    USER_AGENT,
];
/// More of the same, that `http` has no names for.
const PASSED_TOO: [&str; 5] = [
    "idempotency-key",
    "prefer",
    "traceparent",
    "tracestate",
    "x-request-id",
];
/// What an upgrade to WebSocket needs besides.
static WEBSOCKET: [HeaderName; 4] = [
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_EXTENSIONS,
];

/// What never passes to an API, whatever the configuration says: the agent's credentials, and what is
/// between two neighbours only.
static NEVER: [HeaderName; 13] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    HOST,
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    ACCEPT_ENCODING,
    FORWARDED,
    CONTENT_LENGTH,
    http::header::EXPECT,
];
/// The same, by name or by the beginning of the name: who may say where a request came from, or that its
/// method or path is another one.
const NEVER_TOO: [&str; 9] = [
    "dpop",
    "keep-alive",
    "proxy-",
    "x-forwarded-",
    "x-http-method",
    "x-method-override",
    "x-original-",
    "x-rewrite-",
    "x-real-ip",
];

/// What of an answer never passes to an agent: what is between two neighbours only, what would give the
/// agent a session of its own with the API, and what is about the API's origin.
static WITHHELD: [HeaderName; 10] = [
    CONNECTION,
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    SET_COOKIE,
    WWW_AUTHENTICATE,
    PROXY_AUTHENTICATE,
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
];
const WITHHELD_TOO: [&str; 4] = ["keep-alive", "proxy-", "access-control-", "dpop-nonce"];

/// A header that a configuration lets pass.
///
/// # Errors
/// Why it may not.
pub(crate) fn may_be_passed(name: &str) -> Result<HeaderName, &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "is no header name")?;
    let never = NEVER.contains(&name)
        || NEVER_TOO
            .iter()
            .any(|beginning| name.as_str().starts_with(beginning));
    if never {
        Err("never passes to an API")
    } else {
        Ok(name)
    }
}

/// The headers of a request as the API gets them. `more` are the configuration's.
pub(crate) fn onward(from: &HeaderMap, more: &[HeaderName], upgrade: bool) -> HeaderMap {
    let named = named_by_connection(from);
    let mut headers = HeaderMap::with_capacity(16);
    let passes = |name: &HeaderName| {
        !named.contains(name)
            && (PASSED.contains(name)
                || PASSED_TOO.contains(&name.as_str())
                || more.contains(name)
                || (upgrade && WEBSOCKET.contains(name)))
    };
    for (name, value) in from {
        if passes(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else {
        // Compression would hide the answer from inspection.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    headers
}

/// Asks for the answer in a form that can be looked at: as a whole, unless parts are allowed, and without
/// extensions of WebSocket, which compress.
pub(crate) fn to_be_looked_at(headers: &mut HeaderMap, parts: bool) {
    if !parts {
        headers.remove(RANGE);
        headers.remove(IF_RANGE);
    }
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

/// Whether the body of an answer is what it is, and not a coding of it: that was not asked for, and would hide
/// it.
///
/// # Errors
/// Why not.
pub(crate) fn is_as_it_stands(headers: &HeaderMap) -> Result<(), &'static str> {
    let only = |name: HeaderName, coding: &str| {
        let mut all = headers.get_all(name).iter();
        all.all(|value| value.as_bytes().eq_ignore_ascii_case(coding.as_bytes()))
    };
    if !only(CONTENT_ENCODING, "identity") {
        return Err("the API's answer is compressed, though that was not asked for");
    }
    if !only(TRANSFER_ENCODING, "chunked") {
        return Err("the API's answer is coded on its way, though that was not asked for");
    }
    Ok(())
}

/// Takes out what would not be true of an answer that is not as it was (RFC 9110 §8.6, §8.8.3; RFC 9530).
pub(crate) fn of_changed(headers: &mut HeaderMap) {
    for name in [CONTENT_LENGTH, ETAG, ACCEPT_RANGES] {
        headers.remove(name);
    }
    for name in ["content-md5", "digest", "content-digest", "repr-digest"] {
        headers.remove(name);
    }
}

/// The headers of an answer as the agent gets them.
pub(crate) fn back(mut headers: HeaderMap, upgrade: bool) -> HeaderMap {
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            WITHHELD.contains(name)
                || WITHHELD_TOO
                    .iter()
                    .any(|beginning| name.as_str().starts_with(beginning))
        })
        .cloned()
        .chain(named_by_connection(&headers))
        .collect();
    for name in gone {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        all.iter().map(pair).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn only_what_is_known_passes_and_no_credential_does() {
        let sent = headers(&[
            ("authorization", "DPoP secret"),
            ("dpop", "proof"),
            ("cookie", "a=b"),
            ("proxy-authorization", "Basic x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("host", "gateway"),
            ("connection", "close, prefer"),
            ("prefer", "return=minimal"),
            ("accept", "application/json"),
            ("if-match", "\"1\""),
            ("x-tenant", "a"),
            ("accept-encoding", "gzip"),
            ("content-type", "application/json"),
        ]);
        let tenant = [HeaderName::from_static("x-tenant")];
        let onward = onward(&sent, &tenant, false);
        assert_eq!(
            names(&onward),
            [
                "accept",
                "accept-encoding",
                "content-type",
                "if-match",
                "x-tenant"
            ]
        );
        assert_eq!(onward["accept-encoding"], "identity");
    }

    #[test]
    fn codings_that_were_not_asked_for_are_refused_wherever_they_stand() {
        let of = |all: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in all {
                map.append(*name, HeaderValue::from_static(value));
            }
            is_as_it_stands(&map).is_ok()
        };
        assert!(of(&[]) && of(&[("content-encoding", "identity")]));
        assert!(of(&[("transfer-encoding", "Chunked")]));
        for coding in [
            "gzip",
            "br",
            "deflate",
            "zstd",
            "identity, gzip",
            "x-gzip",
            "",
        ] {
            assert!(!of(&[("content-encoding", coding)]), "{coding}");
        }
        assert!(!of(&[
            ("content-encoding", "identity"),
            ("content-encoding", "gzip")
        ]));
        assert!(!of(&[("transfer-encoding", "gzip, chunked")]));
    }

    #[test]
    fn what_is_to_be_looked_at_is_asked_for_as_a_whole() {
        let all = [
            ("range", "bytes=0-9"),
            ("if-range", "\"1\""),
            ("sec-websocket-extensions", "x"),
            ("accept", "*/*"),
        ];
        let mut parts = headers(&all);
        to_be_looked_at(&mut parts, true);
        assert_eq!(names(&parts), ["accept", "if-range", "range"]);
        to_be_looked_at(&mut parts, false);
        assert_eq!(names(&parts), ["accept"]);
    }

    #[test]
    fn a_configuration_cannot_let_everything_pass() {
        assert!(may_be_passed("X-Tenant").is_ok());
        for never in [
            "Authorization",
            "Cookie",
            "X-Forwarded-Host",
            "X-HTTP-Method-Override",
            "Transfer-Encoding",
            "Proxy-Connection",
            "DPoP",
            "a b",
        ] {
            assert!(may_be_passed(never).is_err(), "{never}");
        }
    }

    #[test]
    fn answers_give_no_session_and_no_challenge() {
        let from = headers(&[
            ("set-cookie", "session=1"),
            ("www-authenticate", "Basic"),
            ("access-control-allow-origin", "*"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-type", "application/json"),
            ("etag", "\"1\""),
        ]);
        assert_eq!(names(&back(from, false)), ["content-type", "etag"]);
    }
}
