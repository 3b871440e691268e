//! `kill -9` under load, again and again: whatever was answered is on record, the log verifies, and what a
//! task had used is not forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::request;
use crate::support::sdk::time_server;
use crate::support::{Gateway, Setup};

const ROUNDS: u64 = 6;

const CLOCK: &str = r#"
description = "Tell the time"
agents = ["*"]
ttl = "30m"
budget = { calls = 1000000 }

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

/// How many calls a task has used, as the gateway counts them.
async fn used(gateway: &Gateway, task: &str) -> u64 {
    let task = gateway
        .managed("GET", &format!("/v1/tasks/{task}"), Value::Null)
        .await;
    task["calls"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_on_record_however_the_process_ends() {
    let server = time_server();
    let mut gateway = Setup::new()
        .stdio("clock", &server)
        .template("clock", CLOCK)
        .start()
        .await;
    let agent = Arc::new(gateway.agent("agent").await);
    let task = agent.open_task("clock", json!({})).await;
    let mut decisions = BTreeSet::new();
    let mut answered = 0;
    for round in 0..ROUNDS {
        let token = agent.token("clock", &task, true).await;
        let callers: Vec<_> = (0..6)
            .map(|_| {
                let (agent, token) = (Arc::clone(&agent), token.clone());
                tokio::spawn(async move {
                    let (mut served, mut denied) = (0_u64, Vec::new());
                    loop {
                        // Every other call is refused, so that its decision's id is known.
                        for tool in ["get_current_time", "convert_time"] {
                            let params =
                                json!({ "name": tool, "arguments": { "timezone": "UTC" } });
                            let call = request(&token.resource, "tools/call", params);
                            let Ok(answer) = agent.authorise(call, &token).send().await else {
                                return (served, denied);
                            };
                            let answer = answer.json();
                            if answer.get("result").is_some() {
                                served += 1;
                            } else if let Some(id) = answer["error"]["data"]["decision"].as_str() {
                                denied.push(id.to_owned());
                            }
                        }
                    }
                })
            })
            .collect();
        // A different moment each time.
        tokio::time::sleep(Duration::from_millis(1_300 + 137 * round % 500)).await;
        gateway.kill();
        for caller in callers {
            let (served, denied) = caller.await.unwrap();
            answered += served;
            decisions.extend(denied);
        }
        gateway.restart().await;
        gateway.verify();
        assert!(
            used(&gateway, &task).await >= answered,
            "round {round}: the budget forgot calls"
        );
    }
    assert!(answered > 0 && !decisions.is_empty());
    let records = gateway.records();
    let recorded: BTreeSet<&str> = records
        .iter()
        .filter_map(|record| record["decision"].as_str())
        .collect();
    let lost: Vec<&String> = decisions
        .iter()
        .filter(|id| !recorded.contains(id.as_str()))
        .collect();
    assert!(lost.is_empty(), "acknowledged but lost: {lost:?}");
    let permitted = records
        .iter()
        .filter(|r| r["event"] == "intent" && r["method"] == "tools/call" && r["permitted"] == true)
        .count() as u64;
    assert!(
        permitted >= answered,
        "{answered} calls were answered, {permitted} are on record"
    );
}
