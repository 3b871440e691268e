//! What `confine` must be, and what this machine can do of it.

use std::path::{Path, PathBuf};

use model::config::{Config, Enforce, Secret, Server};

use super::remarks::Remarks;
use crate::confined::Kernel;

/// Checks how programs that the gateway starts are confined, on a machine with this kernel.
pub(super) fn check(remarks: &mut Remarks<'_>, folder: &Path, config: &Config, kernel: Kernel) {
    let mut lack = kernel.lacks();
    let started = config
        .servers
        .iter()
        .filter(|(_, server)| !server.command.is_empty());
    for (name, server) in started {
        let confine = &server.confine;
        let here = ["servers", name.as_str(), "confine"];
        for (key, value) in [
            ("memory_bytes", confine.memory_bytes),
            ("file_bytes", confine.file_bytes),
            ("open_files", confine.open_files),
            ("processes", confine.processes),
        ] {
            if value == 0 {
                remarks.mistake(
                    &["servers", name.as_str(), "confine", key],
                    format!("with `{key} = 0` no program could run"),
                    "leave it out to have the default",
                );
            }
        }
        match confine.enforce {
            Enforce::Off => {
                remarks.advice(
                    &here,
                    format!(
                        "`{name}` is not confined: it can read and change all that the gateway's user can, \
                         also keys and log"
                    ),
                    "leave `enforce` out, or say what it may `read` and `write`",
                );
                continue;
            }
            Enforce::Required if kernel < Kernel::Files => remarks.mistake(
                &here,
                kernel.lacks().unwrap_or_default(),
                "use such a kernel, or say `confine = \"available\"`",
            ),
            // Once is enough.
            Enforce::Required | Enforce::Available => {
                if let Some(lack) = lack.take() {
                    remarks.advice(
                        &["servers", name.as_str()],
                        lack,
                        "give Sallyport a user of its own, and let such programs come from people you trust",
                    );
                }
            }
        }
        let lists = [("read", &confine.read), ("write", &confine.write)];
        for (key, paths) in lists {
            for (index, path) in paths.iter().flatten().enumerate() {
                let place = ["servers", name.as_str(), "confine", key, &index.to_string()];
                let wanted = whole(folder, path);
                if closed(folder, config).any(|closed| wanted.starts_with(closed)) {
                    remarks.mistake(
                        &place,
                        format!(
                            "`{}` is the gateway's own: no program gets it",
                            path.display()
                        ),
                        "name another folder, or remove it",
                    );
                } else if !wanted.exists() {
                    remarks.advice(
                        &place,
                        format!("there is no `{}` here", path.display()),
                        "make it before the server is started: what comes later stays closed",
                    );
                }
            }
        }
    }
}

/// What no program reaches.
fn closed(folder: &Path, config: &Config) -> impl Iterator<Item = PathBuf> {
    let secrets = config.servers.values().flat_map(Server::secrets);
    let files = secrets.filter_map(|secret| match secret {
        Secret::File(path) => Some(path),
        Secret::Env(_) | Secret::Plain(_) => None,
    });
    std::iter::once(&config.data_dir)
        .chain(files)
        .map(|path| whole(folder, path))
        .collect::<Vec<_>>()
        .into_iter()
}

/// The path without symbolic links, where it exists.
fn whole(folder: &Path, path: &Path) -> PathBuf {
    let path = folder.join(path);
    path.canonicalize()
        .or_else(|_| std::path::absolute(&path))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Severity;

    fn remarks(confine: &str, kernel: Kernel) -> Vec<(Severity, String)> {
        let text = format!(
            "trust_domain = \"a\"\ndata_dir = \"/d/data\"\n[servers.x]\ncommand = [\"/bin/true\"]\n\
             environment = {{ A = {{ file = \"/s/secret\" }} }}\n{confine}\n"
        );
        let file = Path::new("sallyport.toml");
        let config = Config::parse(file, &text).unwrap();
        let mut remarks = Remarks::new(file, &text);
        check(&mut remarks, Path::new("/f"), &config, kernel);
        let list = remarks.into_list().into_iter();
        list.map(|remark| (remark.severity, remark.mistake.message))
            .collect()
    }

    #[test]
    fn what_the_kernel_lacks_is_said_and_refused_where_it_is_required() {
        assert_eq!(remarks("", Kernel::All), []);
        for kernel in [Kernel::Nothing, Kernel::SomeFiles] {
            let found = remarks("", kernel);
            assert_eq!(found[0].0, Severity::Advice, "{found:?}");
            let found = remarks("confine = \"required\"", kernel);
            assert_eq!(found[0].0, Severity::Mistake, "{found:?}");
        }
        let found = remarks("confine = \"required\"", Kernel::Files);
        assert_eq!(found[0].0, Severity::Advice, "{found:?}");
        let found = remarks("confine = \"off\"", Kernel::All);
        assert!(found[0].1.contains("keys and log"), "{found:?}");
    }

    #[test]
    fn nobody_is_given_what_is_the_gateways() {
        for path in ["/d/data", "/d/data/log", "/s/secret"] {
            let found = remarks(&format!("confine = {{ write = [{path:?}] }}"), Kernel::All);
            assert_eq!(found[0].0, Severity::Mistake, "{path}");
        }
        let found = remarks("confine = { read = [\"/d/other\"] }", Kernel::All);
        assert_eq!(found[0].0, Severity::Advice);
        assert_eq!(remarks("confine = { read = [\"/\"] }", Kernel::All), []);
        let found = remarks("confine = { memory_bytes = 0 }", Kernel::All);
        assert_eq!(found[0].0, Severity::Mistake);
    }
}
