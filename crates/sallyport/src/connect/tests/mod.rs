//! The connector against a control listener and a gateway that say what each test wants.

mod failures;
pub(crate) mod fake;

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::*;
use fake::{Fake, Reply, Seen, TASK, event, events, json_reply};

const WAIT: Duration = Duration::from_secs(20);

/// A connector with its client in the test's hands.
struct Running {
    input: Option<mpsc::Sender<Input>>,
    output: mpsc::Receiver<Bytes>,
    signal: Option<oneshot::Sender<()>>,
    ended: JoinHandle<()>,
}

impl Running {
    async fn start(fake: &Fake) -> Self {
        let http = Http::new(None).unwrap();
        let (about, key) = fake.instance();
        let gateway = about.gateway.clone();
        let authority = Authority::new(http.clone(), about, key);
        let args = Args {
            server: ServerName::parse("files").unwrap(),
            template: Some(TemplateName::parse("read-notes").unwrap()),
            parameters: vec![("folder".to_owned(), "a=b".to_owned())],
            purpose: None,
            task: None,
            listen: None,
            instance: None,
            wait_for_approval: None,
            ca: None,
        };
        let way = open(&args, http, authority, &gateway).await.unwrap();
        let (channel, complete) = (way.channel, way.complete);
        assert!(complete);
        let (input, lines) = mpsc::channel(16);
        let (out, output) = mpsc::channel(64);
        let (signal, signalled) = oneshot::channel::<()>();
        // An output ends when its last sender is gone, or nobody reads it any more.
        let closed = out.downgrade();
        let out_ended = async move {
            while closed.upgrade().is_some_and(|out| !out.is_closed()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let ended = tokio::spawn(async move {
            connect(channel, complete, lines, out, out_ended, async {
                drop(signalled.await)
            })
            .await;
        });
        Self {
            input: Some(input),
            output,
            signal: Some(signal),
            ended,
        }
    }

    async fn say(&self, message: Value) {
        let line = Input::Line(Bytes::from(message.to_string()));
        self.input.as_ref().unwrap().send(line).await.unwrap();
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(WAIT, self.output.recv())
            .await
            .unwrap()
            .unwrap();
        assert!(!line.contains(&b'\n'));
        serde_json::from_slice(&line).unwrap()
    }

    /// Closes the input and waits for the end; what was still written comes back.
    async fn finish(mut self) -> Vec<Value> {
        drop(self.input.take());
        let mut rest = Vec::new();
        while let Some(line) = tokio::time::timeout(WAIT, self.output.recv())
            .await
            .unwrap()
        {
            rest.push(serde_json::from_slice(&line).unwrap());
        }
        self.ended.await.unwrap();
        rest
    }

    async fn initialize(&mut self) {
        self.say(initialize()).await;
        assert_eq!(self.hear().await["id"], 0);
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
            .await;
    }
}

fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "t", "version": "1" } } })
}

fn call(id: impl Into<Value>) -> Value {
    let id = id.into();
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": "echo" } })
}

fn modern(id: impl Into<Value>, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

fn result(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// A legacy server: one session, no stream of its own.
fn legacy(seen: &Seen) -> Reply {
    let id = &seen.body["id"];
    match (seen.method.as_str(), seen.body["method"].as_str()) {
        ("GET", _) => Reply::status(405),
        ("DELETE", _) => Reply::status(200),
        (_, Some("initialize")) => json_reply(&result(
            id,
            json!({
            "protocolVersion": "2025-11-25", "capabilities": {},
            "serverInfo": { "name": "s", "version": "1" } }),
        ))
        .with("mcp-session-id", "s1"),
        (_, Some("tools/call")) => json_reply(&result(id, json!({ "content": [] }))),
        _ => Reply::status(202),
    }
}

#[tokio::test]
async fn a_legacy_session_from_beginning_to_end() {
    let fake = Fake::start(legacy).await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call("a")).await;
    assert_eq!(running.hear().await["id"], "a");
    assert_eq!(running.finish().await, [] as [Value; 0]);

    let opened = fake.seen("POST", "/v1/tasks");
    assert_eq!(opened[0].body["template"], "read-notes");
    assert_eq!(opened[0].body["parameters"], json!({ "folder": "a=b" }));
    let posts = fake.seen("POST", "/mcp/files");
    assert_eq!(posts[0].header("mcp-session-id"), None);
    assert_eq!(posts[0].header("mcp-protocol-version"), None);
    for later in &posts[1..] {
        assert_eq!(later.header("mcp-session-id"), Some("s1"));
        assert_eq!(later.header("mcp-protocol-version"), Some("2025-11-25"));
    }
    let tokens = fake.seen("POST", "/oauth/token");
    let for_calls = tokens
        .iter()
        .filter(|seen| seen.text.contains("%2Fmcp%2Ffiles"))
        .count();
    assert_eq!(for_calls, 1, "a token is used while it is good");
    assert_eq!(fake.seen("GET", "/mcp/files").len(), 1, "405 is final");
    assert_eq!(
        fake.seen("DELETE", "/mcp/files")[0].header("mcp-session-id"),
        Some("s1")
    );
    assert_eq!(
        fake.seen("POST", &format!("/v1/tasks/{TASK}/complete"))
            .len(),
        1
    );
}

#[tokio::test]
async fn messages_that_were_piped_in_are_answered_before_the_end() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/call") => legacy(seen).after(Duration::from_millis(300)),
        _ => legacy(seen),
    })
    .await;
    let running = Running::start(&fake).await;
    running.say(initialize()).await;
    running
        .say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
        .await;
    running.say(call(1)).await;
    running.say(call(2)).await;
    let mut ids: Vec<_> = running
        .finish()
        .await
        .iter()
        .map(|m| m["id"].as_u64())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [Some(0), Some(1), Some(2)]);
}

#[tokio::test]
async fn requests_run_side_by_side() {
    let fake = Fake::start(|seen| match seen.body["id"].as_str() {
        Some("slow") => legacy(seen).after(Duration::from_secs(2)),
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call("slow")).await;
    running.say(call("fast")).await;
    assert_eq!(running.hear().await["id"], "fast");
    assert_eq!(running.hear().await["id"], "slow");
    running.say(call("slow")).await;
    running.say(call("slow")).await;
    let refused = running.hear().await;
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("under way")
    );
    running.finish().await;
}

#[tokio::test]
async fn a_stream_brings_everything_and_the_servers_requests_are_answered() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/call") => events(&[
            event(
                None,
                &json!({ "jsonrpc": "2.0", "method": "notifications/progress" }),
            ),
            event(
                None,
                &json!({ "jsonrpc": "2.0", "id": 7, "method": "roots/list" }),
            ),
            event(None, &result(&seen.body["id"], json!({ "content": [] }))),
        ]),
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    // The same id as the server's request, which is another thing.
    running.say(call(7)).await;
    assert_eq!(running.hear().await["method"], "notifications/progress");
    assert_eq!(running.hear().await["method"], "roots/list");
    assert!(running.hear().await["result"].is_object());
    running.say(result(&json!(7), json!({ "roots": [] }))).await;
    running.finish().await;
    let posts = fake.seen("POST", "/mcp/files");
    assert_eq!(posts.last().unwrap().body["result"], json!({ "roots": [] }));
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_again() {
    let fake = Fake::start(
        |seen| match (seen.method.as_str(), seen.header("last-event-id")) {
            ("GET", Some("e1")) => events(&[event(
                Some("e2"),
                &result(&json!(1), json!({ "content": [] })),
            )]),
            ("GET", _) => Reply::status(405),
            _ if seen.body["method"] == "tools/call" => {
                events(&["id: e1\nretry: 10\ndata: \n\n".to_owned()])
            }
            _ => legacy(seen),
        },
    )
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    assert_eq!(
        running.hear().await,
        result(&json!(1), json!({ "content": [] }))
    );
    running.finish().await;
}

#[tokio::test]
async fn a_stream_that_ends_without_an_answer_is_told() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/call") => events(&[]),
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    let answer = running.hear().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(502))
    );
    running.finish().await;
}

#[tokio::test]
async fn the_servers_own_stream_is_listened_to_and_found_again() {
    let fake = Fake::start(
        |seen| match (seen.method.as_str(), seen.header("last-event-id")) {
            ("GET", None) => events(&[
                "retry: 10\n\n".to_owned(),
                event(Some("e1"), &json!({ "jsonrpc": "2.0", "method": "one" })),
            ]),
            ("GET", Some("e1")) => events(&[event(
                Some("e2"),
                &json!({ "jsonrpc": "2.0", "method": "two" }),
            )]),
            ("GET", _) => Reply::Hang,
            _ => legacy(seen),
        },
    )
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    assert_eq!(running.hear().await["method"], "one");
    assert_eq!(running.hear().await["method"], "two");
    running.finish().await;
    assert_eq!(
        fake.seen("GET", "/mcp/files")[0].header("mcp-session-id"),
        Some("s1")
    );
}

#[tokio::test]
async fn a_lost_session_is_replaced() {
    let fake =
        Fake::start(
            |seen| match (seen.body["method"].as_str(), seen.header("mcp-session-id")) {
                (Some("initialize"), _) if seen.earlier > 0 => {
                    legacy(seen).with("mcp-session-id", "s2")
                }
                (Some("tools/call"), Some("s1")) => Reply::status(404),
                _ => legacy(seen),
            },
        )
        .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    // The client sees its answer and no second one to `initialize`.
    assert_eq!(
        running.hear().await,
        result(&json!(1), json!({ "content": [] }))
    );
    assert_eq!(running.finish().await, [] as [Value; 0]);
    let methods: Vec<_> = fake
        .seen("POST", "/mcp/files")
        .iter()
        .map(|seen| seen.body["method"].as_str().unwrap().to_owned())
        .collect();
    let init = ["initialize", "notifications/initialized"];
    assert_eq!(
        methods,
        [&init[..], &["tools/call"], &init[..], &["tools/call"]].concat()
    );
    assert_eq!(
        fake.seen("DELETE", "/mcp/files")[0].header("mcp-session-id"),
        Some("s2")
    );
}

#[tokio::test]
async fn a_session_that_cannot_be_replaced_is_told() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("initialize") if seen.earlier > 0 => Reply::status(500),
        Some("tools/call") => Reply::status(404),
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    let answer = running.hear().await;
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(1), &json!(404))
    );
    running.finish().await;
}

#[tokio::test]
async fn a_stateless_request_has_its_headers_and_no_session() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/list") => json_reply(&result(
            &seen.body["id"],
            json!({ "tools": [{
            "name": "sql", "inputSchema": { "type": "object", "properties": {
                "region": { "type": "string", "x-mcp-header": "Region" } } } }] }),
        )),
        _ => json_reply(&result(&seen.body["id"], json!({ "content": [] }))),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.say(modern("l", "tools/list", json!({}))).await;
    running.hear().await;
    let params = json!({ "name": "sql", "arguments": { "region": "eu" } });
    running.say(modern("c", "tools/call", params)).await;
    assert_eq!(running.hear().await["id"], "c");
    running.finish().await;
    let called = &fake.seen("POST", "/mcp/files")[1];
    assert_eq!(called.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(called.header("mcp-method"), Some("tools/call"));
    assert_eq!(called.header("mcp-name"), Some("sql"));
    assert_eq!(called.header("mcp-param-region"), Some("eu"));
    assert_eq!(called.header("mcp-session-id"), None);
    assert!(fake.seen("GET", "/mcp/files").is_empty());
    assert!(fake.seen("DELETE", "/mcp/files").is_empty());
}

#[tokio::test]
async fn cancelling_a_stateless_request_closes_its_connection() {
    let fake = Fake::start(|_| Reply::Hang).await;
    let running = Running::start(&fake).await;
    running
        .say(modern(1, "tools/call", json!({ "name": "slow" })))
        .await;
    fake.wait_for("POST", "/mcp/files", 1).await;
    let cancelled = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": 1 } });
    running.say(cancelled).await;
    fake.wait_for_hang_up().await;
    assert_eq!(
        running.finish().await,
        [] as [Value; 0],
        "no answer to what was cancelled"
    );
    assert_eq!(
        fake.seen("POST", "/mcp/files").len(),
        1,
        "the cancellation itself is not sent"
    );
}

#[tokio::test]
async fn cancelling_a_legacy_request_is_told_to_the_server() {
    let fake = Fake::start(|seen| match seen.body["method"].as_str() {
        Some("tools/call") => legacy(seen).after(Duration::from_millis(500)),
        _ => legacy(seen),
    })
    .await;
    let mut running = Running::start(&fake).await;
    running.initialize().await;
    running.say(call(1)).await;
    running
        .say(
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": { "requestId": 1 } }),
        )
        .await;
    assert_eq!(running.hear().await["id"], 1);
    running.finish().await;
    let posts = fake.seen("POST", "/mcp/files");
    assert!(
        posts
            .iter()
            .any(|seen| seen.body["method"] == "notifications/cancelled")
    );
}
