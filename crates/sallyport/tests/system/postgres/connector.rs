//! `sallyport connect` for a database: clients as they are, sessions with a proof of their own.

use std::process::Command;

use super::database::Pair;
use super::{Wanted, World, said};
use crate::limits::reconfigure;
use crate::support::local::Local;

fn ask(url: &str, sql: &str) -> (String, String) {
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", url, "-c", sql])
        .env("PGCONNECT_TIMEOUT", "40")
        .output();
    said(output.unwrap())
}

/// The one task that there is.
async fn task(world: &World) -> serde_json::Value {
    let tasks = world
        .gateway
        .managed("GET", "/v1/tasks", serde_json::Value::Null)
        .await;
    tasks["items"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_as_they_are_prove_each_session() {
    let world = World::new().await;
    // Of a template that takes nothing weaker than a proof.
    let local = Local::start_at(&world.agent, ("crm", "few"), "127.0.0.1:0", &[]);
    assert!(local.url.starts_with("postgres://agent:"), "{}", local.url);
    for n in 1..=3 {
        let sql = format!("SELECT id FROM customers WHERE id = {}", 2 * n);
        let (out, error) = ask(&local.url, &sql);
        assert_eq!(out, (2 * n).to_string(), "{error}");
    }
    let (_, error) = ask(&local.url, "SELECT secret FROM customers");
    assert!(error.contains("does not grant"), "{error}");
    // Neither without its password, nor to anything else.
    let (scheme, rest) = local.url.split_once("agent:").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let (_, error) = ask(&format!("{scheme}agent:guess@{place}"), "SELECT 1");
    assert!(error.contains("not the connector's"), "{error}");
    let (_, error) = ask(&local.url.replace("/crm", "/postgres"), "SELECT 1");
    assert!(error.contains("is not here"), "{error}");
    let sessions = world.gateway.records().into_iter().filter(|record| {
        record["event"] == "intent" && record["method"] == "connect" && record["proof"] == "dpop"
    });
    assert_eq!(sessions.count(), 4);
    assert_eq!(task(&world).await["status"], "open");
    local.end();
    assert_eq!(task(&world).await["status"], "completed");
    world.database.until_there_are_roles(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_serves_as_well_over_tls() {
    let wanted = Wanted {
        listener_tls: Some(Pair::new()),
        ..Wanted::default()
    };
    let world = wanted.start().await;
    let (folder, cert) = (world.file("run"), world.file("cert.pem"));
    let folder = folder.to_str().unwrap();
    let ca = ["--ca", cert.to_str().unwrap()];
    let local = Local::start_at(&world.agent, ("crm", "analyst"), folder, &ca);
    assert_eq!(local.url, format!("postgres://agent@/crm?host={folder}"));
    let (out, error) = ask(&local.url, "SELECT count(*) FROM customers");
    assert_eq!(out, "50", "{error}");
    // A session ends with the task, whoever keeps it open.
    let id = task(&world).await["id"].as_str().unwrap().to_owned();
    assert!(world.gateway.run(&["task", "revoke", &id]).status.success());
    let (_, error) = ask(&local.url, "SELECT 1");
    assert!(
        error.contains("ended") || error.contains("revoked"),
        "{error}"
    );
    local.end();
    assert!(!world.file("run/.s.PGSQL.5432").exists());
    world.database.until_there_are_roles(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nonces_are_demanded_sessions_carry_them() {
    let world = World::new().await;
    let (_, token) = world.token("few", true).await;
    reconfigure(&world.gateway, "[proofs]\nnonce = \"required\"");
    let (_, error) = world.query(&world.password(&token), "SELECT 1");
    assert!(error.contains("DPoP-Nonce: "), "{error}");
    let local = Local::start_at(&world.agent, ("crm", "few"), "127.0.0.1:0", &[]);
    for n in 1..=2 {
        let sql = format!("SELECT id FROM customers WHERE id = {}", 2 * n);
        let (out, error) = ask(&local.url, &sql);
        assert_eq!(out, (2 * n).to_string(), "{error}");
    }
    local.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_too_fast_waits_and_its_session_goes_on() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let limits = "[limits]\ntask_rate = { per_minute = 1, burst = 4 }";
    reconfigure(&world.gateway, limits);
    let sql = "SELECT 1; SELECT 2; SELECT 3; SELECT 4; SELECT 5";
    let each = sql.split("; ").flat_map(|one| ["-c", one]);
    let output = Command::new("psql")
        .args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            "desk",
            "-d",
            "crm",
        ])
        .args(["-p", &world.port.to_string(), "-v", "VERBOSITY=verbose"])
        .args(each)
        .env("PGPASSWORD", world.password(&token))
        .output();
    let (out, error) = said(output.unwrap());
    assert_eq!(out, "1\n2\n3", "the session and three statements: {error}");
    assert!(
        error.contains("53400") && error.contains("1 call a minute"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_connected_is_explained() {
    let world = World::new().await;
    let connect = |arguments: &[&str]| {
        let mut command = Command::new(crate::support::SALLYPORT);
        command
            .args(["connect", "crm", "--template", "few", "--instance"])
            .arg(world.agent.folder())
            .args(arguments);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        said(output).1
    };
    assert!(connect(&[]).contains("--listen"));
    assert!(connect(&["--listen", "0.0.0.0:0"]).contains("reached from elsewhere"));
    assert_eq!(task(&world).await["status"], "completed");
}
