//! A transmitter of another make: its keys are where its metadata says, and it is polled with tokens of its
//! token endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PSS_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Setup, requests};

const READ: &str = r#"
description = "Look at something"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "api"
endpoints = ["GET /things"]
"#;

const AUDIENCE: &str = "https://sallyport.example.org";
const SECRET: &str = "the-secret-of-a-client";

/// An identity provider that signs with PS256 and speaks OAuth.
struct Idp {
    url: String,
    key: KeyPair,
    /// How many tokens were given out; only the last one is good.
    tokens: AtomicUsize,
    polled: AtomicUsize,
}

impl Idp {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            key: KeyPair::generate(KeySize::Rsa2048).unwrap(),
            tokens: AtomicUsize::new(0),
            polled: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&idp);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        idp
    }

    async fn serve(self: Arc<Self>, mut stream: TcpStream) {
        while let Some(request) = requests::next(&mut stream).await {
            let (status, body) = self.answer(&String::from_utf8_lossy(&request));
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if stream.write_all((head + &body).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str) -> (u16, Value) {
        let shown = request.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("authorization")
                .then(|| value.to_owned())
        });
        let shown = shown.unwrap_or_default();
        match request.split(' ').nth(1).unwrap_or_default() {
            "/.well-known/ssf-configuration" => (
                200,
                json!({ "issuer": self.url, "jwks_uri": format!("{}/keys", self.url) }),
            ),
            "/keys" => (200, json!({ "keys": [self.jwk()] })),
            "/token" => {
                let basic = format!("Basic {}", STANDARD.encode(format!("sallyport:{SECRET}")));
                if shown != basic
                    || !request.contains("grant_type=client_credentials&scope=ssf.read")
                {
                    return (401, json!({ "error": "invalid_client" }));
                }
                let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
                let token = format!("token-{number}");
                (
                    200,
                    json!({ "access_token": token, "token_type": "Bearer", "expires_in": 3600 }),
                )
            }
            "/poll" => {
                // The first token is taken back after one use.
                let polled = self.polled.fetch_add(1, Ordering::SeqCst);
                let good = if polled == 0 { "token-1" } else { "token-2" };
                if shown != format!("Bearer {good}") {
                    return (401, json!({}));
                }
                let event = (polled == 2).then(|| self.event());
                let sets = event.map_or_else(|| json!({}), |event| json!({ "jti-1": event }));
                (200, json!({ "sets": sets }))
            }
            _ => (404, json!({})),
        }
    }

    fn jwk(&self) -> Value {
        // RSAPublicKey of 2048 bits in DER (RFC 8017 §A.1.1).
        let der = self.key.public_key().as_ref();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "RSA", "alg": "PS256", "use": "sig", "kid": "k1",
                "n": number(&der[9..265]), "e": number(&der[267..]) })
    }

    /// Somebody's session is over.
    fn event(&self) -> String {
        let head = json!({ "alg": "PS256", "typ": "secevent+jwt", "kid": "k1" });
        let claims = json!({
            "iss": self.url, "aud": AUDIENCE, "jti": "jti-1", "iat": Timestamp::now().as_second(),
            "sub_id": { "format": "email", "email": "ada@example.org" },
            "events": { "https://schemas.openid.net/secevent/caep/event-type/session-revoked": {} },
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature)
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_keys_are_found_and_it_is_asked_with_tokens_of_its_own() {
    let idp = Idp::start().await;
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let mut gateway = Setup::new()
        .server("api", "http", "http://127.0.0.1:9")
        .and("http = { routes = [\"GET /things\"] }")
        .server("idp", "http", &idp.url)
        .and("http = { routes = [\"POST /poll\"] }")
        .and(&format!(
            "[signals.transmitters.idp]\nissuer = \"{url}\"\naudience = \"{AUDIENCE}\"\nserver = \"idp\"\n\
             poll = \"/poll\"\ndiscover = true\nprivate = true\n\
             [signals.transmitters.idp.oauth]\ntoken_endpoint = \"{url}/token\"\nclient_id = \"sallyport\"\n\
             client_secret = {{ file = \"{}\" }}\nscope = \"ssf.read\"",
            secret.display(),
            url = idp.url
        ))
        .template("read", READ)
        .start()
        .await;
    assert!(gateway.run(&["check"]).status.success());
    let agent = gateway.agent("triage").await;
    let task = agent.open_task("read", json!({})).await;
    gateway
        .wait_until("the task is revoked", async |this| {
            let shown = this
                .managed("GET", &format!("/v1/tasks/{task}"), json!({}))
                .await;
            shown["status"] == "revoked"
        })
        .await;
    assert_eq!(
        idp.tokens.load(Ordering::SeqCst),
        2,
        "one after the first was refused"
    );
    let records = gateway.records();
    assert!(records.iter().any(|it| it["change"] == "signals.received"));
    assert!(!gateway.stderr().contains(SECRET) && !gateway.stderr().contains("token-1"));

    // What cannot be meant is found before it is used.
    let config = std::fs::read_to_string(gateway.config()).unwrap();
    for (from, to) in [
        ("private = true\n", ""),
        ("discover = true\n", "discover = true\nkeys = \"/keys\"\n"),
        ("discover = true\n", "jwks_uri = \"file:///etc/passwd\"\n"),
        ("poll = \"/poll\"\n", ""),
    ] {
        std::fs::write(gateway.config(), config.replace(from, to)).unwrap();
        assert!(!gateway.run(&["check"]).status.success(), "{to}");
    }
}
