//! `sallyport connect` for a database: clients as they are, sessions with a proof of their own.

use std::process::Command;

use super::database::Pair;
use super::{Wanted, World, said};
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
