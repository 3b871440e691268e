use super::*;
use serde_json::json;

const UUID: &str = "00000000-0000-4000-8000-00000000000";

fn id(kind: &str, n: u8) -> String {
    format!("{kind}--{UUID}{n}")
}

fn document() -> Value {
    let content = json!({ "action": "tasks.end", "agent": "__agent__:value" }).to_string();
    json!({
        "type": "playbook", "spec_version": "cacao-2.0", "id": id("playbook", 0),
        "name": "Test", "created_by": id("identity", 0),
        "created": "2026-11-24T12:00:00.000Z", "modified": "2026-11-24T12:00:00.000Z",
        "playbook_variables": { "__agent__": { "type": "string", "external": true } },
        "workflow_start": id("start", 1),
        "workflow": {
            id("start", 1): { "type": "start", "on_completion": id("action", 2) },
            id("action", 2): {
                "type": "action", "name": "End it", "agent": id("security-category", 9),
                "commands": [{ "type": "http-api", "command": START_LINE, "content": content }],
                "on_success": id("end", 3),
            },
            id("end", 3): { "type": "end" },
        },
        "agent_definitions": {
            id("security-category", 9): { "type": "security-category", "name": "Sallyport", "category": ["aaa"] },
            id("individual", 8): { "type": "individual", "name": "Analyst" },
        },
    })
}

fn wrong(change: impl Fn(&mut Value)) -> String {
    let mut document = document();
    change(&mut document);
    match Playbook::parse(&document.to_string()) {
        Ok(_) => "nothing".to_owned(),
        Err(wrong) => wrong
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[test]
fn a_sound_playbook_is_read() {
    let playbook = Playbook::parse(&document().to_string()).unwrap();
    assert_eq!(playbook.acts(), ["tasks.end"]);
    assert_eq!(playbook.steps.len(), 3);
    assert_eq!(playbook.hash.len(), 64);
}

#[test]
fn nothing_but_acts_is_carried_out() {
    let command = |change: Value| {
        move |document: &mut Value| {
            let commands = &mut document["workflow"][id("action", 2)]["commands"];
            for (name, value) in change.as_object().unwrap() {
                commands[0][name] = value.clone();
            }
        }
    };
    for (change, word) in [
        (
            json!({ "type": "bash", "command": "id" }),
            "never carried out",
        ),
        (
            json!({ "type": "ssh", "command": "id" }),
            "never carried out",
        ),
        (json!({ "type": "openc2-http" }), "never carried out"),
        (
            json!({ "command": "POST http://evil/ HTTP/1.1" }),
            "only request",
        ),
        (
            json!({ "command": "GET /v1/response/actions HTTP/1.1" }),
            "only request",
        ),
        (
            json!({ "headers": { "Authorization": ["Bearer x"] } }),
            "only header",
        ),
        (json!({ "content": "{\"action\":\"bash\"}" }), "no act"),
        (
            json!({ "content": "{\"action\":\"tasks.end\",\"agent\":\"../x\"}" }),
            "tasks.end",
        ),
        (
            json!({ "content": "{\"action\":\"tasks.end\",\"agent\":\"__who__:value\"}" }),
            "__who__",
        ),
        (
            json!({ "content": "{\"action\":\"tasks.end\",\"agent\":\"a\",\"agent\":\"b\"}" }),
            "content",
        ),
        (json!({ "content": "" }), "content"),
        (json!({ "surprise": 1 }), "surprise"),
        (
            json!({ "type": "manual", "content": null, "command": "Look" }),
            "for people",
        ),
    ] {
        let said = wrong(command(change.clone()));
        assert!(said.contains(word), "{change}: {said}");
    }
}

#[test]
fn every_way_leads_somewhere() {
    let step = |kind: &str, n: u8, step: Value| {
        let id = id(kind, n);
        move |document: &mut Value| document["workflow"][&id] = step.clone()
    };
    let end = json!({ "type": "end" });
    assert!(wrong(step("end", 7, end)).contains("no way leads"));
    for (word, change) in [
        (
            "not there",
            json!({ "type": "start", "on_completion": id("end", 4) }),
        ),
        (
            "leads back",
            json!({ "type": "start", "on_completion": id("start", 1) }),
        ),
        ("no next step", json!({ "type": "start" })),
        (
            "no `commands`",
            json!({ "type": "start", "on_completion": id("end", 3), "commands": [] }),
        ),
    ] {
        let said = wrong(step("start", 1, change));
        assert!(said.contains(word), "{word}: {said}");
    }
    let single = json!({ "type": "single", "on_completion": id("end", 3) });
    assert!(wrong(step("single", 5, single)).contains("CACAO 1.x"));
    let other = json!({ "type": "action", "on_completion": id("end", 3) });
    assert!(wrong(step("playbook-action", 5, other)).contains("its type"));
    let conditions = [
        json!({ "type": "if-condition", "condition": "__agent__ = 1", "on_true": id("end", 3) }),
        json!({ "type": "if-condition", "condition": "__x__:value = 1", "on_true": id("end", 3) }),
        json!({ "type": "if-condition", "condition": "__agent__:value = 1" }),
    ];
    for condition in conditions {
        assert_ne!(wrong(step("if-condition", 5, condition)), "nothing");
    }
    assert!(wrong(|document| document["revoked"] = true.into()).contains("took it back"));
    assert!(wrong(|document| document["spec_version"] = "1.1".into()).contains("cacao-2.0"));
}

#[test]
fn a_branch_may_be_shared_but_not_go_round() {
    let said = wrong(|document| {
        let workflow = &mut document["workflow"];
        workflow[id("start", 1)]["on_completion"] = id("if-condition", 5).into();
        workflow[id("if-condition", 5)] = json!({
            "type": "if-condition", "condition": "__agent__:value != ''",
            "on_true": id("action", 2), "on_completion": id("end", 6),
        });
        workflow[id("end", 6)] = json!({ "type": "end" });
    });
    assert_eq!(said, "nothing");
}
