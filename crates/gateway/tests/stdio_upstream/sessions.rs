//! Sessions of revisions before 2026-07-28.

use std::time::Duration;

use gateway::upstream::UpstreamError;
use http::{Method, StatusCode};
use model::config::Limits;
use serde_json::json;

use crate::bridge::{Bridge, child, is_there, limits, next, principal, read, until};

#[tokio::test(flavor = "multi_thread")]
async fn each_session_has_a_program_and_an_owner_of_its_own() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let (me, other) = (principal(1), principal(2));
    let mine = bridge.session(me).await.unwrap();
    let another = bridge.session(me).await.unwrap();
    let theirs = bridge.session(other).await.unwrap();
    assert!(mine.len() >= 32 && mine != another && mine != theirs);
    let mut pids = Vec::new();
    for (who, session) in [(me, &mine), (me, &another), (other, &theirs)] {
        let facts = bridge
            .legacy(who, session, 1, "x/facts", json!({}))
            .await
            .unwrap();
        pids.push(facts.result()["pid"].clone());
    }
    assert!(pids[0] != pids[1] && pids[1] != pids[2] && pids[0] != pids[2]);
    // Another's session is as unknown as one that never was; so is a task's after another's.
    let mut half_other = me;
    half_other.task = other.task;
    for (who, session) in [
        (other, mine.as_str()),
        (half_other, &mine),
        (me, "no-such-session"),
        (me, ""),
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let body = if method == Method::POST {
                r#"{"jsonrpc":"2.0","id":1,"method":"x/facts"}"#
            } else {
                ""
            };
            let sent = bridge
                .send(method, who, &[("mcp-session-id", session)], body)
                .await;
            let answered = read(sent.unwrap()).await;
            assert_eq!(answered.status, StatusCode::NOT_FOUND);
            assert_eq!(answered.one()["error"]["code"], -32_001);
        }
    }
    // And nothing that others tried did any harm.
    bridge
        .legacy(me, &mine, 2, "x/facts", json!({}))
        .await
        .unwrap();
    bridge.upstream.stop().await;
    for pid in pids {
        assert!(!is_there(&pid), "{pid} was left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_session_nothing_but_initialize_is_served() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    let answered = bridge.post(me, &[], &list).await.unwrap();
    assert_eq!(answered.status, StatusCode::BAD_REQUEST);
    let modern = ("mcp-protocol-version", "2026-07-28");
    for (method, headers) in [
        (Method::GET, &[][..]),
        (Method::DELETE, &[]),
        (Method::GET, &[modern]),
        (Method::DELETE, &[modern]),
        (Method::PUT, &[]),
    ] {
        let answered = bridge.send(method, me, headers, "").await.unwrap();
        assert_eq!(answered.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answered.headers()["allow"], "POST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_initialize_leaves_nothing_behind() {
    let bridge = Bridge::new(
        &child("modern"),
        &Limits {
            sessions: 1,
            ..limits()
        },
    );
    let me = principal(1);
    for _ in 0..3 {
        let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
        let answered = bridge.post(me, &[], &initialize).await.unwrap();
        assert_eq!(answered.one()["error"]["code"], -32_601);
        assert_eq!(answered.session, None);
        // The only place is free again once the program has ended, which it does by itself.
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_session_ends_its_program() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let facts = bridge
        .legacy(me, &session, 1, "x/facts", json!({}))
        .await
        .unwrap();
    let pid = facts.result()["pid"].clone();
    let headers = [("mcp-session-id", session.as_str())];
    let deleted = bridge.send(Method::DELETE, me, &headers, "").await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let after = bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(after.status, StatusCode::NOT_FOUND);
    until("the program ends", Duration::from_secs(5), || {
        !is_there(&pid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sessions_end_but_not_under_a_client() {
    let bridge = Bridge::new(
        &child("legacy"),
        &Limits {
            session_idle_seconds: 1,
            ..limits()
        },
    );
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    // Longer than the limit, but not idle.
    let slow = json!({"seconds": 2.5});
    bridge
        .legacy(me, &session, 1, "x/slow", slow)
        .await
        .unwrap();
    let facts = bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    let pid = facts.result()["pid"].clone();
    until("the program ends", Duration::from_secs(8), || {
        !is_there(&pid)
    })
    .await;
    let after = bridge
        .legacy(me, &session, 3, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(after.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_says_by_itself_goes_to_the_sessions_stream() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let headers = [("mcp-session-id", session.as_str())];
    // Kept until there is a stream.
    let changed = bridge
        .legacy(me, &session, 1, "x/change", json!({}))
        .await
        .unwrap();
    assert!(!changed.is_stream, "it belongs to no request: {changed:?}");
    let stream = bridge.send(Method::GET, me, &headers, "").await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut stream = stream.into_body();
    let said = next(&mut stream).await.unwrap().unwrap();
    assert_eq!(said["method"], "notifications/tools/list_changed");
    let second = bridge.send(Method::GET, me, &headers, "").await.unwrap();
    assert_eq!(second.status(), StatusCode::CONFLICT);
    // The only request's own stream comes first for what the server asks, and answers come back.
    let asks = json!({"jsonrpc": "2.0", "id": 2, "method": "x/ask"});
    let asking = bridge
        .send(Method::POST, me, &headers, asks.to_string())
        .await
        .unwrap();
    let mut asking = asking.into_body();
    let asked = next(&mut asking).await.unwrap().unwrap();
    assert_eq!(asked["method"], "roots/list");
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"roots": []}});
    let told = bridge.post(me, &headers, &answer).await.unwrap();
    assert_eq!(told.status, StatusCode::ACCEPTED);
    let answered = next(&mut asking).await.unwrap().unwrap();
    assert_eq!(answered["result"]["client_said"], json!({"roots": []}));
    assert_eq!(answered["id"], 2);
    assert!(next(&mut asking).await.unwrap().is_none());
    // The stream ends with the session.
    bridge.send(Method::DELETE, me, &headers, "").await.unwrap();
    assert!(next(&mut stream).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_on_sessions_hold_and_name_themselves() {
    let bridge = Bridge::new(
        &child("legacy"),
        &Limits {
            sessions: 3,
            sessions_per_task: 2,
            ..limits()
        },
    );
    let refused = |result: Result<String, UpstreamError>| match result {
        Err(UpstreamError::TooMany(text)) => text,
        other => panic!("{other:?}"),
    };
    let first = bridge.session(principal(1)).await.unwrap();
    bridge.session(principal(1)).await.unwrap();
    let text = refused(bridge.session(principal(1)).await);
    assert!(text.contains("limits.sessions_per_task"), "{text}");
    bridge.session(principal(2)).await.unwrap();
    let text = refused(bridge.session(principal(3)).await);
    assert!(text.contains("`limits.sessions`"), "{text}");
    let headers = [("mcp-session-id", first.as_str())];
    bridge
        .send(Method::DELETE, principal(1), &headers, "")
        .await
        .unwrap();
    let mut again = bridge.session(principal(3)).await;
    for _ in 0..40 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = bridge.session(principal(3)).await;
    }
    again.unwrap();
    bridge.upstream.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retiring_a_principal_cuts_it_off_at_once() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let (gone, stays) = (principal(1), principal(2));
    let session = bridge.session(gone).await.unwrap();
    let other = bridge.session(stays).await.unwrap();
    let stubborn = bridge
        .legacy(gone, &session, 1, "x/stubborn", json!({}))
        .await
        .unwrap();
    let pid = stubborn.result()["pid"].clone();
    let headers = [("mcp-session-id", session.as_str())];
    let notes = json!({"jsonrpc": "2.0", "id": 2, "method": "x/notes", "params": {"count": 1000, "pause": 0.1}});
    let streaming = bridge
        .send(Method::POST, gone, &headers, notes.to_string())
        .await
        .unwrap();
    let mut streaming = streaming.into_body();
    next(&mut streaming).await.unwrap().unwrap();

    bridge.upstream.retire(&|principal| *principal == gone);
    let after = bridge
        .legacy(gone, &session, 3, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(
        after.status,
        StatusCode::NOT_FOUND,
        "the very next request is refused"
    );
    let broken = loop {
        match next(&mut streaming).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(broken.is_err(), "what was streaming breaks off: {broken:?}");
    // It ignores its input's end and SIGTERM; it is killed all the same.
    until("the program is killed", Duration::from_secs(3), || {
        !is_there(&pid)
    })
    .await;
    bridge
        .legacy(stays, &other, 1, "x/facts", json!({}))
        .await
        .unwrap();
}
