use super::*;
use audit::AuditLog;
use model::Rule;
use policy::{Policies, World};

struct Book {
    refusals: Refusals,
    audit: Arc<AuditLog>,
    dir: tempfile::TempDir,
}

fn book() -> Book {
    let dir = tempfile::tempdir().unwrap();
    let options = audit::Options::new("test.example.org/audit", dir.path().join("key"));
    let (audit, _) = AuditLog::open(&dir.path().join("log"), options).unwrap();
    let world = World::new(Arc::new(Policies::compile(&[]).unwrap()));
    Book {
        refusals: Refusals::new(Arc::new(Live::new(world, Arc::clone(&audit)))),
        audit,
        dir,
    }
}

impl Book {
    /// All refusals that are in the log, once it is closed.
    async fn written(self) -> Vec<(Timestamp, Refusal)> {
        self.audit.close().await;
        let reader = audit::Reader::open(&self.dir.path().join("log")).unwrap();
        let size = self.audit.size();
        let records = reader.entries(0..size).map(|entry| {
            let (_, bytes) = entry.unwrap();
            let record: Record = serde_json::from_slice(&bytes).unwrap();
            match record.event {
                Event::Refusal(refusal) => (record.time, *refusal),
                other => panic!("{other:?}"),
            }
        });
        records.collect()
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).unwrap()
}

fn denial(rule: Rule, reason: &str) -> Denial {
    Denial {
        rule,
        reason: reason.to_owned(),
        remedy: "none".to_owned(),
    }
}

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

fn sum(of: &[(Timestamp, Refusal)]) -> u64 {
    of.iter().map(|(_, refusal)| refusal.times).sum()
}

#[tokio::test]
async fn a_flood_is_written_as_counts_and_nothing_is_lost() {
    let book = book();
    let why = || denial(Rule::Unauthenticated, "no token");
    for n in 0..1_000 {
        book.refusals
            .note(at(n * 9 / 10), "/mcp/files", None, why());
    }
    book.refusals.note(at(1_100), "/mcp/files", None, why());
    let written = book.written().await;
    assert_eq!(sum(&written), 1_001);
    let (counts, single): (Vec<_>, Vec<_>) =
        written.into_iter().partition(|(_, one)| one.times > 1);
    assert_eq!(single.len(), PER_SECOND as usize + 1);
    let [(last, counted)] = &counts[..] else {
        panic!("{counts:?}");
    };
    assert_eq!(counted.times, 950);
    assert_eq!((counted.since, *last), (Some(at(45)), at(899)));
    assert_eq!(counted.denial, why());
    assert_eq!(counted.endpoint, "/mcp/files");
}

#[tokio::test]
async fn kinds_and_callers_are_counted_apart() {
    let book = book();
    let (one, other) = (agent("one"), agent("other"));
    for n in 0..600u16 {
        let (who, rule) = match n % 3 {
            0 => (Some(&one), Rule::RateLimited),
            1 => (Some(&other), Rule::RateLimited),
            _ => (None, Rule::Unauthenticated),
        };
        let whom = Whom {
            caller: None,
            agent: who,
            task: None,
        };
        book.refusals
            .note_of(at(0), "/mcp/files", &whom, denial(rule, "why"));
    }
    book.refusals.flush();
    let written = book.written().await;
    assert_eq!(sum(&written), 600);
    for who in [Some(&one), Some(&other), None] {
        let own: Vec<_> = written
            .iter()
            .filter(|(_, it)| it.agent.as_ref() == who)
            .cloned()
            .collect();
        assert_eq!(sum(&own), 200);
        assert_eq!(own.iter().filter(|(_, it)| it.times > 1).count(), 1);
    }
}

#[tokio::test]
async fn many_kinds_do_not_make_many_records_and_hide_no_agent() {
    let book = book();
    let (loud, quiet) = (agent("loud"), agent("quiet"));
    let note = |agent, reason: &str| {
        let whom = Whom {
            caller: Some("inst".into()),
            agent,
            task: None,
        };
        let why = denial(Rule::ProtocolViolation, reason);
        book.refusals.note_of(at(0), "/mcp/files", &whom, why);
    };
    for n in 0..5_000 {
        note(Some(&loud), &format!("odd {n}"));
        note(None, &format!("odd {n}"));
    }
    for _ in 0..7 {
        note(Some(&quiet), "odd");
    }
    book.refusals.flush();
    let written = book.written().await;
    assert_eq!(sum(&written), 10_007);
    assert!(
        written.len() <= PER_SECOND as usize + 2 * KINDS + 3,
        "{}",
        written.len()
    );
    let of_quiet: Vec<_> = written
        .iter()
        .filter(|(_, one)| one.agent.as_ref() == Some(&quiet))
        .cloned()
        .collect();
    assert_eq!(sum(&of_quiet), 7);
    assert!(written.iter().any(|(_, one)| one.endpoint == SEVERAL
        && one.agent.as_ref() == Some(&loud)
        && one.times > 4_000));
}

#[tokio::test]
async fn those_in_one_count_are_told_what_names_it() {
    let book = book();
    let triage = agent("triage");
    let whom = Whom {
        agent: Some(&triage),
        ..Whom::default()
    };
    let mut told = std::collections::HashMap::<_, u64>::new();
    for _ in 0..500 {
        let why = denial(Rule::RateLimited, "too fast");
        let id = book.refusals.note_named(at(0), "/mcp/files", &whom, why);
        *told.entry(id).or_default() += 1;
    }
    book.refusals.flush();
    let written = book.written().await;
    assert_eq!(written.len(), told.len());
    for (_, refusal) in written {
        assert_eq!(told[&refusal.decision.unwrap()], refusal.times);
    }
}

#[tokio::test(start_paused = true)]
async fn counts_are_written_without_anybody_asking() {
    let book = book();
    for _ in 0..200 {
        let why = denial(Rule::Unauthenticated, "no token");
        book.refusals.note(at(0), "/mcp/files", None, why);
    }
    tokio::time::sleep(2 * EACH).await;
    assert_eq!(sum(&book.written().await), 200);
}
