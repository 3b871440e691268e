//! A control listener and a gateway in one, which say what a test wants.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use identity::InstanceKey;
use identity::dpop::{Proofs, Request};
use jiff::Timestamp;
use model::{AgentName, InstanceId};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::InstanceFolder;

/// The task that is opened.
pub(crate) const TASK: &str = "task_0190b6a0000070008000000000000000";

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) text: String,
    /// The body as JSON; null when it is something else.
    pub(crate) body: Value,
    /// How many of the same JSON-RPC method came before.
    pub(crate) earlier: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// A whole answer.
    Whole {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
        after: Duration,
    },
    /// Nothing, until the other side hangs up.
    Hang,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Whole {
            status,
            headers: Vec::new(),
            body: String::new(),
            after: Duration::ZERO,
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Whole { headers, .. } = &mut self {
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value.to_owned()));
        }
        self
    }

    pub(crate) fn with_status(mut self, new: u16) -> Self {
        if let Self::Whole { status, .. } = &mut self {
            *status = new;
        }
        self
    }

    pub(crate) fn after(mut self, pause: Duration) -> Self {
        if let Self::Whole { after, .. } = &mut self {
            *after = pause;
        }
        self
    }

    fn with_body(mut self, text: String) -> Self {
        if let Self::Whole { body, .. } = &mut self {
            *body = text;
        }
        self
    }
}

pub(crate) fn json_reply(body: &Value) -> Reply {
    Reply::status(200)
        .with("content-type", "application/json")
        .with_body(body.to_string())
}

pub(crate) fn events(all: &[String]) -> Reply {
    Reply::status(200)
        .with("content-type", "text/event-stream")
        .with_body(all.concat())
}

pub(crate) fn event(id: Option<&str>, data: &Value) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}data: {data}\n\n")
}

/// Whether a proof carries this nonce.
pub(crate) fn accept(seen: &Seen, nonce: Option<&str>) -> bool {
    use base64::Engine as _;
    let claims = seen
        .header("dpop")
        .and_then(|proof| proof.split('.').nth(1));
    let claims = claims
        .and_then(|text| {
            base64::engine::general_purpose::URL_SAFE_NO_PAD
                .decode(text)
                .ok()
        })
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    claims.is_some_and(|claims| claims["nonce"].as_str() == nonce)
}

type Script = dyn Fn(&Seen) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    tokens: AtomicUsize,
    refusing: AtomicBool,
    hang_ups: AtomicUsize,
}

/// The server.
pub(crate) struct Fake {
    shared: Arc<Shared>,
    base: String,
}

impl Fake {
    /// Starts it; the script answers everything on `/mcp/…`.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            tokens: AtomicUsize::new(0),
            refusing: AtomicBool::new(false),
            hang_ups: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        Self { shared, base }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// An instance that is enrolled here.
    pub(crate) fn instance(&self) -> (InstanceFolder, InstanceKey) {
        let about = InstanceFolder {
            id: InstanceId::new(Timestamp::UNIX_EPOCH, [7; 10]),
            agent: AgentName::parse("triage").unwrap(),
            control: self.base.clone(),
            gateway: self.base.clone(),
        };
        (about, InstanceKey::generate().unwrap())
    }

    /// What arrived with a method on a path.
    pub(crate) fn seen(&self, method: &str, path: &str) -> Vec<Seen> {
        let all = self.shared.seen.lock().unwrap();
        all.iter()
            .filter(|seen| seen.method == method && seen.path == path)
            .cloned()
            .collect()
    }

    /// Waits until so many have arrived.
    pub(crate) async fn wait_for(&self, method: &str, path: &str, count: usize) {
        wait(|| self.seen(method, path).len() >= count).await;
    }

    /// Waits until somebody hung up on a request that was not answered.
    pub(crate) async fn wait_for_hang_up(&self) {
        wait(|| self.shared.hang_ups.load(Ordering::SeqCst) > 0).await;
    }

    /// From now on, connections are closed before anything is read.
    pub(crate) async fn refuse_connections(&self, refuse: bool) {
        self.shared.refusing.store(refuse, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Verifies the proof of every request with a token; tells how many there were.
    pub(crate) fn verify_proofs(&self) -> usize {
        let proofs = Proofs::new(0);
        let all = self.shared.seen.lock().unwrap();
        for seen in all.iter() {
            let token = seen
                .header("authorization")
                .and_then(|v| v.strip_prefix("DPoP "));
            let url = format!("{}{}", self.base, seen.path);
            let request = Request {
                method: &seen.method,
                url: &url,
                access_token: token,
            };
            proofs
                .verify(seen.header("dpop").unwrap(), &request, Timestamp::now())
                .unwrap();
        }
        all.len()
    }
}

async fn wait(until: impl Fn() -> bool) {
    let waiting = async {
        while !until() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::WAIT, waiting).await.unwrap();
}

impl Shared {
    /// One request on each connection keeps it simple.
    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        if self.refusing.load(Ordering::SeqCst) {
            return;
        }
        let Some(seen) = self.read(&mut stream).await else {
            return;
        };
        let reply = self.reply(&seen);
        let Reply::Whole {
            status,
            headers,
            body,
            after,
        } = reply
        else {
            let mut end = [0];
            let _ = stream.read(&mut end).await;
            self.hang_ups.fetch_add(1, Ordering::SeqCst);
            return;
        };
        tokio::time::sleep(after).await;
        let mut head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let _ = stream.write_all((head + &body).as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    async fn read(&self, stream: &mut BufReader<TcpStream>) -> Option<Seen> {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let twice = headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            assert_eq!(twice, None, "{name} was sent twice");
        }
        let length = headers
            .get("content-length")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let text = String::from_utf8(body).ok()?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut all = self.seen.lock().unwrap();
        let earlier = all
            .iter()
            .filter(|seen| seen.body["method"] == body["method"])
            .count();
        let seen = Seen {
            method,
            path,
            headers,
            text,
            body,
            earlier,
        };
        all.push(seen.clone());
        Some(seen)
    }

    fn reply(&self, seen: &Seen) -> Reply {
        match seen.path.as_str() {
            "/oauth/token" => {
                let number = self.tokens.fetch_add(1, Ordering::SeqCst) + 1;
                json_reply(&json!({
                    "access_token": format!("token-{number}"),
                    "token_type": "DPoP",
                    "expires_in": 300,
                }))
            }
            "/v1/tasks" => json_reply(&json!({
                "id": TASK, "status": "open", "expires_at": "2100-01-01T00:00:00Z",
                "grant": { "proof": "dpop" },
            }))
            .with_status(201),
            path if path.starts_with("/v1/tasks/") => json_reply(&json!({ "id": TASK })),
            _ => (self.script)(seen),
        }
    }
}
