//! The playbooks that come with the program.

/// A playbook that comes with the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bundled {
    /// What it is called on the command line and in the configuration.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// All of them, by name.
pub const ALL: [Bundled; 5] = [
    Bundled {
        name: "credential-theft",
        text: include_str!("../playbooks/credential-theft.json"),
    },
    Bundled {
        name: "model-misbehaviour",
        text: include_str!("../playbooks/model-misbehaviour.json"),
    },
    Bundled {
        name: "prompt-injection",
        text: include_str!("../playbooks/prompt-injection.json"),
    },
    Bundled {
        name: "scope-violation",
        text: include_str!("../playbooks/scope-violation.json"),
    },
    Bundled {
        name: "tool-poisoning",
        text: include_str!("../playbooks/tool-poisoning.json"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::Modes;
    use crate::playbook::{Playbook, procedure};
    use crate::run::{About, Run, State};

    #[test]
    fn each_is_sound_and_reads_as_a_procedure() {
        for bundled in ALL {
            let playbook = Playbook::parse(bundled.text)
                .unwrap_or_else(|wrong| panic!("{}: {wrong:?}", bundled.name));
            let text = procedure::of(&playbook, bundled.name, &Modes::default());
            assert!(text.contains("1. ") && text.contains("[ ]"), "{text}");
            assert!(!text.contains("__") && !text.contains("action--"), "{text}");
        }
    }

    #[test]
    fn each_comes_to_its_end_whatever_is_known() {
        let full = About {
            incident: Some("7".to_owned()),
            agent: Some("triage".parse().unwrap()),
            task: Some("task_00000000000070008000000000000000".parse().unwrap()),
            server: Some("files".parse().unwrap()),
            tool: Some("read".to_owned()),
            segment: Some("core".parse().unwrap()),
            severity: None,
            summary: Some("Something \u{1b}[2Jodd".to_owned()),
        };
        for bundled in ALL {
            let playbook = Playbook::parse(bundled.text).unwrap();
            for severity in ["", "low", "high", "critical"] {
                for mut about in [About::default(), full.clone()] {
                    about.severity = (!severity.is_empty()).then(|| severity.to_owned());
                    let now = jiff::Timestamp::UNIX_EPOCH;
                    let (id, by) = ("r".to_owned(), "operator".to_owned());
                    let mut run = Run::begin(id, bundled.name, &playbook, about, by, true, now);
                    run.go_on(&playbook, &Modes::default(), now);
                    assert_eq!(run.state, State::Done, "{} {run:?}", bundled.name);
                    assert!(!run.visits.is_empty());
                }
            }
        }
    }
}
