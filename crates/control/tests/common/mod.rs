//! A whole control plane in one process: real store, log, keys and pipeline, no sockets.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{
    Actor, Control, ControlSettings, Engine, EngineParts, Limits, OperatorToken, Settings, Setup,
};
use gateway::caller::Authenticator;
use gateway::live::Live;
use gateway::metrics::Metrics;
use gateway::pipeline::Pipeline;
use gateway::redaction::Redactor;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use identity::svid::{Authority, LIFETIME, Svid};
use identity::{InstanceKey, KeyRing, dpop};
use jiff::Timestamp;
use model::config::{Redaction, Server, ServerKind};
use model::record::{Change, Event, Record};
use model::{AgentName, InstanceId, ServerName, TaskId, Template, TemplateName, TrustDomain};
use policy::{Policies, World};
use serde_json::{Value, json};
use store::Store;

/// Base URL of the control listener.
pub(crate) const CONTROL: &str = "http://127.0.0.1:8600";
/// Base URL of the gateway.
pub(crate) const GATEWAY: &str = "http://127.0.0.1:8601";
/// URL of the forward proxy.
pub(crate) const PROXY: &str = "http://127.0.0.1:8603";

const TICKET: &str = r#"
    description = "Work on one support ticket"
    agents = ["support-*"]
    ttl = "30m"
    [parameters.ticket]
    pattern = "[0-9]{1,6}"
    [[allow]]
    server = "files"
    tools = ["read_text_file"]
    arguments = { path = { below = "/srv/tickets/${ticket}" } }
"#;

const OPEN: &str = r#"
    description = "Anything at the files, with a bearer token"
    agents = ["support-*"]
    ttl = "30m"
    proof = "bearer"
    budget = { calls = 100 }
    [[allow]]
    server = "files"
    tools = ["*"]
"#;

const WEB: &str = r#"
    description = "One invoice at an HTTP API"
    agents = ["support-*"]
    ttl = "30m"
    [[allow]]
    server = "billing"
    endpoints = ["GET /invoices/{id}"]
"#;

const CERTIFIED: &str = r#"
    description = "Anything at the files, with a certificate"
    agents = ["support-*"]
    ttl = "30m"
    proof = "certificate"
    [[allow]]
    server = "files"
    tools = ["*"]
"#;

const BRIEF: &str = r#"
    description = "A moment"
    agents = ["support-*"]
    ttl = "1s"
    [[allow]]
    server = "files"
    tools = ["*"]
"#;

/// The control plane, and the folder that it lives in.
pub(crate) struct Plane {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) control: Arc<Control>,
    pub(crate) operator: String,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of a successful answer.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// The `error` of a refusal by the token service, or the `rule` of one by the management API.
    #[track_caller]
    pub(crate) fn refusal(&self) -> &str {
        assert!(!self.status.is_success(), "{} {}", self.status, self.body);
        let rule = self.body.get("error").or_else(|| self.body.get("rule"));
        rule.and_then(Value::as_str)
            .unwrap_or_else(|| panic!("{}", self.body))
    }
}

/// A setup with five templates and three servers.
pub(crate) fn setup(policy: &str) -> Setup {
    let sources = [(PathBuf::from("policies/baseline.cedar"), policy.to_owned())];
    let texts = [
        ("ticket", TICKET),
        ("open", OPEN),
        ("web", WEB),
        ("brief", BRIEF),
        ("certified", CERTIFIED),
    ];
    let templates = texts.map(|(name, text)| {
        let name = TemplateName::parse(name).unwrap();
        (
            name.clone(),
            Template::parse(name, Path::new("template.toml"), text).unwrap(),
        )
    });
    let program = || Server {
        command: vec!["/bin/true".to_owned()],
        ..Server::default()
    };
    let api = Server {
        kind: ServerKind::Http,
        url: Some("https://billing.example".to_owned()),
        ..Server::default()
    };
    let servers = [
        ("files", program()),
        ("finance", program()),
        ("billing", api),
    ]
    .map(|(name, server)| (ServerName::parse(name).unwrap(), server));
    Setup {
        policies: Arc::new(Policies::compile(&sources).unwrap()),
        templates: templates.into(),
        servers: servers.into(),
        redaction: Redaction::default(),
        monitor: model::config::Monitor::default(),
    }
}

/// The policy that permits everything that grants cover.
pub(crate) const PERMIT: &str = "permit(principal, action, resource);";

impl Plane {
    /// A new one.
    pub(crate) async fn new() -> Self {
        Self::start(Arc::new(tempfile::tempdir().unwrap()), Limits::default()).await
    }

    /// One in a folder, as after a restart.
    pub(crate) async fn start(dir: Arc<tempfile::TempDir>, limits: Limits) -> Self {
        let log_dir = dir.path().join("log");
        let options = audit_options(dir.path());
        let (log, _) = audit::AuditLog::open(&log_dir, options).unwrap();
        let keys = Arc::new(KeyRing::open(&dir.path().join("keys"), Timestamp::now()).unwrap());
        let setup = setup(PERMIT);
        let live = Arc::new(Live::new(World::new(Arc::clone(&setup.policies)), log));
        let proofs = dpop::Proofs::new(10_000);
        let authenticator = Authenticator::new(Arc::clone(&keys), CONTROL.to_owned(), proofs);
        let redactor = Redactor::new(&setup.redaction).unwrap();
        let metrics = Arc::new(Metrics::default());
        let pipeline = Arc::new(Pipeline::new(live, authenticator, redactor, metrics));
        let authority = Authority::open(
            &dir.path().join("authority"),
            TrustDomain::parse("example.org").unwrap(),
            LIFETIME,
            Timestamp::now(),
        );
        let engine = Engine::start(EngineParts {
            store: Store::open(dir.path()).await.unwrap(),
            pipeline,
            keys,
            authority: Arc::new(authority.unwrap()),
            log_dir,
            setup,
            settings: Settings {
                trust_domain: TrustDomain::parse("example.org").unwrap(),
                control_url: CONTROL.to_owned(),
                gateway_url: GATEWAY.to_owned(),
                proxy_url: Some(PROXY.to_owned()),
                databases: Arc::default(),
                certificates: true,
                confinement_lacks: None,
                limits,
            },
            sweep: Arc::new(|| {}),
        })
        .await
        .unwrap();
        let settings = ControlSettings {
            operator: OperatorToken::open(dir.path()).unwrap(),
            loopback: true,
            reload: None,
            signals: None,
            responder: None,
        };
        let control = Arc::new(Control::new(Arc::clone(&engine), settings));
        let operator = std::fs::read_to_string(dir.path().join("operator.token")).unwrap();
        Self {
            dir,
            engine,
            control,
            operator: operator.trim_end().to_owned(),
        }
    }

    /// Ends this one as a crash would, and starts it again in the same folder.
    pub(crate) async fn restart(self) -> Self {
        self.engine.live().audit().close().await;
        self.engine.store().close().await;
        let dir = Arc::clone(&self.dir);
        drop(self);
        Self::start(dir, Limits::default()).await
    }

    /// Makes the log unwritable.
    pub(crate) async fn break_log(&self) {
        self.engine.live().audit().close().await;
    }

    /// Makes the store unusable.
    pub(crate) async fn break_store(&self) {
        self.engine.store().close().await;
    }

    /// One request.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.call_over(None, method, path, headers, body).await
    }

    /// One request on a connection that was made with a certificate, as the listener passes it on.
    pub(crate) async fn call_over(
        &self,
        certificate: Option<&Arc<Svid>>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(certificate) = certificate {
            request = request.extension(Arc::clone(certificate));
        }
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:8600");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self
            .control
            .answer(request.body(body.into()).unwrap())
            .await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_slice(&body).unwrap_or(Value::String(text));
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    /// One request by the operator.
    pub(crate) async fn operate(&self, method: &str, path: &str, body: Value) -> Answer {
        let bearer = format!("Bearer {}", self.operator);
        let headers = [
            ("authorization", &*bearer),
            ("content-type", "application/json"),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.call(method, path, &headers, body).await
    }

    /// Registers an agent.
    pub(crate) async fn register(&self, name: &str) {
        let body = json!({ "name": name, "sponsor": "ada@example.org" });
        self.operate("POST", "/v1/agents", body).await.ok();
    }

    /// An enrolment token for an agent.
    pub(crate) async fn enrolment(&self, name: &str) -> String {
        let path = format!("/v1/agents/{name}/enrolment");
        let made = self.operate("POST", &path, Value::Null).await.ok();
        made["token"].as_str().unwrap().to_owned()
    }

    /// Enrols with a token and a key.
    pub(crate) async fn enroll_with(&self, token: &str, jwk: &Value) -> Answer {
        let body = json!({ "token": token, "public_jwk": jwk }).to_string();
        self.call(
            "POST",
            "/v1/enroll",
            &[("content-type", "application/json")],
            body,
        )
        .await
    }

    /// An enrolled instance of a new agent, or of one that is there already.
    pub(crate) async fn instance(&self, agent: &str) -> Instance {
        let name = AgentName::parse(agent).unwrap();
        if self.engine.store().agent(&name).await.unwrap().is_none() {
            self.register(agent).await;
        }
        let key = InstanceKey::generate().unwrap();
        let token = self.enrolment(agent).await;
        let enrolled = self.enroll_with(&token, &key.public_jwk()).await.ok();
        let id = InstanceId::parse(enrolled["id"].as_str().unwrap()).unwrap();
        Instance {
            id,
            agent: name,
            key,
        }
    }

    /// A task that the operator opens for an agent; any instance may work on it.
    pub(crate) async fn task(&self, agent: &str, template: &str) -> TaskId {
        let parameters = if template == "ticket" {
            json!({ "ticket": "4711" })
        } else {
            json!({})
        };
        let body = json!({ "agent": agent, "template": template, "parameters": parameters });
        let opened = self.operate("POST", "/v1/tasks", body).await.ok();
        TaskId::parse(opened["id"].as_str().unwrap()).unwrap()
    }

    /// A request to the token endpoint with these parameters and a proof.
    pub(crate) async fn ask_token(&self, form: &[(&str, &str)], proof: Option<&str>) -> Answer {
        self.post_form("/oauth/token", form, proof).await
    }

    /// A form to one of the endpoints.
    pub(crate) async fn post_form(
        &self,
        path: &str,
        form: &[(&str, &str)],
        proof: Option<&str>,
    ) -> Answer {
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        headers.extend(proof.map(|proof| ("dpop", proof)));
        self.call("POST", path, &headers, encode(form)).await
    }

    /// The records of changes in the log whose name is this.
    pub(crate) fn changes(&self, name: &str) -> Vec<Change> {
        changes(&self.dir.path().join("log"), name)
    }

    /// An actor for calling the engine itself.
    pub(crate) fn operator(&self) -> Actor {
        Actor::Operator
    }
}

/// The options of the log in a data directory.
pub(crate) fn audit_options(dir: &Path) -> audit::Options {
    audit::Options::new("example.org/audit", dir.join("audit.key"))
}

/// The records of a log, all of them.
pub(crate) fn records(log_dir: &Path) -> Vec<Record> {
    let reader = audit::Reader::open(log_dir).unwrap();
    reader
        .entries(0..reader.size())
        .map(|entry| serde_json::from_slice(&entry.unwrap().1).unwrap())
        .collect()
}

/// The records of changes in a log whose name is this.
pub(crate) fn changes(log_dir: &Path, name: &str) -> Vec<Change> {
    let changes = records(log_dir)
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Change(change) if change.change == name => Some(*change),
            _ => None,
        });
    changes.collect()
}

/// An enrolled instance.
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) agent: AgentName,
    pub(crate) key: InstanceKey,
}

impl Instance {
    /// A client assertion for an audience.
    pub(crate) fn assertion(&self, audience: &str) -> String {
        let id = self.id.to_string();
        self.key
            .sign_assertion(&id, audience, Timestamp::now(), &unique())
            .unwrap()
    }

    /// A proof for the token endpoint.
    pub(crate) fn token_proof(&self) -> String {
        self.proof("POST", &format!("{CONTROL}/oauth/token"), None)
    }

    /// A proof for any request.
    pub(crate) fn proof(&self, method: &str, url: &str, token: Option<&str>) -> String {
        self.key
            .sign_dpop(method, url, token, None, Timestamp::now(), &unique())
            .unwrap()
    }

    /// The parameters of a token request, with a fresh assertion.
    pub(crate) fn form(&self, more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_assertion_type", ASSERTION_TYPE.to_owned()),
            ("client_assertion", self.assertion(CONTROL)),
        ];
        form.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        form
    }

    /// Asks for a token with a proof.
    pub(crate) async fn ask(&self, plane: &Plane, more: &[(&'static str, &str)]) -> Answer {
        let form = self.form(more);
        plane
            .ask_token(&borrowed(&form), Some(&self.token_proof()))
            .await
    }

    /// Asks for a token without a proof.
    pub(crate) async fn ask_bearer(&self, plane: &Plane, more: &[(&'static str, &str)]) -> Answer {
        let form = self.form(more);
        plane.ask_token(&borrowed(&form), None).await
    }

    /// A token for a server under a task.
    pub(crate) async fn token(&self, plane: &Plane, task: TaskId, server: &str) -> String {
        let resource = resource(task, server);
        let answer = self.ask(plane, &[("resource", &resource)]).await.ok();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    /// A request of the management API with a token of its own.
    pub(crate) async fn manage(
        &self,
        plane: &Plane,
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let answer = self
            .ask(plane, &[("resource", CONTROL), ("scope", "tasks")])
            .await
            .ok();
        let token = answer["access_token"].as_str().unwrap();
        let proof = self.proof(method, &format!("{CONTROL}{path}"), Some(token));
        let authorization = format!("DPoP {token}");
        let headers = [
            ("authorization", &*authorization),
            ("dpop", &*proof),
            ("content-type", "application/json"),
        ];
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        plane.call(method, path, &headers, body).await
    }

    /// Calls a tool at the enforcement point under a task, up to the permit.
    pub(crate) async fn attempt(
        &self,
        plane: &Plane,
        task: TaskId,
        token: &str,
        path: &str,
    ) -> Result<gateway::pipeline::Permit, String> {
        let nothing = model::Spent::default();
        self.attempt_expecting(plane, task, token, path, nothing)
            .await
    }

    /// The same, for an action that may use up so much.
    pub(crate) async fn attempt_expecting(
        &self,
        plane: &Plane,
        task: TaskId,
        token: &str,
        path: &str,
        expected: model::Spent,
    ) -> Result<gateway::pipeline::Permit, String> {
        let route = gateway::resource::Route {
            kind: model::config::ServerKind::Mcp,
            server: ServerName::parse("files").unwrap(),
            task: Some(task),
        };
        let url = resource(task, "files");
        let request = Request::post(&url)
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", self.proof("POST", &url, Some(token)))
            .body(())
            .unwrap();
        let pipeline = plane.engine.pipeline();
        let caller = pipeline
            .authenticate(&request, &route, "", GATEWAY)
            .map_err(|refused| refused.reason)?;
        let action = model::Action {
            server: route.server,
            method: "tools/call".to_owned(),
            operation: model::Operation::CallTool {
                tool: "read_text_file".to_owned(),
                arguments: serde_json::Map::from_iter([("path".to_owned(), path.into())]),
            },
            expected,
        };
        pipeline
            .attempt(&caller, action)
            .await
            .map_err(|denied| denied.denial.reason)
    }
}

/// The one kind of assertion.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The resource URL of a server under a task.
pub(crate) fn resource(task: TaskId, server: &str) -> String {
    format!("{GATEWAY}/tasks/{task}/mcp/{server}")
}

/// The authorization details that name a task.
pub(crate) fn details(task: TaskId) -> String {
    json!([{ "type": "sallyport_task", "task": task }]).to_string()
}

/// A form with borrowed values.
pub(crate) fn borrowed<'a>(form: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    form.iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

/// A form as it is sent.
pub(crate) fn encode(form: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect::<String>()
    };
    let pairs: Vec<_> = form
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    pairs.join("&")
}

/// A JWT with this header and these claims, and any signature.
pub(crate) fn jwt(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    format!(
        "{}.{}.{}",
        part(header.as_bytes()),
        part(claims.as_bytes()),
        part(signature)
    )
}

/// A text that was never used before.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!(
        "test-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
