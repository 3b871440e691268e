//! What came of the drills, for people and for programs.

use serde::Serialize;

use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, WARN, paint, visible};

/// What came of all of them.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The configuration that was rehearsed.
    pub(super) configuration: String,
    /// What a reader should know about it.
    pub(super) notes: Vec<String>,
    /// Each drill.
    pub(super) drills: Vec<Outcome>,
}

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Nothing that the attacker wanted reached a server.
    Contained,
    /// Something did.
    NotContained,
    /// The drill's ordinary work was refused, so that nothing is known about the attack.
    NotRehearsed,
}

impl Verdict {
    fn shown(self) -> String {
        match self {
            Self::Contained => paint(GOOD, "contained"),
            Self::NotContained => paint(BAD.bold(), "not contained"),
            Self::NotRehearsed => paint(WARN, "not rehearsed"),
        }
    }
}

/// What came of one drill.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Its name.
    pub(super) drill: &'static str,
    /// How it ended.
    pub(super) verdict: Verdict,
    /// Milliseconds from the beginning of the attack until it was first held up.
    pub(super) contained_ms: Option<f64>,
    /// The rules that held it up, in the order in which they did.
    pub(super) contained_by: Vec<String>,
    /// Whether a detector saw it.
    pub(super) detected: bool,
    /// Milliseconds from the beginning of the attack until the first finding about it.
    pub(super) detected_ms: Option<f64>,
    /// The rules that saw it.
    pub(super) detected_by: Vec<String>,
    /// The numbers of the incidents that came of it.
    pub(super) incidents: Vec<u64>,
    /// The playbooks that were begun for them, each with its state.
    pub(super) playbooks: Vec<String>,
    /// The agent's risk score afterwards.
    pub(super) risk: Option<u64>,
    /// What got through or was not seen, in words.
    pub(super) missed: Vec<String>,
    /// What was tried.
    pub(super) attempts: Vec<Attempt>,
}

impl Outcome {
    /// A drill whose ordinary work was refused.
    pub(super) fn not_rehearsed(drill: &'static str, rule: String, reason: &str) -> Self {
        Self {
            drill,
            verdict: Verdict::NotRehearsed,
            contained_ms: None,
            missed: vec![format!(
                "the drill's ordinary work was refused ({rule}): {reason}"
            )],
            contained_by: vec![rule],
            detected: false,
            detected_ms: None,
            detected_by: Vec::new(),
            incidents: Vec::new(),
            playbooks: Vec::new(),
            risk: None,
            attempts: Vec::new(),
        }
    }
}

/// Something that was tried.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Attempt {
    /// What, in words.
    pub(super) what: String,
    /// The rule that refused it; none when it was answered.
    pub(super) refused_by: Option<String>,
    /// Why it was refused, in the gateway's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    /// How long that took, in milliseconds.
    pub(super) ms: f64,
}

impl Report {
    /// Whether all drills were contained.
    pub(super) fn is_contained(&self) -> bool {
        let contained = |drill: &Outcome| drill.verdict == Verdict::Contained;
        self.drills.iter().all(contained)
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let millis =
            |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} ms"));
        let rows = self.drills.iter().map(|drill| {
            vec![
                paint(STRONG, drill.drill),
                drill.verdict.shown(),
                millis(drill.contained_ms),
                drill.contained_by.join(", "),
                if drill.detected {
                    paint(GOOD, millis(drill.detected_ms))
                } else {
                    paint(WARN, "not detected")
                },
                drill.detected_by.join(", "),
            ]
        });
        output::table(
            &["drill", "", "after", "by", "detected after", "by"],
            rows.collect(),
            "no drills",
        )?;
        for drill in &self.drills {
            let about = |text: &str| format!("{}: {}", drill.drill, visible(text));
            for missed in &drill.missed {
                output::line(format_args!("{} {}", paint(BAD, "missed"), about(missed)))?;
            }
            if let (Some(incident), risk) = (drill.incidents.first(), drill.risk.unwrap_or(0)) {
                let mut text = format!("incident {incident}, risk {risk} of 100");
                if !drill.playbooks.is_empty() {
                    text.push_str(&format!("; playbooks: {}", drill.playbooks.join(", ")));
                }
                output::line(paint(FAINT, about(&text)))?;
            }
        }
        for note in &self.notes {
            output::line(format_args!("{} {}", paint(FAINT, "note"), visible(note)))?;
        }
        Ok(())
    }
}
