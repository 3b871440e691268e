//! Requests that must not get through, whatever is wrong with them (R1, R7).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use identity::InstanceKey;
use jiff::Timestamp;
use model::config::Limits;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Double, Gateway, modern, plain, whole};

async fn double() -> Double {
    Double::with_result(json!({ "content": [], "resultType": "complete" })).await
}

fn with(mut headers: HeaderMap, scheme: &str, token: &str, proof: Option<&str>) -> HeaderMap {
    let authorization = HeaderValue::try_from(format!("{scheme} {token}")).unwrap();
    headers.insert("authorization", authorization);
    if let Some(proof) = proof {
        headers.insert("dpop", HeaderValue::try_from(proof).unwrap());
    }
    headers
}

#[tokio::test]
async fn only_a_good_token_with_a_fresh_proof_gets_in() {
    let double = double().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (headers, body) = modern("tools/call", json!({ "name": "echo", "arguments": {} }));
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let base = plain(&headers);
    let token = gateway.token(&agent, |_| ());

    let none = gateway.raw(base.clone(), body.clone()).await;
    assert_eq!(none.status, 401);
    let challenge = none.headers["www-authenticate"].to_str().unwrap();
    assert!(
        challenge.starts_with("Bearer resource_metadata=\"http://"),
        "{challenge}"
    );
    assert!(challenge.contains("/.well-known/oauth-protected-resource/mcp/files\""));
    assert!(!challenge.contains("error="), "{challenge}");

    let now = Timestamp::now().as_second();
    let elsewhere = gateway.agent();
    let refused = [
        (
            "expired",
            gateway.token(&agent, |c| (c.iat, c.exp) = (now - 400, now - 200)),
        ),
        (
            "for another resource",
            gateway.token(&agent, |c| c.aud = format!("{}x", c.aud)),
        ),
        (
            "of another issuer",
            gateway.token(&agent, |c| c.iss = "http://evil".to_owned()),
        ),
        ("without a task", gateway.token(&agent, |c| c.task = None)),
        (
            "for another's task",
            gateway.token(&agent, |c| c.task = Some(elsewhere.task)),
        ),
        ("forged", {
            let mut forged = token.clone();
            let last = forged.pop().unwrap();
            let other = if last == 'A' { 'Q' } else { 'A' };
            forged.insert(forged.len() - 8, other);
            forged
        }),
    ];
    for (what, token) in &refused {
        let proof = gateway.proof(&agent, "POST", token);
        let answered = gateway
            .raw(
                with(base.clone(), "DPoP", token, Some(&proof)),
                body.clone(),
            )
            .await;
        assert_eq!(answered.status, 401, "{what}: {}", answered.text());
        let challenge = answered.headers["www-authenticate"].to_str().unwrap();
        assert!(
            challenge.contains("error=\"invalid_token\""),
            "{what}: {challenge}"
        );
    }

    let proof = gateway.proof(&agent, "POST", &token);
    let thief = InstanceKey::generate().unwrap();
    let sign = |key: &InstanceKey, method: &str, url: &str, at: Timestamp| {
        key.sign_dpop(
            method,
            url,
            Some(&token),
            None,
            at,
            &format!("{at}{method}{url}"),
        )
        .unwrap()
    };
    let old = Timestamp::now()
        .checked_sub(Duration::from_secs(3_600))
        .unwrap();
    let proofs = [
        ("no proof", None),
        (
            "another key",
            Some(sign(&thief, "POST", &gateway.url(), Timestamp::now())),
        ),
        (
            "another method",
            Some(sign(&agent.key, "GET", &gateway.url(), Timestamp::now())),
        ),
        (
            "another url",
            Some(sign(&agent.key, "POST", "http://evil/", Timestamp::now())),
        ),
        (
            "an old one",
            Some(sign(&agent.key, "POST", &gateway.url(), old)),
        ),
    ];
    for (what, proof) in &proofs {
        let headers = with(base.clone(), "DPoP", &token, proof.as_deref());
        let answered = gateway.raw(headers, body.clone()).await;
        assert_eq!(answered.status, 401, "{what}");
        let challenge = answered.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.starts_with("DPoP "), "{what}: {challenge}");
    }
    let downgraded = gateway
        .raw(with(base.clone(), "Bearer", &token, None), body.clone())
        .await;
    assert_eq!(downgraded.status, 401);
    assert_eq!(double.count(), 0, "nothing of this may reach the upstream");

    let good = with(base, "DPoP", &token, Some(&proof));
    assert_eq!(gateway.raw(good.clone(), body.clone()).await.status, 200);
    let replayed = gateway.raw(good, body).await;
    assert_eq!(replayed.status, 401, "a proof is good once");
    assert_eq!(double.count(), 1);
}

#[tokio::test]
async fn headers_that_say_something_else_than_the_body() {
    let double = double().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (good, body) = modern("tools/call", json!({ "name": "echo", "arguments": {} }));
    for (name, value) in [
        ("mcp-name", "read"),
        ("mcp-method", "tools/list"),
        ("mcp-protocol-version", "2025-11-25"),
    ] {
        let headers: Vec<_> = good
            .iter()
            .map(|(n, v)| (*n, if *n == name { value } else { v.as_str() }))
            .collect();
        let answered = gateway
            .raw(gateway.signed(&agent, "POST", &headers), body.clone())
            .await;
        assert_eq!(
            (answered.status.as_u16(), answered.code()),
            (400, -32_020),
            "{name}"
        );
    }
    assert_eq!(double.count(), 0);
}

#[tokio::test]
async fn bodies_that_are_no_message() {
    let double = double().await;
    let limits = Limits {
        request_bytes: 10_000,
        ..Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    let (headers, good) = modern("tools/call", json!({ "name": "echo", "arguments": {} }));
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":{}1{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    let twice = good.replacen(
        "\"name\":\"echo\"",
        "\"name\":\"drop\",\"name\":\"echo\"",
        1,
    );
    assert_ne!(twice, good);
    for (what, body, status) in [
        (
            "too long",
            Bytes::from(format!("{good}{}", " ".repeat(10_000))),
            413,
        ),
        ("half", Bytes::from(good[..good.len() / 2].to_owned()), 400),
        ("too deep", Bytes::from(deep), 400),
        (
            "not UTF-8",
            Bytes::from_static(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"x\"}"),
            400,
        ),
        ("a member twice", Bytes::from(twice), 400),
        ("empty", Bytes::new(), 400),
        ("a batch", Bytes::from(format!("[{good}]")), 400),
        (
            "id null",
            Bytes::from(good.replacen("\"id\":1", "\"id\":null", 1)),
            400,
        ),
    ] {
        let answered = gateway
            .raw(gateway.signed(&agent, "POST", &headers), body)
            .await;
        assert_eq!(answered.status, status, "{what}: {}", answered.text());
        assert!(answered.json()["error"]["message"].is_string(), "{what}");
    }
    let mut other = gateway.signed(&agent, "POST", &headers);
    other.insert("content-type", HeaderValue::from_static("text/plain"));
    assert_eq!(gateway.raw(other, good.clone()).await.status, 415);
    let mut other = gateway.signed(&agent, "POST", &headers);
    other.insert("accept", HeaderValue::from_static("application/json"));
    assert_eq!(gateway.raw(other, good.clone()).await.status, 406);
    assert_eq!(double.count(), 0);
    let answered = gateway
        .raw(gateway.signed(&agent, "POST", &headers), good)
        .await;
    assert_eq!(
        answered.status, 200,
        "the same caller gets through with the good one"
    );
}

#[tokio::test]
async fn methods_that_the_revision_does_not_have() {
    let double = double().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    for method in [
        "tools/execute",
        "ping",
        "initialize",
        "sampling/createMessage",
        "rpc.discover",
    ] {
        let answered = gateway.call(&agent, method, json!({})).await;
        assert_eq!(
            (answered.status.as_u16(), answered.code()),
            (404, -32_601),
            "{method}"
        );
    }
    for method in [Method::PUT, Method::PATCH, Method::HEAD] {
        let headers = gateway.signed(&agent, method.as_str(), &[]);
        assert_eq!(
            gateway.send(method, headers, Bytes::new()).await.status(),
            405
        );
    }
    for method in [Method::GET, Method::DELETE] {
        let version = [("mcp-protocol-version", "2026-07-28")];
        let headers = gateway.signed(&agent, method.as_str(), &version);
        assert_eq!(
            gateway.send(method, headers, Bytes::new()).await.status(),
            405
        );
    }
    assert_eq!(double.count(), 0);
}

#[tokio::test]
async fn a_client_that_sends_slowly_or_breaks_off() {
    let double = double().await;
    let limits = Limits {
        request_seconds: 1,
        ..Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    let mut text = format!("POST /mcp/files HTTP/1.1\r\nhost: {}\r\n", gateway.address);
    for (name, value) in &gateway.signed(&agent, "POST", &[]) {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    text.push_str("content-length: 1000\r\n\r\n{\"jsonrpc\"");
    let mut slow = TcpStream::connect(gateway.address).await.unwrap();
    slow.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(Duration::from_secs(10), slow.read(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer[..read.unwrap().unwrap()]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut broken = TcpStream::connect(gateway.address).await.unwrap();
    broken.write_all(text.as_bytes()).await.unwrap();
    drop(broken);
    assert_eq!(double.count(), 0);
    assert_eq!(gateway.tool(&agent, "echo", json!({})).await.status, 200);
}

#[tokio::test]
async fn pages_of_other_origins_and_rebound_names() {
    let double = double().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let evil = [("origin", "http://evil.example.org")];
    let answered = gateway
        .raw(gateway.signed(&agent, "POST", &evil), "{}")
        .await;
    assert_eq!(answered.status, 403);
    let rebound = [("host", "evil.example.org")];
    let answered = gateway
        .raw(gateway.signed(&agent, "POST", &rebound), "{}")
        .await;
    assert_eq!(answered.status, 403);
    let allowed = [("origin", "https://app.example.org")];
    let response = gateway
        .send(Method::OPTIONS, plain(&allowed), Bytes::new())
        .await;
    assert_eq!(response.status(), 204);
    assert_eq!(
        response.headers()["access-control-allow-origin"],
        "https://app.example.org"
    );
    let answered = whole(
        gateway
            .send(Method::POST, plain(&allowed), Bytes::new())
            .await,
    )
    .await;
    assert_eq!(answered.status, 401);
    let exposed = answered.headers["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("www-authenticate") && exposed.contains("mcp-session-id"));
    assert_eq!(double.count(), 0);
}
