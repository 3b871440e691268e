//! Crashes at every point: a disk that remembers what it was told, and can show what of it would be
//! left after a crash in which whatever was not synced may be lost.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::disk::{Disk, DiskFile, RealDisk};
use crate::{AuditError, AuditLog, Checkpoint, Options, Reader, check_consistency};

enum Step {
    Create {
        file: usize,
        path: PathBuf,
    },
    Append {
        file: usize,
        bytes: Vec<u8>,
    },
    Reserve {
        file: usize,
        bytes: u64,
    },
    Sync {
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
    RemoveDir(PathBuf),
    MakeDir(PathBuf),
    SyncDir(PathBuf),
    /// Not an operation: so many records are acknowledged.
    Acknowledged(u64),
}

/// Does everything on the real disk, and writes it down.
#[derive(Default)]
struct Recorder {
    steps: Arc<Mutex<Vec<Step>>>,
}

struct RecordedFile {
    file: Box<dyn DiskFile>,
    number: usize,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Recorder {
    fn note(&self, done: io::Result<()>, step: Step) -> io::Result<()> {
        done.map(|()| self.steps.lock().push(step))
    }
}

impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        let mut steps = self.steps.lock();
        let number = steps.len();
        steps.push(Step::Create {
            file: number,
            path: path.to_owned(),
        });
        Ok(Box::new(RecordedFile {
            file,
            number,
            steps: Arc::clone(&self.steps),
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note(
            RealDisk.rename(from, to),
            Step::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
            },
        )
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(RealDisk.remove(path), Step::Remove(path.to_owned()))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.note(RealDisk.remove_dir(path), Step::RemoveDir(path.to_owned()))
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.note(RealDisk.make_dir(path), Step::MakeDir(path.to_owned()))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.note(RealDisk.sync_dir(path), Step::SyncDir(path.to_owned()))
    }
}

impl DiskFile for RecordedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.steps.lock().push(Step::Append {
            file: self.number,
            bytes: bytes.to_vec(),
        });
        self.file.append(bytes)
    }
    fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        self.file.reserve(bytes)?;
        let file = self.number;
        self.steps.lock().push(Step::Reserve { file, bytes });
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()?;
        self.steps.lock().push(Step::Sync { file: self.number });
        Ok(())
    }
}

/// What is on a disk: files with the bytes that are durable and those that may be, and the names of
/// files and folders that are durable and those that may be.
#[derive(Default)]
struct Crashed {
    files: BTreeMap<usize, (Vec<u8>, Vec<u8>)>,
    /// Up to where files have zeros after that, whether durable or not.
    reserved: BTreeMap<usize, usize>,
    names: BTreeMap<PathBuf, Option<usize>>,
    /// Changes of names that no sync of their folder has made durable, in order.
    pending: Vec<(PathBuf, Change)>,
}

enum Change {
    Put(PathBuf, Option<usize>),
    Take(PathBuf),
    Move(PathBuf, PathBuf),
}

impl Crashed {
    fn of(steps: &[Step], names_now: &mut BTreeMap<PathBuf, Option<usize>>) -> Self {
        let mut disk = Self::default();
        let folder = |path: &Path| path.parent().unwrap().to_owned();
        for step in steps {
            match step {
                Step::Create { file, path } => {
                    disk.files.insert(*file, Default::default());
                    names_now.insert(path.clone(), Some(*file));
                    disk.pending
                        .push((folder(path), Change::Put(path.clone(), Some(*file))));
                }
                Step::Append { file, bytes } => disk.files.get_mut(file).unwrap().1.extend(bytes),
                Step::Reserve { file, bytes } => {
                    let (durable, maybe) = &disk.files[file];
                    let end = durable.len() + maybe.len() + *bytes as usize;
                    disk.reserved.insert(*file, end);
                }
                Step::Sync { file } => {
                    let (durable, maybe) = disk.files.get_mut(file).unwrap();
                    durable.append(maybe);
                }
                Step::Rename { from, to } => {
                    disk.pending
                        .push((folder(to), Change::Move(from.clone(), to.clone())));
                }
                Step::Remove(path) | Step::RemoveDir(path) => {
                    disk.pending
                        .push((folder(path), Change::Take(path.clone())));
                }
                Step::MakeDir(path) => {
                    disk.pending
                        .push((folder(path), Change::Put(path.clone(), None)));
                }
                Step::SyncDir(path) => {
                    let (done, rest) = std::mem::take(&mut disk.pending)
                        .into_iter()
                        .partition(|(folder, _)| folder == path);
                    disk.pending = rest;
                    disk.apply(done, names_now);
                }
                Step::Acknowledged(_) => {}
            }
        }
        disk
    }

    fn apply(
        &mut self,
        changes: Vec<(PathBuf, Change)>,
        names_now: &BTreeMap<PathBuf, Option<usize>>,
    ) {
        for (_, change) in changes {
            match change {
                Change::Put(path, file) => {
                    self.names.insert(path, file);
                }
                Change::Take(path) => {
                    self.names.remove(&path);
                }
                Change::Move(from, to) => {
                    // The name that it had may never have been durable.
                    let file = self
                        .names
                        .remove(&from)
                        .or_else(|| names_now.get(&from).copied());
                    self.names.insert(to, file.flatten());
                }
            }
        }
    }

    /// Puts into a folder what a crash leaves; `keep` says of each thing that is not durable how much
    /// of it is kept.
    fn materialize(
        mut self,
        from: &Path,
        to: &Path,
        names_now: &BTreeMap<PathBuf, Option<usize>>,
        mut keep: impl FnMut() -> u8,
    ) {
        let pending = std::mem::take(&mut self.pending);
        let kept = pending.into_iter().filter(|_| keep() >= 128).collect();
        self.apply(kept, names_now);
        for (path, file) in &self.names {
            let path = to.join(path.strip_prefix(from).unwrap());
            if path.parent().is_some_and(|parent| !parent.is_dir()) {
                continue; // Its folder is lost, and with it what was in it.
            }
            match file {
                None => std::fs::create_dir_all(path).unwrap(),
                Some(file) => {
                    let (durable, maybe) = &self.files[file];
                    let torn = maybe.len() * usize::from(keep()) / 255;
                    let mut bytes = [durable, &maybe[..torn]].concat();
                    // A file may be as long as it should be, and have zeros in place of the rest.
                    if keep() > 200 {
                        bytes.resize(durable.len() + maybe.len(), 0);
                    }
                    if let Some(end) = self.reserved.get(file).filter(|_| keep() > 60) {
                        bytes.resize(bytes.len().max(*end), 0);
                        // Sectors of one write reach the disk in any order.
                        if keep() > 128 && torn > 0 {
                            bytes[durable.len()..durable.len() + torn / 2].fill(0);
                        }
                    }
                    std::fs::write(path, bytes).unwrap();
                }
            }
        }
    }
}

fn options(home: &Path) -> Options {
    Options {
        publish_every: Duration::from_millis(1),
        segment_bytes: 3000,
        ahead_bytes: 0,
        ..Options::new("example.org/audit", home.join("log.key"))
    }
}

fn record(index: u64) -> Bytes {
    format!("{{\"record\":{index}}}").into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap()
}

/// A run of a log with many publications, on a disk that wrote everything down.
struct Run {
    home: tempfile::TempDir,
    steps: Vec<Step>,
    names_now: BTreeMap<PathBuf, Option<usize>>,
}

fn run(records: u64, ahead_bytes: u64) -> Run {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let recorder = Arc::new(Recorder::default());
    let steps = Arc::clone(&recorder.steps);
    // The folder itself is there, as the one who installs the log makes it.
    std::fs::create_dir(&dir).unwrap();
    runtime().block_on(async {
        let (log, recovery) = AuditLog::open_on(
            recorder,
            &dir,
            Options {
                ahead_bytes,
                ..options(home.path())
            },
        )
        .unwrap();
        assert!(recovery.begun);
        let mut next = 0;
        while next < records {
            let group = (next % 7 + 1).min(records - next);
            for index in next..next + group - 1 {
                log.submit(record(index)).unwrap();
            }
            assert_eq!(
                log.append(record(next + group - 1)).await.unwrap(),
                next + group - 1
            );
            next += group;
            steps.lock().push(Step::Acknowledged(next));
            if next % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        log.close().await;
    });
    let steps = std::mem::take(&mut *steps.lock());
    Run {
        home,
        steps,
        names_now: BTreeMap::new(),
    }
}

/// Lets the run crash, opens what is left, and checks that nothing acknowledged is lost and that
/// what was signed before still holds.
fn crash(run: &mut Run, at: usize, keep: impl FnMut() -> u8) {
    let dir = run.home.path().join("log");
    let left = tempfile::tempdir().unwrap();
    let left_log = left.path().join("log");
    std::fs::create_dir(&left_log).unwrap();
    std::fs::copy(run.home.path().join("log.key"), left.path().join("log.key")).unwrap();
    std::fs::copy(dir.join("log.vkey"), left_log.join("log.vkey")).unwrap();
    let steps = &run.steps[..at];
    let crashed = Crashed::of(steps, &mut run.names_now);
    crashed.materialize(&dir, &left_log, &run.names_now, keep);
    let acknowledged = steps.iter().rev().find_map(|step| match step {
        Step::Acknowledged(count) => Some(*count),
        _ => None,
    });
    let acknowledged = acknowledged.unwrap_or(0);
    let before = std::fs::read_to_string(left_log.join("checkpoint")).ok();

    let (log, recovery) = AuditLog::open(&left_log, options(left.path()))
        .unwrap_or_else(|error| panic!("crash after step {at}: {error}"));
    assert!(
        recovery.records >= acknowledged,
        "{} < {acknowledged}",
        recovery.records
    );
    let verifier = log.verifier().clone();
    runtime()
        .block_on(log.append(record(recovery.records)))
        .unwrap();
    runtime().block_on(log.close());
    let reader = Reader::open(&left_log).unwrap();
    let size = reader.size();
    assert_eq!(size, recovery.records + 1);
    for (entry, index) in reader.entries(0..size).zip(0..) {
        assert_eq!(entry.unwrap(), (index, record(index)));
    }
    let kept = before.map(|note| Checkpoint::verify(&note, &verifier).unwrap());
    let report = reader.verify(kept.as_ref(), &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, [], "crash after step {at}");
    assert_eq!((report.covered, report.unfinished_bytes), (size, 0));
    if let Some(kept) = kept {
        let proof = reader.consistency(kept.size(), size).unwrap();
        let (old, new) = ((kept.size(), kept.root()), (size, report.root.unwrap()));
        check_consistency(&proof, old, new).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn nothing_acknowledged_is_lost_in_a_crash(
        records in 1u64..700, ahead in 0u64..600, at: prop::sample::Index, luck: Vec<u8>,
    ) {
        let mut run = run(records, ahead);
        let at = at.index(run.steps.len() + 1);
        let mut luck = luck.into_iter().chain(std::iter::repeat(0)).cycle();
        crash(&mut run, at, || luck.next().unwrap());
    }
}

#[test]
fn a_crash_at_every_step_of_the_first_records_loses_nothing() {
    for ahead in [0, 200] {
        let mut run = run(20, ahead);
        for at in 0..=run.steps.len() {
            for luck in [0, 130, 255] {
                run.names_now.clear();
                crash(&mut run, at, || luck);
            }
        }
    }
}

/// A log of 300 records of which the last three groups are in the journal only.
fn unpublished() -> (tempfile::TempDir, PathBuf, Vec<u64>) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("log");
    let runtime = runtime();
    let (log, _) = AuditLog::open(&dir, options(home.path())).unwrap();
    runtime.block_on(async {
        for index in 0..300 {
            log.append(record(index)).await.unwrap();
        }
        log.close().await;
    });
    let never = Options {
        publish_every: Duration::from_secs(3600),
        ..options(home.path())
    };
    let (log, _) = AuditLog::open(&dir, never).unwrap();
    let journal = || {
        std::fs::read_dir(dir.join("journal"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path()
    };
    let path = journal();
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    // The first group after the start is published at once, and this copy is made before the rest is.
    runtime.block_on(log.append(record(300))).unwrap();
    while log.checkpoint().unwrap().size() < 301 {
        std::thread::sleep(Duration::from_millis(1));
    }
    ends.push(std::fs::metadata(&path).unwrap().len());
    for index in 301..304 {
        runtime.block_on(log.append(record(index))).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    let copy = tempfile::tempdir().unwrap();
    copy_all(home.path(), copy.path());
    runtime.block_on(log.close());
    let path = copy.path().join(path.strip_prefix(home.path()).unwrap());
    (copy, path, ends)
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy_all(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

fn open_copy(home: &Path) -> Result<crate::Recovery, AuditError> {
    let copy = tempfile::tempdir().unwrap();
    copy_all(home, copy.path());
    let dir = copy.path().join("log");
    let (log, recovery) = AuditLog::open(&dir, options(copy.path()))?;
    let reader = Reader::open(&dir).unwrap();
    for (entry, index) in reader.entries(0..recovery.records).zip(0..) {
        assert_eq!(entry.unwrap(), (index, record(index)));
    }
    runtime().block_on(log.close());
    Ok(recovery)
}

#[test]
fn a_journal_cut_at_any_byte_keeps_every_whole_group() {
    let (home, path, ends) = unpublished();
    let whole = std::fs::read(&path).unwrap();
    for length in (ends[0] as usize..=whole.len()).rev() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let recovery = open_copy(home.path()).unwrap();
        let groups = ends.iter().filter(|end| **end <= length as u64).count() as u64;
        // Record 300 is in the tiles.
        assert_eq!(recovery.records, (299 + groups).max(301), "{length}");
        let last = ends.iter().rfind(|end| **end <= length as u64).unwrap();
        // Zeros at the end could be room for more just as well, and are not counted.
        let torn = &whole[*last as usize..length];
        let torn = torn
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last as u64 + 1);
        assert_eq!(recovery.torn_bytes, torn);
    }
}

#[test]
fn a_changed_byte_in_the_journal_is_a_tear_only_in_the_last_group() {
    let (home, path, ends) = unpublished();
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).filter(|at| *at < 60 || at % 3 == 0) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, bytes).unwrap();
        let opened = open_copy(home.path());
        let at = at as u64;
        if at >= ends[3] {
            let recovery = opened.unwrap();
            assert_eq!(
                (recovery.records, recovery.torn_bytes),
                (303, ends[4] - ends[3])
            );
        } else if (ends[0]..ends[1]).contains(&at) {
            assert_eq!(opened.unwrap().records, 304, "the tiles have that record");
        } else {
            let Err(AuditError::Damaged(damage)) = opened else {
                panic!("{at}: not refused")
            };
            assert!(damage.file.starts_with("journal/"), "{damage}");
        }
    }
}

#[test]
fn damage_in_what_the_checkpoint_covers_is_refused_and_named() {
    let (home, _, _) = unpublished();
    for (file, index) in [
        ("tile/entries/000", Some("record 1:")),
        ("tile/0/000", Some("record 0:")),
        ("tile/1/000.p/1", None),
        ("checkpoint", None),
    ] {
        let path = home.path().join("log").join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[26] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let Err(AuditError::Damaged(damage)) = open_copy(home.path()) else {
            panic!("{file}")
        };
        assert_eq!(damage.file, file);
        assert!(
            index.is_none_or(|index| damage.what.starts_with(index)),
            "{damage}"
        );
        std::fs::remove_file(&path).unwrap();
        let opened = open_copy(home.path());
        assert!(
            matches!(opened, Err(AuditError::Damaged(_))),
            "{file} missing: {opened:?}"
        );
        std::fs::write(&path, whole).unwrap();
    }
    std::fs::remove_dir_all(home.path().join("log/journal")).unwrap();
    assert!(
        open_copy(home.path())
            .unwrap_err()
            .to_string()
            .contains("journal: it is missing")
    );
}
