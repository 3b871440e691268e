use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// A site with what it answers at each path, and how often it was asked.
struct Site {
    url: String,
    pages: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            pages: Arc::default(),
            asked: Arc::default(),
        };
        let (pages, asked) = (Arc::clone(&site.pages), Arc::clone(&site.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = vec![0; 8_192];
                let read = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = match pages.lock().get(&path) {
                    Some(page) if page.starts_with("HTTP/") => page.clone(),
                    Some(page) => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}",
                        page.len()
                    ),
                    None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                asked.lock().push(path);
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        site
    }

    fn page(&self, path: &str, text: impl ToString) {
        self.pages.lock().insert(path.to_owned(), text.to_string());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }

    fn keys(&self, more: Value) -> Result<Keys, String> {
        let mut config = json!({ "issuer": self.url, "audience": "b", "private": true });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let config: SignalTransmitter = serde_json::from_value(config).unwrap();
        Keys::of(&config, None, &Arc::new(Places::of(&config)?))
    }
}

struct Signer(Ed25519KeyPair, &'static str);

impl Signer {
    fn new(kid: &'static str) -> Self {
        Self(Ed25519KeyPair::generate().unwrap(), kid)
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.0.public_key().as_ref());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.1 })
    }

    fn set(&self) -> Value {
        json!({ "keys": [self.jwk()] })
    }

    fn token(&self) -> String {
        let head = json!({ "alg": "EdDSA", "typ": signals::TYPE, "kid": self.1 }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(head),
            URL_SAFE_NO_PAD.encode("{}")
        );
        let signature = self.0.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

const METADATA: &str = "/.well-known/ssf-configuration";

async fn later(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_are_kept_and_fetched_again_when_they_change() {
    let site = Site::new();
    let keys = site.keys(json!({ "discover": true })).unwrap();
    let (old, new, same_name) = (Signer::new("k1"), Signer::new("k2"), Signer::new("k1"));
    let elsewhere = Site::new();
    site.page(
        METADATA,
        json!({ "issuer": site.url, "jwks_uri": format!("{}/keys", elsewhere.url) }),
    );
    elsewhere.page("/keys", old.set());
    for _ in 0..3 {
        keys.claims(&old.token()).await.unwrap();
    }
    assert_eq!((site.asked().len(), elsewhere.asked().len()), (1, 1));
    // A new key is not looked for at once: nobody makes the gateway ask without end.
    elsewhere.page("/keys", new.set());
    assert!(keys.claims(&new.token()).await.is_err());
    assert!(elsewhere.asked().is_empty());
    later(31).await;
    keys.claims(&new.token()).await.unwrap();
    assert_eq!(elsewhere.asked().len(), 1);
    assert!(
        keys.claims(&old.token()).await.is_err(),
        "a key that was taken back"
    );
    elsewhere.page("/keys", json!({ "keys": [new.jwk(), same_name.jwk()] }));
    later(31).await;
    keys.claims(&same_name.token()).await.unwrap();
    elsewhere.asked();
    later(601).await;
    keys.claims(&new.token()).await.unwrap();
    assert_eq!(elsewhere.asked().len(), 1, "old keys are fetched anew");
    // Without keys nothing is taken, and a broken place is not asked without end.
    elsewhere.page("/keys", json!({ "keys": [{ "kty": "oct", "k": "AA" }] }));
    later(601).await;
    for _ in 0..3 {
        let refused = keys.claims(&new.token()).await.unwrap_err();
        assert!(refused.may_pass(), "{refused}");
    }
    assert_eq!(elsewhere.asked().len(), 1);
}

#[tokio::test]
async fn metadata_of_others_and_redirects_lead_nowhere() {
    let (site, signer) = (Site::new(), Signer::new("k1"));
    site.page("/keys", signer.set());
    let uri = format!("{}/keys", site.url);
    for metadata in [
        json!({ "issuer": "https://evil.example", "jwks_uri": uri }).to_string(),
        json!({ "issuer": site.url }).to_string(),
        json!({ "issuer": site.url, "jwks_uri": "file:///etc/passwd" }).to_string(),
        "nonsense".to_owned(),
        format!("HTTP/1.1 302 Found\r\nLocation: {uri}\r\nContent-Length: 0\r\n\r\n"),
        "x".repeat(300 << 10),
    ] {
        site.page(METADATA, metadata);
        let keys = site.keys(json!({ "discover": true })).unwrap();
        assert!(keys.claims(&signer.token()).await.is_err());
        assert_eq!(site.asked(), [METADATA]);
    }
    let keys = site.keys(json!({ "jwks_uri": uri })).unwrap();
    keys.claims(&signer.token()).await.unwrap();
    // Without leave for private places, metadata that names one is followed nowhere.
    site.asked();
    let keys = site
        .keys(json!({ "jwks_uri": uri, "private": false }))
        .unwrap();
    assert!(keys.claims(&signer.token()).await.is_err());
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn where_keys_are_is_said_once() {
    let site = Site::new();
    for (more, good) in [
        (json!({ "discover": true }), true),
        (json!({ "jwks_uri": "https://a/keys" }), true),
        (json!({}), false),
        (json!({ "keys": "/keys" }), false),
        (json!({ "discover": true, "keys": "/keys" }), false),
        (
            json!({ "discover": true, "jwks_uri": "https://a/keys" }),
            false,
        ),
    ] {
        assert_eq!(site.keys(more.clone()).is_ok(), good, "{more}");
    }
}
