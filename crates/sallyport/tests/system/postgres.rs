//! A real PostgreSQL behind the gateway, reached with psql and with drivers as they are.

mod connector;
mod contents;
mod database;
mod drivers;
mod grant;
mod held;
mod listener;
mod protocol;
mod provenance;
mod sessions;
mod svid;

use std::path::PathBuf;
use std::process::Output;

use crate::support::agent::{Agent, Token};
use crate::support::{Gateway, Setup, free_address};
use database::{Database, Pair, Version, psql};

const ANALYST: &str = r#"
description = "Read European customers and keep orders"
agents = ["*"]
ttl = "10m"
proof = "bearer"
budget = { calls = 100000 }

[[allow]]
server = "crm"
tables = ["public.customers"]
columns = ["id", "name", "region"]
rows = "region = 'eu'"

[[allow]]
server = "crm"
tables = ["public.orders"]
operations = ["select", "insert", "update", "delete"]
"#;

const FEW: &str = r#"
description = "Read a few rows"
agents = ["*"]
ttl = "10m"
proof = "dpop"
budget = { calls = 100, rows = 7 }

[[allow]]
server = "crm"
tables = ["public.customers"]
columns = ["id"]
rows = "region = 'eu'"
"#;

const CERTIFIED: &str = r#"
description = "Read European customers, with a certificate"
agents = ["*"]
ttl = "10m"
proof = "certificate"
budget = { calls = 100 }

[[allow]]
server = "crm"
tables = ["public.customers"]
columns = ["id"]
rows = "region = 'eu'"
"#;

/// How a gateway in front of a database shall be.
#[derive(Default)]
struct Wanted {
    version: Version,
    /// What the database proves itself with, and what the gateway verifies it with.
    database_tls: Option<(Pair, Option<Pair>)>,
    /// What the gateway's listener proves itself with.
    listener_tls: Option<Pair>,
}

/// A gateway in front of a database.
struct World {
    database: Database,
    gateway: Gateway,
    agent: Agent,
    port: u16,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::of(Version::default()).await
    }

    async fn of(version: Version) -> Self {
        let wanted = Wanted {
            version,
            ..Wanted::default()
        };
        wanted.start().await
    }

    async fn token(&self, template: &str, dpop: bool) -> (String, Token) {
        let task = self.agent.open_task(template, serde_json::json!({})).await;
        let token = self
            .agent
            .token_of_kind("postgres", "crm", &task, dpop)
            .await;
        (task, token)
    }

    fn password(&self, token: &Token) -> String {
        if !token.dpop {
            return token.text.clone();
        }
        let proof = self
            .agent
            .proof("CONNECT", &token.resource, Some(&token.text));
        format!("{}~{proof}", token.text)
    }

    /// Carries out statements as the agent: what came out, and what went wrong.
    fn query(&self, password: &str, sql: &str) -> (String, String) {
        said(psql(self.port, "crm", "desk", password, sql))
    }

    /// A file that tests wrote.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What a program said, and what it said went wrong.
fn said(output: Output) -> (String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
    (text(output.stdout), text(output.stderr))
}

impl Wanted {
    async fn start(self) -> World {
        let proves = self.database_tls.as_ref().map(|(pair, _)| pair);
        let database = Database::start(self.version, proves);
        let address = free_address();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut listener = format!("[postgres]\nlisten = \"{address}\"\n");
        if let Some(pair) = &self.listener_tls {
            let (cert, key) = (write("cert.pem", &pair.cert), write("key.pem", &pair.key));
            listener.push_str(&format!("tls = {{ cert = {cert:?}, key = {key:?} }}\n"));
        }
        let mut about = String::new();
        let mut tls = "auto";
        if let Some((_, trusted)) = &self.database_tls {
            tls = "require";
            if let Some(pair) = trusted {
                about = format!("ca = {:?}\n", write("ca.pem", &pair.cert));
            }
        }
        let password = write("keeper.password", "keeper");
        let mut setup = Setup::new();
        if self.listener_tls.is_some() {
            setup = setup.template("certified", CERTIFIED);
        }
        let gateway = setup
            .and(&format!(
                "{listener}{}",
                server(database.port, &about, tls, &password)
            ))
            .template("analyst", ANALYST)
            .template("few", FEW)
            .start()
            .await;
        let agent = gateway.agent("desk").await;
        World {
            database,
            gateway,
            agent,
            port: address.port(),
            folder,
        }
    }
}

/// What the configuration says of the database.
fn server(port: u16, about: &str, tls: &str, password: &std::path::Path) -> String {
    format!(
        "[servers.crm]\nkind = \"postgres\"\nurl = \"postgres://127.0.0.1:{port}/postgres\"\n{about}\
         [servers.crm.postgres]\nuser = \"keeper\"\npassword = {{ file = {password:?} }}\ntls = \"{tls}\"\n"
    )
}
