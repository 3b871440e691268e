//! The table that tells the story, line by line as it happens.

use anstyle::Style;

use crate::failure::Failure;
use crate::output::{self, BAD, FAINT, GOOD, STRONG, WARN, paint, visible};

const TRIED: usize = 56;
const OUTCOME: usize = 10;

/// What became of something that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done; with what is worth telling of it.
    Allowed(String),
    /// It was refused, by which rule and why.
    Refused {
        /// The rule, as one word.
        rule: String,
        /// The reason, in words.
        reason: String,
    },
}

impl Outcome {
    /// A refusal.
    pub(super) fn refused(rule: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused {
            rule: rule.into(),
            reason: reason.into(),
        }
    }
}

/// What must happen for the story to go on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expected {
    /// It is done, and this is part of what is told of it.
    Allowed(&'static str),
    /// It is refused by this rule.
    Refused(&'static str),
}

impl Expected {
    fn is_met_by(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Allowed(part), Outcome::Allowed(told)) => told.contains(part),
            (Self::Refused(by), Outcome::Refused { rule, .. }) => rule == by,
            _ => false,
        }
    }
}

/// The table, with the number of the last step.
#[derive(Default)]
pub(super) struct Table {
    step: usize,
}

impl Table {
    /// Begins a part of the story.
    pub(super) fn part(&self, title: &str) -> Result<(), Failure> {
        output::line(format_args!("\n{}", paint(STRONG, title)))
    }

    /// Tells a step.
    ///
    /// # Errors
    /// [`Failure`] when something else happened than must happen: the story is not true then.
    pub(super) fn step(
        &mut self,
        tried: &str,
        expected: Expected,
        outcome: &Outcome,
    ) -> Result<(), Failure> {
        self.step += 1;
        let met = expected.is_met_by(outcome);
        let (word, style, why) = match outcome {
            Outcome::Allowed(told) => ("allowed", GOOD, told.clone()),
            Outcome::Refused { rule, reason } => ("refused", BAD, format!("{rule}: {reason}")),
        };
        self.tell(tried, word, style, &why)?;
        if met {
            return Ok(());
        }
        let wanted = match expected {
            Expected::Allowed(_) => "it had to be allowed".to_owned(),
            Expected::Refused(rule) => format!("it had to be refused by `{rule}`"),
        };
        Err(Failure::new(format!(
            "step {} went otherwise than told: {wanted}",
            self.step
        ))
        .hint("the demonstration shows what really happens; this is a defect"))
    }

    /// Tells a step that was checked already.
    pub(super) fn seen(&mut self, tried: &str, word: &str, why: &str) -> Result<(), Failure> {
        self.step += 1;
        self.tell(tried, word, if word == "broken" { WARN } else { GOOD }, why)
    }

    fn tell(&self, tried: &str, word: &str, style: Style, why: &str) -> Result<(), Failure> {
        output::line(line(self.step, tried, word, style, why))
    }
}

fn line(step: usize, tried: &str, word: &str, style: Style, why: &str) -> String {
    let pad = |text: &str, width: usize| " ".repeat(width.saturating_sub(text.chars().count()));
    format!(
        " {}  {tried}{}  {}{}  {}",
        paint(FAINT, format_args!("{step:>2}")),
        pad(tried, TRIED),
        paint(style, word),
        pad(word, OUTCOME),
        paint(FAINT, visible(why)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_goes_otherwise_ends_the_story() {
        let mut table = Table::default();
        let allowed = Outcome::Allowed("read 12 bytes".to_owned());
        table
            .step("reads", Expected::Allowed("12"), &allowed)
            .unwrap();
        let failure = table
            .step("writes", Expected::Refused("not_granted"), &allowed)
            .unwrap_err();
        assert!(
            failure.message().starts_with("step 2 went otherwise"),
            "{failure}"
        );
        let refused = Outcome::refused("argument_refused", "no");
        assert!(
            table
                .step("writes", Expected::Refused("not_granted"), &refused)
                .is_err()
        );
        assert!(
            table
                .step("reads", Expected::Allowed("13"), &allowed)
                .is_err()
        );
    }

    #[test]
    fn lines_are_aligned() {
        let lines = [
            line(
                1,
                "reads tickets/4711/ticket.txt",
                "allowed",
                GOOD,
                "“The lamp”",
            ),
            line(
                12,
                "reads payroll",
                "refused",
                BAD,
                "argument_refused: not below",
            ),
        ];
        let text = anstream::adapter::strip_str(&lines.join("\n")).to_string();
        insta::assert_snapshot!(text);
    }
}
