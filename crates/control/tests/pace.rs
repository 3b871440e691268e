//! How fast agents may ask the control listener, and nonces in their proofs.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use common::{CONTROL, Plane, borrowed, resource, unique};
use http::StatusCode;
use jiff::Timestamp;
use model::config::Limits;
use model::rate::{Per, Rate, RateLimit};
use model::record::Event;
use serde_json::json;

/// So many at once, and next to none after that.
fn limited(burst: u32) -> Limits {
    Limits {
        control_rate: RateLimit::At(Rate::new(1, Per::Minute, burst).unwrap()),
        ..Limits::default()
    }
}

#[tokio::test]
async fn an_agent_that_asks_too_often_is_told_to_wait_and_others_are_not() {
    let plane = Plane::new().await;
    let loud = plane.instance("support-1").await;
    let quiet = plane.instance("support-2").await;
    let tasks = [("resource", CONTROL), ("scope", "tasks")];
    let live = plane.engine.live();
    live.set_rates(&limited(4));
    for _ in 0..4 {
        loud.ask(&plane, &tasks).await.ok();
    }
    let refused = loud.ask(&plane, &tasks).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.body["error"], "temporarily_unavailable");
    let why = refused.body["error_description"].as_str().unwrap();
    assert!(why.contains("1 call a minute, 4 at once"), "{why}");
    let wait: u64 = refused.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    quiet.ask(&plane, &tasks).await.ok();

    // What a token for tasks is used for counts as well.
    live.set_rates(&limited(3));
    let token = quiet.ask(&plane, &tasks).await.ok();
    let token = token["access_token"].as_str().unwrap().to_owned();
    let path = "/v1/tasks";
    let mut told = Vec::new();
    for _ in 0..4 {
        let proof = quiet.proof("POST", &format!("{CONTROL}{path}"), Some(&token));
        let headers = [
            ("authorization", format!("DPoP {token}")),
            ("dpop", proof),
            ("content-type", "application/json".to_owned()),
        ];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let body = json!({ "template": "open", "purpose": "x" }).to_string();
        told.push(plane.call("POST", path, &headers, body).await);
    }
    let last = told.last().unwrap();
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS, "{}", last.body);
    assert_eq!(last.body["rule"], "rate_limited");
    assert!(last.headers.contains_key("retry-after"));

    let shown = plane
        .operate("GET", "/v1/agents/support-1", json!(null))
        .await
        .ok();
    assert_eq!(shown["pace"]["refused"], 1);
    plane.control.write_counts();
    plane.break_log().await;
    let records = common::records(&plane.dir.path().join("log"));
    let refusals = records.iter().filter_map(|record| match &record.event {
        Event::Refusal(refusal) => Some(refusal),
        _ => None,
    });
    let agents: Vec<_> = refusals
        .filter(|refusal| refusal.endpoint == "/oauth/token")
        .map(|refusal| {
            (
                refusal.denial.rule.as_str(),
                refusal.agent.as_ref().unwrap().as_str(),
            )
        })
        .collect();
    assert_eq!(agents, [("rate_limited", "support-1")]);
}

#[tokio::test]
async fn where_nonces_are_demanded_the_token_service_asks_for_them_before_anything_is_used_up() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let server = resource(task, "files");
    let asked = [("resource", server.as_str())];
    let quiet = instance.ask(&plane, &asked).await;
    assert!(!quiet.headers.contains_key("dpop-nonce"), "none is offered");
    quiet.ok();
    plane.engine.pipeline().nonces().set(true);

    let url = format!("{CONTROL}/oauth/token");
    let proof = |nonce: Option<&str>| {
        let now = Timestamp::now();
        instance
            .key
            .sign_dpop("POST", &url, None, nonce, now, &unique())
            .unwrap()
    };
    let form = instance.form(&asked);
    let form = borrowed(&form);
    for wrong in [None, Some("AAAAAAAAAAAAAAAAAAAAAA")] {
        let refused = plane.ask_token(&form, Some(&proof(wrong))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST);
        assert_eq!(refused.body["error"], "use_dpop_nonce");
        assert!(refused.headers.contains_key("dpop-nonce"));
    }
    let refused = plane.ask_token(&form, Some(&proof(None))).await;
    let nonce = refused.headers["dpop-nonce"].to_str().unwrap().to_owned();
    // The same assertion again: it was not used up.
    let good = proof(Some(&nonce));
    let answer = plane.ask_token(&form, Some(&good)).await;
    assert!(answer.headers.contains_key("dpop-nonce"));
    answer.ok();
    let fresh = instance.form(&asked);
    let replayed = plane.ask_token(&borrowed(&fresh), Some(&good)).await;
    assert_eq!(replayed.body["error"], "invalid_dpop_proof");

    // The management API asks in its own form.
    let form = instance.form(&[("resource", CONTROL), ("scope", "tasks")]);
    let token = plane
        .ask_token(&borrowed(&form), Some(&proof(Some(&nonce))))
        .await
        .ok();
    let token = token["access_token"].as_str().unwrap();
    let path = format!("/v1/tasks/{task}");
    let call = async |nonce: Option<&str>| {
        let now = Timestamp::now();
        let url = format!("{CONTROL}{path}");
        let proof = instance
            .key
            .sign_dpop("GET", &url, Some(token), nonce, now, &unique())
            .unwrap();
        let authorization = format!("DPoP {token}");
        let headers = [("authorization", &*authorization), ("dpop", &*proof)];
        plane.call("GET", &path, &headers, "").await
    };
    let refused = call(None).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.body["rule"], "nonce_needed");
    let challenges: Vec<_> = refused
        .headers
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert!(
        challenges
            .iter()
            .any(|it| it.starts_with("DPoP ") && it.contains("error=\"use_dpop_nonce\"")),
        "{challenges:?}"
    );
    let nonce = refused.headers["dpop-nonce"].to_str().unwrap();
    call(Some(nonce)).await.ok();
}
