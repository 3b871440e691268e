//! What a person must let through, from the refusal to the use, with a real server and the real commands.

use serde_json::{Value, json};

use crate::support::agent::{Agent, Token};
use crate::support::http::{Answer, Call};
use crate::support::sdk::{Client, time_server};
use crate::support::tunnels::Api;
use crate::support::{Gateway, PATIENCE, SALLYPORT, Setup};

const CLOCK: &str = r#"
description = "Tell the time somewhere"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

/// The same, with words that the template fixes and a parameter that it trusts.
const FIXED: &str = r#"
description = "Tell the time in Rome and one more place"
agents = ["*"]
ttl = "10m"
purpose = "Tell the time in Europe/Rome"

[parameters.place]
pattern = "[A-Za-z/]+"
trusted = true

[[allow]]
server = "clock"
tools = ["get_current_time"]
"#;

/// The same, with a person each time.
const ASKING: &str = r#"
description = "Tell the time when somebody says so"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "clock"
tools = ["get_current_time"]
approval = "always"
"#;

const ANNOTATIONS: &str = "[tools.get_current_time]\nsinks = { timezone = \"path\" }\n";

async fn clock() -> Gateway {
    let server = time_server();
    let gateway = Setup::new()
        .stdio("clock", &server)
        .and("[approvals]\nwaiting_per_task = 4\n")
        .template("clock", CLOCK)
        .template("fixed", FIXED)
        .template("asking", ASKING)
        .start()
        .await;
    let folder = gateway.dir().join("annotations");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("clock.toml"), ANNOTATIONS).unwrap();
    assert!(gateway.run(&["check"]).status.success());
    assert!(gateway.run(&["reload"]).status.success());
    gateway
}

const PURPOSE: &str = "Tell the time in Europe/Paris";

/// A task that the agent opens itself, with words of its own.
async fn own_task(agent: &Agent, template: &str) -> String {
    let parameters = match template {
        "fixed" => json!({ "place": "Asia/Tokyo" }),
        _ => json!({}),
    };
    let body = json!({ "template": template, "parameters": parameters, "purpose": PURPOSE });
    let answer = agent.manage("/v1/tasks", &body).await;
    assert!(answer.is_success(), "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn tell(agent: &Agent, token: &Token, place: &str) -> Value {
    agent
        .call(token, "get_current_time", json!({ "timezone": place }))
        .await
}

fn told(answer: &Value) -> bool {
    answer.get("result").is_some()
}

/// That it was told; what stood in the way, if it was not.
#[track_caller]
fn assert_told(answer: &Value) {
    assert!(told(answer), "{answer}");
}

/// The request that a refusal names.
fn requested(answer: &Value) -> String {
    let id = &answer["error"]["data"]["access_request"]["task"]["id"];
    id.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// What became of a request, as its agent learns it.
async fn status(gateway: &Gateway, agent: &Agent, id: &str) -> Answer {
    let fields = [("resource", gateway.control.as_str()), ("scope", "tasks")];
    let token = agent.ask_token(&fields, true).await.json();
    let token = token["access_token"].as_str().unwrap();
    let url = format!("{}/access/v1/requests/{id}", gateway.control);
    Call::get(&url)
        .header("authorization", &format!("DPoP {token}"))
        .header("dpop", &agent.proof("GET", &url, Some(token)))
        .send()
        .await
        .unwrap()
}

fn approvals(gateway: &Gateway, arguments: &[&str]) -> Value {
    let mut all = vec!["approvals"];
    all.extend_from_slice(arguments);
    all.push("--json");
    gateway.run_json(&all)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_lets_one_call_through_and_everything_is_on_record() {
    let gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let task = own_task(&agent, "clock").await;
    let token = agent.token("clock", &task, true).await;
    let refused = tell(&agent, &token, "Europe/Paris").await;
    assert_eq!(
        refused["error"]["data"]["rule"], "provenance",
        "what the agent said when it opened its task vouches for nothing: {refused}"
    );
    let id = requested(&refused);
    assert_eq!(requested(&tell(&agent, &token, "Europe/Paris").await), id);

    // What the person sees.
    let listed = approvals(&gateway, &["list"]);
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["arguments"]["timezone"], "Europe/Paris");
    let shown = gateway.run(&["approvals", "show", &id]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for says in [
        "triage",
        PURPOSE,
        "tool get_current_time",
        "timezone = Europe/Paris",
        "untrusted",
    ] {
        assert!(shown.contains(says), "{says}: {shown}");
    }

    // The agent can watch, and not decide.
    assert_eq!(
        status(&gateway, &agent, &id).await.json()["task"]["status"],
        "pending"
    );
    let by_itself = agent
        .manage(&format!("/v1/approvals/{id}/approve"), &json!({}))
        .await;
    assert_eq!(by_itself.status, 403, "{by_itself:?}");
    let stranger = gateway.agent("stranger").await;
    assert_eq!(status(&gateway, &stranger, &id).await.status, 404);
    assert_eq!(
        status(&gateway, &agent, &id).await.json()["task"]["status"],
        "pending"
    );

    let approved = approvals(
        &gateway,
        &[
            "approve",
            &id,
            "--by",
            "ada",
            "--because",
            "a city is no harm",
        ],
    );
    assert_eq!(approved["uses_left"], 1);
    let seen = status(&gateway, &agent, &id).await.json();
    assert_eq!(seen["task"]["status"], "approved");
    assert_eq!(seen["result"]["mode"], "reevaluate");
    assert_eq!(seen["result"]["approval"]["id"], id.as_str());
    assert!(gateway.run(&["approvals", "wait", &id]).status.success());
    let again = gateway.run(&["approvals", "approve", &id]);
    assert!(!again.status.success(), "it is decided already");

    assert!(
        !told(&tell(&agent, &token, "Europe/Rome").await),
        "another value"
    );
    assert_told(&tell(&agent, &token, "Europe/Paris").await);
    let used_up = tell(&agent, &token, "Europe/Paris").await;
    let next = requested(&used_up);
    assert_ne!(next, id, "once is once: a person is asked anew");
    approvals(&gateway, &["deny", &next, "--because", "enough"]);
    let denied = tell(&agent, &token, "Europe/Paris").await;
    assert!(denied["error"]["data"].get("access_request").is_none());
    assert!(
        denied["error"]["message"]
            .as_str()
            .unwrap()
            .contains("refused it"),
        "{denied}"
    );

    let records = gateway.records();
    let change = |name: &str| {
        let found = records
            .iter()
            .find(|record| record["change"] == name && record["subject"] == id.as_str());
        found.unwrap_or_else(|| panic!("no {name}")).clone()
    };
    let asked = change("approval.requested");
    assert_eq!(asked["details"]["asked"][0]["argument"], "/timezone");
    let decided = change("approval.approved");
    assert_eq!(decided["actor"], "operator");
    assert_eq!(decided["details"]["by"], "ada");
    let uses: Vec<_> = records
        .iter()
        .filter(|record| record["approval"] == id.as_str() && record["permitted"] == true)
        .collect();
    assert_eq!(uses.len(), 1);
    assert_eq!(
        uses[0]["provenance"]["annotations"].as_str().map(str::len),
        Some(32)
    );
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_words_count_depends_on_who_says_them() {
    let gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let opened = gateway.run_json(&[
        "task",
        "open",
        "--agent",
        "triage",
        "--template",
        "clock",
        "--purpose",
        PURPOSE,
        "--json",
    ]);
    let token = agent
        .token("clock", opened["id"].as_str().unwrap(), true)
        .await;
    assert_told(&tell(&agent, &token, "Europe/Paris").await);
    assert!(!told(&tell(&agent, &token, "Europe/Rome").await));

    let task = own_task(&agent, "fixed").await;
    let token = agent.token("clock", &task, true).await;
    assert_told(&tell(&agent, &token, "Europe/Rome").await);
    assert_told(&tell(&agent, &token, "Asia/Tokyo").await);
    assert!(
        !told(&tell(&agent, &token, "Europe/Paris").await),
        "the agent said so"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_survive_a_restart_and_not_their_task() {
    let mut gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let task = own_task(&agent, "clock").await;
    let token = agent.token("clock", &task, true).await;
    let id = requested(&tell(&agent, &token, "Europe/Paris").await);
    let waiting = requested(&tell(&agent, &token, "Europe/Rome").await);
    approvals(
        &gateway,
        &["approve", &id, "--uses", "3", "--below", "timezone=Europe"],
    );
    assert_told(&tell(&agent, &token, "Europe/Berlin").await);
    assert!(
        !told(&tell(&agent, &token, "Asia/Tokyo").await),
        "not in the set"
    );

    gateway.restart().await;
    let token = agent.token("clock", &task, true).await;
    assert_told(&tell(&agent, &token, "Europe/Paris").await);
    assert_told(&tell(&agent, &token, "Europe/Madrid").await);
    let third = tell(&agent, &token, "Europe/Madrid").await;
    assert!(
        !told(&third),
        "one use was before the restart, two were after it"
    );
    assert_eq!(
        requested(&tell(&agent, &token, "Europe/Rome").await),
        waiting,
        "what waited still does"
    );
    assert!(
        third["error"]["message"]
            .as_str()
            .unwrap()
            .contains("of the result of get_current_time"),
        "what was read is remembered too: {third}"
    );

    agent.complete(&task).await;
    let late = gateway.run(&["approvals", "approve", &waiting]);
    assert!(!late.status.success());
    let shown = approvals(&gateway, &["show", &waiting]);
    assert_eq!(shown["status"], "cancelled");
    assert_eq!(approvals(&gateway, &["list"]), json!([]));
    gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_and_a_raised_level_want_a_person_too() {
    let gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let opened = |template: &str| {
        let task = gateway.run_json(&[
            "task",
            "open",
            "--agent",
            "triage",
            "--template",
            template,
            "--purpose",
            PURPOSE,
            "--json",
        ]);
        task["id"].as_str().unwrap().to_owned()
    };
    let (asking, plain) = (opened("asking"), opened("clock"));
    let asking = agent.token("clock", &asking, true).await;
    let refused = tell(&agent, &asking, "Europe/Paris").await;
    assert_eq!(refused["error"]["data"]["rule"], "approval_needed");
    approvals(
        &gateway,
        &["approve", &requested(&refused), "--any-call", "--uses", "2"],
    );
    assert_told(&tell(&agent, &asking, "Europe/Paris").await);
    assert!(
        !told(&tell(&agent, &asking, "Europe/Rome").await),
        "any call, but nothing that nobody vouches for"
    );
    assert_told(&tell(&agent, &asking, "Europe/Paris").await);
    assert!(!told(&tell(&agent, &asking, "Europe/Paris").await));

    let plain = agent.token("clock", &plain, true).await;
    assert_told(&tell(&agent, &plain, "Europe/Paris").await);
    let raise = |level: &str| {
        let arguments = ["level", level, "--agent", "triage", "--because", "odd"];
        approvals(&gateway, &arguments)
    };
    assert_eq!(raise("all")["level"], "all");
    let refused = tell(&agent, &plain, "Europe/Paris").await;
    assert_eq!(refused["error"]["data"]["rule"], "approval_needed");
    assert_eq!(approvals(&gateway, &["level"])[0]["agent"], "triage");
    raise("usual");
    assert_told(&tell(&agent, &plain, "Europe/Paris").await);
    assert_eq!(approvals(&gateway, &["level"]), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_cannot_flood_people() {
    let gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let task = own_task(&agent, "clock").await;
    let token = agent.token("clock", &task, true).await;
    let mut refused = Value::Null;
    for n in 0..10 {
        refused = tell(&agent, &token, &format!("Europe/City{n}")).await;
    }
    assert_eq!(approvals(&gateway, &["list"]).as_array().unwrap().len(), 4);
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("wait for a person already"),
        "{refused}"
    );
    // What the agent takes back makes room, and is not decided.
    let id = approvals(&gateway, &["list"])[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let cancelled = agent
        .manage(&format!("/access/v1/requests/{id}/cancel"), &json!({}))
        .await;
    assert_eq!(
        cancelled.json()["task"]["status"],
        "cancelled",
        "{cancelled:?}"
    );
    requested(&tell(&agent, &token, "Europe/Paris").await);
    assert!(!gateway.run(&["approvals", "approve", &id]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_nothing_of_approvals_just_takes_longer() {
    let gateway = clock().await;
    let agent = gateway.agent("triage").await;
    let connector = [
        SALLYPORT,
        "connect",
        "clock",
        "--template",
        "asking",
        "--wait-for-approval",
        "1m",
        "--instance",
        agent.folder().to_str().unwrap(),
    ];
    let plan = json!({
        "stdio": connector, "mode": "auto",
        "calls": [["get_current_time", { "timezone": "UTC" }]],
    });
    let approve = async {
        let begun = std::time::Instant::now();
        loop {
            let waiting = approvals(&gateway, &["list"]);
            if let Some(id) = waiting[0]["id"].as_str() {
                return approvals(&gateway, &["approve", id]);
            }
            assert!(begun.elapsed() < PATIENCE, "nothing waits");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let (driven, approved) = tokio::join!(Client::Python.drive(&plan), approve);
    assert_eq!(approved["status"], "approved");
    let said = driven.to_string();
    assert!(
        said.contains("timezone") && !said.contains("approval_needed"),
        "{said}"
    );
    gateway.verify();
}

const CLERK: &str = r#"
description = "Look after one customer"
agents = ["*"]
ttl = "10m"

[parameters.customer]
pattern = "[0-9]+"

[[allow]]
server = "crm"
endpoints = ["GET /customers/{id}", "POST /orders"]
"#;

const ENDPOINTS: &str = r#"
[endpoints."GET /customers/{id}"]
reads = true
trusted = ["/orders/*/card"]

[endpoints."POST /orders"]
sinks = { "body.card" = "exact" }
content = ["body.text"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_answers_steers_requests_only_from_where_it_is_trusted() {
    let api = Api::clear();
    let gateway = Setup::new()
        .server("crm", "http", &api.url())
        .and("[servers.crm.http]\nroutes = [\"GET /customers/{id}\", \"POST /orders\"]\n")
        .template("clerk", CLERK)
        .start()
        .await;
    let folder = gateway.dir().join("annotations");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("crm.toml"), "[tools.send]\nsinks = [\"to\"]\n").unwrap();
    assert!(
        !gateway.run(&["check"]).status.success(),
        "an API has no tools"
    );
    std::fs::write(folder.join("crm.toml"), ENDPOINTS).unwrap();
    assert!(gateway.run(&["check"]).status.success());
    assert!(gateway.run(&["reload"]).status.success());
    let agent = gateway.agent("clerk").await;
    let opened = gateway.run_json(&[
        "task",
        "open",
        "--agent",
        "clerk",
        "--template",
        "clerk",
        "--param",
        "customer=7",
        "--json",
    ]);
    let task = opened["id"].as_str().unwrap();
    let token = agent.token_of_kind("http", "crm", task, true).await;
    let order = async |card: &str| {
        let call = Call::post(&format!("{}/orders", token.resource))
            .json(&json!({ "card": card, "text": "please" }));
        agent.authorise(call, &token).send().await.unwrap()
    };
    let early = order("4111").await;
    assert_eq!(early.status, 403, "nothing was read yet: {early:?}");
    assert_eq!(early.json()["rule"], "provenance");
    let read = Call::get(&format!("{}/customers/7", token.resource));
    let read = agent.authorise(read, &token).send().await.unwrap();
    assert_eq!(read.json()["ssn"], "078-05-1120");
    assert!(order("4111").await.is_success(), "from where it is trusted");
    let refused = order("078-05-1120").await;
    assert_eq!(refused.status, 403);
    let told = refused.json();
    assert!(
        told["detail"]
            .as_str()
            .unwrap()
            .contains("untrusted content"),
        "{told}"
    );
    let id = told["access_request"]["task"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = approvals(&gateway, &["show", &id]);
    assert_eq!(shown["kind"], "endpoint");
    assert_eq!(shown["asked"][0]["seen"][0]["place"], "/ssn");
    approvals(&gateway, &["approve", &id]);
    assert!(order("078-05-1120").await.is_success());
    assert_eq!(order("078-05-1120").await.status, 403, "once is once");
    let opaque = Call::post(&format!("{}/orders", token.resource))
        .header("content-type", "text/plain")
        .body("card=1");
    assert_eq!(
        agent.authorise(opaque, &token).send().await.unwrap().status,
        415
    );
}
