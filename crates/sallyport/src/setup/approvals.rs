//! What `[approvals]` must be beyond its format.

use model::config::Config;

use super::remarks::Remarks;

/// Checks the section.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let approvals = &config.approvals;
    let times = [
        ("wait_seconds", approvals.wait_seconds),
        ("valid_seconds", approvals.valid_seconds),
    ];
    for (name, value) in times {
        if !(10..=7 * 86_400).contains(&value) {
            remarks.mistake(
                &["approvals", name],
                format!("`{name}` is {value}; it must be between 10 seconds and seven days"),
                "leave it out to have the default",
            );
        }
    }
    let counts = [
        ("waiting", approvals.waiting, 10_000),
        ("waiting_per_agent", approvals.waiting_per_agent, 1_000),
        ("waiting_per_task", approvals.waiting_per_task, 100),
        ("requests_per_task", approvals.requests_per_task, 1_000),
    ];
    for (name, value, most) in counts {
        if !(1..=most).contains(&value) {
            remarks.mistake(
                &["approvals", name],
                format!("`{name}` is {value}; it must be 1 to {most}, so that people can read what waits"),
                "leave it out to have the default",
            );
        }
    }
    let scores = [
        ("changes_at_risk", approvals.changes_at_risk),
        ("all_at_risk", approvals.all_at_risk),
    ];
    for (name, value) in scores {
        if value.is_some_and(|value| !(1..=100).contains(&value)) {
            remarks.mistake(
                &["approvals", name],
                format!("`{name}` is a score from 1 to 100"),
                "leave it out, and no score asks for a person",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::messages;

    fn mistakes(lines: &str) -> usize {
        messages(&format!("[approvals]\n{lines}\n"), check).len()
    }

    #[test]
    fn limits_are_those_that_people_can_live_with() {
        assert_eq!(mistakes("wait_seconds = 600\nall_at_risk = 100"), 0);
        for wrong in [
            "wait_seconds = 1",
            "valid_seconds = 9999999",
            "waiting_per_task = 0",
            "waiting_per_task = 500",
            "requests_per_task = 0",
            "changes_at_risk = 0",
            "all_at_risk = 101",
        ] {
            assert_eq!(mistakes(wrong), 1, "{wrong}");
        }
    }
}
