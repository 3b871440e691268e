//! Agents behind the gateway, with the official SDK on both sides, and attackers on either.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::{Answer, Call};
use crate::support::program::Program;
use crate::support::{Gateway, Setup, free_address, packages};

mod inspected;
mod push;

const FRONT: &str = r#"
description = "Look after a customer"
agents = ["front", "rival", "desk"]
ttl = "10m"
proof = "bearer"
budget = { calls = 40 }

[[allow]]
server = "desk"
skills = ["refund", "lookup"]
arguments = { text = {}, "data.amount" = { max = 100, optional = true } }
"#;

/// What an agent that is asked may do itself: less.
const PART: &str = r#"
description = "Do what a customer's agent asks for"
agents = ["desk"]
ttl = "10m"
proof = "bearer"
budget = { calls = 10 }

[[allow]]
server = "desk"
skills = ["lookup"]
arguments = { text = {}, "data.amount" = { max = 10, optional = true } }
"#;

const WIDE: &str = r#"
description = "More than anyone who asks has"
agents = ["desk"]
ttl = "10m"
proof = "bearer"

[[allow]]
server = "desk"
skills = ["delete"]
"#;

/// Where the SDKs are.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| packages::install("a2a"))
}

/// An agent made with the official SDK.
struct Upstream(
    #[expect(dead_code, reason = "it ends with this")] Program,
    String,
);

impl Upstream {
    async fn start() -> Self {
        let port = free_address().port();
        let mut command = Command::new(home().join("v1/bin/python"));
        command
            .arg(packages::folder("a2a").join("agent.py"))
            .arg(port.to_string())
            .stdin(Stdio::null());
        let program = Program::start(&mut command);
        let this = Self(program, format!("http://127.0.0.1:{port}"));
        let card = format!("{}/.well-known/agent-card.json", this.1);
        let begun = std::time::Instant::now();
        while !matches!(Call::get(&card).send().await, Ok(answer) if answer.status == 200) {
            assert!(
                begun.elapsed() < crate::support::PATIENCE,
                "the agent does not start"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        this
    }
}

fn setup(url: &str, more: &str) -> Setup {
    Setup::new()
        .and(&format!(
            "[servers.desk]\nkind = \"a2a\"\nurl = \"{url}\"\n{more}"
        ))
        .template("front", FRONT)
        .template("part", PART)
        .template("wide", WIDE)
}

fn resource(gateway: &Gateway) -> String {
    format!("{}/a2a/desk", gateway.gateway)
}

/// A bearer token for the agent under a task: the SDK knows nothing of DPoP.
async fn token(agent: &Agent, task: &str) -> Token {
    agent.token_of_kind("a2a", "desk", task, false).await
}

/// Lets the official SDK carry out a plan (see `tests/a2a/drive.py`).
async fn drive(python: &str, script: &str, gateway: &Gateway, token: &Token, plan: Value) -> Value {
    let mut plan = plan;
    plan["url"] = json!(token.resource);
    plan["token"] = json!(token.text);
    plan["jwks"] = json!(format!("{}/oauth/jwks", gateway.control));
    let mut command = Command::new(home().join(python).join("bin/python"));
    command.arg(packages::folder("a2a").join(script));
    packages::carry_out(command, &plan).await
}

async fn ask(agent: &Agent, token: &Token, method: &str, params: Value) -> Value {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    raw(agent, token, body.to_string()).await.json()
}

async fn raw(agent: &Agent, token: &Token, body: String) -> Answer {
    let call = Call::post(&token.resource)
        .header("content-type", "application/json")
        .body(body);
    agent.authorise(call, token).send().await.unwrap()
}

fn message(text: &str, skill: &str) -> Value {
    json!({ "message": {
        "messageId": "m", "role": "ROLE_USER", "parts": [{ "text": text }],
        "metadata": { "sallyport.skill": skill },
    } })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_talks_to_the_official_sdk_in_each_binding() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream.1, "").start().await;
    let agent = gateway.agent("front").await;
    let task = agent.open_task("front", json!({})).await;
    let token = token(&agent, &task).await;
    for (binding, version, stream) in [
        ("JSONRPC", "1.0", false),
        ("JSONRPC", "1.0", true),
        ("HTTP+JSON", "1.0", false),
        ("HTTP+JSON", "1.0", true),
        ("JSONRPC", "0.3", false),
        ("JSONRPC", "0.3", true),
    ] {
        let plan = json!({
            "binding": binding, "version": version, "stream": stream,
            "messages": [
                { "text": "ask me", "skill": "refund", "data": { "amount": 5 } },
                { "text": "and on", "go_on": true },
                { "text": "all of it", "skill": "refund", "data": { "amount": 5000 } },
                { "text": "away with it", "skill": "delete" },
                { "text": "which?" },
            ],
            "get_last": true,
            "list": version == "1.0",
            "extended": binding == "JSONRPC" && version == "1.0",
            "get": ["task-of-someone-else"],
            "cancel": ["task-of-someone-else"],
        });
        let seen = drive("v1", "drive.py", &gateway, &token, plan).await;
        let what = format!("{binding} {version} {stream}: {seen}");
        let text = |n: usize| seen["messages"][n].to_string();
        assert!(text(0).contains("did refund"), "{what}");
        assert!(text(1).contains("did refund"), "{what}");
        assert!(
            !text(0).contains("authorization"),
            "the token went on: {what}"
        );
        for (denied, word) in [(2, "amount"), (3, "delete"), (4, "sallyport.skill")] {
            assert!(seen["messages"][denied][0]["error"].is_string(), "{what}");
            // Of errors of this binding that are not the protocol's, the SDK tells the status only.
            let word = match (binding, denied) {
                ("HTTP+JSON", 2 | 3) => "403",
                _ => word,
            };
            assert!(text(denied).contains(word), "{what}");
        }
        assert!(seen["last"]["id"].is_string(), "{what}");
        for foreign in ["get", "cancel"] {
            assert_eq!(seen[foreign][0]["error"], "TaskNotFoundError", "{what}");
        }
        let card = &seen["card"];
        let skills: Vec<_> = card["skills"]
            .as_array()
            .unwrap()
            .iter()
            .map(|skill| skill["id"].as_str().unwrap())
            .collect();
        assert_eq!(skills, ["refund", "lookup"], "{what}");
        assert_eq!(card["supportedInterfaces"][0]["url"], json!(token.resource));
        assert!(!card.to_string().contains("GRPC") && !card.to_string().contains(&upstream.1));
        if version == "1.0" {
            assert!(
                !seen["list"]["tasks"].as_array().unwrap().is_empty(),
                "{what}"
            );
        }
    }
    let records = gateway.records();
    let denied = |rule: &str| records.iter().any(|it| it["denial"]["rule"] == rule);
    assert!(denied("argument_refused") && denied("not_granted"));
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_of_0_3_verifies_the_card_and_gets_answers() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream.1, "").start().await;
    let agent = gateway.agent("front").await;
    let task = agent.open_task("front", json!({})).await;
    let token = token(&agent, &task).await;
    for stream in [false, true] {
        let plan = json!({ "stream": stream, "messages": [
            { "text": "hello", "skill": "lookup" }, { "text": "hello", "skill": "delete" },
        ] });
        let seen = drive("v03", "drive03.py", &gateway, &token, plan).await;
        assert!(
            seen["messages"][0].to_string().contains("did lookup"),
            "{seen}"
        );
        assert!(seen["messages"][1][0]["error"].is_string(), "{seen}");
        assert_eq!(seen["card"]["url"], json!(token.resource));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_to_one_is_of_no_use_to_another() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream.1, "").start().await;
    let (front, rival) = (gateway.agent("front").await, gateway.agent("rival").await);
    let task = front.open_task("front", json!({})).await;
    let other = rival.open_task("front", json!({})).await;
    let token_of_rival = token(&rival, &other).await;
    let token_of_front = token(&front, &task).await;
    let mine = ask(
        &front,
        &token_of_front,
        "SendMessage",
        message("ask", "refund"),
    )
    .await;
    let (id, context) = (
        &mine["result"]["task"]["id"],
        &mine["result"]["task"]["contextId"],
    );
    assert!(id.is_string() && context.is_string(), "{mine}");
    for (method, params) in [
        ("GetTask", json!({ "id": id })),
        ("CancelTask", json!({ "id": id })),
        ("SubscribeToTask", json!({ "id": id })),
        ("tasks/get", json!({ "id": id })),
    ] {
        let stolen = ask(&rival, &token_of_rival, method, params.clone()).await;
        assert_eq!(stolen["error"]["code"], -32001, "{method} {stolen}");
    }
    for (member, value) in [
        ("taskId", id.clone()),
        ("contextId", context.clone()),
        ("referenceTaskIds", json!([id])),
    ] {
        let mut params = message("and now?", "refund");
        params["message"][member] = value;
        let stolen = ask(&rival, &token_of_rival, "SendMessage", params).await;
        assert!(stolen["error"].is_object(), "{member} {stolen}");
    }
    let listed = ask(&rival, &token_of_rival, "ListTasks", json!({})).await;
    assert_eq!(listed["result"]["tasks"], json!([]), "{listed}");
    // A conversation keeps the skill that it began with.
    let mut params = message("something else", "lookup");
    params["message"]["taskId"] = id.clone();
    let confused = ask(&front, &token_of_front, "SendMessage", params).await;
    assert_eq!(confused["error"]["code"], -32602, "{confused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_parsers_disagree_about_never_arrives() {
    let upstream = Upstream::start().await;
    let gateway = setup(&upstream.1, "").start().await;
    let agent = gateway.agent("front").await;
    let task = agent.open_task("front", json!({})).await;
    let token = token(&agent, &task).await;
    let good = message("hello", "refund").to_string();
    let envelope = |method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
    };
    let twice = good.replace(r#""role""#, r#""role":"ROLE_AGENT","role""#);
    let snake = good.replace(r#""role""#, r#""task_id":"x","role""#);
    let own = good.replace(
        r#""sallyport.skill""#,
        r#""sallyport.task":"task_1","sallyport.skill""#,
    );
    let tenant = good.replacen('{', r#"{"tenant":"other","#, 1);
    let uri = json!({ "message": {
        "messageId": "m", "role": "ROLE_USER", "metadata": { "skillId": "refund" },
        "parts": [{ "text": "read" }, { "url": "http://169.254.169.254/latest" }],
    } });
    for (code, body) in [
        (-32700, envelope("SendMessage", &twice)),
        (-32602, envelope("SendMessage", &snake)),
        (-32602, envelope("SendMessage", &own)),
        (-32602, envelope("SendMessage", &tenant)),
        (403, envelope("SendMessage", &uri.to_string())),
        (-32601, envelope("tasks/steal", &good)),
        (-32600, format!("[{}]", envelope("SendMessage", &good))),
        (
            -32600,
            envelope("SendMessage", &format!("{good}{}", " ".repeat(5 << 20))),
        ),
    ] {
        let answer = raw(&agent, &token, body.clone()).await.json();
        let shown = &body[..body.len().min(200)];
        assert_eq!(answer["error"]["code"], code, "{shown} {answer}");
    }
    let webhook = json!({
        "taskId": "x", "url": "http://169.254.169.254/",
    });
    let push = ask(&agent, &token, "CreateTaskPushNotificationConfig", webhook).await;
    assert_eq!(push["error"]["code"], -32003, "{push}");
    let records = gateway.records();
    let forwarded = records
        .iter()
        .any(|it| it["target"] == "refund" && it["permitted"] == true);
    assert!(!forwarded, "nothing of it was permitted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_cuts_a_stream() {
    let upstream = Upstream::start().await;
    let mut gateway = setup(&upstream.1, "").start().await;
    let agent = gateway.agent("front").await;
    let task = agent.open_task("front", json!({})).await;
    let token = token(&agent, &task).await;
    let revoke = async {
        // The stream is under way when its intent is on record.
        loop {
            let records = gateway.records();
            if records
                .iter()
                .any(|it| it["method"] == "SendStreamingMessage")
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let path = format!("/v1/tasks/{task}/revoke");
        gateway.managed("POST", &path, json!({})).await;
    };
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage",
        "params": message("slow", "refund"),
    });
    let (answer, ()) = tokio::join!(raw(&agent, &token, body.to_string()), revoke);
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let last = text.trim().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["code"], 403, "{text}");
    assert!(!text.contains("piece 599"));
    gateway
        .wait_until("the cut is on record", async |this| {
            this.records().iter().any(|it| it["ended"] == "cut")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_asked_acts_under_a_part_of_the_askers_task() {
    let upstream = Upstream::start().await;
    let more = "[servers.desk.a2a]\nagent = \"desk\"\ntemplate = \"part\"\n";
    let gateway = setup(&upstream.1, more).start().await;
    let (front, desk) = (gateway.agent("front").await, gateway.agent("desk").await);
    let task = front.open_task("front", json!({})).await;
    let front_token = token(&front, &task).await;
    let asked = ask(
        &front,
        &front_token,
        "SendMessage",
        message("ask", "refund"),
    )
    .await;
    let said = asked["result"]["task"]["artifacts"][0]["parts"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("{asked}"));
    let said: Value = serde_json::from_str(said).unwrap();
    let part = said["metadata"]["sallyport.task"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = gateway
        .managed("GET", &format!("/v1/tasks/{part}"), Value::Null)
        .await;
    assert_eq!(
        (&shown["parent"], &shown["agent"]),
        (&json!(task), &json!("desk"))
    );
    let parent = gateway.run_json(&["task", "show", &task, "--json"]);
    assert_eq!(parent["parts"], json!([part]));

    // The asker cannot use it; the one that is asked can, with its own key, and within both grants.
    let details = json!([{ "type": "sallyport_task", "task": part }]).to_string();
    let resource = resource(&gateway);
    let fields = [
        ("resource", resource.as_str()),
        ("scope", "a2a"),
        ("authorization_details", &details),
    ];
    assert!(!front.ask_token(&fields, false).await.is_success());
    let desk_token = token(&desk, &part).await;
    let done = ask(
        &desk,
        &desk_token,
        "SendMessage",
        message("hello", "refund"),
    )
    .await;
    assert_eq!(done["error"]["code"], 403, "not in the part: {done}");

    // A template that is wider than the parent is refused, saying what is wider.
    let wide = json!({ "template": "wide", "agent": "desk", "parent": task, "purpose": "" });
    let refused = front.manage("/v1/tasks", &wide).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(
        refused.json()["detail"]
            .as_str()
            .unwrap()
            .contains("`desk`")
    );

    // It ends with its parent, at once.
    gateway
        .managed("POST", &format!("/v1/tasks/{task}/revoke"), json!({}))
        .await;
    let shown = gateway
        .managed("GET", &format!("/v1/tasks/{part}"), Value::Null)
        .await;
    assert_eq!(shown["status"], "revoked");
    let late = ask(
        &desk,
        &desk_token,
        "SendMessage",
        message("hello", "lookup"),
    )
    .await;
    assert_eq!(late["error"]["code"], 403, "{late}");
    let records = gateway.records();
    assert!(
        records
            .iter()
            .any(|it| it["change"] == "task.opened" && it["details"]["parent"] == task)
    );
    assert!(
        records
            .iter()
            .any(|it| it["change"] == "task.revoked" && it["subject"] == json!(part))
    );
    gateway.verify();
}

/// An agent that answers whatever it is told to, byte for byte; its card is in order.
async fn hostile(answer: &'static str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let card = json!({
        "name": "Desk", "description": "Hostile", "version": "1",
        "supportedInterfaces": [
            { "url": format!("{url}/"), "protocolBinding": "JSONRPC", "protocolVersion": "1.0" },
        ],
        "capabilities": { "streaming": true },
        "skills": [{ "id": "refund", "name": "R", "description": "d", "tags": ["t"] }],
    })
    .to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let card = card.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 64 << 10];
                let length = stream.read(&mut head).await.unwrap_or(0);
                let get = head[..length].starts_with(b"GET");
                let sent = if get {
                    format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                         connection: close\r\n\r\n{card}",
                        card.len()
                    )
                } else {
                    answer.replace("LONG", &"x".repeat(20 << 20))
                };
                let _ = stream.write_all(sent.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_hostile_agent_passes_but_answers() {
    const JSON: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    const EVENTS: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let join = |head: &str, body: &str| -> &'static str { format!("{head}{body}").leak() };
    let good = r#"data: {"jsonrpc":"2.0","id":1,"result":{"task":{"id":"t","contextId":"c","status":{"state":"TASK_STATE_WORKING"}}}}"#;
    for (method, answer) in [
        (
            "SendMessage",
            "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"upstream\"\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "SendMessage",
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        ),
        ("SendMessage", join(JSON, "<html>")),
        (
            "SendMessage",
            join(
                JSON,
                r#"{"jsonrpc":"2.0","id":2,"result":{"message":{"messageId":"m"}}}"#,
            ),
        ),
        (
            "SendMessage",
            join(
                JSON,
                r#"{"jsonrpc":"2.0","id":1,"id":1,"result":{"message":{"messageId":"m"}}}"#,
            ),
        ),
        (
            "SendMessage",
            join(
                JSON,
                r#"{"jsonrpc":"2.0","id":1,"result":{"message":{"messageId":"LONG"}}}"#,
            ),
        ),
        ("SendMessage", "SSH-2.0-nothing\r\n"),
        (
            "SendStreamingMessage",
            join(EVENTS, &format!("{good}\n\ndata: {{\"a\":1,\"a\":2}}\n\n")),
        ),
        (
            "SendStreamingMessage",
            join(EVENTS, &format!("{good}\n\ndata: LONG\n\n")),
        ),
        (
            "SendStreamingMessage",
            join(EVENTS, &format!("event: error\n{good}\n\ndata: [1]\n\n")),
        ),
    ] {
        let url = hostile(answer).await;
        let mut gateway = setup(&url, "").start().await;
        let agent = gateway.agent("front").await;
        let task = agent.open_task("front", json!({})).await;
        let token = token(&agent, &task).await;
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": message("hello", "refund"),
        });
        let got = raw(&agent, &token, body.to_string()).await;
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        let shown = &answer[..answer.len().min(300)];
        assert_eq!(got.status, 200, "{shown} {text}");
        assert!(got.header("www-authenticate").is_empty() && got.header("location").is_empty());
        let last = text.trim().rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{shown} {text}"));
        assert_eq!(last["error"]["code"], -32006, "{shown} {text}");
        assert!(text.len() < 4_096 && !text.contains("event: error"));
        gateway
            .wait_until("how it ended is on record", async |this| {
                let records = this.records();
                records.iter().any(|it| it["ended"] == "upstream_failed")
            })
            .await;
    }
}
