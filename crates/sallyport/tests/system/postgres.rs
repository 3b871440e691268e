//! A real PostgreSQL behind the gateway, reached with psql and with drivers as they are.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::agent::{Agent, Token};
use crate::support::{Gateway, Setup, free_address, packages};

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

const SCHEMA: &str = "
CREATE ROLE keeper LOGIN CREATEROLE PASSWORD 'keeper';
GRANT ALL ON SCHEMA public TO keeper; GRANT CREATE ON DATABASE postgres TO keeper;
SET ROLE keeper;
CREATE SCHEMA finance;
CREATE TABLE customers (id int PRIMARY KEY, name text, region text, secret text);
INSERT INTO customers SELECT n, 'n' || n, CASE WHEN n % 2 = 0 THEN 'eu' ELSE 'us' END, 's' || n
  FROM generate_series(1, 100) n;
CREATE POLICY everyone_else ON customers USING (true);
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE TABLE orders (id serial PRIMARY KEY, customer int, total numeric);
CREATE TABLE finance.ledger (id int, amount numeric);
INSERT INTO finance.ledger VALUES (1, 100);
";

/// A database of one's own. Dropped, it is stopped and removed.
struct Database {
    dir: TempDir,
    port: u16,
    bin: PathBuf,
    drivers: PathBuf,
}

impl Database {
    fn start() -> Self {
        let drivers = packages::install("postgres");
        let versions = std::fs::read_dir("/usr/lib/postgresql").unwrap();
        let bin = versions
            .map(|v| v.unwrap().path().join("bin"))
            .max()
            .unwrap();
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
            port: free_address().port(),
            bin,
            drivers,
        };
        let root = this.dir.path();
        std::fs::write(root.join("pw"), "secret").unwrap();
        let data = root.join("data");
        std::fs::create_dir(&data).unwrap();
        if rustix::process::geteuid().is_root() {
            let owner = Command::new("chown")
                .args(["-R", "nobody"])
                .arg(root)
                .status();
            assert!(owner.unwrap().success());
        }
        let made = this
            .server("initdb")
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-D"])
            .arg(&data)
            .arg(format!("--pwfile={}", root.join("pw").display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            this.port,
            root.display()
        );
        let started = this
            .server("pg_ctl")
            .args(["-w", "-o", &options, "-D"])
            .arg(&data)
            .arg("-l")
            .arg(root.join("log"))
            .arg("start")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(started.unwrap().success());
        assert!(this.admin(SCHEMA).status.success());
        this
    }

    /// A program of the server, which refuses to run as root.
    fn server(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !rustix::process::geteuid().is_root() {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=nobody", "--clear-groups"])
            .arg(program);
        command.current_dir(self.dir.path());
        command
    }

    /// Carries out statements as the superuser.
    fn admin(&self, sql: &str) -> Output {
        psql(self.port, "postgres", "postgres", "secret", sql)
    }

    /// The roles of sessions that there are.
    fn roles(&self) -> String {
        let sql = "SELECT rolname FROM pg_roles WHERE rolname ~ '^sallyport_[0-9a-f]{20}$'";
        String::from_utf8(self.admin(sql).stdout).unwrap()
    }

    /// Waits until no role of a session is left.
    async fn until_no_role_is_left(&self) {
        for _ in 0..600 {
            if self.roles().is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("roles are left: {}", self.roles());
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut stop = self.server("pg_ctl");
        stop.args(["-m", "immediate", "-D"])
            .arg(self.dir.path().join("data"));
        let _ = stop.arg("stop").stdout(Stdio::null()).status();
    }
}

/// The official client, at one database.
fn client(port: u16, database: &str, password: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-d", database])
        .env("PGPASSWORD", password);
    command
}

fn psql(port: u16, database: &str, user: &str, password: &str, sql: &str) -> Output {
    client(port, database, password)
        .args(["-A", "-t", "-q", "-U", user, "-c", sql])
        .env("PGCONNECT_TIMEOUT", "20")
        .output()
        .unwrap()
}

/// A gateway in front of a database.
struct World {
    database: Database,
    gateway: Gateway,
    agent: Agent,
    port: u16,
    _password: tempfile::NamedTempFile,
}

impl World {
    async fn new() -> Self {
        let database = Database::start();
        let address = free_address();
        let mut password = tempfile::NamedTempFile::new().unwrap();
        password.write_all(b"keeper").unwrap();
        let server = format!(
            "[postgres]\nlisten = \"{address}\"\n[servers.crm]\nkind = \"postgres\"\n\
             url = \"postgres://127.0.0.1:{}/postgres\"\n[servers.crm.postgres]\nuser = \"keeper\"\n\
             password = {{ file = {:?} }}",
            database.port,
            password.path()
        );
        let gateway = Setup::new()
            .and(&server)
            .template("analyst", ANALYST)
            .template("few", FEW)
            .start()
            .await;
        let agent = gateway.agent("desk").await;
        Self {
            database,
            gateway,
            agent,
            port: address.port(),
            _password: password,
        }
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
        let output = psql(self.port, "crm", "desk", password, sql);
        let text = |bytes| String::from_utf8(bytes).unwrap().trim().to_owned();
        (text(output.stdout), text(output.stderr))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_work_as_they_are_and_leave_no_role_behind() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let drive = packages::folder("postgres").join("drive.py");
    let driven = Command::new(world.database.drivers.join("venv/bin/python"))
        .arg(drive)
        .args(["127.0.0.1", &world.port.to_string(), &token.text])
        .output()
        .unwrap();
    assert!(
        driven.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&driven.stderr),
        world.gateway.stderr()
    );
    world.database.until_no_role_is_left().await;
    world.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_holds_sessions_to_the_grant() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    let password = world.password(&token);
    assert_eq!(
        world.query(&password, "SELECT count(*) FROM customers").0,
        "50"
    );
    for (sql, code) in [
        ("SELECT secret FROM customers", "does not grant"),
        ("SELECT * FROM finance.ledger", "does not grant"),
        ("SELECT * FROM finance.nothing", "does not grant"),
        ("SELECT rolpassword FROM pg_authid", "own; a template"),
        ("SELECT tablename FROM pg_tables", "own; a template"),
        (
            "SELECT table_name FROM information_schema.tables",
            "own; a template",
        ),
        ("SELECT 1; SELECT secret FROM customers", "does not grant"),
        (
            "WITH d AS (DELETE FROM customers RETURNING id) SELECT * FROM d",
            "does not grant",
        ),
        ("EXPLAIN ANALYZE SELECT id FROM customers", "plans for"),
        ("EXPLAIN ANALYZE DELETE FROM customers", "plans for"),
        ("SELECT pg_read_file('/etc/passwd')", "may not be called"),
        ("COPY orders TO PROGRAM 'id'", "COPY"),
        ("SET ROLE keeper", "not allowed"),
        ("SELECT 'finance.ledger'::regclass", "looks things up"),
        ("DO $$ BEGIN END $$", "does not understand"),
        ("SELECT U&'\\0041'", "Unicode escapes"),
        ("INSERT INTO customers (id) VALUES (1000)", "does not grant"),
    ] {
        let (out, error) = world.query(&password, sql);
        assert!(
            error.contains(code) && out.is_empty(),
            "{sql}: {out} {error}"
        );
    }
    // What the role may do if the gateway were fooled: its rights are the grant's, by name.
    let rights = "SELECT has_table_privilege(r.oid, 'finance.ledger', 'SELECT'), \
                  has_column_privilege(r.oid, 'customers', 'secret', 'SELECT'), \
                  has_column_privilege(r.oid, 'customers', 'name', 'SELECT'), rolsuper, rolcreaterole, rolbypassrls \
                  FROM pg_roles r WHERE rolname ~ '^sallyport_[0-9a-f]{20}$'";
    let mut open = client(world.port, "crm", &password)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = String::new();
    for _ in 0..200 {
        seen = String::from_utf8(world.database.admin(rights).stdout).unwrap();
        if !seen.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(seen.trim(), "f|f|t|f|f|f");
    drop(open.stdin.take());
    open.wait().unwrap();
    world.database.until_no_role_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_proofs_and_revocation_hold() {
    let mut world = World::new().await;
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
    while world.database.roles().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
    world.database.until_no_role_is_left().await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'generate_series' AND state = 'active' \
                AND pid <> pg_backend_pid()";
    assert_eq!(
        String::from_utf8(world.database.admin(busy).stdout)
            .unwrap()
            .trim(),
        "0"
    );
    let (_, error) = world.query(&password, "SELECT 1");
    assert!(error.contains("revoked"), "{error}");

    // A gateway that dies leaves a role; the next one drops it.
    let (_, token) = world.token("analyst", false).await;
    let mut left = client(world.port, "crm", &world.password(&token))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    while world.database.roles().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.gateway.kill();
    left.kill().unwrap();
    left.wait().unwrap();
    assert!(!world.database.roles().is_empty());
    world.gateway.restart().await;
    world.database.until_no_role_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_end_the_session_and_nothing_else() {
    let world = World::new().await;
    let (_, token) = world.token("analyst", false).await;
    for broken in [
        &b"Q\0\0\0\x03"[..],
        b"Q\xff\xff\xff\xff",
        b"Q\0\0\0\x08ab\0c",
        b"F\0\0\0\x04Q\0\0\0\x05",
        b"!\0\0\0\x04",
        b"P\0\0\0\x05x",
    ] {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", world.port))
            .await
            .unwrap();
        let mut first = 0x0003_0000_u32.to_be_bytes().to_vec();
        first.extend_from_slice(b"user\0desk\0database\0crm\0\0");
        let length = u32::try_from(first.len() + 4).unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        stream.write_all(&first).await.unwrap();
        let mut password = vec![b'p'];
        let length = u32::try_from(token.text.len() + 5).unwrap();
        password.extend_from_slice(&length.to_be_bytes());
        password.extend_from_slice(token.text.as_bytes());
        password.push(0);
        stream.write_all(&password).await.unwrap();
        stream.write_all(broken).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(Duration::from_secs(30), read)
            .await
            .unwrap();
    }
    world.database.until_no_role_is_left().await;
    assert_eq!(world.query(&token.text, "SELECT 1").0, "1");
}
