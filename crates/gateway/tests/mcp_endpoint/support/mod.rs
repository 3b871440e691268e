//! A gateway in this process, with everything real but the MCP server behind it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::AuditLog;
use bytes::Bytes;
use gateway::caller::Authenticator;
use gateway::front::{Front, Settings};
use gateway::live::Live;
use gateway::mcp::Endpoint;
use gateway::metrics::Metrics;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use gateway::serve;
use gateway::upstream::Upstreams;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::{AccessClaims, InstanceKey, KeyRing, dpop};
use jiff::Timestamp;
use model::config::{Config, Limits};
use model::{AgentName, Grant, InstanceId, Lifecycle, ServerName, Task, TaskId, TaskStatus};
use policy::{AgentFacts, Policies, ServerFacts, Usage, World};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod upstream;

pub use upstream::Double;

/// The issuer of tokens that the gateway accepts.
pub const ISSUER: &str = "http://127.0.0.1:8600";
/// The revision in which each request stands for itself.
pub const MODERN: &str = "2026-07-28";

/// A gateway in front of one MCP server called `files`.
pub struct Gateway {
    pub base_url: String,
    pub endpoint: Arc<Endpoint>,
    pub live: Arc<Live>,
    pub keys: Arc<KeyRing>,
    pub audit: Arc<AuditLog>,
    pub log_dir: PathBuf,
    pub address: SocketAddr,
    pub pipeline: Arc<Pipeline>,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An agent's instance with a task.
pub struct Agent {
    pub instance: InstanceId,
    pub task: TaskId,
    pub key: InstanceKey,
}

/// What the gateway answered.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answered {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text()))
    }

    /// The code of the JSON-RPC error.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"]
            .as_i64()
            .unwrap_or_else(|| panic!("{}", self.text()))
    }

    /// The rule that denied.
    pub fn rule(&self) -> String {
        self.json()["error"]["data"]["rule"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// The grant of most tests: `read` below /data, `echo` with anything, resources below file:///data.
pub fn grant() -> Grant {
    serde_json::from_value(json!({
        "permissions": [{
            "type": "sallyport_mcp",
            "server": "files",
            "tools": [
                { "name": "read", "arguments": { "path": { "below": "/data" } } },
                { "name": "echo" },
            ],
            "resources": ["file:///data/*"],
            "prompts": ["summary"],
            "server_requests": ["elicitation"],
        }],
        "budget": { "calls": 100_000 },
        "proof": "dpop",
    }))
    .unwrap()
}

impl Gateway {
    /// A gateway in front of a double of an MCP server.
    pub async fn before(double: &Double) -> Self {
        Self::with(double, Limits::default()).await
    }

    /// A gateway with limits.
    pub async fn with(double: &Double, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base_url = format!("http://{address}");
        let log_dir = dir.path().join("log");
        let options = audit::Options::new("test.example.org/audit", dir.path().join("log.key"));
        let (audit, _) = AuditLog::open(&log_dir, options).unwrap();
        let keys = Arc::new(KeyRing::open(&dir.path().join("keys"), Timestamp::now()).unwrap());
        let policies = Policies::compile(&[(
            PathBuf::from("permit.cedar"),
            "@id(\"all\") permit (principal, action, resource);".to_owned(),
        )])
        .unwrap();
        let facts = |lifecycle| AgentFacts {
            lifecycle,
            segment: None,
            sponsor: "ada@example.org".to_owned(),
        };
        let servers = BTreeMap::from([(
            ServerName::parse("files").unwrap(),
            ServerFacts {
                segment: None,
                enabled: true,
            },
        )]);
        let world = World::new(Arc::new(policies))
            .with_agent(
                AgentName::parse("triage").unwrap(),
                facts(Lifecycle::Active),
            )
            .with_servers(servers);
        let live = Arc::new(Live::new(world, Arc::clone(&audit)));
        let authenticator = Authenticator::new(
            Arc::clone(&keys),
            ISSUER.to_owned(),
            dpop::Proofs::new(100_000),
        );
        let redactor = Redactor::new(&model::config::Redaction::default()).unwrap();
        let pipeline = Arc::new(Pipeline::new(
            Arc::clone(&live),
            authenticator,
            redactor,
            Arc::new(Metrics::default()),
        ));
        let text = format!(
            "trust_domain = \"example.org\"\n[servers.files]\nurl = \"{}\"\n\
             [servers.files.credential]\nprefix = \"Bearer \"\nvalue = {{ plain = \"upstream-credential\" }}\n",
            double.url()
        );
        let mut config = Config::parse(&PathBuf::from("sallyport.toml"), &text).unwrap();
        config.limits = limits.clone();
        let upstreams = Arc::new(Upstreams::new(&config).unwrap());
        let settings = Settings {
            base_url: base_url.clone(),
            issuer: ISSUER.to_owned(),
            allowed_origins: vec!["https://app.example.org".to_owned()],
            limits,
            certificates: false,
        };
        let settings = Arc::new(arc_swap::ArcSwap::from_pointee(settings));
        let endpoint = Arc::new(Endpoint::new(
            Arc::clone(&pipeline),
            upstreams,
            Arc::clone(&settings),
        ));
        let front = Front::new(settings, vec![endpoint.clone()]);
        let front = Arc::new(front.putting_off(Arc::clone(&pipeline)));
        let stop = CancellationToken::new();
        let options = serve::Options {
            connections: 1_000,
            head: Duration::from_secs(5),
            grace: Duration::from_secs(1),
            tls: None,
        };
        tokio::spawn(serve::serve(listener, front, options, stop.clone()));
        Self {
            base_url,
            endpoint,
            live,
            keys,
            audit,
            log_dir,
            address,
            pipeline,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop,
            _dir: dir,
        }
    }

    /// An agent with a task of its own.
    pub fn agent(&self) -> Agent {
        self.agent_with(grant(), Duration::from_secs(600))
    }

    /// What detectors and limits found; only once.
    pub fn findings(&self) -> tokio::sync::mpsc::Receiver<gateway::inspection::Observed> {
        self.pipeline.inspection().sink().take().unwrap()
    }

    /// An agent with a task that grants this, for so long.
    pub fn agent_with(&self, grant: Grant, lives: Duration) -> Agent {
        self.opened(grant, lives, None, "a test", &[])
    }

    /// An agent with a task that was opened with these words.
    pub fn agent_for(&self, grant: Grant, purpose: &str, parameters: &[(&str, &str)]) -> Agent {
        self.opened(grant, Duration::from_secs(600), None, purpose, parameters)
    }

    /// An agent with a task that is a part of another's.
    pub fn part_of(&self, whole: &Agent, grant: Grant) -> Agent {
        let parent = Some(whole.task);
        self.opened(grant, Duration::from_secs(60), parent, "a part", &[])
    }

    fn opened(
        &self,
        grant: Grant,
        lives: Duration,
        parent: Option<TaskId>,
        purpose: &str,
        parameters: &[(&str, &str)],
    ) -> Agent {
        let now = Timestamp::now();
        let instance = InstanceId::new(now, random());
        let task = Task {
            id: TaskId::new(now, random()),
            agent: AgentName::parse("triage").unwrap(),
            instance: Some(instance),
            parent,
            template: model::TemplateName::parse("triage").unwrap(),
            parameters: parameters
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            purpose: purpose.to_owned(),
            grant,
            opened_at: now,
            expires_at: now.checked_add(lives).unwrap(),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        };
        let id = task.id;
        self.live
            .open(task, b"0123456789abcdef0123456789abcdef", Usage::default());
        Agent {
            instance,
            task: id,
            key: InstanceKey::generate().unwrap(),
        }
    }

    /// The URL of the server at the gateway.
    pub fn url(&self) -> String {
        format!("{}/mcp/files", self.base_url)
    }

    /// A token of an agent for the server, changed before it is signed.
    pub fn token(&self, agent: &Agent, change: impl FnOnce(&mut AccessClaims)) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = AccessClaims {
            iss: ISSUER.to_owned(),
            sub: "spiffe://example.org/agent/triage".to_owned(),
            aud: self.url(),
            exp: now + 300,
            iat: now,
            jti: format!("{:?}", random()),
            client_id: agent.instance,
            agent: AgentName::parse("triage").unwrap(),
            task: Some(agent.task),
            scope: "mcp".to_owned(),
            cnf: Some(identity::Cnf::Key {
                jkt: agent.key.thumbprint(),
            }),
            authorization_details: None,
        };
        change(&mut claims);
        self.keys.issue(&claims).unwrap()
    }

    /// A proof of possession for one request.
    pub fn proof(&self, agent: &Agent, method: &str, token: &str) -> String {
        let jti = random()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>();
        agent
            .key
            .sign_dpop(
                method,
                &self.url(),
                Some(token),
                None,
                Timestamp::now(),
                &jti,
            )
            .unwrap()
    }

    /// The headers of an authenticated request.
    pub fn signed(&self, agent: &Agent, method: &str, more: &[(&str, &str)]) -> HeaderMap {
        let token = self.token(agent, |_| ());
        let mut headers = plain(more);
        let authorization = HeaderValue::try_from(format!("DPoP {token}")).unwrap();
        headers.insert("authorization", authorization);
        let proof = HeaderValue::try_from(self.proof(agent, method, &token)).unwrap();
        headers.insert("dpop", proof);
        headers
    }

    /// Sends a request as it is.
    pub async fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(self.url());
        *request.headers_mut().unwrap() = headers;
        self.client
            .request(request.body(Full::new(body)).unwrap())
            .await
            .unwrap()
    }

    /// Sends a POST as it is and reads the whole answer.
    pub async fn raw(&self, headers: HeaderMap, body: impl Into<Bytes>) -> Answered {
        whole(self.send(Method::POST, headers, body.into()).await).await
    }

    /// Sends a modern request of an agent.
    pub async fn call(&self, agent: &Agent, method: &str, params: Value) -> Answered {
        let (headers, body) = modern(method, params);
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        self.raw(self.signed(agent, "POST", &headers), body).await
    }

    /// Calls a tool of the modern revision.
    pub async fn tool(&self, agent: &Agent, name: &str, arguments: Value) -> Answered {
        self.call(
            agent,
            "tools/call",
            json!({ "name": name, "arguments": arguments }),
        )
        .await
    }

    /// Begins a session of an older revision; its id.
    pub async fn initialize(&self, agent: &Agent, revision: &str) -> (Answered, String) {
        let body = json!({
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": { "protocolVersion": revision, "capabilities": {},
                        "clientInfo": { "name": "test", "version": "1" } },
        });
        let answered = self
            .raw(self.signed(agent, "POST", &[]), body.to_string())
            .await;
        let id = answered
            .headers
            .get("mcp-session-id")
            .map(|id| id.to_str().unwrap().to_owned());
        (answered, id.unwrap_or_default())
    }

    /// Sends a message within a session.
    pub async fn within(&self, agent: &Agent, session: &str, message: Value) -> Answered {
        let headers = self.signed(agent, "POST", &[("mcp-session-id", session)]);
        self.raw(headers, message.to_string()).await
    }
}

/// Headers of a POST without credentials.
pub fn plain(more: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert(
        "accept",
        HeaderValue::from_static("application/json, text/event-stream"),
    );
    for (name, value) in more {
        headers.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::try_from(*value).unwrap(),
        );
    }
    headers
}

/// Headers and body of a modern request.
pub fn modern(method: &str, mut params: Value) -> (Vec<(&'static str, String)>, String) {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut headers = vec![
        ("mcp-protocol-version", MODERN.to_owned()),
        ("mcp-method", method.to_owned()),
    ];
    let name = params
        .get("name")
        .or(params.get("uri"))
        .or(params.get("taskId"));
    if let Some(name) = name.and_then(Value::as_str) {
        headers.push(("mcp-name", name.to_owned()));
    }
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    (headers, body.to_string())
}

/// Reads a whole answer.
pub async fn whole(response: Response<Incoming>) -> Answered {
    let (parts, body) = response.into_parts();
    let body = tokio::time::timeout(Duration::from_secs(20), body.collect())
        .await
        .expect("the answer ends")
        .unwrap()
        .to_bytes();
    Answered {
        status: parts.status,
        headers: parts.headers,
        body,
    }
}

/// The next bytes of a stream, as text.
pub async fn next(body: &mut Incoming) -> String {
    let frame = tokio::time::timeout(Duration::from_secs(10), body.frame())
        .await
        .expect("something comes");
    match frame {
        Some(frame) => String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap(),
        None => String::new(),
    }
}

/// The records in a log directory.
pub fn records(dir: &std::path::Path) -> Vec<model::record::Record> {
    let reader = audit::Reader::open(dir).unwrap();
    let entries = reader.entries(0..reader.size());
    entries
        .map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap())
        .collect()
}
