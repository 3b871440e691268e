//! The revisions with a handshake and sessions: 2025-03-26 to 2025-11-25.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, StatusCode};
use model::config::Limits;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::upstream::{self, Reply, Seen, event, events, json_reply, result_of, stream};
use crate::support::{Double, Gateway, next, whole};

const REVISION: &str = "2025-11-25";
const UPSTREAM_ID: &str = "upstream-session";

/// Answers the handshake with the revision that was asked for.
fn initialized(seen: &Seen) -> Reply {
    let version = seen.json()["params"]["protocolVersion"].clone();
    let result = json!({ "protocolVersion": version, "capabilities": {},
        "serverInfo": { "name": "double", "version": "1" } });
    let mut reply = result_of(seen, &result);
    reply
        .headers_mut()
        .insert("mcp-session-id", UPSTREAM_ID.parse().unwrap());
    reply
}

/// A double that does the handshake itself and leaves the rest to the test.
async fn double(rest: impl Fn(Seen) -> Reply + Send + Sync + 'static) -> Double {
    Double::answering(move |seen| {
        let reply = if seen.json()["method"] == "initialize" {
            initialized(&seen)
        } else if seen.json().get("id").is_none()
            && seen.method == Method::POST
            && !seen.json().is_array()
        {
            upstream::empty(StatusCode::ACCEPTED)
        } else {
            rest(seen)
        };
        async move { reply }
    })
    .await
}

fn list() -> Value {
    json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": { "name": "echo" } })
}

#[tokio::test]
async fn a_session_is_the_gateways_own_and_its_principals_alone() {
    let double = double(|seen| result_of(&seen, &json!({ "content": [] }))).await;
    let gateway = Gateway::before(&double).await;
    let (agent, other) = (gateway.agent(), gateway.agent());
    let (answered, session) = gateway.initialize(&agent, REVISION).await;
    assert_eq!(answered.status, 200);
    assert!(session.len() >= 32 && session != UPSTREAM_ID);
    let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(gateway.within(&agent, &session, note).await.status, 202);
    assert_eq!(gateway.within(&agent, &session, list()).await.status, 200);
    let seen = double.seen();
    assert!(!seen[0].headers.contains_key("mcp-session-id"));
    assert_eq!(seen[2].headers["mcp-session-id"], UPSTREAM_ID);
    assert_eq!(
        seen[2].headers["mcp-protocol-version"], REVISION,
        "as the handshake settled it"
    );
    let before = double.count();
    for (who, named) in [
        (&other, session.as_str()),
        (&agent, UPSTREAM_ID),
        (&agent, "made-up"),
    ] {
        assert_eq!(gateway.within(who, named, list()).await.status, 404);
    }
    let none = gateway
        .raw(gateway.signed(&agent, "POST", &[]), list().to_string())
        .await;
    assert_eq!(none.status, 400);
    assert_eq!(double.count(), before);
}

#[tokio::test]
async fn sessions_end_with_delete_with_the_upstreams_and_with_the_task() {
    let double = double(|seen| match seen.json()["params"]["name"].as_str() {
        Some("echo") => result_of(&seen, &json!({ "content": [] })),
        Some(_) => json_reply(404, &Value::Null),
        None => upstream::empty(StatusCode::NO_CONTENT),
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (_, first) = gateway.initialize(&agent, REVISION).await;
    let headers = || gateway.signed(&agent, "DELETE", &[("mcp-session-id", first.as_str())]);
    let deleted = gateway.send(Method::DELETE, headers(), Bytes::new()).await;
    assert_eq!(deleted.status(), 204);
    assert_eq!(
        double.seen().last().unwrap().headers["mcp-session-id"],
        UPSTREAM_ID
    );
    assert_eq!(gateway.within(&agent, &first, list()).await.status, 404);

    let (_, second) = gateway.initialize(&agent, REVISION).await;
    let lost = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": { "name": "read", "arguments": { "path": "/data/a" } } });
    assert_eq!(gateway.within(&agent, &second, lost).await.status, 404);
    assert_eq!(
        gateway.within(&agent, &second, list()).await.status,
        404,
        "forgotten here too"
    );

    let (_, _third) = gateway.initialize(&agent, REVISION).await;
    assert_eq!(gateway.endpoint.session_count(), 1);
    let now = jiff::Timestamp::now();
    gateway
        .live
        .end(&agent.task, model::TaskStatus::Completed, now, "done")
        .await;
    gateway::front::Door::sweep(&*gateway.endpoint);
    assert_eq!(gateway.endpoint.session_count(), 0);
}

#[tokio::test]
async fn sessions_are_limited() {
    let double = double(|_| upstream::empty(StatusCode::OK)).await;
    let limits = Limits {
        sessions_per_task: 2,
        ..Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    for status in [200, 200, 429] {
        assert_eq!(gateway.initialize(&agent, REVISION).await.0.status, status);
    }
    assert_eq!(double.count(), 2);
    assert_eq!(
        gateway
            .initialize(&gateway.agent(), REVISION)
            .await
            .0
            .status,
        200
    );
}

#[tokio::test]
async fn a_revision_that_is_not_known_is_no_session() {
    let double = Double::answering(|seen| async move {
        let mut reply = result_of(&seen, &json!({ "protocolVersion": "2031-01-01" }));
        reply
            .headers_mut()
            .insert("mcp-session-id", UPSTREAM_ID.parse().unwrap());
        reply
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let (answered, _) = gateway.initialize(&gateway.agent(), REVISION).await;
    assert_eq!(answered.code(), 502);
    assert_eq!(gateway.endpoint.session_count(), 0);
}

/// A double with one GET stream, fed by the test.
async fn streaming() -> (Double, mpsc::UnboundedSender<String>) {
    let (sender, reply) = stream();
    let reply = Arc::new(Mutex::new(Some(reply)));
    let double = double(move |seen| match seen.method {
        Method::GET => reply
            .lock()
            .unwrap()
            .take()
            .unwrap_or_else(|| upstream::empty(StatusCode::CONFLICT)),
        _ if seen.json().get("method").is_none() => upstream::empty(StatusCode::ACCEPTED),
        _ => result_of(&seen, &json!({})),
    })
    .await;
    (double, sender)
}

#[tokio::test]
async fn what_servers_ask_is_decided_in_both_directions() {
    let (double, server) = streaming().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (_, session) = gateway.initialize(&agent, REVISION).await;
    let headers = gateway.signed(
        &agent,
        "GET",
        &[
            ("mcp-session-id", session.as_str()),
            ("last-event-id", "ev-4"),
        ],
    );
    let mut listening = gateway.send(Method::GET, headers, Bytes::new()).await;
    assert_eq!(listening.status(), 200);
    assert_eq!(double.seen()[1].headers["last-event-id"], "ev-4");
    let ask = |id: Value, method: &str| {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": {} });
        server.send(event(&message)).unwrap();
    };
    ask(json!(1), "sampling/createMessage");
    ask(json!("b"), "made/up");
    ask(json!(3), "elicitation/create");
    let delivered = next(listening.body_mut()).await;
    assert!(delivered.contains("elicitation/create"), "{delivered}");
    for _ in 0..200 {
        if double.count() >= 4 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut told: Vec<_> = double.seen()[2..]
        .iter()
        .map(|seen| {
            assert_eq!(seen.headers["mcp-session-id"], UPSTREAM_ID);
            let message = seen.json();
            (
                message["id"].to_string(),
                message["error"]["code"].as_i64().unwrap(),
            )
        })
        .collect();
    told.sort();
    assert_eq!(told, [("\"b\"".to_owned(), -32_601), ("1".to_owned(), -1)]);

    let answer =
        |id: Value| json!({ "jsonrpc": "2.0", "id": id, "result": { "action": "accept" } });
    for unasked in [json!(1), json!(99), json!("3")] {
        assert_eq!(
            gateway
                .within(&agent, &session, answer(unasked))
                .await
                .status,
            400
        );
    }
    assert_eq!(double.count(), 4);
    assert_eq!(
        gateway
            .within(&agent, &session, answer(json!(3)))
            .await
            .status,
        202
    );
    assert_eq!(double.seen()[4].json()["result"]["action"], "accept");
    assert_eq!(
        gateway
            .within(&agent, &session, answer(json!(3)))
            .await
            .status,
        400,
        "only once"
    );
    assert_eq!(double.count(), 5);
}

#[tokio::test]
async fn an_answer_that_comes_on_a_resumed_stream_is_looked_at_all_the_same() {
    let (sender, resumed) = stream();
    let resumed = Arc::new(Mutex::new(Some(resumed)));
    let double = double(move |seen| match seen.method {
        Method::GET => resumed.lock().unwrap().take().unwrap(),
        // Primes the client, then closes the connection before it answers.
        _ => events(&["id: 1\nretry: 1\ndata:\n\n".to_owned()]),
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (_, session) = gateway.initialize(&agent, REVISION).await;
    let listing = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/list" });
    let primed = gateway.within(&agent, &session, listing).await;
    assert_eq!(
        primed.text(),
        "id: 1\nretry: 1\ndata:\n\n",
        "the priming event passes untouched"
    );
    let headers = gateway.signed(
        &agent,
        "GET",
        &[("mcp-session-id", session.as_str()), ("last-event-id", "1")],
    );
    let response = gateway.send(Method::GET, headers, Bytes::new()).await;
    let result = json!({ "tools": [{ "name": "echo" }, { "name": "delete_everything" }] });
    let message = json!({ "jsonrpc": "2.0", "id": 5, "result": result });
    sender.send(format!("id: 2\ndata: {message}\n\n")).unwrap();
    drop(sender);
    let text = whole(response).await.text();
    assert!(
        text.starts_with("id: 2\ndata: ") && text.contains("echo"),
        "{text}"
    );
    assert!(!text.contains("delete_everything"), "{text}");
}

#[tokio::test]
async fn batches_are_decided_message_by_message() {
    let double = double(|seen| {
        let answers: Vec<_> = seen.json().as_array().unwrap().iter()
            .filter(|message| message.get("id").is_some())
            .map(|message| json!({ "jsonrpc": "2.0", "id": message["id"], "result": { "content": [] } }))
            .collect();
        json_reply(200, &json!(answers))
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let call = |id: u64, name: &str| {
        json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": { "name": name, "arguments": {} } })
    };
    let batch = json!([
        call(1, "echo"),
        call(2, "delete_everything"),
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": 3, "method": "made/up" },
    ]);
    let (_, old) = gateway.initialize(&agent, "2025-03-26").await;
    let answered = gateway.within(&agent, &old, batch.clone()).await.json();
    let by_id = |id: u64| {
        answered
            .as_array()
            .unwrap()
            .iter()
            .find(|a| a["id"] == id)
            .unwrap()
    };
    assert!(by_id(1)["result"].is_object());
    assert_eq!(by_id(2)["error"]["data"]["rule"], "not_granted");
    assert_eq!(by_id(3)["error"]["code"], -32_601);
    let sent = double.seen()[1].json();
    assert_eq!(sent.as_array().unwrap().len(), 2, "{sent}");

    let (_, new) = gateway.initialize(&agent, REVISION).await;
    let before = double.count();
    assert_eq!(gateway.within(&agent, &new, batch).await.status, 400);
    assert_eq!(
        gateway
            .within(&agent, &old, json!([call(1, "drop"), call(2, "drop")]))
            .await
            .json()
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(double.count(), before);
}

#[tokio::test]
async fn notifications_that_clients_do_not_have_are_refused() {
    let double = double(|_| upstream::empty(StatusCode::ACCEPTED)).await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (_, session) = gateway.initialize(&agent, REVISION).await;
    for method in [
        "notifications/message",
        "tools/call",
        "notifications/made/up",
    ] {
        let note = json!({ "jsonrpc": "2.0", "method": method, "params": {} });
        assert_eq!(
            gateway.within(&agent, &session, note).await.status,
            400,
            "{method}"
        );
    }
    let method = json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover" });
    let refused = gateway.within(&agent, &session, method).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (200, -32_601));
    assert_eq!(double.count(), 1);
}

/// The connection is not the request: an agent that goes away leaves a result in the log.
#[tokio::test]
async fn a_client_that_goes_away_does_not_cancel() {
    let gate = Arc::new(tokio::sync::Notify::new());
    let opens = Arc::clone(&gate);
    let double = Double::answering(move |seen| {
        let opens = Arc::clone(&opens);
        async move {
            if seen.json()["method"] == "initialize" {
                return initialized(&seen);
            }
            opens.notified().await;
            result_of(&seen, &json!({ "content": [] }))
        }
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (_, session) = gateway.initialize(&agent, REVISION).await;
    let gone = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        gateway.within(&agent, &session, list()),
    );
    assert!(gone.await.is_err());
    gate.notify_one();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    gateway.audit.close().await;
    let text = crate::support::records(&gateway.log_dir)
        .iter()
        .map(|record| String::from_utf8(record.to_bytes()).unwrap())
        .collect::<String>();
    assert!(!text.contains("\"ended\":\"cancelled\""), "{text}");
    assert_eq!(text.matches("\"ended\":\"answered\"").count(), 2, "{text}");
}
