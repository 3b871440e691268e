//! One text, looked at with everything there is.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use super::canary::Canaries;
use super::compiled::{Compiled, Forms};
use super::policy::{Policy, Response};
use super::rules::{Place, Rule, RuleError, RuleSet};
use super::survey::Survey;
use super::unwrap::{self, Bounds, Layer};
use super::{invisible, personal, secrets};
use crate::finding::{Asi, Atlas, Evidence, Finding, Severity, Subject};
use crate::text;

/// Most findings of one text.
const FINDINGS: usize = 64;

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

/// What was seen in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What was seen, the worst first; at most [`FINDINGS`].
    pub findings: Vec<Finding>,
    /// What is to be done: the strongest response to anything seen.
    pub response: Response,
    /// The bytes to take out, in order and without overlap, with what stands there afterwards.
    pub redactions: Vec<(usize, usize, String)>,
    /// Whether all of it was looked at.
    pub complete: bool,
    /// The first rule that does not let it pass, when the response is to block it.
    pub blocked_by: Option<String>,
}

impl Scan {
    /// The text without what is to be taken out.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.redactions.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end, instead) in &self.redactions {
            out.push_str(text.get(at..*start).unwrap_or_default());
            out.push_str(instead);
            at = *end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Cow::Owned(out)
    }
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
            scan: Scan {
                findings: Vec::new(),
                response: Response::Ignore,
                redactions: Vec::new(),
                complete: true,
                blocked_by: None,
            },
        };
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

impl Seen<'_> {
    /// Looks at a part of the text that begins at a byte of it.
    fn part(&mut self, text: &str, begin: usize) {
        let survey = Survey::of(text);
        if !survey.plain {
            for finding in invisible::scan(self.place.as_str(), text) {
                let response = self.policy.for_rule(finding.severity);
                self.add(finding, response);
            }
        }
        let shift = |(start, end): (usize, usize)| (start + begin, end + begin);
        let whole = |span| shift(span);
        self.layer(text, survey, self.place.as_str(), false, &whole);
        let layers = unwrap::unwrap_surveyed(text, survey, self.scanner.limits.unwrap);
        for Layer {
            path,
            text,
            outer,
            concealed,
        } in &layers.layers
        {
            let path = format!("{} > {path}", self.place.as_str());
            self.layer(text, Survey::of(text), &path, *concealed, &|_| {
                shift(*outer)
            });
        }
        if layers.cut {
            self.incomplete(
                "The text holds more encoded texts, or more deeply nested ones, than are unwrapped"
                    .to_owned(),
            );
        }
    }

    /// Looks at one layer. `outer` says where bytes of it are in the whole text.
    fn layer(
        &mut self,
        text: &str,
        survey: Survey,
        path: &str,
        concealed: bool,
        outer: &dyn Fn((usize, usize)) -> (usize, usize),
    ) {
        let compiled = &self.scanner.compiled;
        let mut forms = Forms::of(text);
        let beginnings = self.canaries.beginnings();
        let possible = compiled.possible(&mut forms, survey, beginnings);
        let canary = possible.canary;
        let secrets = possible.secrets.clone();
        for (rule, hits) in compiled.find(&mut forms, possible, self.place) {
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
        if canary {
            self.canaries(&mut forms, path, outer);
        }
        self.secrets(text, &secrets, path, outer);
        self.personal(text, path, outer);
    }

    fn canaries(
        &mut self,
        forms: &mut Forms<'_>,
        path: &str,
        outer: &dyn Fn((usize, usize)) -> (usize, usize),
    ) {
        let (_, squeezed) = forms.both();
        for (canary, start, end) in self.canaries.find(squeezed.as_str()) {
            let span = outer(squeezed.span(start, end));
            let finding = Finding {
                rule: "canary".to_owned(),
                severity: Severity::Critical,
                asi: Some(Asi::Asi03),
                atlas: Atlas::known(Atlas::EXFILTRATION),
                subject: Subject::default(),
                evidence: Some(withheld(path, span, "a planted token")),
                explanation: format!(
                    "A token that nobody has a reason to use turned up; it was planted for: {}",
                    text::escaped(&canary.label, 120)
                ),
            };
            self.take_out(self.policy.canaries, span, "canary");
            self.add(finding, self.policy.canaries);
        }
    }

    fn secrets(
        &mut self,
        text: &str,
        possible: &[bool],
        path: &str,
        outer: &dyn Fn((usize, usize)) -> (usize, usize),
    ) {
        let response = self.policy.secrets;
        if response == Response::Ignore {
            return;
        }
        for secret in secrets::find_of(text, possible) {
            let span = outer((secret.start, secret.end));
            self.take_out(response, span, secret.kind);
            let finding = Finding {
                rule: format!("secret-{}", secret.kind),
                severity: match secret.kind {
                    "assigned-secret" | "password-in-url" => Severity::Medium,
                    _ => Severity::High,
                },
                asi: Some(Asi::Asi03),
                atlas: Atlas::known(Atlas::UNSECURED_CREDENTIALS),
                subject: Subject::default(),
                evidence: Some(withheld(path, span, secret.kind)),
                explanation: format!("The text holds a credential: {}", secret.kind),
            };
            self.add(finding, response);
        }
    }

    fn personal(
        &mut self,
        text: &str,
        path: &str,
        outer: &dyn Fn((usize, usize)) -> (usize, usize),
    ) {
        let policy = self.policy;
        if policy.personal.is_empty() {
            return;
        }
        for one in personal::find(text) {
            let response = policy.for_personal(one.kind);
            if response == Response::Ignore {
                continue;
            }
            let span = outer((one.start, one.end));
            self.take_out(response, span, one.kind.as_str());
            let finding = Finding {
                rule: format!("personal-{}", one.kind.as_str()),
                severity: Severity::Low,
                asi: Some(Asi::Asi02),
                atlas: Atlas::known(Atlas::LEAKAGE),
                subject: Subject::default(),
                evidence: Some(withheld(path, span, one.kind.as_str())),
                explanation: format!("The text holds personal data: {}", one.kind.as_str()),
            };
            self.add(finding, response);
        }
    }

    fn incomplete(&mut self, explanation: String) {
        self.scan.complete = false;
        let response = self.policy.unscanned;
        let finding = Finding {
            rule: "not-all-scanned".to_owned(),
            severity: Severity::Low,
            asi: Some(Asi::Asi01),
            atlas: Atlas::known(Atlas::OBFUSCATION),
            subject: Subject::default(),
            evidence: None,
            explanation,
        };
        self.add(finding, response);
    }

    /// Adds a finding, once for each rule; the worse one stays. The response always counts.
    fn add(&mut self, finding: Finding, response: Response) {
        if response == Response::Ignore {
            return;
        }
        if response == Response::Block && self.scan.blocked_by.is_none() {
            self.scan.blocked_by = Some(finding.rule.clone());
        }
        self.scan.response = self.scan.response.max(response);
        let findings = &mut self.scan.findings;
        match findings.iter().position(|known| known.rule == finding.rule) {
            Some(at) if findings[at].severity < finding.severity => findings[at] = finding,
            Some(_) => {}
            None if findings.len() < FINDINGS => findings.push(finding),
            None => self.scan.complete = false,
        }
    }

    fn take_out(&mut self, response: Response, span: (usize, usize), what: &str) {
        if response == Response::Redact {
            let instead = format!("[redacted: {what}]");
            self.scan.redactions.push((span.0, span.1, instead));
        }
    }

    fn done(mut self) -> Scan {
        let findings = &mut self.scan.findings;
        findings.sort_by(|a, b| {
            b.severity
                .cmp(&a.severity)
                .then_with(|| a.rule.cmp(&b.rule))
        });
        let redactions = &mut self.scan.redactions;
        redactions.sort();
        redactions.dedup();
        // Overlapping ones become one, so that nothing between them is left.
        let mut merged: Vec<(usize, usize, String)> = Vec::with_capacity(redactions.len());
        for (start, end, instead) in redactions.drain(..) {
            match merged.last_mut() {
                Some(last) if start < last.1 => last.1 = last.1.max(end),
                _ => merged.push((start, end, instead)),
            }
        }
        *redactions = merged;
        self.scan
    }
}

/// Evidence that says where and how much, and quotes nothing (R6).
fn withheld(path: &str, (start, end): (usize, usize), what: &str) -> Evidence {
    Evidence {
        place: path.to_owned(),
        start,
        end,
        quote: format!("[{what}, {} bytes]", end - start),
    }
}
