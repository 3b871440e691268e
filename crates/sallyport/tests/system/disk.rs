//! A disk that fails (R4): `strace` makes `fdatasync` fail for a while. Every action is denied with that reason,
//! nothing reaches the upstream unrecorded, and service resumes when writing works again.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::Call;
use crate::support::sdk::time_server;
use crate::support::{Gateway, Setup};

const CLOCK: &str = r#"
description = "Tell the time"
agents = ["*"]
ttl = "30m"

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

async fn call(agent: &Agent, token: &Token) -> Value {
    agent
        .call(token, "get_current_time", json!({ "timezone": "UTC" }))
        .await
}

async fn ready(gateway: &Gateway) -> u16 {
    Call::get(&format!("{}/readyz", gateway.control))
        .send()
        .await
        .unwrap()
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_writable_log_everything_is_denied_and_service_resumes() {
    let server = time_server();
    let mut gateway = Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK)
        .start()
        .await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    assert!(call(&agent, &token).await["result"].is_object());

    for error in ["EIO", "ENOSPC"] {
        let pid = gateway.pid().to_string();
        let inject = format!("inject=fdatasync,fsync:error={error}");
        let mut disk = Command::new("strace")
            .args([
                "-f",
                "-qq",
                "-e",
                "trace=fdatasync,fsync",
                "-e",
                &inject,
                "-p",
                &pid,
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        gateway
            .wait_until("a call is denied", async |_| {
                call(&agent, &token).await["error"]["data"]["rule"] == "audit_unavailable"
            })
            .await;
        let denied = call(&agent, &token).await;
        assert_eq!(denied["error"]["code"], 503, "{denied}");
        assert!(
            denied["error"]["data"]["remedy"]
                .as_str()
                .unwrap()
                .contains("log"),
            "{denied}"
        );
        assert_eq!(ready(&gateway).await, 503);
        // The operator can still take things away.
        let held = gateway
            .manage("POST", "/v1/servers/clock/disable", json!({}))
            .await;
        assert!(held.is_success(), "{held:?}");
        // But nothing is given while it cannot be recorded.
        let given = gateway
            .manage("POST", "/v1/servers/clock/enable", json!({}))
            .await;
        assert!(!given.is_success(), "{given:?}");

        crate::support::signal(disk.id(), "TERM");
        disk.wait().unwrap();
        gateway
            .wait_until("the log is written again", async |this| {
                ready(this).await == 200
            })
            .await;
        gateway
            .managed("POST", "/v1/servers/clock/enable", json!({}))
            .await;
        assert!(call(&agent, &token).await["result"].is_object());
    }
    gateway.verify();
    // Whatever the upstream answered has a durable intent.
    let records = gateway.records();
    let permitted: Vec<&str> = records
        .iter()
        .filter(|record| record["event"] == "intent" && record["permitted"] == true)
        .filter_map(|record| record["decision"].as_str())
        .collect();
    for result in records.iter().filter(|record| record["event"] == "result") {
        assert!(
            permitted.contains(&result["decision"].as_str().unwrap()),
            "{result}"
        );
    }
    // The restriction that could not be recorded then is on record now.
    let disabled = records
        .iter()
        .filter(|record| record["change"] == "server.disabled")
        .count();
    assert_eq!(disabled, 2);
}
