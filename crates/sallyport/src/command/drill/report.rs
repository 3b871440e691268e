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
    /// The ordinary work was refused, so that nothing is known about the attack.
    NotRehearsed,
    /// There is nothing of the kind that it attacks.
    NotApplicable,
}

impl Verdict {
    fn shown(self) -> String {
        match self {
            Self::Contained => paint(GOOD, "contained"),
            Self::NotContained => paint(BAD.bold(), "not contained"),
            Self::NotRehearsed => paint(WARN, "not rehearsed"),
            Self::NotApplicable => paint(FAINT, "nothing to attack"),
        }
    }
}

/// What came of one drill.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Its name.
    pub(super) drill: &'static str,
    /// The template whose task was attacked; empty when there was none.
    pub(super) template: String,
    /// The agent, and its segment in brackets; empty when there was none.
    pub(super) agent: String,
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
    /// What got through or was not seen.
    pub(super) missed: Vec<Missed>,
    /// What was tried.
    pub(super) attempts: Vec<Attempt>,
}

impl Outcome {
    /// A drill that did not take place, and why.
    pub(super) fn nothing(
        drill: &'static str,
        template: &str,
        verdict: Verdict,
        why: String,
    ) -> Self {
        Self {
            drill,
            template: template.to_owned(),
            agent: String::new(),
            verdict,
            contained_ms: None,
            contained_by: Vec::new(),
            detected: false,
            detected_ms: None,
            detected_by: Vec::new(),
            incidents: Vec::new(),
            playbooks: Vec::new(),
            risk: None,
            missed: vec![Missed {
                what: why,
                change: None,
            }],
            attempts: Vec::new(),
        }
    }

    fn took_place(&self) -> bool {
        matches!(self.verdict, Verdict::Contained | Verdict::NotContained)
    }
}

/// Something that got through, was not seen, or could not be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Missed {
    /// What, in words.
    pub(super) what: String,
    /// What to change in the configuration, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<String>,
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
    /// Whether everything that there is to attack was attacked, and nothing came of it.
    pub(super) fn is_contained(&self) -> bool {
        let mut verdicts = self.drills.iter().map(|drill| drill.verdict);
        let is_fine = |verdict| matches!(verdict, Verdict::Contained | Verdict::NotApplicable);
        self.drills.iter().any(Outcome::took_place) && verdicts.all(is_fine)
    }

    /// Prints it for people.
    ///
    /// # Errors
    /// [`Failure`] when it cannot be written.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let millis =
            |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} ms"));
        let rows = self.drills.iter().map(|drill| {
            let detected = match (drill.detected, drill.took_place()) {
                (true, _) => paint(GOOD, millis(drill.detected_ms)),
                (false, true) => paint(WARN, "not detected"),
                (false, false) => "-".to_owned(),
            };
            vec![
                paint(STRONG, drill.drill),
                drill.template.clone(),
                drill.verdict.shown(),
                millis(drill.contained_ms),
                drill.contained_by.join(", "),
                detected,
                drill.detected_by.join(", "),
            ]
        });
        output::table(
            &[
                "drill",
                "template",
                "",
                "after",
                "by",
                "detected after",
                "by",
            ],
            rows.collect(),
            "no drills",
        )?;
        for drill in &self.drills {
            let name = match drill.template.as_str() {
                "" => drill.drill.to_owned(),
                template => format!("{}, {template}", drill.drill),
            };
            let about = |text: &str| format!("{name}: {}", visible(text));
            let word = match drill.verdict {
                Verdict::NotApplicable => paint(FAINT, "note"),
                Verdict::NotRehearsed => paint(WARN, "not rehearsed"),
                Verdict::Contained | Verdict::NotContained => paint(BAD, "missed"),
            };
            for missed in &drill.missed {
                output::line(format_args!("{word} {}", about(&missed.what)))?;
                if let Some(change) = &missed.change {
                    output::line(format_args!(
                        "       {} {}",
                        paint(FAINT, "change"),
                        visible(change)
                    ))?;
                }
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
