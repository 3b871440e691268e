//! What results say: taken out, or not passed, and the session goes on as after any error.

use std::process::Command;

use super::database::Version;
use super::{World, said};
use crate::support::packages;

const NOTES: &str = "
SET ROLE keeper;
CREATE TABLE notes (id int PRIMARY KEY, body text, data jsonb, raw bytea, list text[]);
INSERT INTO notes VALUES
  (1, 'plain', '{\"a\": 1}', 'raw', '{x,y}'),
  (2, 'the key is @key@ and the rest', NULL, NULL, NULL),
  (3, NULL, '{\"b\": 2, \"k\": \"@key@\"}', NULL, NULL),
  (4, NULL, NULL, '@key@', '{a,@key@,b}'),
  (5, 'row @canary@ of the crm', NULL, NULL, NULL);
";

const READER: &str = r#"
description = "Read notes"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { calls = 100000 }

[[allow]]
server = "crm"
tables = ["public.notes"]

[[allow]]
server = "crm"
tables = ["public.orders"]
operations = ["select", "insert"]
"#;

async fn drive(version: Version) {
    let world = World::of(version).await;
    let made = world
        .gateway
        .run_json(&["canary", "create", "notes 5", "--json"]);
    let canary = made["token"]
        .as_str()
        .unwrap_or_else(|| panic!("{made}"))
        .to_owned();
    let key = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    let tables = NOTES.replace("@key@", key).replace("@canary@", &canary);
    let made = world.database.admin(&tables);
    assert!(made.status.success(), "{made:?}");
    std::fs::write(world.gateway.dir().join("templates/reader.toml"), READER).unwrap();
    assert!(world.gateway.run(&["reload"]).status.success());
    let (_, token) = world.token("reader", false).await;
    let script = packages::folder("postgres").join("contents.py");
    let driven = Command::new(world.database.drivers.join("venv/bin/python"))
        .arg(script)
        .args(["127.0.0.1", &world.port.to_string(), &token.text, &canary])
        .output()
        .unwrap();
    let succeeded = driven.status.success();
    let (out, error) = said(driven);
    assert!(
        succeeded && out.ends_with("done"),
        "{error}\n{}",
        world.gateway.stderr()
    );
    // What was seen is on record, without quoting it.
    let log = world.gateway.records();
    let withheld = log
        .iter()
        .filter(|record| record["notes"]["withheld"] == "content_blocked");
    assert!(withheld.count() > 5);
    assert!(!format!("{log:?}").contains(key));
    world.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn results_pass_without_what_must_not_with_postgresql_15() {
    drive(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_pass_without_what_must_not_with_postgresql_18() {
    drive(Version::V18).await;
}
