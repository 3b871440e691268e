//! Official clients of providers of models against a real model, over the HTTP APIs of OpenAI and Anthropic.
//! Only base URL and key are set; no client knows of the gateway. On the surface of Anthropic too it is
//! llama.cpp that answers: what Anthropic itself adds is not seen here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::Call;
use crate::support::program::Program;
use crate::support::{Gateway, SALLYPORT, Setup, packages};

const CHAT: &str = r#"
description = "Talk to a small model"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { tokens = 100000, usd = 0.50 }

[[allow]]
server = "ai"
models = ["fast", "smollm2"]

[[allow]]
server = "claude"
models = ["smollm2"]
"#;

/// What a task may use besides that makes vectors.
const VECTORS: &str = r#"
[[allow]]
server = "vectors"
models = ["smollm2"]
"#;

/// Where the packages are.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| packages::install("llm"))
}

/// A real model behind a server of its own; it ends with this.
struct Model {
    _program: Program,
    url: String,
}

impl Model {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&str]) -> Self {
        let mut command = Command::new(home().join("venv/bin/python"));
        command
            .arg(packages::folder("llm").join("model.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        let (program, url) = Program::announced(&mut command);
        assert!(url.starts_with("http://"), "the model does not start");
        Self {
            _program: program,
            url,
        }
    }
}

/// A gateway in front of the model, over both surfaces, and of `more`, which tasks `may` use.
async fn gateway(model: &Model, more: &str, may: &str) -> Gateway {
    let url = &model.url;
    let servers = format!(
        "[servers.ai]\nkind = \"llm\"\nurl = \"{url}/v1\"\n\
         [servers.ai.llm]\naliases = {{ fast = \"smollm2\" }}\n\
         [servers.ai.llm.prices.\"*\"]\ninput_usd_per_million = 0.15\noutput_usd_per_million = 0.6\n\
         [servers.claude]\nkind = \"llm\"\nurl = \"{url}\"\n\
         [servers.claude.llm]\nsurface = \"anthropic\"\n\
         [servers.claude.llm.prices.\"*\"]\ninput_usd_per_million = 3\noutput_usd_per_million = 15\n{more}"
    );
    let setup = Setup::new().and(&servers);
    setup
        .template("chat", &format!("{CHAT}{may}"))
        .start()
        .await
}

/// The URL of a server at the gateway, and a bearer token for it.
async fn token(agent: &Agent, server: &str, task: &str) -> (String, String) {
    let token = agent.token_of_kind("llm", server, task, false).await;
    (token.resource, token.text)
}

fn python() -> Command {
    let mut command = Command::new(home().join("venv/bin/python"));
    command.arg(packages::folder("llm").join("drive.py"));
    command
}

fn typescript() -> Command {
    let mut command = Command::new(home().join("bin/node"));
    command
        .arg(packages::folder("llm").join("drive.mjs"))
        .arg(home());
    command
}

fn spoke(seen: &Value, of: &[&str]) {
    for name in of {
        let text = seen[name].as_str().unwrap_or_default();
        assert!(!text.trim().is_empty(), "{name}: {seen}");
    }
}

fn refused(seen: &Value, kind: &str, status: u16, rule: &str) {
    assert_eq!(seen["type"], kind, "{seen}");
    assert_eq!(seen["status"], status, "{seen}");
    assert_eq!(seen["error"]["rule"], rule, "{seen}");
    let remedy = seen["error"]["remedy"].as_str().unwrap_or_default();
    assert!(!remedy.is_empty(), "{seen}");
}

fn check_openai(seen: &Value) {
    spoke(seen, &["chat", "stream"]);
    assert!(seen["tokens"].as_u64().unwrap() > 12, "{seen}");
    assert_eq!(seen["models"], json!(["fast", "smollm2"]), "{seen}");
    refused(&seen["denied"], "PermissionDeniedError", 403, "not_granted");
    refused(
        &seen["stranger"],
        "AuthenticationError",
        401,
        "unauthenticated",
    );
}

fn check_embeddings(seen: &Value, vectors: u64) {
    assert_eq!(seen["vectors"], vectors, "{seen}");
    assert!(seen["dimensions"].as_u64().unwrap() > 100, "{seen}");
    assert!(seen["tokens"].as_u64().unwrap() > 5, "{seen}");
    refused(&seen["denied"], "PermissionDeniedError", 403, "not_granted");
}

fn check_anthropic(seen: &Value) {
    spoke(seen, &["message", "stream", "helper"]);
    refused(&seen["denied"], "PermissionDeniedError", 403, "not_granted");
    refused(
        &seen["stranger"],
        "AuthenticationError",
        401,
        "unauthenticated",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn official_clients_talk_to_a_real_model_with_base_url_and_key_alone() {
    let model = Model::start();
    let embedder = Model::with(&["--embeddings"]);
    let vectors = format!(
        "[servers.vectors]\nkind = \"llm\"\nurl = \"{}/v1\"\n\
         [servers.vectors.llm.prices.\"*\"]\ninput_usd_per_million = 0.02\n",
        embedder.url
    );
    let gateway = gateway(&model, &vectors, VECTORS).await;
    let agent = gateway.agent("writer").await;
    let task = agent.open_task("chat", json!({})).await;
    let (ai, ai_key) = token(&agent, "ai", &task).await;
    let (claude, claude_key) = token(&agent, "claude", &task).await;
    let (vectors, vectors_key) = token(&agent, "vectors", &task).await;
    let plan = json!({
        "embeddings": { "url": format!("{vectors}/v1"), "key": vectors_key },
        "openai": { "url": format!("{ai}/v1"), "key": ai_key },
        "anthropic": { "url": claude, "key": claude_key },
        "model": "smollm2", "denied": "gpt-x",
        "clients": ["openai", "anthropic", "embeddings", "agents", "langgraph"],
    });
    let seen = packages::carry_out(python(), &plan).await;
    check_openai(&seen["openai"]);
    spoke(&seen["openai"], &["response", "completion"]);
    let events = json!(["response.created", "response.completed"]);
    assert_eq!(seen["openai"]["response_events"], events);
    assert!(
        seen["openai"]["stream_tokens"].as_u64().unwrap() > 12,
        "{seen}"
    );
    check_anthropic(&seen["anthropic"]);
    assert_eq!(seen["anthropic"]["models"], json!(["smollm2"]));
    assert_eq!(
        seen["anthropic"]["helper"],
        seen["anthropic"]["helper_final"]
    );
    assert!(seen["anthropic"]["helper_tokens"].as_u64().unwrap() > 0);
    check_embeddings(&seen["embeddings"], 3);
    let apart = seen["embeddings"]["apart"].as_f64().unwrap();
    assert!(apart < 0.01, "both encodings say the same: {seen}");
    assert!(
        seen["anthropic"]["counted"].as_u64().unwrap() > 12,
        "{seen}"
    );
    spoke(&seen["agents"], &["chat", "responses"]);
    spoke(&seen["langgraph"], &["whole", "stream"]);
    let plan = json!({
        "openai": plan["openai"], "anthropic": plan["anthropic"],
        "embeddings": plan["embeddings"], "model": "smollm2", "denied": "gpt-x",
        "clients": ["openai", "anthropic", "embeddings"],
    });
    let typescript = packages::carry_out(typescript(), &plan).await;
    check_openai(&typescript["openai"]);
    check_anthropic(&typescript["anthropic"]);
    check_embeddings(&typescript["embeddings"], 2);

    let records = gateway.records();
    let results = || records.iter().filter(|record| record["event"] == "result");
    assert!(results().any(|record| record["spent"]["tokens"].as_u64() > Some(12)));
    assert!(results().any(|record| record["notes"]["tools"][0]["name"] == "weather"));
    let text = serde_json::to_string(&records).unwrap();
    let said = seen["openai"]["chat"].as_str().unwrap();
    for content in ["Say hello", said, &ai_key, &claude_key] {
        let content = serde_json::to_string(content).unwrap();
        assert!(
            !text.contains(content.trim_matches('"')),
            "{content} is on record"
        );
    }
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_task_cuts_what_a_real_model_is_writing() {
    let model = Model::start();
    let gateway = gateway(&model, "", "").await;
    let agent = gateway.agent("writer").await;
    let task = agent.open_task("chat", json!({})).await;
    let (ai, key) = token(&agent, "ai", &task).await;
    let body = json!({
        "model": "fast", "stream": true, "max_tokens": 4_000, "ignore_eos": true,
        "messages": [{ "role": "user", "content": "Tell a story without an end." }],
    });
    let call = Call::post(&format!("{ai}/v1/chat/completions"))
        .header("authorization", &format!("Bearer {key}"))
        .json(&body);
    let streaming = tokio::spawn(call.clone().send());
    let begun = |records: &[Value]| {
        let fast = |record: &Value| record["event"] == "intent" && record["target"] == "fast";
        records.iter().any(fast)
    };
    while !begun(&gateway.records()) {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let ended = Command::new(SALLYPORT)
        .args(["task", "revoke", &task])
        .current_dir(gateway.dir())
        .output()
        .unwrap();
    assert!(ended.status.success());
    let cut = streaming.await.unwrap().unwrap();
    assert_eq!(cut.json()["error"]["rule"], "task_not_open", "{cut:?}");
    let after = call.send().await.unwrap();
    assert!(matches!(after.status, 401 | 403), "{after:?}");
    let results = gateway.records();
    let result = results
        .iter()
        .rfind(|record| record["event"] == "result")
        .unwrap();
    assert_eq!(result["ended"], "cut");
    assert!(result["spent"]["tokens"].as_u64().unwrap() > 0, "{result}");
}
