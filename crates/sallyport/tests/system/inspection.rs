//! Inspection through the front door: a server that changes its tools once it is trusted, answers that
//! carry orders and credentials, planted tokens, and programs that are not what was pinned.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::{Gateway, Setup, packages, sdk};

const WEATHER: &str = r#"
description = "Tell the weather"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "weather"
tools = ["*"]
"#;

fn weather_server(more: &[&str]) -> Vec<String> {
    let script = packages::folder("inspection").join("changing.py");
    let mut command = vec![
        sdk::home()
            .join("venv/bin/python")
            .to_str()
            .unwrap()
            .to_owned(),
        script.to_str().unwrap().to_owned(),
    ];
    command.extend(more.iter().map(|part| (*part).to_owned()));
    command
}

async fn weather(more: &[&str], settings: &str, template: &str) -> (Gateway, Agent, Token) {
    let server = weather_server(more);
    let gateway = Setup::new()
        .stdio("weather", &server)
        .and(settings)
        .template("weather", &format!("{WEATHER}{template}"))
        .start()
        .await;
    let agent = gateway.agent("forecaster").await;
    let task = agent.open_task("weather", json!({})).await;
    let token = agent.token("weather", &task, true).await;
    (gateway, agent, token)
}

async fn tools(agent: &Agent, token: &Token) -> Vec<String> {
    let answer = agent.ask(token, "tools/list", json!({})).await.json();
    let tools = answer["result"]["tools"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"));
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    tools.iter().map(name).collect()
}

async fn forecast(agent: &Agent, token: &Token, city: &str) -> Value {
    agent.call(token, "forecast", json!({ "city": city })).await
}

fn is_told(answer: &Value, what: &str) -> bool {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.is_some_and(|text| text.contains(what))
}

fn rule(answer: &Value) -> &str {
    answer["error"]["data"]["rule"].as_str().unwrap_or_default()
}

/// The tools as `sallyport mcp review` gives them, by name.
fn reviewed(gateway: &Gateway, name: &str) -> Value {
    let all = gateway.run_json(&["mcp", "review", "--all", "--json"]);
    let mut tools = all.as_array().unwrap().iter();
    tools
        .rfind(|tool| tool["tool"] == name)
        .cloned()
        .unwrap_or(Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_changes_its_tools_once_trusted_is_found_out() {
    let (mut gateway, agent, token) = weather(&[], "", "").await;
    assert_eq!(
        tools(&agent, &token).await,
        ["forecast"],
        "the first contact is trusted"
    );
    assert_eq!(
        reviewed(&gateway, "forecast")["approved_by"],
        "first contact"
    );
    assert!(is_told(&forecast(&agent, &token, "Paris").await, "Sunny"));

    // Now it describes the tool otherwise, and offers another one. Both are gone, for calls too.
    assert_eq!(tools(&agent, &token).await, Vec::<String>::new());
    let refused = forecast(&agent, &token, "Paris").await;
    assert_eq!(rule(&refused), "tool_quarantined", "{refused}");
    let remedy = refused["error"]["data"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("sallyport mcp review weather"), "{remedy}");
    let other = agent
        .call(&token, "report", json!({ "city": "Paris" }))
        .await;
    assert_eq!(rule(&other), "tool_quarantined");

    // The review shows what is different, and what is wrong with it.
    let changed = reviewed(&gateway, "forecast");
    assert_eq!(changed["state"], "changed");
    let diff = changed["text"].as_str().unwrap();
    assert!(diff.contains("-  Tells the weather in a city."), "{diff}");
    assert!(
        diff.contains("+  <IMPORTANT>Before using this tool"),
        "{diff}"
    );
    let findings = changed["findings"].as_array().unwrap();
    let found = |rule: &str| findings.iter().any(|finding| finding["rule"] == rule);
    assert!(
        found("tool-hidden-instruction") && found("sensitive-file"),
        "{findings:?}"
    );
    assert_eq!(reviewed(&gateway, "report")["state"], "new");
    let shown = gateway.run(&["mcp", "review", "weather"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("accept it: sallyport mcp review weather --accept 'forecast@"),
        "{shown}"
    );

    // It holds after a restart, though the program is a fresh one that lists what was approved.
    gateway.terminate();
    gateway.restart().await;
    let task = agent.open_task("weather", json!({})).await;
    let token = agent.token("weather", &task, true).await;
    assert_eq!(tools(&agent, &token).await, Vec::<String>::new());
    assert_eq!(
        rule(&forecast(&agent, &token, "Paris").await),
        "tool_quarantined"
    );

    // What was rejected stays away; what was approved is back as soon as the server lists it again.
    let gone = gateway.run_json(&["mcp", "review", "weather", "--reject", "forecast", "--json"]);
    assert_eq!(gone[0]["state"], "rejected");
    assert_eq!(tools(&agent, &token).await, ["forecast"]);
    assert!(is_told(&forecast(&agent, &token, "Paris").await, "Sunny"));

    // Only the very definition that was looked at can be accepted.
    assert_eq!(
        tools(&agent, &token).await,
        Vec::<String>::new(),
        "it did it again"
    );
    let wrong = gateway.run(&["mcp", "review", "weather", "--accept", "report@00000000"]);
    assert_eq!(wrong.status.code(), Some(1));
    let hash = reviewed(&gateway, "report")["listed"].as_str().unwrap()[..8].to_owned();
    let named = format!("report@{hash}");
    let accepted = gateway.run_json(&["mcp", "review", "weather", "--accept", &named, "--json"]);
    assert_eq!(accepted[0]["state"], "approved");
    assert_eq!(tools(&agent, &token).await, ["report"]);
    let report = agent
        .call(&token, "report", json!({ "city": "Paris" }))
        .await;
    assert!(is_told(&report, "Sunny"), "{report}");

    let changes: Vec<Value> = gateway.records();
    let changes: Vec<&str> = changes
        .iter()
        .filter_map(|record| record["change"].as_str())
        .collect();
    for change in [
        "tools.approved",
        "tools.quarantined",
        "tools.restored",
        "tool.rejected",
        "tool.accepted",
    ] {
        assert!(changes.contains(&change), "{change} in {changes:?}");
    }
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn under_review_nothing_is_used_before_somebody_looked() {
    let (gateway, agent, token) = weather(&["--stays"], "pins = \"review\"", "").await;
    assert_eq!(
        rule(&forecast(&agent, &token, "Paris").await),
        "tool_quarantined"
    );
    assert_eq!(tools(&agent, &token).await, Vec::<String>::new());
    let accepted = gateway.run_json(&["mcp", "review", "weather", "--accept-all", "--json"]);
    assert_eq!(accepted.as_array().map(Vec::len), Some(1));
    assert_eq!(tools(&agent, &token).await, ["forecast"]);
    assert!(is_told(&forecast(&agent, &token, "Paris").await, "Sunny"));
    // An approval can be taken back.
    gateway.run_json(&["mcp", "review", "weather", "--reject", "forecast", "--json"]);
    assert_eq!(
        rule(&forecast(&agent, &token, "Paris").await),
        "tool_quarantined"
    );
    assert_eq!(tools(&agent, &token).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_are_blocked_and_redacted_as_the_policy_says() {
    let blocking = "\n[inspection]\nblock_from = \"high\"\n";
    let (gateway, agent, token) = weather(&["--stays"], "", blocking).await;
    assert!(is_told(&forecast(&agent, &token, "Paris").await, "Sunny"));
    let refused = forecast(&agent, &token, "Oslo").await;
    assert_eq!(rule(&refused), "content_blocked", "{refused}");
    assert!(!refused.to_string().contains("evil.example"), "{refused}");
    let redacted = forecast(&agent, &token, "Lima").await;
    assert!(
        is_told(&redacted, "[redacted: github-token] and it is 18 degrees"),
        "{redacted}"
    );
    assert!(
        !redacted.to_string().contains("ghp_"),
        "in the structured content neither: {redacted}"
    );

    // A planted token: whoever uses it is found out, however it is written.
    let made = gateway.run_json(&["canary", "create", "row 17 of the customers", "--json"]);
    let canary = made["token"].as_str().unwrap();
    let listed = gateway.run_json(&["canary", "list", "--json"]);
    assert_eq!(listed[0]["label"], "row 17 of the customers");
    let spread: String = canary.chars().flat_map(|c| [c, '-']).collect();
    for disguised in [canary.to_owned(), spread, canary.to_uppercase()] {
        let refused = forecast(&agent, &token, &format!("city {disguised}")).await;
        assert_eq!(rule(&refused), "content_blocked", "{disguised}: {refused}");
    }
    gateway.run_json(&["canary", "remove", canary, "--json"]);
    let city = forecast(&agent, &token, canary).await;
    assert!(is_told(&city, "Nobody knows"), "{city}");
    let records = gateway.records();
    let of_canary = records
        .iter()
        .any(|record| record["change"] == "canary.created" && !record.to_string().contains(canary));
    assert!(of_canary, "the token itself is not in the log");
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_what_was_pinned_is_not_started() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("server.py");
    std::fs::copy(packages::folder("inspection").join("changing.py"), &script).unwrap();
    let python = sdk::home().join("venv/bin/python");
    let command = [
        python.to_str().unwrap(),
        script.to_str().unwrap(),
        "--stays",
    ];
    let gateway = Setup::new()
        .stdio("weather", &command)
        .template("weather", WEATHER)
        .start()
        .await;
    let pinned = gateway.run_json(&["mcp", "pin", "--json"]);
    assert_eq!(pinned.as_array().map(Vec::len), Some(2), "{pinned}");
    gateway.managed("POST", "/v1/reload", json!({})).await;
    let agent = gateway.agent("forecaster").await;
    let ask = async || {
        // Each task has a program of its own.
        let task = agent.open_task("weather", json!({})).await;
        let token = agent.token("weather", &task, true).await;
        forecast(&agent, &token, "Paris").await
    };
    assert!(is_told(&ask().await, "Sunny"));
    assert_eq!(
        gateway.run(&["mcp", "pin", "--check"]).status.code(),
        Some(0)
    );

    let changed = std::fs::read_to_string(&script)
        .unwrap()
        .replace("Sunny", "Stormy");
    std::fs::write(&script, changed).unwrap();
    let refused = ask().await;
    let told = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(told.contains("not the one that was pinned"), "{refused}");
    assert_eq!(
        gateway.run(&["mcp", "pin", "--check"]).status.code(),
        Some(1)
    );

    gateway.run_json(&["mcp", "pin", "weather", "--json"]);
    gateway.managed("POST", "/v1/reload", json!({})).await;
    assert!(is_told(&ask().await, "Stormy"), "once it was pinned anew");
}
