//! An agent misbehaves in front of the whole thing: it is noticed, it becomes an incident, and its next call
//! is denied because of it.

use serde_json::{Value, json};

use crate::support::sdk::{Client, file_server, time_server};
use crate::support::{Gateway, SALLYPORT, Setup};

/// Reads files and tells the time.
const DESK: &str = r#"
description = "Read files and tell the time"
agents = ["support-*"]
ttl = "10m"
proof = "bearer"

[[allow]]
server = "files"
tools = ["read_text_file"]

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

/// What is read at `files` must not leave, and what is said at `clock` has left.
const LABELS: &str = r#"
[monitor.servers]
files = { sensitive = true }
clock = { external = true }
"#;

/// The example policy, with a lower threshold.
const RISKY: &str = r#"
@id("no-sensitive-servers-at-risk")
forbid (
  principal,
  action == Sallyport::Action::"call_tool",
  resource in Sallyport::Server::"files"
)
when { context.risk > 20 };
"#;

async fn desk() -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::write(root.join("salaries.txt"), "Ada 4711").unwrap();
    let (files, clock) = (file_server(&root), time_server());
    let gateway = Setup::new()
        .stdio("files", &files)
        .stdio("clock", &clock)
        .and(LABELS)
        .template("desk", DESK)
        .start()
        .await;
    std::fs::write(gateway.dir().join("policies/risk.cedar"), RISKY).unwrap();
    gateway.run_json(&["reload", "--json"]);
    (gateway, folder)
}

/// Findings of a rule, once there is one.
async fn found(gateway: &mut Gateway, rule: &str) -> Value {
    let mut found = Value::Null;
    gateway
        .wait_until("it is found", async |gateway| {
            found = gateway.run_json(&["findings", "list", "--rule", rule, "--json"]);
            !found.as_array().unwrap().is_empty()
        })
        .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_does_denies_its_next_call() {
    let (mut gateway, folder) = desk().await;
    let agent = gateway.agent("support-1").await;
    let task = agent.open_task("desk", json!({})).await;
    let clock = agent.token("clock", &task, true).await;
    // The file server speaks older revisions; an official client does too.
    let path = folder.path().canonicalize().unwrap().join("salaries.txt");
    let plan = json!({
        "url": format!("{}/tasks/{task}/mcp/files", gateway.gateway),
        "client": agent.id,
        "issuer": gateway.control,
        "key": agent.key_file(),
        "calls": [["read_text_file", { "path": path }]],
    });
    let read = async || Client::Python.drive(&plan).await["calls"][0].clone();
    let is_denied = |seen: &Value| seen["error"]["data"]["rule"] == "policy_forbids";
    let tell = json!({ "timezone": "Europe/Berlin" });
    let seen = read().await;
    assert_eq!(seen["text"], "Ada 4711", "{seen}");
    let told = agent.call(&clock, "get_current_time", tell.clone()).await;
    assert!(told["result"].is_object(), "{told}");

    let found = found(&mut gateway, "sensitive-data-leaves").await;
    assert_eq!(found[0]["agent"], "support-1");
    assert_eq!(found[0]["task"], task);
    let says = found[0]["explanation"].as_str().unwrap();
    assert!(
        says.contains("read_text_file") && says.contains("clock"),
        "{says}"
    );
    let incidents = gateway.run_json(&["incidents", "list", "--json"]);
    assert_eq!(incidents[0]["id"], found[0]["incident"]);
    assert_eq!(incidents[0]["severity"], "high");

    // The very next call to the sensitive server, and no other, is denied by the policy.
    let denied = read().await;
    assert!(is_denied(&denied), "{denied}");
    let told = agent.call(&clock, "get_current_time", tell).await;
    assert!(told["result"].is_object(), "{told}");
    // Why, is reproducible from the record.
    let records = gateway.records();
    let intent = records
        .iter()
        .find(|record| record["event"] == "intent" && record["permitted"] == false)
        .unwrap();
    assert_eq!(
        intent["policies"],
        json!(["risk/no-sensitive-servers-at-risk"])
    );
    let risk = gateway.run_json(&["agent", "risk", "support-1", "--json"]);
    assert_eq!(intent["risk"], risk["score"]);
    for event in ["finding", "incident"] {
        assert!(
            records.iter().any(|record| record["event"] == event),
            "{event}"
        );
    }

    // It outlives the process, however that ends.
    gateway.kill();
    gateway.restart().await;
    let again = gateway.run_json(&["agent", "risk", "support-1", "--json"]);
    assert_eq!(again["score"], risk["score"]);
    let denied = read().await;
    assert!(is_denied(&denied), "{denied}");

    // A person looks into it, and it is over.
    let number = found[0]["incident"].to_string();
    let close = [
        "incidents",
        "close",
        &number,
        "--note",
        "talked to Ada",
        "--json",
    ];
    assert_eq!(gateway.run_json(&close)["status"], "closed");
    gateway.run_json(&[
        "agent",
        "risk",
        "support-1",
        "--clear",
        "--because",
        "a test",
        "--json",
    ]);
    let seen = read().await;
    assert_eq!(seen["text"], "Ada 4711", "{seen}");
    let set = [
        "agent",
        "risk",
        "support-1",
        "--set",
        "90",
        "--for",
        "1h",
        "--because",
        "x",
        "--json",
    ];
    gateway.run_json(&set);
    let denied = read().await;
    assert!(is_denied(&denied), "{denied}");
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_official_client_that_tries_what_it_may_not_is_noticed() {
    let (mut gateway, folder) = desk().await;
    let agent = gateway.agent("support-1").await;
    let write = json!(["write_file", {
        "path": folder.path().canonicalize().unwrap().join("x"), "content": "x",
    }]);
    let connector = [
        SALLYPORT,
        "connect",
        "files",
        "--template",
        "desk",
        "--instance",
        agent.folder().to_str().unwrap(),
    ];
    let plan = json!({ "stdio": connector, "calls": vec![write; 12] });
    let seen = Client::Python.drive(&plan).await;
    assert_eq!(
        seen["calls"][11]["error"]["data"]["rule"], "not_granted",
        "{seen}"
    );
    let found = found(&mut gateway, "denial-pressure").await;
    assert_eq!(found[0]["severity"], "medium");

    // What people read is there, too.
    let number = found[0]["id"].to_string();
    for (arguments, says) in [
        (vec!["findings", "list"], "denial-pressure"),
        (vec!["findings", "show", &number], "ASI03"),
        (vec!["incidents", "list"], "support-1"),
        (vec!["incidents", "show", "1"], "was denied"),
        (vec!["agent", "risk", "support-1"], "of 100"),
        (vec!["findings", "suppressed"], "nothing is suppressed"),
        (
            vec!["audit", "query", "--event", "finding"],
            "denial-pressure",
        ),
        (vec!["audit", "query", "--event", "incident"], "opened"),
    ] {
        let output = gateway.run(&arguments);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && text.contains(says),
            "{arguments:?}: {text}"
        );
    }
    let suppress = [
        "findings",
        "suppress",
        "denial-pressure",
        "--agent",
        "support-1",
    ];
    let for_a_day = [
        &suppress[..],
        &["--for", "1d", "--because", "a test", "--json"],
    ]
    .concat();
    assert_eq!(gateway.run_json(&for_a_day)["by"], "operator");
    let feedback = ["findings", "feedback", &number, "--false-alarm", "--json"];
    assert_eq!(gateway.run_json(&feedback)["feedback"]["right"], false);
    let risk = gateway.run_json(&["agent", "risk", "support-1", "--json"]);
    assert_eq!(risk["score"], 0);
    for wrong in [
        vec!["findings", "show", "4711"],
        vec!["incidents", "close", "4711"],
        vec!["agent", "risk", "nobody"],
        vec!["findings", "unsuppress", "x"],
    ] {
        let output = gateway.run(&wrong);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }
}
