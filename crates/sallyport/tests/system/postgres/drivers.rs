//! Drivers as they are, and that they leave nothing behind.

use std::process::Command;

use super::World;
use super::database::Version;
use crate::support::packages;

async fn drive(version: Version) {
    let world = World::of(version).await;
    let drivers = &world.database.drivers;
    let folder = packages::folder("postgres");
    let programs = [
        ("psycopg and asyncpg", {
            let mut command = Command::new(drivers.join("venv/bin/python"));
            command.arg(folder.join("drive.py"));
            command
        }),
        ("node-postgres", {
            let mut command = Command::new(drivers.join("bin/node"));
            command.arg(folder.join("drive.mjs")).arg(drivers);
            command
        }),
        ("JDBC", {
            let mut command = Command::new("java");
            command.args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp"]);
            command.arg("/usr/share/java/postgresql.jar");
            command.arg(folder.join("Drive.java"));
            command
        }),
    ];
    for (name, mut program) in programs {
        let (_, token) = world.token("analyst", false).await;
        let driven = program
            .args(["127.0.0.1", &world.port.to_string(), &token.text])
            .output()
            .unwrap();
        assert!(
            driven.status.success() && driven.stdout.ends_with(b"done\n"),
            "{name}\n{}\n{}",
            String::from_utf8_lossy(&driven.stderr),
            world.gateway.stderr()
        );
    }
    world.database.until_there_are_roles(false).await;
    world.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_as_they_are_with_postgresql_15() {
    drive(Version::V15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_as_they_are_with_postgresql_18() {
    drive(Version::V18).await;
}
