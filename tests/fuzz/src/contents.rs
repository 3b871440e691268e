//! Contents: texts inside texts, and what the detectors make of them.

use std::sync::{Arc, LazyLock};

use model::inspection::{Inspection, PersonalData, Response};
use monitor::content::unwrap::{Bounds, unwrap as unwrapped};
use monitor::content::{Canaries, Place, Policy, Scanner};

use crate::text;

/// Texts inside texts: the bounds hold, and what is found lies in the text.
pub fn unwrap(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let bounds = Bounds {
        depth: 3,
        layers: 8,
        bytes: 1 << 16,
    };
    let found = unwrapped(text, bounds);
    assert!(found.layers.len() <= bounds.layers);
    let all: usize = found.layers.iter().map(|layer| layer.text.len()).sum();
    assert!(all <= bounds.bytes);
    for layer in &found.layers {
        assert!(text.get(layer.outer.0..layer.outer.1).is_some());
    }
}

/// Any text, by the rules that come with the program: what is to be taken out lies in the text, in order; without it
/// the rest is as it was; and with everything ignored, nothing is seen.
pub fn content(bytes: &[u8]) {
    static SCANNER: LazyLock<Arc<Scanner>> = LazyLock::new(Scanner::shared);
    static POLICIES: LazyLock<[Policy; 2]> = LazyLock::new(policies);
    let Some(text) = text(bytes) else { return };
    let none = Canaries::default();
    let [everything, nothing] = &*POLICIES;
    let scan = SCANNER.scan(text, Place::Result, &none, everything);
    let mut kept = String::new();
    let mut at = 0;
    for (start, end, instead) in &scan.redactions {
        assert!(at <= *start && start < end, "{:?}", scan.redactions);
        kept.push_str(
            text.get(at..*start)
                .expect("it begins at a character of the text"),
        );
        kept.push_str(instead);
        assert!(text.is_char_boundary(*end));
        at = *end;
    }
    kept.push_str(text.get(at..).expect("it ends in the text"));
    assert_eq!(scan.redact(text), kept);
    assert_eq!(scan.response == Response::Ignore, scan.findings.is_empty());
    let scan = SCANNER.scan(text, Place::Result, &none, nothing);
    assert!(scan.findings.is_empty() && scan.redactions.is_empty());
}

/// One that takes out everything that can be, and one that ignores everything.
fn policies() -> [Policy; 2] {
    let kinds = [
        PersonalData::Email,
        PersonalData::Phone,
        PersonalData::Iban,
        PersonalData::CreditCard,
        PersonalData::Ssn,
    ];
    let everything = Inspection {
        personal: kinds.map(|kind| (kind, Response::Redact)).into(),
        ..Inspection::default()
    };
    let ignored = Some(Response::Ignore);
    let nothing = Inspection {
        rules: Some(false),
        secrets: ignored,
        canaries: ignored,
        unscanned: ignored,
        ..Inspection::default()
    };
    [Policy::of(&everything), Policy::of(&nothing)]
}
