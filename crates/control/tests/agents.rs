//! Agents and instances: enrolling, stopping, and what holds when something breaks.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use std::sync::Arc;

use common::Plane;
use http::StatusCode;
use identity::InstanceKey;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_enrol_with_one_token_exactly_one_succeeds() {
    let plane = Arc::new(Plane::new().await);
    plane.register("support-1").await;
    let token: Arc<str> = plane.enrolment("support-1").await.into();
    let start = Arc::new(tokio::sync::Barrier::new(32));
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (plane, token, start) = (Arc::clone(&plane), Arc::clone(&token), Arc::clone(&start));
        tries.spawn(async move {
            let key = InstanceKey::generate().unwrap();
            start.wait().await;
            plane.enroll_with(&token, &key.public_jwk()).await.status
        });
    }
    let answers = tries.join_all().await;
    let won = answers
        .iter()
        .filter(|status| **status == StatusCode::CREATED)
        .count();
    let lost = answers
        .iter()
        .filter(|status| **status == StatusCode::UNAUTHORIZED)
        .count();
    assert_eq!((won, lost), (1, 31), "{answers:?}");
    assert_eq!(plane.engine.store().instances(None).await.unwrap().len(), 1);
    assert_eq!(plane.changes("instance.enrolled").len(), 1);
}

#[tokio::test]
async fn enrolment_tokens_end() {
    let plane = Plane::new().await;
    plane.register("support-1").await;
    let jwk = InstanceKey::generate().unwrap().public_jwk();
    let path = "/v1/agents/support-1/enrolment";
    let brief = plane
        .operate("POST", path, json!({ "ttl_seconds": 1 }))
        .await
        .ok();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let expired = plane
        .enroll_with(brief["token"].as_str().unwrap(), &jwk)
        .await;
    assert_eq!(expired.refusal(), "enrolment_refused");
    let first = plane.enrolment("support-1").await;
    let second = plane.enrolment("support-1").await;
    assert_eq!(
        plane.enroll_with(&first, &jwk).await.refusal(),
        "enrolment_refused"
    );
    plane
        .operate("POST", "/v1/agents/support-1/quarantine", Value::Null)
        .await
        .ok();
    assert_eq!(
        plane.enroll_with(&second, &jwk).await.refusal(),
        "enrolment_refused"
    );
    assert_eq!(
        plane.operate("POST", path, Value::Null).await.refusal(),
        "conflict"
    );
    for bad in ["", "spe_", "spo_x", &"spe_x".repeat(1_000)] {
        assert_eq!(
            plane.enroll_with(bad, &jwk).await.refusal(),
            "enrolment_refused"
        );
    }
    for life in [0, 86_401] {
        let refused = plane
            .operate("POST", path, json!({ "ttl_seconds": life }))
            .await;
        assert_eq!(refused.refusal(), "invalid_request");
    }
    assert!(plane.changes("instance.enrolled").is_empty());
}

#[tokio::test]
async fn a_key_belongs_to_one_instance_and_must_be_public() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    plane.register("support-2").await;
    let token = plane.enrolment("support-2").await;
    let shared = plane.enroll_with(&token, &instance.key.public_jwk()).await;
    assert_eq!(shared.refusal(), "conflict");
    let token = plane.enrolment("support-2").await;
    let mut private = InstanceKey::generate().unwrap().public_jwk();
    private["d"] = "AAAA".into();
    assert_eq!(
        plane.enroll_with(&token, &private).await.refusal(),
        "invalid_request"
    );
    assert_eq!(
        plane.enroll_with(&token, &json!("x")).await.refusal(),
        "invalid_request"
    );
    let good = InstanceKey::generate().unwrap().public_jwk();
    plane.enroll_with(&token, &good).await.ok();
}

#[tokio::test]
async fn names_are_never_used_twice() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let retired = plane
        .operate("POST", "/v1/agents/support-1/retire", Value::Null)
        .await
        .ok();
    assert_eq!(retired["lifecycle"], "retired");
    let task = plane
        .operate("GET", &format!("/v1/tasks/{task}"), Value::Null)
        .await
        .ok();
    assert_eq!(
        (&task["status"], &task["ended_because"]),
        (&json!("revoked"), &json!("the agent was retired"))
    );
    let again = json!({ "name": "support-1", "sponsor": "eve@example.org" });
    let again = plane.operate("POST", "/v1/agents", again).await;
    assert_eq!(again.refusal(), "conflict");
    assert_eq!(again.status, StatusCode::CONFLICT);
    for step in ["release", "quarantine", "enrolment"] {
        let path = format!("/v1/agents/support-1/{step}");
        assert_eq!(
            plane.operate("POST", &path, Value::Null).await.refusal(),
            "conflict",
            "{step}"
        );
    }
}

#[tokio::test]
async fn agents_have_a_sponsor_who_can_be_reached() {
    let plane = Plane::new().await;
    for body in [
        json!({ "name": "support-1" }),
        json!({ "name": "support-1", "sponsor": "nobody" }),
        json!({ "name": "Support", "sponsor": "ada@example.org" }),
        json!({ "name": "support-1", "sponsor": "ada@example.org", "lifecycle": "active" }),
        json!([]),
    ] {
        let refused = plane.operate("POST", "/v1/agents", body.clone()).await;
        assert_eq!(refused.refusal(), "invalid_request", "{body}");
    }
    assert!(plane.changes("agent.registered").is_empty());
}

#[tokio::test]
async fn a_quarantine_holds_when_it_returns_and_ends_with_the_release() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    let mut permit = instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let streaming = permit.signal();
    plane
        .operate("POST", "/v1/agents/support-1/quarantine", Value::Null)
        .await
        .ok();
    assert!(streaming.is_cut(), "what was streaming is cut");
    assert!(
        permit.dispatch().is_err(),
        "what was permitted before is not forwarded any more"
    );
    assert!(instance.attempt(&plane, task, &token, "/x").await.is_err());
    plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await
        .ok();
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    let twice = plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await;
    assert_eq!(twice.refusal(), "conflict");
    assert_eq!(plane.changes("agent.quarantined").len(), 1);
    assert_eq!(plane.changes("agent.released").len(), 1);
}

#[tokio::test]
async fn an_agent_without_instances_is_released_to_registered() {
    let plane = Plane::new().await;
    plane.register("support-1").await;
    plane
        .operate("POST", "/v1/agents/support-1/quarantine", Value::Null)
        .await
        .ok();
    let agent = plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await
        .ok();
    assert_eq!(agent["lifecycle"], "registered");
}

#[tokio::test]
async fn what_takes_holds_without_the_log_and_what_gives_is_refused() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let twin = plane.instance("support-1").await;
    plane.register("support-2").await;
    let task = plane.task("support-1", "open").await;
    let other = plane.task("support-1", "open").await;
    plane.break_log().await;
    for (path, body) in [
        (
            "/v1/agents",
            json!({ "name": "support-3", "sponsor": "ada@example.org" }),
        ),
        ("/v1/agents/support-2/enrolment", Value::Null),
        (
            "/v1/tasks",
            json!({ "agent": "support-1", "template": "open" }),
        ),
        ("/v1/keys/rotate", Value::Null),
    ] {
        let refused = plane.operate("POST", path, body).await;
        assert_eq!(refused.refusal(), "audit_unavailable", "{path}");
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.body["remedy"].as_str().unwrap().contains("log"));
    }
    let held = [
        format!("/v1/tasks/{task}/revoke"),
        format!("/v1/tasks/{other}/complete"),
        format!("/v1/instances/{}/disable", instance.id),
        "/v1/servers/files/disable".to_owned(),
        "/v1/agents/support-1/quarantine".to_owned(),
    ];
    for path in &held {
        let answer = plane.operate("POST", path, Value::Null).await.ok();
        let warning = answer["warnings"][0]
            .as_str()
            .unwrap_or_else(|| panic!("{path}: {answer}"));
        assert!(warning.contains("audit log"), "{warning}");
    }
    let refused = plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await;
    assert_eq!(refused.refusal(), "audit_unavailable");
    let ready = plane.call("GET", "/readyz", &[], "").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    // After a restart all of it holds still, and the log has what it was owed.
    let plane = plane.restart().await;
    let agent = plane
        .operate("GET", "/v1/agents/support-1", Value::Null)
        .await
        .ok();
    assert_eq!(agent["lifecycle"], "quarantined");
    assert!(plane.engine.live().is_disabled(&instance.id));
    assert!(!plane.engine.live().is_disabled(&twin.id));
    let servers = plane.operate("GET", "/v1/servers", Value::Null).await.ok();
    let mut all = servers["items"].as_array().unwrap().iter();
    let files = all.find(|server| server["name"] == "files").unwrap();
    assert_eq!(files["enabled"], false);
    for (change, subject) in [
        ("task.revoked", task.to_string()),
        ("task.completed", other.to_string()),
        ("instance.disabled", instance.id.to_string()),
        ("server.disabled", "files".to_owned()),
        ("agent.quarantined", "support-1".to_owned()),
    ] {
        let found = plane.changes(change);
        assert_eq!(found.len(), 1, "{change}");
        assert_eq!(found[0].subject, subject);
    }
    assert!(plane.engine.store().owed().await.unwrap().is_empty());
    assert_eq!(
        plane.call("GET", "/readyz", &[], "").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_takes_holds_without_the_store_too() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    instance
        .attempt(&plane, task, &token, "/x")
        .await
        .ok()
        .unwrap();
    plane.break_store().await;
    let answer = plane
        .operate("POST", "/v1/agents/support-1/quarantine", Value::Null)
        .await
        .ok();
    assert_eq!(answer["lifecycle"], "quarantined");
    assert!(
        answer["warnings"][0]
            .as_str()
            .unwrap()
            .contains("could not be stored"),
        "{answer}"
    );
    assert!(instance.attempt(&plane, task, &token, "/x").await.is_err());
    let path = format!("/v1/instances/{}/disable", instance.id);
    let held = plane.operate("POST", &path, Value::Null).await;
    assert_eq!(held.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        held.body["detail"].as_str().unwrap().contains("in effect"),
        "{}",
        held.body
    );
    assert!(plane.engine.live().is_disabled(&instance.id));
    let answer = plane
        .operate("POST", &format!("/v1/tasks/{task}/revoke"), Value::Null)
        .await
        .ok();
    assert_eq!(answer["status"], "revoked");
    assert_eq!(plane.engine.owed(), 3);
    let refused = plane
        .operate("POST", "/v1/agents/support-1/release", Value::Null)
        .await;
    assert_eq!(
        refused.refusal(),
        "conflict",
        "nothing is given while something is not stored"
    );
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_goes_away() {
    let plane = Plane::new().await;
    let instance = plane.instance("support-1").await;
    let task = plane.task("support-1", "open").await;
    let token = instance.token(&plane, task, "files").await;
    for _ in 0..20 {
        let quarantine = plane.operate("POST", "/v1/agents/support-1/quarantine", Value::Null);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), quarantine).await;
        // It went on without its caller: the record comes last, so all is done when it is there.
        // A change that stopped half way never gets there.
        let whole = async {
            loop {
                let live = plane
                    .engine
                    .live()
                    .world()
                    .agent(&instance.agent)
                    .unwrap()
                    .lifecycle;
                let agent = plane
                    .operate("GET", "/v1/agents/support-1", Value::Null)
                    .await
                    .ok();
                let stopped = plane.changes("agent.quarantined").len();
                let open = stopped - plane.changes("agent.released").len();
                let quarantined = live == model::Lifecycle::Quarantined;
                if agent["lifecycle"] == live.as_str() && open == usize::from(quarantined) {
                    return live;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let whole = tokio::time::timeout(std::time::Duration::from_secs(20), whole).await;
        let live = whole.expect("memory, store and log agree in the end");
        if live == model::Lifecycle::Quarantined {
            assert!(instance.attempt(&plane, task, &token, "/x").await.is_err());
            plane
                .operate("POST", "/v1/agents/support-1/release", Value::Null)
                .await
                .ok();
        }
    }
    assert!(
        !plane.changes("agent.quarantined").is_empty(),
        "it happened at least once"
    );
}
