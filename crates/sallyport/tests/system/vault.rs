//! Content that is kept: sealed, shown to the operator only and on record, and destroyed for good.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::http::Call;
use crate::support::provider::{TALK, answering};
use crate::support::sdk::{CLOCK, time_server};
use crate::support::{Gateway, Setup};

const QUESTION: &str = "what is the password of the vault";
const ANSWER: &str = "the answer that nobody may read";

/// A provider that answers everything with the same words.
async fn provider() -> String {
    answering(&json!({
        "id": "c", "object": "chat.completion", "model": "m", "created": 1,
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": ANSWER } }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    }))
    .await
}

async fn gateway(more: &str) -> Gateway {
    let url = provider().await;
    let setup = Setup::new().server("ai", "llm", &format!("{url}/v1"));
    setup.and(more).template("chat", TALK).start().await
}

async fn ask(agent: &Agent, task: &str) -> (u16, Value) {
    let token = agent.token_of_kind("llm", "ai", task, false).await;
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": QUESTION }] });
    let call = Call::post(&format!("{}/v1/chat/completions", token.resource))
        .header("authorization", &format!("Bearer {}", token.text))
        .json(&body);
    let answer = call.send().await.unwrap();
    (answer.status, answer.json())
}

/// The last record of a kind, once it is there.
async fn record(gateway: &Gateway, is: impl Fn(&Value) -> bool) -> Value {
    loop {
        let records = gateway.records();
        if let Some(found) = records.iter().rfind(|record| is(record)) {
            return found.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whether a text stands in clear in a file of the data directory.
fn stands_in(dir: &std::path::Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return stands_in(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passed_is_sealed_shown_on_record_and_destroyed_for_good() {
    let mut gateway = gateway("record_content = \"sealed\"").await;
    let agent = gateway.agent("writer").await;
    let (task, other) = (
        agent.open_task("chat", json!({})).await,
        agent.open_task("chat", json!({})).await,
    );
    assert_eq!(ask(&agent, &task).await.0, 200);
    assert_eq!(ask(&agent, &other).await.0, 200);
    let result = record(&gateway, |record| {
        record["event"] == "result" && record["task"] == task.as_str()
    })
    .await;
    let content = result["notes"]["content"].as_array().unwrap();
    let parts: Vec<&str> = content
        .iter()
        .map(|it| it["part"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["request", "answer"]);
    assert_eq!(content[1]["hash"], result["hash"]);
    assert_eq!(content[1]["kept"], result["bytes"]);
    let decision = result["decision"].as_str().unwrap().to_owned();
    let data = gateway.dir().join("data");
    for text in [QUESTION, ANSWER] {
        assert!(!stands_in(&data, text), "{text} stands in clear");
    }
    // Over a crash too.
    gateway.kill();
    gateway.restart().await;
    let listed = gateway.run_json(&["vault", "list", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["payloads"], 2);
    let of_task = gateway.run_json(&["vault", "list", &task, "--json"]);
    assert_eq!(of_task[0]["decision"], decision.as_str());
    let shown = gateway.run_json(&["vault", "show", &decision, "--json"]);
    assert!(shown[0]["text"].as_str().unwrap().contains(QUESTION));
    assert!(shown[1]["text"].as_str().unwrap().contains(ANSWER));
    assert_eq!(shown[1]["hash"], result["hash"]);
    let looked = record(&gateway, |record| record["change"] == "vault.shown").await;
    assert_eq!(
        (looked["actor"].as_str(), looked["subject"].as_str()),
        (Some("operator"), Some(decision.as_str()))
    );
    let file = gateway.dir().join("answer.json");
    let saved = [
        "vault",
        "show",
        &decision,
        "--part",
        "answer",
        "-o",
        "answer.json",
    ];
    assert!(gateway.run(&saved).status.success());
    assert!(std::fs::read_to_string(&file).unwrap().contains(ANSWER));
    std::fs::remove_file(&file).unwrap();

    let destroy = [
        "vault",
        "destroy",
        &task,
        "--because",
        "request for erasure 17",
    ];
    let destroyed = gateway.run(&destroy);
    assert!(destroyed.status.success(), "{destroyed:?}");
    let refused = gateway.run(&["vault", "show", &decision]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("destroyed"),
        "{said}"
    );
    let record_of = record(&gateway, |record| record["change"] == "vault.destroyed").await;
    assert_eq!(record_of["details"]["because"], "request for erasure 17");
    // The task goes on, and nothing more of it is kept; the other task's content is still there.
    assert_eq!(ask(&agent, &task).await.0, 200);
    let later = record(&gateway, |record| {
        let of_task = record["task"] == task.as_str() && record["decision"] != decision.as_str();
        record["event"] == "result" && of_task
    })
    .await;
    let why = later["notes"]["content"][0]["not_kept"].as_str().unwrap();
    assert!(why.contains("destroyed"), "{why}");
    let of_other = gateway.run_json(&["vault", "list", &other, "--json"]);
    let of_other = of_other[0]["decision"].as_str().unwrap();
    gateway.run_json(&["vault", "show", of_other, "--json"]);
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_looks_into_the_vault() {
    let gateway = gateway("record_content = \"sealed\"").await;
    let agent = gateway.agent("writer").await;
    let task = agent.open_task("chat", json!({})).await;
    assert_eq!(ask(&agent, &task).await.0, 200);
    let result = record(&gateway, |record| record["event"] == "result").await;
    let decision = result["decision"].as_str().unwrap();
    let token = agent.token_of_kind("llm", "ai", &task, false).await;
    let control = gateway.control();
    let bearer = format!("Bearer {}", token.text);
    for (method, path) in [
        ("GET", "/v1/vault/tasks".to_owned()),
        ("GET", format!("/v1/vault/tasks/{task}")),
        ("POST", format!("/v1/vault/tasks/{task}/destroy")),
        ("POST", format!("/v1/vault/decisions/{decision}/show")),
    ] {
        let url = format!("{control}{path}");
        for header in ["", bearer.as_str(), "Bearer spo_guessed"] {
            let call = match method {
                "GET" => Call::get(&url),
                _ => Call::post(&url),
            };
            let call = if header.is_empty() {
                call
            } else {
                call.header("authorization", header)
            };
            let answer = call.send().await.unwrap();
            assert!(
                matches!(answer.status, 401 | 403),
                "{method} {path}: {answer:?}"
            );
        }
    }
    assert_eq!(
        gateway.run_json(&["vault", "list", "--json"])[0]["destroyed"],
        false
    );
    let shown = gateway
        .records()
        .iter()
        .filter(|record| record["change"] == "vault.shown")
        .count();
    assert_eq!(shown, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_hashes_the_log_says_nothing_of_content_and_a_full_vault_refuses_where_it_must() {
    let silent = gateway("record_content = \"none\"").await;
    let agent = silent.agent("writer").await;
    let task = agent.open_task("chat", json!({})).await;
    assert_eq!(ask(&agent, &task).await.0, 200);
    let result = record(&silent, |record| record["event"] == "result").await;
    assert!(result.get("hash").is_none() && !result["notes"].to_string().contains("hash"));
    let vault = silent.run_json(&["vault", "list", "--json"]);
    assert!(vault.as_array().unwrap().is_empty());

    let full = "record_content = \"sealed\"\n[vault]\nwhen_full = \"refuse\"\npayload_bytes = 200\n\
                task_bytes = 1000";
    let strict = gateway(full).await;
    let agent = strict.agent("writer").await;
    let task = agent.open_task("chat", json!({})).await;
    let mut refused = None;
    for _ in 0..10 {
        let (status, body) = ask(&agent, &task).await;
        if status != 200 {
            refused = Some((status, body));
            break;
        }
        // The next one is decided by what is kept, so this waits until it is.
        let all = || strict.records();
        let done = |all: &[Value]| {
            let of = |event: &str| all.iter().filter(|it| it["event"] == event).count();
            of("result") >= of("intent")
        };
        while !done(&all()) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
    let (status, body) = refused.expect("a task with a full share is refused");
    assert_eq!(status, 503);
    assert_eq!(body["error"]["rule"], "audit_unavailable");
    let fresh = agent.open_task("chat", json!({})).await;
    assert_eq!(ask(&agent, &fresh).await.0, 200, "other tasks go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_results_of_tools_are_sealed_in_the_same_way() {
    let server = time_server();
    let setup = Setup::new()
        .stdio("clock", &server)
        .and("record_content = \"sealed\"");
    let gateway = setup.template("clock", CLOCK).start().await;
    let agent = gateway.agent("writer").await;
    let task = agent.open_task("clock", json!({})).await;
    let token = agent.token("clock", &task, true).await;
    let place = json!({ "timezone": "Europe/Rome" });
    let told = agent.call(&token, "get_current_time", place).await;
    assert!(told["result"].is_object(), "{told}");
    let result = record(&gateway, |record| {
        record["event"] == "result" && record["notes"]["content"][0]["part"] == "arguments"
    })
    .await;
    let decision = result["decision"].as_str().unwrap();
    let shown = gateway.run_json(&["vault", "show", decision, "--json"]);
    assert_eq!(shown[0]["part"], "arguments");
    assert_eq!(shown[0]["text"], "{\"timezone\":\"Europe/Rome\"}");
    assert_eq!(shown[1]["hash"], result["hash"]);
    let answer = shown[1]["text"].as_str().unwrap();
    assert!(answer.contains("Europe/Rome"), "{answer}");
    let intent = record(&gateway, |record| {
        record["event"] == "intent" && record["decision"] == decision
    })
    .await;
    assert_eq!(shown[0]["hash"], intent["arguments_hash"]);
}
