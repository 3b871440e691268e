//! Requests and their answers, in both eras.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::bridge::{Bridge, child, is_there, limits, next, principal, read, until};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_of_one_principal_share_a_program_and_are_told_apart() {
    let bridge = Bridge::new(&child("modern"), &limits());
    let me = principal(1);
    let start = Instant::now();
    // The same id each time, as from several clients of one task; the last come first.
    let calls = (0..20).map(|n| {
        let params = json!({"seconds": f64::from(20 - n) * 0.05, "tag": n});
        bridge.modern(me, "same", "x/slow", params)
    });
    for (n, answered) in join_all(calls).await.into_iter().enumerate() {
        let answered = answered.unwrap();
        assert_eq!(answered.one()["id"], "same");
        assert_eq!(answered.result()["tag"], n);
    }
    assert!(
        start.elapsed() < Duration::from_secs(8),
        "they did not run side by side"
    );
    let facts = bridge.modern(me, 1, "x/facts", json!({})).await.unwrap();
    let again = bridge.modern(me, 1, "x/facts", json!({})).await.unwrap();
    assert_eq!(facts.result()["pid"], again.result()["pid"]);
    let other = bridge
        .modern(principal(2), 1, "x/facts", json!({}))
        .await
        .unwrap();
    assert_ne!(
        facts.result()["pid"],
        other.result()["pid"],
        "principals never share"
    );
    bridge.upstream.retire(&|principal| *principal == me);
    let pid = &facts.result()["pid"];
    until("the program ends", Duration::from_secs(3), || {
        !is_there(pid)
    })
    .await;
    assert!(is_there(&other.result()["pid"]));
    bridge.upstream.stop().await;
    assert!(!is_there(&other.result()["pid"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_tokens_of_several_clients_do_not_meet() {
    let bridge = Bridge::new(&child("modern"), &limits());
    let meta = json!({"_meta": {"progressToken": "mine"}});
    let facts = bridge
        .modern(principal(1), "a", "x/facts", meta)
        .await
        .unwrap();
    let result = facts.result();
    assert_eq!(
        result["meta"]["progressToken"], result["id"],
        "the program sees unique tokens"
    );
    assert_eq!(
        result["meta"]["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_alone_is_json_and_with_more_before_it_a_stream() {
    let bridge = Bridge::new(&child("modern"), &limits());
    let me = principal(1);
    let plain = bridge.modern(me, 1, "x/facts", json!({})).await.unwrap();
    assert!(!plain.is_stream && plain.status == StatusCode::OK);
    let noted = bridge
        .modern(me, 2, "x/notes", json!({"count": 3}))
        .await
        .unwrap();
    assert!(noted.is_stream);
    let data: Vec<_> = noted
        .messages
        .iter()
        .map(|m| m["params"]["data"].clone())
        .collect();
    assert_eq!(data[..3], [json!(0), json!(1), json!(2)]);
    assert_eq!(noted.messages[3]["id"], 2);
    // One who takes no events gets the answer alone.
    let message = json!({"jsonrpc": "2.0", "id": 3, "method": "x/notes", "params": {"count": 3}});
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("accept", "application/json"),
    ];
    let alone = bridge.post(me, &headers, &message).await.unwrap();
    assert_eq!(alone.one()["id"], 3);
    assert!(!alone.is_stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_when_they_happen() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let start = Instant::now();
    let notes = json!({"jsonrpc": "2.0", "id": 1, "method": "x/notes", "params": {"count": 4, "pause": 0.7}});
    let headers = [("mcp-session-id", session.as_str())];
    let stream = bridge
        .send(Method::POST, me, &headers, notes.to_string())
        .await
        .unwrap();
    next(&mut stream.into_body()).await.unwrap().unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_request_in_the_modern_era_only() {
    let bridge = Bridge::new(&child("modern"), &limits());
    let me = principal(1);
    bridge.modern(me, 0, "x/facts", json!({})).await.unwrap();
    // Before the answer begins, and while it is streaming.
    let early = bridge.modern(me, "early", "x/never", json!({}));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), early)
            .await
            .is_err()
    );
    let notes = json!({"jsonrpc": "2.0", "id": "late", "method": "x/notes", "params": {"count": 10, "pause": 0.1}});
    let headers = [("mcp-protocol-version", "2026-07-28")];
    let stream = bridge
        .send(Method::POST, me, &headers, notes.to_string())
        .await
        .unwrap();
    drop(stream);
    let facts = bridge.modern(me, 1, "x/facts", json!({})).await.unwrap();
    assert_eq!(
        facts.result()["cancelled"].as_array().unwrap().len(),
        2,
        "{facts:?}"
    );

    let bridge = Bridge::new(&child("legacy"), &limits());
    let session = bridge.session(me).await.unwrap();
    let early = bridge.legacy(me, &session, 1, "x/never", json!({}));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), early)
            .await
            .is_err()
    );
    let facts = bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(facts.result()["cancelled"], json!([]));
    // There, clients say so.
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let told = bridge
        .post(me, &[("mcp-session-id", &session)], &cancel)
        .await
        .unwrap();
    assert_eq!(told.status, StatusCode::ACCEPTED);
    let facts = bridge
        .legacy(me, &session, 3, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(facts.result()["cancelled"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_request_gets_an_end() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let cancel =
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        bridge
            .post(me, &[("mcp-session-id", &session)], &cancel)
            .await
            .unwrap()
    };
    let (ended, _) = tokio::join!(
        bridge.legacy(me, &session, 1, "x/never", json!({})),
        cancelling
    );
    assert_eq!(ended.unwrap().one()["error"]["code"], 499);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_answered_together() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let headers = [("mcp-session-id", session.as_str())];
    let batch = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "x/slow", "params": {"seconds": 0.2, "tag": "a"}},
        {"jsonrpc": "2.0", "method": "notifications/x"},
        {"jsonrpc": "2.0", "id": 2, "method": "x/slow", "params": {"seconds": 0.0, "tag": "b"}},
        {"jsonrpc": "2.0", "id": 2, "method": "x/facts"},
    ]);
    let answered = bridge.post(me, &headers, &batch).await.unwrap();
    assert!(!answered.is_stream);
    let answers = answered.one().as_array().unwrap();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(
        answers
            .iter()
            .any(|a| a["id"] == 1 && a["result"]["tag"] == "a")
    );
    assert!(
        answers
            .iter()
            .any(|a| a["id"] == 2 && a["result"]["tag"] == "b")
    );
    assert!(
        answers
            .iter()
            .any(|a| a["id"] == 2 && a["error"]["code"] == -32_600)
    );

    let batch = json!([
        {"jsonrpc": "2.0", "id": 3, "method": "x/notes", "params": {"count": 1}},
        {"jsonrpc": "2.0", "id": 4, "method": "x/array"},
    ]);
    let answered = bridge.post(me, &headers, &batch).await.unwrap();
    assert!(answered.is_stream);
    let ids: Vec<_> = answered
        .messages
        .iter()
        .filter_map(|m| m["id"].as_i64())
        .collect();
    assert_eq!((ids, answered.messages.len()), (vec![3, 4], 4));

    let notes = json!([{"jsonrpc": "2.0", "method": "notifications/x"}]);
    let told = bridge.post(me, &headers, &notes).await.unwrap();
    assert_eq!(
        (told.status, told.messages.len()),
        (StatusCode::ACCEPTED, 0)
    );
    for bad in [json!([]), json!([1])] {
        let refused = bridge.post(me, &headers, &bad).await.unwrap();
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    }
    for bad in ["{", "7", "\u{feff}{}"] {
        let refused = bridge.send(Method::POST, me, &headers, bad).await.unwrap();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad}");
        refused.into_body().collect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ignores_the_question_is_of_the_legacy_era() {
    let bridge = Bridge::new(&child("mute"), &limits());
    let me = principal(1);
    let start = Instant::now();
    let probes = (0..3).map(|n| bridge.modern(me, n, "server/discover", json!({})));
    for probe in join_all(probes).await {
        let probe = probe.unwrap();
        assert_eq!(probe.status, StatusCode::BAD_REQUEST);
        assert_eq!(probe.one()["error"]["code"], -32_000);
    }
    assert!(
        start.elapsed() < Duration::from_secs(12),
        "it was asked more than once"
    );
    bridge.session(me).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_question_is_seen_to_its_end_for_the_next_client() {
    let bridge = Bridge::new(&child("mute"), &limits());
    let me = principal(1);
    // A client that waits less long than the gateway does.
    let hasty = bridge.modern(me, 1, "server/discover", json!({}));
    assert!(
        tokio::time::timeout(Duration::from_secs(1), hasty)
            .await
            .is_err()
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let start = Instant::now();
    let probe = bridge
        .modern(me, 2, "server/discover", json!({}))
        .await
        .unwrap();
    assert_eq!(probe.status, StatusCode::BAD_REQUEST);
    assert!(start.elapsed() < Duration::from_secs(1));
    let headers = [("mcp-protocol-version", "2026-07-28")];
    let refused = bridge
        .send(Method::POST, me, &headers, r#"{"id":1,"result":{}}"#)
        .await
        .unwrap();
    assert_eq!(read(refused).await.status, StatusCode::BAD_REQUEST);
}

/// Whoever ends a task waits only for the gateway to let go of its requests: what the program has
/// not read by then must not reach it any more, be it in the queue or half on its way.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_program_has_not_taken_yet_is_withdrawn() {
    for era in ["legacy", "modern"] {
        let bridge = Arc::new(Bridge::new(&child(era), &limits()));
        let me = principal(1);
        let session = match era {
            "legacy" => Some(bridge.session(me).await.unwrap()),
            _ => None,
        };
        let ask = |id: i64, method: &'static str, params: Value| {
            let (bridge, session) = (Arc::clone(&bridge), session.clone());
            async move {
                match &session {
                    Some(session) => bridge.legacy(me, session, id, method, params).await,
                    None => bridge.modern(me, id, method, params).await,
                }
            }
        };
        ask(1, "x/mark", json!({"mark": "first"})).await.unwrap();
        let dozing = tokio::spawn(ask(2, "x/doze", json!({"seconds": 2})));
        tokio::time::sleep(Duration::from_millis(300)).await;
        // Far more than a pipe holds, so that it is left half written; then what waits behind it.
        let big = "x".repeat(1 << 20);
        let half = tokio::spawn(ask(3, "x/mark", json!({"mark": "half", "big": big})));
        tokio::time::sleep(Duration::from_millis(200)).await;
        let queued = tokio::spawn(ask(4, "x/mark", json!({"mark": "queued"})));
        tokio::time::sleep(Duration::from_millis(200)).await;
        for given_up in [half, queued] {
            given_up.abort();
            assert!(given_up.await.unwrap_err().is_cancelled());
        }
        dozing.await.unwrap().unwrap();
        for n in 0..3 {
            // The same ids again: nothing of what was withdrawn is left.
            let facts = ask(3 + n, "x/facts", json!({})).await.unwrap();
            assert_eq!(facts.result()["marks"], json!(["first"]), "{era}");
        }
        bridge.upstream.stop().await;
    }
}
