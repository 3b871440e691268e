//! HTTP/1.1 and HTTP/2 on both sides, with other people's clients and servers.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Desk;
use crate::support::agent::{Agent, Token};
use crate::support::http::Call;
use crate::support::program::Program;
use crate::support::{Gateway, PATIENCE, Setup, free_address, packages};

/// What curl got: the version that was spoken, the status, and the body.
struct Got {
    version: String,
    status: u16,
    body: Vec<u8>,
}

/// Runs curl, with the token in a file: arguments can be seen by everyone.
fn curl(token: &str, arguments: &[&str]) -> Got {
    packages::install("web");
    let mut headers = tempfile::NamedTempFile::new().unwrap();
    writeln!(headers, "authorization: Bearer {token}").unwrap();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "60", "-H"])
        .arg(format!("@{}", headers.path().display()))
        .args(["-w", "\n%{http_version} %{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let end = output.stdout.iter().rposition(|byte| *byte == b'\n');
    let (body, rest) = output.stdout.split_at(end.expect(&text));
    let rest = String::from_utf8(rest[1..].to_vec()).unwrap();
    let (version, status) = rest.split_once(' ').unwrap();
    Got {
        version: version.to_owned(),
        status: status.parse().unwrap(),
        body: body.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_is_served_over_both_versions() {
    let desk = Desk::new().await;
    let token = desk.bearer().await;
    let url = |path: &str| format!("{}/http/crm{path}", desk.gateway.gateway);
    // With `--http2` in clear, curl begins with HTTP/1.1 and asks for an upgrade, which nobody needs to grant.
    for (flag, version) in [
        ("--http1.1", "1.1"),
        ("--http2-prior-knowledge", "2"),
        ("--http2", "1.1"),
    ] {
        let got = curl(&token, &[flag, &url("/customers/7?a=b")]);
        assert_eq!((got.version.as_str(), got.status), (version, 200), "{flag}");
        let body: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(body["ssn"], "(redacted)");
        let received = &body["received"];
        assert_eq!(received["path"], "/v1/customers/7?a=b");
        for gone in ["http2-settings", "upgrade", "connection"] {
            assert!(received["headers"].get(gone).is_none(), "{received}");
        }
        let denied = curl(&token, &[flag, &url("/customers/8")]);
        assert_eq!((denied.version.as_str(), denied.status), (version, 403));
        let order = json!({"customer": "7", "amount": 5}).to_string();
        let json = ["-H", "content-type: application/json", "--data", &order];
        let made = curl(&token, &[&[flag, &url("/orders")], &json[..]].concat());
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
        let made: Value = serde_json::from_slice(&made.body).unwrap();
        assert_eq!(made["received"]["body"], order);
    }
    let socket = curl(&token, &["--http2-prior-knowledge", &url("/feed")]);
    assert_eq!(socket.status, 400);
    let said: Value = serde_json::from_slice(&socket.body).unwrap();
    assert!(
        said["detail"].as_str().unwrap().contains("HTTP/1.1"),
        "{said}"
    );
    desk.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_version_is_agreed_on_and_management_stays_with_one() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let gateway = Setup::new()
        .start_with_tls(&made.cert.pem(), &made.signing_key.serialize_pem())
        .await;
    let ca = gateway.dir().join("cert.pem");
    let ca = ca.to_str().unwrap();
    let port = gateway.gateway.rsplit_once(':').unwrap().1;
    let livez = format!("https://localhost:{port}/livez");
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let got = curl("none", &[flag, "--cacert", ca, &livez]);
        assert_eq!((got.version.as_str(), got.status), (version, 200));
    }
    let readyz = format!("{}/readyz", gateway.control);
    let got = curl("none", &["--http2", "--cacert", ca, &readyz]);
    assert_eq!((got.version.as_str(), got.status), ("1.1", 200));
}

/// An API behind Hypercorn; it ends with this.
struct Hypercorn {
    _program: Program,
    port: u16,
}

impl Hypercorn {
    async fn start(tls: Option<&Path>) -> Self {
        let python = packages::install("web").join("venv/bin/python");
        let port = free_address().port();
        let mut command = Command::new(python);
        command
            .arg(packages::folder("web").join("asgi.py"))
            .arg(port.to_string())
            .stdin(Stdio::piped());
        if let Some(folder) = tls {
            command.args([folder.join("cert.pem"), folder.join("key.pem")]);
        }
        let started = Self {
            _program: Program::start(&mut command),
            port,
        };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "Hypercorn does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        started
    }
}

/// A gateway in front of one API, which it reaches in clear and over TLS, over either version.
struct Ways {
    gateway: Gateway,
    agent: Agent,
    task: String,
    _apis: [Hypercorn; 2],
    _folder: TempDir,
}

impl Ways {
    const NAMES: [&'static str; 4] = ["clear-two", "clear-one", "tls-auto", "tls-one"];

    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(
            folder.path().join("key.pem"),
            made.signing_key.serialize_pem(),
        )
        .unwrap();
        let apis = [
            Hypercorn::start(None).await,
            Hypercorn::start(Some(folder.path())).await,
        ];
        let clear = format!("http://localhost:{}/v1", apis[0].port);
        let tls = format!("https://localhost:{}/v1", apis[1].port);
        let ca = format!("ca = {:?}", folder.path().join("cert.pem"));
        let mut setup = Setup::new();
        let mut clerk = String::from(
            "description = \"Look after customers\"\nagents = [\"*\"]\nttl = \"10m\"\nproof = \"bearer\"\n",
        );
        for (name, url, more) in [
            (Self::NAMES[0], &clear, "http2 = true".to_owned()),
            (Self::NAMES[1], &clear, "http2 = false".to_owned()),
            (Self::NAMES[2], &tls, format!("http2 = \"auto\"\n{ca}")),
            (Self::NAMES[3], &tls, ca.clone()),
        ] {
            let endpoints = r#"["GET /customers/{id}", "POST /orders", "GET /stream"]"#;
            setup = setup
                .server(name, "http", url)
                .and(&more)
                .and(&format!("[servers.{name}.http]\nroutes = {endpoints}\n"));
            clerk.push_str(&format!(
                "[[allow]]\nserver = \"{name}\"\nendpoints = {endpoints}\nother_arguments = \"allow\"\n"
            ));
        }
        let gateway = setup.template("clerk", &clerk).start().await;
        let agent = gateway.agent("clerk-1").await;
        let task = agent.open_task("clerk", json!({})).await;
        Self {
            gateway,
            agent,
            task,
            _apis: apis,
            _folder: folder,
        }
    }

    async fn token(&self, server: &str) -> Token {
        self.agent
            .token_of_kind("http", server, &self.task, false)
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_is_reached_over_the_version_that_the_configuration_says() {
    let ways = Ways::new().await;
    for (name, version) in Ways::NAMES.into_iter().zip(["2", "1.1", "2", "1.1"]) {
        let token = ways.token(name).await;
        let get = Call::get(&format!("{}/customers/7?a=b", token.resource))
            .header("accept", "application/json")
            .header("te", "trailers")
            .header("cookie", "session=1");
        let got = ways.agent.authorise(get, &token).send().await.unwrap();
        assert_eq!(got.status, 200, "{name}: {got:?}");
        let seen = got.json();
        assert_eq!(seen["version"], version, "{name}");
        assert_eq!(seen["path"], "/v1/customers/7?a=b");
        let host = seen["headers"]["host"].as_str().unwrap();
        assert!(host.starts_with("localhost:"), "{seen}");
        for gone in ["authorization", "cookie", "te", "connection"] {
            assert!(seen["headers"].get(gone).is_none(), "{name}: {seen}");
        }
        let order = json!({"text": "x".repeat(100_000)});
        let post = Call::post(&format!("{}/orders", token.resource)).json(&order);
        let got = ways.agent.authorise(post, &token).send().await.unwrap();
        assert_eq!(got.status, 200, "{name}: {got:?}");
        assert_eq!(got.json()["body"], order.to_string());
        assert_eq!(got.header("x-behind"), "", "trailers stay behind");
    }
    ways.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_a_connection_and_a_revocation_cuts_their_streams() {
    let ways = Ways::new().await;
    let token = ways.token("clear-two").await;
    let calls = (0..40).map(|n| {
        let call = Call::get(&format!("{}/customers/{n}", token.resource));
        tokio::spawn(ways.agent.authorise(call, &token).send())
    });
    for (n, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        let got = call.await.unwrap().unwrap();
        assert_eq!(got.json()["path"], format!("/v1/customers/{n}"));
    }
    let stream = format!("{}/stream", token.resource);
    let text = token.text.clone();
    let streaming =
        std::thread::spawn(move || curl(&text, &["--http2-prior-knowledge", "-N", &stream]));
    let begun = Instant::now();
    while !ways
        .gateway
        .records()
        .iter()
        .any(|record| record["target"] == "GET /stream")
    {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        ways.gateway
            .run(&["task", "revoke", &ways.task])
            .status
            .success()
    );
    let got = streaming.join().unwrap();
    // The stream was reset: it did not look complete, and nothing came after the cut.
    assert!(got.body.len() < 1 << 20);
    let outcome = |record: &Value| record["event"] == "result" && record["ended"] == "cut";
    assert!(ways.gateway.records().iter().any(outcome));
}
