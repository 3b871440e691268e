//! Certificates of agents at the HTTP doors: tokens that are good on one connection's certificate alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use identity::InstanceKey;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::agent::{Agent, unique};
use crate::support::certificates::{Said, Shown, svid};
use crate::support::http::Call;
use crate::support::local::Local;
use crate::support::tunnels::Api;
use crate::support::{Gateway, Setup};

const CERTIFIED: &str = r#"
description = "Something everywhere, with a certificate"
agents = ["*"]
ttl = "10m"
proof = "certificate"
budget = { calls = 1000 }

[[allow]]
server = "files"
tools = ["*"]

[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}", "GET /count"]

[[allow]]
server = "ai"
models = ["*"]

[[allow]]
server = "desk"
skills = ["*"]
"#;

/// A gateway with TLS, and servers of every kind that is reached over HTTP.
struct Scene {
    gateway: Gateway,
    base: String,
    _api: Api,
}

/// One running copy of an agent.
struct Running {
    folder: PathBuf,
    id: String,
    key: InstanceKey,
}

/// What curl got.
#[derive(Debug)]
struct Got {
    status: u16,
    text: String,
    /// What curl said when there was no answer.
    error: String,
}

impl Got {
    fn json(&self) -> Value {
        let body = self.text.split_once("\r\n\r\n").map_or("", |it| it.1);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Scene {
    async fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let api = Api::clear();
        let gateway = Setup::new()
            .stdio("files", &["/bin/true"])
            .server("crm", "http", &api.url())
            .and("[servers.crm.http]\nroutes = [\"GET /customers/{id}\", \"GET /count\"]\n")
            .server("ai", "llm", "http://127.0.0.1:1/v1")
            .server("desk", "a2a", "http://127.0.0.1:1")
            .template("certified", CERTIFIED)
            .start_with_tls(&made.cert.pem(), &made.signing_key.serialize_pem())
            .await;
        let port = gateway.gateway.rsplit_once(':').unwrap().1;
        Self {
            base: format!("https://localhost:{port}"),
            gateway,
            _api: api,
        }
    }

    fn ca(&self) -> String {
        let file = self.gateway.dir().join("cert.pem");
        file.to_str().unwrap().to_owned()
    }

    fn operate(&self, arguments: &[&str]) {
        let output = self
            .gateway
            .run(&[arguments, &["--ca", "cert.pem"]].concat());
        assert!(output.status.success(), "{output:?}");
    }

    /// A further copy of an agent, with the real commands.
    fn running(&self, agent: &str, name: &str) -> Running {
        let known = self
            .gateway
            .run(&["agent", "show", agent, "--ca", "cert.pem"]);
        if !known.status.success() {
            self.operate(&["agent", "register", agent, "--sponsor", "ada@example.org"]);
        }
        let made =
            self.gateway
                .run_json(&["agent", "enrolment", agent, "--ca", "cert.pem", "--json"]);
        let folder = self.gateway.dir().join(name);
        let output = Command::new(crate::support::SALLYPORT)
            .args(["agent", "enroll", "--control", self.gateway.control()])
            .args(["--ca", &self.ca(), "--instance"])
            .arg(&folder)
            .env("SALLYPORT_ENROLMENT_TOKEN", made["token"].as_str().unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let about = std::fs::read(folder.join("instance.json")).unwrap();
        let about: Value = serde_json::from_slice(&about).unwrap();
        Running {
            id: about["id"].as_str().unwrap().to_owned(),
            key: InstanceKey::load_pem(&folder.join("key.pem")).unwrap(),
            folder,
        }
    }

    fn svid(&self, running: &Running, name: &str) -> Shown {
        let out = self.gateway.dir().join(name);
        svid(&running.folder, &out, &["--ca", &self.ca()])
    }

    fn task(&self, agent: &str) -> String {
        let opened = self.gateway.run_json(&[
            "task",
            "open",
            "--agent",
            agent,
            "--template",
            "certified",
            "--ca",
            "cert.pem",
            "--json",
        ]);
        opened["id"].as_str().unwrap().to_owned()
    }

    /// One request with curl, on a connection of its own.
    fn curl(&self, shown: Option<&Shown>, arguments: &[&str]) -> Got {
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--cacert", &self.ca()]);
        if let Some(Shown { cert, key }) = shown {
            command.arg("--cert").arg(cert).arg("--key").arg(key);
        }
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Got {
            status: status.unwrap_or(0),
            text,
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asks for a token, on a connection that is made with a certificate.
    fn ask(&self, running: &Running, shown: Option<&Shown>, resource: &str, task: &str) -> Got {
        let control = self.gateway.control();
        let assertion = running
            .key
            .sign_assertion(&running.id, control, Timestamp::now(), &unique())
            .unwrap();
        let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let fields = [
            "grant_type=client_credentials".to_owned(),
            format!("client_assertion_type={kind}"),
            format!("client_assertion={assertion}"),
            format!("resource={resource}"),
            format!("authorization_details={details}"),
        ];
        let url = format!("{control}/oauth/token");
        let mut arguments = vec![url.as_str()];
        for field in &fields {
            arguments.extend(["--data-urlencode", field]);
        }
        self.curl(shown, &arguments)
    }

    fn token(&self, running: &Running, shown: &Shown, resource: &str, task: &str) -> String {
        let got = self.ask(running, Some(shown), resource, task);
        assert_eq!(got.status, 200, "{got:?}");
        let answer = got.json();
        assert_eq!(answer["token_type"], "Bearer");
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

/// The doors: what a token there is for, and a request.
const DOORS: [(&str, &str, &[&str]); 4] = [
    (
        "/mcp/files",
        "",
        &[
            "-H",
            "content-type: application/json",
            "-H",
            "accept: application/json, text/event-stream",
            "-d",
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        ],
    ),
    ("/http/crm", "/customers/7", &[]),
    (
        "/llm/ai",
        "/chat/completions",
        &[
            "-H",
            "content-type: application/json",
            "-d",
            r#"{"model":"m","messages":[]}"#,
        ],
    ),
    (
        "/a2a/desk",
        "",
        &[
            "-H",
            "content-type: application/json",
            "-d",
            r#"{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x"}}"#,
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_is_worthless_on_every_other_connection() {
    let scene = Scene::new().await;
    let own = scene.running("clerk", "own");
    let sibling = scene.running("clerk", "sibling");
    let other = scene.running("other", "other");
    let task = scene.task("clerk");
    let shown = scene.svid(&own, "own-svid");
    let next = scene.svid(&own, "next-svid");
    let siblings = scene.svid(&sibling, "sibling-svid");
    let theirs = scene.svid(&other, "other-svid");
    for (path, rest, more) in DOORS {
        let resource = format!("{}{path}", scene.base);
        let token = scene.token(&own, &shown, &resource, &task);
        let url = format!("{resource}{rest}");
        for version in ["--http1.1", "--http2"] {
            let call = |shown: Option<&Shown>, scheme: &str| {
                let authorization = format!("authorization: {scheme} {token}");
                let head = [version, "-H", authorization.as_str(), url.as_str()];
                scene.curl(shown, &[&head, more].concat())
            };
            let good = call(Some(&shown), "Bearer");
            assert!(
                ![0, 401].contains(&good.status),
                "{path} {version}: {good:?}"
            );
            if path == "/http/crm" {
                assert_eq!(good.status, 200, "{good:?}");
            }
            for (who, thief) in [
                ("nobody", None),
                ("the next certificate", Some(&next)),
                ("a sibling", Some(&siblings)),
                ("another agent", Some(&theirs)),
            ] {
                let refused = call(thief, "Bearer");
                let what = format!("{who} {path} {version}: {refused:?}");
                assert_eq!(refused.status, 401, "{what}");
                let head = refused.text.to_ascii_lowercase();
                assert!(head.contains("www-authenticate: bearer "), "{what}");
                assert!(head.contains("error=\"invalid_token\""), "{what}");
                assert!(head.contains("bound to a certificate"), "{what}");
            }
            let refused = call(Some(&shown), "DPoP");
            assert_eq!(refused.status, 401, "{path} {version}: {refused:?}");
        }
    }
    // Refused or not, nothing was sent on but what the agent itself asked for.
    let seen = scene
        .gateway
        .records()
        .into_iter()
        .filter(|record| record["event"] == "intent" && record["proof"] != "certificate");
    assert_eq!(seen.count(), 0);
    scene.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_follows_its_certificate_and_its_agent() {
    let scene = Scene::new().await;
    let own = scene.running("clerk", "own");
    let other = scene.running("other", "other");
    let task = scene.task("clerk");
    let shown = scene.svid(&own, "own-svid");
    let theirs = scene.svid(&other, "other-svid");
    let resource = format!("{}/http/crm", scene.base);
    // Nobody gets a token with a certificate of somebody else, or without one.
    let refused = scene.ask(&own, Some(&theirs), &resource, &task);
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (401, &json!("invalid_client"))
    );
    let refused = scene.ask(&own, None, &resource, &task);
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (400, &json!("invalid_request"))
    );
    let refused = scene.ask(&other, Some(&theirs), &resource, &task);
    assert_eq!(
        (refused.status, &refused.json()["error"]),
        (400, &json!("invalid_target"))
    );
    let token = scene.token(&own, &shown, &resource, &task);
    let call = || {
        let authorization = format!("authorization: Bearer {token}");
        let url = format!("{resource}/customers/7");
        scene.curl(Some(&shown), &["-H", &authorization, &url])
    };
    assert_eq!(call().status, 200);
    scene.operate(&["agent", "quarantine", "clerk"]);
    assert_eq!(call().status, 403);
    scene.operate(&["agent", "release", "clerk"]);
    assert_eq!(call().status, 200);
    scene.operate(&["agent", "disable-instance", &own.id]);
    assert_eq!(call().status, 401);
    // What nobody trusts is no connection at all, at any listener.
    let data = scene.gateway.dir().join("data");
    let folder = |name: &str| scene.gateway.dir().join(name);
    let said = Said::of("clerk", &own.id);
    let forged = [
        said.by_itself(&folder("itself")),
        said.by_another(&folder("another"), &data),
    ];
    for base in [scene.base.as_str(), scene.gateway.control()] {
        for forged in &forged {
            let got = scene.curl(Some(forged), &[&format!("{base}/livez")]);
            assert_eq!(got.status, 0, "{got:?}");
            assert!(!got.error.is_empty(), "{got:?}");
        }
        assert_eq!(scene.curl(None, &[&format!("{base}/livez")]).status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_say_what_is_possible_and_the_bundle_is_for_everyone() {
    let scene = Scene::new().await;
    let resource = format!(
        "{}/.well-known/oauth-protected-resource/http/crm",
        scene.base
    );
    let control = scene.gateway.control();
    let server = format!("{control}/.well-known/oauth-authorization-server");
    for url in [&resource, &server] {
        let document = scene.curl(None, &[url]).json();
        assert_eq!(
            document["tls_client_certificate_bound_access_tokens"], true,
            "{url}"
        );
    }
    let bundle = scene
        .curl(None, &[&format!("{control}/spiffe/bundle")])
        .json();
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    // OpenSSL, which shares nothing with the gateway, verifies a certificate by what came with it.
    let own = scene.running("clerk", "own");
    let shown = scene.svid(&own, "svid");
    let verified = Command::new("openssl")
        .args(["verify", "-purpose", "sslclient", "-x509_strict", "-CAfile"])
        .arg(scene.gateway.dir().join("svid/bundle.pem"))
        .arg(&shown.cert)
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let text = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(&shown.cert)
        .output();
    let text = String::from_utf8(text.unwrap().stdout).unwrap();
    assert!(
        text.contains("URI:spiffe://example.org/agent/clerk"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connector_gets_shows_and_keeps_a_certificate_by_itself() {
    let scene = Scene::new().await;
    let own = scene.running("clerk", "own");
    let agent = Agent::open(&scene.gateway, own.folder.clone());
    let ca = scene.ca();
    let local = Local::start_at(&agent, ("crm", "certified"), "127.0.0.1:0", &["--ca", &ca]);
    for _ in 0..3 {
        let answer = Call::get(&format!("{}/customers/7", local.url))
            .send()
            .await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let records = scene.gateway.records();
    let calls = records
        .iter()
        .filter(|record| record["event"] == "intent" && record["proof"] == "certificate");
    assert_eq!(calls.count(), 3);
    let issued = records
        .iter()
        .filter(|record| record["change"] == "svid.issued");
    assert_eq!(issued.count(), 1, "one certificate is enough for a while");
    local.end();
    let keys = std::fs::read_dir(&own.folder).unwrap();
    let keys: Vec<PathBuf> = keys.map(|it| it.unwrap().path()).collect();
    let known = |path: &&PathBuf| {
        !["key.pem", "instance.json"]
            .map(Path::new)
            .contains(&Path::new(path.file_name().unwrap()))
    };
    assert_eq!(keys.iter().filter(known).count(), 0, "{keys:?}");
}
