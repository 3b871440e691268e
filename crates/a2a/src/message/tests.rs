use super::*;
use proptest::prelude::*;

fn said(dialect: Dialect, params: Value) -> Result<Said, String> {
    let Value::Object(mut params) = params else {
        panic!("not an object");
    };
    read(dialect, &mut params).map_err(|refused| refused.message)
}

fn v1(parts: Value) -> Value {
    json!({ "message": { "messageId": "m", "role": "ROLE_USER", "parts": parts } })
}

fn v03(parts: Value) -> Value {
    json!({ "message": { "kind": "message", "messageId": "m", "role": "user", "parts": parts } })
}

#[test]
fn content_becomes_arguments_alike_in_both_dialects() {
    let new = v1(json!([
        { "text": "refund it" },
        { "data": { "amount": 5 } },
        { "url": "https://f.example.org/a", "filename": "a", "mediaType": "text/plain" },
        { "raw": "AAAA" },
    ]));
    let old = v03(json!([
        { "kind": "text", "text": "refund it" },
        { "kind": "data", "data": { "amount": 5 } },
        { "kind": "file", "file": { "uri": "https://f.example.org/a", "name": "a", "mimeType": "text/plain" } },
        { "kind": "file", "file": { "bytes": "AAAA" } },
    ]));
    let expected = json!({
        "text": "refund it",
        "data.amount": 5,
        "files": [
            { "name": "a", "mime_type": "text/plain", "uri": "https://f.example.org/a" },
            { "base64_bytes": 4 },
        ],
        "file_uris": ["https://f.example.org/a"],
    });
    for (dialect, params) in [(Dialect::V1, new), (Dialect::V03, old)] {
        assert_eq!(
            Value::Object(said(dialect, params).unwrap().arguments),
            expected
        );
    }
}

#[test]
fn names_that_another_reader_takes_for_the_protocols_are_refused() {
    let mut params = v1(json!([{ "text": "a" }]));
    for name in [
        "task_id",
        "TaskId",
        "taskID",
        "context_id",
        "reference_task_ids",
        "kind",
    ] {
        params["message"][name] = json!("x");
        let refused = said(Dialect::V1, params.clone()).unwrap_err();
        assert!(refused.contains(name), "{refused}");
        params["message"].as_object_mut().unwrap().remove(name);
    }
    params["push_notification_config"] = json!({});
    assert!(said(Dialect::V1, params).is_err());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for parts in [
        json!([{ "text": "a", "data": {} }]),
        json!([{}]),
        json!([]),
        json!([{ "data": { "a": 1 } }, { "data": { "a": 2 } }]),
        json!([{ "data": null }]),
        json!([{ "text": 5 }]),
        json!("a"),
        json!([{ "url": "file:///etc/passwd" }]),
        json!([{ "url": "http://u@169.254.169.254/" }]),
        json!([{ "url": "HTTP://h/" }]),
        json!([{ "url": "https://h\\@evil/" }]),
        json!([{ "url": "https:///x" }]),
    ] {
        assert!(said(Dialect::V1, v1(parts.clone())).is_err(), "{parts}");
    }
    for parts in [
        json!([{ "kind": "text", "text": "a", "data": {} }]),
        json!([{ "kind": "file", "file": { "bytes": "AA", "uri": "https://h/" } }]),
        json!([{ "kind": "file" }]),
        json!([{ "text": "a" }]),
    ] {
        assert!(said(Dialect::V03, v03(parts.clone())).is_err(), "{parts}");
    }
}

#[test]
fn a_skill_is_named_once_and_the_gateways_own_metadata_never() {
    let with = |message: Value, params: Value| {
        let mut it = v1(json!([{ "text": "a" }]));
        it["message"]["metadata"] = message;
        it["metadata"] = params;
        said(Dialect::V1, it)
    };
    let read = with(
        json!({ "skillId": "a", "note": 1 }),
        json!({ "sallyport.skill": "a" }),
    )
    .unwrap();
    assert_eq!(read.skill.as_deref(), Some("a"));
    assert_eq!(read.arguments["metadata.note"], 1);
    assert!(with(json!({ "skillId": "a" }), json!({ "skillId": "b" })).is_err());
    assert!(with(json!({ "skillId": 7 }), json!({})).is_err());
    assert!(with(json!({ "sallyport.task": "task_1" }), json!({})).is_err());
    assert!(with(json!({ "Sallyport.Skill": "x" }), json!({})).is_err());
    assert!(with(json!({ "note": 1 }), json!({ "note": 2 })).is_err());
}

#[test]
fn an_agent_may_not_speak_for_the_other_one() {
    let mut params = v1(json!([{ "text": "a" }]));
    params["message"]["role"] = json!("ROLE_AGENT");
    assert!(said(Dialect::V1, params.clone()).is_err());
    params["message"]["role"] = json!(2);
    assert!(said(Dialect::V1, params).is_err());
}

#[test]
fn the_decided_skill_is_what_is_forwarded() {
    let Value::Object(mut params) = v1(json!([{ "text": "a" }])) else {
        panic!("not an object");
    };
    mark(&mut params, "billing", Some("task_1"));
    let metadata = &params["message"]["metadata"];
    assert_eq!(metadata[SKILL], "billing");
    assert_eq!(metadata[SKILL_ID], "billing");
    assert_eq!(metadata[TASK], "task_1");
}

proptest! {
    #[test]
    fn every_text_is_in_the_arguments(texts in proptest::collection::vec("\\PC{0,20}", 1..6)) {
        let parts: Vec<Value> = texts.iter().map(|text| json!({ "text": text })).collect();
        let read = said(Dialect::V1, v1(parts.into())).unwrap();
        prop_assert_eq!(&read.arguments["text"], &json!(texts.join("\n")));
    }

    #[test]
    fn never_panics(text in "[\\[\\]{}\",:a-z]{0,80}") {
        if let Ok(Value::Object(mut params)) = serde_json::from_str(&text) {
            let _ = read(Dialect::V1, &mut params.clone());
            let _ = read(Dialect::V03, &mut params);
        }
    }
}
