//! Requests over HTTP/2 that would be others once they are sent on over HTTP/1.1.

use serde_json::{Map, Value, json};
use std::process::Command;

use super::Desk;
use crate::support::packages;

/// The fields of a request, of which each case changes something.
struct Fields(Vec<(String, String)>);

impl Fields {
    /// Takes the place of a field.
    fn set(&self, name: &str, value: &str) -> Value {
        let all = self.0.iter().map(|(known, before)| {
            let value = if known == name { value } else { before };
            json!([known, value])
        });
        all.collect()
    }

    /// Leaves a field out.
    fn without(&self, name: &str) -> Value {
        let all = self.0.iter().filter(|(known, _)| known != name);
        all.map(|(name, value)| json!([name, value])).collect()
    }

    /// Adds fields behind.
    fn and(&self, more: &[(&str, &str)]) -> Value {
        let mut all = self.set("", "");
        let more = more.iter().map(|(name, value)| json!([name, value]));
        all.as_array_mut().unwrap().extend(more);
        all
    }
}

/// Sends each case over a connection of its own; what became of them.
async fn send(desk: &Desk, cases: Map<String, Value>) -> Map<String, Value> {
    let mut command = Command::new(packages::install("web").join("venv/bin/python"));
    command.arg(packages::folder("web").join("frames.py"));
    let port: u16 = desk.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let plan = json!({ "port": port, "cases": cases });
    let Value::Object(outcomes) = packages::carry_out(command, &plan).await else {
        panic!("no outcomes");
    };
    outcomes
}

fn fields(desk: &Desk, method: &str, path: &str, token: &str) -> Fields {
    let all = [
        (":method", method),
        (":scheme", "http"),
        (":authority", desk.address()),
        (":path", path),
        ("authorization", &format!("Bearer {token}")),
        ("content-type", "application/json"),
    ];
    Fields(
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
    )
}

const ORDER: &str = r#"{"customer":"7","amount":1}"#;
const INNER: &str = "DELETE /v1/customers/7 HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_http_1_1_is_none_of_http_2_either() {
    let desk = Desk::new().await;
    let token = desk.bearer().await;
    let seen = desk.seen().await;
    let get = fields(&desk, "GET", "/http/crm/count", &token);
    let post = fields(&desk, "POST", "/http/crm/orders", &token);
    let whole = |fields: Value| json!([["headers", fields, true]]);
    let body =
        |fields: Value, text: &str| json!([["headers", fields, false], ["data", text, true]]);
    let behind = |text: &str| format!("{ORDER}{text}");
    let trailers = |more: &[(&str, &str)]| {
        let trailers = Fields(Vec::new()).and(more);
        json!([
            ["headers", post.and(&[]), false],
            ["data", ORDER, false],
            ["headers", trailers, true]
        ])
    };
    let long = ORDER.len().to_string();
    let mut cases = Map::new();
    for (name, value) in [
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("upgrade", "websocket"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x-a", "b\r\ntransfer-encoding: chunked"),
        ("x-a", "b\nx: y"),
        ("x-a", "b\rx: y"),
        ("x-a", "b\0c"),
        ("x-a", " b"),
        ("x-a", "b\t"),
        ("x-a\r\nx-b", "c"),
        ("x-a: b\r\nx-c", "d"),
        ("X-Upper", "a"),
        ("x a", "b"),
        ("", "a"),
        ("host", "elsewhere.example"),
        (":path", "/http/crm/stream"),
        (":method", "DELETE"),
        (":unknown", "a"),
        (":status", "200"),
    ] {
        let case = whole(get.and(&[(name, value)]));
        cases.insert(format!("a field {name:?}: {value:?}"), case);
    }
    for (name, value) in [
        (":path", "/http/crm/count HTTP/1.1\r\nx: y"),
        (":path", "/http/crm/count\r\n\r\nGET /v1/away HTTP/1.1"),
        (":path", "/http/crm/count /x"),
        (":path", "http/crm/count"),
        (":path", "http://127.0.0.1/http/crm/count"),
        (":path", "*"),
        (":path", ""),
        (":path", "/http/crm/../crm/count"),
        (":path", "/http/crm/%63ount"),
        (":method", "GET /v1/away HTTP/1.1\r\n"),
        (":method", "GE T"),
        (":method", ""),
        (":authority", "elsewhere.example"),
        (":authority", "user@127.0.0.1"),
        (":authority", "127.0.0.1\r\nx: y"),
        (":scheme", "ftp"),
        (":scheme", "http://127.0.0.1/x"),
    ] {
        cases.insert(format!("{name} {value:?}"), whole(get.set(name, value)));
    }
    for name in [":method", ":scheme", ":path", ":authority"] {
        cases.insert(format!("no {name}"), whole(get.without(name)));
    }
    let hosts = get.and(&[("host", desk.address()), ("host", desk.address())]);
    cases.insert("two hosts".into(), whole(hosts));
    for (name, lengths, text) in [
        ("a shorter length", &["4"][..], ORDER.to_owned()),
        ("a longer length", &["999"], ORDER.to_owned()),
        ("two lengths", &["4", &long], ORDER.to_owned()),
        ("the same length twice", &[&long, &long], ORDER.to_owned()),
        ("a list of lengths", &["4, 27"], ORDER.to_owned()),
        ("a signed length", &["+27"], ORDER.to_owned()),
        ("no number", &["0x1b"], ORDER.to_owned()),
        ("a request behind the length", &[&long], behind(INNER)),
        ("a request behind the body", &[], behind(INNER)),
        ("a request behind no length", &["0"], INNER.to_owned()),
    ] {
        let lengths: Vec<(&str, &str)> = lengths.iter().map(|n| ("content-length", *n)).collect();
        cases.insert(name.into(), body(post.and(&lengths), &text));
    }
    cases.insert(
        "a length and no body".into(),
        whole(get.and(&[("content-length", "5")])),
    );
    cases.insert(
        "an encoding in trailers".into(),
        trailers(&[("transfer-encoding", "chunked")]),
    );
    cases.insert(
        "line ends in trailers".into(),
        trailers(&[("x", "a\r\nb: c")]),
    );
    let mut connect = fields(&desk, "CONNECT", "/http/crm/feed", &token);
    cases.insert("a tunnel with a path".into(), whole(connect.and(&[])));
    connect
        .0
        .insert(3, (":protocol".to_owned(), "websocket".to_owned()));
    cases.insert(
        "an extended CONNECT".into(),
        json!([["headers", connect.and(&[]), false]]),
    );
    connect
        .0
        .retain(|(name, _)| !matches!(name.as_str(), ":scheme" | ":path" | ":protocol"));
    cases.insert("a tunnel".into(), whole(connect.and(&[])));

    for (name, outcome) in send(&desk, cases).await {
        let refused = outcome["status"]
            .as_u64()
            .is_some_and(|status| (400..600).contains(&status));
        let broken = !outcome["reset"].is_null() || !outcome["goaway"].is_null();
        assert!(refused || broken, "{name}: {outcome}");
        assert!(refused || outcome["status"].is_null(), "{name}: {outcome}");
    }
    assert_eq!(
        desk.seen().await,
        seen + 1,
        "only the count itself reached the API"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_a_request_passes_without_its_trailers() {
    let desk = Desk::new().await;
    let token = desk.bearer().await;
    let post = fields(&desk, "POST", "/http/crm/orders", &token);
    let length = ORDER.len().to_string();
    let trailers = Fields(Vec::new()).and(&[("x-behind", "1"), ("authorization", "Bearer x")]);
    let path = Fields(Vec::new()).and(&[(":path", "/http/crm/away"), (":status", "200")]);
    let host = post.and(&[("host", desk.address())]);
    let get = fields(&desk, "GET", "/http/crm/count", &token);
    let only_host = {
        let mut all = get.without(":authority");
        all.as_array_mut()
            .unwrap()
            .push(json!(["host", desk.address()]));
        all
    };
    let cases = json!({
        "plain": [["headers", post.and(&[]), false], ["data", ORDER, true]],
        "with its length": [["headers", post.and(&[("content-length", &length)]), false], ["data", ORDER, true]],
        "in pieces": [["headers", host, false], ["data", &ORDER[..9], false], ["data", &ORDER[9..], true]],
        "with trailers": [["headers", post.and(&[("te", "trailers")]), false], ["data", ORDER, false], ["headers", trailers, true]],
        // The library leaves them out, as all trailers are: nobody reads them.
        "with a path in trailers": [["headers", post.and(&[]), false], ["data", ORDER, false], ["headers", path, true]],
        "without authority": [["headers", only_host, true]],
    });
    let Value::Object(cases) = cases else {
        panic!("not an object");
    };
    let seen = desk.seen().await;
    let all = cases.len() as u64;
    for (name, outcome) in send(&desk, cases).await {
        let status = outcome["status"].as_u64().unwrap_or_default();
        assert!((200..300).contains(&status), "{name}: {outcome}");
    }
    assert_eq!(desk.seen().await, seen + 1 + all);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_http_2_end_their_own_connection_only() {
    let desk = Desk::new().await;
    let token = desk.bearer().await;
    let get = fields(&desk, "GET", "/http/crm/count", &token);
    let taken_back: Vec<Value> = (0..2_000)
        .flat_map(|_| {
            let request = json!(["headers", get.and(&[]), false]);
            [request, json!(["reset"]), json!(["next"])]
        })
        .collect();
    let spoilt: Vec<Value> = (0..2_000)
        .flat_map(|_| {
            let wrong = json!(["headers", get.and(&[("connection", "close")]), false]);
            [wrong, json!(["next"])]
        })
        .collect();
    let many: Vec<(String, String)> = (0..65)
        .map(|n| (format!("x-{n}"), "1".to_owned()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let mut cases = Map::new();
    cases.insert("requests taken back".into(), taken_back.into());
    cases.insert("requests that are none".into(), spoilt.into());
    cases.insert(
        "a head without end".into(),
        json!([["block", get.and(&[]), 3_000]]),
    );
    cases.insert(
        "many headers".into(),
        json!([["headers", get.and(&many), true]]),
    );
    let large = "x".repeat(70_000);
    cases.insert(
        "a large head".into(),
        json!([["large", get.and(&[("x-large", &large)])]]),
    );
    let outcomes = send(&desk, cases).await;
    for flood in ["requests that are none", "a head without end"] {
        let outcome = &outcomes[flood];
        let ended = outcome["closed"] == true || !outcome["goaway"].is_null();
        assert!(ended, "{flood}: {outcome}");
    }
    for head in ["many headers", "a large head"] {
        assert_eq!(outcomes[head]["status"], 431, "{head}: {}", outcomes[head]);
    }
    // The gateway is there for others, and its log is whole.
    let answer = desk.get("/count").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    desk.gateway.verify();
}
