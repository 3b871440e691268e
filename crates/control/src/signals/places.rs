//! Places of a transmitter that stand in no `[servers]`: its metadata, its keys, its token endpoint. Others say
//! where some of them are, so they are reached carefully: over TLS and at public addresses unless the
//! configuration says otherwise, never by a redirect, and with short answers only.

use bytes::Bytes;
use gateway::outbound::{Origin, Outbound, Post, Reach};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::config::SignalTransmitter;

/// Longest answer, in bytes.
const ANSWER: usize = 256 << 10;

/// Reaches such places.
pub(super) struct Places {
    outbound: Outbound,
    /// Whether they may be without TLS, and in private networks.
    private: bool,
}

impl Places {
    /// # Errors
    /// When the certification authorities cannot be used.
    pub(super) fn of(config: &SignalTransmitter) -> Result<Self, String> {
        let outbound =
            Outbound::new(config.ca.as_deref()).map_err(|why| format!("its `ca`: {why}"))?;
        Ok(Self {
            outbound,
            private: config.private,
        })
    }

    /// What stands at a URL.
    ///
    /// # Errors
    /// Why nothing does, in words.
    pub(super) async fn get(&self, url: &str) -> Result<Bytes, String> {
        let (status, body) = self
            .ask(Method::GET, url, HeaderMap::new(), Bytes::new())
            .await?;
        match status {
            StatusCode::OK => Ok(body),
            status => Err(format!("`{url}` answered with {status}")),
        }
    }

    /// Sends a form, and returns what is answered.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(super) async fn post_form(
        &self,
        url: &str,
        mut headers: HeaderMap,
        form: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, kind);
        self.ask(Method::POST, url, headers, form).await
    }

    async fn ask(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let (origin, _) =
            Origin::of(url).map_err(|why| format!("the URL cannot be used: {why}"))?;
        if !origin.is_secure() && !self.private {
            return Err(format!(
                "`{url}` is not https; `private = true` lets it be reached without TLS"
            ));
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let post = Post {
            method,
            url: url.to_owned(),
            reach: if self.private {
                Reach::Any
            } else {
                Reach::Public
            },
            headers,
            body,
        };
        let answered = self.outbound.fetch(post, ANSWER).await;
        answered.map_err(|error| error.to_string())
    }
}

/// Where the metadata of a transmitter is: the well-known path goes between the host and the path of its
/// issuer (SSF 1.0 §7.1.1, RFC 8615).
///
/// # Errors
/// When the issuer is no URL.
pub(super) fn metadata_of(issuer: &str) -> Result<String, String> {
    let (origin, uri) = Origin::of(issuer).map_err(|why| format!("its `issuer`: {why}"))?;
    if uri.query().is_some() {
        return Err("its `issuer` has a query in it".to_owned());
    }
    let path = uri.path().trim_end_matches('/');
    Ok(format!("{origin}/.well-known/ssf-configuration{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stands_between_host_and_path() {
        let of = |issuer: &str| metadata_of(issuer).unwrap();
        let well_known = "https://idp.example.com/.well-known/ssf-configuration";
        assert_eq!(of("https://idp.example.com"), well_known);
        assert_eq!(of("https://idp.example.com/"), well_known);
        assert_eq!(
            of("https://IDP.example.com/tenant/7"),
            format!("{well_known}/tenant/7")
        );
        assert!(metadata_of("https://idp.example.com/?x").is_err());
        assert!(metadata_of("urn:idp").is_err());
    }

    fn config(private: bool) -> SignalTransmitter {
        let config =
            serde_json::json!({ "issuer": "https://a", "audience": "b", "private": private });
        serde_json::from_value(config).unwrap()
    }

    #[tokio::test]
    async fn without_leave_nothing_is_reached_in_clear_or_in_private() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let places = Places::of(&config(false)).unwrap();
        for url in [
            format!("http://127.0.0.1:{port}/keys"),
            format!("https://127.0.0.1:{port}/keys"),
            format!("https://localhost:{port}/keys"),
            "file:///etc/passwd".to_owned(),
            format!("https://user@127.0.0.1:{port}/keys"),
        ] {
            assert!(places.get(&url).await.is_err(), "{url}");
        }
        assert!(listener.accept().is_err(), "nobody connected");
    }
}
