//! The twin: the same program with the organisation's own policies, rules, playbooks and settings, in a
//! private folder, with keys and a log of its own. None of the real servers is named in it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use toml::Table;

use super::written::{self, AGENT, TEMPLATE, TICKET};
use crate::failure::Failure;
use crate::rehearsal::own::{self, Own, Stopped};
use crate::setup::{self, Severity};

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
    own: Own,
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
        // Nothing that is said about the real one may reach it.
        let said = std::env::vars_os().map(|(name, _)| name);
        let said = said.filter(|name| name.to_string_lossy().starts_with("SALLYPORT_"));
        let own = Own::new("the twin", "sallyport-drill-", said.collect()).map_err(failed)?;
        let text = std::fs::read_to_string(file).map_err(failed)?;
        let original: Table = text
            .parse()
            .map_err(|error| Failure::new(format!("{} is no TOML: {error}", file.display())))?;
        let config = plan.configuration(original, own.control, own.gateway, url);
        let root = own.home();
        let mut files = vec![
            (own::FILE.to_owned(), config.to_string()),
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
            own.write(name, &text).map_err(failed)?;
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
