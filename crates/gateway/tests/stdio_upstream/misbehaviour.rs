//! Programs that die, flood, or go deaf (R7).

use std::time::{Duration, Instant};

use gateway::upstream::UpstreamError;
use http::{Method, StatusCode};
use model::config::Limits;
use serde_json::{Value, json};

use crate::bridge::{Bridge, child, command, is_there, limits, next, principal, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_killed_during_a_call_fails_the_call_and_the_next_session_works() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let start = Instant::now();
    let died = bridge
        .legacy(me, &session, 1, "x/die", json!({}))
        .await
        .unwrap_err();
    assert!(matches!(died, UpstreamError::Unreachable(_)), "{died}");
    assert!(
        died.to_string().contains("ended before it answered"),
        "{died}"
    );
    assert!(start.elapsed() < Duration::from_secs(3));
    let after = bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(after.status, StatusCode::NOT_FOUND);
    let session = bridge.session(me).await.unwrap();
    bridge
        .legacy(me, &session, 3, "x/facts", json!({}))
        .await
        .unwrap();

    let bridge = Bridge::new(&child("modern"), &limits());
    let died = bridge.modern(me, 1, "x/die", json!({})).await.unwrap_err();
    assert!(matches!(died, UpstreamError::Unreachable(_)), "{died}");
    bridge.modern(me, 2, "x/facts", json!({})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_breaks_off_when_the_program_dies() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let facts = bridge
        .legacy(me, &session, 1, "x/facts", json!({}))
        .await
        .unwrap();
    let pid = facts.result()["pid"].clone();
    let notes = json!({"jsonrpc": "2.0", "id": 2, "method": "x/notes", "params": {"count": 1000, "pause": 0.1}});
    let headers = [("mcp-session-id", session.as_str())];
    let stream = bridge
        .send(Method::POST, me, &headers, notes.to_string())
        .await
        .unwrap();
    let mut stream = stream.into_body();
    next(&mut stream).await.unwrap().unwrap();
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
    let broken = loop {
        match next(&mut stream).await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(
        broken
            .unwrap_err()
            .to_string()
            .contains("ended before it answered")
    );
    until("it is waited for", Duration::from_secs(3), || {
        !is_there(&pid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_is_said_to_be_unreachable_without_its_path() {
    for words in [
        &["/nonexistent/secret-place/server"][..],
        &["no-such-program-anywhere"],
        &["/etc/passwd"],
    ] {
        let bridge = Bridge::new(&command(words), &limits());
        for refused in [
            bridge.session(principal(1)).await.unwrap_err(),
            bridge
                .modern(principal(1), 1, "x", json!({}))
                .await
                .unwrap_err(),
        ] {
            assert!(
                matches!(refused, UpstreamError::Unreachable(_)),
                "{refused}"
            );
            assert!(!refused.to_string().contains(words[0]), "{refused}");
        }
    }
    let bridge = Bridge::new(&command(&["true"]), &limits());
    let ended = bridge.session(principal(1)).await.unwrap_err();
    assert!(matches!(ended, UpstreamError::Unreachable(_)), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn some_garbage_is_skipped_and_a_flood_of_it_ends_the_program() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let some = bridge
        .legacy(me, &session, 1, "x/garbage", json!({"lines": 50}))
        .await
        .unwrap();
    assert_eq!(some.one()["id"], 1);
    let flood = json!({"lines": 1_000_000});
    let flooded = bridge
        .legacy(me, &session, 2, "x/garbage", flood)
        .await
        .unwrap_err();
    assert!(matches!(flooded, UpstreamError::Protocol(_)), "{flooded}");
    assert!(flooded.to_string().contains("floods"), "{flooded}");
    let after = bridge
        .legacy(me, &session, 3, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(after.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_limit_fails_only_its_own_request() {
    let bridge = Bridge::new(
        &child("legacy"),
        &Limits {
            response_bytes: 100_000,
            ..limits()
        },
    );
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let slow = bridge.legacy(
        me,
        &session,
        1,
        "x/slow",
        json!({"seconds": 1, "tag": "kept"}),
    );
    let long = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bridge
            .legacy(me, &session, 2, "x/long", json!({"length": 200_000}))
            .await
    };
    let (slow, long) = tokio::join!(slow, long);
    let long = long.unwrap_err();
    assert!(matches!(long, UpstreamError::Protocol(_)), "{long}");
    assert!(long.to_string().contains("limits.response_bytes"), "{long}");
    assert_eq!(slow.unwrap().result()["tag"], "kept");
    let fits = bridge
        .legacy(me, &session, 3, "x/long", json!({"length": 90_000}))
        .await
        .unwrap();
    assert_eq!(fits.result()["text"].as_str().unwrap().len(), 90_000);
    // A line that never ends is not waited for.
    let endless = bridge
        .legacy(me, &session, 4, "x/endless", json!({}))
        .await
        .unwrap_err();
    assert!(endless.to_string().contains("without end"), "{endless}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_no_json_fails_its_request_at_once() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let start = Instant::now();
    let broken = bridge
        .legacy(me, &session, 1, "x/broken", json!({}))
        .await
        .unwrap_err();
    assert!(
        broken.to_string().contains("not a JSON-RPC message"),
        "{broken}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_nothing_times_out_and_is_told() {
    let bridge = Bridge::new(
        &child("legacy"),
        &Limits {
            upstream_seconds: 1,
            ..limits()
        },
    );
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let never = bridge
        .legacy(me, &session, 1, "x/never", json!({}))
        .await
        .unwrap_err();
    assert_eq!(never, UpstreamError::Timeout);
    let facts = bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    assert_eq!(facts.result()["cancelled"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_program_holds_up_nobody_else() {
    let bridge = Bridge::new(
        &child("legacy"),
        &Limits {
            upstream_seconds: 2,
            ..limits()
        },
    );
    let (me, other) = (principal(1), principal(2));
    let deaf = bridge.session(me).await.unwrap();
    let fine = bridge.session(other).await.unwrap();
    let nothing = bridge
        .legacy(me, &deaf, 1, "x/deaf", json!({}))
        .await
        .unwrap_err();
    assert_eq!(nothing, UpstreamError::Timeout);
    // Far more than its pipe and the gateway's queue take.
    let big = Value::from("x".repeat(3 << 20));
    let start = Instant::now();
    let stuffing = async {
        for n in 2..6 {
            let sent = bridge.legacy(me, &deaf, n, "x/facts", json!({"big": big}));
            assert_eq!(sent.await.unwrap_err(), UpstreamError::Timeout);
        }
    };
    let calling = async {
        for n in 0..50 {
            bridge
                .legacy(other, &fine, n, "x/facts", json!({}))
                .await
                .unwrap();
        }
        start.elapsed()
    };
    let (_, taken) = tokio::join!(stuffing, calling);
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    bridge.upstream.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_slows_the_program_down_and_loses_its_stream() {
    let bridge = Bridge::new(&child("legacy"), &limits());
    let me = principal(1);
    let session = bridge.session(me).await.unwrap();
    let headers = [("mcp-session-id", session.as_str())];
    let notes =
        json!({"jsonrpc": "2.0", "id": 1, "method": "x/notes", "params": {"count": 100_000}});
    let stream = bridge
        .send(Method::POST, me, &headers, notes.to_string())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(13)).await;
    let mut stream = stream.into_body();
    let mut read = 0;
    let broken = loop {
        match next(&mut stream).await {
            Ok(Some(_)) => read += 1,
            other => break other,
        }
    };
    assert!(
        broken
            .unwrap_err()
            .to_string()
            .contains("does not read it fast enough")
    );
    assert!(read < 5_000, "{read} messages were held for it");
    // The session goes on.
    bridge
        .legacy(me, &session, 2, "x/facts", json!({}))
        .await
        .unwrap();
    bridge.upstream.stop().await;
}
