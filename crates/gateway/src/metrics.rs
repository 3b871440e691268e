//! Prometheus metrics of the pipeline.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use model::record::Ended;
use model::{Denial, ServerName};
use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of what happens on every call are compared without being copied into strings first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Permitted {
    server: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    server: Label,
    rule: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct How {
    how: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Whose {
    of: &'static str,
}

/// A server, or none that is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Label(Option<ServerName>);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        match &self.0 {
            Some(server) => server.as_str().encode(encoder),
            None => "unknown".encode(encoder),
        }
    }
}

type Count = Counter<u64, AtomicU64>;

/// The metrics of one process. Label values come from configuration and from closed sets, never
/// from what agents send, so that their number is bounded.
pub struct Metrics {
    registry: Mutex<Registry>,
    permitted: Family<Permitted, Count>,
    denied: Family<Refused, Count>,
    ended: Family<How, Count>,
    refused: Count,
    too_fast: Family<Whose, Count>,
    results_lost: Count,
    contents_not_kept: Count,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sallyport");
        let permitted = Family::default();
        let denied = Family::default();
        let ended = Family::default();
        let refused = Count::default();
        let too_fast = Family::default();
        let results_lost = Count::default();
        let contents_not_kept = Count::default();
        let seconds = Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        registry.register(
            "actions_permitted",
            "Actions permitted, by server",
            permitted.clone(),
        );
        registry.register(
            "actions_denied",
            "Actions denied, by server and rule",
            denied.clone(),
        );
        registry.register(
            "actions_ended",
            "Permitted actions, by how they ended",
            ended.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests that did not become an action",
            refused.clone(),
        );
        registry.register(
            "rate_limited",
            "What came too soon after others, by whose limit it was",
            too_fast.clone(),
        );
        registry.register(
            "results_lost",
            "Results of actions that could not be recorded",
            results_lost.clone(),
        );
        registry.register(
            "contents_not_kept",
            "Payloads that the vault could not keep; the records of their actions say why",
            contents_not_kept.clone(),
        );
        registry.register(
            "action_seconds",
            "From the intent record to the end of the answer",
            seconds.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            permitted,
            denied,
            ended,
            refused,
            too_fast,
            results_lost,
            contents_not_kept,
            seconds,
        }
    }
}

impl Metrics {
    /// Adds metrics of another part of the process.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// All metrics in the Prometheus text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("writing to a String cannot fail");
        text
    }

    pub(crate) fn permitted(&self, server: &ServerName) {
        self.permitted
            .get_or_create(&Permitted {
                server: Label(Some(server.clone())),
            })
            .inc();
    }

    /// `server` is none when it is not configured: its name comes from the agent.
    pub(crate) fn denied(&self, server: Option<&ServerName>, denial: &Denial) {
        self.denied
            .get_or_create(&Refused {
                server: Label(server.cloned()),
                rule: denial.rule.as_str(),
            })
            .inc();
    }

    pub(crate) fn ended(&self, ended: Ended, taken: Duration) {
        let how = match ended {
            Ended::Answered => "answered",
            Ended::UpstreamError => "upstream_error",
            Ended::UpstreamFailed => "upstream_failed",
            Ended::Cancelled => "cancelled",
            Ended::Cut => "cut",
            Ended::NotForwarded => "not_forwarded",
        };
        self.ended.get_or_create(&How { how }).inc();
        self.seconds.observe(taken.as_secs_f64());
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    /// Counts what came too soon, by whose limit it was: `task`, `parent`, `agent`, `control` or `source`.
    pub fn too_fast(&self, of: &'static str) {
        self.too_fast.get_or_create(&Whose { of }).inc();
    }

    pub(crate) fn contents_not_kept(&self, payloads: u64) {
        self.contents_not_kept.inc_by(payloads);
    }

    pub(crate) fn result_lost(&self) {
        self.results_lost.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Rule;

    #[test]
    fn names_that_agents_choose_are_no_labels() {
        let metrics = Metrics::default();
        let denial = Denial {
            rule: Rule::ServerNotGranted,
            reason: "r".to_owned(),
            remedy: "r".to_owned(),
        };
        let files = ServerName::parse("files").unwrap();
        metrics.denied(None, &denial);
        metrics.denied(Some(&files), &denial);
        metrics.permitted(&files);
        metrics.ended(Ended::Cut, Duration::from_millis(3));
        let text = metrics.text();
        for line in [
            r#"sallyport_actions_denied_total{server="unknown",rule="server_not_granted"} 1"#,
            r#"sallyport_actions_denied_total{server="files",rule="server_not_granted"} 1"#,
            r#"sallyport_actions_permitted_total{server="files"} 1"#,
            r#"sallyport_actions_ended_total{how="cut"} 1"#,
            "sallyport_action_seconds_count 1",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} in\n{text}");
        }
    }
}
