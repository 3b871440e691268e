//! What is written is read, whatever a crash or a damage leaves of it.

use super::*;
use audit::disk::RealDisk;
use model::DecisionId;
use proptest::prelude::*;

fn head(task: u8, second: i64) -> Head {
    let time = Timestamp::from_second(second).unwrap();
    Head {
        task: TaskId::new(Timestamp::UNIX_EPOCH, [task; 10]),
        agent: AgentName::parse("writer").unwrap(),
        decision: DecisionId::new(time, [task; 10]),
        part: "answer".to_owned(),
        time,
        bytes: 4,
        kept: 4,
        hash: None,
    }
}

/// A segment with these heads, and a body of `body` bytes each.
fn written(heads: &[Head], body: usize, finish: bool) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let mut writer =
        SegmentWriter::create(&RealDisk, dir.path(), 1, Timestamp::UNIX_EPOCH).unwrap();
    for head in heads {
        let text = serde_json::to_vec(head).unwrap();
        writer.append(head, &text, &vec![b'x'; body]).unwrap();
    }
    if finish {
        writer.finish().unwrap();
    } else {
        writer.sync().unwrap();
    }
    assert_eq!(numbers(dir.path()).unwrap(), [1]);
    std::fs::read(path(dir.path(), 1)).unwrap()
}

fn heads_in(bytes: &[u8]) -> Vec<Head> {
    let segment = Segment::of(bytes).unwrap();
    let segment = segment.as_ref().map(Segment::payloads);
    let found = segment.into_iter().flatten();
    found.map(|found| found.unwrap().head).collect()
}

#[test]
fn a_tally_says_what_counting_says() {
    let heads = [head(1, 5), head(2, 3), head(1, 9)];
    let (complete, torn) = (written(&heads, 10, true), written(&heads, 10, false));
    assert_eq!(heads_in(&complete), heads);
    assert_eq!(heads_in(&torn), heads);
    let content = |bytes: &[u8]| {
        let segment = Segment::of(bytes).unwrap().unwrap();
        segment.content().unwrap().unwrap()
    };
    let (tallied, counted) = (content(&complete), content(&torn));
    assert_eq!(tallied, counted);
    assert_eq!(tallied.first.as_second(), 3);
    assert_eq!(tallied.last.as_second(), 9);
    assert_eq!(tallied.tasks[&heads[0].task].payloads, 2);
    let segment = Segment::of(&complete[..]).unwrap().unwrap();
    assert!(segment.tally().unwrap().is_some());
    assert!(heads_in(&written(&[], 0, true)).is_empty());
}

#[test]
fn a_torn_end_is_left_out_and_damage_is_passed_over() {
    let heads = [head(1, 5), head(2, 6), head(3, 7)];
    let bytes = written(&heads, 50, false);
    for cut in 0..bytes.len() {
        let found = heads_in(&bytes[..cut]);
        assert_eq!(found, heads[..found.len()], "cut at {cut}");
    }
    let frame = (bytes.len() - HEADER as usize) / 3;
    let mut damaged = bytes.clone();
    damaged[HEADER as usize + frame + 20] ^= 1;
    assert_eq!(heads_in(&damaged), [heads[0].clone(), heads[2].clone()]);
}

proptest! {
    #[test]
    fn whatever_stands_in_a_file_nothing_panics(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400), at in 0_usize..600,
    ) {
        let mut good = written(&[head(1, 5), head(2, 6)], 8, true);
        let at = at.min(good.len());
        good.truncate(at);
        good.append(&mut bytes);
        let _ = heads_in(&good);
        if let Ok(Some(segment)) = Segment::of(&good[..]) {
            let _ = segment.content();
        }
    }
}
