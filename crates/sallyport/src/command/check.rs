//! `sallyport check`: every mistake in what people write for a gateway, at once.

use serde::Serialize;

use super::ConfigArg;
use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, WARN, paint};
use crate::report;
use crate::setup::{self, Read, Severity};

/// Arguments of `sallyport check`.
#[derive(clap::Args)]
#[command(after_help = "\
Reads the configuration, and the folders `templates` and `policies` beside it.
Ends with 1 if there are mistakes; advice alone is no mistake.

Examples:
  sallyport check
  sallyport check --config /etc/sallyport/sallyport.toml
  sallyport check --json | jq '.remarks[] | select(.severity == \"mistake\")'")]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What machines read.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    mistakes: usize,
    advice: usize,
    remarks: Vec<report::Entry<'a>>,
}

/// Checks, and prints what was found.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let read = setup::read(&args.config.config);
    let mistakes = read.count(Severity::Mistake);
    if args.json {
        output::json(&Report {
            ok: read.setup.is_some(),
            mistakes,
            advice: read.count(Severity::Advice),
            remarks: report::entries(&read.remarks, &read.texts),
        })?;
    } else {
        for remark in &read.remarks {
            output::line(format_args!("{}\n", report::show(remark, &read.texts)))?;
        }
        output::line(summary(&read))?;
    }
    if read.setup.is_some() {
        Ok(())
    } else {
        Err(Failure::reported())
    }
}

fn summary(read: &Read) -> String {
    let tally = report::tally(read.count(Severity::Mistake), read.count(Severity::Advice));
    let Some(setup) = &read.setup else {
        return format!("{} {tally}", paint(BAD.bold(), "not ready:"));
    };
    let contents = format!(
        "{}, {}, {}",
        count(setup.config.servers.len(), "server"),
        count(setup.templates.len(), "template"),
        match setup.policies.len() {
            1 => "1 policy".to_owned(),
            many => format!("{many} policies"),
        },
    );
    let ready = paint(GOOD.bold(), "ready:");
    let found = if tally.is_empty() {
        paint(FAINT, "no mistakes")
    } else {
        paint(WARN, tally)
    };
    format!("{ready} {contents}; {found}")
}

fn count(number: usize, what: &str) -> String {
    if number == 1 {
        format!("1 {what}")
    } else {
        format!("{number} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_all_files_are_told_together() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "sallyport.toml",
            "trust_domain = \"example.org\"\n[servers.files]\ncomand = []\n",
        );
        write(
            "templates/a.toml",
            "description = \"x\"\nagents = [\"a*b\"]\nttl = \"soon\"\n",
        );
        write("policies/p.cedar", "permit (principal, action, resource;\n");
        let read = setup::read(&home.path().join("sallyport.toml"));
        assert!(read.setup.is_none());
        let files: std::collections::BTreeSet<String> = read
            .remarks
            .iter()
            .filter(|remark| remark.severity == Severity::Mistake)
            .map(|remark| {
                remark
                    .mistake
                    .file
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            ["a.toml", "p.cedar", "sallyport.toml"]
        );
        let summary = anstream::adapter::strip_str(&summary(&read)).to_string();
        assert!(summary.starts_with("not ready: "), "{summary}");
        for entry in report::entries(&read.remarks, &read.texts) {
            let entry = serde_json::to_value(entry).unwrap();
            if entry["severity"] == "mistake" {
                assert!(entry["line"].is_u64(), "{entry}");
            }
        }
    }
}
