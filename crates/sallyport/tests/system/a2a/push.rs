//! Push notifications through the gateway, and what is known after a restart.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::support::requests;

/// A webhook of an agent, which answers with a fixed text and keeps what it was sent.
pub(super) struct Webhook {
    pub(super) url: String,
    pub(super) origin: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Webhook {
    pub(super) async fn start(answer: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                tokio::spawn(async move {
                    let Some(text) = requests::next(&mut stream).await else {
                        return;
                    };
                    keep.lock().unwrap().push(String::from_utf8(text).unwrap());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self {
            url: format!("{origin}/hook?of=front"),
            origin,
            seen,
        }
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

pub(super) const TAKEN: &str = "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n";

/// The section that lets notifications be delivered to a webhook on this machine.
pub(super) fn allowing(origin: &str) -> String {
    format!("[[servers.desk.a2a.push]]\norigin = \"{origin}\"\nprivate = true\n")
}

/// What the other agent was told about webhooks.
async fn given(upstream: &Upstream) -> Vec<Value> {
    let url = format!("{}/webhooks", upstream.1);
    let answer = Call::get(&url).send().await.unwrap().json();
    answer.as_array().unwrap().clone()
}

/// Sends a notification as whoever knows an address and a token.
pub(super) async fn notify(address: &str, token: &str, body: &Value) -> u16 {
    Call::post(address)
        .header("x-a2a-notification-token", token)
        .json(body)
        .send()
        .await
        .unwrap()
        .status
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_reach_the_agent_and_its_webhook_stays_inside() {
    let upstream = Upstream::start().await;
    for (binding, version) in [("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3")] {
        let hook = Webhook::start(TAKEN).await;
        let mut gateway = setup(&upstream.1, &allowing(&hook.origin)).start().await;
        let agent = gateway.agent("front").await;
        let task = agent.open_task("front", json!({})).await;
        let token = token(&agent, &task).await;
        let first = json!({ "id": "first", "url": hook.url, "token": "of-the-webhook" });
        let second = json!({ "id": "second", "url": format!("{}/second", hook.origin) });
        let plan = json!({
            "binding": binding, "version": version,
            "messages": [{ "text": "ask me", "skill": "refund", "push": first }],
            "webhooks": [
                ["set", second], ["get", { "id": "second" }], ["list", {}],
                ["delete", { "id": "second" }], ["get", { "id": "second" }], ["list", {}],
            ],
            "then": [{ "text": "and on", "go_on": true }],
        });
        let seen = drive("v1", "drive.py", &gateway, &token, plan).await;
        let what = format!("{binding} {version}: {seen}");
        assert_eq!(
            seen["card"]["capabilities"]["pushNotifications"], true,
            "{what}"
        );
        let [set, got, listed, deleted, gone, left] = &seen["webhooks"].as_array().unwrap()[..]
        else {
            panic!("{what}");
        };
        for shown in [set, got] {
            assert_eq!(
                (&shown["id"], &shown["url"]),
                (&second["id"], &second["url"]),
                "{what}"
            );
        }
        assert_eq!(listed["configs"].as_array().unwrap().len(), 2, "{what}");
        assert!(
            deleted["error"].is_null() && gone["error"].is_string(),
            "{what}"
        );
        assert_eq!(left["configs"].as_array().unwrap().len(), 1, "{what}");
        assert_eq!(left["configs"][0]["token"], "of-the-webhook", "{what}");

        gateway
            .wait_until("the webhook was told", async |_| {
                hook.seen()
                    .iter()
                    .any(|it| it.contains("completed") || it.contains("COMPLETED"))
            })
            .await;
        let told = hook.seen();
        let remote = seen["messages"][0].as_array().unwrap().last().unwrap()["task"]["id"]
            .as_str()
            .unwrap_or_else(|| panic!("{what}"));
        for one in &told {
            let head = one.to_ascii_lowercase();
            assert!(one.starts_with("POST /hook?of=front HTTP/1.1"), "{one}");
            assert!(
                head.contains("x-a2a-notification-token: of-the-webhook"),
                "{one}"
            );
            assert!(one.contains(remote), "{one}");
            assert!(!head.contains("authorization"), "{one}");
        }
        // What the other agent knows of it is the gateway's, and nothing else.
        let known = given(&upstream).await;
        let own = format!("{}/a2a/desk/push/", gateway.gateway);
        let of_it: Vec<_> = known.iter().filter(|it| it["taskId"] == remote).collect();
        assert_eq!(of_it.len(), 1, "{known:?}");
        assert!(
            of_it[0]["url"].as_str().unwrap().starts_with(&own),
            "{known:?}"
        );
        let text = Value::from(known.clone()).to_string();
        assert!(
            !text.contains(&hook.origin) && !text.contains("of-the-webhook"),
            "{text}"
        );
        let records = gateway.records();
        let delivered = records
            .iter()
            .filter(|it| it["ended"] == "answered" && it["notes"]["webhook"] == json!(hook.origin));
        assert!(delivered.count() >= told.len() - 1, "each is on record");
        assert!(!Value::from(records).to_string().contains("of-the-webhook"));
        gateway.verify();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_leads_nowhere_else() {
    let upstream = Upstream::start().await;
    let moved = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (hook, other) = (Webhook::start(moved).await, Webhook::start(TAKEN).await);
    // Listed, but not as one that may be on this machine.
    let public = format!("[[servers.desk.a2a.push]]\norigin = \"{}\"\n", other.origin);
    let more = format!("{}{public}", allowing(&hook.origin));
    let gateway = setup(&upstream.1, &more).start().await;
    let (front, rival) = (gateway.agent("front").await, gateway.agent("rival").await);
    let task = front.open_task("front", json!({})).await;
    let others = rival.open_task("front", json!({})).await;
    let (mine, theirs) = (token(&front, &task).await, token(&rival, &others).await);
    let with = |url: &str| {
        let mut params = message("ask me", "refund");
        params["configuration"] = json!({ "taskPushNotificationConfig": { "url": url } });
        params
    };
    for url in [
        "http://169.254.169.254/latest",
        "http://127.0.0.1:1/",
        "https://hooks.example.org/",
        &format!("{}@evil.example.org/", hook.origin),
        &format!("{}.evil.example.org/", hook.origin),
        &hook.origin.replace("http://", "https://"),
        "file:///etc/passwd",
    ] {
        let refused = ask(&front, &mine, "SendMessage", with(url)).await;
        assert_eq!(refused["error"]["code"], 403, "{url} {refused}");
    }
    for url in [format!("{}/a", hook.origin), format!("{}/b", other.origin)] {
        let asked = ask(&front, &mine, "SendMessage", with(&url)).await;
        assert!(asked["result"]["task"]["id"].is_string(), "{asked}");
    }
    let mut gateway = gateway;
    gateway
        .wait_until("both have failed", async |this| {
            let records = this.records();
            let failed = |word: &str| {
                records.iter().any(|it| {
                    it["ended"] == "upstream_failed"
                        && it["notes"]["failed"]
                            .as_str()
                            .is_some_and(|why| why.contains(word))
                })
            };
            failed("307") && failed("no address that may be reached")
        })
        .await;
    assert!(other.seen().is_empty(), "it was reached all the same");

    let known = given(&upstream).await;
    let here: Vec<&Value> = known
        .iter()
        .filter(|it| it["url"].as_str().unwrap().starts_with(&gateway.gateway))
        .collect();
    let (address, secret) = (
        here[0]["url"].as_str().unwrap(),
        here[0]["token"].as_str().unwrap(),
    );
    let remote = here[0]["taskId"].as_str().unwrap();
    let about =
        |id: &str| json!({ "task": { "id": id, "status": { "state": "TASK_STATE_WORKING" } } });
    // Whoever has one half of what the other agent was given has nothing.
    assert_eq!(notify(address, "guessed", &about(remote)).await, 404);
    assert_eq!(
        notify(&format!("{}x", address), secret, &about(remote)).await,
        404
    );
    let elsewhere = address.replace("/a2a/desk/", "/a2a/other/");
    assert_eq!(notify(&elsewhere, secret, &about(remote)).await, 404);
    assert_eq!(
        notify(address, secret, &about("of-somebody-else")).await,
        403
    );
    assert_eq!(
        notify(address, secret, &json!({ "surprise": 1 })).await,
        400
    );
    assert_eq!(
        notify(address, secret, &about(remote)).await,
        502,
        "it answers with a redirect"
    );
    // What one registered is not there for another.
    for method in [
        "ListTaskPushNotificationConfigs",
        "GetTaskPushNotificationConfig",
    ] {
        let stolen = ask(&rival, &theirs, method, json!({ "taskId": remote })).await;
        assert_eq!(stolen["error"]["code"], -32001, "{method} {stolen}");
    }
    let before = hook.seen().len();
    gateway
        .managed("POST", &format!("/v1/tasks/{task}/revoke"), json!({}))
        .await;
    let late = notify(address, secret, &about(remote)).await;
    assert!(matches!(late, 404 | 410), "{late}");
    assert_eq!(
        hook.seen().len(),
        before,
        "nothing is delivered after the end"
    );
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_a_task_is_and_its_webhook_are_known_after_a_crash() {
    let upstream = Upstream::start().await;
    let hook = Webhook::start(TAKEN).await;
    let mut gateway = setup(&upstream.1, &allowing(&hook.origin)).start().await;
    let (front, rival) = (gateway.agent("front").await, gateway.agent("rival").await);
    let task = front.open_task("front", json!({})).await;
    let others = rival.open_task("front", json!({})).await;
    let mine = token(&front, &task).await;
    let asked = ask(&front, &mine, "SendMessage", message("ask me", "refund")).await;
    let id = asked["result"]["task"]["id"].clone();
    let webhook = json!({ "taskId": id, "url": hook.url, "id": "first" });
    let set = ask(&front, &mine, "CreateTaskPushNotificationConfig", webhook).await;
    assert_eq!(set["result"]["id"], "first", "{set}");
    // What was answered about a webhook is durable, and all that was noted before it.
    gateway.kill();
    gateway.restart().await;
    let (mine, theirs) = (token(&front, &task).await, token(&rival, &others).await);
    let got = ask(&front, &mine, "GetTask", json!({ "id": id })).await;
    assert_eq!(got["result"]["id"], id, "{got}");
    let stolen = ask(&rival, &theirs, "GetTask", json!({ "id": id })).await;
    assert_eq!(stolen["error"]["code"], -32001, "{stolen}");
    // It goes on under the skill that it began with, and no other.
    let mut confused = message("something else", "lookup");
    confused["message"]["taskId"] = id.clone();
    let refused = ask(&front, &mine, "SendMessage", confused).await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    let mut on = message("and on", "refund");
    on["message"]["taskId"] = id.clone();
    let done = ask(&front, &mine, "SendMessage", on).await;
    assert!(done["result"]["task"].is_object(), "{done}");
    gateway
        .wait_until("the webhook was told", async |_| {
            hook.seen().iter().any(|it| it.contains("COMPLETED"))
        })
        .await;
    gateway.verify();
}
