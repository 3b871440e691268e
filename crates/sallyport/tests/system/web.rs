//! HTTP APIs behind the gateway: what reaches them, what does not, and what comes back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::{Answer, Call};
use crate::support::local::Local;
use crate::support::tunnels::Api;
use crate::support::{Gateway, Setup};

mod inspected;
mod smuggling;
mod sockets;
mod streaming;
mod versions;

const ROUTES: &str = r#"
[servers.crm.http]
routes = [
  "GET /customers/{id}", "POST /orders", "GET /count", "GET /stream", "GET /away", "GET /here",
  "GET /session", "GET /locked", "GET /forbidden", "WEBSOCKET /feed", "DELETE /customers/{id}",
]
redact = { "GET /customers/{id}" = ["$.ssn", "$..card"] }
call_token = {}

# The API says which credential reached it.
[servers.crm.inspection]
secrets = "ignore"
"#;

const CLERK: &str = r#"
description = "Look after one customer"
agents = ["*"]
ttl = "10m"
proof = "bearer"

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}"]
arguments = { "path.id" = { equals = "${customer}" } }
other_arguments = "allow"

[[allow]]
server = "crm"
endpoints = ["POST /orders"]
arguments = { "body.customer" = { equals = "${customer}" }, "body.amount" = { max = 100 } }

[[allow]]
server = "crm"
endpoints = [
  "GET /count", "GET /stream", "GET /away", "GET /here", "GET /session", "GET /locked", "GET /forbidden", "WEBSOCKET /feed",
]
"#;

struct Desk {
    gateway: Gateway,
    agent: Agent,
    task: String,
    token: Token,
    api: Api,
}

impl Desk {
    async fn new() -> Self {
        Self::with(ROUTES, CLERK).await
    }

    /// With these lines about the API, and what else the configuration says, and this template.
    async fn with(lines: &str, clerk: &str) -> Self {
        let api = Api::clear();
        let gateway = Setup::new()
            .server("crm", "http", &api.url())
            .and(lines)
            .template("clerk", clerk)
            .start()
            .await;
        let agent = gateway.agent("clerk-1").await;
        let task = agent.open_task("clerk", json!({ "customer": "7" })).await;
        let token = agent.token_of_kind("http", "crm", &task, true).await;
        Self {
            gateway,
            agent,
            task,
            token,
            api,
        }
    }

    async fn send(&self, call: Call) -> Answer {
        self.agent
            .authorise(call, &self.token)
            .send()
            .await
            .unwrap()
    }

    fn url(&self, rest: &str) -> String {
        format!("{}{rest}", self.token.resource)
    }

    async fn get(&self, rest: &str) -> Answer {
        self.send(Call::get(&self.url(rest))).await
    }

    /// How many requests the API has seen, asked directly.
    async fn seen(&self) -> u64 {
        let count = Call::get(&format!("{}/count", self.api.url())).send().await;
        count.unwrap().json()["count"].as_u64().unwrap() - 1
    }

    /// A bearer token, for clients that know of nothing else.
    async fn bearer(&self) -> String {
        self.agent
            .token_of_kind("http", "crm", &self.task, false)
            .await
            .text
    }

    /// The head of a request with a bearer token, for sending bytes by hand.
    async fn raw_head(&self, line: &str, more: &str) -> String {
        format!(
            "{line} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n{more}\r\n",
            self.address(),
            self.bearer().await
        )
    }

    /// What the API says of a path, asked directly.
    async fn told(&self, path: &str) -> Value {
        let answer = Call::get(&format!("{}{path}", self.api.url())).send().await;
        answer.unwrap().json()
    }

    fn address(&self) -> &str {
        self.gateway.gateway.strip_prefix("http://").unwrap()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// The status of the answer to bytes that are sent by hand.
    fn raw_status(&self, bytes: &[u8]) -> u16 {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }
}

fn rule(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), "application/problem+json");
    rule_of(answer)
}

fn rule_of(answer: &Answer) -> String {
    answer.json()["rule"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_reaches_its_endpoints_and_nothing_of_the_agents_credentials_does() {
    let desk = Desk::new().await;
    let got = desk
        .send(
            Call::get(&desk.url("/customers/7?verbose=1"))
                .header("cookie", "session=stolen")
                .header("x-forwarded-for", "10.0.0.1")
                .header("x-http-method-override", "DELETE")
                .header("accept", "application/json"),
        )
        .await;
    assert_eq!(got.status, 200, "{got:?}");
    let body = got.json();
    assert_eq!(body["ssn"], "(redacted)");
    assert_eq!(body["orders"][0]["card"], "(redacted)");
    let received = &body["received"];
    assert_eq!(received["path"], "/v1/customers/7?verbose=1");
    let headers = received["headers"].as_object().unwrap();
    for gone in [
        "cookie",
        "dpop",
        "x-forwarded-for",
        "x-http-method-override",
    ] {
        assert!(!headers.contains_key(gone), "{headers:?}");
    }
    assert!(
        !headers["authorization"]
            .as_str()
            .unwrap()
            .contains(&desk.token.text)
    );

    let seen = desk.seen().await;
    for (call, expected) in [
        (Call::get(&desk.url("/customers/8")), "argument_refused"),
        (
            Call::new("DELETE", &desk.url("/customers/7")),
            "not_granted",
        ),
        (
            Call::post(&desk.url("/orders")).json(&json!({"customer": "7", "amount": 101})),
            "argument_refused",
        ),
        (
            Call::post(&desk.url("/orders"))
                .json(&json!({"customer": "7", "amount": 1, "to": "x"})),
            "argument_refused",
        ),
    ] {
        let answer = desk.send(call).await;
        assert_eq!((answer.status, rule(&answer).as_str()), (403, expected));
        assert!(
            answer.json()["decision"]
                .as_str()
                .unwrap()
                .starts_with("dec_")
        );
    }
    assert_eq!(
        desk.seen().await,
        seen + 1,
        "only the count itself reached it"
    );
    let order = json!({"customer": "7", "amount": 100});
    let answer = desk
        .send(Call::post(&desk.url("/orders")).json(&order))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["received"]["body"], order.to_string());
    desk.gateway.verify();
    let records = desk.gateway.records();
    let intent = records
        .iter()
        .find(|record| record["target"] == "POST /orders" && record["permitted"] == true)
        .unwrap();
    assert_eq!(intent["arguments"]["body.amount"], 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_carries_a_credential_of_its_own_that_is_of_no_use_here() {
    let desk = Desk::new().await;
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let received = desk.get("/customers/7").await.json()["received"].clone();
        let value = received["headers"]["authorization"]
            .as_str()
            .unwrap()
            .to_owned();
        tokens.push(value.strip_prefix("Bearer ").unwrap().to_owned());
    }
    assert_ne!(tokens[0], tokens[1]);
    let [header, claims, signature] = tokens[0].split('.').collect::<Vec<_>>()[..] else {
        panic!("{tokens:?}");
    };
    let decoded = |part: &str| -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(part)
            .unwrap()
    };
    let said: Value = serde_json::from_slice(&decoded(claims)).unwrap();
    assert_eq!(said["sub"], "spiffe://example.org/agent/clerk-1");
    assert_eq!(said["aud"], desk.api.url());
    assert_eq!(said["htm"], "GET");
    assert_eq!(said["htu"], format!("{}/customers/7", desk.api.url()));
    assert_eq!(said["task"], desk.task);
    assert_eq!(
        said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(),
        60
    );
    let keys = Call::get(&format!("{}/oauth/jwks", desk.gateway.control))
        .send()
        .await;
    let key = keys.unwrap().json()["keys"][0].to_string();
    let key = identity::PublicKey::parse_jwk(&key).unwrap();
    assert!(key.verifies_detached(header, &decoded(claims), signature));
    // It names this very decision, and the gateway takes it for nothing.
    assert!(
        desk.gateway
            .records()
            .iter()
            .any(|record| record["decision"] == said["jti"])
    );
    let replayed = Call::get(&desk.url("/customers/7"))
        .header("authorization", &format!("Bearer {}", tokens[0]))
        .send()
        .await
        .unwrap();
    assert_eq!(replayed.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_bodies_that_two_could_read_differently_reach_nobody() {
    let desk = Desk::new().await;
    let seen = desk.seen().await;
    for path in [
        "/customers/7/../8",
        "/customers/%2e%2e/count",
        "/customers/7%2F..%2F8",
        "/customers//7",
        "/./count",
        "/count;x=1",
        "/count%00",
        "/%63ount",
        "/Count",
        "/customers\\7",
        "/nothing",
    ] {
        let head = desk.raw_head(&format!("GET /http/crm{path}"), "").await;
        let status = desk.raw_status(head.as_bytes());
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    for (kind, body) in [
        (
            "application/json",
            r#"{"customer":"7","amount":1,"amount":9000}"#,
        ),
        ("application/json", r#"{"customer":"7","amount":1} x"#),
        (
            "application/json",
            r#"{"customer":"7","amount":1,"Amount":9000}"#,
        ),
        (
            "application/json; charset=utf-16",
            r#"{"customer":"7","amount":1}"#,
        ),
        ("text/plain", "customer=7"),
        ("application/x-www-form-urlencoded", "customer=7;amount=1"),
    ] {
        let call = Call::post(&desk.url("/orders"))
            .header("content-type", kind)
            .body(body);
        let status = desk.send(call).await.status;
        assert!(matches!(status, 400 | 415), "{body}: {status}");
    }
    for query in ["?a=%", "?a=1;b=2", "?=1"] {
        let answer = desk.get(&format!("/customers/7{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(desk.seen().await, seen + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_smuggle_a_second_request_behind_a_first() {
    let desk = Desk::new().await;
    let seen = desk.seen().await;
    let inner = "DELETE /v1/customers/7 HTTP/1.1\r\nhost: x\r\n\r\n";
    for (more, body) in [
        (
            "content-type: application/json\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n",
            format!("0\r\n\r\n{inner}"),
        ),
        (
            "content-type: application/json\r\ncontent-length: 4\r\ncontent-length: 60\r\n",
            inner.to_owned(),
        ),
        (
            "content-type: application/json\r\ntransfer-encoding: identity, chunked\r\n",
            format!("0\r\n\r\n{inner}"),
        ),
        (
            "content-type: application/json\r\ntransfer-encoding: xchunked\r\n",
            format!("0\r\n\r\n{inner}"),
        ),
        (
            "content-type: application/json\r\ncontent-length: +4\r\n",
            inner.to_owned(),
        ),
    ] {
        let head = desk.raw_head("POST /http/crm/orders", more).await;
        let status = desk.raw_status(format!("{head}{body}").as_bytes());
        assert!((400..500).contains(&status), "{more:?}: {status}");
    }
    // Whatever the gateway made of the rest, the API has not seen it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(desk.seen().await, seen + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_sessions_and_challenges_of_the_api_stay_with_it() {
    let desk = Desk::new().await;
    assert_eq!(desk.get("/away").await.status, 502);
    let here = desk.get("/here").await;
    assert_eq!(here.status, 302);
    assert_eq!(here.header("location"), desk.url("/customers/7?x=1"));
    let session = desk.get("/session").await;
    assert_eq!(session.status, 200);
    assert_eq!(
        (
            session.header("set-cookie"),
            session.header("www-authenticate")
        ),
        ("", "")
    );
    assert_eq!(desk.get("/locked").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_api_cannot_look_like_one_of_the_gateway() {
    let desk = Desk::new().await;
    let forged = desk.get("/forbidden").await;
    assert_eq!(
        (forged.status, rule_of(&forged)),
        (403, "not_granted".to_owned())
    );
    assert_eq!(forged.header("www-authenticate"), "");
    let own = desk.get("/customers/8").await;
    assert_eq!(
        (own.status, rule(&own)),
        (403, "argument_refused".to_owned())
    );
    let marks = |answer: &Answer| -> Vec<String> {
        let all = answer.headers.get_all("proxy-status").iter();
        all.map(|mark| mark.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(marks(&forged), ["sallyport; received-status=403"]);
    assert_eq!(marks(&own), ["sallyport; error=http_request_denied"]);
    assert_eq!(
        marks(&desk.get("/locked").await),
        ["sallyport; error=http_protocol_error"]
    );
    assert!(marks(&desk.get("/count").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_cuts_what_streams_and_what_was_upgraded() {
    let desk = Desk::new().await;
    let mut stream = desk.connect();
    let head = desk.raw_head("GET /http/crm/stream", "").await;
    stream.write_all(head.as_bytes()).unwrap();
    let mut some = [0; 400];
    stream.read_exact(&mut some).unwrap();
    assert!(some.starts_with(b"HTTP/1.1 200"));

    let mut socket = desk.connect();
    let upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = desk.raw_head("GET /http/crm/feed", upgrade).await;
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(answer.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
    // A text of four letters, masked with nothing; it comes back without a mask.
    socket.write_all(b"\x81\x84\0\0\0\0ping").unwrap();
    let mut echo = [0; 6];
    socket.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x81\x04ping");

    assert!(
        desk.gateway
            .run(&["task", "revoke", &desk.task])
            .status
            .success()
    );
    let mut rest = Vec::new();
    // Either an end or a reset; in no case the last chunk of a complete answer.
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let answer = desk.get("/count").await;
    assert!(matches!(answer.status, 401 | 403), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_reaches_it_through_a_local_listener() {
    let desk = Desk::new().await;
    let local = Local::start(&desk.agent, "crm", "clerk", &["customer=7"]);
    let script = "import json,sys,urllib.request as r\nprint(json.load(r.urlopen(sys.argv[1]))['received']['path'])";
    let output = Command::new("python3")
        .args(["-c", script, &format!("{}/customers/7", local.url)])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "/v1/customers/7",
        "{output:?}"
    );
    let proved = desk.gateway.records().into_iter().any(|record| {
        record["event"] == "intent"
            && record["target"] == "GET /customers/{id}"
            && record["proof"] == "dpop"
    });
    assert!(proved);
    local.end();
}
