//! Ending things, and a log that cannot be written (R4, R5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use model::TaskStatus;
use model::record::{Ended, Event, Record};
use serde_json::json;

use crate::support::upstream::{event, stream};
use crate::support::{Agent, Double, Gateway, grant, modern, next};

async fn opened(
    gateway: &Gateway,
    agent: &Agent,
    method: &str,
    params: serde_json::Value,
) -> http::Response<hyper::body::Incoming> {
    let (headers, body) = modern(method, params);
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    gateway
        .send(
            http::Method::POST,
            gateway.signed(agent, "POST", &headers),
            body.into(),
        )
        .await
}

/// A double whose answers begin and never end.
async fn endless() -> Double {
    let held = Arc::new(std::sync::Mutex::new(Vec::new()));
    Double::answering(move |_| {
        let (sender, reply) = stream();
        let begun = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": {} });
        sender.send(event(&begun)).unwrap();
        held.lock().unwrap().push(sender);
        async move { reply }
    })
    .await
}

#[tokio::test]
async fn ending_a_task_cuts_what_is_streaming() {
    let double = endless().await;
    let gateway = Gateway::before(&double).await;
    let (agent, other) = (gateway.agent(), gateway.agent());
    let call = json!({ "name": "echo", "arguments": {} });
    let mut cut = opened(&gateway, &agent, "tools/call", call.clone()).await;
    let mut stays = opened(&gateway, &other, "tools/call", call).await;
    assert!(next(cut.body_mut()).await.contains("progress"));
    assert!(next(stays.body_mut()).await.contains("progress"));
    assert!(
        gateway
            .live
            .end(&agent.task, TaskStatus::Revoked, Timestamp::now(), "test")
            .await
    );
    let last = next(cut.body_mut()).await;
    assert!(
        last.contains("task_not_open") && last.contains("\"id\":1"),
        "{last}"
    );
    assert_eq!(next(cut.body_mut()).await, "", "then the stream ends");
    let denied = gateway.tool(&agent, "echo", json!({})).await;
    assert_eq!(denied.rule(), "task_not_open");
    assert_eq!(double.count(), 2);
    let silent = tokio::time::timeout(Duration::from_millis(200), next(stays.body_mut())).await;
    assert!(silent.is_err(), "the other task's stream goes on");
}

#[tokio::test]
async fn a_task_that_expires_is_cut_like_one_that_is_ended() {
    let double = endless().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent_with(grant(), Duration::from_secs(2));
    let call = json!({ "name": "echo", "arguments": {} });
    let mut response = opened(&gateway, &agent, "tools/call", call).await;
    assert!(next(response.body_mut()).await.contains("progress"));
    assert!(next(response.body_mut()).await.contains("task_not_open"));
}

#[tokio::test]
async fn a_subscription_ends_with_the_token_that_opened_it() {
    let double = endless().await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    let (headers, body) = modern(
        "subscriptions/listen",
        json!({ "notifications": { "toolsListChanged": true } }),
    );
    let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let token = gateway.token(&agent, |claims| claims.exp = claims.iat + 2);
    let mut signed = crate::support::plain(&headers);
    signed.insert("authorization", format!("DPoP {token}").parse().unwrap());
    signed.insert(
        "dpop",
        gateway.proof(&agent, "POST", &token).parse().unwrap(),
    );
    let mut response = gateway.send(http::Method::POST, signed, body.into()).await;
    assert!(next(response.body_mut()).await.contains("progress"));
    let last = next(response.body_mut()).await;
    assert!(
        last.contains("\"result\"") && last.contains("subscriptionId"),
        "{last}"
    );
    assert_eq!(next(response.body_mut()).await, "");
}

/// Whoever ends a task can rely on it: what arrives at the upstream later than that was written to
/// the network before. Sixty-four calls at a time race against the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_forwarded_once_a_task_was_ended() {
    for round in 0..5 {
        let ended = Arc::new(AtomicBool::new(false));
        let late = Arc::new(AtomicUsize::new(0));
        let (seen_end, seen_late) = (Arc::clone(&ended), Arc::clone(&late));
        let double = Double::answering(move |seen| {
            if seen_end.load(Ordering::SeqCst) {
                seen_late.fetch_add(1, Ordering::SeqCst);
            }
            let reply = crate::support::upstream::result_of(&seen, &json!({ "content": [] }));
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                reply
            }
        })
        .await;
        let gateway = Arc::new(Gateway::before(&double).await);
        let agent = Arc::new(gateway.agent());
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let (gateway, agent) = (Arc::clone(&gateway), Arc::clone(&agent));
                tokio::spawn(async move {
                    let mut denied = 0;
                    while denied < 3 {
                        let answered = gateway.tool(&agent, "echo", json!({})).await;
                        denied += usize::from(answered.text().contains("task_not_open"));
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100 + 20 * round)).await;
        gateway
            .live
            .end(&agent.task, TaskStatus::Revoked, Timestamp::now(), "race")
            .await;
        // What was on the wire when the end returned may still arrive.
        tokio::time::sleep(Duration::from_millis(100)).await;
        ended.store(true, Ordering::SeqCst);
        for call in calls {
            call.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(double.count() > 0, "the race was run");
        assert_eq!(late.load(Ordering::SeqCst), 0, "round {round}");
    }
}

#[tokio::test]
async fn without_a_log_everything_is_denied() {
    let double = Double::with_result(json!({ "content": [] })).await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    assert!(gateway.tool(&agent, "echo", json!({})).await.json()["result"].is_object());
    gateway.audit.close().await;
    for _ in 0..3 {
        let denied = gateway.tool(&agent, "echo", json!({})).await;
        assert_eq!(
            (denied.code(), denied.rule().as_str()),
            (503, "audit_unavailable")
        );
    }
    assert_eq!(double.count(), 1);
}

/// Every action leaves its intent, and every permitted one what became of it.
#[tokio::test]
async fn what_happened_stands_in_the_log() {
    let double = Double::with_result(json!({ "content": [] })).await;
    let gateway = Gateway::before(&double).await;
    let agent = gateway.agent();
    gateway
        .tool(&agent, "echo", json!({ "text": "payload-secret" }))
        .await;
    gateway.tool(&agent, "delete_everything", json!({})).await;
    gateway
        .tool(&agent, "read", json!({ "path": "/data/shown" }))
        .await;
    gateway.audit.close().await;
    let records = crate::support::records(&gateway.log_dir);
    let text = records
        .iter()
        .map(|r| String::from_utf8(r.to_bytes()).unwrap())
        .collect::<String>();
    assert!(
        !text.contains("payload-secret") && text.contains("/data/shown"),
        "{text}"
    );
    let intents: Vec<_> = records
        .iter()
        .filter_map(|record: &Record| match &record.event {
            Event::Intent(intent) => Some((intent.target.as_str(), intent.permitted)),
            _ => None,
        })
        .collect();
    assert_eq!(
        intents,
        [("echo", true), ("delete_everything", false), ("read", true)]
    );
    let results: Vec<_> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Result(result) => Some((result.ended, result.bytes > 0, result.hash.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(
        results,
        [(Ended::Answered, true, true), (Ended::Answered, true, true)]
    );
}
