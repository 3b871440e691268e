//! Metrics of the watch.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;

use gateway::metrics::Metrics;
use model::inspection::Severity;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

type Count = Counter<u64, AtomicU64>;
type Level = Gauge<u64, AtomicU64>;

/// Most rules that are counted one by one. Operators write some of them, so their number is theirs.
const RULES: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    rule: String,
    severity: &'static str,
}

/// What is counted and measured.
#[derive(Default)]
pub(super) struct Meters {
    findings: Family<Kind, Count>,
    rules: Mutex<BTreeSet<String>>,
    pub(super) suppressed: Count,
    pub(super) unrecorded: Count,
    pub(super) unreadable: Count,
    pub(super) followed: Count,
    pub(super) incidents: Count,
    pub(super) lag: Level,
    pub(super) left_out: Level,
    pub(super) lost: Level,
    pub(super) open: Level,
    pub(super) baselines: Level,
}

impl Meters {
    pub(super) fn registered(metrics: &Metrics) -> Self {
        let meters = Self::default();
        metrics.register(|registry| {
            let counters = [
                ("findings_suppressed", "Findings that were suppressed", &meters.suppressed),
                (
                    "findings_unrecorded",
                    "Findings that are only counted in their incident, since there were too many",
                    &meters.unrecorded,
                ),
                (
                    "follower_unreadable",
                    "Records of the log that could not be read by the follower",
                    &meters.unreadable,
                ),
                ("follower_records", "Records of the log that were followed", &meters.followed),
                ("incidents", "Incidents that began", &meters.incidents),
            ];
            registry.register(
                "findings",
                "Findings by rule and severity",
                meters.findings.clone(),
            );
            for (name, help, counter) in counters {
                registry.register(name, help, counter.clone());
            }
            let levels = [
                (
                    "follower_lag_records",
                    "Records of the log that were not followed yet",
                    &meters.lag,
                ),
                (
                    "follower_left_out",
                    "Records that found no room in the follower's queue and were read from the disk",
                    &meters.left_out,
                ),
                (
                    "findings_lost",
                    "Findings of inspection that found no room in its queue",
                    &meters.lost,
                ),
                ("incidents_open", "Incidents that nobody has dealt with", &meters.open),
                (
                    "baselines",
                    "Pairs of an agent and a template whose behaviour is known",
                    &meters.baselines,
                ),
            ];
            for (name, help, level) in levels {
                registry.register(name, help, level.clone());
            }
        });
        meters
    }

    pub(super) fn finding(&self, rule: &str, severity: Severity) {
        let rule = {
            let mut rules = self.rules.lock();
            if rules.len() < RULES && !rules.contains(rule) {
                rules.insert(rule.to_owned());
            }
            if rules.contains(rule) { rule } else { "other" }
        };
        self.findings
            .get_or_create(&Kind {
                rule: rule.to_owned(),
                severity: severity.as_str(),
            })
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_without_end_are_counted_together() {
        let metrics = Metrics::default();
        let meters = Meters::registered(&metrics);
        for n in 0..RULES + 40 {
            meters.finding(&format!("rule-{n}"), Severity::Low);
        }
        let text = metrics.text();
        let line = r#"sallyport_findings_total{rule="other",severity="low"} 40"#;
        assert!(text.lines().any(|known| known == line), "{text}");
    }
}
