//! `sallyport connect --listen`, for clients that know of nothing.

use std::process::Command;

use super::SALLYPORT;
use super::agent::Agent;
use super::program::Program;

/// A local listener; ends with the test.
pub(crate) struct Local {
    /// The URL that clients are given.
    pub(crate) url: String,
    program: Program,
}

impl Local {
    /// Starts it for a server, under a task from a template.
    pub(crate) fn start(agent: &Agent, server: &str, template: &str, parameters: &[&str]) -> Self {
        let more: Vec<&str> = parameters.iter().flat_map(|one| ["--param", one]).collect();
        let this = Self::start_at(agent, (server, template), "127.0.0.1:0", &more);
        assert!(this.url.starts_with("http://127.0.0.1:"), "{}", this.url);
        this
    }

    /// The same, listening somewhere and with further arguments.
    pub(crate) fn start_at(
        agent: &Agent,
        (server, template): (&str, &str),
        at: &str,
        more: &[&str],
    ) -> Self {
        let mut command = Command::new(SALLYPORT);
        command
            .args(["connect", server, "--template", template])
            .args(["--listen", at, "--instance"])
            .arg(agent.folder())
            .args(more);
        let (program, url) = Program::announced(&mut command);
        Self { url, program }
    }

    /// Ends it as a person would, and waits until it has ended.
    pub(crate) fn end(mut self) {
        let id = rustix::process::Pid::from_child(&self.program.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.program.0.wait().unwrap().success());
    }
}
