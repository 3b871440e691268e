//! `sallyport confined`: restricts itself and becomes another program.
//!
//! The gateway starts servers over pipes through this (see [`gateway::upstream::Launcher`]). Restricting
//! comes first and `exec` last; whatever fails in between fails before the program has run.

mod branches;
mod capabilities;
mod landlock;

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::output;
use branches::Closed;
pub(crate) use landlock::Kernel;
use landlock::Territory;

/// The folders of the system, without which hardly any program runs.
const SYSTEM: [&str; 12] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/proc", "/sys",
    "/run",
];

/// Where package managers of the common runtimes keep what they downloaded, in the home, and the programs that
/// do not run without.
const CACHES: [(&str, &[&str]); 9] = [
    (".cache", &["uv", "uvx", "npx", "deno", "bun", "bunx"]),
    (".npm", &["npm", "npx"]),
    (".bun", &["bun", "bunx"]),
    (".deno", &["deno"]),
    (".yarn", &["yarn"]),
    (".pnpm-store", &["pnpm", "pnpx"]),
    (".local/share/pnpm", &["pnpm", "pnpx"]),
    (".local/share/uv", &["uv", "uvx"]),
    (".local/state/uv", &["uv", "uvx"]),
];

/// Arguments of the launcher.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whether the program must be restricted: required, available, off
    #[arg(long, value_parser = ["required", "available", "off"])]
    enforce: String,
    /// Nothing here may be reached
    #[arg(long, value_name = "PATH")]
    hide: Vec<PathBuf>,
    /// Nothing here may be changed
    #[arg(long, value_name = "PATH")]
    fix: Vec<PathBuf>,
    /// This may be read and executed
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// Nothing else may be read but the system's folders
    #[arg(long)]
    selective: bool,
    /// This may be written
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// The caches of package managers may be written
    #[arg(long)]
    caches: bool,
    /// Memory for data, of each process
    #[arg(long, value_name = "N")]
    memory_bytes: u64,
    /// Longest file that may be written
    #[arg(long, value_name = "N")]
    file_bytes: u64,
    /// Open files of each process
    #[arg(long, value_name = "N")]
    open_files: u64,
    /// Processes and threads of the user
    #[arg(long, value_name = "N")]
    processes: u64,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the program.
///
/// # Errors
/// [`Failure`] when it cannot be restricted as it must be, or cannot be started.
pub(crate) fn run(args: &Args) -> Result<Infallible, Failure> {
    // Only the three standard streams are meant for the program.
    close_fds::set_fds_cloexec(3, &[]);
    args.limit()?;
    if args.enforce != "off" {
        args.confine()?;
    }
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::new("no program was named"))?;
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::new(format!(
        "the program `{}` could not be started: {error}",
        program.display()
    )))
}

impl Args {
    fn limit(&self) -> Result<(), Failure> {
        for (resource, most) in [
            // A core dump would hold its secrets and what it works on.
            (Resource::Core, 0),
            (Resource::Data, self.memory_bytes),
            (Resource::Fsize, self.file_bytes),
            (Resource::Nofile, self.open_files),
            (Resource::Nproc, self.processes),
        ] {
            let within = |limit: Option<u64>| Some(limit.map_or(most, |limit| limit.min(most)));
            let now = getrlimit(resource);
            let new = Rlimit {
                current: within(now.current),
                maximum: within(now.maximum),
            };
            setrlimit(resource, new)
                .map_err(|error| Failure::new(format!("a limit cannot be set: {error}")))?;
        }
        Ok(())
    }

    fn confine(&self) -> Result<(), Failure> {
        let kernel = Kernel::probe();
        let is_enough = kernel >= Kernel::Files || self.enforce == "available";
        if let Some(lack) = kernel.lacks() {
            if !is_enough {
                return Err(Failure::new(lack).hint("or say `confine = \"available\"`"));
            }
            output::note(format_args!("not wholly confined: {lack}"));
        }
        let no_privileges = rustix::thread::set_no_new_privs(true);
        no_privileges
            .map_err(|error| Failure::new(format!("privileges cannot be given up: {error}")))?;
        self.restrict(kernel)?;
        capabilities::drop_most()
            .map_err(|error| Failure::new(format!("capabilities cannot be given up: {error}")))
    }

    fn restrict(&self, kernel: Kernel) -> Result<(), Failure> {
        if kernel == Kernel::Nothing {
            return Ok(());
        }
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let home = home.filter(|home| home.is_absolute());
        let caches = self.caches(home.as_deref());
        let devices = Path::new("/dev");
        let hidden = || self.hide.iter().map(PathBuf::as_path);
        let mut read: Vec<&Path> = self.read.iter().map(PathBuf::as_path).collect();
        if self.selective {
            read.extend(SYSTEM.map(Path::new));
        } else {
            read.push(Path::new("/"));
            read.extend(home.as_deref());
        }
        let write = self.write.iter().chain(&caches).map(PathBuf::as_path);
        let territory = Territory {
            hidden: Closed::new(hidden().chain([devices])),
            unchanged: Closed::new(hidden().chain(self.fix.iter().map(PathBuf::as_path))),
            read,
            write: write.collect(),
        };
        landlock::restrict(&territory)
            .map_err(|error| Failure::new(format!("it cannot be confined: {error}")))
    }

    /// The caches in a home. Those that the program needs are made: rules are for what is.
    fn caches(&self, home: Option<&Path>) -> Vec<PathBuf> {
        let Some(home) = home.filter(|_| self.caches) else {
            return Vec::new();
        };
        let program = self.command.first().map(Path::new);
        let program = program.and_then(Path::file_name);
        let path = |(name, needed_by): (&str, &[&str])| {
            let path = home.join(name);
            if needed_by.iter().any(|name| program == Some(name.as_ref())) {
                // Where that cannot be, there is nothing to write to.
                let _ = std::fs::create_dir_all(&path);
            }
            path
        };
        CACHES.map(path).to_vec()
    }
}
