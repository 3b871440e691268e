//! A real PostgreSQL of one's own, in each version that is tested.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{free_address, packages};

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
CREATE FUNCTION whole_ledger() RETURNS numeric SECURITY DEFINER LANGUAGE sql AS 'SELECT sum(amount) FROM finance.ledger';
";

/// A version of PostgreSQL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// Debian's.
    #[default]
    V15,
    /// npm's.
    V18,
}

/// A certificate with its key, for this machine.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Pair {
    pub(super) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            cert: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        }
    }
}

/// A database. Dropped, it is stopped and removed.
pub(super) struct Database {
    dir: TempDir,
    pub(super) port: u16,
    bin: PathBuf,
    /// Where the drivers are.
    pub(super) drivers: PathBuf,
}

impl Database {
    /// Starts one; with a certificate, it lets in over TLS only.
    pub(super) fn start(version: Version, tls: Option<&Pair>) -> Self {
        let drivers = packages::install("postgres");
        let dir = tempfile::tempdir().unwrap();
        let bin = match version {
            Version::V15 => PathBuf::from("/usr/lib/postgresql/15/bin"),
            Version::V18 => copied(&drivers.join("postgres18/"), dir.path()).join("bin"),
        };
        let this = Self {
            dir,
            port: free_address().port(),
            bin,
            drivers,
        };
        let root = this.dir.path();
        let (data, password) = (root.join("data"), root.join("pw"));
        std::fs::write(&password, "secret").unwrap();
        std::fs::create_dir(&data).unwrap();
        this.give(&[root, &data, &password]);
        let made = this
            .server("initdb")
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-D"])
            .arg(&data)
            .arg(format!("--pwfile={}", password.display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            this.port,
            root.display()
        );
        if let Some(pair) = tls {
            this.encrypt(pair, &data);
            options.push_str(" -c ssl=on");
        }
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
        assert!(started.unwrap().success(), "{}", this.log());
        let made = this.admin(SCHEMA);
        assert!(made.status.success(), "{made:?}");
        this
    }

    fn encrypt(&self, pair: &Pair, data: &Path) {
        let (cert, key) = (data.join("server.crt"), data.join("server.key"));
        std::fs::write(&cert, &pair.cert).unwrap();
        std::fs::write(&key, &pair.key).unwrap();
        let only_mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, only_mine).unwrap();
        let rules = data.join("pg_hba.conf");
        std::fs::write(&rules, "hostssl all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        self.give(&[&cert, &key, &rules]);
    }

    /// Gives files to the user that the server runs as.
    fn give(&self, files: &[&Path]) {
        if rustix::process::geteuid().is_root() {
            let given = Command::new("chown").arg("nobody").args(files).status();
            assert!(given.unwrap().success());
        }
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

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Carries out statements as the superuser.
    pub(super) fn admin(&self, sql: &str) -> Output {
        psql(self.port, "postgres", "postgres", "secret", sql)
    }

    /// What a statement of the superuser gives.
    pub(super) fn asked(&self, sql: &str) -> String {
        let output = self.admin(sql);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The roles of sessions that there are.
    pub(super) fn roles(&self) -> String {
        self.asked("SELECT rolname FROM pg_roles WHERE rolname ~ '^sallyport_[0-9a-f]{20}$'")
    }

    /// Waits until there is a role of a session, or none is left.
    pub(super) async fn until_there_are_roles(&self, wanted: bool) {
        for _ in 0..600 {
            if self.roles().is_empty() != wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("roles are left, or none is there: {}", self.roles());
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

/// The programs where the user can reach them that they run as: links where there can be some.
fn copied(from: &Path, to: &Path) -> PathBuf {
    let to = to.join("programs");
    let copy = |how: &str| {
        let mut copy = Command::new("cp");
        copy.args([how, "-T"]).arg(from).arg(&to);
        copy.stderr(Stdio::null()).status().unwrap().success()
    };
    if !copy("-al") {
        let _ = std::fs::remove_dir_all(&to);
        assert!(copy("-a"));
    }
    to
}

/// The official client, at one database.
pub(super) fn client(port: u16, database: &str, password: &str) -> Command {
    let mut command = Command::new("psql");
    command
        .args(["-X", "-h", "127.0.0.1", "-p", &port.to_string()])
        .args(["-d", database])
        .env("PGPASSWORD", password);
    command
}

pub(super) fn psql(port: u16, database: &str, user: &str, password: &str, sql: &str) -> Output {
    client(port, database, password)
        .args(["-A", "-t", "-q", "-U", user, "-c", sql])
        .env("PGCONNECT_TIMEOUT", "40")
        .output()
        .unwrap()
}
