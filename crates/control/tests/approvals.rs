//! Approvals as the engine decides them: only by the operator, once, for open tasks, whatever breaks.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

mod common;

use std::sync::Arc;

use common::Plane;
use control::{Actor, Approve, EngineError};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use model::approval::{Approval, ApprovalStatus, Covers};
use model::provenance::{Asked, Reason};
use model::{ApprovalId, DecisionId, Rule, TaskId};
use serde_json::{Value, json};

async fn filed(plane: &Plane, task: TaskId, number: u8) -> ApprovalId {
    let now = Timestamp::now();
    let live = plane.engine.live().task(&task).unwrap();
    let request = Approval {
        id: ApprovalId::new(now, [number; 10]),
        task,
        agent: live.task().agent.clone(),
        template: live.task().template.clone(),
        purpose: String::new(),
        decision: DecisionId::new(now, [number; 10]),
        server: "mail".parse().unwrap(),
        method: "tools/call".to_owned(),
        kind: "tool".to_owned(),
        target: "send".to_owned(),
        rule: Rule::Provenance,
        reason: "because".to_owned(),
        asked: vec![Asked {
            argument: "/to".to_owned(),
            value: "x".to_owned(),
            reason: Reason::Nowhere,
            seen: Vec::new(),
            incomplete: false,
            exact: Value::Null,
        }],
        arguments: json!({ "to": "x" }),
        call: "ab".to_owned(),
        asked_at: now,
        expires_at: now.checked_add(SignedDuration::from_secs(600)).unwrap(),
        status: ApprovalStatus::Pending,
        decided: None,
        used: 0,
    };
    let desk = Arc::clone(plane.engine.live().approvals().desk().unwrap());
    desk.file(request.clone()).await.unwrap();
    request.id
}

fn once() -> Approve {
    Approve {
        covers: Covers::Call,
        uses: None,
        valid: None,
        by: None,
        because: None,
    }
}

#[tokio::test]
async fn nobody_but_the_operator_decides() {
    let plane = Plane::new().await;
    let agent = plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let id = filed(&plane, task, 1).await;
    let path = format!("/v1/approvals/{id}/approve");
    for verb in ["approve", "deny"] {
        let path = format!("/v1/approvals/{id}/{verb}");
        let by_agent = agent.manage(&plane, "POST", &path, json!({})).await;
        assert_eq!(by_agent.status, StatusCode::FORBIDDEN);
    }
    for actor in [
        Actor::Sallyport,
        Actor::Instance {
            id: agent.id,
            agent: "support-1".parse().unwrap(),
        },
    ] {
        let refused = plane.engine.approve(actor, id, once()).await.unwrap_err();
        assert!(
            matches!(refused, EngineError::Forbidden { .. }),
            "{refused}"
        );
    }
    let seen = agent
        .manage(
            &plane,
            "GET",
            &format!("/access/v1/requests/{id}"),
            Value::Null,
        )
        .await
        .ok();
    assert_eq!(seen["task"]["status"], "pending");
    let stranger = plane.instance("support-2").await;
    let hidden = stranger
        .manage(
            &plane,
            "GET",
            &format!("/access/v1/requests/{id}"),
            Value::Null,
        )
        .await;
    assert_eq!(hidden.refusal(), "not_found");
    plane.operate("POST", &path, json!({})).await.ok();
    let again = plane.operate("POST", &path, json!({})).await;
    assert_eq!(again.refusal(), "conflict");
    assert_eq!(plane.changes("approval.requested").len(), 1);
    assert_eq!(plane.changes("approval.approved").len(), 1);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_and_it_still_waits() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let id = filed(&plane, task, 1).await;
    let path = format!("/v1/approvals/{id}/approve");
    for wrong in [
        json!({ "uses": 0 }),
        json!({ "uses": 100_000 }),
        json!({ "covers": { "values": {} } }),
        json!({ "covers": { "values": { "to": {} } } }),
        json!({ "covers": { "values": { "cc": { "domain": "a.example" } } } }),
        json!({ "covers": { "values": { "to": { "domain": "example" } } } }),
        json!({ "covers": "everything" }),
        json!({ "by": "a\nb" }),
    ] {
        let refused = plane.operate("POST", &path, wrong.clone()).await;
        assert_eq!(refused.refusal(), "invalid_request", "{wrong}");
    }
    let shown = plane
        .operate("GET", &format!("/v1/approvals/{id}"), Value::Null)
        .await
        .ok();
    assert_eq!(shown["status"], "pending");
    let covers = json!({ "values": { "to": { "domain": "corp.example" } } });
    let approved = plane
        .operate(
            "POST",
            &path,
            json!({ "covers": covers, "uses": 3, "valid_seconds": 9_999_999 }),
        )
        .await
        .ok();
    assert_eq!(approved["uses_left"], 3);
    let until: Timestamp = approved["decided"]["allows"]["until"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let ends = plane.engine.live().task(&task).unwrap().task().expires_at;
    assert_eq!(until, ends, "never beyond the end of the task");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn approving_races_the_end_of_the_task_and_loses_in_the_end() {
    let plane = Arc::new(Plane::new().await);
    plane.instance("support-1").await;
    for number in 0..12 {
        let task = plane.task("support-1", "ticket").await;
        let id = filed(&plane, task, number).await;
        let (ending, approving) = (Arc::clone(&plane), Arc::clone(&plane));
        let end = tokio::spawn(async move {
            let path = format!("/v1/tasks/{task}/revoke");
            ending.operate("POST", &path, json!({})).await.ok()
        });
        let approve = tokio::spawn(async move {
            let path = format!("/v1/approvals/{id}/approve");
            approving.operate("POST", &path, json!({})).await.status
        });
        end.await.unwrap();
        let status = approve.await.unwrap();
        assert!(
            matches!(status, StatusCode::OK | StatusCode::CONFLICT),
            "{status}"
        );
        let kept = plane.engine.store().approval(&id).await.unwrap().unwrap();
        assert_eq!(kept.status, ApprovalStatus::Cancelled, "{status}");
        let desk = Arc::clone(plane.engine.live().approvals().desk().unwrap());
        assert!(
            !desk.claim(id, kept.decision).await,
            "nothing is left of it"
        );
    }
}

#[tokio::test]
async fn a_decision_is_waited_for() {
    let plane = Arc::new(Plane::new().await);
    plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let id = filed(&plane, task, 1).await;
    let waiting = Arc::clone(&plane);
    let waits = tokio::spawn(async move {
        let path = format!("/v1/approvals/{id}?wait=20");
        waiting.operate("GET", &path, Value::Null).await.ok()
    });
    tokio::task::yield_now().await;
    let path = format!("/v1/approvals/{id}/deny");
    plane
        .operate("POST", &path, json!({ "by": "ada" }))
        .await
        .ok();
    let seen = waits.await.unwrap();
    assert_eq!(seen["status"], "denied");
    assert_eq!(seen["decided"]["by"], "ada");
}

#[tokio::test]
async fn without_a_log_nothing_is_approved_and_more_is_asked_all_the_same() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let id = filed(&plane, task, 1).await;
    plane.break_log().await;
    let refused = plane
        .operate("POST", &format!("/v1/approvals/{id}/approve"), json!({}))
        .await;
    assert_eq!(refused.refusal(), "audit_unavailable");
    let kept = plane.engine.store().approval(&id).await.unwrap().unwrap();
    assert_eq!(kept.status, ApprovalStatus::Pending);
    let path = "/v1/agents/support-1/approval-level";
    let raised = plane
        .operate("POST", path, json!({ "level": "all" }))
        .await
        .ok();
    assert_eq!(raised["warnings"].as_array().unwrap().len(), 1);
    let levels = plane.engine.live().approvals().levels();
    assert!(
        levels.agent(&"support-1".parse().unwrap()).is_some(),
        "it holds"
    );
    let lowered = plane
        .operate("POST", path, json!({ "level": "usual" }))
        .await;
    assert_eq!(lowered.refusal(), "audit_unavailable");
}

#[tokio::test]
async fn levels_and_what_waits_survive_a_restart() {
    let plane = Plane::new().await;
    plane.instance("support-1").await;
    let task = plane.task("support-1", "ticket").await;
    let id = filed(&plane, task, 1).await;
    let path = "/v1/agents/support-1/approval-level";
    plane
        .operate(
            "POST",
            path,
            json!({ "level": "changes", "because": "odd" }),
        )
        .await
        .ok();
    let plane = plane.restart().await;
    let levels = plane
        .operate("GET", "/v1/approval-levels", Value::Null)
        .await
        .ok();
    assert_eq!(levels[0]["agent"], "support-1");
    assert_eq!(levels[0]["level"], "changes");
    assert!(!plane.engine.live().approvals().levels().is_empty());
    let listed = plane
        .operate("GET", "/v1/approvals?status=pending", Value::Null)
        .await
        .ok();
    assert_eq!(listed["items"][0]["id"], id.to_string());
    plane
        .operate("POST", &format!("/v1/approvals/{id}/approve"), json!({}))
        .await
        .ok();
}
