//! Step 2: who asks, by what an SDK of either surface presents as its key.

use gateway::caller::{Caller, Credentials, Unauthenticated};
use gateway::resource::{self, Route};
use gateway::{Body, peer, single};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use model::Proof;
use model::config::Surface;

use crate::Shared;
use crate::headers::VERSION;
use crate::refusal::Refusal;
use crate::surface::Api;

/// How the SDK of Anthropic presents its key.
const API_KEY: &str = "x-api-key";

/// The form that the client of a request understands, by what only one of the SDKs sends.
pub(crate) fn form(rest: &str, headers: &HeaderMap) -> Surface {
    let anthropic = rest.starts_with(Api::Messages.path())
        || headers.contains_key(API_KEY)
        || headers.contains_key(VERSION);
    if anthropic {
        Surface::Anthropic
    } else {
        Surface::OpenAi
    }
}

/// Where there is no `Authorization`, the key that the SDK of Anthropic presents is the token:
/// with a proof as DPoP has it, and else as a bearer token.
pub(crate) fn authenticate(
    shared: &Shared,
    request: &Request<Incoming>,
    route: &Route,
    rest: &str,
    base_url: &str,
) -> Result<Caller, Unauthenticated> {
    let pipeline = &shared.pipeline;
    match key(request.headers()) {
        Some(key) => {
            let credentials = Credentials {
                certificate: peer::of_request(request.extensions()),
                ..key
            };
            let method = request.method().as_str();
            pipeline.authenticate_with(method, route, rest, base_url, &credentials)
        }
        None => pipeline.authenticate(request, route, rest, base_url),
    }
}

/// What is presented as the key of an SDK; the token of an `Authorization` header comes first.
fn key(headers: &HeaderMap) -> Option<Credentials<'_>> {
    if headers.contains_key(AUTHORIZATION) {
        return None;
    }
    let token = single(headers, API_KEY)?.trim();
    let (scheme, proof) = if headers.contains_key("dpop") {
        (Proof::Dpop, single(headers, "dpop"))
    } else {
        (Proof::Bearer, None)
    };
    let credentials = Credentials {
        scheme,
        token,
        proof,
        certificate: None,
    };
    (!token.is_empty()).then_some(credentials)
}

/// 401 with the challenge of OAuth, and an error that the SDKs understand.
pub(crate) fn challenge(
    refused: &Unauthenticated,
    route: &Route,
    base_url: &str,
    surface: Surface,
) -> Response<Body> {
    let mut response = resource::challenge(refused, route, base_url);
    let refusal = Refusal::unauthenticated(response.status(), refused.denial());
    let said = refusal.response(surface);
    for (name, value) in said.headers() {
        response.headers_mut().insert(name, value.clone());
    }
    *response.body_mut() = said.into_body();
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_key_of_an_sdk_is_the_token_when_nothing_else_is() {
        let of = |of: &[(&'static str, &'static str)]| {
            key(&headers(of)).map(|found| (found.scheme, found.token.to_owned()))
        };
        let bearer = Some((Proof::Bearer, "t".to_owned()));
        assert_eq!(of(&[("x-api-key", "t")]), bearer);
        let dpop = Some((Proof::Dpop, "t".to_owned()));
        assert_eq!(of(&[("x-api-key", "t"), ("dpop", "p")]), dpop);
        assert_eq!(
            of(&[("x-api-key", "t"), ("authorization", "Bearer u")]),
            None
        );
        assert_eq!(of(&[("x-api-key", "t"), ("x-api-key", "u")]), None);
        assert_eq!(of(&[("x-api-key", " ")]), None);
    }
}
