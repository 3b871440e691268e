use super::*;
use jiff::Timestamp;
use model::InstanceId;
use proptest::prelude::*;

fn principal(n: u8) -> Principal {
    Principal {
        instance: InstanceId::new(Timestamp::UNIX_EPOCH, [n; 10]),
        task: TaskId::new(Timestamp::UNIX_EPOCH, [n; 10]),
    }
}

fn watch(method: Method, dialect: Dialect, about: Option<&str>) -> Watch {
    Watch {
        method,
        dialect,
        binding: Binding::JsonRpc(Id::of(&json!("1")).unwrap()),
        principal: principal(1),
        server: ServerName::parse("desk").unwrap(),
        skill: "refund".to_owned(),
        about: about.map(str::to_owned),
        begun: method.sends().then(|| Begun {
            skill: "refund".to_owned(),
            sub_task: None,
        }),
        fresh: method.sends(),
        own: None,
        registering: None,
        limits: json::Limits {
            bytes: 1 << 16,
            depth: 32,
        },
    }
}

fn answer(result: Value) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "id": "1", "result": result })
        .to_string()
        .into_bytes()
}

#[test]
fn ids_of_answers_to_messages_are_given_out() {
    for (dialect, result) in [
        (
            Dialect::V1,
            json!({ "task": { "id": "t", "contextId": "c", "status": { "state": "TASK_STATE_WORKING" } } }),
        ),
        (
            Dialect::V03,
            json!({ "kind": "task", "id": "t", "contextId": "c", "status": { "state": "working" } }),
        ),
    ] {
        let owned = Owned::default();
        let watch = watch(Method::Send, dialect, None);
        let seen = watch.look(&answer(result), &owned).unwrap();
        assert_eq!((seen.ended, seen.over), (Ended::Answered, false));
        let has = |n, kind, id: &str| owned.find(principal(n), &watch.server, kind, id);
        assert_eq!(has(1, Kind::Task, "t").unwrap().skill, "refund");
        assert!(has(1, Kind::Context, "c").is_some());
        assert!(has(2, Kind::Task, "t").is_none());
    }
}

#[test]
fn a_final_state_or_a_bare_message_is_the_end() {
    let over = |dialect, result: Value| {
        let watch = watch(Method::Stream, dialect, None);
        watch.look(&answer(result), &Owned::default()).unwrap().over
    };
    assert!(over(
        Dialect::V1,
        json!({ "statusUpdate": { "taskId": "t", "contextId": "c", "status": { "state": "TASK_STATE_CANCELED" } } })
    ));
    assert!(over(
        Dialect::V03,
        json!({ "kind": "message", "messageId": "m" })
    ));
    assert!(!over(
        Dialect::V03,
        json!({ "kind": "status-update", "taskId": "t", "status": { "state": "input-required" } })
    ));
}

#[test]
fn what_does_not_answer_the_question_does_not_pass() {
    let owned = Owned::default();
    let get = watch(Method::GetTask, Dialect::V1, Some("mine"));
    assert!(get.look(&answer(json!({ "id": "mine" })), &owned).is_ok());
    assert!(
        get.look(&answer(json!({ "id": "foreign" })), &owned)
            .is_err()
    );
    let send = watch(Method::Send, Dialect::V1, None);
    for text in [
        &br#"{"jsonrpc":"2.0","id":"2","result":{"task":{"id":"t"}}}"#[..],
        br#"{"jsonrpc":"2.0","id":"1","result":{"task":{"id":"t"},"message":{"messageId":"m"}}}"#,
        br#"{"jsonrpc":"2.0","id":"1","result":{"task":{"id":"t","id":"u"}}}"#,
        br#"{"jsonrpc":"2.0","id":"1","result":{},"error":{"code":1,"message":""}}"#,
        br#"{"jsonrpc":"2.0","id":"1","error":"no"}"#,
        br#"{"jsonrpc":"2.0","id":"1"}"#,
        br#"{"id":"1","result":{"task":{"id":"t"}}}"#,
        br#"[]"#,
        b"<html>",
        b"",
    ] {
        assert!(
            send.look(text, &owned).is_err(),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn a_list_shows_only_what_is_the_callers() {
    let owned = Owned::default();
    let watch = watch(Method::ListTasks, Dialect::V1, None);
    let begun = Begun {
        skill: "refund".to_owned(),
        sub_task: None,
    };
    owned.give(principal(1), &watch.server, Kind::Task, "mine", &begun);
    owned.give(principal(2), &watch.server, Kind::Task, "foreign", &begun);
    let list =
        json!({ "tasks": [{ "id": "foreign" }, { "id": "mine" }], "totalSize": 2, "leak": 1 });
    let seen = watch.look(&answer(list), &owned).unwrap();
    let changed = seen.changed.unwrap()["result"].clone();
    assert_eq!(
        changed,
        json!({ "totalSize": 1, "pageSize": 1, "tasks": [{ "id": "mine" }], "nextPageToken": "" })
    );
}

proptest! {
    #[test]
    fn never_panics(text in "[\\[\\]{}\",:a-z0-9.]{0,120}") {
        let owned = Owned::default();
        for method in [Method::Send, Method::GetTask, Method::ListTasks] {
            let _ = watch(method, Dialect::V03, None).look(text.as_bytes(), &owned);
            let _ = watch(method, Dialect::V1, None).look(&answer(json!({ "task": text })), &owned);
        }
    }
}

#[test]
fn notifications_of_both_dialects_say_whom_they_are_about() {
    let limits = json::Limits {
        bytes: 1 << 16,
        depth: 32,
    };
    let read = |text: Value| told(text.to_string().as_bytes(), limits);
    let task = json!({ "id": "t", "contextId": "c", "status": { "state": "completed" } });
    let mut old = task.clone();
    old["kind"] = "task".into();
    let new = json!({ "task": { "id": "t", "contextId": "c",
        "status": { "state": "TASK_STATE_COMPLETED" } } });
    for (text, state) in [(old, "completed"), (new, "TASK_STATE_COMPLETED")] {
        let told = read(text).unwrap();
        assert_eq!(told.task.as_deref(), Some("t"));
        assert_eq!(told.context.as_deref(), Some("c"));
        assert_eq!(told.state.as_deref(), Some(state));
        assert!(told.over);
    }
    let update = json!({ "statusUpdate": { "taskId": "t", "status": { "state": "a b\nc" } } });
    let told = read(update).unwrap();
    assert!(!told.over && told.state.is_none());
    for bad in [
        task,
        json!({ "task": { "id": 1 } }),
        json!({ "task": { "id": "t" }, "message": {} }),
        json!({ "kind": "surprise", "id": "t" }),
        json!([]),
    ] {
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}
