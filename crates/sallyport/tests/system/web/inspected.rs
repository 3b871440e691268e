//! What is looked at in answers, with the real program.

use serde_json::json;

use super::{Desk, ROUTES, rule};
use crate::support::http::Call;

const OPEN: &str = r#"
description = "Order anything"
agents = ["*"]
ttl = "10m"
proof = "bearer"

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["POST /orders"]
other_arguments = "allow"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_leaks_is_taken_out_or_blocked_and_somebody_is_told() {
    let routes = ROUTES.replace("secrets = \"ignore\"", "secrets = \"redact\"");
    let mut desk = Desk::with(&routes, OPEN).await;
    let secret = format!(
        "{}{}",
        "gh".to_owned() + "p_",
        "1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R"
    );
    // The API sends back what it gets, as a text in its JSON.
    let order = |note: &str| Call::post(&desk.url("/orders")).json(&json!({ "note": note }));
    let answer = desk.send(order(&secret)).await;
    assert_eq!(answer.status, 201);
    let body = answer.json()["received"]["body"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(body, r#"{"note":"[redacted: github-token]"}"#);
    let canary = desk
        .gateway
        .run_json(&["canary", "create", "row 17 of orders", "--json"]);
    let canary = canary["token"].as_str().unwrap();
    let blocked = desk.send(order(canary)).await;
    assert_eq!(
        (blocked.status, rule(&blocked).as_str()),
        (403, "content_blocked")
    );
    desk.gateway
        .wait_until("the findings are there", async |gateway| {
            ["secret-github-token", "canary"].iter().all(|rule| {
                let found = gateway.run_json(&["findings", "list", "--rule", rule, "--json"]);
                found.to_string().contains("\"crm\"")
            })
        })
        .await;
    desk.gateway.verify();
    assert!(
        !desk
            .gateway
            .records()
            .iter()
            .any(|record| record.to_string().contains(&secret))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn annotations_of_an_api_are_drafted_from_its_endpoints() {
    let desk = Desk::new().await;
    let draft = desk.gateway.run(&["annotate", "crm"]);
    let text = String::from_utf8(draft.stdout).unwrap();
    for line in [
        "[endpoints.\"GET /customers/{id}\"]",
        "queries = { \"path.id\" = { type = \"identifier\", of = \"customer\" } }",
        "[endpoints.\"POST /orders\"]",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    let kept = desk.gateway.run(&["annotate", "crm", "--write"]);
    assert!(kept.status.success());
    assert!(desk.gateway.run(&["check"]).status.success());
}
