//! Starting a program and ending it for good.
//!
//! No shell, an environment of its own, a process group of its own: ending the group ends what the
//! program started as well, unless that left the group. With a launcher ([`super::confinement`]) it also
//! has a temporary folder of its own, which goes with it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use model::config::Server;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, prlimit};
use tempfile::TempDir;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::confinement::Confinement;
use super::digests::{self, NotPinned};
use crate::upstream::credential::Resolved;

/// What a program inherits of the gateway's environment.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Most files that a program may have open.
const OPEN_FILES: u64 = 4_096;

/// How much time a program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Haste {
    /// To finish what it does: a second after its input ended, two after being told to end.
    Gentle,
    /// None to finish, one second to clean up.
    Now,
}

/// A program as the configuration names it.
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    resolved: Arc<Resolved>,
    confinement: Option<Arc<Confinement>>,
    /// The server that names it, where its files were pinned.
    pinned: Option<Server>,
}

/// A program that runs.
pub(super) struct Started {
    pub(super) process: Process,
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) errors: ChildStderr,
}

/// The process; its whole group is killed when this goes.
pub(super) struct Process {
    child: Child,
    group: Pid,
    /// The group was seen to its end.
    over: bool,
    /// The program's temporary folder, removed when it has ended.
    scratch: Option<TempDir>,
}

impl Program {
    /// Takes the command of a server, which must not be empty.
    pub(super) fn new(
        server: &Server,
        resolved: &Arc<Resolved>,
        confinement: Option<&Arc<Confinement>>,
    ) -> Self {
        let (program, arguments) = server
            .command
            .split_first()
            .map_or(("", &[][..]), |(first, rest)| (first, rest));
        // What has a slash is relative to the folder that the program runs in; what has none is
        // looked for in `PATH`.
        let path = match &server.directory {
            Some(directory) if program.contains('/') => directory.join(program),
            _ => PathBuf::from(program),
        };
        Self {
            path,
            arguments: arguments.to_vec(),
            directory: server.directory.clone(),
            resolved: Arc::clone(resolved),
            confinement: confinement.cloned(),
            pinned: (!server.digests.is_empty()).then(|| server.clone()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The secrets that the program knows.
    pub(super) fn secrets(&self) -> &Resolved {
        &self.resolved
    }

    /// Compares the program's files with what was pinned; where it is then, if anything was.
    ///
    /// # Errors
    /// [`NotPinned`] when it must not be started.
    pub(super) fn pinned(&self) -> Result<Option<PathBuf>, NotPinned> {
        let Some(server) = &self.pinned else {
            return Ok(None);
        };
        let own = self
            .resolved
            .environment
            .iter()
            .find(|it| it.name == "PATH");
        let path = match own {
            Some(own) => Some(OsString::from_vec(own.value.to_vec())),
            None => std::env::var_os("PATH"),
        };
        let made = digests::made_of(server, path.as_deref())?;
        digests::check(&made, &server.digests)?;
        Ok(Some(made.program))
    }

    /// Starts it; from where it was found, if it was pinned.
    pub(super) fn start(&self, found: Option<&Path>) -> std::io::Result<Started> {
        let scratch = self
            .confinement
            .as_ref()
            .filter(|confinement| confinement.needs_scratch())
            .map(|_| tempfile::Builder::new().prefix("sallyport-").tempdir())
            .transpose()?;
        let program = found.unwrap_or(&self.path);
        let mut command = self.command(program, scratch.as_ref().map(TempDir::path));
        command
            .args(&self.arguments)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some(scratch) = &scratch {
            command.env("TMPDIR", scratch.path());
        }
        for variable in &self.resolved.environment {
            command.env(&variable.name, OsString::from_vec(variable.value.to_vec()));
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn()?;
        let gone = || std::io::Error::other("it ended at once");
        let group = child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let group = group.ok_or_else(gone)?;
        let input = child.stdin.take().ok_or_else(gone)?;
        let output = child.stdout.take().ok_or_else(gone)?;
        let errors = child.stderr.take().ok_or_else(gone)?;
        let process = Process {
            child,
            group,
            over: false,
            scratch,
        };
        if self.confinement.is_none() {
            process.restrict();
        }
        Ok(Started {
            process,
            input,
            output,
            errors,
        })
    }

    /// The program itself, or what becomes it.
    fn command(&self, program: &Path, scratch: Option<&Path>) -> Command {
        let Some(confinement) = &self.confinement else {
            return Command::new(program);
        };
        let mut command = Command::new(confinement.launcher());
        let directory = self.directory.as_deref();
        command
            .args(confinement.arguments(program, &self.arguments, directory, scratch))
            .arg(program);
        command
    }
}

impl Process {
    /// Limits what it may use, where no launcher does. Core dumps would hold its secrets and what it works on.
    fn restrict(&self) {
        let lower = |resource, most: u64| {
            let now = getrlimit(resource);
            let within = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
            let new = Rlimit {
                current: within(now.current),
                maximum: within(now.maximum),
            };
            if let Err(error) = prlimit(Some(self.group), resource, new) {
                tracing::warn!(target: "upstream", %error, "a limit could not be set on a program");
            }
        };
        lower(Resource::Core, 0);
        lower(Resource::Nofile, OPEN_FILES);
    }

    pub(super) fn id(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Waits until the program has ended; then kills what it left behind in its group.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.over = true;
        self.signal(Signal::KILL);
        if let Some(scratch) = self.scratch.take() {
            // It may hold much.
            tokio::task::spawn_blocking(move || drop(scratch));
        }
        status
    }

    /// Ends the group. Its input must be closed already.
    pub(super) async fn end(&mut self, haste: Haste) {
        let steps: &[(Option<Signal>, Duration)] = match haste {
            Haste::Gentle => &[
                (None, Duration::from_secs(1)),
                (Some(Signal::TERM), Duration::from_secs(2)),
            ],
            Haste::Now => &[(Some(Signal::TERM), Duration::from_secs(1))],
        };
        for (signal, time) in steps {
            if let Some(signal) = signal {
                self.signal(*signal);
            }
            if tokio::time::timeout(*time, self.ended()).await.is_ok() {
                return;
            }
        }
        self.signal(Signal::KILL);
        if let Err(error) = self.ended().await {
            tracing::warn!(target: "upstream", %error, "a program's end could not be awaited");
        }
    }

    fn signal(&self, signal: Signal) {
        // It fails when nobody is left in the group, which is what is wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Only while the leader has not been waited for does its number surely mean this group.
        if !self.over {
            self.signal(Signal::KILL);
        }
    }
}
