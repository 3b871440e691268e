//! Agents and tasks from the command line, as an operator meets them.

use serde_json::{Value, json};

use crate::support::sdk::time_server;
use crate::support::{Gateway, SALLYPORT, Setup};

const CLOCK: &str = r#"
description = "Tell the time"
agents = ["clock-*"]
ttl = "10m"

[parameters.zone]
pattern = "[A-Za-z]+/[A-Za-z_]+"

[[allow]]
server = "clock"
tools = ["get_current_time"]
arguments = { timezone = { equals = "${zone}" } }
"#;

async fn clock() -> Gateway {
    let server = time_server();
    Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK)
        .start()
        .await
}

fn enroll(gateway: &Gateway, token: &str, folder: &str) -> std::process::Output {
    std::process::Command::new(SALLYPORT)
        .args([
            "agent",
            "enroll",
            "--control",
            &gateway.control,
            "--instance",
            folder,
        ])
        .env("SALLYPORT_ENROLMENT_TOKEN", token)
        .current_dir(gateway.dir())
        .output()
        .unwrap()
}

fn fails(gateway: &Gateway, arguments: &[&str], code: i32) -> String {
    let output = gateway.run(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?} {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_token_works_once() {
    let gateway = clock().await;
    let made = gateway.run_json(&[
        "agent",
        "register",
        "clock-1",
        "--sponsor",
        "ada@example.org",
        "--json",
    ]);
    let token = made["enrolment"]["token"].as_str().unwrap();
    // The token is nowhere but here: what is stored is its hash.
    let store = std::fs::read(gateway.dir().join("data/sallyport.db")).unwrap();
    let wal = std::fs::read(gateway.dir().join("data/sallyport.db-wal")).unwrap_or_default();
    for file in [store, wal] {
        assert!(
            !file
                .windows(token.len())
                .any(|window| window == token.as_bytes())
        );
    }
    let first = enroll(&gateway, token, "one");
    assert!(first.status.success(), "{first:?}");
    let second = enroll(&gateway, token, "two");
    assert_eq!(second.status.code(), Some(1));
    assert!(
        !gateway.dir().join("two/key.pem").exists()
            || !gateway.dir().join("two/instance.json").exists()
    );
    let shown = gateway.run_json(&["agent", "show", "clock-1", "--json"]);
    assert_eq!(shown["agent"]["lifecycle"], "active");
    assert_eq!(
        shown["agent"]["spiffe_id"],
        "spiffe://example.org/agent/clock-1"
    );
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &str| {
        std::fs::metadata(gateway.dir().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("one/key.pem"), 0o600);
    assert_eq!(mode("data"), 0o700);
    assert_eq!(mode("data/operator.token"), 0o600);
    assert_eq!(mode("data/keys"), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_life_ends_for_good() {
    let gateway = clock().await;
    let agent = gateway.agent("clock-1").await;
    let task = agent
        .open_task("clock", json!({ "zone": "Europe/Berlin" }))
        .await;
    gateway.run_json(&["agent", "quarantine", "clock-1", "--json"]);
    let refused = agent
        .ask_token(&[("resource", gateway.control.as_str())], true)
        .await;
    assert!(!refused.is_success());
    gateway.run_json(&["agent", "release", "clock-1", "--json"]);
    let listed = gateway.run_json(&["agent", "list", "--json"]);
    assert_eq!(listed[0]["lifecycle"], "active", "{listed}");
    gateway.run_json(&["agent", "retire", "clock-1", "--json"]);
    let again = fails(
        &gateway,
        &[
            "agent",
            "register",
            "clock-1",
            "--sponsor",
            "eve@example.org",
        ],
        1,
    );
    assert!(again.contains("clock-1"), "{again}");
    fails(&gateway, &["agent", "release", "clock-1"], 1);
    let shown = gateway.run_json(&["task", "show", &task, "--json"]);
    assert_ne!(shown["status"], "open", "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_opened_shown_and_ended_from_the_command_line() {
    let gateway = clock().await;
    let agent = gateway.agent("clock-1").await;
    gateway.agent("other").await;
    let open = [
        "task",
        "open",
        "--agent",
        "clock-1",
        "--template",
        "clock",
        "--json",
    ];
    let task = gateway.run_json(&[&open[..], &["--param", "zone=Europe/Berlin"]].concat());
    let id = task["id"].as_str().unwrap();
    assert_eq!(
        task["grant"]["permissions"][0]["tools"][0]["arguments"]["timezone"]["equals"],
        "Europe/Berlin"
    );
    // The parameter narrowed the grant.
    let token = agent.token("clock", id, true).await;
    let call = async |zone: &str| {
        agent
            .call(&token, "get_current_time", json!({ "timezone": zone }))
            .await
    };
    assert!(call("Europe/Berlin").await["result"].is_object());
    assert_eq!(
        call("Europe/Paris").await["error"]["data"]["rule"],
        "argument_refused"
    );
    // What a template does not allow is refused, with words that help.
    let wrong = fails(
        &gateway,
        &[&open[..], &["--param", "zone=../etc"]].concat(),
        1,
    );
    assert!(wrong.contains("zone"), "{wrong}");
    let missing = fails(&gateway, &open, 1);
    assert!(missing.contains("zone"), "{missing}");
    let not_theirs = [
        "task",
        "open",
        "--agent",
        "other",
        "--template",
        "clock",
        "--param",
        "zone=Europe/Berlin",
    ];
    fails(&gateway, &not_theirs, 1);

    gateway.run_json(&["task", "revoke", id, "--json"]);
    assert_eq!(
        call("Europe/Berlin").await["error"]["data"]["rule"],
        "task_not_open"
    );
    let listed = gateway.run_json(&["task", "list", "--status", "revoked", "--json"]);
    assert_eq!(listed[0]["id"], id, "{listed}");
    let open = gateway.run_json(&["task", "list", "--status", "open", "--json"]);
    assert_eq!(open.as_array().map(Vec::len), Some(0), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listing_has_json_and_an_empty_state() {
    let gateway = Setup::new().start().await;
    for listing in [
        &["agent", "list"][..],
        &["task", "list"],
        &["template", "list"],
        &["server", "list"],
        &["keys", "list"],
        &["findings", "list"],
        &["findings", "suppressed"],
        &["incidents", "list"],
        &["status"],
        &["audit", "tail"],
        &["audit", "query"],
    ] {
        let plain = gateway.run(listing);
        assert!(plain.status.success(), "{listing:?}: {plain:?}");
        assert!(!plain.stdout.is_empty(), "{listing:?} says nothing");
        let json = gateway.run(&[listing, &["--json"]].concat());
        assert!(json.status.success(), "{listing:?}: {json:?}");
        let text = String::from_utf8(json.stdout).unwrap();
        let lines = text
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok());
        assert!(
            lines || serde_json::from_str::<Value>(&text).is_ok(),
            "{listing:?}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_rotate_without_breaking_tokens() {
    let gateway = clock().await;
    let agent = gateway.agent("clock-1").await;
    let task = agent
        .open_task("clock", json!({ "zone": "Europe/Berlin" }))
        .await;
    let old = agent.token("clock", &task, true).await;
    gateway.run_json(&["keys", "rotate", "--json"]);
    let new = agent.token("clock", &task, true).await;
    let kid = |text: &str| {
        use base64::Engine as _;
        let header = text.split('.').next().unwrap();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(header)
            .unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
    };
    assert_ne!(kid(&old.text), kid(&new.text));
    for token in [old, new] {
        let zone = json!({ "timezone": "Europe/Berlin" });
        assert!(agent.call(&token, "get_current_time", zone).await["result"].is_object());
    }
}
