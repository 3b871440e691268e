//! A running gateway of one's own.

pub(crate) mod agent;
pub(crate) mod certificates;
pub(crate) mod http;
pub(crate) mod local;
pub(crate) mod packages;
pub(crate) mod program;
pub(crate) mod provider;
pub(crate) mod requests;
pub(crate) mod sdk;
pub(crate) mod tunnels;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use agent::Agent;
use http::{Answer, Call};

/// The program under test.
pub(crate) const SALLYPORT: &str = env!("CARGO_BIN_EXE_sallyport");

/// How long anything may take before the test gives up on it. Far above what it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Cedar that permits everything that a grant covers.
pub(crate) const PERMIT_ALL: &str = "permit(principal, action, resource);\n";

/// What a gateway is configured with.
pub(crate) struct Setup {
    servers: String,
    templates: Vec<(String, String)>,
}

impl Setup {
    /// A setup without servers and templates, whose policy permits what grants cover.
    pub(crate) fn new() -> Self {
        Self {
            servers: String::new(),
            templates: Vec::new(),
        }
    }

    /// Adds a server that the gateway starts.
    pub(crate) fn stdio(mut self, name: &str, command: &[impl serde::Serialize]) -> Self {
        let command = serde_json::to_string(command).unwrap();
        self.servers
            .push_str(&format!("[servers.{name}]\ncommand = {command}\n"));
        self
    }

    /// Adds a server that is elsewhere.
    pub(crate) fn server(mut self, name: &str, kind: &str, url: &str) -> Self {
        self.servers.push_str(&format!(
            "[servers.{name}]\nkind = \"{kind}\"\nurl = \"{url}\"\n"
        ));
        self
    }

    /// Adds lines to the server that was added last.
    pub(crate) fn and(mut self, lines: &str) -> Self {
        self.servers.push_str(lines);
        self.servers.push('\n');
        self
    }

    /// Adds a template.
    pub(crate) fn template(mut self, name: &str, text: &str) -> Self {
        self.templates.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Writes the setup and starts the gateway.
    pub(crate) async fn start(self) -> Gateway {
        let (control, gateway) = (free_address(), free_address());
        let mut gateway = self.write(control, gateway, "");
        gateway.control = format!("http://{control}");
        gateway.restart().await;
        gateway
    }

    /// The same, with TLS on both listeners. The certificate, for `localhost`, is put into `cert.pem`.
    pub(crate) async fn start_with_tls(self, cert: &str, key: &str) -> Gateway {
        let (control, gateway) = (free_address(), free_address());
        let tls = |address: SocketAddr| format!("https://localhost:{}", address.port());
        let files = "tls = { cert = \"cert.pem\", key = \"key.pem\" }\n";
        let mut gateway = self.write(control, gateway, files);
        std::fs::write(gateway.dir().join("cert.pem"), cert).unwrap();
        std::fs::write(gateway.dir().join("key.pem"), key).unwrap();
        gateway.control = tls(control);
        gateway.spawn();
        gateway
            .wait_until("the gateway is ready", async |this| {
                this.run(&["status", "--ca", "cert.pem"]).status.success()
            })
            .await;
        gateway
    }

    /// Writes the setup into a new folder.
    fn write(&self, control: SocketAddr, gateway: SocketAddr, tls: &str) -> Gateway {
        let dir = tempfile::tempdir().unwrap();
        let listener = |address: SocketAddr| {
            let public = match tls {
                "" => String::new(),
                _ => format!("public_url = \"https://localhost:{}\"\n", address.port()),
            };
            format!("listen = \"{address}\"\n{public}{tls}")
        };
        let config = format!(
            "trust_domain = \"example.org\"\ndata_dir = \"data\"\n[control]\n{}[gateway]\n{}{}",
            listener(control),
            listener(gateway),
            self.servers
        );
        let root = dir.path();
        std::fs::write(root.join("sallyport.toml"), config).unwrap();
        std::fs::create_dir(root.join("templates")).unwrap();
        std::fs::create_dir(root.join("policies")).unwrap();
        std::fs::write(root.join("policies/test.cedar"), PERMIT_ALL).unwrap();
        for (name, text) in &self.templates {
            std::fs::write(root.join(format!("templates/{name}.toml")), text).unwrap();
        }
        Gateway {
            control: String::new(),
            gateway: format!("http://{gateway}"),
            child: None,
            dir,
        }
    }
}

/// An address that was free a moment ago, and that nobody is given until whoever wants it listens: not to
/// another test of this process, and not to a connection, since those begin at higher ports.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    // Other processes with tests begin elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (begin.wrapping_mul(7).wrapping_add(step)) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
    panic!("no address is free");
}

/// A running gateway. Dropped, it is killed and its folder removed.
pub(crate) struct Gateway {
    /// Base URL of the control listener.
    pub(crate) control: String,
    /// Base URL of the gateway listener.
    pub(crate) gateway: String,
    child: Option<Child>,
    dir: TempDir,
}

impl Gateway {
    /// The folder with configuration and data.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The base URL of the control listener.
    pub(crate) fn control(&self) -> &str {
        &self.control
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("sallyport.toml")
    }

    /// The log's folder.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir().join("data/log")
    }

    /// What the process wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir().join("stderr.txt")).unwrap_or_default()
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// Starts the process (again) and waits until it is ready.
    pub(crate) async fn restart(&mut self) {
        self.spawn();
        self.wait_until("the gateway is ready", async |this| {
            matches!(Call::get(&format!("{}/readyz", this.control)).send().await, Ok(answer) if answer.status == 200)
        })
        .await;
    }

    fn spawn(&mut self) {
        self.kill();
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir().join("stderr.txt"))
            .unwrap();
        let child = Command::new(SALLYPORT)
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// Waits until something holds.
    pub(crate) async fn wait_until(
        &mut self,
        what: &str,
        mut holds: impl AsyncFnMut(&mut Self) -> bool,
    ) {
        let begun = Instant::now();
        while !holds(self).await {
            if let Some(status) = self.exited() {
                panic!("the gateway ended with {status}:\n{}", self.stderr());
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited in vain until {what}:\n{}",
                self.stderr()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the process has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    /// Kills the process, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end, and waits for it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the gateway runs");
        signal(child.id(), "TERM");
        child.wait().unwrap()
    }

    /// Calls the management API as the operator.
    pub(crate) async fn manage(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = std::fs::read_to_string(self.dir().join("data/operator.token")).unwrap();
        let call = Call::new(method, &format!("{}{path}", self.control))
            .header("authorization", &format!("Bearer {}", token.trim()));
        let call = if method == "GET" {
            call
        } else {
            call.json(&body)
        };
        call.send().await.unwrap()
    }

    /// The same, for calls that must succeed.
    pub(crate) async fn managed(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.manage(method, path, body).await;
        assert!(answer.is_success(), "{method} {path}: {answer:?}");
        answer.json()
    }

    /// Registers an agent and enrols an instance of it with the real commands.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        let body = json!({ "name": name, "sponsor": "ada@example.org" });
        self.managed("POST", "/v1/agents", body).await;
        self.instance(name).await
    }

    /// Enrols a further instance of an agent.
    pub(crate) async fn instance(&self, name: &str) -> Agent {
        let made = self
            .managed("POST", &format!("/v1/agents/{name}/enrolment"), json!({}))
            .await;
        let token = made["token"].as_str().unwrap();
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let folder = self
            .dir()
            .join(format!("instance-{:016x}", u64::from_ne_bytes(random)));
        let output = Command::new(SALLYPORT)
            .args(["agent", "enroll", "--control", &self.control, "--instance"])
            .arg(&folder)
            .env("SALLYPORT_ENROLMENT_TOKEN", token)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Agent::open(self, folder)
    }

    /// Runs a command of the program against this gateway.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(SALLYPORT);
        command
            .args(arguments)
            .current_dir(self.dir())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub(crate) fn run_json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// All records of the log, as the command line gives them.
    pub(crate) fn records(&self) -> Vec<Value> {
        let output = self.run(&["audit", "query", "--json", "--limit", "1000000"]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Checks that the log verifies.
    pub(crate) fn verify(&self) {
        let output = self.run(&["audit", "verify"]);
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the gateway said\n{}", self.stderr());
        }
        self.kill();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}
