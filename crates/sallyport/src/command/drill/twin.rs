//! The twin: the same program with the organisation's own policies, rules, playbooks and settings, in a
//! private folder, with keys and a log of its own. None of the real servers is named in it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::{Child, Command};
use toml::Table;

use super::written::{self, AGENT, TEMPLATE, TICKET};
use crate::connect::http::Http;
use crate::failure::Failure;
use crate::setup::{self, Severity};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);
/// Longest file that is taken along, in bytes.
const FILE_BYTES: u64 = 4 << 20;
/// What is taken along as it is: folders, and the ending of their files.
const TAKEN: [(&str, &str); 3] = [
    ("policies", "cedar"),
    ("rules", "toml"),
    ("playbooks", "json"),
];

/// A running twin. Dropped, it is killed and its folder removed.
pub(super) struct Twin {
    home: tempfile::TempDir,
    program: PathBuf,
    serve: Option<Child>,
    control: String,
    /// Base URL of its gateway.
    pub(super) gateway: String,
}

impl Twin {
    /// Writes it beside a configuration.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written, or has mistakes that the original has not.
    pub(super) fn new(
        file: &Path,
        plan: &written::Plan,
        with_permit: bool,
        url: impl Fn(&str) -> String,
    ) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(format!("the twin cannot be written: {error}"));
        let home = tempfile::Builder::new()
            .prefix("sallyport-drill-")
            .tempdir()
            .map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let (control, gateway) = (
            free_address().map_err(failed)?,
            free_address().map_err(failed)?,
        );
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let original: Table = text
            .parse()
            .map_err(|error| Failure::new(format!("{} is no TOML: {error}", file.display())))?;
        let config = plan.configuration(original, control, gateway, url);
        let root = home.path();
        let mut files = vec![
            ("sallyport.toml".to_owned(), config.to_string()),
            (format!("templates/{TEMPLATE}.toml"), plan.template()),
        ];
        files.extend(plan.annotations());
        if with_permit {
            files.push(("policies/zz-drill.cedar".to_owned(), written::permit()));
        }
        for (folder, ending) in TAKEN {
            take(
                &setup::folder_of(file).join(folder),
                ending,
                &root.join(folder),
            )
            .map_err(failed)?;
        }
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(root)).map_err(failed)?;
            std::fs::write(&path, text).map_err(failed)?;
        }
        let read = setup::read(&root.join("sallyport.toml"));
        let mistake = |remark: &&setup::Remark| remark.severity == Severity::Mistake;
        if let Some(remark) = read.remarks.iter().find(mistake) {
            return Err(Failure::new(format!(
                "no twin can be made of this configuration: {}: {}",
                remark.mistake.file.display(),
                remark.mistake.message
            ))
            .hint("whatever names a real server cannot be rehearsed; see docs/drills.md"));
        }
        Ok(Self {
            program,
            serve: None,
            control: format!("http://{control}"),
            gateway: format!("http://{gateway}"),
            home,
        })
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] with what it said, when it does not become ready.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        let log = self.home.path().join("serve.log");
        let failed =
            |error: std::io::Error| Failure::new(format!("the twin did not start: {error}"));
        let said = std::fs::File::create(&log).map_err(failed)?;
        let begun = Instant::now();
        let spawned = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(failed)?;
        // Kept at once: whoever interrupts this ends it, and waits for that.
        let child = self.serve.insert(spawned);
        let http = Http::new(None)?;
        let ready = format!("{}/readyz", self.control);
        loop {
            let request = http::Request::get(&ready)
                .body(gateway::full(""))
                .map_err(|error| Failure::new(error.to_string()))?;
            let answer = http.ask("the twin", request).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if child.try_wait().map_err(failed)?.is_some() || begun.elapsed() > START {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("the twin did not start:\n{said}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Registers and enrols the agent, and opens its task as an operator; the folder of the instance and
    /// the task's id.
    ///
    /// # Errors
    /// [`Failure`] with what was said.
    pub(super) async fn enrol(&self, plan: &written::Plan) -> Result<(PathBuf, String), Failure> {
        let mut register = vec![
            "agent",
            "register",
            AGENT,
            "--sponsor",
            "drill@drill.example",
        ];
        if let Some(segment) = &plan.agent_segment {
            register.extend(["--segment", segment]);
        }
        register.push("--json");
        let registered = self.run(&register, &[]).await?;
        let token = registered["enrolment"]["token"]
            .as_str()
            .unwrap_or_default();
        let folder = self.home.path().join("instance");
        let instance = folder.to_string_lossy();
        self.run(
            &[
                "agent",
                "enroll",
                "--control",
                &self.control,
                "--instance",
                &instance,
            ],
            &[("SALLYPORT_ENROLMENT_TOKEN", token)],
        )
        .await?;
        let ticket = format!("ticket={TICKET}");
        let opened = self
            .run(
                &[
                    "task",
                    "open",
                    "--agent",
                    AGENT,
                    "--template",
                    TEMPLATE,
                    "--param",
                    &ticket,
                    "--purpose",
                    written::PURPOSE,
                    "--json",
                ],
                &[],
            )
            .await?;
        let id = opened["id"].as_str().unwrap_or_default().to_owned();
        Ok((folder, id))
    }

    /// Ends it as a service manager does, and waits for that.
    ///
    /// # Errors
    /// [`Failure`] when it does not end in order; then it is killed.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.serve.take() else {
            return Ok(());
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if let Ok(Ok(_)) = tokio::time::timeout(END, child.wait()).await {
            return Ok(());
        }
        let _ = child.kill().await;
        Err(Failure::new("the twin did not end in order and was killed"))
    }

    /// Runs a command of this program against it; its standard output as JSON.
    ///
    /// # Errors
    /// [`Failure`] with what it said.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Value, Failure> {
        let output = self
            .command(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| {
                Failure::new(format!("`sallyport {}`: {error}", arguments.join(" ")))
            })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line);
            return Err(Failure::new(format!("in the twin: {line}")));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.home.path());
        // Nothing that is said about the real one may reach it.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SALLYPORT_") {
                command.env_remove(name);
            }
        }
        command
            .env("SALLYPORT_CONFIG", self.home.path().join("sallyport.toml"))
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        command
    }
}

/// An address on this machine that nobody listens on.
fn free_address() -> std::io::Result<std::net::SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// Copies the files with an ending; a folder that is not there is empty.
fn take(from: &Path, ending: &str, to: &Path) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    std::fs::create_dir_all(to)?;
    for entry in entries {
        let path = entry?.path();
        let fits = path.extension().is_some_and(|found| found == ending);
        if let (true, Some(name)) = (fits, path.file_name())
            && std::fs::metadata(&path)?.len() <= FILE_BYTES
        {
            std::fs::write(to.join(name), std::fs::read(&path)?)?;
        }
    }
    Ok(())
}
