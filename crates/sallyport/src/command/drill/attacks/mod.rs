//! The attacks that are rehearsed. The agent obeys whoever attacks completely; the thief has all that was
//! copied. What came through is read from the stand-in.

mod contents;
mod definitions;
mod excess;
mod stranger;
mod token;

use std::pin::Pin;

use super::cast::Part;
use super::scene::{Scene, Stop};

/// What is looked for in text of others.
const TEXT_RULES: &[&str] = &["instruction-*", "new-instructions", "exfiltration-*"];

/// What an attack is made at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// A task of each template.
    Templates,
    /// The policies, by an agent that has a template of the drill.
    Policies,
}

/// An attack.
pub(super) struct Drill {
    /// Its name.
    pub(super) name: &'static str,
    /// What it is, in a sentence.
    pub(super) about: &'static str,
    /// The rules of findings that should tell of it; with `*` at the end, beginnings of them.
    pub(super) expected: &'static [&'static str],
    /// What it is made at.
    pub(super) at: At,
    /// Why there is nothing to attack in the work of a template, if so.
    nothing: fn(&Part) -> Option<String>,
    attack: for<'s, 'a> fn(&'s mut Scene<'a>) -> Attack<'s>,
}

type Attack<'s> = Pin<Box<dyn Future<Output = Result<(), Stop>> + 's>>;

impl Drill {
    /// Why there is nothing to attack in the work of a template, if so.
    pub(super) fn has_nothing_at(&self, part: &Part) -> Option<String> {
        (self.nothing)(part)
    }

    /// Carries it out.
    ///
    /// # Errors
    /// [`Stop`]
    pub(super) async fn carry_out(&self, scene: &mut Scene<'_>) -> Result<(), Stop> {
        (self.attack)(scene).await
    }
}

/// All of them, in the order in which they are run.
pub(super) static DRILLS: [Drill; 8] = [
    Drill {
        name: "injection",
        about: "what the agent reads carries orders, and it makes the calls that they ask for",
        expected: TEXT_RULES,
        at: At::Templates,
        nothing: |_| None,
        attack: |scene| Box::pin(contents::injection(scene)),
    },
    Drill {
        name: "poisoning",
        about: "a tool's description carries hidden orders, and the agent calls the tool",
        expected: &["tool-*"],
        at: At::Templates,
        nothing: definitions::has_none,
        attack: |scene| Box::pin(definitions::poisoning(scene)),
    },
    Drill {
        name: "rug-pull",
        about: "a server changes a tool's description after it was trusted",
        expected: &["tool-*"],
        at: At::Templates,
        nothing: definitions::has_none,
        attack: |scene| Box::pin(definitions::rug_pull(scene)),
    },
    Drill {
        name: "exfiltration",
        about: "the agent reads a planted record and a credential, and passes them on",
        expected: &["canary", "sensitive-data-leaves"],
        at: At::Templates,
        nothing: contents::has_no_way_out,
        attack: |scene| Box::pin(contents::exfiltration(scene)),
    },
    Drill {
        name: "stolen-token",
        about: "a copied token is used: a recorded call again, with another key, and alone",
        expected: &["refusal-pressure"],
        at: At::Templates,
        nothing: |_| None,
        attack: |scene| Box::pin(token::stolen_token(scene)),
    },
    Drill {
        name: "runaway-loop",
        about: "the agent makes the same call over and over",
        expected: &["loop"],
        at: At::Templates,
        nothing: |_| None,
        attack: |scene| Box::pin(excess::runaway_loop(scene)),
    },
    Drill {
        name: "scope-creep",
        about: "the agent tries what its task does not grant, again and again",
        expected: &["denial-pressure"],
        at: At::Templates,
        nothing: |_| None,
        attack: |scene| Box::pin(excess::scope_creep(scene)),
    },
    Drill {
        name: "wide-template",
        about: "a template grants an agent of no segment everything: do the policies hold?",
        expected: &["denial-pressure"],
        at: At::Policies,
        nothing: |_| None,
        attack: |scene| Box::pin(stranger::wide_template(scene)),
    },
];

/// How often something refused is tried, so that the configuration counts it as pressure.
fn pressing(threshold: u32) -> u32 {
    /// However much the configuration lets pass.
    const MOST: u32 = 200;
    (threshold + 4).min(MOST)
}
