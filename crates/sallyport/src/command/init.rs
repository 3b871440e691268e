//! `sallyport init`: files to start from, which work as they are.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::output::{self, CODE, FAINT, GOOD, paint};

/// What is written, by its name in the folder.
const FILES: [(&str, &str); 5] = [
    ("sallyport.toml", include_str!("init/sallyport.toml")),
    (
        "templates/read-files.toml",
        include_str!("init/read-files.toml"),
    ),
    (
        "policies/baseline.cedar",
        include_str!("init/baseline.cedar"),
    ),
    ("files/hello.txt", include_str!("init/hello.txt")),
    (".gitignore", "# Keys, state and the audit log.\n/data/\n"),
];

/// What each file is for; the last one explains itself.
const MEANING: [&str; 4] = [
    "the gateway and the servers that it protects",
    "a kind of task: who may open it and what it may do",
    "what the organisation allows at all",
    "something to read",
];

/// Arguments of `sallyport init`.
#[derive(clap::Args)]
#[command(after_help = "\
Nothing that exists is overwritten: if one of the files is there, nothing is written.

Examples:
  sallyport init
  sallyport init my-gateway")]
pub(crate) struct Args {
    /// The folder; it is made if it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// Writes the files and says what to do with them.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    write(&args.dir)?;
    output::line(format_args!(
        "{} {}",
        paint(GOOD.bold(), "written to"),
        args.dir.display()
    ))?;
    let width = FILES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for ((name, _), meaning) in FILES.iter().zip(MEANING) {
        output::line(format_args!("  {name:width$}  {}", paint(FAINT, meaning)))?;
    }
    let enter = if args.dir == Path::new(".") {
        String::new()
    } else {
        format!("cd {} && ", args.dir.display())
    };
    output::line("\nNext:")?;
    let next = [
        (format!("{enter}sallyport check"), "find every mistake"),
        ("sallyport serve".to_owned(), "run it"),
        (
            "sallyport agent register my-agent --sponsor you@example.org".to_owned(),
            "in another terminal, in the same folder",
        ),
    ];
    let width = next
        .iter()
        .map(|(command, _)| command.chars().count())
        .max()
        .unwrap_or(0);
    for (command, meaning) in next {
        output::line(format_args!(
            "  {}  {}",
            paint(CODE, format_args!("{command:<width$}")),
            paint(FAINT, meaning)
        ))?;
    }
    Ok(())
}

/// Writes the files, unless one of them is there already.
fn write(dir: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::new(format!("cannot write {}: {error}", path.display()))
    };
    let there: Vec<String> = FILES
        .iter()
        .map(|(name, _)| dir.join(name))
        .filter(|path| path.symlink_metadata().is_ok())
        .map(|path| path.display().to_string())
        .collect();
    if !there.is_empty() {
        return Err(
            Failure::new(format!("there already: {}", there.join(", "))).hint(
                "nothing was written; choose another folder, as in `sallyport init my-gateway`",
            ),
        );
    }
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
    let home = std::fs::canonicalize(dir).map_err(|error| failed(dir, &error))?;
    let files = home.join("files");
    let files = files.to_str().ok_or_else(|| {
        Failure::new(format!("the path {} is not UTF-8 text", files.display()))
            .hint("choose another folder")
    })?;
    let files = toml::Value::String(files.to_owned()).to_string();
    for (name, text) in FILES {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        std::fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(text.replace("@FILES@", &files).as_bytes()))
            .map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::{self, Severity};

    #[test]
    fn what_is_written_has_no_mistakes() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("with blanks");
        write(&dir).unwrap();
        let read = setup::read(&dir.join("sallyport.toml"));
        let mistakes: Vec<_> = read
            .remarks
            .iter()
            .filter(|remark| remark.severity == Severity::Mistake)
            .collect();
        assert!(mistakes.is_empty(), "{mistakes:#?}");
        // Node.js need not be here; nothing else may be advised about.
        assert!(
            read.remarks
                .iter()
                .all(|remark| remark.mistake.message.contains("`npx`")),
            "{:#?}",
            read.remarks
        );
        let setup = read.setup.unwrap();
        let below = dir.canonicalize().unwrap().join("files");
        let template = setup.templates.values().next().unwrap();
        let constraint = &template.grant.permissions[0].tools[0].arguments["path"];
        assert_eq!(constraint.below.as_deref(), below.to_str());
        assert_eq!(
            setup
                .config
                .servers
                .values()
                .next()
                .unwrap()
                .command
                .last()
                .map(String::as_str),
            below.to_str()
        );
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_half_written() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join("sallyport.toml");
        std::fs::write(&kept, "mine").unwrap();
        let failure = write(home.path()).unwrap_err();
        assert!(failure.message().contains("sallyport.toml"));
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "mine");
        assert!(!home.path().join("templates").exists());
    }
}
