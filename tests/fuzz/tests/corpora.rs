//! Every input of every corpus is checked; and every check has a target, a corpus and a name in both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .expect("it is a folder")
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect()
}

#[test]
fn every_check_has_a_target_and_a_corpus() {
    let checks: BTreeSet<String> = checks::ALL
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(checks.len(), checks::ALL.len(), "no name stands twice");
    assert_eq!(checks, names(&fuzz().join("fuzz_targets"), ".rs"));
    assert_eq!(checks, names(&fuzz().join("corpus"), ""));
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).expect("it is there");
    for name in checks {
        let target = std::fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs")))
            .expect("it is there");
        assert!(target.contains("checks::"), "{name}");
        assert!(
            manifest.contains(&format!("fuzz_targets/{name}.rs")),
            "{name}"
        );
    }
}

#[test]
fn every_input_of_every_corpus_passes_its_check() {
    let mut failed = Vec::new();
    for (name, check) in checks::ALL {
        let corpus = fuzz().join("corpus").join(name);
        let inputs = names(&corpus, "");
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            let bytes = std::fs::read(corpus.join(&input)).expect("it can be read");
            if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                failed.push(format!("{name}/{input}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
