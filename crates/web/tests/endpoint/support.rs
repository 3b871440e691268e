//! A gateway in this process, an API that follows a script, and an agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::AuditLog;
use bytes::Bytes;
use gateway::caller::Authenticator;
use gateway::front::{Front, Settings};
use gateway::inspection::{Observed, Rules};
use gateway::live::Live;
use gateway::metrics::Metrics;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use gateway::serve;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use identity::{AccessClaims, KeyRing, dpop};
use jiff::Timestamp;
use model::config::Config;
use model::{AgentName, InstanceId, Lifecycle, ServerName, Task, TaskId, TaskStatus};
use monitor::content::{Canaries, Canary, Scanner};
use parking_lot::Mutex;
use policy::{AgentFacts, Policies, ServerFacts, Usage, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ISSUER: &str = "http://127.0.0.1:8600";
/// A canary that is watched for.
pub(crate) const CANARY: &str = "kdhgnbvcqwrjpmkfhdgb";

/// A credential as a public service writes it, of nobody.
pub(crate) fn secret() -> String {
    format!(
        "{}{}",
        "gh".to_owned() + "p_",
        "1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R"
    )
}

/// What an API does after it has read a request.
#[derive(Clone)]
pub(crate) enum Step {
    /// Writes bytes.
    Write(Bytes),
    /// Waits.
    Wait(Duration),
    /// Writes bytes again and again, until nobody takes them.
    Forever(Bytes),
    /// Says nothing, and closes the connection.
    Close,
}

/// An API that follows a script on each connection: the n-th request there gets the n-th part of it.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) url: String,
    /// The heads and bodies of all requests, each with the number of its connection.
    pub(crate) requests: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Api {
    /// One that gives this answer on each of its connections, and closes it.
    pub(crate) async fn answering(steps: Vec<Step>) -> Self {
        Self::new(move |_| vec![steps.clone()]).await
    }

    /// One whose script may be another on each connection.
    pub(crate) async fn new(script: impl Fn(usize) -> Vec<Vec<Step>> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            url: format!("http://{}/v1", listener.local_addr().unwrap()),
            requests: Arc::default(),
        };
        let shared = api.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, script) = (shared.clone(), script(number));
                tokio::spawn(async move { shared.serve(number, stream, script).await });
            }
        });
        api
    }

    async fn serve(&self, number: usize, mut stream: TcpStream, script: Vec<Vec<Step>>) {
        let mut seen = Vec::new();
        for steps in script {
            let Some(request) = request(&mut stream, &mut seen).await else {
                return;
            };
            self.requests.lock().push((number, request));
            for step in steps {
                let written = match step {
                    Step::Write(bytes) => stream.write_all(&bytes).await,
                    Step::Wait(time) => {
                        tokio::time::sleep(time).await;
                        Ok(())
                    }
                    Step::Forever(bytes) => loop {
                        if let Err(error) = stream.write_all(&bytes).await {
                            break Err(error);
                        }
                    },
                    Step::Close => return,
                };
                if written.is_err() {
                    return;
                }
            }
        }
    }

    /// What was asked, by connection and first line.
    pub(crate) fn asked(&self) -> Vec<(usize, String)> {
        let requests = self.requests.lock();
        let line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        requests
            .iter()
            .map(|(number, text)| (*number, line(text)))
            .collect()
    }
}

/// Reads one request with a `content-length`, or without a body.
async fn request(stream: &mut TcpStream, seen: &mut Vec<u8>) -> Option<String> {
    let mut buffer = [0; 16_384];
    loop {
        let text = String::from_utf8_lossy(seen).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let named = name.eq_ignore_ascii_case("content-length");
                named.then(|| value.trim().parse::<usize>().unwrap())
            });
            let length = length.unwrap_or(0);
            if body.len() >= length {
                seen.drain(..head.len() + 4 + length);
                return Some(text);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

/// An answer of a kind, with further lines in its head.
pub(crate) fn answer(kind: &str, more: &str, body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Write([head.as_bytes(), body].concat().into())]
}

/// The head of an answer that comes in chunks.
pub(crate) fn chunked(kind: &str, more: &str) -> Step {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n\r\n"
    );
    Step::Write(head.into())
}

pub(crate) fn chunk(bytes: impl AsRef<[u8]>) -> Step {
    let bytes = bytes.as_ref();
    let head = format!("{:x}\r\n", bytes.len());
    Step::Write([head.as_bytes(), bytes, b"\r\n"].concat().into())
}

pub(crate) fn last_chunk() -> Step {
    Step::Write("0\r\n\r\n".into())
}

/// A gateway in front of an API called `crm`.
pub(crate) struct Gateway {
    pub(crate) base_url: String,
    pub(crate) token: String,
    log_dir: PathBuf,
    client: Client<HttpConnector, Full<Bytes>>,
    findings: Mutex<tokio::sync::mpsc::Receiver<Observed>>,
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
    /// Whether it came to its end.
    pub(crate) complete: bool,
}

impl Answered {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn rule(&self) -> String {
        let document: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        document["rule"].as_str().unwrap_or_default().to_owned()
    }
}

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

impl Gateway {
    /// In front of an API, with lines of `[servers.crm.http]` and of `[inspection]`.
    pub(crate) async fn before(api: &Api, more: &str, inspection: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let log_dir = dir.path().join("log");
        let options = audit::Options::new("test.example.org/audit", dir.path().join("log.key"));
        let (audit, _) = AuditLog::open(&log_dir, options).unwrap();
        let keys = Arc::new(KeyRing::open(&dir.path().join("keys"), Timestamp::now()).unwrap());
        let permit = "permit (principal, action, resource);".to_owned();
        let policies = Policies::compile(&[(PathBuf::from("p.cedar"), permit)]).unwrap();
        let agent = AgentName::parse("clerk").unwrap();
        let facts = AgentFacts {
            lifecycle: Lifecycle::Active,
            segment: None,
            sponsor: "ada@example.org".to_owned(),
        };
        let facts_of_server = ServerFacts {
            segment: None,
            enabled: true,
        };
        let servers = BTreeMap::from([(ServerName::parse("crm").unwrap(), facts_of_server)]);
        let world = World::new(Arc::new(policies))
            .with_agent(agent.clone(), facts)
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
        let text = format!(
            "trust_domain = \"example.org\"\n[inspection]\n{inspection}\n\
             [servers.crm]\nkind = \"http\"\nurl = \"{}\"\n[servers.crm.http]\n\
             routes = [\"GET /x\", \"HEAD /x\", \"PUT /x\", \"POST /x\", \"WEBSOCKET /socket\"]\n{more}\n",
            api.url
        );
        let config = Config::parse(Path::new("sallyport.toml"), &text).unwrap();
        pipeline.contents().configure(&config);
        let rules = Rules::new(Scanner::shared(), &config, BTreeMap::new());
        pipeline.inspection().set_rules(rules);
        let canary = Canary {
            text: CANARY.to_owned(),
            label: "row 17".to_owned(),
            minted_at: Timestamp::UNIX_EPOCH,
        };
        pipeline
            .inspection()
            .set_canaries(Canaries::watch(vec![canary]).unwrap());
        let findings = pipeline.inspection().sink().take().unwrap();
        let mut settings = Settings::of(&config);
        settings.base_url.clone_from(&base_url);
        settings.issuer = ISSUER.to_owned();
        let settings = Arc::new(arc_swap::ArcSwap::from_pointee(settings));
        let endpoint = web::Endpoint::new(&config, pipeline, Arc::clone(&keys), &settings);
        let front = Arc::new(Front::new(settings, vec![Arc::new(endpoint.unwrap())]));
        let stop = CancellationToken::new();
        let options = serve::Options {
            connections: 1_000,
            head: Duration::from_secs(5),
            grace: Duration::from_secs(1),
            tls: None,
        };
        tokio::spawn(serve::serve(listener, front, options, stop.clone()));
        let token = token(&live, &keys, agent, &base_url);
        Self {
            base_url,
            token,
            log_dir,
            client: Client::builder(TokioExecutor::new()).build_http(),
            findings: Mutex::new(findings),
            stop,
            _dir: dir,
        }
    }

    /// Sends a request; the answer's body follows.
    pub(crate) async fn begin(
        &self,
        request: http::request::Builder,
        body: &str,
    ) -> Response<Incoming> {
        let request = request
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        self.client.request(request).await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/http/crm{path}", self.base_url)
    }

    pub(crate) async fn send(&self, method: &str, body: &str) -> Answered {
        let request = Request::builder().method(method).uri(self.url("/x"));
        let request = request.header("content-type", "application/json");
        read(self.begin(request, body).await).await
    }

    pub(crate) async fn get(&self) -> Answered {
        self.send("GET", "").await
    }

    /// The rules of what was found since the last time.
    pub(crate) fn found(&self) -> Vec<String> {
        let mut findings = self.findings.lock();
        let mut rules = Vec::new();
        while let Ok(one) = findings.try_recv() {
            assert!(one.decision.is_some() && one.finding.subject.task.is_some());
            rules.push(one.finding.rule);
        }
        rules
    }

    /// The records of the ends of all actions. Results are queued, so this waits until there are as many
    /// as intents that were permitted.
    pub(crate) async fn results(&self) -> Vec<Value> {
        loop {
            let reader = audit::Reader::open(&self.log_dir).unwrap();
            let records: Vec<Value> = reader
                .entries(0..reader.size())
                .map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap())
                .collect();
            let permitted = records.iter().filter(|r| r["permitted"] == true).count();
            let results: Vec<Value> = records
                .into_iter()
                .filter(|r| r["event"] == "result")
                .collect();
            if results.len() >= permitted {
                return results;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// An open task that may ask for everything, and a token for it.
fn token(live: &Live, keys: &KeyRing, agent: AgentName, base_url: &str) -> String {
    let now = Timestamp::now();
    let instance = InstanceId::new(now, random());
    let endpoints: Value = [
        "GET /x",
        "HEAD /x",
        "PUT /x",
        "POST /x",
        "WEBSOCKET /socket",
    ]
    .iter()
    .map(|name| json!({ "name": name, "other_arguments": "allow" }))
    .collect();
    let task = Task {
        id: TaskId::new(now, random()),
        agent: agent.clone(),
        instance: Some(instance),
        parent: None,
        template: "clerk".parse().unwrap(),
        parameters: BTreeMap::new(),
        purpose: "a test".to_owned(),
        grant: serde_json::from_value(json!({
            "permissions": [{ "type": "sallyport_http", "server": "crm", "endpoints": endpoints }],
            "budget": { "calls": 1_000 },
            "proof": "bearer",
        }))
        .unwrap(),
        opened_at: now,
        expires_at: now.checked_add(Duration::from_secs(600)).unwrap(),
        status: TaskStatus::Open,
        ended_at: None,
        ended_because: None,
    };
    let id = task.id;
    live.open(task, &[7; 32], Usage::default());
    let claims = AccessClaims {
        iss: ISSUER.to_owned(),
        sub: "spiffe://example.org/agent/clerk".to_owned(),
        aud: format!("{base_url}/http/crm"),
        exp: now.as_second() + 300,
        iat: now.as_second(),
        jti: format!("{:?}", random()),
        client_id: instance,
        agent,
        task: Some(id),
        scope: "http".to_owned(),
        cnf: None,
        authorization_details: None,
    };
    keys.issue(&claims).unwrap()
}

pub(crate) async fn read(response: Response<Incoming>) -> Answered {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let complete = loop {
        match body.frame().await {
            None => break true,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => break false,
        }
    };
    Answered {
        status: head.status,
        headers: head.headers,
        body: bytes.into(),
        complete,
    }
}
