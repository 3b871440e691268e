//! What a client of the proxy shows: an access token in `Proxy-Authorization`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway::Body;
use gateway::caller::{Credentials, Unauthenticated};
use gateway::problem::problem;
use gateway::sources::Wrong;
use http::header::{HeaderName, PROXY_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use identity::svid::Svid;
use model::{Proof, TaskId};
use zeroize::Zeroizing;

/// The beginning of every task's id.
const TASK: &str = "task_";

/// A token, as it was shown.
pub(super) struct Shown {
    scheme: Proof,
    token: Zeroizing<String>,
    /// The one proof, if exactly one came.
    proof: Option<String>,
    /// The task that the user name is, if it is one.
    pub(super) task: Option<TaskId>,
}

impl Shown {
    /// Reads the one header of this name: `Basic` with the token as password, `Bearer`, or `DPoP` with a
    /// proof beside it. A user name says nothing, unless it is the id of a task: then the token must be
    /// that task's.
    ///
    /// # Errors
    /// [`Unauthenticated`] when there is no token, or not exactly one.
    pub(super) fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Self, Unauthenticated> {
        let mut values = headers.get_all(name).iter();
        let value = values
            .next()
            .ok_or_else(|| refused(None, "no access token was sent"))?;
        let text = match values.next() {
            None => value.to_str().ok(),
            Some(_) => None,
        };
        let (scheme, rest) = text
            .and_then(|text| text.split_once(' '))
            .ok_or_else(malformed)?;
        let rest = rest.trim();
        let plain = |scheme| Self {
            scheme,
            token: Zeroizing::new(rest.to_owned()),
            proof: None,
            task: None,
        };
        let shown = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => plain(Proof::Bearer),
            "dpop" => Self {
                proof: one_proof(headers),
                ..plain(Proof::Dpop)
            },
            "basic" => Self::basic(rest)?,
            _ => return Err(malformed()),
        };
        if shown.token.is_empty() {
            Err(malformed())
        } else {
            Ok(shown)
        }
    }

    /// A user name and a password (RFC 7617).
    fn basic(text: &str) -> Result<Self, Unauthenticated> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| malformed())?);
        let pair = std::str::from_utf8(&bytes).map_err(|_| malformed())?;
        let (user, token) = pair.split_once(':').ok_or_else(malformed)?;
        let task = user
            .starts_with(TASK)
            .then(|| TaskId::parse(user).map_err(|_| malformed()))
            .transpose()?;
        Ok(Self {
            scheme: Proof::Bearer,
            token: Zeroizing::new(token.to_owned()),
            proof: None,
            task,
        })
    }

    /// The same, to be checked, with what the connection was made with.
    pub(super) fn credentials<'a>(&'a self, certificate: Option<&'a Svid>) -> Credentials<'a> {
        Credentials {
            scheme: self.scheme,
            token: &self.token,
            proof: self.proof.as_deref(),
            certificate,
        }
    }
}

fn one_proof(headers: &HeaderMap) -> Option<String> {
    gateway::single(headers, "dpop").map(str::to_owned)
}

fn refused(error: Option<&'static str>, reason: &str) -> Unauthenticated {
    Unauthenticated {
        error,
        reason: reason.to_owned(),
        scheme: Proof::Bearer,
        nonce: None,
    }
}

fn malformed() -> Unauthenticated {
    refused(
        Some("invalid_request"),
        "send the task's access token once: as the password of Basic, or with Bearer, or with DPoP and a \
         proof",
    )
}

/// The answer to a request without a caller: 407 with challenges (RFC 9110 §11.7.1), the first one for
/// clients that know nothing but passwords.
pub(super) fn challenge(refused: &Unauthenticated, resource: &str) -> Response<Body> {
    let mut response = problem(
        StatusCode::PROXY_AUTHENTICATION_REQUIRED,
        &refused.reason,
        "get a token for the proxy from the authorization server that its metadata names, and give it as \
         the password in HTTPS_PROXY; or start the agent with `sallyport connect --proxy`",
    );
    let metadata = format!("resource_metadata=\"{resource}{}\"", super::METADATA);
    let error = refused.error.map_or_else(String::new, |error| {
        let reason: String = refused
            .reason
            .chars()
            .filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\'))
            .collect();
        format!(", error=\"{error}\", error_description=\"{reason}\"")
    });
    if refused.is_wrong() {
        response.extensions_mut().insert(Wrong);
    }
    let headers = response.headers_mut();
    for value in [
        "Basic realm=\"sallyport\", charset=\"UTF-8\"".to_owned(),
        format!("Bearer {metadata}{error}"),
        format!("DPoP {metadata}, algs=\"ES256 EdDSA\"{error}"),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(PROXY_AUTHENTICATE, value);
        }
    }
    if let Some(nonce) = refused.nonce.as_deref()
        && let Ok(nonce) = HeaderValue::from_str(nonce)
    {
        headers.insert(HeaderName::from_static("dpop-nonce"), nonce);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::PROXY_AUTHORIZATION;

    const ID: &str = "task_0190b6a0000070008000000000000000";

    fn read(values: &[String]) -> Result<(Proof, String, bool), Option<&'static str>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PROXY_AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers.insert("dpop", HeaderValue::from_static("proof"));
        Shown::of(&headers, &PROXY_AUTHORIZATION)
            .map(|shown| {
                assert_eq!(shown.proof.is_some(), shown.scheme == Proof::Dpop);
                (shown.scheme, shown.token.to_string(), shown.task.is_some())
            })
            .map_err(|refused| refused.error)
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn a_token_comes_in_one_of_three_ways() {
        let token = |scheme, task| Ok((scheme, "a.b.c".to_owned(), task));
        assert_eq!(read(&["Bearer a.b.c".into()]), token(Proof::Bearer, false));
        assert_eq!(read(&["dpop a.b.c".into()]), token(Proof::Dpop, false));
        for user in ["", "x", "someone@example.org"] {
            let shown = read(&[basic(&format!("{user}:a.b.c"))]);
            assert_eq!(shown, token(Proof::Bearer, false), "{user}");
        }
        let with_task = read(&[basic(&format!("{ID}:a.b.c"))]);
        assert_eq!(with_task, token(Proof::Bearer, true));
    }

    #[test]
    fn nothing_else_is_a_token() {
        assert_eq!(read(&[]), Err(None));
        for bad in [
            vec!["Bearer".to_owned()],
            vec!["Bearer ".to_owned()],
            vec!["Digest a".to_owned()],
            vec!["Basic !!".to_owned()],
            vec![basic("no colon")],
            vec![basic("user:")],
            vec![basic("task_1:a.b.c")],
            vec!["Bearer a".to_owned(), "Bearer a".to_owned()],
        ] {
            assert_eq!(read(&bad), Err(Some("invalid_request")), "{bad:?}");
        }
    }

    #[test]
    fn a_challenge_names_the_metadata_and_never_breaks_its_header() {
        let refused = Unauthenticated {
            error: Some("invalid_token"),
            reason: "a \"quoted\" \\ reason\r\nwith: more".to_owned(),
            scheme: Proof::Dpop,
            nonce: Some("n1".to_owned()),
        };
        let response = challenge(&refused, "http://127.0.0.1:8603");
        assert_eq!(response.status(), 407);
        assert_eq!(response.headers()["dpop-nonce"], "n1");
        let all: Vec<&str> = response
            .headers()
            .get_all(PROXY_AUTHENTICATE)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert!(all[0].starts_with("Basic realm="), "{all:?}");
        assert!(
            all[1].contains("http://127.0.0.1:8603/.well-known/oauth-protected-resource"),
            "{all:?}"
        );
        assert!(
            all[2].ends_with("error_description=\"a quoted  reasonwith: more\""),
            "{all:?}"
        );
    }
}
