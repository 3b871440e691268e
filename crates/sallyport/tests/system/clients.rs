//! Official clients against official servers, through the connector and over HTTP. No client and no server
//! knows of the gateway.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::Call;
use crate::support::local::Local;
use crate::support::sdk::{Client, file_server, time_server};
use crate::support::{Gateway, SALLYPORT, Setup};

/// Reads below one ticket's folder; nothing else.
const TICKET: &str = r#"
description = "Work on one support ticket"
agents = ["support-*"]
ttl = "10m"
proof = "bearer"

[parameters.ticket]
pattern = "[0-9]{1,6}"

[[allow]]
server = "files"
tools = ["read_text_file", "list_directory"]
arguments = { path = { below = "FOLDER/tickets/${ticket}" } }
"#;

const CLOCK: &str = r#"
description = "Tell the time in Europe"
agents = ["*"]
ttl = "10m"
proof = "bearer"

[[allow]]
server = "clock"
tools = ["get_current_time"]
arguments = { timezone = { prefix = "Europe/" } }
"#;

async fn desk() -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for (ticket, text) in [("4711", "The printer is on fire."), ("4712", "A secret.")] {
        std::fs::create_dir_all(root.join("tickets").join(ticket)).unwrap();
        std::fs::write(root.join(format!("tickets/{ticket}/ticket.txt")), text).unwrap();
    }
    let template = TICKET.replace("FOLDER", root.to_str().unwrap());
    let server = file_server(&root);
    let gateway = Setup::new()
        .stdio("files", &server)
        .template("ticket", &template)
        .start()
        .await;
    (gateway, folder)
}

fn calls(root: &std::path::Path) -> Value {
    let root = root.canonicalize().unwrap();
    let path = |of: &str| json!({ "path": format!("{}/{of}", root.display()) });
    json!([
        ["read_text_file", path("tickets/4711/ticket.txt")],
        ["read_text_file", path("tickets/4712/ticket.txt")],
        ["read_text_file", path("tickets/4711/../4712/ticket.txt")],
        ["write_file", { "path": format!("{}/tickets/4711/x", root.display()), "content": "x" }],
    ])
}

fn check_desk(client: Client, seen: &Value) {
    assert_eq!(
        seen["tools"],
        json!(["list_directory", "read_text_file"]),
        "{client:?} {seen}"
    );
    assert_eq!(
        seen["calls"][0]["text"], "The printer is on fire.",
        "{client:?} {seen}"
    );
    for (denied, rule) in [
        (1, "argument_refused"),
        (2, "argument_refused"),
        (3, "not_granted"),
    ] {
        let error = &seen["calls"][denied]["error"];
        assert_eq!(error["code"], 403, "{client:?} {seen}");
        assert_eq!(error["data"]["rule"], rule, "{client:?} {seen}");
        assert!(
            error["data"]["decision"]
                .as_str()
                .unwrap()
                .starts_with("dec_"),
            "{seen}"
        );
        assert!(
            error["data"]["remedy"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{seen}"
        );
    }
}

/// The plan that starts the connector as the client's MCP server.
fn connector(agent: &Agent, server: &str, template: &str, parameters: &[&str]) -> Value {
    let mut command = vec![
        SALLYPORT.to_owned(),
        "connect".to_owned(),
        server.to_owned(),
        "--template".to_owned(),
        template.to_owned(),
        "--instance".to_owned(),
        agent.folder().to_str().unwrap().to_owned(),
    ];
    for parameter in parameters {
        command.extend(["--param".to_owned(), (*parameter).to_owned()]);
    }
    json!(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn through_the_connector_each_client_reaches_what_its_task_needs() {
    let (gateway, folder) = desk().await;
    let agent = gateway.agent("support-1").await;
    for client in Client::ALL {
        let plan = json!({
            "stdio": connector(&agent, "files", "ticket", &["ticket=4711"]),
            "calls": calls(folder.path()),
        });
        check_desk(client, &client.drive(&plan).await);
    }
    // Each connection opened a task of its own, and completed it when the client went away. (One client
    // connects once more, to find out which revisions there are.)
    let mut gateway = gateway;
    gateway
        .wait_until("every task is completed", async |gateway| {
            let tasks = gateway.managed("GET", "/v1/tasks", Value::Null).await;
            let tasks = tasks["items"].as_array().unwrap().clone();
            tasks.len() >= Client::ALL.len() && tasks.iter().all(|t| t["status"] == "completed")
        })
        .await;
    // What was asked, and what became of it, is on record; every call was proved.
    let records = gateway.records();
    let intents: Vec<&Value> = records
        .iter()
        .filter(|record| record["event"] == "intent" && record["method"] == "tools/call")
        .collect();
    assert_eq!(intents.len(), 4 * Client::ALL.len());
    assert!(
        intents.iter().all(|intent| intent["proof"] == "dpop"),
        "{intents:?}"
    );
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_local_listener_plain_http_clients_prove_every_call() {
    let (gateway, folder) = desk().await;
    let agent = gateway.agent("support-1").await;
    let local = Local::start(&agent, "files", "ticket", &["ticket=4711"]);
    let plan = json!({ "url": local.url, "calls": calls(folder.path()) });
    check_desk(Client::Python, &Client::Python.drive(&plan).await);
    // Only who was told the whole URL gets in, and no page in a browser does.
    let (base, secret) = local.url.rsplit_once('/').unwrap();
    let wrong = format!("{base}/{}", "x".repeat(secret.len()));
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    for call in [
        Call::post(base),
        Call::post(&wrong),
        Call::post(&local.url).header("origin", "http://127.0.0.1:1"),
        Call::post(&local.url).header("host", "evil.example.org"),
    ] {
        let answer = call.json(&hello).send().await.unwrap();
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    local.end();
    let tasks = gateway.managed("GET", "/v1/tasks", Value::Null).await;
    assert_eq!(tasks["items"][0]["status"], "completed", "{tasks}");
    let records = gateway.records();
    let mut intents = records.iter().filter(|record| record["event"] == "intent");
    assert!(intents.all(|intent| intent["proof"] == "dpop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_each_client_finds_its_way_to_the_token_service() {
    let (gateway, folder) = desk().await;
    let agent = gateway.agent("support-1").await;
    for client in Client::ALL {
        let task = agent.open_task("ticket", json!({ "ticket": "4711" })).await;
        let plan = json!({
            "url": format!("{}/tasks/{task}/mcp/files", gateway.gateway),
            "client": agent.id,
            "issuer": gateway.control,
            "key": agent.key_file(),
            "calls": calls(folder.path()),
        });
        let seen = client.drive(&plan).await;
        check_desk(client, &seen);
        // The file server speaks older revisions, so every client settles on one of those.
        assert_eq!(seen["revision"], "2025-11-25", "{client:?}");
        agent.complete(&task).await;
    }
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_generations_negotiate_the_newest_revision() {
    let server = time_server();
    let gateway = Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK)
        .start()
        .await;
    let agent = gateway.agent("navigator").await;
    let calls = json!([
        ["get_current_time", { "timezone": "Europe/Berlin" }],
        ["get_current_time", { "timezone": "America/New_York" }],
        ["convert_time", { "source_timezone": "UTC", "time": "12:00", "target_timezone": "UTC" }],
    ]);
    for (client, mode, revision) in [
        (Client::Python, "auto", "2026-07-28"),
        (Client::Python, "legacy", "2025-11-25"),
        (Client::TypeScript1, "legacy", "2025-11-25"),
        (Client::TypeScript2, "auto", "2026-07-28"),
        (Client::TypeScript2, "legacy", "2025-11-25"),
    ] {
        let task = agent.open_task("clock", json!({})).await;
        let through_connector = json!({
            "stdio": connector(&agent, "clock", "clock", &[]), "mode": mode, "calls": calls,
        });
        let over_http = json!({
            "url": format!("{}/tasks/{task}/mcp/clock", gateway.gateway),
            "client": agent.id, "issuer": gateway.control, "key": agent.key_file(),
            "mode": mode, "calls": calls,
        });
        for plan in [through_connector, over_http] {
            let seen = client.drive(&plan).await;
            let told = &seen["revision"];
            // The older TypeScript SDK does not tell what it negotiated over stdio.
            assert!(
                told == revision || told.is_null(),
                "{client:?} {mode}: {seen}"
            );
            assert_eq!(
                seen["tools"],
                json!(["get_current_time"]),
                "{client:?} {mode}: {seen}"
            );
            let time = seen["calls"][0]["text"].as_str().unwrap();
            assert!(time.contains("Europe/Berlin"), "{client:?} {mode}: {seen}");
            assert_eq!(
                seen["calls"][1]["error"]["data"]["rule"], "argument_refused",
                "{seen}"
            );
            assert_eq!(
                seen["calls"][2]["error"]["data"]["rule"], "not_granted",
                "{seen}"
            );
        }
        agent.complete(&task).await;
    }
}
