//! WebSockets, with a client and a server of other people on the two sides.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::{Setup, packages};

const ROUTES: &str = "[servers.feed.http]\nroutes = [\"WEBSOCKET /talk\"]\n";

const LISTENER: &str = r#"
description = "Follow the feed"
agents = ["*"]
ttl = "10m"
proof = "bearer"

[[allow]]
server = "feed"
endpoints = ["WEBSOCKET /talk"]
"#;

/// A program that is driven line by line; it ends with this.
struct Driven {
    program: Program,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Driven {
    fn start(script: &str) -> Self {
        let python = packages::install("web").join("venv/bin/python");
        let mut command = Command::new(python);
        command
            .arg(packages::folder("web").join(script))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut program = Program::start(&mut command);
        let lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
        Self { program, lines }
    }

    fn tell(&mut self, line: &Value) {
        writeln!(self.program.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("it says something").unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_carries_both_ways_until_the_task_is_revoked() {
    let mut server = Driven::start("socket_server.py");
    let url = format!("http://127.0.0.1:{}", server.line());
    let gateway = Setup::new()
        .server("feed", "http", &url)
        .and(ROUTES)
        .template("listener", LISTENER)
        .start()
        .await;
    let agent = gateway.agent("listener-1").await;
    let task = agent.open_task("listener", json!({})).await;
    let token = agent.token_of_kind("http", "feed", &task, false).await;
    let url = format!("{}/talk", token.resource.replace("http://", "ws://"));
    let mut client = Driven::start("socket_client.py");
    client.tell(&json!({ "url": url, "token": token.text }));
    assert_eq!(client.line(), "open");
    assert!(gateway.run(&["task", "revoke", &task]).status.success());
    let seen: Value = serde_json::from_str(&client.line()).unwrap();
    assert_eq!(seen["texts"], json!(["grüße"]));
    assert_eq!(seen["binary"], true);
    assert_eq!(seen["last"], "tick", "{seen}");
    // Cut, without the farewell that the server would have said.
    assert_eq!(seen["closed"], Value::Null, "{seen}");
    let records = gateway.records();
    let ended = records
        .iter()
        .find(|record| record["event"] == "result")
        .unwrap();
    assert_eq!(ended["ended"], "cut", "{ended}");
    gateway.verify();
}
