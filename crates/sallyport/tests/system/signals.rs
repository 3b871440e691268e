//! Signals between security systems: two processes that tell each other, by push and by poll.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::http::{Answer, Call};
use crate::support::{Gateway, Setup};

const READ: &str = r#"
description = "Look at something"
agents = ["*"]
ttl = "10m"

[[allow]]
server = "api"
endpoints = ["GET /things"]
"#;

const AUDIENCE: &str = "https://west.example.org";
const TOKEN: &str = "a-token-that-is-long-enough";

/// A folder with the token of the two.
fn secrets() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    dir
}

fn token_file(dir: &Path) -> String {
    format!("{{ file = \"{}\" }}", dir.join("token").display())
}

fn setup() -> Setup {
    Setup::new()
        .server("api", "http", "http://127.0.0.1:9")
        .and("http = { routes = [\"GET /things\"] }")
        .template("read", READ)
}

/// One who tells `west`, which polls.
async fn east(secrets: &Path) -> Gateway {
    setup()
        .and(&format!(
            "[signals.receivers.west]\naudience = \"{AUDIENCE}\"\ntoken = {}",
            token_file(secrets)
        ))
        .start()
        .await
}

/// One who hears `east`.
async fn west(east: &Gateway, secrets: &Path, how: &str) -> Gateway {
    let token = token_file(secrets);
    setup()
        .server("east", "http", east.control())
        .and("http = { routes = [\"GET /oauth/jwks\"] }")
        .and(&format!("credential = {{ prefix = \"Bearer \", value = {token} }}"))
        .and(&format!(
            "[signals.transmitters.east]\nissuer = \"{}\"\naudience = \"{AUDIENCE}\"\nserver = \"east\"\n\
             keys = \"/oauth/jwks\"\n{how}",
            east.control()
        ))
        .start()
        .await
}

async fn ask(gateway: &Gateway, method: &str, path: &str, body: Value) -> Answer {
    let call = Call::new(method, &format!("{}{path}", gateway.control()))
        .header("authorization", &format!("Bearer {TOKEN}"));
    let call = if method == "GET" || method == "DELETE" {
        call
    } else {
        call.json(&body)
    };
    call.send().await.unwrap()
}

async fn make_stream(gateway: &Gateway, body: Value) -> Value {
    let answer = ask(gateway, "POST", "/ssf/v1/stream", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

/// The events that wait for the receiver, once there are some.
async fn poll(gateway: &Gateway, stream: &str, ack: &[&str]) -> serde_json::Map<String, Value> {
    let body = json!({ "returnImmediately": false, "ack": ack });
    let answer = ask(gateway, "POST", &format!("/ssf/v1/poll/{stream}"), body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["sets"].as_object().unwrap().clone()
}

fn part(token: &str, number: usize) -> Value {
    let text = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

async fn quarantine(gateway: &Gateway, agent: &str) {
    let body = json!({ "because": "it read payroll" });
    gateway
        .managed("POST", &format!("/v1/agents/{agent}/quarantine"), body)
        .await;
}

fn heard(gateway: &Gateway) -> Vec<Value> {
    let mut records = gateway.records();
    records.retain(|record| record["change"] == "signals.received");
    records
}

async fn wait_for_revocation(gateway: &mut Gateway, task: &str) -> Value {
    gateway
        .wait_until("the task is revoked", async |this| {
            let shown = this
                .managed("GET", &format!("/v1/tasks/{task}"), json!({}))
                .await;
            shown["status"] == "revoked"
        })
        .await;
    gateway
        .managed("GET", &format!("/v1/tasks/{task}"), json!({}))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_at_one_ends_at_the_other_that_polls_also_after_a_crash() {
    let secrets = secrets();
    let mut east = east(secrets.path()).await;
    let metadata = Call::get(&format!("{}/.well-known/ssf-configuration", east.control()));
    let metadata = metadata.send().await.unwrap().json();
    assert_eq!(metadata["issuer"], east.control());
    assert_eq!(metadata["spec_version"], "1_0");
    let stream = make_stream(&east, json!({ "description": "the west" })).await;
    assert_eq!(stream["delivery"]["method"], "urn:ietf:rfc:8936");
    assert_eq!(stream["aud"], AUDIENCE);
    let again = ask(&east, "POST", "/ssf/v1/stream", json!({})).await;
    assert_eq!(again.status, 409);

    let id = stream["stream_id"].as_str().unwrap();
    let path = format!("poll = \"/ssf/v1/poll/{id}\"");
    let mut west = west(&east, secrets.path(), &path).await;
    let (agent, other) = (west.agent("triage").await, west.agent("writer").await);
    let task = agent.open_task("read", json!({})).await;
    let untouched = other.open_task("read", json!({})).await;
    let _same_name = east.agent("triage").await;
    quarantine(&east, "triage").await;
    let revoked = wait_for_revocation(&mut west, &task).await;
    assert!(
        revoked["ended_because"]
            .to_string()
            .contains("east told session-revoked"),
        "{revoked}"
    );
    let shown = west
        .managed("GET", &format!("/v1/tasks/{untouched}"), json!({}))
        .await;
    assert_eq!(shown["status"], "open", "another agent is not meant");
    let events = heard(&west);
    let told = events
        .iter()
        .find(|record| record["details"]["event"] == "session-revoked")
        .unwrap();
    assert_eq!(told["actor"], "transmitter:east");
    assert_eq!(told["details"]["agents"], json!(["triage"]));
    assert_eq!(told["details"]["reaction"], "end-tasks");

    // What happens while nobody can be told is told later.
    west.kill();
    let name = "late";
    let _late = east.agent(name).await;
    quarantine(&east, name).await;
    east.kill();
    east.restart().await;
    west.restart().await;
    west.wait_until("the late event is heard", async |this| {
        heard(this).iter().any(|record| {
            let subject = record["details"]["subject"]["uri"]
                .as_str()
                .unwrap_or_default();
            record["details"]["event"] == "session-revoked" && subject.ends_with("/agent/late")
        })
    })
    .await;
    let listed = east.run_json(&["signals", "list", "--json"]);
    assert_eq!(listed["receivers"][0]["stream"]["status"], "enabled");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_pushed_where_the_configuration_says_and_nowhere_else() {
    let secrets = secrets();
    let east = setup().start().await;
    let how = format!("token = {}", token_file(secrets.path()));
    let mut west = west(&east, secrets.path(), &how).await;
    let token = token_file(secrets.path());
    let mut config = std::fs::read_to_string(east.config()).unwrap();
    config.push_str(&format!(
        "[servers.west]\nkind = \"http\"\nurl = \"{}\"\nhttp = {{ routes = [\"POST /ssf/v1/events/east\"] }}\ncredential = {{ prefix = \"Bearer \", value = {token} }}\n\
         [signals.receivers.west]\naudience = \"{AUDIENCE}\"\ntoken = {token}\nserver = \"west\"\n\
         push = \"/ssf/v1/events/east\"\n",
        west.control()
    ));
    std::fs::write(east.config(), config).unwrap();
    east.managed("POST", "/v1/reload", json!({})).await;

    let push =
        |url: &str| json!({ "delivery": { "method": "urn:ietf:rfc:8935", "endpoint_url": url } });
    let refused = ask(
        &east,
        "POST",
        "/ssf/v1/stream",
        push("http://169.254.169.254/"),
    )
    .await;
    assert_eq!(refused.status, 400, "{refused:?}");
    let place = format!("{}/ssf/v1/events/east", west.control());
    make_stream(&east, push(&place)).await;

    let agent = west.agent("triage").await;
    let task = agent.open_task("read", json!({})).await;
    let _same_name = east.agent("triage").await;
    quarantine(&east, "triage").await;
    wait_for_revocation(&mut west, &task).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_heard_and_nothing_counts_twice() {
    let secrets = secrets();
    let east = east(secrets.path()).await;
    let stream = make_stream(&east, json!({})).await;
    let id = stream["stream_id"].as_str().unwrap();
    let how = format!(
        "token = {}\nsession_revoked = \"quarantine\"",
        token_file(secrets.path())
    );
    let west = west(&east, secrets.path(), &how).await;
    west.agent("triage").await;
    east.agent("triage").await;
    quarantine(&east, "triage").await;
    let (jti, token) = loop {
        let sets = poll(&east, id, &[]).await;
        let revoked = sets.into_iter().find(|(_, token)| {
            let claims = part(token.as_str().unwrap(), 1);
            claims["events"].to_string().contains("session-revoked")
        });
        if let Some((jti, token)) = revoked {
            break (jti, token.as_str().unwrap().to_owned());
        }
    };
    assert_eq!(part(&token, 0)["typ"], "secevent+jwt");
    let claims = part(&token, 1);
    assert_eq!(claims["jti"], jti);
    assert_eq!(claims["iss"], east.control());
    assert!(claims.get("sub").is_none() && claims.get("exp").is_none());

    let push = async |token: &str, bearer: &str| {
        Call::post(&format!("{}/ssf/v1/events/east", west.control()))
            .header("authorization", &format!("Bearer {bearer}"))
            .header("content-type", "application/secevent+jwt")
            .body(token.to_owned())
            .send()
            .await
            .unwrap()
    };
    assert_eq!(
        push(&token, "another-token-of-this-length").await.status,
        401
    );
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let mut forged = claims.clone();
    forged["sub_id"]["uri"] = json!("spiffe://example.org/agent/writer");
    let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
    let answer = push(&format!("{header}.{forged}.{signature}"), TOKEN).await;
    assert_eq!(
        (answer.status, answer.json()["err"].clone()),
        (400, json!("invalid_key"))
    );
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"secevent+jwt"}"#);
    let answer = push(&format!("{none}.{forged}."), TOKEN).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(heard(&west).is_empty());

    assert_eq!(push(&token, TOKEN).await.status, 202);
    let shown = west.managed("GET", "/v1/agents/triage", json!({})).await;
    assert_eq!(shown["lifecycle"], "quarantined");
    west.managed("POST", "/v1/agents/triage/release", json!({}))
        .await;
    assert_eq!(push(&token, TOKEN).await.status, 202, "it was taken before");
    let shown = west.managed("GET", "/v1/agents/triage", json!({})).await;
    assert_ne!(shown["lifecycle"], "quarantined", "a replay does nothing");
    assert_eq!(heard(&west).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_rules_its_own_stream_only() {
    let secrets = secrets();
    let east = east(secrets.path()).await;
    let anonymous = Call::post(&format!("{}/ssf/v1/stream", east.control()))
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.headers.contains_key("www-authenticate"));
    let stream = make_stream(&east, json!({})).await;
    let id = stream["stream_id"].as_str().unwrap().to_owned();
    let unknown = ask(&east, "GET", "/ssf/v1/stream?stream_id=other", json!({})).await;
    assert_eq!(unknown.status, 404);

    // Paused, events wait; enabled again, they come.
    let set = async |status: &str| {
        let body = json!({ "stream_id": id, "status": status });
        let answer = ask(&east, "POST", "/ssf/v1/status", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    set("paused").await;
    let verify = json!({ "stream_id": id, "state": "are you there" });
    let answer = ask(&east, "POST", "/ssf/v1/verification", verify.clone()).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let soon = ask(&east, "POST", "/ssf/v1/verification", verify).await;
    assert_eq!(soon.status, 429);
    let body = json!({ "returnImmediately": true });
    let held = ask(&east, "POST", &format!("/ssf/v1/poll/{id}"), body).await;
    assert_eq!(held.json()["sets"], json!({}));
    set("enabled").await;
    let sets = poll(&east, &id, &[]).await;
    let (jti, token) = sets.iter().next().unwrap();
    let claims = part(token.as_str().unwrap(), 1);
    let event =
        &claims["events"]["https://schemas.openid.net/secevent/ssf/event-type/verification"];
    assert_eq!(event["state"], "are you there");
    assert_eq!(claims["sub_id"], json!({ "format": "opaque", "id": id }));
    let body = json!({ "returnImmediately": true, "ack": [jti] });
    let left = ask(&east, "POST", &format!("/ssf/v1/poll/{id}"), body).await;
    assert_eq!(
        left.json()["sets"],
        json!({}),
        "what was acknowledged is gone"
    );

    let path = format!("/ssf/v1/stream?stream_id={id}");
    assert_eq!(ask(&east, "DELETE", &path, json!({})).await.status, 204);
    let listed = ask(&east, "GET", "/ssf/v1/stream", json!({})).await;
    assert_eq!(listed.json(), json!([]));
}
