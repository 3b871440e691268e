//! The vault as a whole: what is kept, what is told, what a crash and a broken disk leave.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit::disk::{Disk, DiskFile, RealDisk};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use model::{AgentName, DecisionId, TaskId};
use tokio::sync::oneshot;

use crate::{Bundle, Kept, Limits, NotKept, Vault, VaultError};

const LIMITS: Limits = Limits {
    payload_bytes: 1 << 20,
    task_bytes: 4 << 20,
    agent_bytes: 8 << 20,
    total_bytes: 8 << 20,
};

fn task(n: u8) -> TaskId {
    TaskId::new(Timestamp::now(), [n; 10])
}

fn decision(n: u8) -> DecisionId {
    DecisionId::new(Timestamp::now(), [n; 10])
}

fn open(dir: &Path, limits: Limits) -> Arc<Vault> {
    Vault::open(&dir.join("vault"), &dir.join("vault.key"), limits).unwrap()
}

fn agent() -> AgentName {
    AgentName::parse("writer").unwrap()
}

async fn keep(vault: &Vault, task: TaskId, decision: DecisionId, text: &str) -> Vec<Kept> {
    keep_for(vault, agent(), task, decision, text).await
}

async fn keep_for(
    vault: &Vault,
    agent: AgentName,
    task: TaskId,
    decision: DecisionId,
    text: &str,
) -> Vec<Kept> {
    let (tell, told) = oneshot::channel();
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let request = vault.payload("request", &bytes, Some("a-hash".to_owned()));
    let mut answer = vault.capture();
    answer.push(b"an answer to ");
    answer.push(text.as_bytes());
    let payloads = vec![request, answer.into_payload("answer", None)];
    vault.submit(Bundle::new(task, agent, decision, payloads, move |kept| {
        let _ = tell.send(kept);
    }));
    told.await.unwrap()
}

fn texts(vault: &Vault, decision: &DecisionId) -> Vec<String> {
    let shown = vault.show(decision, None).unwrap();
    shown
        .iter()
        .map(|shown| String::from_utf8(shown.content.to_vec()).unwrap())
        .collect()
}

/// Whether a text stands in clear anywhere in a folder.
fn stands_in(dir: &Path, text: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return stands_in(&path, text);
        }
        let bytes = std::fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn what_is_told_to_be_kept_is_there_after_a_crash_and_nowhere_in_clear() {
    let home = tempfile::tempdir().unwrap();
    let vault = open(home.path(), LIMITS);
    let (work, at) = (task(1), decision(1));
    let kept = keep(&vault, work, at, "what was asked").await;
    assert_eq!(kept[0].part, "request");
    assert_eq!((kept[0].bytes, &kept[0].kept), (14, &Ok(14)));
    assert_eq!((kept[1].part, &kept[1].kept), ("answer", &Ok(27)));
    assert!(!stands_in(home.path(), "what was asked"));
    // As a crash leaves it: the files are copied while the segment is still open.
    let copy = tempfile::tempdir().unwrap();
    for folder in ["vault/segments", "vault/keys", "."] {
        let to = copy.path().join(folder);
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(home.path().join(folder)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
            }
        }
    }
    let again = open(copy.path(), LIMITS);
    let expected = ["what was asked", "an answer to what was asked"];
    for vault in [&vault, &again] {
        assert_eq!(texts(vault, &at), expected);
        let listed = vault.list(&work, 10).unwrap();
        let parts: Vec<&str> = listed.iter().map(|head| head.part.as_str()).collect();
        assert_eq!(parts, ["answer", "request"]);
        assert_eq!(listed[1].hash.as_deref(), Some("a-hash"));
        assert_eq!(vault.tasks(None, 10)[0].1.payloads, 2);
    }
    let one = again.show(&at, Some("answer")).unwrap();
    assert_eq!(one.len(), 1);
    let nothing = again.show(&decision(9), None).err().unwrap();
    assert!(matches!(nothing, VaultError::Nothing { .. }));
    vault.close().await;
    let kept = keep(&vault, work, at, "too late").await;
    assert_eq!(kept[0].kept, Err(NotKept::Closed));
}

#[tokio::test]
async fn destroying_a_tasks_key_destroys_its_payloads_and_no_others() {
    let home = tempfile::tempdir().unwrap();
    let vault = open(home.path(), LIMITS);
    let (first, second) = (task(1), task(2));
    keep(&vault, first, decision(1), "one").await;
    keep(&vault, second, decision(2), "two").await;
    let stranger = vault.destroy(task(3)).await;
    assert!(matches!(stranger, Err(VaultError::NothingOf { .. })));
    let at = vault.list(&first, 1).unwrap()[0].decision;
    vault.destroy(first).await.unwrap();
    let kept = keep(&vault, first, decision(3), "more of one").await;
    assert_eq!(kept[0].kept, Err(NotKept::Destroyed));
    vault.close().await;
    let again = open(home.path(), LIMITS);
    let gone = again.show(&at, None).err().unwrap();
    assert!(matches!(gone, VaultError::Destroyed { task } if task == first));
    let other = again.list(&second, 1).unwrap()[0].decision;
    assert_eq!(texts(&again, &other), ["two", "an answer to two"]);
    let states: Vec<bool> = again
        .tasks(None, 9)
        .iter()
        .map(|it| it.1.destroyed)
        .collect();
    assert_eq!(states.iter().filter(|destroyed| **destroyed).count(), 1);
    let kept = keep(&again, first, decision(4), "more of one").await;
    assert_eq!(kept[0].kept, Err(NotKept::Destroyed), "after a restart too");
}

#[tokio::test]
async fn what_is_over_a_limit_is_not_kept_and_that_is_told() {
    let home = tempfile::tempdir().unwrap();
    let limits = Limits {
        payload_bytes: 1_000,
        task_bytes: 3_000,
        agent_bytes: 4_500,
        total_bytes: 6_000,
    };
    let vault = open(home.path(), limits);
    let long = "x".repeat(1_500);
    let kept = keep(&vault, task(1), decision(1), &long).await;
    assert_eq!((kept[0].bytes, &kept[0].kept), (1_500, &Ok(1_000)));
    assert_eq!((kept[1].bytes, &kept[1].kept), (1_513, &Ok(1_000)));
    let first = vault.tasks(None, 1)[0].0;
    assert_eq!(vault.would_keep(&first, &agent()), Err(NotKept::TaskFull));
    let kept = keep(&vault, first, decision(2), &long).await;
    assert_eq!(kept[0].kept, Err(NotKept::TaskFull));
    assert_eq!(vault.would_keep(&task(2), &agent()), Ok(()));
    let kept = keep(&vault, task(2), decision(3), &long).await;
    let outcomes: Vec<_> = kept.iter().map(|kept| kept.kept.clone()).collect();
    assert_eq!(outcomes, [Ok(1_000), Err(NotKept::AgentFull)]);
    let other = AgentName::parse("other").unwrap();
    let kept = keep_for(&vault, other, task(3), decision(4), &long).await;
    let outcomes: Vec<_> = kept.iter().map(|kept| kept.kept.clone()).collect();
    assert_eq!(outcomes, [Ok(1_000), Err(NotKept::VaultFull)]);
    vault.set_limits(LIMITS);
    assert_eq!(vault.would_keep(&first, &agent()), Ok(()));
}

#[tokio::test]
async fn what_is_old_is_removed_with_the_keys_that_nothing_needs() {
    let home = tempfile::tempdir().unwrap();
    let vault = open(home.path(), LIMITS);
    keep(&vault, task(1), decision(1), "one").await;
    let past = Timestamp::now() - SignedDuration::from_hours(1);
    assert_eq!(vault.expire(past).await.unwrap().payloads, 0);
    let future = Timestamp::now() + SignedDuration::from_hours(1);
    let expired = vault.expire(future).await.unwrap();
    assert_eq!((expired.payloads, expired.tasks), (2, 1));
    assert!(vault.tasks(None, 9).is_empty());
    assert_eq!(vault.bytes(), 0);
    for folder in ["segments", "keys"] {
        let left = std::fs::read_dir(home.path().join("vault").join(folder)).unwrap();
        assert_eq!(left.count(), 0, "{folder}");
    }
    let kept = keep(&vault, task(1), decision(2), "again").await;
    assert_eq!(kept[0].kept, Ok(5));
}

/// A disk whose segments cannot be appended to while it is full.
struct Full(Arc<AtomicBool>);

struct FullFile(Box<dyn DiskFile>, Arc<AtomicBool>);

impl Disk for Full {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk.create(path)?;
        Ok(Box::new(FullFile(file, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
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
        RealDisk.sync_dir(path)
    }
}

impl DiskFile for FullFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            // Half of it is written, as on a real disk.
            self.0.append(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from_raw_os_error(28));
        }
        self.0.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_vault_recovers_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(Full(Arc::clone(&full)));
    let (dir, key) = (home.path().join("vault"), home.path().join("vault.key"));
    let vault = Vault::open_on(disk, &dir, &key, LIMITS).unwrap();
    let (before, between, after) = (decision(1), decision(2), decision(3));
    keep(&vault, task(1), before, "before").await;
    full.store(true, Ordering::Relaxed);
    let kept = keep(&vault, task(1), between, "between").await;
    assert!(matches!(&kept[0].kept, Err(NotKept::Failed(why)) if why.contains("space")));
    assert!(matches!(&kept[1].kept, Err(NotKept::Failed(_))));
    assert!(vault.fault().is_some());
    assert!(vault.would_keep(&task(1), &agent()).is_err());
    full.store(false, Ordering::Relaxed);
    let kept = keep(&vault, task(1), after, "after").await;
    assert_eq!(kept[0].kept, Ok(5));
    assert_eq!(vault.fault(), None);
    vault.close().await;
    let again = open(home.path(), LIMITS);
    for (at, text) in [(before, "before"), (after, "after")] {
        assert_eq!(texts(&again, &at)[0], text);
    }
    assert!(again.show(&between, None).is_err());
}

#[tokio::test]
async fn a_vault_is_of_no_use_without_its_key() {
    let home = tempfile::tempdir().unwrap();
    let vault = open(home.path(), LIMITS);
    let at = decision(1);
    keep(&vault, task(1), at, "one").await;
    vault.close().await;
    std::fs::remove_file(home.path().join("vault.key")).unwrap();
    let again = open(home.path(), LIMITS);
    let other = again.show(&at, None).err().unwrap();
    assert!(matches!(other, VaultError::OtherKey { .. }), "{other}");
}
