//! The stage: a folder with sample data, and a real Sallyport that runs in it. Both are gone when
//! this is dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::failure::Failure;
use crate::rehearsal::own::{self, Own, Stopped, first_line};

/// What the environment may say of another Sallyport.
const HIDDEN: [&str; 4] = [
    "SALLYPORT_CONTROL",
    "SALLYPORT_OPERATOR_TOKEN_FILE",
    "SALLYPORT_INSTANCE",
    "SALLYPORT_LOG",
];

const TICKET: &str =
    "From: Bo Lindqvist\nThe lamp that I bought on Friday flickers. Can I send it back?\n";
const OTHER: &str = "From: Kim Osei\nPlease change my delivery address.\n";
const SALARIES: &str = "name,salary\nAda,91000\n";

/// A folder with a Sallyport in it.
pub(super) struct Stage {
    own: Own,
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
        let hidden = HIDDEN.map(Into::into).to_vec();
        let own = Own::new("Sallyport", "sallyport-demo-", hidden).map_err(failed)?;
        let root = own.home().canonicalize().map_err(failed)?.join("company");
        let files = [
            (root.join("tickets/4711/ticket.txt"), TICKET.to_owned()),
            (root.join("tickets/4712/ticket.txt"), OTHER.to_owned()),
            (root.join("payroll/salaries.csv"), SALARIES.to_owned()),
            (
                own::FILE.into(),
                configuration(&own.control, &own.gateway, server_command, &root),
            ),
            ("templates/ticket.toml".into(), template(&root)),
            (
                "policies/baseline.cedar".into(),
                "@id(\"granted-actions\")\npermit (principal is Sallyport::Agent, action, resource);\n"
                    .to_owned(),
            ),
        ];
        for (path, text) in files {
            own.write(path, &text).map_err(failed)?;
        }
        Ok(Self {
            control: format!("http://{}", own.control),
            gateway: format!("http://{}", own.gateway),
            own,
        })
    }

    /// The folder that the protected server shows.
    pub(super) fn company(&self) -> PathBuf {
        let home = self.own.home();
        home.canonicalize()
            .unwrap_or_else(|_| home.to_owned())
            .join("company")
    }

    /// A path in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.own.home().join(name)
    }

    /// Starts `sallyport serve` and waits until it is ready.
    ///
    /// # Errors
    /// [`Failure`] when it does not become ready; with what it said.
    pub(super) async fn start(&mut self) -> Result<Duration, Failure> {
        self.own.start().await
    }

    /// Ends it as a service manager does, and waits for that.
    ///
    /// # Errors
    /// [`Failure`] when it does not end in order.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        match self.own.stop().await {
            Stopped::Before => Ok(()),
            Stopped::By(status) if status.success() => Ok(()),
            Stopped::By(_) | Stopped::Killed => Err(Failure::new(
                "Sallyport did not end in order when it was asked to",
            )),
        }
    }

    /// A command of this program, which finds the stage's configuration.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.own.command(arguments)
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
        let output = self.own.run(arguments, environment).await?;
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
