//! Requests over HTTP/2 as if they had come over HTTP/1.1, or not at all.
//!
//! What makes a request malformed by RFC 9113 (headers about the connection, `transfer-encoding`, line
//! ends in values, pseudo-headers where they do not belong, a `content-length` that is not the body's) the
//! library has refused already, by resetting the stream. Here is what else two readers could take
//! differently once the request is sent on over HTTP/1.1. Behind this, a request has a path and a
//! `Host`, and nobody needs to know how it came.

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::HEADERS;
use crate::Body;
use crate::problem::problem;

/// The request as the rest of the process reads requests.
///
/// # Errors
/// The answer that refuses it.
pub fn plain<B>(mut request: Request<B>) -> Result<Request<B>, Box<Response<Body>>> {
    let refuse = |status, detail, remedy| Err(Box::new(problem(status, detail, remedy)));
    let bad = |detail, remedy| refuse(StatusCode::BAD_REQUEST, detail, remedy);
    if request.method() == Method::CONNECT {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "there are no tunnels here over HTTP/2",
            "open a WebSocket over HTTP/1.1",
        );
    }
    if request.headers().len() > HEADERS {
        return refuse(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "there are more than 64 headers",
            "send fewer",
        );
    }
    if request.headers().values().any(is_padded) {
        return bad(
            "a header's value begins or ends with a space (RFC 9113 §8.2.1)",
            "send it without",
        );
    }
    if request.headers().get_all(CONTENT_LENGTH).iter().count() > 1 {
        return bad("there are two lengths of one body", "send one");
    }
    let Some(host) = host(request.uri(), request.headers()) else {
        return bad(
            "the request does not say which host it is for, or in two ways",
            "send `:authority`, and no `Host` or the same",
        );
    };
    let Some(path) = request.uri().path_and_query().cloned() else {
        return bad("the request has no path", "send `:path`");
    };
    // Only what is left of it says so: what had nothing but a fragment is shown as `/` before.
    let path = Uri::from(path);
    let is_path =
        path.path().starts_with('/') || (path.path() == "*" && request.method() == Method::OPTIONS);
    let is_http = matches!(request.uri().scheme_str(), None | Some("http" | "https"));
    if !is_path || !is_http {
        return bad(
            "what is requested is not a path of this gateway",
            "send a `:path` that begins with `/`, and the `:scheme` of its URL",
        );
    }
    request.headers_mut().insert(HOST, host);
    *request.uri_mut() = path;
    Ok(request)
}

/// The one host that a request is for: `:authority` and `Host` say the same, or only one of them says
/// something.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return None;
    }
    match (uri.authority(), host) {
        (None, host) => host.cloned(),
        (Some(authority), _) if authority.as_str().contains('@') => None,
        (Some(authority), Some(host))
            if !host
                .as_bytes()
                .eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            None
        }
        (Some(_), Some(host)) => Some(host.clone()),
        (Some(authority), None) => HeaderValue::from_str(authority.as_str()).ok(),
    }
}

fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn status(request: Request<()>) -> u16 {
        plain(request).map_or_else(|refused| refused.status().as_u16(), |_| 200)
    }

    #[test]
    fn a_request_has_one_host_and_a_path_of_its_own() {
        let plain = plain(request("GET", "https://gw.example:8601/a/b?c=d", &[])).unwrap();
        assert_eq!(plain.uri(), "/a/b?c=d");
        assert_eq!(plain.headers()[HOST], "gw.example:8601");
        for (uri, headers, expected) in [
            ("http://gw/a", &[("host", "GW")][..], 200),
            ("/a", &[("host", "gw")], 200),
            ("http://gw/a", &[("host", "other")], 400),
            ("http://gw/a", &[("host", "gw:80")], 400),
            ("http://gw/a", &[("host", "gw"), ("host", "gw")], 400),
            ("http://user@gw/a", &[], 400),
            ("/a", &[], 400),
            ("/a", &[("host", "a"), ("host", "b")], 400),
            ("ftp://gw/a", &[], 400),
            ("http://gw#/a", &[], 400),
        ] {
            assert_eq!(
                status(request("GET", uri, headers)),
                expected,
                "{uri} {headers:?}"
            );
        }
    }

    #[test]
    fn what_http_1_1_would_not_have_let_in_is_refused() {
        let with =
            |headers: &[(&'static str, &'static str)]| request("GET", "http://gw/a", headers);
        assert_eq!(status(with(&[("a", " b")])), 400);
        assert_eq!(status(with(&[("a", "b\t")])), 400);
        assert_eq!(status(with(&[("a", "b c")])), 200);
        assert_eq!(
            status(with(&[("content-length", "1"), ("content-length", "1")])),
            400
        );
        assert_eq!(status(request("CONNECT", "http://gw/a", &[])), 501);
        assert_eq!(status(request("OPTIONS", "*", &[("host", "gw")])), 200);
        assert_eq!(status(request("GET", "*", &[("host", "gw")])), 400);
        let mut many = with(&[]);
        for _ in 0..=HEADERS {
            many.headers_mut()
                .append("x-more", HeaderValue::from_static("1"));
        }
        assert_eq!(status(many), 431);
    }
}
