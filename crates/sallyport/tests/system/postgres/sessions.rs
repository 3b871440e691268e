//! How sessions begin and end: budgets, proofs, revocation, crashes, and tables that are in use.

use std::process::Stdio;
use std::time::Duration;

use super::World;
use super::database::{Version, client};

#[tokio::test(flavor = "multi_thread")]
async fn budgets_proofs_and_revocation_hold() {
    let world = World::new().await;
    let (_, token) = world.token("few", true).await;
    let password = world.password(&token);
    let (out, error) = world.query(&password, "SELECT id FROM customers");
    assert!(error.contains("7 rows in all"), "{out} {error}");
    let (_, error) = world.query(&password, "SELECT 1");
    assert!(
        error.contains("authentication failed"),
        "a proof is good once: {error}"
    );
    let (_, error) = world.query(&token.text, "SELECT 1");
    assert!(error.contains("bound to a key"), "{error}");
    let fresh = world.password(&token);
    let (_, error) = world.query(&fresh, "SELECT id FROM customers");
    assert!(error.contains("rows"), "the budget stays used up: {error}");

    let (open, token) = world.token("analyst", false).await;
    let password = world.password(&token);
    let running = client(world.port, "crm", &password)
        .args(["-c", "SELECT count(*) FROM generate_series(1, 1000000000)"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    world.database.until_there_are_roles(true).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        world
            .gateway
            .run(&["task", "revoke", &open])
            .status
            .success()
    );
    let ended = running.wait_with_output().unwrap();
    assert!(!ended.status.success());
    world.database.until_there_are_roles(false).await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'generate_series' AND state = 'active' \
                AND pid <> pg_backend_pid()";
    assert_eq!(world.database.asked(busy), "0");
    let (_, error) = world.query(&password, "SELECT 1");
    assert!(error.contains("revoked"), "{error}");
}

async fn crash(version: Version) {
    let mut world = World::of(version).await;
    let (_, token) = world.token("analyst", false).await;
    let mut left = client(world.port, "crm", &world.password(&token))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    world.database.until_there_are_roles(true).await;
    world.gateway.kill();
    left.kill().unwrap();
    left.wait().unwrap();
    assert!(!world.database.roles().is_empty());
    world.gateway.restart().await;
    world.database.until_there_are_roles(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_leaves_a_role_and_the_next_one_drops_it() {
    crash(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_postgresql_18() {
    crash(Version::V18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_on_rows_is_made_between_what_others_do_with_the_table() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let password = world.password(&token);
    let hold = |seconds: u32| {
        // A transaction that reads and then idles, as they do.
        let sql =
            format!("BEGIN; SELECT count(*) FROM customers; SELECT pg_sleep({seconds}); COMMIT");
        let holding = client(world.database.port, "postgres", "secret")
            .args(["-q", "-U", "postgres", "-c", &sql])
            .stdout(Stdio::null())
            .spawn();
        holding.unwrap()
    };
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'customers'::regclass AND granted";
    let until_held = async || {
        while world.database.asked(held) == "0" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut holding = hold(60);
    until_held().await;
    let (out, error) = world.query(&password, "SELECT count(*) FROM customers");
    assert!(
        error.contains("rows of public.customers") && error.contains("try again"),
        "{out} {error}"
    );
    // Whoever only reads was let through all the time, and nothing waits any more.
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    assert_eq!(world.database.asked(waiting), "0");
    holding.kill().unwrap();
    holding.wait().unwrap();
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ 'pg_sleep' \
                 AND pid <> pg_backend_pid()";
    world.database.asked(ended);

    let mut holding = hold(4);
    until_held().await;
    let (out, error) = world.query(&password, "SELECT count(*) FROM customers");
    assert_eq!((out.as_str(), error.as_str()), ("50", ""));
    holding.wait().unwrap();
    // It is there now: a table in use keeps nobody from beginning.
    let mut holding = hold(60);
    until_held().await;
    let (out, _) = world.query(&password, "SELECT count(*) FROM customers");
    assert_eq!(out, "50");
    holding.kill().unwrap();
    holding.wait().unwrap();
}
