//! The stage: a folder with sample data, and a real Sallyport that runs in it. Both are gone when
//! this is dropped.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::connect::http::Http;
use crate::failure::Failure;

/// How long Sallyport may take to start.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);

const TICKET: &str =
    "From: Bo Lindqvist\nThe lamp that I bought on Friday flickers. Can I send it back?\n";
const OTHER: &str = "From: Kim Osei\nPlease change my delivery address.\n";
const SALARIES: &str = "name,salary\nAda,91000\n";

/// A folder with a Sallyport in it.
pub(super) struct Stage {
    home: tempfile::TempDir,
    /// This very program.
    program: PathBuf,
    serve: Option<Child>,
    /// Base URL of the control listener.
    pub(super) control: String,
    /// Base URL of the gateway.
    pub(super) gateway: String,
}

impl Stage {
    /// Writes the sample data and the configuration.
    ///
    /// # Errors
    /// [`Failure`] when they cannot be written.
    pub(super) fn new(server_command: &[String]) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("no stage: {error}"));
        let home = tempfile::Builder::new()
            .prefix("sallyport-demo-")
            .tempdir()
            .map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let root = home.path().canonicalize().map_err(failed)?.join("company");
        let (control, gateway) = (free_port().map_err(failed)?, free_port().map_err(failed)?);
        let files = [
            (root.join("tickets/4711/ticket.txt"), TICKET.to_owned()),
            (root.join("tickets/4712/ticket.txt"), OTHER.to_owned()),
            (root.join("payroll/salaries.csv"), SALARIES.to_owned()),
            (
                home.path().join("sallyport.toml"),
                configuration(&control, &gateway, server_command, &root),
            ),
            (home.path().join("templates/ticket.toml"), template(&root)),
            (
                home.path().join("policies/baseline.cedar"),
                "@id(\"granted-actions\")\npermit (principal is Sallyport::Agent, action, resource);\n"
                    .to_owned(),
            ),
        ];
        for (path, text) in files {
            let folder = path.parent().unwrap_or(&root);
            std::fs::create_dir_all(folder).map_err(failed)?;
            std::fs::write(&path, text).map_err(failed)?;
        }
        Ok(Self {
            home,
            program,
            serve: None,
            control: format!("http://{control}"),
            gateway: format!("http://{gateway}"),
        })
    }

    /// The folder that the protected server shows.
    pub(super) fn company(&self) -> PathBuf {
        self.home
            .path()
            .canonicalize()
            .unwrap_or_else(|_| self.home.path().to_owned())
            .join("company")
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Starts `sallyport serve` and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] when it does not become ready; with what it said.
    pub(super) async fn start(&mut self) -> Result<Duration, Failure> {
        let log = self.path("serve.log");
        let failed =
            |error: std::io::Error| Failure::new(format!("Sallyport did not start: {error}"));
        let file = std::fs::File::create(&log).map_err(failed)?;
        let begun = Instant::now();
        let mut child = self
            .command(&["serve"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        let http = Http::new(None)?;
        while !self.is_ready(&http).await? {
            let ended = child.try_wait().map_err(failed)?;
            if ended.is_some() || begun.elapsed() > START {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("Sallyport did not start:\n{said}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.serve = Some(child);
        Ok(begun.elapsed())
    }

    async fn is_ready(&self, http: &Http) -> Result<bool, Failure> {
        let request = http::Request::get(format!("{}/readyz", self.control))
            .body(gateway::full(""))
            .map_err(|error| Failure::new(error.to_string()))?;
        let answer = http.ask("Sallyport", request).await;
        Ok(answer.is_ok_and(|answer| answer.status().is_success()))
    }

    /// Ends it as a service manager does, and waits for that.
    ///
    /// # Errors
    /// [`Failure`] when it does not end in order.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut child) = self.serve.take() else {
            return Ok(());
        };
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let pid = rustix::process::Pid::from_raw(pid);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        match tokio::time::timeout(END, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(Failure::new(
                "Sallyport did not end in order when it was asked to",
            )),
        }
    }

    /// A command of this program, which finds the stage's configuration.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(self.home.path())
            .env_remove("SALLYPORT_CONTROL")
            .env_remove("SALLYPORT_OPERATOR_TOKEN_FILE")
            .env_remove("SALLYPORT_INSTANCE")
            .env_remove("SALLYPORT_LOG")
            .env("SALLYPORT_CONFIG", self.home.path().join("sallyport.toml"))
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        command
    }

    /// Runs a command; its standard output as JSON and its exit code, and what it said on standard
    /// error.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be run.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Answer, Failure> {
        let output = self
            .command(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| {
                Failure::new(format!("`sallyport {}`: {error}", arguments.join(" ")))
            })?;
        Ok(Answer {
            code: output.status.code().unwrap_or(-1),
            json: first_json(&output.stdout),
            said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// The first JSON value of an output: of streams of records, the first record.
fn first_json(output: &[u8]) -> Value {
    let mut values = serde_json::Deserializer::from_slice(output).into_iter::<Value>();
    values.next().and_then(Result::ok).unwrap_or_default()
}

/// The first line of what a command said on standard error, without the word that it begins with.
pub(super) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// How a command ended.
pub(super) struct Answer {
    /// Its exit code.
    pub(super) code: i32,
    /// What it printed, if that is JSON; of several values the first.
    pub(super) json: Value,
    /// What it said on standard error.
    pub(super) said: String,
}

impl Answer {
    /// The answer of a command that must have succeeded.
    ///
    /// # Errors
    /// [`Failure`] with what it said.
    pub(super) fn ok(self) -> Result<Value, Failure> {
        if self.code == 0 {
            Ok(self.json)
        } else {
            Err(Failure::new(first_line(&self.said)))
        }
    }
}

/// An address on this machine that nobody listens on.
fn free_port() -> std::io::Result<std::net::SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

fn configuration(
    control: &std::net::SocketAddr,
    gateway: &std::net::SocketAddr,
    server_command: &[String],
    root: &Path,
) -> String {
    let command: Vec<String> = server_command
        .iter()
        .map(String::as_str)
        .chain([&*root.to_string_lossy()])
        .map(text)
        .collect();
    format!(
        "trust_domain = \"company.example\"\n\
         [control]\nlisten = \"{control}\"\n\
         [gateway]\nlisten = \"{gateway}\"\n\
         [servers.files]\ndescription = \"The company's files\"\ncommand = [{}]\n",
        command.join(", ")
    )
}

fn template(root: &Path) -> String {
    let below = text(&format!("{}/tickets/${{ticket}}", root.to_string_lossy()));
    format!(
        "description = \"Answer one support ticket\"\n\
         agents = [\"support-*\"]\nttl = \"30m\"\nbudget = {{ calls = 50 }}\n\
         [parameters.ticket]\npattern = \"[0-9]{{1,6}}\"\n\
         [[allow]]\nserver = \"files\"\ntools = [\"list_directory\", \"read_text_file\"]\n\
         arguments = {{ path = {{ below = {below} }} }}\n"
    )
}

/// Text as TOML writes it.
fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stage_has_no_mistakes_and_leaves_nothing() {
        let stage = Stage::new(&["/bin/sh".to_owned()]).unwrap();
        let read = crate::setup::read(&stage.path("sallyport.toml"));
        assert!(read.setup.is_some(), "{:#?}", read.remarks);
        assert!(read.remarks.is_empty(), "{:#?}", read.remarks);
        let home = stage.path("");
        drop(stage);
        assert!(!home.exists());
    }
}
