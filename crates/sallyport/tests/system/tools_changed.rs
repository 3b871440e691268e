//! A server that changes its tools is found out before the next call, though no agent lists them again: when it
//! says so, when it was started anew, and when it keeps quiet. Clients that listen are told.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::{Answer, Call};
use crate::support::{Gateway, Setup, packages, sdk};

const WEATHER: &str = r#"
description = "Tell the weather"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "weather"
tools = ["*"]
"#;

/// A gateway in front of `tests/inspection/changing.py`, and an agent with a task.
struct Scene {
    gateway: Gateway,
    agent: Agent,
    task: String,
    token: Token,
}

impl Scene {
    async fn new(more: &[&str], settings: &str) -> Self {
        let python = sdk::home().join("venv/bin/python");
        let script = packages::folder("inspection").join("changing.py");
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let mut command = vec![text(&python), text(&script)];
        command.extend(more.iter().map(|part| (*part).to_owned()));
        let gateway = Setup::new()
            .stdio("weather", &command)
            .and(settings)
            .template("weather", WEATHER)
            .start()
            .await;
        let agent = gateway.agent("forecaster").await;
        let task = agent.open_task("weather", json!({})).await;
        let token = agent.token("weather", &task, true).await;
        Self {
            gateway,
            agent,
            task,
            token,
        }
    }

    async fn forecast(&self) -> Value {
        let city = json!({ "city": "Paris" });
        self.agent.call(&self.token, "forecast", city).await
    }

    /// What an agent that listens is told until its task is over.
    fn listen(&self) -> tokio::task::JoinHandle<Answer> {
        let params = json!({ "notifications": { "toolsListChanged": true } });
        let call =
            crate::support::agent::request(&self.token.resource, "subscriptions/listen", params);
        let call = self.agent.authorise(call, &self.token);
        tokio::spawn(async move { call.send().await.unwrap() })
    }

    /// The tools are listed once, so that they are approved.
    async fn meet(&self) {
        let listed = self.agent.ask(&self.token, "tools/list", json!({})).await;
        let tools = &listed.json()["result"]["tools"];
        assert_eq!(tools[0]["name"], "forecast", "{listed:?}");
    }

    fn rechecks(&self) -> Vec<Value> {
        let records = self.gateway.records();
        let why = records.iter().map(|it| it["notes"]["recheck"].clone());
        why.filter(|why| !why.is_null()).collect()
    }

    fn was_quarantined(&self) -> bool {
        let records = self.gateway.records();
        records.iter().any(|it| it["change"] == "tools.quarantined")
    }
}

fn is_told(answer: &Value) -> bool {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.is_some_and(|text| text.contains("Sunny"))
}

fn is_quarantined(answer: &Value) -> bool {
    answer["error"]["data"]["rule"] == "tool_quarantined"
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_compared_before_the_next_call() {
    let scene = Scene::new(&["--announces"], "").await;
    scene.meet().await;
    let listening = scene.listen();
    let stream_is_open = async |this: &mut Gateway| {
        let records = this.records();
        records
            .iter()
            .any(|it| it["event"] == "intent" && it["method"] == "subscriptions/listen")
    };
    let mut scene = scene;
    scene
        .gateway
        .wait_until("the agent listens", stream_is_open)
        .await;
    // The program may not have read the subscription yet when it is on record.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let first = scene.forecast().await;
    assert!(is_told(&first), "{first}");
    let next = scene.forecast().await;
    assert!(is_quarantined(&next), "{next}");
    assert!(scene.rechecks().contains(&json!("announced")));
    assert!(scene.was_quarantined());
    scene.agent.complete(&scene.task).await;
    let told = listening.await.unwrap();
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(told.contains("notifications/tools/list_changed"), "{told}");
    scene.gateway.verify();
}

/// A message of a session (2025-11-25).
async fn say(scene: &Scene, session: Option<&str>, message: Value) -> Answer {
    let mut call =
        Call::post(&scene.token.resource).header("accept", "application/json, text/event-stream");
    if let Some(session) = session {
        call = call
            .header("mcp-session-id", session)
            .header("mcp-protocol-version", "2025-11-25");
    }
    let mut body = json!({ "jsonrpc": "2.0" });
    body.as_object_mut()
        .unwrap()
        .extend(message.as_object().unwrap().clone());
    let call = scene.agent.authorise(call.json(&body), &scene.token);
    call.send().await.unwrap()
}

async fn session(scene: &Scene) -> String {
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {},
                         "clientInfo": { "name": "test", "version": "1" } });
    let hello = json!({ "id": 1, "method": "initialize", "params": params });
    let begun = say(scene, None, hello).await;
    let session = begun.header("mcp-session-id").to_owned();
    let done = json!({ "method": "notifications/initialized" });
    assert!(say(scene, Some(&session), done).await.is_success());
    session
}

async fn forecast_in(scene: &Scene, session: &str, id: u64) -> String {
    let params = json!({ "name": "forecast", "arguments": { "city": "Paris" } });
    let call = json!({ "id": id, "method": "tools/call", "params": params });
    let answer = say(scene, Some(session), call).await;
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_session_it_is_heard_though_nobody_listens() {
    let scene = Scene::new(&["--announces"], "").await;
    scene.meet().await;
    let session = session(&scene).await;
    // The session is new, so its tools are compared before the first call.
    let first = forecast_in(&scene, &session, 2).await;
    assert!(first.contains("Sunny"), "{first}");
    assert_eq!(scene.rechecks(), ["connected"]);
    let next = forecast_in(&scene, &session, 3).await;
    assert!(next.contains("tool_quarantined"), "{next}");
    assert_eq!(scene.rechecks(), ["connected", "announced"]);
    // The gateway's own listings are on record like the agent's, and reach the agent in no way.
    assert!(!first.contains("inputSchema") && !next.contains("inputSchema"));
    scene.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_comes_back_changed_is_compared_before_its_first_call() {
    let dir = tempfile::tempdir().unwrap();
    let changed = dir.path().join("changed");
    let scene = Scene::new(&["--stays", "--changed", changed.to_str().unwrap()], "").await;
    scene.meet().await;
    let told = scene.forecast().await;
    assert!(is_told(&told), "{told}");
    std::fs::write(&changed, "").unwrap();
    // A task has a program of its own: the next one is new.
    let task = scene.agent.open_task("weather", json!({})).await;
    let token = scene.agent.token("weather", &task, true).await;
    let city = json!({ "city": "Paris" });
    let answer = scene.agent.call(&token, "forecast", city).await;
    assert!(is_quarantined(&answer), "{answer}");
    // What is approved for one is approved for all, and the other way round.
    assert!(is_quarantined(&scene.forecast().await));
    assert!(scene.rechecks().contains(&json!("connected")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_announced_is_found_while_the_server_is_used_and_listeners_are_told() {
    let mut scene = Scene::new(&[], "[limits]\nrecheck_seconds = 1").await;
    scene.meet().await;
    let listening = scene.listen();
    assert!(is_told(&scene.forecast().await));
    let (agent, token) = (scene.agent, scene.token.clone());
    scene
        .gateway
        .wait_until("the change is found", async |_| {
            let city = json!({ "city": "Paris" });
            is_quarantined(&agent.call(&token, "forecast", city).await)
        })
        .await;
    let records = scene.gateway.records();
    let by_time = |it: &Value| it["notes"]["recheck"] == "interval";
    assert!(records.iter().any(by_time));
    agent.complete(&scene.task).await;
    let told = listening.await.unwrap();
    let told = String::from_utf8_lossy(&told.body).into_owned();
    assert!(
        told.contains("notifications/tools/list_changed") && told.contains("subscriptionId"),
        "the server said nothing, so the gateway did: {told}"
    );
    scene.gateway.verify();
}
