//! Servers that try to reach the agent past the decision, or to wear the gateway down.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::upstream::{Reply, Seen, event, events, json_reply, result_of, stream};
use crate::support::{Agent, Double, Gateway};

/// A double that answers everything in one way.
async fn double(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Double {
    Double::answering(move |seen| {
        let reply = answer(&seen);
        async move { reply }
    })
    .await
}

/// An agent whose grant has no room for requests of the server.
fn unasked(gateway: &Gateway) -> Agent {
    let mut grant = crate::support::grant();
    for permission in &mut grant.permissions {
        permission.server_requests.clear();
    }
    gateway.agent_with(grant, std::time::Duration::from_secs(60))
}

/// A byte order mark counts at the beginning of a stream only. When what came first is withheld,
/// the beginning is elsewhere for the client.
#[tokio::test]
async fn nothing_hides_behind_a_byte_order_mark() {
    let withheld = json!({ "jsonrpc": "2.0", "method": "no/such/notification" });
    let hidden = json!({ "jsonrpc": "2.0", "id": 9, "method": "sampling/createMessage" });
    let double = double(move |seen| {
        let answer =
            json!({ "jsonrpc": "2.0", "id": seen.json()["id"], "result": { "content": [] } });
        events(&[
            event(&withheld),
            format!("\u{feff}{}", event(&hidden)),
            event(&answer),
        ])
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let answered = gateway.tool(&gateway.agent(), "echo", json!({})).await;
    let text = answered.text();
    assert!(
        text.contains("\"content\"") && !text.contains("sampling"),
        "{text}"
    );
}

#[tokio::test]
async fn an_error_that_opens_a_page_is_decided_however_its_code_is_written() {
    for code in ["-32042", "-32042.0", "-3.2042e4", "\"-32042\""] {
        let double = double(move |seen| {
            let id = seen.json()["id"].clone();
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"x","data":{{"url":"http://evil/"}}}}}}"#
            );
            events(&[format!("data: {text}\n\n")])
        })
        .await;
        let gateway = Gateway::before(&double).await;
        let answered = gateway.tool(&unasked(&gateway), "echo", json!({})).await;
        let text = answered.text();
        assert!(
            text.contains("\"error\"") && !text.contains("http://evil/"),
            "{code}: {text}"
        );
    }
}

#[tokio::test]
async fn a_listing_asks_for_no_input() {
    let double = double(|seen| {
        let requests = json!({ "a": { "method": "sampling/createMessage", "params": {} } });
        let result =
            json!({ "resultType": "input_required", "tools": [], "inputRequests": requests });
        result_of(seen, &result)
    })
    .await;
    let gateway = Gateway::before(&double).await;
    for method in ["tools/list", "resources/list", "prompts/list"] {
        let answered = gateway.call(&unasked(&gateway), method, json!({})).await;
        let text = answered.text();
        assert!(
            text.contains("\"error\"") && !text.contains("sampling"),
            "{method}: {text}"
        );
    }
}

/// Each request for input is a decision and a record: there are only so many in one answer.
#[tokio::test]
async fn an_answer_with_too_many_requests_for_input_is_refused_as_a_whole() {
    let double = double(|seen| {
        let request = json!({ "method": "elicitation/create", "params": {} });
        let requests: serde_json::Map<String, Value> =
            (0..65).map(|n| (n.to_string(), request.clone())).collect();
        result_of(
            seen,
            &json!({ "resultType": "input_required", "inputRequests": requests }),
        )
    })
    .await;
    let gateway = Gateway::before(&double).await;
    let answered = gateway.tool(&gateway.agent(), "echo", json!({})).await;
    assert_eq!(answered.code(), 502);
    gateway.audit.close().await;
    let records = crate::support::records(&gateway.log_dir);
    let intents = records
        .iter()
        .filter(|record| matches!(record.event, model::record::Event::Intent(_)));
    assert_eq!(intents.count(), 1, "the call itself");
}

/// Some servers match names without regard to case, so a name that the decision does not know could
/// still be the one that they act on.
#[tokio::test]
async fn names_that_differ_only_in_case_are_refused_inside_of_parameters_too() {
    let double = Arc::new(double(|_| json_reply(200, &json!({}))).await);
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    for (method, params) in [
        (
            "subscriptions/listen",
            json!({ "notifications": { "ResourceSubscriptions": ["file:///etc/shadow"] } }),
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "taskids": ["of-another"] } }),
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "summary", "Name": "secret" } }),
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "summary", "Type": "ref/resource",
                "uri": "file:///etc/shadow" } }),
        ),
    ] {
        let answered = gateway.call(&agent, method, params.clone()).await;
        assert_eq!(answered.code(), -32_602, "{params}: {}", answered.text());
    }
    assert_eq!(double.count(), 0);
}

/// An answer that is a stream keeps memory and a connection for as long as the server likes.
#[tokio::test]
async fn streams_that_answer_calls_are_counted_too() {
    let held = std::sync::Mutex::new(Vec::new());
    let double = double(move |_| {
        let (sender, reply) = stream();
        held.lock().unwrap().push(sender);
        reply
    })
    .await;
    let limits = model::config::Limits {
        streams_per_task: 1,
        ..model::config::Limits::default()
    };
    let gateway = Gateway::with(&double, limits).await;
    let agent = gateway.agent();
    let call = || async {
        let params = json!({ "name": "echo", "arguments": {} });
        let (headers, body) = crate::support::modern("tools/call", params);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let signed = gateway.signed(&agent, "POST", &headers);
        gateway.send(http::Method::POST, signed, body.into()).await
    };
    let first = call().await;
    assert_eq!(first.status(), 200);
    let second = crate::support::whole(call().await).await;
    assert_eq!((second.status.as_u16(), second.code()), (429, 429));
    drop(first);
}
