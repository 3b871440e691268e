//! What verification names, and what a reader sees.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::Reader;
use crate::{AuditError, AuditLog, Checkpoint, Options, Problem, check_consistency, check_proof};

fn record(index: u64) -> Bytes {
    format!("{{\"n\":{index},\"agent\":\"a{}\"}}", index % 3).into()
}

fn options(home: &Path) -> Options {
    Options {
        publish_every: Duration::from_millis(1),
        ..Options::new("example.org/audit", home.join("log.key"))
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

async fn fill(log: &Arc<AuditLog>, records: std::ops::Range<u64>) {
    let last = records.end - 1;
    for index in records.start..last {
        while log.submit(record(index)).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(log.append(record(last)).await.unwrap(), last);
}

/// A closed log with so many records.
fn log(records: u64) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let (log, _) = AuditLog::open(&dir, options(home.path())).unwrap();
    block_on(async {
        fill(&log, 0..records).await;
        log.close().await;
    });
    (home, dir)
}

fn problems(dir: &Path) -> Vec<Problem> {
    Reader::open(dir)
        .unwrap()
        .verify(None, &mut |_, _| {})
        .unwrap()
        .problems
}

/// Changes a file, looks at what is found, and restores it.
fn with_changed(dir: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Problem> {
    let path = dir.join(file);
    let whole = std::fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    change(&mut bytes);
    std::fs::write(&path, bytes).unwrap();
    let found = problems(dir);
    std::fs::write(&path, whole).unwrap();
    found
}

/// The records and the file of problems that are all in one file.
fn named(problems: &[Problem]) -> (Vec<Option<u64>>, &str) {
    assert!(
        problems
            .iter()
            .all(|problem| problem.file == problems[0].file),
        "{problems:?}"
    );
    (
        problems.iter().map(|problem| problem.index).collect(),
        &problems[0].file,
    )
}

/// Where a record begins in its bundle, with its length in front.
fn offset(index: u64) -> usize {
    (index / 256 * 256..index)
        .map(|before| 2 + record(before).len())
        .sum()
}

#[test]
fn a_changed_byte_names_exactly_its_record_and_file() {
    let (_home, dir) = log(700);
    assert_eq!(problems(&dir), []);
    for (index, file) in [
        (0, "tile/entries/000"),
        (255, "tile/entries/000"),
        (300, "tile/entries/001"),
        (512, "tile/entries/002.p/188"),
        (699, "tile/entries/002.p/188"),
    ] {
        for at in [0, 1, 2, 9] {
            let found = with_changed(&dir, file, |bytes| bytes[offset(index) + at] ^= 1);
            assert_eq!(
                named(&found),
                (vec![Some(index)], file),
                "byte {at} of {index}: {found:?}"
            );
        }
        let tile = file.replace("entries", "0");
        let found = with_changed(&dir, &tile, |bytes| {
            bytes[(index % 256) as usize * 32 + 7] ^= 1
        });
        assert_eq!(named(&found), (vec![Some(index)], &*tile), "{found:?}");
    }
    let found = with_changed(&dir, "tile/1/000.p/2", |bytes| bytes[40] ^= 1);
    assert_eq!(named(&found), (vec![None], "tile/1/000.p/2"), "{found:?}");
    let found = with_changed(&dir, "checkpoint", |bytes| bytes[20] ^= 1);
    assert_eq!(named(&found), (vec![None], "checkpoint"), "{found:?}");
}

#[test]
fn several_changes_are_told_apart() {
    let (_home, dir) = log(700);
    let path = dir.join("tile/0/001");
    let mut tile = std::fs::read(&path).unwrap();
    tile[0] ^= 1;
    std::fs::write(&path, tile).unwrap();
    let mut found = with_changed(&dir, "tile/entries/001", |bytes| {
        bytes[offset(300) + 5] ^= 1
    });
    found.sort_by_key(|problem| problem.index);
    let named: Vec<_> = found
        .iter()
        .map(|problem| (problem.index, &*problem.file))
        .collect();
    assert_eq!(
        named,
        [(Some(256), "tile/0/001"), (Some(300), "tile/entries/001")]
    );
}

#[test]
fn dropped_added_and_cut_records_are_named() {
    let (_home, dir) = log(700);
    for (file, first) in [("tile/entries/001", 256), ("tile/entries/002.p/188", 512)] {
        let found = with_changed(&dir, file, |bytes| {
            drop(bytes.drain(offset(first + 3)..offset(first + 6)))
        });
        assert_eq!(
            named(&found),
            ([3, 4, 5].map(|i| Some(first + i)).to_vec(), file)
        );
        let last = if first == 256 { 511 } else { 699 };
        let found = with_changed(&dir, file, |bytes| bytes.truncate(offset(last)));
        assert_eq!(named(&found), (vec![Some(last)], file));
        let found = with_changed(&dir, file, |bytes| {
            drop(bytes.splice(offset(first + 2)..offset(first + 2), *b"\0\x01x"))
        });
        assert_eq!(named(&found), (vec![Some(first + 2)], file));
        assert!(found[0].what.contains("in front"));
        let found = with_changed(&dir, file, |bytes| bytes.extend(b"\0\0"));
        assert_eq!(named(&found), (vec![None], file));
    }
}

#[test]
fn missing_and_foreign_files_are_named() {
    let (_home, dir) = log(700);
    for file in [
        "tile/entries/001",
        "tile/0/001",
        "tile/0/002.p/188",
        "tile/1/000.p/2",
        "checkpoint",
    ] {
        let path = dir.join(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let found = problems(&dir);
        assert!(
            !found.is_empty() && found.iter().all(|problem| problem.file == file),
            "{file}: {found:?}"
        );
        assert!(found[0].what.contains("missing"));
        std::fs::write(&path, whole).unwrap();
    }
    for file in [
        "tile/entries/005",
        "tile/entries/002.p/189",
        "tile/0/notes.txt",
        "tile/7/000",
    ] {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, [0; 64]).unwrap();
        assert_eq!(named(&problems(&dir)), (vec![None], file));
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_rewritten_or_shortened_log_does_not_match_a_kept_checkpoint() {
    let (home, dir) = log(300);
    let reader = Reader::open(&dir).unwrap();
    let kept = reader.checkpoint().unwrap().clone();
    let (log, _) = AuditLog::open(&dir, options(home.path())).unwrap();
    block_on(async {
        fill(&log, 300..520).await;
        log.close().await;
    });
    let grown = Reader::open(&dir).unwrap();
    assert_eq!(
        grown.verify(Some(&kept), &mut |_, _| {}).unwrap().problems,
        []
    );
    let proof = grown.consistency(300, 520).unwrap();
    let root = grown.checkpoint().unwrap().root();
    assert_eq!(
        check_consistency(&proof, (300, kept.root()), (520, root)),
        Ok(())
    );

    // The operator has the key, and makes another log with it.
    for (records, first) in [(520, 1), (200, 0)] {
        std::fs::remove_dir_all(&dir).unwrap();
        let (log, _) = AuditLog::open(&dir, options(home.path())).unwrap();
        block_on(async {
            for index in first..first + records {
                log.append(record(index)).await.unwrap();
            }
            log.close().await;
        });
        assert_eq!(problems(&dir), [], "in itself it is consistent");
        let report = Reader::open(&dir)
            .unwrap()
            .verify(Some(&kept), &mut |_, _| {})
            .unwrap();
        assert_eq!(named(&report.problems), (vec![None], "checkpoint"));
    }
}

#[test]
fn every_record_has_a_proof_that_holds_for_it_alone() {
    let (_home, dir) = log(300);
    let reader = Reader::open(&dir).unwrap();
    let key = reader.verifier().clone();
    for index in 0..300 {
        let text = reader.prove(index).unwrap().to_string();
        assert_eq!(
            check_proof(&text, &record(index), &key).unwrap().index,
            index
        );
        assert!(check_proof(&text, &record(index + 1), &key).is_err());
    }
    assert!(matches!(
        reader.prove(300),
        Err(AuditError::NotCovered {
            index: 300,
            size: 300
        })
    ));
    for old in 0..=300 {
        let proof = reader.consistency(old, 300).unwrap();
        let (old, new) = (
            (old, reader.root(old).unwrap()),
            (300, reader.root(300).unwrap()),
        );
        assert_eq!(check_consistency(&proof, old, new), Ok(()));
    }
    assert!(reader.consistency(5, 301).is_err() && reader.consistency(6, 5).is_err());
}

#[test]
fn a_reader_follows_and_sees_the_journal() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    assert!(matches!(Reader::open(&dir), Err(AuditError::NotALog(_))));
    let never = Options {
        publish_every: Duration::from_secs(3600),
        ..options(home.path())
    };
    let (log, _) = AuditLog::open(&dir, never).unwrap();
    assert!(matches!(
        AuditLog::open(&dir, options(home.path())),
        Err(AuditError::Locked { .. })
    ));
    let mut reader = Reader::open(&dir).unwrap();
    assert_eq!((reader.size(), reader.last(5).count()), (0, 0));
    block_on(fill(&log, 0..1000));
    assert_eq!(reader.wait(0, Duration::from_secs(5)).unwrap(), 1000);
    let found: Vec<u64> = reader
        .entries(0..2000)
        .map(|entry| entry.unwrap().0)
        .collect();
    assert_eq!(found, (0..1000).collect::<Vec<_>>());
    assert_eq!(
        reader
            .entries(700..702)
            .map(|entry| entry.unwrap().1)
            .collect::<Vec<_>>(),
        [record(700), record(701)]
    );
    assert_eq!(reader.wait(1000, Duration::from_millis(1)).unwrap(), 1000);
    let wanted = |_: u64, value: &serde_json::Value| value["agent"] == "a1";
    let newest: Vec<u64> = reader
        .query_last(0..1000, 3, wanted)
        .unwrap()
        .iter()
        .map(|entry| entry.0)
        .collect();
    assert_eq!(newest, [991, 994, 997]);
    assert_eq!(
        reader
            .query(0..10, wanted)
            .map(|entry| entry.unwrap().0)
            .collect::<Vec<_>>(),
        [1, 4, 7]
    );
    assert_eq!(reader.verify(None, &mut |_, _| {}).unwrap().problems, []);
    block_on(log.close());
    let (log, recovery) = AuditLog::open(&dir, options(home.path())).unwrap();
    assert_eq!(
        (recovery.records, recovery.from_journal, recovery.begun),
        (1000, 0, false)
    );
    block_on(log.close());
}

/// A reader and a verifier at work while the log grows.
#[test]
fn verifying_a_log_that_grows_finds_nothing() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let options = Options {
        segment_bytes: 5000,
        ..options(home.path())
    };
    let (log, _) = AuditLog::open(&dir, options).unwrap();
    let writing = std::thread::spawn({
        let log = Arc::clone(&log);
        move || {
            block_on(async {
                for index in 0..3000 {
                    log.append(record(index)).await.unwrap();
                }
            });
        }
    });
    let mut kept: Option<Checkpoint> = None;
    while !writing.is_finished() {
        let reader = Reader::open(&dir).unwrap();
        let report = reader.verify(kept.as_ref(), &mut |_, _| {}).unwrap();
        assert_eq!(report.problems, []);
        kept = report.checkpoint;
    }
    writing.join().unwrap();
    block_on(log.close());
    assert_eq!(log.checkpoint().unwrap().size(), 3000);
    assert_eq!(problems(&dir), []);
    // Incomplete forms of complete tiles are gone.
    assert!(!dir.join("tile/entries/000.p").exists() && !dir.join("tile/0/010.p").exists());
}

#[test]
fn another_key_or_origin_is_refused() {
    let (home, dir) = log(3);
    let other = Options::new("example.org/other", home.path().join("log.key"));
    assert!(matches!(
        AuditLog::open(&dir, other),
        Err(AuditError::OtherKey { .. })
    ));
    let other = Options::new("example.org/audit", home.path().join("other.key"));
    assert!(matches!(
        AuditLog::open(&dir, other),
        Err(AuditError::OtherKey { .. })
    ));
}

#[tokio::test]
async fn too_long_and_too_many_records_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let (log, _) = AuditLog::open(&home.path().join("log"), options(home.path())).unwrap();
    let long = Bytes::from(vec![b'x'; 65_536]);
    assert!(matches!(
        log.append(long.clone()).await,
        Err(AuditError::TooLong { bytes: 65_536 })
    ));
    assert!(matches!(
        log.submit(long.clone()),
        Err(AuditError::TooLong { .. })
    ));
    assert_eq!(log.append(long.slice(1..)).await.unwrap(), 0);
    log.close().await;
    let entries: Vec<_> = Reader::open(&home.path().join("log"))
        .unwrap()
        .last(1)
        .map(Result::unwrap)
        .collect();
    assert_eq!(entries, [(0, long.slice(1..))]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_change_anywhere_is_found(
        size in 1u64..600, file: prop::sample::Index, at: prop::sample::Index, bit in 0u8..8, cut: bool,
    ) {
        let (_home, dir) = log(size);
        let mut files = Vec::new();
        let mut folders = vec![dir.join("tile")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.push(dir.join("checkpoint"));
        files.sort();
        let path = &files[file.index(files.len())];
        let name = path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned();
        let found = with_changed(&dir, &name, |bytes| {
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        });
        prop_assert!(found.iter().any(|problem| problem.file == name), "{name}: {found:?}");
    }
}
