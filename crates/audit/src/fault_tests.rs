//! A disk that fails (R4): nothing is acknowledged that is not durable, nobody is left hanging, and
//! the service resumes by itself.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, RealDisk};
use crate::{AuditError, AuditLog, Options, Reader};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    Create,
    Append,
    Sync,
    SyncDir,
    Rename,
}

/// What fails: an operation on paths that contain a text.
#[derive(Default)]
struct Faults {
    failing: Mutex<Option<(Point, &'static str)>>,
    hits: AtomicUsize,
}

impl Faults {
    fn check(&self, point: Point, path: &Path) -> io::Result<()> {
        match *self.failing.lock() {
            Some((fails, place)) if fails == point && path.to_string_lossy().contains(place) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                let code = if point == Point::Append { 28 } else { 5 }; // ENOSPC, EIO
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(()),
        }
    }

    fn set(&self, failing: Option<(Point, &'static str)>) {
        *self.failing.lock() = failing;
    }
}

struct FaultyDisk(Arc<Faults>);

struct FaultyFile {
    file: Box<dyn DiskFile>,
    path: std::path::PathBuf,
    faults: Arc<Faults>,
    broken: bool,
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.check(Point::Create, path)?;
        let file = RealDisk.create(path)?;
        let faults = Arc::clone(&self.0);
        Ok(Box::new(FaultyFile {
            file,
            path: path.to_owned(),
            faults,
            broken: false,
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.check(Point::Rename, to)?;
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.check(Point::SyncDir, path)?;
        RealDisk.sync_dir(path)
    }
}

impl DiskFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        assert!(!self.broken, "a file is written after its sync failed");
        if let Err(error) = self.faults.check(Point::Append, &self.path) {
            self.broken = true;
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        assert!(!self.broken, "a sync is believed after one that failed");
        if let Err(error) = self.faults.check(Point::Sync, &self.path) {
            self.broken = true;
            return Err(error);
        }
        self.file.sync()
    }
}

fn options(home: &Path) -> Options {
    Options {
        publish_every: Duration::from_millis(5),
        retry_first: Duration::from_millis(5),
        retry_most: Duration::from_millis(20),
        ..Options::new("example.org/audit", home.join("log.key"))
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn open(home: &Path) -> (Arc<AuditLog>, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    let disk = Arc::new(FaultyDisk(Arc::clone(&faults)));
    let (log, _) = AuditLog::open_on(disk, &home.join("log"), options(home)).unwrap();
    (log, faults)
}

/// The journal fails at each of its operations, is refused meanwhile, and resumes.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_fails_closed_and_resumes() {
    for point in [Point::Append, Point::Sync] {
        for also in [None, Some(Point::Create), Some(Point::SyncDir)] {
            let home = tempfile::tempdir().unwrap();
            let (log, faults) = open(home.path());
            assert_eq!(log.append("0").await.unwrap(), 0);
            faults.set(Some((point, "log/journal")));
            let failed = log.append("1").await;
            assert!(
                matches!(&failed, Err(AuditError::Unavailable(reason)) if reason.contains("error")),
                "{failed:?}"
            );
            assert!(matches!(log.health(), Err(AuditError::Unavailable(_))));
            if let Some(also) = also {
                faults.set(Some((also, "log/journal")));
            }
            let begun = Instant::now();
            for _ in 0..100 {
                let refused = log.append("refused").await;
                assert!(matches!(refused, Err(AuditError::Unavailable(_))));
            }
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "refusals must be quick"
            );
            log.submit("2").unwrap();
            let hits = faults.hits.load(Ordering::Relaxed);
            eventually("it is tried again", || {
                faults.hits.load(Ordering::Relaxed) > hits
            })
            .await;
            assert_eq!(log.size(), 1);

            faults.set(None);
            eventually("it resumes", || log.health().is_ok() && log.size() >= 3).await;
            assert_eq!(log.append("3").await.unwrap(), 3);
            log.close().await;
            let reader = Reader::open(&home.path().join("log")).unwrap();
            let entries: Vec<Bytes> = reader.last(9).map(|entry| entry.unwrap().1).collect();
            assert_eq!(entries, ["0", "1", "2", "3"], "{point:?} {also:?}");
            assert_eq!(reader.verify(None, &mut |_, _| {}).unwrap().problems, []);
        }
    }
}

/// Tiles and checkpoints fail at each of their operations: records stay durable, health tells it,
/// and it resumes.
#[tokio::test(flavor = "multi_thread")]
async fn tiles_that_cannot_be_written_are_reported_and_caught_up() {
    for fault in [
        (Point::Create, "log/tmp"),
        (Point::Append, "log/tmp"),
        (Point::Sync, "log/tmp"),
        (Point::Rename, "log/tile/0"),
        (Point::Rename, "entries"),
        (Point::Rename, "log/checkpoint"),
        (Point::SyncDir, "log/tile"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("log");
        let (log, faults) = open(home.path());
        faults.set(Some(fault));
        for index in 0..300 {
            assert_eq!(
                log.append(Bytes::from(index.to_string())).await.unwrap(),
                index
            );
        }
        eventually("it is reported", || log.health().is_err()).await;
        assert_eq!(log.checkpoint().unwrap().size(), 0, "{fault:?}");
        let reader = Reader::open(&dir).unwrap();
        assert_eq!(
            reader.entries(0..300).filter(|entry| entry.is_ok()).count(),
            300
        );
        faults.set(None);
        eventually("it is caught up", || {
            log.health().is_ok() && log.checkpoint().unwrap().size() == 300
        })
        .await;
        assert_eq!(
            Reader::open(&dir)
                .unwrap()
                .verify(None, &mut |_, _| {})
                .unwrap()
                .problems,
            []
        );
        log.close().await;
        assert_eq!(std::fs::read_dir(dir.join("tmp")).unwrap().count(), 0);
    }
}

/// The journal does not grow for ever while tiles cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_is_too_large_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let disk = Arc::new(FaultyDisk(Arc::clone(&faults)));
    let options = Options {
        backlog_bytes: 20_000,
        ..options(home.path())
    };
    let (log, _) = AuditLog::open_on(disk, &home.path().join("log"), options).unwrap();
    faults.set(Some((Point::Sync, "log/tmp")));
    let mut written = 0;
    let refused = loop {
        match log.append(vec![b'x'; 1000]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the backlog is not bounded");
    };
    assert!(matches!(refused, AuditError::Unavailable(_)));
    faults.set(None);
    eventually("it resumes", || log.health().is_ok()).await;
    log.append(Bytes::new()).await.unwrap();
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_log_that_cannot_be_written_ends() {
    let home = tempfile::tempdir().unwrap();
    let (log, faults) = open(home.path());
    faults.set(Some((Point::Append, "log/journal")));
    log.submit("lost").unwrap();
    tokio::time::timeout(Duration::from_secs(10), log.close())
        .await
        .unwrap();
    assert!(matches!(log.append("x").await, Err(AuditError::Closed)));
    assert!(matches!(log.submit("x"), Err(AuditError::Closed)));
}
