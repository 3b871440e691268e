//! The store through its public methods, on real files.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the failure")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use model::{
    Agent, AgentName, Budget, Grant, Instance, InstanceId, Lifecycle, Proof, ServerName, Task,
    TaskId, TaskStatus, TemplateName,
};
use store::{Store, StoreError, TaskFilter, UsageSnapshot};

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

async fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    Bench { dir, store }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn name(text: &str) -> AgentName {
    AgentName::parse(text).unwrap()
}

fn agent(text: &str, registered: i64) -> Agent {
    Agent {
        name: name(text),
        sponsor: "ada@example.org".to_owned(),
        segment: None,
        lifecycle: Lifecycle::Registered,
        registered_at: at(registered),
    }
}

fn instance(agent: &str, number: u8) -> Instance {
    Instance {
        id: InstanceId::new(at(1_000 + i64::from(number)), [number; 10]),
        agent: name(agent),
        public_jwk: "{}".to_owned(),
        thumbprint: format!("key {number}"),
        enrolled_at: at(1_000 + i64::from(number)),
        disabled: false,
    }
}

fn task(agent: &str, number: u8) -> Task {
    let opened_at = at(1_000 + i64::from(number));
    Task {
        id: TaskId::new(opened_at, [number; 10]),
        agent: name(agent),
        instance: None,
        parent: None,
        template: TemplateName::parse("ticket").unwrap(),
        parameters: BTreeMap::from([("ticket".to_owned(), "4711".to_owned())]),
        purpose: "a purpose; with 'quotes'".to_owned(),
        grant: Grant {
            permissions: Vec::new(),
            budget: Budget::of_calls(7),
            proof: Proof::Dpop,
            rate: None,
            trusted_inputs: model::grant::TrustedInputs::default(),
        },
        opened_at,
        expires_at: at(5_000),
        status: TaskStatus::Open,
        ended_at: None,
        ended_because: None,
    }
}

fn filter(limit: u32) -> TaskFilter {
    TaskFilter {
        limit,
        ..TaskFilter::default()
    }
}

#[tokio::test]
async fn a_file_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).await.unwrap().close().await;
    let path = dir.path().join(store::FILE);
    let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    for exposed in [0o640, 0o604, 0o660, 0o620] {
        mode(exposed);
        let refused = Store::open(dir.path()).await.err().unwrap();
        assert!(matches!(refused, StoreError::Exposed { mode, .. } if mode == exposed));
    }
    mode(0o600);
    assert!(Store::open(dir.path()).await.is_ok());
}

#[tokio::test]
async fn companion_files_are_private_too() {
    let bench = bench().await;
    bench.store.insert_agent(&agent("a", 1)).await.unwrap();
    for entry in std::fs::read_dir(bench.dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let bench = bench().await;
    let known = agent("triage", 9);
    bench.store.insert_agent(&known).await.unwrap();
    bench
        .store
        .insert_instance(&instance("triage", 1), 5)
        .await
        .unwrap();
    let open = task("triage", 1);
    bench.store.insert_task(&open, b"salt", 41).await.unwrap();
    bench.store.close().await;
    let store = Store::open(bench.dir.path()).await.unwrap();
    assert_eq!(store.agent(&known.name).await.unwrap(), Some(known));
    assert_eq!(
        store.instances(None).await.unwrap(),
        [instance("triage", 1)]
    );
    let [found] = &store.open_tasks().await.unwrap()[..] else {
        panic!("one task")
    };
    assert_eq!(
        (&found.task, &found.salt[..], found.log_index),
        (&open, &b"salt"[..], 41)
    );
    assert_eq!(found.usage, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_use_one_enrolment_token_exactly_one_succeeds() {
    let bench = bench().await;
    bench.store.insert_agent(&agent("triage", 1)).await.unwrap();
    for round in 0..8u8 {
        let hash = [round; 32];
        bench
            .store
            .create_enrolment(&hash, &name("triage"), at(100))
            .await
            .unwrap();
        let start = Arc::new(tokio::sync::Barrier::new(32));
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..32 {
            let (store, start) = (bench.store.clone(), Arc::clone(&start));
            tries.spawn(async move {
                start.wait().await;
                store.consume_enrolment(&hash, at(50)).await.unwrap()
            });
        }
        let won = tries
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        assert_eq!(won, [name("triage")]);
    }
}

#[tokio::test]
async fn an_enrolment_token_dies_by_time_by_a_newer_one_and_with_its_agent() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("triage", 1)).await.unwrap();
    let triage = name("triage");
    let use_it = async |hash: [u8; 32], now| store.consume_enrolment(&hash, at(now)).await.unwrap();
    store
        .create_enrolment(&[1; 32], &triage, at(100))
        .await
        .unwrap();
    assert_eq!(
        use_it([1; 32], 100).await,
        None,
        "expired in this very moment"
    );
    assert_eq!(use_it([9; 32], 50).await, None, "never made");
    store
        .create_enrolment(&[2; 32], &triage, at(100))
        .await
        .unwrap();
    assert_eq!(use_it([1; 32], 50).await, None, "replaced");
    assert_eq!(use_it([2; 32], 99).await, Some(triage.clone()));
    assert_eq!(use_it([2; 32], 99).await, None, "used");
    store
        .create_enrolment(&[3; 32], &triage, at(100))
        .await
        .unwrap();
    assert!(
        store
            .set_lifecycle(&triage, Lifecycle::Quarantined, None)
            .await
            .unwrap()
    );
    assert_eq!(use_it([3; 32], 50).await, None, "quarantined meanwhile");
    assert!(
        store
            .create_enrolment(&[4; 32], &name("nobody"), at(100))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_lifecycle_knows_its_steps_and_names_are_never_used_twice() {
    use Lifecycle::{Active, Quarantined, Registered, Retired};
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("triage", 1)).await.unwrap();
    let triage = name("triage");
    for (next, allowed) in [
        (Active, true),
        (Registered, false),
        (Active, false),
        (Quarantined, true),
        (Active, true),
        (Retired, true),
        (Active, false),
        (Quarantined, false),
    ] {
        assert_eq!(
            store.set_lifecycle(&triage, next, None).await.unwrap(),
            allowed,
            "{next:?}"
        );
    }
    assert_eq!(
        store.agent(&triage).await.unwrap().unwrap().lifecycle,
        Retired
    );
    assert!(
        !store
            .set_lifecycle(&name("nobody"), Active, None)
            .await
            .unwrap()
    );
    let again = store.insert_agent(&agent("triage", 2)).await;
    assert!(matches!(again, Err(StoreError::AgentExists(_))));
    assert_eq!(store.agent_counts().await.unwrap(), [(Retired, 1)]);
}

#[tokio::test]
async fn instances_are_limited_and_no_key_belongs_to_two() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    store.insert_agent(&agent("b", 2)).await.unwrap();
    assert!(store.insert_instance(&instance("a", 1), 2).await.unwrap());
    assert!(store.insert_instance(&instance("a", 2), 2).await.unwrap());
    assert!(
        !store.insert_instance(&instance("a", 3), 2).await.unwrap(),
        "over the limit"
    );
    let same_key = Instance {
        thumbprint: "key 1".to_owned(),
        ..instance("b", 4)
    };
    let refused = store.insert_instance(&same_key, 2).await;
    assert!(matches!(refused, Err(StoreError::KeyInUse)), "{refused:?}");
    let same_id = Instance {
        thumbprint: "other".to_owned(),
        agent: name("b"),
        ..instance("a", 1)
    };
    let refused = store.insert_instance(&same_id, 2).await;
    assert!(
        matches!(refused, Err(StoreError::InstanceExists(_))),
        "{refused:?}"
    );
    assert!(
        store
            .disable_instance(&instance("a", 1).id, None)
            .await
            .unwrap()
    );
    assert!(
        !store
            .disable_instance(&instance("a", 1).id, None)
            .await
            .unwrap(),
        "a second time"
    );
    assert!(
        store.insert_instance(&instance("a", 3), 2).await.unwrap(),
        "room again"
    );
    let refused = store.insert_instance(&same_key, 2).await;
    assert!(
        matches!(refused, Err(StoreError::KeyInUse)),
        "a disabled instance's key"
    );
    assert_eq!(
        store.enrolled(&name("a"), "key 1").await.unwrap(),
        (2, true)
    );
    assert_eq!(
        store.enrolled(&name("b"), "nobody's").await.unwrap(),
        (0, false)
    );
}

#[tokio::test]
async fn agents_and_instances_are_read_page_by_page() {
    let bench = bench().await;
    let store = &bench.store;
    // Two of the same moment: the name decides, and none is lost between pages.
    for (text, registered) in [("c", 3), ("a", 1), ("b", 3), ("d", 9)] {
        store.insert_agent(&agent(text, registered)).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = store.agents_page(before.as_ref(), 1).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.name.clone());
        seen.push(last.name.to_string());
    }
    assert_eq!(seen, ["d", "c", "b", "a"]);
    for number in [1, 2, 3] {
        store
            .insert_instance(&instance("a", number), 9)
            .await
            .unwrap();
    }
    store.insert_instance(&instance("b", 4), 9).await.unwrap();
    let ids = async |agent: Option<&AgentName>, before: Option<&InstanceId>| {
        let page = store.instances_page(agent, before, 2).await.unwrap();
        page.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    let id = |number| instance("x", number).id;
    assert_eq!(ids(None, None).await, [id(4), id(3)]);
    assert_eq!(ids(Some(&name("a")), None).await, [id(3), id(2)]);
    assert_eq!(ids(Some(&name("a")), Some(&id(2))).await, [id(1)]);
}

#[tokio::test]
async fn tasks_are_filtered_and_read_page_by_page() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    store.insert_agent(&agent("b", 2)).await.unwrap();
    for number in 1..=5 {
        let mut task = task(if number == 5 { "b" } else { "a" }, number);
        if number == 2 {
            task.expires_at = at(2_000);
        }
        store.insert_task(&task, b"salt", 0).await.unwrap();
    }
    let id = |number| task("a", number).id;
    store
        .end_task(&id(3), TaskStatus::Revoked, at(1_500), "why", None)
        .await
        .unwrap();
    let found = async |filter: TaskFilter| {
        let tasks = store.tasks(&filter, at(3_000)).await.unwrap();
        tasks
            .into_iter()
            .map(|task| (task.id, task.status))
            .collect::<Vec<_>>()
    };
    use TaskStatus::{Expired, Open, Revoked};
    assert_eq!(found(filter(2)).await, [(id(5), Open), (id(4), Open)]);
    let next = TaskFilter {
        before: Some(id(4)),
        ..filter(9)
    };
    assert_eq!(
        found(next).await,
        [(id(3), Revoked), (id(2), Expired), (id(1), Open)]
    );
    let of_b = TaskFilter {
        agent: Some(name("b")),
        ..filter(9)
    };
    assert_eq!(found(of_b).await, [(id(5), Open)]);
    let status = |status| TaskFilter {
        status: Some(status),
        ..filter(9)
    };
    assert_eq!(
        found(status(Open)).await,
        [(id(5), Open), (id(4), Open), (id(1), Open)]
    );
    assert_eq!(
        found(status(Expired)).await,
        [(id(2), Expired)],
        "nobody has noted it yet"
    );
    assert_eq!(found(status(Revoked)).await, [(id(3), Revoked)]);
    let template = TemplateName::parse("other").unwrap();
    assert_eq!(
        found(TaskFilter {
            template: Some(template),
            ..filter(9)
        })
        .await,
        []
    );
}

#[tokio::test]
async fn the_first_end_of_a_task_wins() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    let open = task("a", 1);
    store.insert_task(&open, b"salt", 0).await.unwrap();
    assert!(matches!(
        store.insert_task(&open, b"salt", 0).await,
        Err(StoreError::TaskExists(id)) if id == open.id
    ));
    let end = async |status, owed: Option<&[u8]>| {
        store
            .end_task(&open.id, status, at(1_500), status.as_str(), owed)
            .await
            .unwrap()
    };
    assert!(end(TaskStatus::Completed, Some(b"first")).await);
    assert!(!end(TaskStatus::Revoked, Some(b"second")).await);
    let ended = store.task(&open.id).await.unwrap().unwrap();
    assert_eq!(ended.status, TaskStatus::Completed);
    assert_eq!(
        (ended.ended_at, ended.ended_because.as_deref()),
        (Some(at(1_500)), Some("completed"))
    );
    assert!(store.open_tasks().await.unwrap().is_empty());
    assert_eq!(
        store.owed().await.unwrap(),
        [b"first"],
        "only what happened is owed"
    );
}

#[tokio::test]
async fn the_last_usage_snapshot_counts() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    let (one, other) = (task("a", 1), task("a", 2));
    for task in [&one, &other] {
        store.insert_task(task, b"salt", 7).await.unwrap();
    }
    let usage = |text: &str, log_index| UsageSnapshot {
        usage: text.to_owned(),
        log_index,
    };
    store
        .save_usage(&[(one.id, "1".to_owned())], 10)
        .await
        .unwrap();
    store
        .save_usage(&[(one.id, "2".to_owned())], 20)
        .await
        .unwrap();
    assert_eq!(store.usage(&one.id).await.unwrap(), Some(usage("2", 20)));
    let open = store.open_tasks().await.unwrap();
    assert_eq!(open[0].usage, Some(usage("2", 20)));
    assert_eq!(open[1].usage, None);
    // All or none: an unknown task spoils the whole snapshot.
    let unknown = task("a", 9).id;
    let both = [(other.id, "3".to_owned()), (unknown, "4".to_owned())];
    assert!(store.save_usage(&both, 30).await.is_err());
    assert_eq!(store.usage(&other.id).await.unwrap(), None);
}

#[tokio::test]
async fn pruning_takes_what_is_over_and_nothing_else() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    for number in 1..=3 {
        let task = task("a", number);
        store.insert_task(&task, b"salt", 0).await.unwrap();
        store
            .save_usage(&[(task.id, "1".to_owned())], 1)
            .await
            .unwrap();
    }
    let id = |number| task("a", number).id;
    store
        .end_task(&id(1), TaskStatus::Completed, at(2_000), "done", None)
        .await
        .unwrap();
    store
        .end_task(&id(2), TaskStatus::Completed, at(2_900), "done", None)
        .await
        .unwrap();
    store.revoke_token(&[1; 32], at(2_500), None).await.unwrap();
    store.revoke_token(&[2; 32], at(3_500), None).await.unwrap();
    store
        .create_enrolment(&[3; 32], &name("a"), at(3_500))
        .await
        .unwrap();
    store
        .prune(at(3_000), SignedDuration::from_secs(500))
        .await
        .unwrap();
    assert_eq!(store.task(&id(1)).await.unwrap(), None, "ended long ago");
    assert!(
        store.task(&id(2)).await.unwrap().is_some(),
        "ended a moment ago"
    );
    assert_eq!(
        store.usage(&id(2)).await.unwrap(),
        None,
        "what it used does not matter any more"
    );
    assert!(
        store.usage(&id(3)).await.unwrap().is_some(),
        "open, however old"
    );
    assert_eq!(
        store.revoked_tokens(at(0)).await.unwrap(),
        [([2; 32], at(3_500))]
    );
    assert!(
        store
            .consume_enrolment(&[3; 32], at(3_400))
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn revoked_tokens_are_kept_until_they_expire() {
    let bench = bench().await;
    let store = &bench.store;
    assert!(store.revoke_token(&[1; 32], at(100), None).await.unwrap());
    assert!(
        !store.revoke_token(&[1; 32], at(999), None).await.unwrap(),
        "a second time"
    );
    assert_eq!(
        store.revoked_tokens(at(99)).await.unwrap(),
        [([1; 32], at(100))]
    );
    assert_eq!(store.revoked_tokens(at(100)).await.unwrap(), []);
}

#[tokio::test]
async fn servers_are_enabled_unless_disabled() {
    let bench = bench().await;
    let store = &bench.store;
    let files = ServerName::parse("files").unwrap();
    assert!(store.disabled_servers().await.unwrap().is_empty());
    assert!(store.set_server_enabled(&files, false, None).await.unwrap());
    assert!(!store.set_server_enabled(&files, false, None).await.unwrap());
    assert_eq!(
        store.disabled_servers().await.unwrap(),
        std::slice::from_ref(&files)
    );
    assert!(store.set_server_enabled(&files, true, None).await.unwrap());
    assert!(store.disabled_servers().await.unwrap().is_empty());
}

#[tokio::test]
async fn restrictions_owe_their_record_until_it_is_settled() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    store.insert_instance(&instance("a", 1), 9).await.unwrap();
    let files = ServerName::parse("files").unwrap();
    store
        .set_lifecycle(&name("a"), Lifecycle::Quarantined, Some(b"1"))
        .await
        .unwrap();
    store
        .set_lifecycle(&name("a"), Lifecycle::Quarantined, Some(b"not a step"))
        .await
        .unwrap();
    store
        .disable_instance(&instance("a", 1).id, Some(b"2"))
        .await
        .unwrap();
    store
        .revoke_token(&[1; 32], at(100), Some(b"3"))
        .await
        .unwrap();
    store
        .set_server_enabled(&files, false, Some(b"4"))
        .await
        .unwrap();
    assert_eq!(store.owed().await.unwrap(), [b"1", b"2", b"3", b"4"]);
    store.settle(b"2").await.unwrap();
    bench.store.close().await;
    let store = Store::open(bench.dir.path()).await.unwrap();
    assert_eq!(
        store.owed().await.unwrap(),
        [b"1", b"3", b"4"],
        "after a restart too"
    );
}

#[tokio::test]
async fn a_damaged_row_is_an_error_and_not_a_default() {
    let bench = bench().await;
    bench.store.insert_agent(&agent("a", 1)).await.unwrap();
    bench.store.close().await;
    let path = bench.dir.path().join(store::FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let word = b"registered";
    // The row is the only place where it is no part of a longer word of the schema.
    let place = bytes
        .windows(word.len() + 1)
        .rposition(|part| part.starts_with(word) && part[word.len()] != b'_')
        .unwrap();
    bytes[place..place + 4].copy_from_slice(b"root");
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(bench.dir.path()).await.unwrap();
    let read = store.agent(&name("a")).await;
    assert!(
        matches!(read, Err(StoreError::Damaged { what: "agent", .. })),
        "{read:?}"
    );
}

#[tokio::test]
async fn answers_of_models_belong_to_open_tasks_and_only_the_latest_are_kept() {
    let bench = bench().await;
    let store = &bench.store;
    store.insert_agent(&agent("a", 1)).await.unwrap();
    let (one, two) = (task("a", 1), task("a", 2));
    for task in [&one, &two] {
        store.insert_task(task, b"salt", 0).await.unwrap();
    }
    let answer = |task: &Task, id: &str, tokens| store::StoredAnswer {
        task: task.id,
        server: model::ServerName::parse("ai").unwrap(),
        id: id.to_owned(),
        tokens,
    };
    let keep = async |answers: &[store::StoredAnswer], second| {
        store.keep_answers(answers, 3, at(second)).await.unwrap();
    };
    let nobody = task("a", 9);
    keep(&[answer(&one, "r1", 0), answer(&nobody, "r1", 1)], 1_100).await;
    keep(&[answer(&one, "r1", 7), answer(&two, "r1", 8)], 1_101).await;
    let kept = store.stored_answers(at(1_200)).await.unwrap();
    assert_eq!(kept, [answer(&one, "r1", 7), answer(&two, "r1", 8)]);
    keep(&[answer(&two, "r2", 1)], 1_102).await;
    keep(&[answer(&two, "r3", 1)], 1_103).await;
    let ids = |kept: Vec<store::StoredAnswer>| -> Vec<String> {
        kept.into_iter().map(|answer| answer.id).collect()
    };
    let kept = store.stored_answers(at(1_200)).await.unwrap();
    assert_eq!(ids(kept), ["r1", "r2", "r3"], "the oldest is forgotten");
    store
        .end_task(&two.id, TaskStatus::Completed, at(1_300), "done", None)
        .await
        .unwrap();
    assert!(store.stored_answers(at(1_400)).await.unwrap().is_empty());
}
