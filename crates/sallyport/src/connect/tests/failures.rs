//! What goes wrong, and what the client hears of it.

use super::fake::accept;
use super::*;

#[tokio::test]
async fn refusals_reach_the_request() {
    let fake = Fake::start(|seen| match seen.body["params"]["name"].as_str() {
        Some("denied") => json_reply(&json!({ "jsonrpc": "2.0", "id": null, "error": {
            "code": 403, "message": "not granted", "data": { "rule": "not_granted" } } }))
        .with_status(403),
        _ => Reply::status(500),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running
        .say(modern("a", "tools/call", json!({ "name": "denied" })))
        .await;
    let refused = running.hear().await;
    assert_eq!(refused["id"], "a");
    assert_eq!(refused["error"]["data"]["rule"], "not_granted");
    running
        .say(modern("b", "tools/call", json!({ "name": "broken" })))
        .await;
    let refused = running.hear().await;
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!("b"), &json!(403))
    );
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("500")
    );
    running.finish().await;
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_the_rest_goes_on() {
    let fake = Fake::start(legacy).await;
    let mut running = Running::start(&fake).await;
    let input = running.input.clone().unwrap();
    input
        .send(Input::Line(Bytes::from_static(b"{nonsense")))
        .await
        .unwrap();
    assert_eq!(running.hear().await["error"]["code"], -32700);
    input.send(Input::TooLong).await.unwrap();
    assert_eq!(running.hear().await["error"]["code"], -32600);
    drop(input);
    running.initialize().await;
    running.finish().await;
}

#[tokio::test]
async fn an_unreachable_gateway_is_told_and_tried_again() {
    let fake = Fake::start(legacy).await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    fake.refuse_connections(true).await;
    running.say(call(1)).await;
    let answer = running.hear().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(503))
    );
    fake.refuse_connections(false).await;
    running.say(call(2)).await;
    assert!(running.hear().await["result"].is_object());
    running.finish().await;
}

#[tokio::test]
async fn a_nonce_that_is_asked_for_is_given_and_kept() {
    let fake = Fake::start(|seen| {
        if accept(seen, Some("n1")) {
            legacy(seen)
        } else {
            Reply::status(401).with("dpop-nonce", "n1")
        }
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    assert!(running.hear().await["result"].is_object());
    running.finish().await;
    let calls = fake.seen("POST", "/mcp/files");
    let without = calls
        .iter()
        .filter(|seen| !accept(seen, Some("n1")))
        .count();
    assert_eq!(without, 1, "only the first one did not know it");
}

#[tokio::test]
async fn a_token_that_is_not_accepted_is_replaced_once() {
    let fake = Fake::start(|seen| {
        if seen.header("authorization") == Some("DPoP token-2") {
            Reply::status(401)
        } else {
            legacy(seen)
        }
    })
    .await;
    // Token 1 opens the task, token 2 is refused, token 3 is good.
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.finish().await;
    let calls = fake.seen("POST", "/mcp/files");
    assert_eq!(calls[0].header("authorization"), Some("DPoP token-2"));
    assert!(
        calls[1..]
            .iter()
            .all(|seen| seen.header("authorization") == Some("DPoP token-3"))
    );
}

#[tokio::test]
async fn every_request_has_a_proof_of_its_own() {
    let fake = Fake::start(legacy).await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    for id in 1..5 {
        running.say(call(id)).await;
        running.hear().await;
    }
    running.finish().await;
    let verified = fake.verify_proofs();
    assert!(verified >= 10, "{verified}");
}

#[tokio::test]
async fn a_signal_ends_everything_soon() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/call") => Reply::Hang,
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    fake.wait_for("POST", "/mcp/files", 3).await;
    let before = std::time::Instant::now();
    drop(running.signal.take());
    while running.output.recv().await.is_some() {}
    running.ended.await.unwrap();
    assert!(before.elapsed() < PATIENCE);
    assert_eq!(fake.seen("DELETE", "/mcp/files").len(), 1);
    assert_eq!(
        fake.seen("POST", &format!("/v1/tasks/{TASK}/complete"))
            .len(),
        1
    );
}

#[tokio::test]
async fn a_client_that_reads_no_more_ends_everything() {
    let fake = Fake::start(legacy).await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    let Running {
        input,
        output,
        ended,
        signal,
    } = running;
    drop(output);
    tokio::time::timeout(WAIT, ended).await.unwrap().unwrap();
    assert_eq!(fake.seen("DELETE", "/mcp/files").len(), 1);
    drop((input, signal));
}
