//! `sallyport keys`: the keys that access tokens are signed with.

use clap::Subcommand;
use control::api::Rotated;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::client::{Client, ControlArgs};
use crate::failure::Failure;
use crate::output::{self, GOOD, paint};

/// Arguments of `sallyport keys`.
#[derive(clap::Args)]
#[command(after_help = "\
Keys are rotated by themselves; tokens that were signed with the one before stay valid until they
expire.

Examples:
  sallyport keys list
  sallyport keys rotate")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the keys that tokens are verified with
    List(Plain),
    /// Sign with a new key from now on
    Rotate(Plain),
}

#[derive(clap::Args)]
#[command(after_help = "Examples:\n  sallyport keys list --json\n  sallyport keys rotate")]
struct Plain {
    #[command(flatten)]
    control: ControlArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The public keys as everyone gets them (RFC 7517 §5).
#[derive(Serialize, Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

/// What is of interest here of a public key.
#[derive(Serialize, Deserialize)]
struct Key {
    kid: String,
    kty: String,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => list(args),
        Command::Rotate(args) => rotate(args),
    }
}

fn list(args: &Plain) -> Result<(), Failure> {
    let set: KeySet = Client::new(&args.control)?.get("/oauth/jwks")?;
    if args.json {
        return output::json(&set.keys);
    }
    let rows = set.keys.iter().map(|key| {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            key.kid.clone(),
            key.kty.clone(),
            or_none(&key.crv),
            or_none(&key.alg),
        ]
    });
    output::table(
        &["key", "type", "curve", "algorithm"],
        rows.collect(),
        "no keys",
    )
}

fn rotate(args: &Plain) -> Result<(), Failure> {
    let rotated: Rotated = Client::new(&args.control)?.post("/v1/keys/rotate", &json!({}))?;
    if args.json {
        return output::json(&rotated);
    }
    output::line(format_args!(
        "{} {}",
        paint(GOOD, "tokens are signed with"),
        rotated.kid
    ))
}
