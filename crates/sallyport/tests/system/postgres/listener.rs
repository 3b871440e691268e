//! The listener for databases, and the way to the database, with TLS and through reloads.

use std::process::Command;

use serde_json::json;

use super::database::{Database, Pair, Version};
use super::{ANALYST, Wanted, World, said, server};
use crate::support::{Setup, free_address};

/// Asks one thing over TLS, trusting one certificate: what came, and what went wrong.
fn ask_encrypted(world: &World, password: &str, more: &str) -> (String, String) {
    let about = format!(
        "host=localhost port={} dbname=crm user=desk sslmode=verify-full {more}",
        world.port
    );
    // libpq 18, where psql has an older one.
    let script = "import sys, psycopg\n\
                  with psycopg.connect(sys.argv[1], connect_timeout=40) as connection:\n    \
                  print(connection.execute('SELECT count(*) FROM customers').fetchone()[0], \
                  connection.pgconn.ssl_in_use)\n";
    let output = Command::new(world.database.drivers.join("venv/bin/python"))
        .args(["-c", script, &about])
        .env("PGPASSWORD", password)
        .output();
    said(output.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_over_tls_and_a_renewed_certificate_is_taken_over() {
    let first = Pair::new();
    let wanted = Wanted {
        listener_tls: Some(first),
        ..Wanted::default()
    };
    let world = wanted.start().await;
    let (_, token) = world.token("analyst", false).await;
    let cert = std::fs::read_to_string(world.file("cert.pem")).unwrap();
    let old = world.file("old.pem");
    std::fs::write(&old, &cert).unwrap();
    let trusting = |file: &std::path::Path| format!("sslrootcert={}", file.display());
    for more in ["", " sslnegotiation=direct"] {
        let more = format!("{}{more}", trusting(&old));
        let (out, error) = ask_encrypted(&world, &token.text, &more);
        assert_eq!(out, "50 True", "{more}: {error}");
    }
    // This machine itself may do without.
    assert_eq!(world.query(&token.text, "SELECT 1").0, "1");

    let second = Pair::new();
    std::fs::write(world.file("cert.pem"), &second.cert).unwrap();
    std::fs::write(world.file("key.pem"), &second.key).unwrap();
    let reloaded = world.gateway.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let (_, error) = ask_encrypted(&world, &token.text, &trusting(&old));
    assert!(error.contains("certificate verify failed"), "{error}");
    let new = world.file("cert.pem");
    let (out, error) = ask_encrypted(&world, &token.text, &trusting(&new));
    assert_eq!(out, "50 True", "{error}");
    world.database.until_there_are_roles(false).await;
}

async fn over_tls(version: Version) {
    let pair = Pair::new();
    let trusted = Pair {
        cert: pair.cert.clone(),
        key: String::new(),
    };
    let wanted = Wanted {
        version,
        database_tls: Some((pair, Some(trusted))),
        ..Wanted::default()
    };
    let world = wanted.start().await;
    let (_, token) = world.token("analyst", false).await;
    let (out, error) = world.query(&token.text, "SELECT count(*) FROM customers");
    assert_eq!(out, "50", "{error}");
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'keeper'";
    assert_eq!(world.database.asked(encrypted), "t");
    world.database.until_there_are_roles(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_tls() {
    over_tls(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_tls_with_postgresql_18() {
    over_tls(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_prove_itself_gets_nothing() {
    // With another authority of one's own, and with the public ones, which signed neither.
    for trusted in [Some(Pair::new()), None] {
        let wanted = Wanted {
            database_tls: Some((Pair::new(), trusted)),
            ..Wanted::default()
        };
        let world = wanted.start().await;
        let (_, token) = world.token("analyst", false).await;
        let (out, error) = world.query(&token.text, "SELECT 1");
        assert!(
            out.is_empty() && error.contains("invalid peer certificate"),
            "{out} {error}"
        );
        assert_eq!(world.database.roles(), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_offer_tls_gets_nothing() {
    let world = World::new().await;
    let file = world.gateway.config();
    let text = std::fs::read_to_string(&file).unwrap();
    let required = text.replace("tls = \"auto\"", "tls = \"require\"");
    assert_ne!(text, required);
    std::fs::write(&file, required).unwrap();
    let reloaded = world.gateway.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let (_, token) = world.token("analyst", false).await;
    let (_, error) = world.query(&token.text, "SELECT 1");
    assert!(error.contains("does not offer TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_a_reload_brings_is_served_at_once() {
    let database = Database::start(Version::V15, None);
    let mut gateway = Setup::new().start().await;
    let agent = gateway.agent("desk").await;
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("keeper.password");
    std::fs::write(&password, "keeper").unwrap();
    let file = gateway.config();
    let before = std::fs::read_to_string(&file).unwrap();
    let about = server(database.port, "", "auto", &password);
    let text = format!("{before}[postgres]\nlisten = \"{address}\"\n{about}");

    // An address that somebody else has is told, and nothing is taken over.
    let taken = tokio::net::TcpListener::bind(address).await.unwrap();
    let template = gateway.dir().join("templates/analyst.toml");
    std::fs::write(template, ANALYST).unwrap();
    std::fs::write(&file, &text).unwrap();
    let refused = gateway.run(&["reload"]);
    assert!(!refused.status.success(), "{refused:?}");
    let servers = gateway
        .managed("GET", "/v1/servers", serde_json::Value::Null)
        .await;
    assert!(!servers.to_string().contains("crm"), "{servers}");
    drop(taken);

    let reloaded = gateway.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let task = agent.open_task("analyst", json!({})).await;
    let token = agent.token_of_kind("postgres", "crm", &task, false).await;
    let world = World {
        database,
        agent,
        port: address.port(),
        folder,
        gateway,
    };
    let (out, error) = world.query(&token.text, "SELECT count(*) FROM customers");
    assert_eq!(out, "50", "{error}");
    let shown = world.gateway.run_json(&["task", "show", &task, "--json"]);
    assert_eq!(
        shown["databases"]["crm"],
        format!("postgres://{address}/crm")
    );
    // It stays where it is, and says so.
    let moved = text.replace(&address.to_string(), "127.0.0.1:1");
    std::fs::write(&file, moved).unwrap();
    let reloaded = world.gateway.run(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert!(world.gateway.stderr().contains("`postgres` was changed"));
    assert_eq!(world.query(&token.text, "SELECT 1").0, "1");
    gateway = world.gateway;
    assert!(gateway.terminate().success());
}
