//! Responses: the kill switch, playbooks and blast radii, against a real upstream and under load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::support::agent::{Agent, Token};
use crate::support::http::Call;
use crate::support::{Gateway, Setup, requests};

mod kill_switch;
mod playbooks;
mod reach;

const ROUTES: &str = r#"
segment = "core"
[servers.crm.http]
routes = ["GET /tag/{n}", "GET /stream", "GET /other", "GET /secret"]
"#;

const CLERK: &str = r#"
description = "Look after customers"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { calls = 1000000 }

[[allow]]
server = "crm"
endpoints = ["GET /tag/{n}", "GET /stream", "GET /other"]
"#;

/// An HTTP server of the test's own: it keeps what it is asked, and answers or streams.
struct Listening {
    url: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Listening {
    /// With this called for each request, before it is answered.
    async fn start(each: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let (keep, each) = (Arc::clone(&seen), Arc::new(each));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&keep), Arc::clone(&each)));
            }
        });
        Self { url, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests had this in their first line.
    fn asked(&self, what: &str) -> usize {
        let first = |it: &String| it.lines().next().unwrap_or_default().contains(what);
        self.seen().iter().filter(|it| first(it)).count()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    each: Arc<impl Fn(&str) + Send + Sync>,
) {
    while let Some(request) = requests::next(&mut stream).await {
        let request = String::from_utf8_lossy(&request).into_owned();
        each(&request);
        let streams = request.starts_with("GET /stream");
        seen.lock().unwrap().push(request);
        if streams {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut sent = stream.write_all(head.as_bytes()).await;
            while sent.is_ok() {
                sent = stream.write_all(b"6\r\nmore \n\r\n").await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            return;
        }
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

struct Desk {
    gateway: Gateway,
    upstream: Listening,
}

impl Desk {
    /// A gateway in front of an API, with more in its configuration.
    async fn start(more: &str) -> Self {
        let upstream = Listening::start(|_| {}).await;
        let gateway = Setup::new()
            .server("crm", "http", &upstream.url)
            .and(ROUTES)
            .and(more)
            .template("clerk", CLERK)
            .start()
            .await;
        Self { gateway, upstream }
    }

    /// An agent of a segment, with a task and a token.
    async fn clerk(&self, name: &str, segment: &str) -> (Agent, String, Token) {
        let body = json!({ "name": name, "sponsor": "ada@example.org", "segment": segment });
        self.gateway.managed("POST", "/v1/agents", body).await;
        let agent = self.gateway.instance(name).await;
        let task = agent.open_task("clerk", json!({})).await;
        let token = agent.token_of_kind("http", "crm", &task, false).await;
        (agent, task, token)
    }

    /// Runs a command that must succeed.
    fn must(&self, arguments: &[&str]) -> String {
        let output = self.gateway.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {text}{error}");
        text
    }
}

async fn get(agent: &Agent, token: &Token, rest: &str) -> u16 {
    let call = Call::get(&format!("{}{rest}", token.resource));
    agent
        .authorise(call, token)
        .send()
        .await
        .map_or(0, |it| it.status)
}
