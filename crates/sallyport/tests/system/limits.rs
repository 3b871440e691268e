//! How fast agents may go, that nothing of what is refused is lost, and proofs with nonces: with real clients that
//! know of nothing.

use serde_json::{Value, json};

use crate::support::http::{Answer, Call};
use crate::support::local::Local;
use crate::support::sdk::{Client, time_server};
use crate::support::tunnels::Api;
use crate::support::{Gateway, SALLYPORT, Setup};

const CLERK: &str = r#"
description = "Look after customers"
agents = ["*"]
ttl = "10m"
budget = { calls = 100000 }
[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}", "POST /orders"]
other_arguments = "allow"
"#;

const CLOCK: &str = r#"
description = "Tell the time in Europe"
agents = ["*"]
ttl = "10m"
[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

const ROUTES: &str = "[servers.crm.http]\nroutes = [\"GET /customers/{id}\", \"POST /orders\"]\n";

/// Sends so many requests at once.
async fn at_once(count: usize, make: impl Fn() -> Call) -> Vec<Answer> {
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..count {
        asked.spawn(make().send());
    }
    let answers = asked.join_all().await.into_iter();
    answers.map(Result::unwrap).collect()
}

/// Changes the configuration of a running gateway.
pub(crate) fn reconfigure(gateway: &Gateway, lines: &str) {
    let file = gateway.config();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{lines}\n")).unwrap();
    let output = gateway.run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
}

/// The refusals by a rule in the log.
fn refusals(gateway: &Gateway, rule: &str) -> Vec<Value> {
    let of = |record: &Value| record["event"] == "refusal" && record["denial"]["rule"] == rule;
    gateway.records().into_iter().filter(of).collect()
}

fn times(records: &[Value]) -> u64 {
    records
        .iter()
        .map(|record| record["times"].as_u64().unwrap_or(1))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_runs_away_waits_and_its_neighbour_does_not() {
    let api = Api::clear();
    let mut gateway = Setup::new()
        .server("crm", "http", &api.url())
        .and(ROUTES)
        .and("[limits]\nagent_rate = { per_minute = 1, burst = 20 }\n")
        .template("clerk", CLERK)
        .start()
        .await;
    let (loud, quiet) = (gateway.agent("loud").await, gateway.agent("quiet").await);
    let task = loud.open_task("clerk", json!({})).await;
    let token = loud.token_of_kind("http", "crm", &task, true).await;
    let url = format!("{}/customers/7", token.resource);
    let (mut passed, mut refused) = (0, 0u64);
    for _ in 0..20 {
        for answer in at_once(30, || loud.authorise(Call::get(&url), &token)).await {
            match answer.status {
                200 => passed += 1,
                429 => {
                    refused += 1;
                    let wait: u64 = answer.header("retry-after").parse().unwrap();
                    assert!((1..=60).contains(&wait));
                    let problem = answer.json();
                    assert_eq!(problem["rule"], "rate_limited", "{problem}");
                    let decision = problem["decision"].as_str().unwrap();
                    assert!(decision.starts_with("dec_"), "{problem}");
                }
                status => panic!("{status}"),
            }
        }
    }
    // Less than a minute passes, or a little more; and the rest is refused.
    assert!((20..=23).contains(&passed), "{passed}");
    let task = quiet.open_task("clerk", json!({})).await;
    let own = quiet.token_of_kind("http", "crm", &task, true).await;
    let answer = quiet.authorise(Call::get(&url), &own).send().await.unwrap();
    assert_eq!(answer.status, 200);

    let shown = gateway.run_json(&["agent", "show", "loud", "--json"]);
    assert_eq!(shown["agent"]["pace"]["refused"], refused);
    let output = gateway.run(&["agent", "show", "loud"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 call a minute, 20 at once"), "{text}");
    assert!(text.contains("calls were too fast"), "{text}");
    gateway
        .wait_until("every refusal is on record, and seen", async |gateway| {
            let seen = gateway.run_json(&["findings", "list", "--json"]);
            let seen = seen.as_array().unwrap();
            let told = seen.iter().any(|one| one["rule"] == "rate-pressure");
            times(&refusals(gateway, "rate_limited")) == refused && told
        })
        .await;
    let written = refusals(&gateway, "rate_limited");
    assert!(written.iter().all(|one| one["agent"] == "loud"));
    let output = gateway.run(&["audit", "query", "--agent", "loud", "--denied", "--json"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("rate_limited"));
    gateway.verify();
    // Lifted for the very next call.
    let file = gateway.config();
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("agent_rate = { per_minute = 1, burst = 20 }", "");
    std::fs::write(&file, text).unwrap();
    assert!(gateway.run(&["reload"]).status.success());
    let task = loud.open_task("clerk", json!({})).await;
    let token = loud.token_of_kind("http", "crm", &task, true).await;
    let answer = loud
        .authorise(Call::get(&url), &token)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_is_counted_to_the_last_one() {
    let api = Api::clear();
    let mut gateway = Setup::new()
        .server("crm", "http", &api.url())
        .and(ROUTES)
        .template("clerk", CLERK)
        .start()
        .await;
    let url = format!("{}/http/crm/customers/7", gateway.gateway);
    for _ in 0..10 {
        let stranger = || Call::get(&url).header("authorization", "DPoP x.y.z");
        for answer in at_once(100, stranger).await {
            assert_eq!(answer.status, 401);
        }
    }
    gateway
        .wait_until("every refusal is on record", async |gateway| {
            times(&refusals(gateway, "unauthenticated")) == 1_000
        })
        .await;
    gateway
        .wait_until("the watch has counted them", async |gateway| {
            let seen = gateway.run_json(&["findings", "list", "--json"]);
            let seen = seen.as_array().unwrap();
            seen.iter().any(|one| one["rule"] == "refusal-pressure")
        })
        .await;
    // What is counted when it ends is not lost either.
    for _ in 0..200 {
        Call::get(&url)
            .header("authorization", "DPoP x.y.z")
            .send()
            .await
            .unwrap();
    }
    assert!(gateway.terminate().success());
    assert_eq!(times(&refusals(&gateway, "unauthenticated")), 1_200);
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_the_connector_never_notice_that_nonces_are_demanded() {
    let api = Api::clear();
    let gateway = Setup::new()
        .server("crm", "http", &api.url())
        .and(ROUTES)
        .stdio("clock", &time_server())
        .template("clerk", CLERK)
        .template("clock", CLOCK)
        .start()
        .await;
    let agent = gateway.agent("clerk-1").await;
    reconfigure(&gateway, "[proofs]\nnonce = \"required\"");
    // By hand, without one.
    let refused = agent
        .ask_token(&[("resource", gateway.control()), ("scope", "tasks")], true)
        .await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"], "use_dpop_nonce");
    assert!(!refused.header("dpop-nonce").is_empty());

    let local = Local::start(&agent, "crm", "clerk", &[]);
    for n in 1..=3 {
        let url = format!("{}/customers/{n}", local.url);
        assert_eq!(Call::get(&url).send().await.unwrap().status, 200);
    }
    let order = Call::post(&format!("{}/orders", local.url)).json(&json!({ "customer": "7" }));
    let answer = order.send().await.unwrap();
    assert!(answer.is_success(), "{answer:?}");
    local.end();
    for client in Client::ALL {
        let connector = [
            SALLYPORT,
            "connect",
            "clock",
            "--template",
            "clock",
            "--instance",
        ];
        let mut connector: Vec<String> = connector.map(str::to_owned).into();
        connector.push(agent.folder().to_str().unwrap().to_owned());
        let call = json!(["get_current_time", { "timezone": "Europe/Berlin" }]);
        let seen = client
            .drive(&json!({ "stdio": connector, "calls": [call] }))
            .await;
        let text = seen["calls"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains("Europe/Berlin"), "{client:?} {seen}");
    }
    // Asked for once by each server, not with each request; and no finding comes of it.
    let asked = times(&refusals(&gateway, "nonce_needed"));
    assert!((2..=40).contains(&asked), "{asked}");
    let seen = gateway.run_json(&["findings", "list", "--json"]);
    let seen = seen.as_array().unwrap();
    assert!(
        !seen.iter().any(|one| one["rule"] == "refusal-pressure"),
        "{seen:?}"
    );
}
