//! The forward proxy: real clients that know nothing but HTTPS_PROXY, and attackers that write every byte.

mod callers;
mod clients;
mod ends;
mod targets;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::{Answer, Call};
use crate::support::tunnels::{self, Api, Pki, answer, encrypt, head, send};
use crate::support::{Gateway, SALLYPORT, Setup, free_address};

const ROUTES: &str = r#"routes = [
  "GET /customers/{id}", "POST /orders", "GET /count", "GET /stream", "GET /away", "GET /here",
  "WEBSOCKET /feed", "DELETE /customers/{id}",
]
redact = { "GET /customers/{id}" = ["$.ssn", "$..card"] }
"#;

const CLERK: &str = r#"
description = "Look after one customer"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { calls = 1000, bytes = 200000 }

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}"]
arguments = { "path.id" = { equals = "${customer}" } }
other_arguments = "allow"

[[allow]]
server = "crm"
endpoints = ["GET /count", "GET /stream", "GET /away", "GET /here", "WEBSOCKET /feed"]

[[allow]]
server = "clear"
endpoints = ["GET /customers/{id}", "GET /count"]

# Every endpoint, by whatever name: still no tunnel that nobody looks into.
[[allow]]
server = "narrow"
endpoints = ["*"]

[[allow]]
server = "opaque"
connect = true
"#;

/// A gateway with a proxy in front of: `crm`, looked into; `clear`, without TLS; `opaque` and `narrow`, not
/// looked into; `hidden`, which no template grants.
struct Desk {
    gateway: Gateway,
    agent: Agent,
    /// The address of the proxy, and its URL.
    proxy: String,
    url: String,
    pki: Pki,
    crm: Api,
    clear: Api,
    opaque: Api,
    narrow: Api,
    hidden: Api,
    /// How often each API was asked what it has seen, by its port.
    asked: Mutex<BTreeMap<u16, u64>>,
}

impl Desk {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        Self::at(Pki::new(), free_address(), "http", more).await
    }

    /// One whose proxy speaks TLS.
    async fn encrypted() -> Self {
        let (pki, address) = (Pki::new(), free_address());
        let [cert, key] = pki.identity();
        let more = format!(
            "public_url = \"https://localhost:{}\"\ntls = {{ cert = {cert:?}, key = {key:?} }}\n",
            address.port()
        );
        Self::at(pki, address, "https", &more).await
    }

    async fn at(pki: Pki, proxy: SocketAddr, scheme: &str, more: &str) -> Self {
        let [crm, opaque, narrow, hidden] = [(); 4].map(|()| Api::secure(&pki));
        let clear = Api::clear();
        let ca = format!("ca = {:?}", pki.authority());
        let url = |api: &Api| format!("https://localhost:{}/v1", api.port);
        let mut setup = Setup::new();
        for (name, api, inspect) in [
            ("crm", &crm, true),
            ("opaque", &opaque, false),
            ("narrow", &narrow, false),
            ("hidden", &hidden, true),
        ] {
            setup = setup.server(name, "http", &url(api)).and(&ca);
            setup = setup.and(&format!(
                "[servers.{name}.http]\n{ROUTES}inspect = {inspect}"
            ));
            if name == "crm" {
                setup = setup.and("call_token = {}");
            }
        }
        let gateway = setup
            .server(
                "clear",
                "http",
                &format!("http://127.0.0.1:{}/v1", clear.port),
            )
            // The APIs say which credential reached them.
            .and(&format!(
                "[servers.clear.http]\n{ROUTES}[inspection]\nsecrets = \"ignore\"\n"
            ))
            .and(&format!("[proxy]\nlisten = \"{proxy}\"\n{more}"))
            .template("clerk", CLERK)
            .start()
            .await;
        Self {
            agent: gateway.agent("clerk-1").await,
            gateway,
            url: match scheme {
                "https" => format!("https://localhost:{}", proxy.port()),
                _ => format!("http://{proxy}"),
            },
            proxy: proxy.to_string(),
            pki,
            crm,
            clear,
            opaque,
            narrow,
            hidden,
            asked: Mutex::default(),
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }

    async fn task(&self) -> String {
        self.agent
            .open_task("clerk", json!({ "customer": "7" }))
            .await
    }

    /// A token for the proxy, as a bearer token or bound to the agent's key.
    async fn token(&self, task: &str, dpop: bool) -> String {
        let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
        let url = self.url();
        let fields = [
            ("resource", url.as_str()),
            ("authorization_details", &details),
        ];
        let answer = self.agent.ask_token(&fields, dpop).await;
        assert!(answer.is_success(), "{answer:?}");
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// The certificate of a task's authority.
    async fn authority(&self, token: &str) -> Answer {
        Call::get(&format!("{}/ca.pem", self.url()))
            .header("authorization", &format!("Bearer {token}"))
            .send()
            .await
            .unwrap()
    }

    /// Opens a tunnel; the head of the answer, and the connection.
    fn connect(&self, target: &str, token: &str) -> (tunnels::Head, TcpStream) {
        let request = format!(
            "CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nproxy-authorization: {}\r\n\r\n",
            basic("agent", token)
        );
        let mut stream = send(&self.proxy, request.as_bytes());
        (head(&mut stream), stream)
    }

    /// How many requests an API has seen besides this question, asked directly.
    fn seen(&self, api: &Api) -> u64 {
        let asked = *self
            .asked
            .lock()
            .unwrap()
            .entry(api.port)
            .and_modify(|times| *times += 1)
            .or_insert(1);
        let stream = TcpStream::connect(("127.0.0.1", api.port)).unwrap();
        let request = "GET /v1/count HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let (_, body) = if api.port == self.clear.port {
            let mut stream = stream;
            stream.write_all(request.as_bytes()).unwrap();
            answer(&mut stream)
        } else {
            let trusted = std::fs::read(self.pki.authority()).unwrap();
            let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            answer(&mut stream)
        };
        let count: Value = serde_json::from_str(&body).unwrap();
        count["count"].as_u64().unwrap() - asked
    }

    /// Runs a program behind `sallyport connect proxy`.
    fn behind_proxy(&self, program: &[&str], input: &str) -> std::process::Output {
        self.behind_proxy_with(&[], program, input)
    }

    fn behind_proxy_with(
        &self,
        arguments: &[&str],
        program: &[&str],
        input: &str,
    ) -> std::process::Output {
        let mut child = Command::new(SALLYPORT)
            .args(["connect", "proxy", "--template", "clerk"])
            .args(["--param", "customer=7", "--instance"])
            .arg(self.agent.folder())
            .args(arguments)
            .arg("--")
            .args(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that does not read is none of these.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    fn intents(&self, target: &str) -> Vec<Value> {
        let mut records = self.gateway.records();
        records.retain(|record| record["event"] == "intent" && record["target"] == target);
        records
    }
}

fn basic(user: &str, token: &str) -> String {
    let pair = format!("{user}:{token}");
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}

fn local(api: &Api) -> String {
    format!("localhost:{}", api.port)
}
