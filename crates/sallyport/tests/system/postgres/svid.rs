//! Agents that show a certificate in place of a password.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use jiff::{SignedDuration, Timestamp};
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::json;

use super::database::Pair;
use super::{Wanted, World, said};
use crate::support::agent::Agent;
use crate::support::certificates::{Said, Shown, svid};
use crate::support::local::Local;
use crate::support::program::Program;

async fn world() -> World {
    let wanted = Wanted {
        listener_tls: Some(Pair::new()),
        ..Wanted::default()
    };
    wanted.start().await
}

impl World {
    /// An SVID of an agent.
    fn svid(&self, agent: &Agent, name: &str) -> Shown {
        svid(agent.folder(), &self.file(name), &[])
    }

    /// How a client connects that shows a certificate, and names a user.
    fn about(&self, user: &str, shown: Option<&Shown>) -> String {
        let certificate = match shown {
            Some(Shown { cert, key }) => {
                format!("sslcert={} sslkey={}", cert.display(), key.display())
            }
            None => "sslcert=none sslkey=none".to_owned(),
        };
        format!(
            "host=localhost port={} dbname=crm user={user} sslmode=verify-full sslrootcert={} \
             connect_timeout=40 {certificate}",
            self.port,
            self.file("cert.pem").display()
        )
    }

    /// Asks one thing with psql and a certificate.
    fn show(&self, user: &str, shown: Option<&Shown>, sql: &str) -> (String, String) {
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-q", "-w", "-c", sql])
            .arg(self.about(user, shown))
            .env_remove("PGPASSWORD")
            .output();
        said(output.unwrap())
    }

    /// What is refused, in words.
    fn refusal(&self, user: &str, shown: Option<&Shown>) -> String {
        let (out, error) = self.show(user, shown, "SELECT 1");
        assert_eq!(out, "", "{error}");
        error
    }

    fn data(&self) -> std::path::PathBuf {
        self.gateway.dir().join("data")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_takes_the_place_of_the_password() {
    let world = world().await;
    let own = world.svid(&world.agent, "own");
    // Of a template that takes nothing weaker than a proof, and of one that takes nothing but this.
    for template in ["few", "certified"] {
        let task = world.agent.open_task(template, json!({})).await;
        let sql = "SELECT count(id) FROM customers";
        let (out, error) = world.show(&task, Some(&own), sql);
        assert_eq!(out, "50", "{template}: {error}");
        let (_, error) = world.show(&task, Some(&own), "SELECT secret FROM customers");
        assert!(error.contains("does not grant"), "{error}");
    }
    let records = world.gateway.records();
    let sessions = records.iter().filter(|record| {
        record["event"] == "intent"
            && record["method"] == "connect"
            && record["proof"] == "certificate"
    });
    assert_eq!(sessions.count(), 4);
    let issued = records
        .iter()
        .filter(|record| record["change"] == "svid.issued");
    assert_eq!(issued.count(), 1);
    // psycopg, with a libpq of its own, and with TLS from the first byte on.
    let task = world.agent.open_task("certified", json!({})).await;
    let script = "import sys, psycopg\n\
                  with psycopg.connect(sys.argv[1]) as connection:\n    \
                  print(connection.execute('SELECT count(id) FROM customers').fetchone()[0])\n";
    for more in ["", " sslnegotiation=direct"] {
        let output = Command::new(world.database.drivers.join("venv/bin/python"))
            .args(["-c", script])
            .arg(world.about(&task, Some(&own)) + more)
            .env_remove("PGPASSWORD")
            .output();
        let (out, error) = said(output.unwrap());
        assert_eq!(out, "50", "{error}");
    }
    // Who shows a certificate and no task can still have a token for a password.
    let (_, token) = world.token("analyst", false).await;
    let output = Command::new("psql")
        .args(["-X", "-A", "-t", "-q", "-w", "-c", "SELECT 1"])
        .arg(world.about("desk", Some(&own)))
        .env("PGPASSWORD", &token.text)
        .output();
    assert_eq!(said(output.unwrap()).0, "1");
    // Renewing replaces the files.
    let before = std::fs::read(&own.cert).unwrap();
    world.svid(&world.agent, "own");
    assert_ne!(std::fs::read(&own.cert).unwrap(), before);
    let (out, error) = world.show(&task, Some(&own), "SELECT count(id) FROM customers");
    assert_eq!(out, "50", "{error}");
    world.database.until_there_are_roles(false).await;
    world.gateway.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_others_are_not_there() {
    let world = world().await;
    let own = world.svid(&world.agent, "own");
    let other = world.gateway.agent("other").await;
    let sibling = world.gateway.instance("desk").await;
    let theirs = world.svid(&other, "theirs");
    let siblings = world.svid(&sibling, "siblings");
    // Tasks that an instance opens for itself are for it alone.
    let task = world.agent.open_task("certified", json!({})).await;
    let weak = world.agent.open_task("analyst", json!({})).await;
    let unknown = format!("task_{:032x}", 7);
    let said = world.refusal(&unknown, Some(&own));
    assert!(said.contains("has no such task"), "{said}");
    for shown in [&theirs, &siblings] {
        for task in [&task, &weak] {
            assert_eq!(world.refusal(task, Some(shown)), said, "nobody learns more");
        }
    }
    // Without a certificate the password is asked for; a guess is none.
    let asked = world.refusal(&task, None);
    assert!(asked.contains("no password supplied"), "{asked}");
    // The token of a task that demands a certificate cannot be had without one.
    let details = json!([{ "type": "sallyport_task", "task": task }]).to_string();
    let resource = format!("{}/postgres/crm", world.gateway.gateway);
    let fields = [
        ("resource", resource.as_str()),
        ("authorization_details", &details),
    ];
    for dpop in [true, false] {
        let refused = world.agent.ask_token(&fields, dpop).await;
        assert_eq!(refused.status, 400);
        assert!(
            refused.json()["error_description"]
                .to_string()
                .contains("certificate")
        );
    }
    // An ended task is over for who shows a certificate too.
    assert!(
        world
            .gateway
            .run(&["task", "revoke", &task])
            .status
            .success()
    );
    let ended = world.refusal(&task, Some(&own));
    assert!(ended.contains("revoked"), "{ended}");
    assert_eq!(world.database.roles(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_nobody_here_would_make_get_no_connection() {
    let world = world().await;
    let task = world.agent.open_task("certified", json!({})).await;
    let (data, id) = (world.data(), world.agent.id.clone());
    let folder = |name: &str| world.file(name);
    let good = Said::of("desk", &id);
    let forged = good.by_the_authority(&folder("good"), &data);
    let (out, error) = world.show(&task, Some(&forged), "SELECT count(id) FROM customers");
    assert_eq!(
        out, "50",
        "so that the others fail for what they say: {error}"
    );
    let hours = SignedDuration::from_hours;
    let with = |change: &dyn Fn(&mut Said)| {
        let mut said = Said::of("desk", &id);
        change(&mut said);
        said
    };
    let expired = with(&|it| it.from = Timestamp::now() - hours(2));
    let early = with(&|it| it.from = Timestamp::now() + hours(2));
    let two = with(&|it| {
        it.uris.push("spiffe://example.org/agent/other".to_owned());
    });
    let nobody = with(&|it| it.uris.clear());
    let server = with(&|it| {
        it.uris = vec!["spiffe://example.org/server/crm".to_owned()];
        it.purpose = ExtendedKeyUsagePurpose::ServerAuth;
    });
    let foreign = with(&|it| it.uris = vec!["spiffe://other.example/agent/desk".to_owned()]);
    let root = {
        let file = |end: &str| {
            let files = std::fs::read_dir(data.join("authority")).unwrap();
            let mut files = files.map(|it| it.unwrap().path());
            files.find(|path| path.extension().is_some_and(|it| it == end))
        };
        Shown {
            cert: file("crt").unwrap(),
            key: file("pem").unwrap(),
        }
    };
    let all = [
        ("self-signed", good.by_itself(&folder("itself"))),
        (
            "another authority",
            good.by_another(&folder("another"), &data),
        ),
        (
            "expired",
            expired.by_the_authority(&folder("expired"), &data),
        ),
        ("not yet", early.by_the_authority(&folder("early"), &data)),
        ("two names", two.by_the_authority(&folder("two"), &data)),
        ("no name", nobody.by_the_authority(&folder("nobody"), &data)),
        (
            "a server",
            server.by_the_authority(&folder("server"), &data),
        ),
        (
            "foreign",
            foreign.by_the_authority(&folder("foreign"), &data),
        ),
        ("the authority", root),
    ];
    for (what, shown) in &all {
        let error = world.refusal(&task, Some(shown));
        let shook_hands = error.contains("authentication failed") || error.contains("password");
        assert!(!shook_hands, "{what}: {error}");
    }
    // What is refused in the handshake is on record.
    let mut refusals = world.gateway.records().into_iter();
    assert!(
        refusals.any(|record| record["event"] == "refusal" && record["endpoint"] == "tls"),
        "nothing is on record"
    );
    assert_eq!(world.database.roles(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_stopped_however_long_its_certificate_is_good() {
    let world = world().await;
    let own = world.svid(&world.agent, "own");
    let sql = "SELECT count(id) FROM customers";
    let run = |arguments: &[&str]| {
        let output = world.gateway.run(arguments);
        assert!(output.status.success(), "{output:?}");
    };
    let task = world.agent.open_task("certified", json!({})).await;
    assert_eq!(world.show(&task, Some(&own), sql).0, "50");
    run(&["agent", "quarantine", "desk"]);
    let error = world.refusal(&task, Some(&own));
    assert!(error.contains("not active"), "{error}");
    run(&["agent", "release", "desk"]);
    assert_eq!(world.show(&task, Some(&own), sql).0, "50");
    run(&["agent", "revoke-tokens", "desk"]);
    let error = world.refusal(&task, Some(&own));
    assert!(error.contains("revoked"), "{error}");
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let own = world.svid(&world.agent, "own");
    assert_eq!(world.show(&task, Some(&own), sql).0, "50");
    run(&["agent", "disable-instance", &world.agent.id]);
    let error = world.refusal(&task, Some(&own));
    assert!(error.contains("disabled"), "{error}");

    let other = world.gateway.agent("other").await;
    let theirs = world.svid(&other, "theirs");
    let task = other.open_task("certified", json!({})).await;
    assert_eq!(world.show(&task, Some(&theirs), sql).0, "50");
    run(&["agent", "retire", "other"]);
    let error = world.refusal(&task, Some(&theirs));
    let ended = ["not active", "no such task", "revoked"];
    assert!(ended.iter().any(|why| error.contains(why)), "{error}");
    let refused = Command::new(crate::support::SALLYPORT)
        .args(["agent", "svid", "--instance"])
        .arg(other.folder())
        .arg("--out")
        .arg(world.file("theirs"))
        .output();
    assert!(!refused.unwrap().status.success());
    world.database.until_there_are_roles(false).await;
}

/// A session that stays open until it is told to ask again.
fn session(world: &World, about: &str) -> (Program, impl FnOnce(&mut Program) -> String) {
    let script = "import sys, psycopg\n\
                  connection = psycopg.connect(sys.argv[1], autocommit=True)\n\
                  print(connection.execute('SELECT count(id) FROM customers').fetchone()[0], flush=True)\n\
                  sys.stdin.readline()\n\
                  try:\n    connection.execute('SELECT 1'); print('went on')\n\
                  except Exception as error:\n    print('ended', error)\n";
    let mut command = Command::new(world.database.drivers.join("venv/bin/python"));
    command
        .args(["-c", script, about])
        .env_remove("PGPASSWORD")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut program = Program::start(&mut command);
    let mut out = BufReader::new(program.0.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "50");
    let rest = move |program: &mut Program| {
        let mut input = program.0.stdin.take().unwrap();
        input.write_all(b"\n").unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    };
    (program, rest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_open_ends_with_its_agent() {
    let world = world().await;
    let own = world.svid(&world.agent, "own");
    let task = world.agent.open_task("certified", json!({})).await;
    let about = world.about(&task, Some(&own));
    let (mut program, rest) = session(&world, &about);
    let stopped = world.gateway.run(&["agent", "quarantine", "desk"]);
    assert!(stopped.status.success());
    let said = rest(&mut program);
    assert!(said.starts_with("ended"), "{said}");
    world.database.until_there_are_roles(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connector_shows_a_certificate_where_the_template_says_so() {
    let world = world().await;
    let cert = world.file("cert.pem");
    let ca = ["--ca", cert.to_str().unwrap()];
    let local = Local::start_at(&world.agent, ("crm", "certified"), "127.0.0.1:0", &ca);
    for _ in 0..2 {
        let output = Command::new("psql")
            .args(["-X", "-A", "-t", "-q", &local.url, "-c"])
            .arg("SELECT count(id) FROM customers")
            .output();
        let (out, error) = said(output.unwrap());
        assert_eq!(out, "50", "{error}");
    }
    let sessions = world.gateway.records().into_iter().filter(|record| {
        record["event"] == "intent"
            && record["method"] == "connect"
            && record["proof"] == "certificate"
    });
    assert_eq!(sessions.count(), 2);
    local.end();
    world.database.until_there_are_roles(false).await;
    assert!(
        !leaves_keys(world.agent.folder()),
        "its keys stay in memory"
    );
}

/// Whether there is another key in a folder than the instance's own.
fn leaves_keys(folder: &Path) -> bool {
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|it| it.unwrap().file_name());
    names
        .filter(|name| name != "key.pem" && name != "instance.json")
        .count()
        > 0
}
