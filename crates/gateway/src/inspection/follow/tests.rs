use jiff::Timestamp;
use model::ServerName;
use model::inspection::Severity;
use monitor::content::{Canaries, Canary};
use proptest::prelude::*;
use serde_json::json;

use super::strand::WINDOW;
use super::*;
use crate::caller::Caller;
use crate::inspection::{Observed, Role, What};

const CANARY: &str = "kdhgnbvcqwrjpmkfhdgb";
/// A credential as a public service writes it, of nobody.
const SECRET: &str = "ghp_1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P7q8R";

/// An answer that is followed, with whoever asked.
struct Answer {
    caller: Caller,
    server: ServerName,
    following: Following,
    findings: tokio::sync::mpsc::Receiver<Observed>,
}

impl Answer {
    fn new() -> Self {
        let inspection = Arc::new(Inspection::default());
        let canary = Canary {
            text: CANARY.to_owned(),
            label: "row 17".to_owned(),
            minted_at: Timestamp::UNIX_EPOCH,
        };
        inspection.set_canaries(Canaries::watch(vec![canary]).unwrap());
        Self {
            caller: Caller::of_nobody(),
            server: "desk".parse().unwrap(),
            findings: inspection.sink().take().unwrap(),
            following: inspection.follow(),
        }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut Following, &About<'_>) -> R) -> R {
        let about = About {
            what: What::ModelAnswer,
            caller: &self.caller,
            server: &self.server,
            target: "m",
            decision: None,
        };
        act(&mut self.following, &about)
    }

    fn push(&mut self, place: [u64; 3], piece: &str) -> bool {
        self.with(|it, about| it.push(about, Spot(place), piece))
            .is_ok()
    }

    fn ends(&mut self) -> bool {
        self.with(Following::end).is_ok()
    }

    /// The rules of all findings so far.
    fn found(&mut self) -> Vec<String> {
        let mut rules = Vec::new();
        while let Ok(observed) = self.findings.try_recv() {
            rules.push(observed.finding.rule);
        }
        rules
    }
}

fn halves(text: &str) -> (&str, &str) {
    text.split_at(text.len() / 2)
}

#[test]
fn what_is_split_over_pieces_is_found_wherever_they_stand() {
    let (one, other) = halves(CANARY);
    let long = "and so on ".repeat(40);
    for pieces in [
        vec![([0, 0, 0], one), ([0, 0, 0], other)],
        // Two items, one behind the other.
        vec![([0, 0, 0], one), ([1, 0, 0], other)],
        // The second comes first.
        vec![([1, 0, 0], other), ([0, 0, 0], one)],
        // Something else comes in between.
        vec![([0, 0, 0], one), ([1, 0, 0], &long), ([0, 0, 0], other)],
        vec![
            ([0, 0, 0], one),
            ([1, 0, 0], &long),
            ([2, 0, 0], &long),
            ([0, 0, 0], other),
        ],
    ] {
        let mut answer = Answer::new();
        for (place, piece) in &pieces {
            assert!(answer.push(*place, piece), "it is not looked at yet");
        }
        assert!(!answer.ends(), "{pieces:?}");
        assert_eq!(answer.found(), ["canary"], "{pieces:?}");
    }
}

#[test]
fn a_long_text_is_looked_at_while_it_comes_and_across_borders() {
    for before in 0..30 {
        let mut answer = Answer::new();
        let fill = "word ".repeat(WINDOW / 5).split_off(before);
        let all = format!("{fill}{CANARY}{fill}{fill}");
        let mut stopped = false;
        for piece in all.as_bytes().chunks(7) {
            stopped |= !answer.push([0; 3], std::str::from_utf8(piece).unwrap());
        }
        assert!(stopped, "{before}");
    }
}

#[test]
fn one_thing_is_reported_once() {
    let mut answer = Answer::new();
    for _ in 0..400 {
        assert!(answer.push([0; 3], &format!("{SECRET} ")));
    }
    assert!(answer.ends() && answer.ends());
    let found = answer.found();
    assert_eq!(
        found
            .iter()
            .filter(|rule| rule.starts_with("secret-"))
            .count(),
        1,
        "{found:?}"
    );
}

#[test]
fn documents_go_on_with_what_came_at_their_place() {
    let sort = |name: &str, _: &str| match name {
        "text" => Role::Piece,
        _ => Role::Own,
    };
    let document = |text: &str| json!({ "id": "a", "text": text }).to_string();
    let mut answer = Answer::new();
    let next = |answer: &mut Answer, place: u64, text: &str| {
        let place = Some(Spot([place, 0, 0]));
        let document = document(text);
        answer.with(|it, about| it.document(about, place, document.as_bytes(), &sort))
    };
    let (one, other) = halves(SECRET);
    assert_eq!(next(&mut answer, 1, &format!("it is {one}")), Verdict::Pass);
    assert_eq!(next(&mut answer, 2, "something else"), Verdict::Pass);
    let Verdict::Redacted(out) = next(&mut answer, 1, &format!("{other} !")) else {
        panic!("the rest of it is taken out");
    };
    assert_eq!(String::from_utf8(out).unwrap(), document(" !"));
    let (one, other) = halves(CANARY);
    assert_eq!(next(&mut answer, 3, one), Verdict::Pass);
    assert!(
        matches!(next(&mut answer, 4, other), Verdict::Blocked(_)),
        "as it comes, it is one"
    );
}

#[test]
fn texts_that_came_in_pieces_are_known() {
    let mut answer = Answer::new();
    for piece in ["one ", "two ", "three"] {
        assert!(answer.push([0; 3], piece));
    }
    assert!(answer.push([1, 0, 0], "four"));
    assert!(!answer.following.knows("four"), "it was not looked at yet");
    assert!(answer.ends());
    let known = |answer: &Answer, text: &str| answer.following.knows(text);
    assert!(known(&answer, "one two three") && known(&answer, "four") && known(&answer, ""));
    assert!(!known(&answer, "one two thre") && !known(&answer, "one two threE"));
    answer.following.learn("five");
    assert!(known(&answer, "five"));
}

#[test]
fn what_is_kept_is_bounded() {
    let mut answer = Answer::new();
    for n in 0..2_000u64 {
        answer.following.learn(&n.to_string());
        assert!(answer.push([n % 500, n, 0], &"x".repeat(700)));
    }
    assert!(answer.ends());
    let kept = |strand: &Strand| {
        let own = strand.own.as_ref().map_or(0, |own| own.text.len());
        strand.head.len() + strand.tail.len() + own
    };
    assert!(answer.found().contains(&"not-all-scanned".to_owned()));
    let following = &answer.following;
    assert!(following.strands.len() <= PLACES && following.known.len() <= KNOWN);
    assert!(following.all.text.len() <= WINDOW + 700);
    assert!(
        following
            .strands
            .iter()
            .all(|it| kept(it) <= WINDOW + 2_000)
    );
}

#[test]
fn a_worse_finding_of_the_same_rule_is_reported_again() {
    let finding = |severity| Finding {
        rule: "x".to_owned(),
        severity,
        asi: None,
        atlas: None,
        subject: monitor::Subject::default(),
        evidence: None,
        explanation: String::new(),
    };
    let mut told = Told::default();
    assert!(told.is_new(&finding(Severity::Low)));
    assert!(!told.is_new(&finding(Severity::Low)));
    assert!(told.is_new(&finding(Severity::High)));
    assert!(!told.is_new(&finding(Severity::Low)));
    told.bytes += SAME;
    assert!(told.is_new(&finding(Severity::Low)), "it is another one");
}

proptest! {
    #[test]
    fn pieces_of_any_text_at_any_places(
        pieces in prop::collection::vec(("\\PC{0,40}", 0u64..4, any::<bool>()), 0..40),
    ) {
        let mut answer = Answer::new();
        let mut whole: BTreeMap<u64, String> = BTreeMap::new();
        for (piece, place, looked_at) in &pieces {
            let spot = Spot([*place, 0, 0]);
            let _ = answer.with(|it, about| match looked_at {
                true => it.push_looked_at(about, spot, piece),
                false => it.push(about, spot, piece),
            });
            whole.entry(*place).or_default().push_str(piece);
        }
        let _ = answer.ends();
        for text in whole.values() {
            prop_assert!(answer.following.knows(text));
        }
    }
}
