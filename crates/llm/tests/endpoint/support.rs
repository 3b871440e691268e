//! A gateway in this process, a provider that follows a script, and an agent.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::AuditLog;
use bytes::Bytes;
use gateway::caller::Authenticator;
use gateway::front::{Front, Settings};
use gateway::inspection::Rules;
use gateway::live::Live;
use gateway::metrics::Metrics;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use gateway::serve;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::{AccessClaims, KeyRing, dpop};
use jiff::Timestamp;
use model::config::Config;
use model::{AgentName, Grant, InstanceId, Lifecycle, ServerName, Task, TaskId, TaskStatus};
use monitor::content::Scanner;
use parking_lot::Mutex;
use policy::{AgentFacts, Policies, ServerFacts, Usage, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ISSUER: &str = "http://127.0.0.1:8600";
/// The provider's key, which no agent may ever see.
pub(crate) const KEY: &str = "sk-provider-key-0123456789abcdef";

/// What a provider does with one request.
#[derive(Clone)]
pub(crate) enum Step {
    /// Writes bytes.
    Write(Bytes),
    /// Writes bytes again and again, until nobody takes them.
    Forever(Bytes),
    /// Waits until the other side closes the connection.
    Hang,
}

/// A provider that follows a script: it does the same with every request, and remembers them.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) url: String,
    /// The requests: heads and bodies, as text.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    /// How many connections the other side closed while the provider was hanging or writing.
    pub(crate) abandoned: Arc<Mutex<usize>>,
}

impl Provider {
    pub(crate) async fn new(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            requests: Arc::default(),
            abandoned: Arc::default(),
        };
        let shared = provider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, script) = (shared.clone(), script.clone());
                tokio::spawn(async move { shared.serve(stream, script).await });
            }
        });
        provider
    }

    /// One that answers with this JSON.
    pub(crate) async fn answering(status: u16, body: &Value) -> Self {
        Self::new(vec![json_answer(status, "", body)]).await
    }

    /// One that streams these events.
    pub(crate) async fn streaming(events: &[&str]) -> Self {
        let mut script = vec![stream_head()];
        script.extend(events.iter().map(|event| chunk(event)));
        script.push(Step::Write("0\r\n\r\n".into()));
        Self::new(script).await
    }

    async fn serve(&self, mut stream: TcpStream, script: Vec<Step>) {
        let mut seen = Vec::new();
        let mut buffer = [0; 65_536];
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    let named = name.eq_ignore_ascii_case("content-length");
                    named.then(|| value.trim().parse::<usize>().unwrap())
                });
                if body.len() >= length.unwrap_or(0) {
                    self.requests.lock().push(text);
                    break;
                }
            }
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        }
        for step in script {
            let written = match step {
                Step::Write(bytes) => stream.write_all(&bytes).await,
                Step::Forever(bytes) => loop {
                    if let Err(error) = stream.write_all(&bytes).await {
                        break Err(error);
                    }
                },
                Step::Hang => {
                    let _ = stream.read(&mut buffer).await;
                    Err(std::io::ErrorKind::BrokenPipe.into())
                }
            };
            if written.is_err() {
                *self.abandoned.lock() += 1;
                return;
            }
        }
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().len()
    }

    /// The body of the last request.
    pub(crate) fn body(&self) -> String {
        let requests = self.requests.lock();
        let (_, body) = requests.last().unwrap().split_once("\r\n\r\n").unwrap();
        body.to_owned()
    }
}

/// An answer with a JSON body, and further lines in its head.
pub(crate) fn json_answer(status: u16, head: &str, body: &Value) -> Step {
    let body = body.to_string();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{head}content-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    Step::Write(text.into())
}

pub(crate) fn stream_head() -> Step {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
                connection: close\r\n\r\n";
    Step::Write(head.into())
}

pub(crate) fn chunk(text: &str) -> Step {
    Step::Write(format!("{:x}\r\n{text}\r\n", text.len()).into())
}

/// A gateway in front of a provider called `ai`.
pub(crate) struct Gateway {
    pub(crate) base_url: String,
    pub(crate) live: Arc<Live>,
    pub(crate) pipeline: Arc<Pipeline>,
    keys: Arc<KeyRing>,
    log_dir: PathBuf,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What an agent got.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn rule(&self) -> String {
        self.json()["error"]["rule"].as_str().unwrap().to_owned()
    }
}

/// A grant of models, with a budget.
pub(crate) fn grant(models: Value, budget: Value) -> Grant {
    serde_json::from_value(json!({
        "permissions": [{ "type": "sallyport_llm", "server": "ai", "models": models }],
        "budget": budget,
        "proof": "bearer",
    }))
    .unwrap()
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

impl Gateway {
    /// In front of an OpenAI-like provider; `more` are lines of `[servers.ai.llm]`.
    pub(crate) async fn before(provider: &Provider, more: &str) -> Self {
        Self::with("openai", provider, more, "").await
    }

    /// With the surface, and with lines of `[limits]`.
    pub(crate) async fn with(surface: &str, provider: &Provider, more: &str, limits: &str) -> Self {
        let config = format!("[limits]\n{limits}");
        Self::configured(surface, provider, "", more, &config).await
    }

    /// With lines of `[servers.ai]`, of `[servers.ai.llm]`, and of the configuration itself.
    pub(crate) async fn configured(
        surface: &str,
        provider: &Provider,
        server: &str,
        more: &str,
        config: &str,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let log_dir = dir.path().join("log");
        let options = audit::Options::new("test.example.org/audit", dir.path().join("log.key"));
        let (audit, _) = AuditLog::open(&log_dir, options).unwrap();
        let keys = Arc::new(KeyRing::open(&dir.path().join("keys"), Timestamp::now()).unwrap());
        let permit = "permit (principal, action, resource);".to_owned();
        let policies = Policies::compile(&[(PathBuf::from("p.cedar"), permit)]).unwrap();
        let facts = AgentFacts {
            lifecycle: Lifecycle::Active,
            segment: None,
            sponsor: "ada@example.org".to_owned(),
        };
        let facts_of_server = ServerFacts {
            segment: None,
            enabled: true,
        };
        let servers = BTreeMap::from([(ServerName::parse("ai").unwrap(), facts_of_server)]);
        let world = World::new(Arc::new(policies))
            .with_agent(AgentName::parse("triage").unwrap(), facts)
            .with_servers(servers);
        let live = Arc::new(Live::new(world, Arc::clone(&audit)));
        let proofs = dpop::Proofs::new(10_000);
        let authenticator = Authenticator::new(Arc::clone(&keys), ISSUER.to_owned(), proofs);
        let pipeline = Arc::new(Pipeline::new(
            Arc::clone(&live),
            authenticator,
            Redactor::new(&model::config::Redaction::default()).unwrap(),
            Arc::new(Metrics::default()),
        ));
        let (vault, key) = (dir.path().join("vault"), dir.path().join("vault.key"));
        let version = if surface == "openai" { "/v1" } else { "" };
        let text = format!(
            "trust_domain = \"example.org\"\n{config}\n[servers.ai]\nkind = \"llm\"\n{server}\n\
             url = \"{}{version}\"\ncredential = {{ value = {{ plain = \"{KEY}\" }} }}\n\
             [servers.ai.llm]\nsurface = \"{surface}\"\n{more}\n",
            provider.url
        );
        let config = Config::parse(&PathBuf::from("sallyport.toml"), &text).unwrap();
        let limits = gateway::content::limits(&config.vault);
        let vault = vault::Vault::open(&vault, &key, limits).unwrap();
        pipeline.contents().keep_in(vault);
        pipeline.contents().configure(&config);
        let rules = Rules::new(Scanner::shared(), &config, BTreeMap::new());
        pipeline.inspection().set_rules(rules);
        let mut settings = Settings::of(&config);
        settings.base_url.clone_from(&base_url);
        settings.issuer = ISSUER.to_owned();
        let settings = Arc::new(arc_swap::ArcSwap::from_pointee(settings));
        let endpoint = llm::Endpoint::new(&config, Arc::clone(&pipeline), &settings);
        let endpoint = Arc::new(endpoint.unwrap());
        let front = Arc::new(Front::new(settings, vec![endpoint]));
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
            live,
            pipeline,
            keys,
            log_dir,
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop,
            _dir: dir,
        }
    }

    /// An agent's task, and a bearer token for it.
    pub(crate) fn task(&self, grant: Grant) -> (TaskId, String) {
        let now = Timestamp::now();
        let instance = InstanceId::new(now, random());
        let task = Task {
            id: TaskId::new(now, random()),
            agent: AgentName::parse("triage").unwrap(),
            instance: Some(instance),
            parent: None,
            template: model::TemplateName::parse("triage").unwrap(),
            parameters: BTreeMap::new(),
            purpose: "a test".to_owned(),
            grant,
            opened_at: now,
            expires_at: now.checked_add(Duration::from_secs(600)).unwrap(),
            status: TaskStatus::Open,
            ended_at: None,
            ended_because: None,
        };
        let id = task.id;
        self.live.open(task, &[7; 32], Usage::default());
        let claims = AccessClaims {
            iss: ISSUER.to_owned(),
            sub: "spiffe://example.org/agent/triage".to_owned(),
            aud: format!("{}/llm/ai", self.base_url),
            exp: now.as_second() + 300,
            iat: now.as_second(),
            jti: format!("{:?}", random()),
            client_id: instance,
            agent: AgentName::parse("triage").unwrap(),
            task: Some(id),
            scope: "llm".to_owned(),
            cnf: None,
            authorization_details: None,
        };
        (id, self.keys.issue(&claims).unwrap())
    }

    /// A token that may use all models without a limit but that of calls.
    pub(crate) fn free(&self) -> String {
        self.task(grant(json!([{ "name": "*" }]), json!({ "calls": 1_000 })))
            .1
    }

    /// Sends a request; the answer's body follows.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let uri = format!("{}/llm/ai{path}", self.base_url);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.client.request(request).await.unwrap()
    }

    /// Posts JSON and reads the whole answer; one that breaks off is read as far as it came.
    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answered {
        let response = self.begin(token, path, body).await;
        read(response).await
    }

    /// Posts JSON.
    pub(crate) async fn begin(&self, token: &str, path: &str, body: &Value) -> Response<Incoming> {
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("openai-organization", "org-of-the-agent"),
            ("cookie", "a=b"),
        ];
        self.send(Method::POST, path, &headers, body.to_string())
            .await
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answered {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        read(self.send(Method::GET, path, &headers, "").await).await
    }

    /// All records so far. Results are queued, so this waits until there are as many as intents that
    /// were permitted.
    pub(crate) async fn records(&self) -> Vec<Value> {
        loop {
            let reader = audit::Reader::open(&self.log_dir).unwrap();
            let records: Vec<Value> = reader
                .entries(0..reader.size())
                .map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap())
                .collect();
            let of = |event: &str| records.iter().filter(|r| r["event"] == event).count();
            let permitted = records.iter().filter(|r| r["permitted"] == true).count();
            if of("result") >= permitted {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The record of the end of the last action.
    pub(crate) async fn result(&self) -> Value {
        let records = self.records().await;
        let last = records.iter().rfind(|record| record["event"] == "result");
        last.unwrap().clone()
    }

    /// What the vault has of a decision: its parts, as text.
    pub(crate) fn kept(&self, decision: &str) -> Vec<(String, String)> {
        let vault = self.pipeline.contents().vault().unwrap();
        let shown = vault.show(&decision.parse().unwrap(), None);
        let text = |shown: vault::Shown| {
            let text = String::from_utf8(shown.content.to_vec()).unwrap();
            (shown.head.part, text)
        };
        shown.unwrap_or_default().into_iter().map(text).collect()
    }

    /// What a task has used.
    pub(crate) fn spent(&self, task: &TaskId) -> model::Spent {
        self.live.task(task).unwrap().usage().spent()
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Answered {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Answered {
        status: head.status,
        headers: head.headers,
        body: bytes.into(),
    }
}

/// A chat request of a model.
pub(crate) fn chat(model: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": "a secret question" }] })
}

/// An answer to it, with usage.
pub(crate) fn said(usage: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "model": "small",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": "a secret answer" } }],
        "usage": usage,
    })
}
