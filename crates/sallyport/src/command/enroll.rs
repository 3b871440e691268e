//! `sallyport agent enroll`: makes this machine an instance of an agent. The private key is made
//! here and stays here; only its public half is sent.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use http::Request;
use http::header::CONTENT_TYPE;
use identity::InstanceKey;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::connect::http::{Http, check_url};
use crate::connect::instance::{InstanceFolder, Unfinished};
use crate::failure::Failure;
use crate::output::{self, CODE, GOOD, STRONG, paint};

/// Longest token that is read, in bytes.
const LIMIT: u64 = 4096;

/// Arguments of `sallyport agent enroll`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  SALLYPORT_ENROLMENT_TOKEN=spe_… sallyport agent enroll
  sallyport agent enroll --token-file token.txt --control https://sallyport.example.org:8600
  pass show sallyport/triage | sallyport agent enroll --instance ./instance

The token can be used once. Other users of this machine can see it when it stands on the command
line; prefer the environment, a file or standard input.")]
pub(crate) struct Args {
    /// The enrolment token
    #[arg(
        long,
        value_name = "TOKEN",
        env = "SALLYPORT_ENROLMENT_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// The file with the token; without it and without a token, standard input is read
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The control listener's URL
    #[arg(
        long,
        value_name = "URL",
        env = "SALLYPORT_CONTROL",
        default_value = "http://127.0.0.1:8600"
    )]
    control: String,
    /// The folder to make, by default ~/.sallyport/instance
    #[arg(long, value_name = "DIR", env = "SALLYPORT_INSTANCE")]
    instance: Option<PathBuf>,
    /// Trust the certification authorities in this PEM file, instead of the public ones
    #[arg(long, value_name = "FILE", env = "SALLYPORT_CA_FILE")]
    ca: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let dir = args
        .instance
        .clone()
        .unwrap_or_else(InstanceFolder::default_dir);
    check_url("the control listener", &args.control).map_err(|failure| {
        Failure::usage(failure.message()).hint("write it like `https://sallyport.example.org:8600`")
    })?;
    let token = token(args)?;
    let key = InstanceKey::generate()
        .map_err(|error| Failure::new(format!("no key could be made: {error}")))?;
    // First the key, then the token: a used token without a key would help nobody.
    let folder = Unfinished::begin(&dir, &key)?;
    let about = enroll(args, &token, &key)?;
    folder.complete(&about)?;
    said(&about, &dir)
}

/// The token, from wherever it was given.
fn token(args: &Args) -> Result<Zeroizing<String>, Failure> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => Zeroizing::new(token.clone()),
        (None, Some(path)) => std::fs::File::open(path).and_then(read).map_err(|error| {
            Failure::new(format!(
                "the token cannot be read from {}: {error}",
                path.display()
            ))
        })?,
        (None, None) => {
            if std::io::stdin().is_terminal() {
                output::note("Paste the enrolment token and press Enter, then Ctrl-D:");
            }
            read(std::io::stdin()).map_err(|error| {
                Failure::new(format!(
                    "the token cannot be read from standard input: {error}"
                ))
            })?
        }
    };
    let token = Zeroizing::new(token.trim().to_owned());
    if token.is_empty() {
        return Err(Failure::usage("there is no enrolment token")
            .hint("`sallyport agent enrolment AGENT` makes one, where Sallyport runs"));
    }
    if !token.starts_with(identity::secret::ENROLMENT) {
        return Err(
            Failure::usage("that is no enrolment token: those begin with `spe_`")
                .hint("`sallyport agent enrolment AGENT` makes one, where Sallyport runs"),
        );
    }
    Ok(token)
}

fn read(from: impl Read) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(LIMIT).read_to_string(&mut text)?;
    Ok(text)
}

/// Sends the token and the public key, and learns who the instance is.
fn enroll(args: &Args, token: &str, key: &InstanceKey) -> Result<InstanceFolder, Failure> {
    let url = format!("{}/v1/enroll", args.control);
    let body = json!({ "token": token, "public_jwk": key.public_jwk() });
    let request = Request::post(&url)
        .header(CONTENT_TYPE, "application/json")
        .body(gateway::full(body.to_string()))
        .map_err(|error| Failure::new(format!("`{url}` is no URL: {error}")))?;
    let http = Http::new(args.ca.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the client cannot be started: {error}")))?;
    let answer = runtime.block_on(http.ask("the Sallyport control listener", request))?;
    let status = answer.status();
    if !status.is_success() {
        let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let said = |name: &str| problem.get(name).and_then(Value::as_str);
        let reason = said("detail")
            .or_else(|| said("title"))
            .unwrap_or("it gave no reason");
        return Err(Failure::new(format!(
            "enrolment was refused (HTTP {}): {reason}",
            status.as_u16()
        ))
        .hint(said("remedy").unwrap_or("`sallyport agent enrolment AGENT` makes a new token")));
    }
    let about: InstanceFolder = serde_json::from_slice(answer.body()).map_err(|error| {
        Failure::new(format!("the answer of {url} cannot be understood: {error}"))
            .hint("see that this program and the one that runs there have the same version")
    })?;
    check_url("the control listener", &about.control)?;
    check_url("the gateway", &about.gateway)?;
    Ok(about)
}

fn said(about: &InstanceFolder, dir: &Path) -> Result<(), Failure> {
    let agent = paint(STRONG, &about.agent);
    output::line(format_args!(
        "{} {} as an instance of {agent}",
        paint(GOOD, "enrolled"),
        about.id
    ))?;
    output::line(format_args!(
        "Its key is in {} and nowhere else.",
        dir.display()
    ))?;
    output::line(format_args!(
        "\nNext, in the MCP client's configuration:\n\n  {}",
        paint(CODE, "sallyport connect SERVER --template NAME")
    ))
}

#[cfg(test)]
mod tests;
