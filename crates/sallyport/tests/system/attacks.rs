//! Attacks on the rules, from outside and through the front door, against real upstreams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::agent::{Agent, request};
use crate::support::http::Call;
use crate::support::sdk::{file_server, time_server};
use crate::support::{Gateway, Setup};

const CLOCK: &str = r#"
description = "Tell the time"
agents = ["*"]
ttl = "10m"
budget = { calls = 100000 }

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

const SHORT: &str = r#"
description = "Tell the time three times, within two seconds"
agents = ["*"]
ttl = "5s"
budget = { calls = 3 }

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

const OTHER: &str = r#"
description = "Use another server"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "other"
tools = ["*"]
"#;

async fn clock() -> Gateway {
    let server = time_server();
    Setup::new()
        .stdio("clock", &server)
        .stdio("other", &server)
        .template("clock", CLOCK)
        .template("short", SHORT)
        .template("other", OTHER)
        .start()
        .await
}

fn utc() -> Value {
    json!({ "timezone": "UTC" })
}

fn call_utc(url: &str) -> Call {
    request(
        url,
        "tools/call",
        json!({ "name": "get_current_time", "arguments": utc() }),
    )
}

async fn status(call: Call) -> u16 {
    call.send().await.unwrap().status
}

fn assert_told_time(answer: &Value) {
    let text = answer["result"]["content"][0]["text"].as_str();
    assert!(
        text.is_some_and(|text| text.contains("timezone")),
        "{answer}"
    );
}

fn assert_denied(answer: &Value, rule: &str) {
    assert_eq!(answer["error"]["data"]["rule"], rule, "{answer}");
    assert!(answer.get("result").is_none(), "{answer}");
}

/// The token with a part of its header or claims changed, and what the attacker makes of the signature.
fn forged(token: &str, header: &Value, signature: impl Fn(&str) -> Vec<u8>) -> String {
    let claims = token.split('.').nth(1).unwrap();
    let signed = format!("{}.{claims}", BASE64.encode(header.to_string()));
    let signature = BASE64.encode(signature(&signed));
    format!("{signed}.{signature}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_is_of_no_use() {
    let gateway = clock().await;
    let (victim, thief) = (gateway.agent("victim").await, gateway.agent("thief").await);
    let task = victim.open_task("clock", json!({})).await;
    let token = victim.token("clock", &task, true).await;
    assert_told_time(&victim.call(&token, "get_current_time", utc()).await);

    let url = token.resource.as_str();
    let dpop = format!("DPoP {}", token.text);
    // As a bearer token; with the thief's own proof; with none; with a proof for something else.
    let bearer = call_utc(url).header("authorization", &format!("Bearer {}", token.text));
    assert_eq!(status(bearer).await, 401);
    assert_eq!(status(thief.authorise(call_utc(url), &token)).await, 401);
    assert_eq!(
        status(call_utc(url).header("authorization", &dpop)).await,
        401
    );
    let other_url = victim.resource("other");
    for proof in [
        victim.proof("GET", url, Some(&token.text)),
        victim.proof("POST", &other_url, Some(&token.text)),
        victim.proof("POST", url, Some("another token")),
        victim.proof("POST", url, None),
    ] {
        let call = call_utc(url)
            .header("authorization", &dpop)
            .header("dpop", &proof);
        assert_eq!(status(call).await, 401);
    }
    // A proof that was seen on the wire, a second time.
    let call = victim.authorise(call_utc(url), &token);
    assert_eq!(status(call.clone()).await, 200);
    let replayed = call.send().await.unwrap();
    assert_eq!(replayed.status, 401);
    assert!(
        replayed
            .header("www-authenticate")
            .contains("invalid_dpop_proof"),
        "{replayed:?}"
    );
    // At another server than the one it was made for.
    assert_eq!(
        status(victim.authorise(call_utc(&other_url), &token)).await,
        401
    );
    // Nor does the thief get a token for the victim's task.
    let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
    let fields = [
        ("resource", url),
        ("scope", "mcp"),
        ("authorization_details", &details),
    ];
    let answer = thief.ask_token(&fields, true).await;
    assert!(!answer.is_success(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_tokens_are_refused() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let jwks = Call::get(&format!("{}/oauth/jwks", gateway.control))
        .send()
        .await
        .unwrap()
        .json();
    let kid = jwks["keys"][0]["kid"].as_str().unwrap();
    let public = jwks["keys"][0].to_string();

    let hmac = |signed: &str| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
        aws_lc_rs::hmac::sign(&key, signed.as_bytes())
            .as_ref()
            .to_vec()
    };
    let own = |signed: &str| {
        let proof = agent.proof("POST", signed, None);
        BASE64.decode(proof.rsplit('.').next().unwrap()).unwrap()
    };
    let mut longer = token.text.clone();
    longer.push('A');
    let mut claims: Value = serde_json::from_slice(
        &BASE64
            .decode(token.text.split('.').nth(1).unwrap())
            .unwrap(),
    )
    .unwrap();
    claims["agent"] = json!("victim");
    let parts: Vec<&str> = token.text.split('.').collect();
    let changed = format!(
        "{}.{}.{}",
        parts[0],
        BASE64.encode(claims.to_string()),
        parts[2]
    );
    let at = |alg: &str| json!({ "typ": "at+jwt", "alg": alg, "kid": kid });
    for forgery in [
        forged(&token.text, &at("none"), |_| Vec::new()),
        forged(&token.text, &at("HS256"), hmac),
        forged(&token.text, &at("ES256"), own),
        forged(
            &token.text,
            &json!({ "typ": "JWT", "alg": "ES256", "kid": kid }),
            own,
        ),
        longer,
        changed,
        format!("{}.{}.", parts[0], parts[1]),
        agent.assertion(),
        "x".repeat(20_000),
    ] {
        let forged = crate::support::agent::Token {
            text: forgery,
            ..token.clone()
        };
        let call = agent.authorise(call_utc(&token.resource), &forged);
        let answer = call.send().await.unwrap();
        assert!(matches!(answer.status, 400 | 401 | 431), "{answer:?}");
    }
    assert_told_time(&agent.call(&token, "get_current_time", utc()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_though_its_signature_is_good() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let claims = BASE64
        .decode(token.text.split('.').nth(1).unwrap())
        .unwrap();
    let mut claims: identity::AccessClaims = serde_json::from_slice(&claims).unwrap();
    let now = jiff::Timestamp::now();
    let keys = identity::KeyRing::open(&gateway.dir().join("data/keys"), now).unwrap();
    for (iat, exp, status) in [(-400, -100, 401), (-300, -1, 401), (0, 300, 200)] {
        claims.iat = now.as_second() + iat;
        claims.exp = now.as_second() + exp;
        claims.jti = crate::support::agent::unique();
        let made = crate::support::agent::Token {
            text: keys.issue(&claims).unwrap(),
            ..token.clone()
        };
        let answer = agent
            .authorise(call_utc(&token.resource), &made)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{iat} {exp}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_its_task_its_token_or_its_budget() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    agent.complete(&task).await;
    assert_denied(
        &agent.call(&token, "get_current_time", utc()).await,
        "task_not_open",
    );

    let task = agent.open_task("short", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    for _ in 0..3 {
        assert_told_time(&agent.call(&token, "get_current_time", utc()).await);
    }
    assert_denied(
        &agent.call(&token, "get_current_time", utc()).await,
        "budget_exhausted",
    );
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    let late = agent
        .authorise(call_utc(&token.resource), &token)
        .send()
        .await
        .unwrap();
    assert!(
        late.status == 401 || late.json()["error"]["data"]["rule"] == "task_not_open",
        "{late:?}"
    );

    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let fields = [("token", token.text.as_str())];
    let assertion = agent.assertion();
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let more = [
        ("client_assertion_type", kind),
        ("client_assertion", &assertion),
    ];
    let url = format!("{}/oauth/revoke", gateway.control);
    let answer = Call::post(&url)
        .form(&[&fields[..], &more[..]].concat())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        status(agent.authorise(call_utc(&token.resource), &token)).await,
        401
    );
}

/// Many callers at once, while the operator ends what they rely on: what begins after the operator's
/// command has returned is refused, every time.
async fn race(end: impl AsyncFn(&Gateway, &Agent, &str)) {
    let gateway = Arc::new(clock().await);
    let agent = Arc::new(gateway.agent("agent").await);
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    assert_told_time(&agent.call(&token, "get_current_time", utc()).await);
    let ended = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (agent, token, ended) = (Arc::clone(&agent), token.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let (mut before, mut after) = (0, 0);
                while after < 5 {
                    let late = ended.load(Ordering::SeqCst);
                    let call = agent.authorise(call_utc(&token.resource), &token);
                    let answer = call.send().await.unwrap();
                    let served = answer.status == 200 && answer.json().get("result").is_some();
                    assert!(!(late && served), "served after the end: {answer:?}");
                    if late {
                        after += 1
                    } else if served {
                        before += 1
                    }
                }
                before
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    end(&gateway, &agent, &task).await;
    ended.store(true, Ordering::SeqCst);
    let mut served = 0;
    for caller in callers {
        served += caller.await.unwrap();
    }
    assert!(served > 0, "the race was over before it began");
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_task_holds_for_the_very_next_action() {
    race(async |gateway, _, task| {
        gateway
            .managed("POST", &format!("/v1/tasks/{task}/revoke"), json!({}))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_holds_for_the_very_next_action() {
    race(async |gateway, agent, _| {
        gateway
            .managed(
                "POST",
                &format!("/v1/agents/{}/quarantine", agent.name),
                json!({}),
            )
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_a_server_holds_for_the_very_next_action() {
    race(async |gateway, _, _| {
        gateway
            .managed("POST", "/v1/servers/clock/disable", json!({}))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantine_stops_everything_and_release_is_recorded() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    gateway
        .managed("POST", "/v1/agents/agent/quarantine", json!({}))
        .await;
    let answer = agent
        .authorise(call_utc(&token.resource), &token)
        .send()
        .await
        .unwrap();
    assert!(answer.status == 401 || answer.json()["error"]["data"]["rule"] == "agent_not_active");
    let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
    let fields = [
        ("resource", token.resource.as_str()),
        ("authorization_details", &details),
    ];
    assert!(!agent.ask_token(&fields, true).await.is_success());
    let control = [("resource", gateway.control.as_str()), ("scope", "tasks")];
    assert!(!agent.ask_token(&control, true).await.is_success());
    gateway
        .managed("POST", "/v1/agents/agent/release", json!({}))
        .await;
    assert!(agent.ask_token(&fields, true).await.is_success());
    let changes: Vec<String> = gateway
        .records()
        .iter()
        .filter_map(|record| record["change"].as_str().map(str::to_owned))
        .collect();
    for change in [
        "agent.registered",
        "agent.quarantined",
        "agent.released",
        "task.opened",
    ] {
        assert!(
            changes.iter().any(|made| made == change),
            "{change}: {changes:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_arrives_gets_a_clear_answer_and_the_gateway_goes_on() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (vec![b' '; 10 << 20], "10 MB"),
        (deep.into_bytes(), "deep"),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/c".to_vec(),
            "truncated",
        ),
        (b"\xff\xfe{}".to_vec(), "not UTF-8"),
        (
            br#"{"jsonrpc":"2.0","id":1,"id":2,"method":"tools/call"}"#.to_vec(),
            "twice",
        ),
        (Vec::new(), "empty"),
        (b"null".to_vec(), "null"),
    ];
    for (body, what) in bodies {
        let call = Call::post(&token.resource)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(body);
        let answer = agent.authorise(call, &token).send().await;
        // The connection may be closed while 10 MB are still on their way; anything else is told.
        if let Ok(answer) = answer {
            assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
            assert!(
                answer.json()["error"]["message"].is_string(),
                "{what}: {answer:?}"
            );
        } else {
            assert_eq!(what, "10 MB");
        }
    }
    // Header and body disagree: what is decided must be what is done.
    let mismatch = Call::post(&token.resource)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/list")
        .json(
            &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "get_current_time", "arguments": utc(),
            "_meta": { "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                       "io.modelcontextprotocol/clientCapabilities": {} } } }),
        );
    let answer = agent.authorise(mismatch, &token).send().await.unwrap();
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (400, &json!(-32020))
    );
    // An unknown method does not reach the server.
    let answer = agent.ask(&token, "tools/run", json!({})).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (404, &json!(-32601))
    );
    // Half a request, and then nothing.
    let address = gateway.gateway.strip_prefix("http://").unwrap();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"POST /mcp/clock HTTP/1.1\r\nHost: x\r\nContent-Le")
        .await
        .unwrap();
    half.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest).await;
    // Smuggling: two lengths.
    let mut two = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "POST /mcp/clock HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\
                   Connection: close\r\n\r\nabcde";
    two.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    two.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_told_time(&agent.call(&token, "get_current_time", utc()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_cannot_call() {
    let gateway = clock().await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let call = agent.authorise(call_utc(&token.resource), &token);
    assert_eq!(
        status(call.header("origin", "https://evil.example")).await,
        403
    );
    let call = agent.authorise(call_utc(&token.resource), &token);
    assert!(matches!(
        status(call.header("host", "evil.example")).await,
        400 | 403 | 421
    ));
    let operator = std::fs::read_to_string(gateway.dir().join("data/operator.token")).unwrap();
    let call = Call::get(&format!("{}/v1/agents", gateway.control))
        .header("authorization", &format!("Bearer {}", operator.trim()))
        .header("origin", "https://evil.example");
    assert_eq!(status(call).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_escapes_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    std::fs::create_dir_all(root.join("in/sub")).unwrap();
    std::fs::create_dir_all(root.join("in-other")).unwrap();
    for (file, text) in [
        ("in/a.txt", "inside"),
        ("in/sub/b.txt", "inside"),
        ("out.txt", "outside"),
        ("in-other/c.txt", "outside"),
    ] {
        std::fs::write(root.join(file), text).unwrap();
    }
    let template = format!(
        "description = \"Read one folder\"\nagents = [\"*\"]\nttl = \"10m\"\n\
         [[allow]]\nserver = \"files\"\ntools = [\"read_text_file\"]\n\
         arguments = {{ path = {{ below = \"{}/in\" }} }}\n",
        root.display()
    );
    let server = file_server(&root);
    let gateway = Setup::new()
        .stdio("files", &server)
        .template("read", &template)
        .start()
        .await;
    let agent = gateway.agent("reader").await;
    let task = agent.open_task("read", json!({})).await;
    let token = agent.token("files", &task, true).await;
    let mut session = Session::open(&agent, token).await;
    let base = root.display();
    for good in [format!("{base}/in/a.txt"), format!("{base}/in/sub/b.txt")] {
        let answer = session
            .call("read_text_file", json!({ "path": good }))
            .await;
        assert_eq!(
            answer["result"]["content"][0]["text"], "inside",
            "{good}: {answer}"
        );
    }
    for bad in [
        format!("{base}/out.txt"),
        format!("{base}/in/../out.txt"),
        format!("{base}/in/sub/../../out.txt"),
        format!("{base}/in/%2e%2e/out.txt"),
        format!("{base}/in/%252e%252e/out.txt"),
        format!("{base}/in/..%2fout.txt"),
        format!("{base}/in/..\\out.txt"),
        format!("{base}/in//../out.txt"),
        format!("{base}/in/./../out.txt"),
        format!("{base}/in-other/c.txt"),
        format!("{base}/IN/a.txt"),
        format!("{base}/in/\u{2024}\u{2024}/out.txt"),
        format!("{base}/in/\u{ff0e}\u{ff0e}/out.txt"),
        format!("{base}/in/a.txt\0.png"),
        format!("file://{base}/out.txt"),
        "in/a.txt".to_owned(),
        "~/in/a.txt".to_owned(),
        String::new(),
    ] {
        let answer = session.call("read_text_file", json!({ "path": bad })).await;
        assert_denied(&answer, "argument_refused");
    }
    for bad in [
        json!({}),
        json!({ "path": [format!("{base}/in/a.txt"), format!("{base}/out.txt")] }),
        json!({ "path": { "x": 1 } }),
        json!({ "path": format!("{base}/in/a.txt"), "Path": format!("{base}/out.txt") }),
    ] {
        assert_denied(
            &session.call("read_text_file", bad).await,
            "argument_refused",
        );
    }
}

/// A session of the handshake era.
struct Session<'a> {
    agent: &'a Agent,
    token: crate::support::agent::Token,
    id: String,
}

impl<'a> Session<'a> {
    async fn open(agent: &'a Agent, token: crate::support::agent::Token) -> Self {
        let mut session = Self {
            agent,
            token,
            id: String::new(),
        };
        let answer = session
            .post(
                json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": { "name": "test", "version": "1" } } }),
            )
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        session.id = answer.header("mcp-session-id").to_owned();
        assert!(session.id.len() >= 22, "{}", session.id);
        let note = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert_eq!(session.post(note).await.status, 202);
        session
    }

    async fn post(&self, body: Value) -> crate::support::http::Answer {
        let mut call = Call::post(&self.token.resource)
            .header("accept", "application/json, text/event-stream");
        if !self.id.is_empty() {
            call = call
                .header("mcp-session-id", &self.id)
                .header("mcp-protocol-version", "2025-11-25");
        }
        self.agent
            .authorise(call.json(&body), &self.token)
            .send()
            .await
            .unwrap()
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
        self.post(body).await.json()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_no_use_to_another_principal() {
    let folder = tempfile::tempdir().unwrap();
    let server = file_server(folder.path());
    let template = "description = \"Files\"\nagents = [\"*\"]\nttl = \"10m\"\n\
                    [[allow]]\nserver = \"files\"\ntools = [\"*\"]\n";
    let gateway = Setup::new()
        .stdio("files", &server)
        .template("all", template)
        .start()
        .await;
    let (owner, thief) = (gateway.agent("owner").await, gateway.agent("thief").await);
    let task = owner.open_task("all", json!({})).await;
    let mut session = Session::open(&owner, owner.token("files", &task, true).await).await;
    let listed = session.call("list_allowed_directories", json!({})).await;
    assert!(listed["result"].is_object(), "{listed}");
    // Another agent, and another task of the same agent: the session does not exist for them.
    let thiefs_task = thief.open_task("all", json!({})).await;
    let owners_other_task = owner.open_task("all", json!({})).await;
    for (who, task) in [(&thief, &thiefs_task), (&owner, &owners_other_task)] {
        let stolen = Session {
            agent: who,
            token: who.token("files", task, true).await,
            id: session.id.clone(),
        };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
        assert_eq!(stolen.post(body).await.status, 404);
    }
    owner.complete(&task).await;
    assert!(
        session
            .call("list_allowed_directories", json!({}))
            .await
            .get("result")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_out_of_logs_and_records() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let server = file_server(&root);
    let template = "description = \"Files\"\nagents = [\"*\"]\nttl = \"10m\"\n\
                    [[allow]]\nserver = \"files\"\ntools = [\"*\"]\n";
    std::fs::write(root.join("secret"), "s3cret-of-the-environment").unwrap();
    let gateway = Setup::new()
        .stdio("files", &server)
        .and(&format!(
            "environment = {{ API_TOKEN = {{ file = \"{}/secret\" }} }}",
            root.display()
        ))
        .template("all", template)
        .start()
        .await;
    let agent = gateway.agent("agent").await;
    let task = agent.open_task("all", json!({})).await;
    let token = agent.token("files", &task, true).await;
    let mut session = Session::open(&agent, token.clone()).await;
    let content = "the content nobody else may read";
    let path = root.join("x.txt");
    let arguments = json!({ "path": path, "content": content, "password": "hunter2hunter2" });
    session.call("write_file", arguments).await;
    let operator = std::fs::read_to_string(gateway.dir().join("data/operator.token")).unwrap();
    let key = std::fs::read_to_string(agent.key_file()).unwrap();
    let key_line = key.lines().nth(1).unwrap();
    let secrets = [
        content,
        "hunter2hunter2",
        "s3cret-of-the-environment",
        token.text.as_str(),
        operator.trim(),
        key_line,
        session.id.as_str(),
    ];
    let mut seen = gateway.stderr();
    for record in gateway.records() {
        seen.push_str(&record.to_string());
    }
    let metrics = Call::get(&format!("{}/metrics", gateway.control))
        .send()
        .await
        .unwrap();
    seen.push_str(&String::from_utf8_lossy(&metrics.body));
    assert!(seen.contains("write_file"));
    for secret in secrets {
        assert!(!seen.contains(secret), "{secret} was seen");
    }
}
