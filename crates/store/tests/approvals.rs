//! Approvals in the store: kept once, decided once, used as often as allowed, and over with their task.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use model::approval::{Allowance, Approval, ApprovalLevel, ApprovalStatus, Covers, Decided};
use model::{
    Agent, ApprovalId, Budget, DecisionId, Grant, Lifecycle, Proof, Rule, Task, TaskId, TaskStatus,
};
use store::{ApprovalFilter, Filed, LevelOf, RaisedLevel, Room, Store};

const ROOM: Room = Room {
    all: 3,
    per_agent: 2,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn task_id(number: u8) -> TaskId {
    TaskId::new(at(1_000), [number; 10])
}

async fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(dir.path()).await.unwrap();
    for (number, name) in [(1, "a"), (2, "b")] {
        let agent = Agent {
            name: name.parse().unwrap(),
            sponsor: "ada@example.org".to_owned(),
            segment: None,
            lifecycle: Lifecycle::Active,
            registered_at: at(1),
        };
        store.insert_agent(&agent).await.unwrap();
        let task = Task {
            id: task_id(number),
            agent: agent.name.clone(),
            instance: None,
            parent: None,
            template: "t".parse().unwrap(),
            parameters: BTreeMap::new(),
            purpose: String::new(),
            grant: Grant {
                permissions: Vec::new(),
                budget: Budget::of_calls(7),
                proof: Proof::Dpop,
                rate: None,
                trusted_inputs: model::grant::TrustedInputs::default(),
            },
            opened_at: at(1_000),
            expires_at: at(9_000),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        };
        store.insert_task(&task, b"salt", 0).await.unwrap();
    }
    store
}

fn request(number: u8, task: u8) -> Approval {
    Approval {
        id: ApprovalId::new(at(2_000 + i64::from(number)), [number; 10]),
        task: task_id(task),
        agent: if task == 1 { "a" } else { "b" }.parse().unwrap(),
        template: "t".parse().unwrap(),
        purpose: String::new(),
        decision: DecisionId::new(at(2_000), [number; 10]),
        server: "mail".parse().unwrap(),
        method: "tools/call".to_owned(),
        kind: "tool".to_owned(),
        target: "send".to_owned(),
        rule: Rule::Provenance,
        reason: "because".to_owned(),
        asked: Vec::new(),
        arguments: serde_json::json!({ "to": "x" }),
        call: "ab".to_owned(),
        asked_at: at(2_000),
        expires_at: at(3_000),
        status: ApprovalStatus::Pending,
        decided: None,
        used: 0,
    }
}

fn allowed(uses: u32) -> Decided {
    Decided {
        at: at(2_100),
        actor: "operator".to_owned(),
        by: Some("ada".to_owned()),
        because: None,
        allows: Some(Allowance {
            uses,
            until: at(4_000),
            covers: Covers::Call,
        }),
    }
}

#[tokio::test]
async fn what_waits_is_limited_and_kept_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let file = async |approval: &Approval| store.file_approval(approval, ROOM).await.unwrap();
    assert_eq!(file(&request(1, 1)).await, Filed::New);
    assert_eq!(file(&request(1, 1)).await, Filed::Before);
    assert_eq!(file(&request(2, 1)).await, Filed::New);
    assert_eq!(
        file(&request(3, 1)).await,
        Filed::TooMany(2),
        "of one agent"
    );
    assert_eq!(file(&request(4, 2)).await, Filed::New);
    assert_eq!(file(&request(5, 2)).await, Filed::TooMany(3), "in all");
    let later = Approval {
        asked_at: at(3_000),
        expires_at: at(5_000),
        ..request(6, 1)
    };
    assert_eq!(file(&later).await, Filed::New, "what expired waits no more");
    assert_eq!(
        store.approval(&request(1, 1).id).await.unwrap(),
        Some(request(1, 1))
    );
}

#[tokio::test]
async fn it_is_decided_once_and_used_as_often_as_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let one = request(1, 1);
    store.file_approval(&one, ROOM).await.unwrap();
    assert!(
        !store.use_approval(&one.id, at(2_050)).await.unwrap(),
        "nobody decided"
    );
    let approved = ApprovalStatus::Approved;
    assert!(
        store
            .decide_approval(&one.id, approved, &allowed(2))
            .await
            .unwrap()
    );
    assert!(
        !store
            .decide_approval(&one.id, approved, &allowed(9))
            .await
            .unwrap()
    );
    let uses: Vec<_> = (0..10)
        .map(|_| {
            let (store, id) = (store.clone(), one.id);
            tokio::spawn(async move { store.use_approval(&id, at(2_200)).await.unwrap() })
        })
        .collect();
    let mut used = 0;
    for one in uses {
        used += usize::from(one.await.unwrap());
    }
    assert_eq!(used, 2);
    let kept = store.approval(&one.id).await.unwrap().unwrap();
    assert_eq!((kept.used, kept.uses_left()), (2, 0));
    assert_eq!(kept.decided, Some(allowed(2)));

    let two = request(2, 1);
    store.file_approval(&two, ROOM).await.unwrap();
    store
        .decide_approval(&two.id, approved, &allowed(2))
        .await
        .unwrap();
    assert!(
        !store.use_approval(&two.id, at(4_000)).await.unwrap(),
        "it is over"
    );
    let denied = Decided {
        allows: None,
        ..allowed(1)
    };
    let status = ApprovalStatus::Denied;
    assert!(
        store
            .end_approval(&two.id, status, &denied, Some(b"owed"))
            .await
            .unwrap()
    );
    assert!(
        !store.use_approval(&two.id, at(2_200)).await.unwrap(),
        "it was taken back"
    );
    assert!(
        !store
            .end_approval(&two.id, status, &denied, Some(b"owed"))
            .await
            .unwrap()
    );
    assert_eq!(store.owed().await.unwrap(), [b"owed".to_vec()]);
    let three = request(3, 1);
    store.file_approval(&three, ROOM).await.unwrap();
    let late = Decided {
        at: at(3_000),
        ..allowed(1)
    };
    assert!(
        !store
            .decide_approval(&three.id, approved, &late)
            .await
            .unwrap(),
        "too late"
    );
}

#[tokio::test]
async fn it_ends_with_its_task_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let (own, other) = (request(1, 1), request(2, 2));
    store.file_approval(&own, ROOM).await.unwrap();
    store.file_approval(&other, ROOM).await.unwrap();
    store
        .decide_approval(&own.id, ApprovalStatus::Approved, &allowed(5))
        .await
        .unwrap();
    assert_eq!(store.open_approvals().await.unwrap().len(), 2);
    store
        .end_task(&own.task, TaskStatus::Completed, at(2_300), "done", None)
        .await
        .unwrap();
    assert!(!store.use_approval(&own.id, at(2_400)).await.unwrap());
    let status = async |id| store.approval(id).await.unwrap().unwrap().status;
    assert_eq!(status(&own.id).await, ApprovalStatus::Cancelled);
    assert_eq!(status(&other.id).await, ApprovalStatus::Pending);
    assert_eq!(
        store.open_approvals().await.unwrap(),
        std::slice::from_ref(&other)
    );
    assert_eq!(
        store.file_approval(&request(3, 1), ROOM).await.unwrap(),
        Filed::TaskOver
    );
    let of = |status| ApprovalFilter {
        status: Some(status),
        limit: 10,
        ..ApprovalFilter::default()
    };
    let listed = async |status, now| {
        let found = store.approvals(&of(status), now).await.unwrap();
        found.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(ApprovalStatus::Pending, at(2_400)).await, [other.id]);
    assert!(listed(ApprovalStatus::Pending, at(3_000)).await.is_empty());
    assert_eq!(listed(ApprovalStatus::Expired, at(3_000)).await, [other.id]);
    assert_eq!(listed(ApprovalStatus::Cancelled, at(3_000)).await, [own.id]);
}

#[tokio::test]
async fn levels_are_kept_until_they_are_over_or_usual_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir).await;
    let raised = |level, until: Option<i64>| RaisedLevel {
        of: LevelOf::Agent("a".parse().unwrap()),
        level,
        until: until.map(at),
        because: "odd".to_owned(),
    };
    let task = RaisedLevel {
        of: LevelOf::Task(task_id(1)),
        ..raised(ApprovalLevel::All, Some(2_000))
    };
    store
        .set_approval_level(&raised(ApprovalLevel::All, None), None)
        .await
        .unwrap();
    store.set_approval_level(&task, None).await.unwrap();
    let now = raised(ApprovalLevel::Changes, None);
    store.set_approval_level(&now, None).await.unwrap();
    assert_eq!(
        store.approval_levels(at(1_999)).await.unwrap(),
        [now.clone(), task]
    );
    assert_eq!(store.approval_levels(at(2_000)).await.unwrap(), [now]);
    store
        .set_approval_level(&raised(ApprovalLevel::Usual, None), None)
        .await
        .unwrap();
    assert!(store.approval_levels(at(2_000)).await.unwrap().is_empty());
}
