//! What `[monitor]` must be beyond its format.

use model::config::Config;

use super::remarks::Remarks;

/// Longest time that findings are kept in the store, in days.
const LONGEST_DAYS: u32 = 3_650;
/// Longest half-life of a score, in hours: 90 days.
const LONGEST_HALF_LIFE: u32 = 24 * 90;

/// Checks it.
pub(super) fn check(remarks: &mut Remarks<'_>, config: &Config) {
    let monitor = &config.monitor;
    let counts = [
        ("denials", monitor.denials, 1),
        ("approvals", monitor.approvals, 1),
        ("refusals", monitor.refusals, 1),
        ("spreading", monitor.spreading, 2),
    ];
    for (name, value, least) in counts {
        if !(least..=1_000_000).contains(&value) {
            remarks.mistake(
                &["monitor", name],
                format!("`{name}` is {value}; it must be at least {least} and at most a million"),
                "leave it out to have the default",
            );
        }
    }
    if !(1..=LONGEST_DAYS).contains(&monitor.keep_days) {
        remarks.mistake(
            &["monitor", "keep_days"],
            format!("`keep_days` must be between 1 and {LONGEST_DAYS}"),
            "leave it out to have 90 days; the audit log keeps the records for good",
        );
    }
    for (name, label) in &monitor.servers {
        let path = ["monitor", "servers", name.as_str()];
        if !config.servers.contains_key(name) {
            remarks.mistake(
                &path,
                format!("there is no server `{name}`"),
                "name one of `[servers]`, or remove this",
            );
        } else if !label.sensitive && !label.external {
            remarks.advice(
                &path,
                format!("nothing is said about `{name}`"),
                "set `sensitive` or `external`, or remove this",
            );
        }
    }
    let labels = || monitor.servers.values();
    let (sensitive, external) = (
        labels().any(|label| label.sensitive),
        labels().any(|label| label.external),
    );
    if sensitive != external {
        let missing = if sensitive { "external" } else { "sensitive" };
        remarks.advice(
            &["monitor", "servers"],
            format!("no server is `{missing}`, so no flow of sensitive data out will be seen"),
            "data is watched on its way from a `sensitive` server to an `external` one",
        );
    }
    let risk = &monitor.risk;
    if !(1..=LONGEST_HALF_LIFE).contains(&risk.half_life_hours) {
        remarks.mistake(
            &["monitor", "risk", "half_life_hours"],
            format!("`half_life_hours` must be between 1 and {LONGEST_HALF_LIFE}"),
            "leave it out to have 24",
        );
    }
    if risk.light_most > 99 {
        remarks.mistake(
            &["monitor", "risk", "light_most"],
            "`light_most` must be between 0 and 99",
            "leave it out to have 40",
        );
    } else if risk.light_most >= 70 {
        remarks.advice(
            &["monitor", "risk", "light_most"],
            "whoever can write what an agent reads can then drive up its score at will",
            "keep it below the threshold of your policies, such as 40",
        );
    }
    let points = &risk.points;
    let ordered = [
        ("info", points.info),
        ("low", points.low),
        ("medium", points.medium),
        ("high", points.high),
        ("critical", points.critical),
    ];
    for pair in ordered.windows(2) {
        let ((less, few), (more, many)) = (pair[0], pair[1]);
        if few > many {
            remarks.mistake(
                &["monitor", "risk", "points", more],
                format!("`{more}` findings have fewer points ({many}) than `{less}` ones ({few})"),
                "let points grow with the severity",
            );
        }
    }
    if ordered.iter().any(|(_, points)| *points > 1_000) {
        remarks.mistake(
            &["monitor", "risk", "points"],
            "more than 1000 points for one finding have no effect",
            "90 points are a score of 78",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::remarks::lines;

    fn found(text: &str) -> Vec<(usize, String)> {
        lines(text, check)
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(found(""), []);
    }

    #[test]
    fn mistakes_are_found_at_their_place() {
        let wrong = found(
            "[monitor]\ndenials = 0\nspreading = 1\nkeep_days = 0\n\
             [monitor.servers.nowhere]\nsensitive = true\n\
             [monitor.risk]\nhalf_life_hours = 0\nlight_most = 100\n\
             [monitor.risk.points]\nlow = 50\n",
        );
        let lines: Vec<usize> = wrong.iter().map(|(line, _)| *line).collect();
        for line in [3, 4, 5, 6, 9, 10] {
            assert!(lines.contains(&line), "line {line}: {wrong:?}");
        }
        assert!(
            wrong.iter().any(|(_, what)| what.contains("fewer points")),
            "{wrong:?}"
        );
    }

    #[test]
    fn labels_that_watch_nothing_are_told() {
        let advice = found(
            "[servers.payroll]\nurl = \"http://127.0.0.1:1/\"\n\
             [monitor.servers]\npayroll = { sensitive = true }\n",
        );
        assert!(
            advice
                .iter()
                .any(|(_, what)| what.contains("no server is `external`")),
            "{advice:?}"
        );
    }
}
