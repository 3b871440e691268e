//! A playbook as people read it: a numbered procedure.

use std::fmt::Write as _;

use super::variable::Name;
use super::{Action, Command, Kind, Playbook, Step};
use crate::mode::{Mode, Modes};

/// Writes a playbook down as a procedure, with who does each step and how far it goes by itself.
/// `name` is what the playbook is called where it is run.
#[must_use]
pub fn of(playbook: &Playbook, name: &str, modes: &Modes) -> String {
    let mut writing = Writing {
        playbook,
        name,
        modes,
        text: String::new(),
        numbers: Vec::new(),
        depth: 0,
    };
    let _ = writeln!(writing.text, "{}\n", playbook.name);
    if !playbook.description.is_empty() {
        let _ = writeln!(writing.text, "{}\n", playbook.description);
    }
    let external: Vec<String> = playbook
        .variables
        .iter()
        .filter(|(_, about)| about.external)
        .map(|(name, about)| format!("  {:<12} {}", plain(name), about.description))
        .collect();
    if !external.is_empty() {
        let _ = writeln!(writing.text, "It is told:\n{}\n", external.join("\n"));
    }
    writing.branch(&playbook.start);
    if let Some(exception) = &playbook.exception {
        let _ = writeln!(
            writing.text,
            "\nWhen a step fails and does not say what then:"
        );
        writing.branch(exception);
    }
    writing.text
}

fn plain(name: &Name) -> String {
    name.as_str().trim_matches('_').replace('_', " ")
}

/// Words with the variables in them in plain form.
fn words(text: &str) -> String {
    super::variable::pieces(text)
        .map(|piece| match piece {
            super::variable::Piece::Words(words) => words.to_owned(),
            super::variable::Piece::Value(name) => format!("<{}>", plain(&name)),
        })
        .collect()
}

struct Writing<'p> {
    playbook: &'p Playbook,
    name: &'p str,
    modes: &'p Modes,
    text: String,
    /// The number of the step, at each depth.
    numbers: Vec<usize>,
    depth: usize,
}

impl Writing<'_> {
    fn line(&mut self, text: &str) {
        let indent = "   ".repeat(self.depth);
        for line in text.lines() {
            let _ = writeln!(self.text, "{indent}{line}");
        }
    }

    fn numbered(&mut self, text: &str) {
        if let Some(number) = self.numbers.last_mut() {
            *number += 1;
        }
        let numbers: Vec<String> = self.numbers.iter().map(ToString::to_string).collect();
        let indent = "   ".repeat(self.depth);
        let _ = writeln!(self.text, "{indent}{}. {text}", numbers.join("."));
    }

    /// The steps from one on, up to the end of its branch.
    fn branch(&mut self, from: &str) {
        self.numbers.push(0);
        let mut next = Some(from.to_owned());
        while let Some(id) = next {
            let Some(step) = self.playbook.steps.get(&id) else {
                break;
            };
            self.step(step);
            next = step
                .on_completion
                .clone()
                .or_else(|| step.on_success.clone());
        }
        self.numbers.pop();
    }

    fn inner(&mut self, title: &str, from: &str) {
        let ends = |id: &str| {
            let step = self.playbook.steps.get(id);
            step.is_some_and(|step| step.kind == Kind::End)
        };
        self.depth += 1;
        if ends(from) {
            self.line(&format!("{title} nothing."));
        } else {
            self.line(title);
            self.branch(from);
        }
        self.depth -= 1;
    }

    fn step(&mut self, step: &Step) {
        match &step.kind {
            Kind::Start | Kind::End => return,
            Kind::Action(action) => self.action(step, action),
            Kind::Parallel(branches) => {
                self.numbered(&title(step, "At the same time"));
                for (number, branch) in branches.iter().enumerate() {
                    self.inner(&format!("Branch {}:", number + 1), branch);
                }
            }
            Kind::If {
                condition,
                on_true,
                on_false,
            } => {
                self.numbered(&title(step, "It depends"));
                self.inner(&format!("If {condition}:"), on_true);
                if let Some(on_false) = on_false {
                    self.inner("Otherwise:", on_false);
                }
            }
            Kind::While { condition, on_true } => {
                self.numbered(&title(step, "Again and again"));
                let title = format!("As long as {condition}, {} times at most:", super::ROUNDS);
                self.inner(&title, on_true);
            }
            Kind::Switch { variable, cases } => {
                self.numbered(&title(step, "It depends"));
                for (value, branch) in cases {
                    let title = match value.as_str() {
                        "default" => "In all other cases:".to_owned(),
                        value => format!("If the {} is `{value}`:", plain(variable)),
                    };
                    self.inner(&title, branch);
                }
            }
        }
        if let Some(on_failure) = &step.on_failure {
            let then = self.playbook.steps.get(on_failure);
            let then = then.map_or_else(String::new, |then| title(then, "the end"));
            self.depth += 1;
            self.line(&format!("If that fails, go on with: {then}"));
            self.depth -= 1;
        }
    }

    fn action(&mut self, step: &Step, action: &Action) {
        let who = self
            .playbook
            .agents
            .get(&action.agent)
            .cloned()
            .unwrap_or_default();
        let who = match self.mode(action) {
            _ if action.is_for_people() => who,
            Mode::Automatic => format!("{who}, automatically"),
            Mode::OnApproval => format!("{who}, when a person approves"),
            Mode::ObserveOnly => format!("{who}, noted only"),
        };
        self.numbered(&format!("{}  [{who}]", title(step, "Do this")));
        self.depth += 1;
        if !step.description.is_empty() {
            self.line(&step.description);
        }
        for command in &action.commands {
            let mark = if action.is_for_people() { "[ ]" } else { "-" };
            let text = match command {
                Command::Manual { text } => words(text),
                Command::Act { name, members } => {
                    let about: Vec<String> = members
                        .iter()
                        .filter(|(member, _)| *member != "action")
                        .map(|(member, value)| match value.as_str() {
                            Some(text) => format!("{member} {}", words(text)),
                            None => format!("{member} {value}"),
                        })
                        .collect();
                    format!("{name}: {}", about.join(", "))
                }
            };
            let mut lines = text.lines();
            self.line(&format!("{mark} {}", lines.next().unwrap_or_default()));
            for line in lines {
                self.line(&format!("  {line}"));
            }
        }
        if let Some(timeout) = step.timeout {
            let (hours, minutes) = (timeout / 3_600_000, timeout / 60_000);
            let within = match timeout % 3_600_000 {
                0 => format!("{hours} hours"),
                _ => format!("{minutes} minutes"),
            };
            self.line(&format!(
                "If nobody answers within {within}, it has failed."
            ));
        }
        self.depth -= 1;
    }

    /// The most careful mode of its commands.
    fn mode(&self, action: &Action) -> Mode {
        action
            .commands
            .iter()
            .filter_map(|command| match command {
                Command::Act { name, .. } => {
                    let restricts = !matches!(name.as_str(), "notify" | "evidence.collect");
                    Some(self.modes.of(self.name, name, restricts))
                }
                Command::Manual { .. } => None,
            })
            .max()
            .unwrap_or(Mode::Automatic)
    }
}

fn title(step: &Step, otherwise: &str) -> String {
    match step.name.is_empty() {
        true => otherwise.to_owned(),
        false => step.name.clone(),
    }
}
