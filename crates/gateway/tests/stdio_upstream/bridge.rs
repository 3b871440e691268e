//! What the tests of servers over pipes have in common: a client of one server.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::caller::Principal;
use gateway::upstream::{Outgoing, Upstream, UpstreamError};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt;
use model::config::{Limits, Server};
use model::{InstanceId, TaskId};
use serde_json::{Value, json};

pub(crate) fn principal(n: u8) -> Principal {
    let now = jiff::Timestamp::UNIX_EPOCH;
    Principal {
        instance: InstanceId::new(now, [n; 10]),
        task: TaskId::new(now, [n; 10]),
    }
}

pub(crate) fn server(text: &str) -> Server {
    let config = format!("trust_domain = \"a\"\n[servers.x]\n{text}");
    let config = model::config::Config::parse(Path::new("test.toml"), &config).unwrap();
    config.servers.into_values().next().unwrap()
}

pub(crate) fn command(words: &[&str]) -> Server {
    server(&format!("command = {words:?}"))
}

pub(crate) fn child(era: &str) -> Server {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stdio_upstream/child.py");
    command(&[python(), script, era])
}

/// The interpreter itself: what stands for it in `PATH` may be a script that sets variables.
pub(crate) fn python() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let ask = ["-c", "import sys; print(sys.executable)"];
        let output = std::process::Command::new("python3")
            .args(ask)
            .output()
            .expect("python3 runs");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

pub(crate) fn limits() -> Limits {
    Limits {
        upstream_seconds: 20,
        ..Limits::default()
    }
}

pub(crate) struct Bridge {
    pub(crate) upstream: Arc<Upstream>,
}

/// The answer to a POST, read to its end.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) is_stream: bool,
    pub(crate) session: Option<String>,
    pub(crate) messages: Vec<Value>,
}

impl Answered {
    pub(crate) fn one(&self) -> &Value {
        assert_eq!(self.messages.len(), 1, "{self:?}");
        &self.messages[0]
    }

    pub(crate) fn result(&self) -> &Value {
        let last = self.messages.last().unwrap();
        assert!(last["result"].is_object(), "{self:?}");
        &last["result"]
    }
}

impl Bridge {
    pub(crate) fn new(server: &Server, limits: &Limits) -> Self {
        let upstream = Upstream::new(&"x".parse().unwrap(), server, limits).unwrap();
        Self {
            upstream: Arc::new(upstream),
        }
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        who: Principal,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Response<gateway::Body>, UpstreamError> {
        let mut map = HeaderMap::new();
        map.insert(
            "accept",
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let sent = self.upstream.send(Outgoing {
            method,
            headers: map,
            body: body.into(),
            principal: who,
        });
        tokio::time::timeout(Duration::from_secs(60), sent)
            .await
            .expect("an answer within a minute")
    }

    pub(crate) async fn post(
        &self,
        who: Principal,
        headers: &[(&'static str, &str)],
        message: &Value,
    ) -> Result<Answered, UpstreamError> {
        let response = self
            .send(Method::POST, who, headers, message.to_string())
            .await?;
        Ok(read(response).await)
    }

    /// A request of the modern era.
    pub(crate) async fn modern(
        &self,
        who: Principal,
        id: impl Into<Value>,
        method: &str,
        mut params: Value,
    ) -> Result<Answered, UpstreamError> {
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let message =
            json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
        self.post(who, &[("mcp-protocol-version", "2026-07-28")], &message)
            .await
    }

    /// Begins a session.
    pub(crate) async fn session(&self, who: Principal) -> Result<String, UpstreamError> {
        let initialize = json!({"jsonrpc": "2.0", "id": "init", "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"}}});
        let answered = self.post(who, &[], &initialize).await?;
        assert!(
            answered.result()["protocolVersion"].is_string(),
            "{answered:?}"
        );
        let session = answered.session.expect("a session id");
        let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let told = self
            .post(who, &[("mcp-session-id", &session)], &note)
            .await?;
        assert_eq!(
            (told.status, told.messages.len()),
            (StatusCode::ACCEPTED, 0)
        );
        Ok(session)
    }

    /// A request of a session.
    pub(crate) async fn legacy(
        &self,
        who: Principal,
        session: &str,
        id: i64,
        method: &str,
        params: Value,
    ) -> Result<Answered, UpstreamError> {
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.post(who, &[("mcp-session-id", session)], &message)
            .await
    }
}

pub(crate) async fn read(response: Response<gateway::Body>) -> Answered {
    let (head, body) = response.into_parts();
    let text = |name: &str| {
        head.headers
            .get(name)
            .map(|v| v.to_str().unwrap().to_owned())
    };
    let is_stream = text("content-type").as_deref() == Some("text/event-stream");
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let messages = if is_stream {
        events(&bytes)
    } else if bytes.is_empty() {
        Vec::new()
    } else {
        vec![serde_json::from_slice(&bytes).unwrap()]
    };
    Answered {
        status: head.status,
        is_stream,
        session: text("mcp-session-id"),
        messages,
    }
}

pub(crate) fn events(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// The next event of a stream.
pub(crate) async fn next(body: &mut gateway::Body) -> Result<Option<Value>, gateway::BodyError> {
    let frame = tokio::time::timeout(Duration::from_secs(30), body.frame())
        .await
        .expect("in time");
    frame.transpose().map(|frame| {
        frame.map(|frame| {
            events(&frame.into_data().unwrap())
                .into_iter()
                .next()
                .unwrap()
        })
    })
}

/// Whether a process runs; one that has ended but was not waited for counts as running.
pub(crate) fn is_there(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

pub(crate) async fn until(what: &str, longest: Duration, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < longest, "not within {longest:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
