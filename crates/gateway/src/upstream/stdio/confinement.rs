//! What a program may touch: told to a launcher, which restricts itself and becomes the program.
//!
//! Restricting a process from within, before it becomes another program, needs a program to do it: between
//! `fork` and `exec` only unsafe code could. So the gateway starts a launcher, and passes what is to hold as
//! arguments.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::config::{Config, Confine, Enforce, Secret};

/// What confines programs: `PROGRAM ARGUMENTS... OPTIONS... -- program arguments...`, with the options
///
/// - `--enforce required|available|off`;
/// - `--hide PATH` for each path below which nothing may be reached, `--fix PATH` where nothing may change;
/// - `--read PATH` for each path that may be read and executed; `--selective` when that is all, besides
///   the system's folders;
/// - `--write PATH` for each path that may be written, `--caches` for those of package managers;
/// - `--memory-bytes`, `--file-bytes`, `--open-files`, `--processes`, each with a number.
///
/// It keeps its process id, and passes on its standard streams and its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// What comes before the options.
    pub arguments: Vec<OsString>,
    /// What no program may change: the configuration, templates and policies, this program itself.
    pub fixed: Vec<PathBuf>,
}

/// How the programs of one server are confined.
#[derive(PartialEq, Eq)]
pub(in crate::upstream) struct Confinement {
    launcher: Arc<Launcher>,
    hidden: Arc<BTreeSet<PathBuf>>,
    rules: Confine,
}

impl Confinement {
    pub(in crate::upstream) fn new(
        launcher: &Arc<Launcher>,
        hidden: &Arc<BTreeSet<PathBuf>>,
        rules: &Confine,
    ) -> Self {
        Self {
            launcher: Arc::clone(launcher),
            hidden: Arc::clone(hidden),
            rules: rules.clone(),
        }
    }

    pub(super) fn launcher(&self) -> &Path {
        &self.launcher.program
    }

    /// Whether the program needs a temporary folder of its own.
    pub(super) fn needs_scratch(&self) -> bool {
        self.rules.enforce != Enforce::Off
    }

    /// What the launcher is told, up to the program. `command` is the program's own arguments.
    pub(super) fn arguments(
        &self,
        program: &Path,
        command: &[String],
        directory: Option<&Path>,
        scratch: Option<&Path>,
    ) -> Vec<OsString> {
        let mut arguments = self.launcher.arguments.clone();
        let mut option = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        option("--enforce", self.rules.enforce.as_str().into());
        for path in self.hidden.iter() {
            option("--hide", path.into());
        }
        for path in &self.launcher.fixed {
            option("--fix", path.into());
        }
        // What lies where not everything can be listed is named as well.
        let here = directory.into_iter().chain(program.parent());
        for path in here.filter(|path| path.is_absolute()) {
            option("--read", path.into());
        }
        for path in self.rules.read.iter().flatten() {
            option("--read", path.into());
        }
        let written: Vec<PathBuf> = match &self.rules.write {
            Some(paths) => paths.clone(),
            None => self.written_by_default(command, directory),
        };
        for path in written.iter().map(PathBuf::as_path).chain(scratch) {
            option("--write", path.into());
        }
        for (name, most) in [
            ("--memory-bytes", self.rules.memory_bytes),
            ("--file-bytes", self.rules.file_bytes),
            ("--open-files", self.rules.open_files),
            ("--processes", self.rules.processes),
        ] {
            option(name, most.to_string().into());
        }
        if self.rules.read.is_some() {
            arguments.push("--selective".into());
        }
        if self.rules.caches {
            arguments.push("--caches".into());
        }
        arguments.push("--".into());
        arguments
    }

    /// The folder that the program runs in, unless the gateway's own files are in it, and the folders that
    /// its arguments name.
    fn written_by_default(&self, command: &[String], directory: Option<&Path>) -> Vec<PathBuf> {
        let is_apart = |folder: &Path| {
            let mut own = self.hidden.iter().chain(&self.launcher.fixed);
            !own.any(|path| path.starts_with(folder))
        };
        let named = command.iter().filter_map(|argument| {
            let value = match argument.split_once('=') {
                Some((option, value)) if option.starts_with('-') => value,
                _ => argument,
            };
            let path = Path::new(value);
            (path.is_absolute() && path.is_dir()).then(|| path.to_owned())
        });
        directory
            .filter(|folder| is_apart(folder))
            .map(Path::to_owned)
            .into_iter()
            .chain(named)
            .collect()
    }
}

/// What no program may reach: the data directory, private keys, and the files that secrets are read from.
pub(in crate::upstream) fn hidden(config: &Config) -> BTreeSet<PathBuf> {
    let mut hidden = BTreeSet::from([config.data_dir.clone()]);
    let listeners = [&config.control, &config.gateway, &config.postgres];
    let certificates = listeners.map(|listener| &listener.tls);
    let proxy = config.proxy.iter().map(|proxy| &proxy.tls);
    for tls in certificates.into_iter().chain(proxy) {
        hidden.extend(tls.iter().map(|files| files.key.clone()));
    }
    for server in config.servers.values() {
        for secret in server.secrets() {
            if let Secret::File(path) = secret {
                hidden.insert(path.clone());
            }
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(Path::new("t"), &format!("trust_domain = \"a\"\n{text}")).unwrap()
    }

    fn told(text: &str, command: &[&str], directory: &str) -> Vec<String> {
        let config = config(text);
        let launcher = Launcher {
            program: "/bin/launcher".into(),
            arguments: vec!["confined".into()],
            fixed: vec!["/etc/gate/sallyport.toml".into()],
        };
        let rules = config
            .servers
            .values()
            .next()
            .map(|server| server.confine.clone())
            .unwrap_or_default();
        let confinement = Confinement::new(&Arc::new(launcher), &Arc::new(hidden(&config)), &rules);
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        let directory = Some(Path::new(directory));
        confinement
            .arguments(Path::new("node"), &command, directory, None)
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    fn of<'a>(told: &'a [String], option: &str) -> Vec<&'a str> {
        let pairs = told.windows(2).filter(|pair| pair[0] == option);
        pairs.map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn every_secret_of_every_server_is_hidden_from_all() {
        let told = told(
            "data_dir = \"/d\"\n[gateway]\nlisten = \"127.0.0.1:1\"\ntls = { cert = \"/c\", key = \"/k\" }\n\
             [servers.a]\ncommand = [\"x\"]\nenvironment = { A = { file = \"/s1\" }, B = { env = \"X\" } }\n\
             [servers.b]\nurl = \"https://b/\"\ncredential = { value = { file = \"/s2\" } }\n",
            &[],
            "/etc/gate",
        );
        assert_eq!(of(&told, "--hide"), ["/d", "/k", "/s1", "/s2"]);
        assert_eq!(of(&told, "--fix"), ["/etc/gate/sallyport.toml"]);
        assert_eq!(told.first().unwrap(), "confined");
        assert_eq!(told.last().unwrap(), "--");
    }

    #[test]
    fn the_configurations_folder_is_not_written_by_default() {
        let server = "data_dir = \"/d\"\n[servers.a]\ncommand = [\"x\"]\n";
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().to_str().unwrap();
        let option = format!("--root={named}");
        let command = [named, option.as_str(), "/etc/passwd", "/nonexistent", "./x"];
        let written = told(server, &command, "/etc/gate");
        assert_eq!(of(&written, "--write"), [named, named]);
        let written = told(server, &[], "/srv/apart");
        assert_eq!(of(&written, "--write"), ["/srv/apart"]);
    }

    #[test]
    fn what_is_written_down_replaces_the_default() {
        let server = "data_dir = \"/d\"\n[servers.a]\ncommand = [\"x\"]\n\
                      confine = { enforce = \"required\", read = [], write = [\"/w\"], caches = false }\n";
        let told = told(server, &[], "/srv/apart");
        assert_eq!(of(&told, "--write"), ["/w"]);
        assert_eq!(of(&told, "--enforce"), ["required"]);
        assert!(told.contains(&"--selective".to_owned()));
        assert!(!told.contains(&"--caches".to_owned()));
    }
}
