//! What people write.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use monitor::content::{Canaries, Limits, Place, Policy, RuleSet, Scanner};
use response::playbook::condition::Condition;
use response::playbook::procedure;
use response::run::About;
use response::{Modes, Playbook, Run};

use crate::text;

/// The configuration and templates.
pub fn configuration(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = model::config::Config::parse(Path::new("sallyport.toml"), text);
    let name = model::TemplateName::parse("t").expect("a label");
    if let Ok(template) = model::Template::parse(name, Path::new("t.toml"), text) {
        let _ = template.fill(&Default::default());
    }
}

/// Cedar: compiled or refused with places that lie within it.
pub fn policies(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let sources = [(PathBuf::from("a.cedar"), text.to_owned())];
    if let Err(mistakes) = policy::Policies::compile(&sources) {
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            if let Some(span) = mistake.span {
                assert!(span.end <= text.len().max(span.start));
            }
        }
    }
}

/// Rules of detectors: whatever an operator's file holds, it is refused with a reason or it works.
pub fn detector_rules(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut set = RuleSet::default();
    if set.add(text).is_ok()
        && let Ok(scanner) = Scanner::new(set, Limits::default())
    {
        let _ = scanner.scan(
            text,
            Place::Result,
            &Canaries::default(),
            &Policy::default(),
        );
    }
}

/// Playbooks: whatever is read is sound enough to be run dry to an end, and to be read aloud.
pub fn playbook(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = Condition::parse(text);
    let Ok(playbook) = Playbook::parse(text) else {
        return;
    };
    let _ = procedure::of(&playbook, "fuzz", &Modes::default());
    let now = Timestamp::UNIX_EPOCH;
    let (id, by) = ("run".to_owned(), "fuzz".to_owned());
    let mut run = Run::begin(id, "fuzz", &playbook, About::default(), by, true, now);
    run.go_on(&playbook, &Modes::default(), now);
    assert!(run.state.is_over(), "a dry run waits for nobody");
}

/// OpenAPI documents: their operations are routes that are written as they are read.
pub fn openapi(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    for route in web::openapi::routes(text).unwrap_or_default() {
        let again = web::routes::Route::parse(&route.name());
        assert_eq!(again.as_ref(), Ok(&route));
    }
}
