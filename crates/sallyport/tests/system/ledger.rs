//! What a task has read, over the end of the process: killed, restarted, and with what is kept of it changed.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::{Answer, Call};
use crate::support::tunnels::Api;
use crate::support::{Gateway, Setup};

const CLERK: &str = r#"
description = "Look after one customer"
agents = ["*"]
ttl = "10m"

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}", "POST /orders"]
"#;

const ENDPOINTS: &str = r#"
[endpoints."GET /customers/{id}"]
reads = true
trusted = ["/orders/*/card"]

[endpoints."POST /orders"]
sinks = { "body.card" = "exact" }
content = ["body.text"]
"#;

/// The card stands where the annotations trust it, the number where others write.
const TRUSTED: &str = "4111";
const UNTRUSTED: &str = "078-05-1120";

struct Scene {
    gateway: Gateway,
    agent: Agent,
    _api: Api,
}

impl Scene {
    async fn new() -> Self {
        let api = Api::clear();
        let gateway = Setup::new()
            .server("crm", "http", &api.url())
            .and("[servers.crm.http]\nroutes = [\"GET /customers/{id}\", \"POST /orders\"]\n")
            .template("clerk", CLERK)
            .start()
            .await;
        let folder = gateway.dir().join("annotations");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("crm.toml"), ENDPOINTS).unwrap();
        assert!(gateway.run(&["reload"]).status.success());
        let agent = gateway.agent("clerk").await;
        Self {
            gateway,
            agent,
            _api: api,
        }
    }

    /// A task for customer 7, opened by the operator.
    async fn task(&self) -> (String, Token) {
        let opened = self.gateway.run_json(&[
            "task",
            "open",
            "--agent",
            "clerk",
            "--template",
            "clerk",
            "--param",
            "customer=7",
            "--json",
        ]);
        let task = opened["id"].as_str().unwrap().to_owned();
        let token = self.agent.token_of_kind("http", "crm", &task, true).await;
        (task, token)
    }

    async fn read(&self, token: &Token) {
        let call = Call::get(&format!("{}/customers/7", token.resource));
        let call = self.agent.authorise(call, token);
        assert_eq!(call.send().await.unwrap().status, 200);
    }

    async fn order(&self, token: &Token, card: &str) -> Answer {
        let call = Call::post(&format!("{}/orders", token.resource))
            .json(&json!({ "card": card, "text": "please" }));
        self.agent.authorise(call, token).send().await.unwrap()
    }

    fn file(&self, task: &str) -> PathBuf {
        let folder = self.gateway.dir().join("data/ledgers");
        folder.join(format!("{task}.journal"))
    }

    /// Waits until so many results are on record, and in the file of the task's ledger.
    async fn kept(&mut self, task: &str, bytes: u64, noted: u64) -> u64 {
        let file = self.file(task);
        let length = || std::fs::metadata(&file).map_or(0, |file| file.len());
        self.gateway
            .wait_until("the ledger is written", async |this| {
                let is_result = |it: &Value| it["task"] == task && it["notes"]["noted"] == noted;
                length() > bytes && this.records().iter().any(is_result)
            })
            .await;
        length()
    }

    async fn kill_and_restart(&mut self) {
        self.gateway.kill();
        self.gateway.restart().await;
    }

    fn losses(&self) -> Vec<Value> {
        let mut records = self.gateway.records();
        records.retain(|record| record["change"] == "ledger.incomplete");
        records
    }
}

fn detail(answer: &Answer) -> String {
    assert_eq!(answer.status, 403, "{answer:?}");
    answer.json()["detail"].as_str().unwrap().to_owned()
}

const FORGOTTEN: &str = "the task has read more than is remembered";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_steers_as_before_after_a_kill_and_is_gone_with_the_task() {
    let mut scene = Scene::new().await;
    let (task, token) = scene.task().await;
    assert_eq!(scene.order(&token, TRUSTED).await.status, 403);
    scene.read(&token).await;
    let length = scene.kept(&task, 68, 1).await;
    let sealed = std::fs::read(scene.file(&task)).unwrap();
    for clear in [TRUSTED, UNTRUSTED, "orders"] {
        let there = sealed
            .windows(clear.len())
            .any(|part| part == clear.as_bytes());
        assert!(!there, "`{clear}` stands in clear");
    }
    scene.kill_and_restart().await;
    assert!(scene.order(&token, TRUSTED).await.is_success());
    let refused = detail(&scene.order(&token, UNTRUSTED).await);
    assert!(
        refused.contains("untrusted content") && !refused.contains(FORGOTTEN),
        "{refused}"
    );
    // It goes on behind what is there, also over an orderly end.
    scene.read(&token).await;
    // The order that went through was the second result.
    scene.kept(&task, length, 3).await;
    scene.gateway.terminate();
    scene.gateway.restart().await;
    assert!(scene.order(&token, TRUSTED).await.is_success());
    assert!(scene.losses().is_empty());
    scene.agent.complete(&task).await;
    let file = scene.file(&task);
    scene
        .gateway
        .wait_until("the ledger is destroyed", async |_| !file.exists())
        .await;
    // One that ended while nobody looked is destroyed at the next start.
    scene.gateway.kill();
    std::fs::write(&file, &sealed).unwrap();
    scene.gateway.restart().await;
    scene
        .gateway
        .wait_until("the ledger is destroyed", async |_| !file.exists())
        .await;
    scene.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_the_end_at_most_and_never_gains() {
    let mut scene = Scene::new().await;
    for _ in 0..6 {
        let (_, token) = scene.task().await;
        // Killed at once: what was still queued is lost, and that is known.
        scene.read(&token).await;
        scene.kill_and_restart().await;
        let order = scene.order(&token, TRUSTED).await;
        if !order.is_success() {
            let refused = detail(&order);
            assert!(refused.contains(FORGOTTEN), "{refused}");
        }
        detail(&scene.order(&token, UNTRUSTED).await);
        // Read again, it is known again.
        scene.read(&token).await;
        assert!(scene.order(&token, TRUSTED).await.is_success());
    }
    scene.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_was_changed_rolled_back_or_swapped_only_makes_calls_be_asked_about() {
    let mut scene = Scene::new().await;
    let (one, other) = (scene.task().await, scene.task().await);
    let before = {
        scene.read(&other.1).await;
        scene.kept(&other.0, 68, 1).await;
        std::fs::read(scene.file(&other.0)).unwrap()
    };
    scene.read(&one.1).await;
    let first = scene.kept(&one.0, 68, 1).await;
    let old = std::fs::read(scene.file(&one.0)).unwrap();
    scene.read(&one.1).await;
    scene.kept(&one.0, first, 2).await;
    let whole = std::fs::read(scene.file(&one.0)).unwrap();
    let mut changed = whole.clone();
    changed[100] ^= 1;
    // Rolled back, the first read is there and steers; that the second is not is known.
    for (file, steers) in [
        (changed, false),
        (before, false),
        (Vec::new(), false),
        (old, true),
    ] {
        scene.gateway.kill();
        std::fs::write(scene.file(&one.0), &file).unwrap();
        scene.gateway.restart().await;
        let order = scene.order(&one.1, TRUSTED).await;
        assert_eq!(order.is_success(), steers, "{order:?}");
        let refused = detail(&scene.order(&one.1, UNTRUSTED).await);
        assert!(refused.contains(FORGOTTEN), "{refused}");
    }
    let losses = scene.losses();
    assert_eq!(losses.len(), 4, "{losses:?}");
    assert!(
        losses
            .iter()
            .all(|record| record["subject"] == one.0.as_str())
    );
    assert!(
        losses
            .iter()
            .all(|record| record["details"]["expected"] == 2)
    );
    scene.gateway.verify();
}
