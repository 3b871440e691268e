//! `sallyport mcp pin`: programs pinned to what they are now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gateway::upstream::{digest, made_of};
use model::ServerName;
use model::config::{Secret, Server};
use serde::Serialize;

use crate::command::ConfigArg;
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, WARN, paint};
use crate::setup;
use crate::setup::rules::{PINS, Pinned};

/// Arguments of `sallyport mcp pin`.
#[derive(clap::Args)]
#[command(after_help = "\
Writes the SHA-256 digests of the program and of the files that its arguments name to pins.toml, beside
the configuration. From then on the gateway compares them before each start, and starts nothing else.
What a program loads besides is pinned with --also, such as the folder of an installed package.

Examples:
  sallyport mcp pin                                        all servers with a `command`
  sallyport mcp pin files --also /srv/files/node_modules   one server, with its packages
  sallyport mcp pin --check                                compare, and change nothing")]
pub(crate) struct Args {
    /// The servers; all with a `command` when absent
    servers: Vec<ServerName>,
    /// Also pin this file, or this folder with everything in it; for one server
    #[arg(long, value_name = "PATH")]
    also: Vec<PathBuf>,
    /// Compare with what is pinned, and change nothing
    #[arg(long, conflicts_with = "also")]
    check: bool,
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One pinned file, for machines.
#[derive(Serialize)]
struct Entry {
    server: ServerName,
    path: PathBuf,
    digest: Option<String>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It was pinned now.
    Pinned,
    /// It is what was pinned.
    Same,
    /// It is not what was pinned.
    Changed,
    /// It belongs to the program and is not pinned.
    Unpinned,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let file = &args.config.config;
    let config = setup::config_alone(file)?;
    let named = |name: &ServerName| args.servers.is_empty() || args.servers.contains(name);
    let servers: BTreeMap<&ServerName, &Server> = config
        .servers
        .iter()
        .filter(|(name, server)| named(name) && !server.command.is_empty())
        .collect();
    if let Some(unknown) = args.servers.iter().find(|name| !servers.contains_key(name)) {
        return Err(Failure::new(format!(
            "there is no server `{unknown}` that the gateway starts"
        ))
        .hint("only servers with a `command` are programs of this machine"));
    }
    if !args.also.is_empty() && args.servers.len() != 1 {
        return Err(Failure::new(
            "`--also` needs the one server that the files belong to",
        ));
    }
    let mut entries = Vec::new();
    let mut fetching = Vec::new();
    for (name, server) in &servers {
        let made = made_of(server, path_of(server).as_deref())
            .map_err(|error| Failure::new(format!("server `{name}`: {error}")))?;
        if let Some(instead) = made.fetches {
            fetching.push((*name, instead));
        }
        let own = std::iter::once(made.program).chain(made.files);
        let found = if args.check {
            checked(name, server, own)
        } else {
            pinned(name, own.chain(args.also.iter().map(|path| absolute(path))))?
        };
        entries.extend(found);
    }
    if !args.check {
        write(&setup::folder_of(file).join(PINS), &servers, &entries)?;
    }
    show(args, &entries, &fetching)?;
    let good = |entry: &Entry| matches!(entry.state, State::Pinned | State::Same);
    if entries.iter().all(good) {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

/// The `PATH` that a server's program is started with.
fn path_of(server: &Server) -> Option<std::ffi::OsString> {
    match server.environment.get("PATH") {
        Some(Secret::Plain(path)) => Some(path.into()),
        Some(Secret::Env(name)) => std::env::var_os(name),
        Some(Secret::File(_)) | None => std::env::var_os("PATH"),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn pinned(name: &ServerName, files: impl Iterator<Item = PathBuf>) -> Result<Vec<Entry>, Failure> {
    files
        .map(|path| {
            let digest =
                digest(&path).map_err(|error| Failure::new(format!("server `{name}`: {error}")))?;
            Ok(Entry {
                server: name.clone(),
                path,
                digest: Some(digest),
                state: State::Pinned,
            })
        })
        .collect()
}

fn checked(name: &ServerName, server: &Server, own: impl Iterator<Item = PathBuf>) -> Vec<Entry> {
    let entry = |path: PathBuf, digest: Option<String>, state| Entry {
        server: name.clone(),
        path,
        digest,
        state,
    };
    let mut entries: Vec<Entry> = server
        .digests
        .iter()
        .map(|(path, wanted)| {
            let now = digest(path).ok();
            let state = if now.as_ref() == Some(wanted) {
                State::Same
            } else {
                State::Changed
            };
            entry(path.clone(), now, state)
        })
        .collect();
    let covered = |path: &Path| server.digests.keys().any(|pinned| path.starts_with(pinned));
    let unpinned: Vec<PathBuf> = own.filter(|path| !covered(path)).collect();
    entries.extend(
        unpinned
            .into_iter()
            .map(|path| entry(path, None, State::Unpinned)),
    );
    entries
}

/// Writes `pins.toml` anew: what was pinned now, and of the other servers what was pinned before.
fn write(
    file: &Path,
    servers: &BTreeMap<&ServerName, &Server>,
    entries: &[Entry],
) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{} cannot be written: {error}", file.display()))
    };
    let mut all = match std::fs::read_to_string(file) {
        Ok(text) => Pinned::parse(file, &text)
            .map_err(|_| failed(&"what is there is not what this command wrote"))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Pinned::default(),
        Err(error) => return Err(failed(&error)),
    };
    for name in servers.keys() {
        all.0.remove(*name);
    }
    for entry in entries {
        let digests = all.0.entry(entry.server.clone()).or_default();
        digests.extend(
            entry
                .digest
                .clone()
                .map(|digest| (entry.path.clone(), digest)),
        );
    }
    let text = toml::to_string(&all).map_err(|error| failed(&error))?;
    let text = format!(
        "# What the programs of MCP servers must be, written by `sallyport mcp pin`.\n\
         # They are compared each time before one is started.\n\n{text}"
    );
    // Beside it first, so that a reader never sees half of it.
    let folder = setup::folder_of(file);
    let beside = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
    std::fs::write(beside.path(), text).map_err(|error| failed(&error))?;
    beside.persist(file).map_err(|error| failed(&error.error))?;
    Ok(())
}

fn show(args: &Args, entries: &[Entry], fetching: &[(&ServerName, &str)]) -> Result<(), Failure> {
    if args.json {
        output::json(&entries)?;
    } else {
        let rows = entries.iter().map(|entry| {
            let digest = entry.digest.as_deref().unwrap_or_default();
            let digest: String = digest.chars().take(24).collect();
            vec![
                entry.server.to_string(),
                match entry.state {
                    State::Pinned => paint(GOOD, "pinned"),
                    State::Same => paint(GOOD, "same"),
                    State::Changed => paint(BAD, "changed"),
                    State::Unpinned => paint(WARN, "not pinned"),
                },
                paint(FAINT, digest),
                output::visible(&entry.path.to_string_lossy()),
            ]
        });
        output::table(
            &["server", "state", "digest", "file"],
            rows.collect(),
            "no server has a `command`, so there is nothing to pin",
        )?;
    }
    for (name, instead) in fetching {
        output::note(format_args!(
            "{} `{name}` fetches what it runs, so only the program that fetches is pinned: {instead}",
            paint(WARN.bold(), "warning:")
        ));
    }
    Ok(())
}
