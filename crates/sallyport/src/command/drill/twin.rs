//! The twin: the same program with the organisation's own templates, annotations, policies, rules, playbooks and
//! settings, in a private folder, with keys and a log of its own. No real server has its address in it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use model::config::ServerKind;
use model::{Proof, TaskId};
use serde_json::Value;
use toml::Table;

use super::cast::Role;
use super::written;
use crate::failure::Failure;
use crate::rehearsal::own::{self, Own, Stopped};
use crate::setup::{self, Setup, Severity};

/// Longest file that is taken along, in bytes.
const FILE_BYTES: u64 = 4 << 20;
/// What is taken along as it is: folders, and the ending of their files.
const TAKEN: [(&str, &str); 5] = [
    ("annotations", "toml"),
    ("playbooks", "json"),
    ("policies", "cedar"),
    ("rules", "toml"),
    ("templates", "toml"),
];

/// A running twin. Dropped, it is killed and its folder removed.
pub(super) struct Twin {
    own: Own,
    /// Base URL of its gateway.
    pub(super) gateway: String,
}

impl Twin {
    /// Writes it in the likeness of a configuration, with a template more if there is one.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written, or has mistakes that the original has not.
    pub(super) fn new(
        setup: &Setup,
        more: Option<(&str, &str)>,
        url: impl Fn(ServerKind, &str) -> String,
    ) -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(format!("the twin cannot be written: {error}"));
        // Nothing that is said about the real one may reach it.
        let said = std::env::vars_os().map(|(name, _)| name);
        let said = said.filter(|name| name.to_string_lossy().starts_with("SALLYPORT_"));
        let own = Own::new("the twin", "sallyport-drill-", said.collect()).map_err(failed)?;
        let file = &setup.file;
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let original: Table = text
            .parse()
            .map_err(|error| Failure::new(format!("{} is no TOML: {error}", file.display())))?;
        let databases = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(failed)?;
        let addresses = [own.control, own.gateway, databases];
        let config = written::configuration(original, setup, addresses, url);
        let root = own.home();
        own.write(own::FILE, &config.to_string()).map_err(failed)?;
        for (folder, ending) in TAKEN {
            let to = root.join(folder);
            take(&setup::folder_of(file).join(folder), ending, &to).map_err(failed)?;
        }
        for template in setup.templates.values() {
            // Certificates need TLS, which the twin has not.
            if template.grant.proof == Proof::Certificate {
                let file = root
                    .join("templates")
                    .join(format!("{}.toml", template.name));
                std::fs::remove_file(file).map_err(failed)?;
            }
        }
        if let Some((name, text)) = more {
            own.write(format!("templates/{name}.toml"), text)
                .map_err(failed)?;
        }
        let read = setup::read(&root.join(own::FILE));
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
            gateway: format!("http://{}", own.gateway),
            own,
        })
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] with what it said, when it does not become ready.
    pub(super) async fn start(&mut self) -> Result<(), Failure> {
        self.own.start().await.map(drop)
    }

    /// Registers and enrols an agent; the folder of its instance.
    ///
    /// # Errors
    /// [`Failure`] with what was said.
    pub(super) async fn enrol(&self, role: &Role) -> Result<PathBuf, Failure> {
        let mut register = vec!["agent", "register", role.name.as_str()];
        register.extend(["--sponsor", "drill@drill.example"]);
        if let Some(segment) = &role.segment {
            register.extend(["--segment", segment]);
        }
        register.push("--json");
        let registered = self.run(&register, &[]).await?;
        let token = registered["enrolment"]["token"]
            .as_str()
            .unwrap_or_default();
        let folder = self.own.home().join("instance");
        let control = format!("http://{}", self.own.control);
        let instance = folder.to_string_lossy();
        self.run(
            &[
                "agent",
                "enroll",
                "--control",
                &control,
                "--instance",
                &instance,
            ],
            &[("SALLYPORT_ENROLMENT_TOKEN", token)],
        )
        .await?;
        Ok(folder)
    }

    /// Opens a task for an agent, as an operator.
    ///
    /// # Errors
    /// [`Failure`] with what was said.
    pub(super) async fn open(
        &self,
        role: &Role,
        template: &str,
        parameters: &BTreeMap<String, String>,
        purpose: &str,
    ) -> Result<TaskId, Failure> {
        let given: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut open = vec![
            "task",
            "open",
            "--agent",
            &role.name,
            "--template",
            template,
        ];
        for parameter in &given {
            open.extend(["--param", parameter]);
        }
        if !purpose.is_empty() {
            open.extend(["--purpose", purpose]);
        }
        open.push("--json");
        let opened = self.run(&open, &[]).await?;
        let id = opened["id"].as_str().unwrap_or_default();
        TaskId::parse(id).map_err(|error| Failure::new(error.to_string()))
    }

    /// Ends it as a service manager does, and waits for that.
    ///
    /// # Errors
    /// [`Failure`] when it does not end in order; then it is killed.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        match self.own.stop().await {
            Stopped::Before | Stopped::By(_) => Ok(()),
            Stopped::Killed => Err(Failure::new("the twin did not end in order and was killed")),
        }
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
        let output = self.own.run(arguments, environment).await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = own::first_line(&said);
            return Err(Failure::new(format!("in the twin: {line}")));
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }
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
