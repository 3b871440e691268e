//! One text, looked at with everything there is.

use std::sync::{Arc, LazyLock};

use super::canary::Canaries;
use super::compiled::{Compiled, Forms};
use super::policy::{Policy, Response};
use super::rules::{Place, Rule, RuleError, RuleSet};
use super::scan::Scan;
use super::survey::Survey;
use super::unwrap::{self, Bounds, Layer};
use super::{invisible, personal, secrets};
use crate::finding::{Asi, Atlas, Evidence, Finding, Severity, Subject};
use crate::text;

/// How much of a text is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes. Of a longer one the beginning and the end are looked at, half and half.
    pub bytes: usize,
    /// How much is unwrapped.
    pub unwrap: Bounds,
}

impl Default for Limits {
    /// 1 MiB.
    fn default() -> Self {
        Self {
            bytes: 1 << 20,
            unwrap: Bounds::default(),
        }
    }
}

/// Looks at texts. Made once for a set of rules, used from any thread.
#[derive(Debug)]
pub struct Scanner {
    compiled: Compiled,
    limits: Limits,
}

impl Scanner {
    /// Compiles rules.
    ///
    /// # Errors
    /// [`RuleError`] when together they are too large.
    pub fn new(rules: RuleSet, limits: Limits) -> Result<Self, RuleError> {
        Ok(Self {
            compiled: Compiled::new(rules)?,
            limits,
        })
    }

    /// A scanner with the rules that come with the program, and the usual limits.
    ///
    /// # Panics
    /// Never: a test makes one.
    #[must_use]
    pub fn built_in() -> Self {
        Self::new(RuleSet::built_in(), Limits::default())
            .expect("the rules that come with the program are sound")
    }

    /// The same, made once for the whole process.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Scanner>> = LazyLock::new(|| Arc::new(Scanner::built_in()));
        Arc::clone(&SHARED)
    }

    /// The examples of rules that do not come out as the rules say.
    #[must_use]
    pub fn broken_examples(&self) -> Vec<BrokenExample<'_>> {
        let canaries = Canaries::default();
        let policy = Policy::default();
        let mut broken = Vec::new();
        for rule in self.rules() {
            let place = rule.applies.first().copied().unwrap_or(Place::Result);
            let expected = rule.matches.iter().map(|text| (text, true));
            for (text, found) in expected.chain(rule.ignores.iter().map(|text| (text, false))) {
                let findings = self.scan(text, place, &canaries, &policy).findings;
                if findings.iter().any(|finding| finding.rule == rule.id) != found {
                    broken.push(BrokenExample {
                        rule: &rule.id,
                        text,
                        found: !found,
                    });
                }
            }
        }
        broken
    }

    /// The rules that it reads by.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.compiled.rules
    }

    /// Looks at a text, and says what follows by a policy.
    #[must_use]
    pub fn scan(&self, text: &str, place: Place, canaries: &Canaries, policy: &Policy) -> Scan {
        let mut seen = Seen {
            scanner: self,
            place,
            canaries,
            policy,
            scan: Scan::clear(),
        };
        if policy.is_idle() {
            return seen.done();
        }
        if text.len() <= self.limits.bytes {
            seen.part(text, 0);
        } else {
            let half = self.limits.bytes / 2;
            let (mut head, mut tail) = (half, text.len() - half);
            while !text.is_char_boundary(head) {
                head -= 1;
            }
            while !text.is_char_boundary(tail) {
                tail += 1;
            }
            seen.part(&text[..head], 0);
            seen.part(&text[tail..], tail);
            seen.incomplete(format!(
                "Of {} bytes only the first and the last {half} were looked at",
                text.len()
            ));
        }
        seen.done()
    }
}

/// An example of a rule that does not come out as the rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenExample<'a> {
    /// The rule.
    pub rule: &'a str,
    /// The text.
    pub text: &'a str,
    /// Whether the rule was found in it.
    pub found: bool,
}

struct Seen<'a> {
    scanner: &'a Scanner,
    place: Place,
    canaries: &'a Canaries,
    policy: &'a Policy,
    scan: Scan,
}

/// Says where bytes of a layer are in the whole text.
type Outer<'a> = dyn Fn((usize, usize)) -> (usize, usize) + 'a;

/// One layer that is read.
struct Read<'a> {
    text: &'a str,
    path: &'a str,
    outer: Option<&'a Outer<'a>>,
}

impl Read<'_> {
    /// Where a part of it is in the whole text, if it is to be taken out of that.
    fn outer(&self, span: (usize, usize)) -> Option<(usize, usize)> {
        self.outer.map(|outer| outer(span))
    }

    /// Evidence that says where and how much, and quotes nothing (R6).
    fn withheld(&self, span: (usize, usize), what: &str) -> Evidence {
        let (start, end) = self.outer(span).unwrap_or(span);
        Evidence {
            place: self.path.to_owned(),
            start,
            end,
            quote: format!("[{what}, {} bytes]", end - start),
        }
    }
}

/// A part of a text that begins at a byte of it, without what is taken out of it.
fn reduced(text: &str, begin: usize, taken: Vec<(usize, usize, String)>) -> String {
    let mut scan = Scan::clear();
    let own = taken
        .into_iter()
        .map(|(start, end, instead)| (start - begin, end - begin, instead));
    scan.redactions = own.collect();
    scan.settle();
    scan.redact(text).into_owned()
}

impl Seen<'_> {
    /// Looks at a part of the text that begins at a byte of it.
    fn part(&mut self, text: &str, begin: usize) {
        let survey = Survey::of(text);
        if !survey.plain && self.policy.rules {
            for finding in invisible::scan(self.place.as_str(), text) {
                let response = self.policy.for_rule(finding.severity);
                self.add(finding, response);
            }
        }
        let shift = |(start, end): (usize, usize)| (start + begin, end + begin);
        let whole = |span| shift(span);
        let before = self.scan.redactions.len();
        self.layer(text, survey, self.place.as_str(), false, Some(&whole));
        let taken = self.scan.redactions[before..].to_vec();
        let layers = unwrap::unwrap_surveyed(text, survey, self.scanner.limits.unwrap);
        let all = (0, text.len());
        for layer in &layers.layers {
            let outer: &Outer<'_> = &|_| shift(layer.outer);
            // A layer that is all of the text but for its markup would take the whole with it, though what
            // is in it may be taken out already.
            let takes = taken.is_empty() || layer.outer != all;
            self.inner(layer, takes.then_some(outer));
        }
        if !taken.is_empty() && layers.layers.iter().any(|layer| layer.outer == all) {
            let reduced = reduced(text, begin, taken);
            let layers = unwrap::unwrap(&reduced, self.scanner.limits.unwrap);
            let covering = |layer: &&Layer| layer.outer == (0, reduced.len());
            for layer in layers.layers.iter().filter(covering) {
                self.inner(layer, Some(&|_| shift(all)));
            }
        }
        if layers.cut {
            self.incomplete(
                "The text holds more encoded texts, or more deeply nested ones, than are unwrapped"
                    .to_owned(),
            );
        }
    }

    fn inner(&mut self, layer: &Layer, outer: Option<&Outer<'_>>) {
        let path = format!("{} > {}", self.place.as_str(), layer.path);
        let survey = Survey::of(&layer.text);
        self.layer(&layer.text, survey, &path, layer.concealed, outer);
    }

    /// Looks at one layer. `outer` says where bytes of it are in the whole text; without, nothing is taken
    /// out for it.
    fn layer(
        &mut self,
        text: &str,
        survey: Survey,
        path: &str,
        concealed: bool,
        outer: Option<&Outer<'_>>,
    ) {
        let compiled = &self.scanner.compiled;
        let mut forms = Forms::of(text);
        let beginnings = self.canaries.beginnings();
        let mut possible = compiled.possible(&mut forms, survey, beginnings);
        let canary = possible.canary;
        let secrets = std::mem::take(&mut possible.secrets);
        let found = self
            .policy
            .rules
            .then(|| compiled.find(&mut forms, possible, self.place));
        for (rule, hits) in found.into_iter().flatten() {
            let rule = &compiled.rules[rule];
            let (start, end) = hits.span();
            let disguised = concealed || !hits.disguise.is_empty();
            let severity = if disguised {
                rule.severity.raised()
            } else {
                rule.severity
            };
            let path = match hits.disguise {
                "" => path.to_owned(),
                disguise => format!("{path} > {disguise}"),
            };
            let finding = Finding {
                rule: rule.id.clone(),
                severity,
                asi: rule.asi,
                atlas: rule.atlas.clone(),
                subject: Subject::default(),
                evidence: Some(Evidence::of(path, text, start, end)),
                explanation: if disguised {
                    format!("{}; and it is hidden from people", rule.explanation)
                } else {
                    rule.explanation.clone()
                },
            };
            self.add(finding, self.policy.for_rule(severity));
        }
        let layer = Read { text, path, outer };
        if canary {
            self.canaries(&mut forms, &layer);
        }
        self.secrets(&layer, &secrets);
        self.personal(&layer);
    }

    fn canaries(&mut self, forms: &mut Forms<'_>, layer: &Read<'_>) {
        let (_, squeezed) = forms.both();
        for (canary, start, end) in self.canaries.find(squeezed.as_str()) {
            let span = squeezed.span(start, end);
            let finding = Finding {
                rule: "canary".to_owned(),
                severity: Severity::Critical,
                asi: Some(Asi::Asi03),
                atlas: Atlas::known(Atlas::EXFILTRATION),
                subject: Subject::default(),
                evidence: Some(layer.withheld(span, "a planted token")),
                explanation: format!(
                    "A token that nobody has a reason to use turned up; it was planted for: {}",
                    text::escaped(&canary.label, 120)
                ),
            };
            self.take_out(self.policy.canaries, layer.outer(span), "canary");
            self.add(finding, self.policy.canaries);
        }
    }

    fn secrets(&mut self, layer: &Read<'_>, possible: &[bool]) {
        let response = self.policy.secrets;
        if response == Response::Ignore {
            return;
        }
        for secret in secrets::find_of(layer.text, possible) {
            let span = (secret.start, secret.end);
            self.take_out(response, layer.outer(span), secret.kind);
            let finding = Finding {
                rule: format!("secret-{}", secret.kind),
                severity: match secret.kind {
                    "assigned-secret" | "password-in-url" => Severity::Medium,
                    _ => Severity::High,
                },
                asi: Some(Asi::Asi03),
                atlas: Atlas::known(Atlas::UNSECURED_CREDENTIALS),
                subject: Subject::default(),
                evidence: Some(layer.withheld(span, secret.kind)),
                explanation: format!("The text holds a credential: {}", secret.kind),
            };
            self.add(finding, response);
        }
    }

    fn personal(&mut self, layer: &Read<'_>) {
        let policy = self.policy;
        if policy.personal.is_empty() {
            return;
        }
        for one in personal::find(layer.text) {
            let response = policy.for_personal(one.kind);
            if response == Response::Ignore {
                continue;
            }
            let span = (one.start, one.end);
            self.take_out(response, layer.outer(span), one.kind.as_str());
            let finding = Finding {
                rule: format!("personal-{}", one.kind.as_str()),
                severity: Severity::Low,
                asi: Some(Asi::Asi02),
                atlas: Atlas::known(Atlas::LEAKAGE),
                subject: Subject::default(),
                evidence: Some(layer.withheld(span, one.kind.as_str())),
                explanation: format!("The text holds personal data: {}", one.kind.as_str()),
            };
            self.add(finding, response);
        }
    }

    fn incomplete(&mut self, explanation: String) {
        self.scan.not_all(self.policy, explanation);
    }

    fn add(&mut self, finding: Finding, response: Response) {
        self.scan.add(finding, response);
    }

    fn take_out(&mut self, response: Response, span: Option<(usize, usize)>, what: &str) {
        if let Some((start, end)) = span.filter(|_| response == Response::Redact) {
            let instead = format!("[redacted: {what}]");
            self.scan.redactions.push((start, end, instead));
        }
    }

    fn done(mut self) -> Scan {
        self.scan.settle();
        self.scan
    }
}
