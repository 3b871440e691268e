use super::*;
use jiff::Timestamp;
use std::os::unix::fs::PermissionsExt;

fn task(n: u8) -> TaskId {
    TaskId::new(Timestamp::UNIX_EPOCH, [n; 10])
}

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<Journals> {
        self.open_with(JournalLimits::default())
    }

    fn open_with(&self, limits: JournalLimits) -> Arc<Journals> {
        Journals::open(
            &self.0.path().join("ledgers"),
            &self.0.path().join("vault.key"),
            limits,
        )
        .unwrap()
    }

    fn path(&self, n: u8) -> PathBuf {
        self.0
            .path()
            .join("ledgers")
            .join(format!("{}{SUFFIX}", task(n)))
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.0.path().join("ledgers"))
            .unwrap()
            .count()
    }
}

fn texts(kept: &KeptEntries) -> Vec<&str> {
    let texts = kept.entries.iter();
    texts
        .map(|entry| std::str::from_utf8(entry).unwrap())
        .collect()
}

fn write(journals: &Journals, n: u8, entries: &[&str]) {
    for entry in entries {
        assert!(journals.append(task(n), entry.as_bytes().to_vec()));
    }
}

#[test]
fn what_was_handed_over_is_there_again_and_nothing_is_in_clear() {
    let home = Home::new();
    let journals = home.open();
    write(&journals, 1, &["ann@corp.example", "two"]);
    assert_eq!(
        texts(&journals.read(task(1)).unwrap()),
        ["ann@corp.example", "two"]
    );
    journals.close();
    assert!(!journals.append(task(1), b"late".to_vec()));
    assert!(matches!(journals.read(task(1)), Err(VaultError::Closed)));
    let bytes = std::fs::read(home.path(1)).unwrap();
    assert!(!bytes.windows(4).any(|part| part == b"corp"));
    let mode = std::fs::metadata(home.path(1))
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    // Appending goes on behind what is there, read before or not.
    let journals = home.open();
    write(&journals, 1, &["three"]);
    let kept = journals.read(task(1)).unwrap();
    assert_eq!(
        (texts(&kept), kept.damage),
        (vec!["ann@corp.example", "two", "three"], None)
    );
}

#[test]
fn a_journal_ends_with_its_task() {
    let home = Home::new();
    let journals = home.open();
    write(&journals, 1, &["one"]);
    write(&journals, 2, &["two"]);
    write(&journals, 3, &["three"]);
    journals.destroy(task(1));
    assert!(journals.read(task(1)).unwrap().entries.is_empty());
    assert!(!home.path(1).exists());
    journals.keep_only(BTreeSet::from([task(3)]));
    assert_eq!(texts(&journals.read(task(3)).unwrap()), ["three"]);
    assert_eq!(home.files(), 1);
}

#[test]
fn whatever_is_changed_in_the_file_only_loses_entries() {
    let home = Home::new();
    let journals = home.open();
    write(&journals, 1, &["one", "two", "three"]);
    journals.close();
    let whole = std::fs::read(home.path(1)).unwrap();
    let all = ["one", "two", "three"];
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(home.path(1), &changed).unwrap();
        let kept = home.open().read(task(1)).unwrap();
        assert!(kept.damage.is_some(), "{at}");
        assert!(
            kept.entries.len() < 3 && all.starts_with(&texts(&kept)),
            "{at}"
        );
    }
    for cut in 0..whole.len() {
        std::fs::write(home.path(1), &whole[..cut]).unwrap();
        let kept = home.open().read(task(1)).unwrap();
        assert!(
            kept.entries.len() < 3 && all.starts_with(&texts(&kept)),
            "{cut}"
        );
        // It can be written to again, behind what was left.
        let left = kept.entries.len();
        let journals = home.open();
        write(&journals, 1, &["four"]);
        let kept = journals.read(task(1)).unwrap();
        assert_eq!((kept.entries.len(), kept.damage), (left + 1, None), "{cut}");
    }
}

#[test]
fn an_entry_stands_only_where_it_was_written() {
    let home = Home::new();
    let journals = home.open();
    write(&journals, 1, &["aaa", "bbb", "ccc"]);
    write(&journals, 2, &["xxx", "yyy"]);
    journals.close();
    let (one, two) = (
        std::fs::read(home.path(1)).unwrap(),
        std::fs::read(home.path(2)).unwrap(),
    );
    let (key, frame) = (crate::secret::SEALED_KEY, 4 + 28 + 3);
    let part = |at: usize| &one[key + at * frame..key + (at + 1) * frame];
    let without_the_middle = [&one[..key], part(0), part(2)].concat();
    let twice = [&one[..key], part(0), part(0)].concat();
    let swapped = [&one[..key], part(1), part(0)].concat();
    let of_another = [&one[..key], &two[key..]].concat();
    for (file, left, damage) in [
        (without_the_middle, 1, Damage::Changed),
        (twice, 1, Damage::Changed),
        (swapped, 0, Damage::Changed),
        (of_another, 0, Damage::Changed),
        (two.clone(), 0, Damage::Foreign),
    ] {
        std::fs::write(home.path(1), file).unwrap();
        let kept = home.open().read(task(1)).unwrap();
        assert_eq!((kept.entries.len(), kept.damage), (left, Some(damage)));
    }
    assert!(
        !home.path(1).exists(),
        "what is another task's is destroyed"
    );
    // Another vault key opens nothing.
    std::fs::remove_file(home.0.path().join("vault.key")).unwrap();
    let kept = home.open().read(task(2)).unwrap();
    assert_eq!(
        (kept.entries.len(), kept.damage),
        (0, Some(Damage::Foreign))
    );
}

#[test]
fn there_is_only_so_much() {
    let home = Home::new();
    let journals = home.open_with(JournalLimits {
        task: 400,
        total: 600,
    });
    for _ in 0..3 {
        write(&journals, 1, &[&"x".repeat(100)]);
        write(&journals, 2, &[&"y".repeat(100)]);
    }
    write(&journals, 1, &["small"]);
    let (one, two) = (
        journals.read(task(1)).unwrap(),
        journals.read(task(2)).unwrap(),
    );
    assert_eq!((one.entries.len(), two.entries.len()), (3, 1));
    assert_eq!(texts(&one)[2], "small");
    // What is destroyed makes room.
    journals.destroy(task(1));
    write(&journals, 2, &[&"y".repeat(100), &"y".repeat(100)]);
    assert_eq!(
        journals.read(task(2)).unwrap().entries.len(),
        2,
        "its own limit holds"
    );
    write(&journals, 3, &[&"z".repeat(100)]);
    assert_eq!(journals.read(task(3)).unwrap().entries.len(), 1);
    assert!(!journals.append(task(4), vec![0; WAITING + 1]));
}
