//! A Sallyport of one's own: this very program, which serves from a private folder that is gone afterwards.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::connect::http::Http;
use crate::failure::Failure;

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);
/// How long it may take to end.
const END: Duration = Duration::from_secs(20);
/// Its configuration file.
pub(crate) const FILE: &str = "sallyport.toml";

/// A Sallyport in a folder of its own. Dropped, it is killed and its folder removed.
pub(crate) struct Own {
    /// What it is called when something goes wrong.
    what: &'static str,
    home: tempfile::TempDir,
    /// This very program.
    program: PathBuf,
    /// Variables of the environment that are about another Sallyport.
    hidden: Vec<OsString>,
    serve: Option<Child>,
    /// Where its control listener is to be.
    pub(crate) control: SocketAddr,
    /// Where its gateway is to be.
    pub(crate) gateway: SocketAddr,
}

impl Own {
    /// Makes its folder, with a name that begins like this, and finds addresses that nobody listens on.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn new(
        what: &'static str,
        prefix: &str,
        hidden: Vec<OsString>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            what,
            home: tempfile::Builder::new().prefix(prefix).tempdir()?,
            program: std::env::current_exe()?,
            hidden,
            serve: None,
            control: free_address()?,
            gateway: free_address()?,
        })
    }

    /// Its folder.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file and the folders that it is in; paths are relative to its folder.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn write(&self, path: impl AsRef<Path>, text: &str) -> std::io::Result<()> {
        let path = self.home().join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(self.home()))?;
        std::fs::write(path, text)
    }

    /// Starts `sallyport serve` and waits until it is ready; how long that took.
    ///
    /// # Errors
    /// [`Failure`] with what it said, when it does not become ready.
    pub(crate) async fn start(&mut self) -> Result<Duration, Failure> {
        let what = self.what;
        let log = self.home().join("serve.log");
        let failed = |error: std::io::Error| Failure::new(format!("{what} did not start: {error}"));
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
        let ready = format!("http://{}/readyz", self.control);
        loop {
            let request = http::Request::get(&ready)
                .body(gateway::full(""))
                .map_err(|error| Failure::new(error.to_string()))?;
            let answer = http.ask(what, request).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(begun.elapsed());
            }
            if child.try_wait().map_err(failed)?.is_some() || begun.elapsed() > START {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(Failure::new(format!("{what} did not start:\n{said}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it as a service manager does, and waits for that.
    pub(crate) async fn stop(&mut self) -> Stopped {
        let Some(mut child) = self.serve.take() else {
            return Stopped::Before;
        };
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if let Ok(Ok(status)) = tokio::time::timeout(END, child.wait()).await {
            return Stopped::By(status);
        }
        let _ = child.kill().await;
        Stopped::Killed
    }

    /// A command of this program, which finds this one's configuration and nothing of another's.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.home());
        for name in &self.hidden {
            command.env_remove(name);
        }
        command
            .env("SALLYPORT_CONFIG", self.home().join(FILE))
            .env("NO_COLOR", "1")
            .kill_on_drop(true);
        command
    }

    /// Runs a command of this program against it.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be run.
    pub(crate) async fn run(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Output, Failure> {
        self.command(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::new(format!("`sallyport {}`: {error}", arguments.join(" "))))
    }
}

/// How it ended.
pub(crate) enum Stopped {
    /// It did not run.
    Before,
    /// By itself, when it was asked to.
    By(ExitStatus),
    /// It did not end, and was killed.
    Killed,
}

/// The first line of what a command said on standard error, without the word that it begins with.
pub(crate) fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// An address on this machine that nobody listens on.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
