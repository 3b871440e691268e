//! The forward proxy: real clients that know nothing but HTTPS_PROXY, and attackers that write every byte.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::{Answer, Call};
use crate::support::tunnels::{self, Api, Pki, answer, encrypt, head, send};
use crate::support::{Gateway, SALLYPORT, Setup, free_address, packages};

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
            setup = setup.and(&format!("[servers.{name}.http]\n{ROUTES}inspect = {inspect}"));
            if name == "crm" {
                setup = setup.and("call_token = {}");
            }
        }
        let gateway = setup
            .server("clear", "http", &format!("http://127.0.0.1:{}/v1", clear.port))
            .and(&format!("[servers.clear.http]\n{ROUTES}"))
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

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_know_only_of_proxies_are_decided_request_by_request() {
    let desk = Desk::new().await;
    let home = packages::install("proxy");
    let folder = packages::folder("proxy");
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let python = vec![text(home.join("venv/bin/python")), text(folder.join("drive.py"))];
    let node = vec![
        text(home.join("node_modules/.bin/node")),
        text(folder.join("drive.mjs")),
        text(home.clone()),
    ];
    let crm = format!("https://{}/v1", local(&desk.crm));
    let clear = format!("http://127.0.0.1:{}/v1", desk.clear.port);
    for (client, program) in [
        ("requests", &python),
        ("httpx", &python),
        ("fetch", &node),
        ("undici", &node),
    ] {
        let plan = json!({ "client": client, "requests": [
            { "url": format!("{crm}/customers/7") },
            { "url": format!("{crm}/customers/8") },
            { "url": format!("{crm}/customers/7"), "method": "DELETE" },
            { "url": format!("https://{}/v1/customers/7", local(&desk.hidden)) },
            { "url": "https://example.invalid/" },
            { "url": format!("https://{}/v1/customers/7", local(&desk.narrow)) },
            { "url": format!("{clear}/customers/7") },
            { "url": format!("{clear}/stream") },
        ]});
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let output = desk.behind_proxy(&program, &plan.to_string());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{client}: {stderr}");
        let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let status = |index: usize| results[index]["status"].as_u64();
        let said = |index: usize| results[index].to_string();
        assert_eq!(status(0), Some(200), "{client}: {}", said(0));
        let body: Value = serde_json::from_str(results[0]["body"].as_str().unwrap()).unwrap();
        assert_eq!(body["ssn"], "(redacted)", "{client}");
        let headers = body["received"]["headers"].as_object().unwrap();
        let credential = headers["authorization"].as_str().unwrap();
        assert!(credential.starts_with("Bearer ey"), "{client}: {headers:?}");
        for gone in ["proxy-authorization", "dpop", "proxy-connection"] {
            assert!(!headers.contains_key(gone), "{client}: {headers:?}");
        }
        assert_eq!(status(1), Some(403), "{client}: {}", said(1));
        assert!(said(1).contains("argument_refused"), "{client}: {}", said(1));
        assert_eq!(status(2), Some(403), "{client}: {}", said(2));
        assert!(said(2).contains("not_granted"), "{client}: {}", said(2));
        // What the client makes of a refused CONNECT.
        for index in [3, 4, 5] {
            let error = results[index]["error"].as_str().unwrap_or_default();
            assert!(!error.is_empty(), "{client}: {}", said(index));
        }
        if client == "requests" {
            assert!(
                said(4).contains("403 the task grants no server at `example.invalid:443`"),
                "{}",
                said(4)
            );
            assert!(said(5).contains("an unseen tunnel"), "{}", said(5));
        }
        assert_eq!(status(6), Some(200), "{client}: {}", said(6));
        assert_eq!(status(7), Some(403), "{client}: {}", said(7));
    }
    assert_eq!(desk.seen(&desk.hidden), 0);
    assert_eq!(desk.seen(&desk.narrow), 0);
    assert_eq!(desk.seen(&desk.crm), 4);
    for record in desk.intents("GET /customers/{id}") {
        assert_eq!(record["proof"], "dpop", "{record}");
    }
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_and_websockets_go_through_it_and_exit_codes_come_back() {
    let desk = Desk::new().await;
    let home = packages::install("proxy");
    let crm = format!("https://{}/v1", local(&desk.crm));
    let curl = |url: &str, more: &[&str]| {
        let program = [&["curl", "-sS", "--fail-with-body"], more, &[url]].concat();
        desk.behind_proxy(&program, "")
    };
    let got = curl(&format!("{crm}/customers/7"), &[]);
    assert!(got.status.success(), "{got:?}");
    assert!(String::from_utf8_lossy(&got.stdout).contains("(redacted)"));
    let refused = curl(&format!("{crm}/customers/8"), &[]);
    assert_eq!(refused.status.code(), Some(22), "curl's own code: {refused:?}");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("argument_refused"));
    let redirected = curl(&format!("{crm}/here"), &["-L"]);
    assert!(redirected.status.success(), "{redirected:?}");
    assert!(String::from_utf8_lossy(&redirected.stdout).contains("/v1/customers/7?x=1"));
    let away = curl(&format!("{crm}/away"), &["-L"]);
    assert!(String::from_utf8_lossy(&away.stdout).contains("points elsewhere"), "{away:?}");
    // In the clear, as an absolute URL and through a tunnel.
    let clear = format!("http://127.0.0.1:{}/v1/customers/7", desk.clear.port);
    for more in [&[][..], &["--proxytunnel"]] {
        let got = curl(&clear, more);
        assert!(got.status.success(), "{more:?}: {got:?}");
    }
    let socket = json!({ "client": "websockets", "requests": [
        { "url": format!("wss://{}/v1/feed", local(&desk.crm)), "json": "ping" },
        { "url": format!("wss://{}/v1/count", local(&desk.crm)), "json": "ping" },
    ]});
    let python = home.join("venv/bin/python");
    let script = packages::folder("proxy").join("drive.py");
    let program = [python.to_str().unwrap(), script.to_str().unwrap()];
    let output = desk.behind_proxy(&program, &socket.to_string());
    let results: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    // The API sends back the very bytes that came, which is how a client must send and no server may.
    let echoed = results[0]["error"].as_str().unwrap();
    assert!(echoed.contains("incorrect masking"), "{results:?}");
    assert!(results[1]["error"].as_str().unwrap().contains("404"), "{results:?}");
    assert_eq!(desk.intents("WEBSOCKET /feed").len(), 1);
    let exit = desk.behind_proxy(&["sh", "-c", "exit 7"], "");
    assert_eq!(exit.status.code(), Some(7));
    let open: Vec<Value> = desk.gateway.run_json(&["task", "list", "--json"])["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    assert!(open.iter().all(|task| task["status"] != "open"), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_made_for_the_proxy() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let other = desk.task().await;
    let token = desk.token(&task, false).await;
    let target = local(&desk.crm);
    let with = |header: &str| {
        let request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{header}\r\n");
        head(&mut send(&desk.proxy, request.as_bytes()))
    };
    let show = |value: &str| with(&format!("proxy-authorization: {value}\r\n"));
    let none = with("");
    assert_eq!(none.status, 407, "{none:?}");
    let text = none.text.to_ascii_lowercase();
    for scheme in ["basic realm=", "bearer resource_metadata=", "dpop resource_metadata="] {
        assert!(text.contains(&format!("proxy-authenticate: {scheme}")), "{none:?}");
    }
    assert!(text.contains("connection: close"), "{none:?}");
    let metadata = Call::get(&format!("{}/.well-known/oauth-protected-resource", desk.url()));
    let metadata = metadata.send().await.unwrap().json();
    assert_eq!(metadata["resource"], desk.url());
    assert_eq!(metadata["authorization_servers"][0], desk.gateway.control);

    let server = desk.agent.token_of_kind("http", "crm", &task, false).await;
    for bad in [
        "Bearer x".to_owned(),
        basic("agent", "x"),
        // One for a server at the gateway, and one of a task that the user name does not name.
        format!("Bearer {}", server.text),
        basic(&other, &token),
    ] {
        assert_eq!(show(&bad).status, 407, "{bad}");
    }
    // And the other way round.
    let at_gateway = Call::get(&format!("{}/customers/7", server.resource))
        .header("authorization", &format!("Bearer {token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(at_gateway.status, 401);
    for good in [
        format!("Bearer {token}"),
        basic("", &token),
        basic("anyone", &token),
        basic(&task, &token),
    ] {
        assert_eq!(show(&good).status, 200, "{good}");
    }

    // Bound to the key: the proof is for this tunnel, and good once.
    let bound = desk.token(&task, true).await;
    let proved = |htu: &str, method: &str| {
        let proof = desk.agent.proof(method, &format!("{}/{htu}", desk.url()), Some(&bound));
        format!("proxy-authorization: DPoP {bound}\r\ndpop: {proof}\r\n")
    };
    assert_eq!(show(&format!("Bearer {bound}")).status, 407);
    assert_eq!(show(&basic("agent", &bound)).status, 407);
    assert_eq!(show(&format!("DPoP {bound}")).status, 407);
    assert_eq!(with(&proved(&local(&desk.hidden), "CONNECT")).status, 407);
    assert_eq!(with(&proved(&target, "GET")).status, 407);
    let once = proved(&target, "CONNECT");
    assert_eq!(with(&once).status, 200);
    assert_eq!(with(&once).status, 407, "a proof is good once");
    assert_eq!(desk.seen(&desk.crm), 0);
    let clear = format!("127.0.0.1:{}", desk.clear.port);
    let request = format!("GET http://{clear}/v1/count HTTP/1.1\r\nhost: {clear}\r\n\r\n");
    assert_eq!(head(&mut send(&desk.proxy, request.as_bytes())).status, 407);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_two_could_read_differently_lead_nowhere() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let port = desk.crm.port;
    let auth = format!("proxy-authorization: Bearer {token}\r\n");
    let status = |line: &str, more: &str| {
        let request = format!("{line}\r\n{auth}{more}\r\n");
        head(&mut send(&desk.proxy, request.as_bytes())).status
    };
    let host = format!("host: localhost:{port}\r\n");
    for target in [
        format!("localhost.:{port}"),
        format!("agent@localhost:{port}"),
        format!("localhost:{port}@evil.example:443"),
        format!("localhost:0{port}"),
        format!("localhost:{port}/"),
        format!("localhost%2e:{port}"),
        format!("http://localhost:{port}/"),
        format!("/localhost:{port}"),
        "localhost".to_owned(),
        format!("127.1:{port}"),
        format!("0x7f000001:{port}"),
        format!("[::ffff:127.0.0.1%25lo]:{port}"),
        format!("loc\u{430}lhost:{port}"),
        "*".to_owned(),
    ] {
        let status = status(&format!("CONNECT {target} HTTP/1.1"), &host);
        assert!(matches!(status, 400 | 404 | 421), "{target}: {status}");
    }
    // Names that mean this machine to the resolver, but are not the one in the configuration.
    for target in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("localhost.localdomain:{port}"),
        "169.254.169.254:80".to_owned(),
        desk.gateway.control.replace("http://", ""),
        format!("localhost:{}", desk.hidden.port),
    ] {
        let line = format!("CONNECT {target} HTTP/1.1");
        assert_eq!(status(&line, &format!("host: {target}\r\n")), 403, "{target}");
    }
    let good = format!("CONNECT LocalHost:{port} HTTP/1.1");
    assert_eq!(status(&good, &host), 200, "case means nothing");
    let old = format!("CONNECT localhost:{port} HTTP/1.0");
    assert_eq!(status(&old, ""), 200, "old clients send no Host");
    for more in [
        "host: evil.example\r\n".to_owned(),
        format!("host: localhost:{port}\r\nhost: evil.example\r\n"),
        String::new(),
    ] {
        assert_eq!(status(&good, &more), 421, "{more}");
    }
    for more in [
        "content-length: 4\r\n",
        "transfer-encoding: chunked\r\n",
        "upgrade: websocket\r\nconnection: upgrade\r\n",
    ] {
        assert_eq!(status(&good, &format!("{host}{more}")), 400, "{more}");
    }
    let clear = format!("localhost:{}", desk.clear.port);
    for line in [
        format!("GET http://{clear}/v1/count HTTP/1.1"),
        format!("GET http://localhost:{port}/v1/count HTTP/1.1"),
    ] {
        let host = line.split(['/', ' ']).nth(3).unwrap().to_owned();
        let status = status(&line, &format!("host: {host}\r\n"));
        assert_eq!(status, 403, "{line}: not by that name, nor without TLS");
    }
    assert_eq!(status(&format!("GET https://localhost:{port}/v1/count HTTP/1.1"), &host), 400);
    assert_eq!(desk.seen(&desk.crm) + desk.seen(&desk.hidden), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_connect_belongs_to_the_tunnel_or_to_nobody() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let auth = format!("proxy-authorization: Bearer {token}\r\n");
    let clear = format!("127.0.0.1:{}", desk.clear.port);
    let behind = format!("GET http://{clear}/v1/count HTTP/1.1\r\nhost: {clear}\r\n{auth}\r\n");
    for refused in [local(&desk.hidden), local(&desk.narrow)] {
        let request = format!("CONNECT {refused} HTTP/1.1\r\nhost: {refused}\r\n{auth}\r\n{behind}");
        let mut stream = send(&desk.proxy, request.as_bytes());
        let mut all = String::new();
        let _ = stream.read_to_string(&mut all);
        assert!(all.starts_with("HTTP/1.1 403"), "{all}");
        assert_eq!(all.matches("HTTP/1.1").count(), 1, "one answer, then the end: {all}");
    }
    assert_eq!(desk.seen(&desk.clear), 0);
    // Behind one that is opened, the same bytes are a request inside, which names a path and nothing else.
    let request = format!("CONNECT {clear} HTTP/1.1\r\nhost: {clear}\r\n{auth}\r\n{behind}");
    let mut stream = send(&desk.proxy, request.as_bytes());
    assert_eq!(head(&mut stream).status, 200);
    assert_eq!(answer(&mut stream).0, 400);
    assert_eq!(desk.seen(&desk.clear), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_looked_into_is_for_one_host_and_one_task() {
    let desk = Desk::new().await;
    let (mine, theirs) = (desk.task().await, desk.task().await);
    let (token, foreign) = (desk.token(&mine, false).await, desk.token(&theirs, false).await);
    let trusted = desk.authority(&token).await;
    assert_eq!(trusted.header("content-type"), "application/x-pem-file");
    let others = desk.authority(&foreign).await;
    assert_ne!(trusted.body, others.body);
    let target = local(&desk.crm);
    // The authority of another task, and the API's own, are not trusted for this one.
    for (token, roots) in [
        (&foreign, &trusted.body[..]),
        (&token, &others.body[..]),
        (&token, &std::fs::read(desk.pki.authority()).unwrap()[..]),
    ] {
        let (_, stream) = desk.connect(&target, token);
        assert!(encrypt(stream, roots, "localhost").is_err());
    }
    // TLS for another host.
    let (_, stream) = desk.connect(&target, &token);
    assert!(encrypt(stream, &trusted.body, "evil.example").is_err());
    let (_, mut stream) = desk.connect(&target, &token);
    stream.write_all(b"GET /v1/count HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));

    let ask = |line: &str, headers: &str| {
        let (opened, stream) = desk.connect(&target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, &trusted.body, "localhost").unwrap();
        write!(stream, "{line} HTTP/1.1\r\n{headers}\r\n").unwrap();
        answer(&mut stream)
    };
    let host = format!("host: {target}\r\n");
    for (line, headers, expected) in [
        ("GET /v1/count", "host: evil.example\r\n".to_owned(), 421),
        ("GET /v1/count", "host: localhost\r\n".to_owned(), 421),
        ("GET /v1/count", format!("{host}{host}"), 421),
        ("GET http://evil.example/v1/count", host.clone(), 400),
        ("GET https://localhost/v1/count", host.clone(), 400),
        ("CONNECT evil.example:443", host.clone(), 400),
        ("GET /count", host.clone(), 404),
        ("GET /v2/count", host.clone(), 404),
        ("GET /v1/../v1/count", host.clone(), 400),
        ("GET /%76%31/count", host.clone(), 404),
        ("GET //v1/count", host.clone(), 404),
        ("GET /v1/Count", host.clone(), 400),
        ("DELETE /v1/customers/7", host.clone(), 403),
        ("GET /v1/count", host.clone(), 200),
    ] {
        let (status, body) = ask(line, &headers);
        assert_eq!(status, expected, "{line} {headers}: {body}");
    }
    assert_eq!(desk.seen(&desk.crm), 1);
    // Two requests behind each other in one tunnel are two decisions.
    let (_, stream) = desk.connect(&target, &token);
    let mut stream = encrypt(stream, &trusted.body, "localhost").unwrap();
    write!(stream, "GET /v1/customers/7 HTTP/1.1\r\n{host}\r\nGET /v1/customers/8 HTTP/1.1\r\n{host}\r\n").unwrap();
    assert_eq!(answer(&mut stream).0, 200);
    assert_eq!(answer(&mut stream).0, 403);
}

/// Python's own client: CONNECT of HTTP/1.0 without a Host, and a verifier that demands all of RFC 5280.
const STRICT: &str = r#"
import base64, http.client, json, ssl, sys
proxy, port, token, authority = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
context.verify_flags |= ssl.VERIFY_X509_STRICT
client = http.client.HTTPSConnection(proxy, context=context)
basic = base64.b64encode(f"agent:{token}".encode()).decode()
client.set_tunnel("localhost", int(port), {"Proxy-Authorization": f"Basic {basic}"})
client.request("GET", "/v1/customers/7")
print(json.load(client.getresponse())["ssn"])
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_verifier_takes_the_certificate_of_the_task() {
    let desk = Desk::new().await;
    let token = desk.token(&desk.task().await, false).await;
    let file = desk.gateway.dir().join("task-ca.pem");
    std::fs::write(&file, desk.authority(&token).await.body).unwrap();
    let output = Command::new("python3")
        .args(["-c", STRICT, &desk.proxy, &desk.crm.port.to_string(), &token])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "(redacted)", "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_tunnel_is_one_action_to_its_own_host_whose_bytes_count() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let target = local(&desk.opaque);
    let (refused, _) = desk.connect(&local(&desk.narrow), &token);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.text.contains("an unseen tunnel"), "{refused:?}");

    // The certificate is the API's own, and it sees nothing of the proxy's token.
    let (opened, stream) = desk.connect(&target, &token);
    assert_eq!(opened.status, 200, "{opened:?}");
    let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
    let host = format!("host: {target}\r\n");
    write!(stream, "GET /v1/anything/at/all HTTP/1.1\r\n{host}connection: close\r\n\r\n").unwrap();
    let (status, body) = answer(&mut stream);
    assert_eq!(status, 200);
    assert!(!body.contains(&token) && !body.contains("proxy-authorization"));
    drop(stream);

    // Not TLS, or TLS for somebody else: nothing reaches the API.
    let seen = desk.seen(&desk.opaque);
    let (_, stream) = desk.connect(&target, &token);
    assert!(encrypt(stream, &trusted, "evil.example").is_err());
    let (_, mut stream) = desk.connect(&target, &token);
    stream.write_all(b"GET /v1/count HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert_eq!(desk.seen(&desk.opaque), seen);

    // More bytes than the task has: cut in the middle.
    let (_, stream) = desk.connect(&target, &token);
    let mut stream = encrypt(stream, &trusted, "localhost").unwrap();
    write!(stream, "GET /v1/flood HTTP/1.1\r\n{host}\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.len() < 200_000, "{}", rest.len());
    let (over, _) = desk.connect(&target, &token);
    assert_eq!(over.status, 429, "{over:?}");
    let records = desk.gateway.records();
    let result = |by: &str| {
        let mut results = records.iter().filter(|record| record["event"] == "result");
        results
            .find(|record| record["notes"]["ended_by"] == by)
            .unwrap_or_else(|| panic!("no result ended by {by}"))
    };
    let cut = result("budget");
    assert_eq!(cut["ended"], "cut");
    assert!(cut["spent"]["bytes"].as_u64().unwrap() > 100_000, "{cut}");
    assert_eq!(result("first message")["ended"], "not_forwarded");
    let permitted = desk.intents(&target);
    assert!(permitted.iter().filter(|record| record["permitted"] == true).count() >= 4);
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_closes_tunnels_of_both_kinds_and_what_streams_in_them() {
    let desk = Desk::new().await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let authority = desk.authority(&token).await.body;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let mut open = Vec::new();
    for (api, roots) in [(&desk.crm, &authority[..]), (&desk.opaque, &trusted[..])] {
        let target = local(api);
        let (_, stream) = desk.connect(&target, &token);
        let mut stream = encrypt(stream, roots, "localhost").unwrap();
        write!(stream, "GET /v1/stream HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        let mut some = [0; 200];
        stream.read_exact(&mut some).unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&some));
        open.push(stream);
    }
    // Opened, and nothing said inside yet.
    let (_, mut silent) = desk.connect(&local(&desk.crm), &token);
    assert!(desk.gateway.run(&["task", "revoke", &task]).status.success());
    for mut stream in open {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let (after, _) = desk.connect(&local(&desk.crm), &token);
    assert!(matches!(after.status, 403 | 407), "{after:?}");
    assert!(matches!(desk.authority(&token).await.status, 403 | 407));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_its_task() {
    let desk = Desk::new().await;
    let body = json!({ "template": "clerk", "parameters": { "customer": "7" }, "ttl_seconds": 4 });
    let opened = desk.agent.manage("/v1/tasks", &body).await;
    let task = opened.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(opened.json()["proxy"], desk.url());
    let token = desk.token(&task, false).await;
    let authority = desk.authority(&token).await.body;
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let opened = [(&desk.crm, &authority[..]), (&desk.opaque, &trusted[..])].map(|(api, roots)| {
        let target = local(api);
        let (opened, stream) = desk.connect(&target, &token);
        assert_eq!(opened.status, 200, "{opened:?}");
        let mut stream = encrypt(stream, roots, "localhost").unwrap();
        write!(stream, "GET /v1/stream HTTP/1.1\r\nhost: {target}\r\n\r\n").unwrap();
        stream
    });
    for mut stream in opened {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.starts_with(b"HTTP/1.1 200") && !all.ends_with(b"0\r\n\r\n"));
    }
    let (after, _) = desk.connect(&local(&desk.crm), &token);
    assert!(matches!(after.status, 403 | 407), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_proxy_is_encrypted_where_it_must_be() {
    let desk = Desk::encrypted().await;
    let authority = desk.pki.authority();
    let url = format!("https://{}/v1/customers/7", local(&desk.crm));
    let output = desk.behind_proxy_with(
        &["--ca", authority.to_str().unwrap()],
        &["curl", "-sS", "--fail-with-body", &url],
        "",
    );
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("(redacted)"));
    // Without the authority that its certificate is of, nothing is sent there.
    let output = desk.behind_proxy(&["curl", "-sS", &url], "");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the gateway"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_are_bounded_in_number_and_in_silence() {
    let desk = Desk::with("idle_seconds = 2\n[limits]\nstreams_per_task = 3\n").await;
    let task = desk.task().await;
    let token = desk.token(&task, false).await;
    let target = local(&desk.opaque);
    let trusted = std::fs::read(desk.pki.authority()).unwrap();
    let mut open: Vec<TcpStream> = (0..3)
        .map(|_| {
            let (opened, stream) = desk.connect(&target, &token);
            assert_eq!(opened.status, 200, "{opened:?}");
            stream
        })
        .collect();
    let (flood, _) = desk.connect(&target, &token);
    assert_eq!(flood.status, 429, "{flood:?}");
    let other = desk.token(&desk.task().await, false).await;
    assert_eq!(desk.connect(&target, &other).0.status, 200, "another task has its own");
    // One that is closed makes room; half of one does not keep the other half open for good.
    drop(open.pop());
    let half = open.pop().unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    drop(half);
    let mut last = open.pop().unwrap();
    let mut stream = encrypt(&mut last, &trusted, "localhost").unwrap();
    // Silent from here on, on both sides.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let (again, _) = desk.connect(&target, &token);
    assert_eq!(again.status, 200, "{again:?}");
    let idle = desk.gateway.records().into_iter().any(|record| {
        record["event"] == "result" && record["notes"]["ended_by"] == "idle_seconds"
    });
    assert!(idle);
}
