//! From the text of policy files to checked policies, or to everything that is wrong with them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use model::Mistake;
use sha2::{Digest, Sha256};

use super::{APPROVAL, SCHEMA};

pub(super) static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let (schema, _warnings) =
        Schema::from_cedarschema_str(SCHEMA).expect("the schema that is part of this crate parses");
    Validator::new(schema)
});

fn stem(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Names the sources and the schema; the folders that they are in do not matter.
pub(super) fn version(sources: &[(PathBuf, String)]) -> String {
    let mut named: Vec<(String, &str)> = sources
        .iter()
        .map(|(file, text)| (stem(file), text.as_str()))
        .collect();
    named.sort_unstable();
    let mut hash = Sha256::new();
    for part in
        std::iter::once(SCHEMA).chain(named.iter().flat_map(|(name, text)| [name.as_str(), text]))
    {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Compiles policy files into policies with their final ids.
pub(super) fn compile(sources: &[(PathBuf, String)]) -> Result<Vec<Policy>, Vec<Mistake>> {
    let mut compiling = Compiling::default();
    for (file, text) in sources {
        compiling.file(file, text);
    }
    if compiling.mistakes.is_empty() {
        let policies = compiling.policies.into_values();
        Ok(policies.map(|(_, policy)| policy).collect())
    } else {
        Err(compiling.mistakes)
    }
}

#[derive(Default)]
struct Compiling {
    /// By id, with the file.
    policies: BTreeMap<String, (PathBuf, Policy)>,
    mistakes: Vec<Mistake>,
}

impl Compiling {
    fn file(&mut self, file: &Path, text: &str) {
        let set: PolicySet = match text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let mistakes = errors.iter().map(|error| mistake(file, error, SYNTAX));
                self.mistakes.extend(mistakes);
                return;
            }
        };
        for template in set.templates() {
            let message = format!(
                "policy {} is a template, and nothing links it",
                place(template.id())
            );
            let hint = "write the principal or resource in place of the slot";
            let span = span_of(text, Some(template.to_cedar()));
            self.mistakes
                .push(Mistake::new(file, message).at(span).hint(hint));
        }
        let mut named = Vec::new();
        for policy in set.policies() {
            if let Some(when) = policy.annotation(APPROVAL)
                && when != "always"
            {
                let message = format!("`@approval({when:?})` says nothing that is known");
                let hint = "write `@approval(\"always\")`, or leave it out";
                let span = span_of(text, policy.to_cedar());
                self.mistakes
                    .push(Mistake::new(file, message).at(span).hint(hint));
            }
            let id = match policy.annotation("id") {
                Some(id) if !is_plain_id(id) => {
                    let hint = "use 1 to 100 letters, digits and `-_.` without spaces";
                    let message = format!("`@id({id:?})` is not usable as a policy's name");
                    let span = span_of(text, policy.to_cedar());
                    self.mistakes
                        .push(Mistake::new(file, message).at(span).hint(hint));
                    continue;
                }
                Some(id) => format!("{}/{id}", stem(file)),
                None => format!("{}/{}", stem(file), place(policy.id())),
            };
            named.push((id.clone(), policy.new_id(PolicyId::new(id))));
        }
        self.validate(file, &named);
        for (id, policy) in named {
            if let Some((other, _)) = self.policies.get(&id) {
                let message = format!(
                    "the policy `{id}` stands twice; the other is in {}",
                    other.display()
                );
                let hint = "give each policy its own `@id(\"…\")`, and each file its own name";
                let span = span_of(text, policy.to_cedar());
                self.mistakes
                    .push(Mistake::new(file, message).at(span).hint(hint));
            } else {
                self.policies.insert(id, (file.to_owned(), policy));
            }
        }
    }

    fn validate(&mut self, file: &Path, named: &[(String, Policy)]) {
        // One by one: a set does not take an id twice, and that is another mistake's matter.
        for (_, policy) in named {
            let Ok(set) = PolicySet::from_policies([policy.clone()]) else {
                continue;
            };
            let result = VALIDATOR.validate(&set, ValidationMode::Strict);
            let errors = result
                .validation_errors()
                .map(|error| mistake(file, error, TYPES));
            self.mistakes.extend(errors);
            let warnings = result
                .validation_warnings()
                .filter(|_| result.validation_passed());
            self.mistakes
                .extend(warnings.map(|warning| mistake(file, warning, TYPES)));
        }
    }
}

fn is_plain_id(id: &str) -> bool {
    matches!(id.len(), 1..=100)
        && id
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The position of a policy in its file, from 1 on. Cedar numbers them `policy0`, `policy1`, ….
fn place(id: &PolicyId) -> String {
    let id: &str = id.as_ref();
    let number = id
        .strip_prefix("policy")
        .and_then(|number| number.parse::<usize>().ok());
    number.map_or_else(|| id.to_owned(), |number| (number + 1).to_string())
}

/// Where a policy stands in its file.
fn span_of(text: &str, policy: Option<String>) -> Option<Range<usize>> {
    let policy = policy?;
    text.find(&policy).map(|start| start..start + policy.len())
}

/// What helps where Cedar itself has no advice.
const SYNTAX: &str = "policies are written in Cedar: \
    https://docs.cedarpolicy.com/policies/syntax-policy.html";
const TYPES: &str = "policies must fit Sallyport's Cedar schema: principals are \
    `Sallyport::Agent`, resources `Sallyport::Tool`, `McpResource`, `Prompt` or `Server`";

fn mistake(file: &Path, error: &(impl Diagnostic + ?Sized), otherwise: &str) -> Mistake {
    let span = error
        .labels()
        .and_then(|mut labels| labels.next())
        .map(|label| {
            let start = label.offset();
            start..start + label.len()
        });
    let hint = error
        .help()
        .map_or_else(|| otherwise.to_owned(), |help| help.to_string());
    Mistake::new(file, error.to_string()).at(span).hint(hint)
}
