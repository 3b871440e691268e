//! How far the process goes by itself: per act, and per playbook.

use std::collections::BTreeMap;

pub use model::config::Mode;

use crate::act::PERSON;

/// Which steps are carried out at once, which wait for a person, and which are only noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modes {
    /// What holds where nothing else is said, for what takes something away.
    pub default: Mode,
    /// By act; `PLAYBOOK/ACT` holds for one playbook only.
    pub by_act: BTreeMap<String, Mode>,
}

impl Modes {
    /// The mode of an act in a playbook. What takes nothing away is automatic unless said otherwise.
    #[must_use]
    pub fn of(&self, playbook: &str, act: &str, restricts: bool) -> Mode {
        let special = self.by_act.get(&format!("{playbook}/{act}"));
        let general = || self.by_act.get(act);
        match special.or_else(general) {
            Some(mode) => *mode,
            None if restricts => self.default,
            None => Mode::Automatic,
        }
    }

    /// The mode of a step for people: it waits for them, or is only noted.
    #[must_use]
    pub fn of_person(&self, playbook: &str) -> Mode {
        match self.of(playbook, PERSON, false) {
            Mode::ObserveOnly => Mode::ObserveOnly,
            _ => Mode::Automatic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_special_mode_holds() {
        let mut modes = Modes::default();
        assert_eq!(modes.of("p", "tasks.end", true), Mode::OnApproval);
        assert_eq!(modes.of("p", "notify", false), Mode::Automatic);
        modes.default = Mode::ObserveOnly;
        modes.by_act.insert("tasks.end".to_owned(), Mode::Automatic);
        modes
            .by_act
            .insert("p/tasks.end".to_owned(), Mode::OnApproval);
        assert_eq!(modes.of("p", "tasks.end", true), Mode::OnApproval);
        assert_eq!(modes.of("q", "tasks.end", true), Mode::Automatic);
        assert_eq!(modes.of("q", "server.disable", true), Mode::ObserveOnly);
        assert_eq!(modes.of_person("q"), Mode::Automatic);
    }
}
