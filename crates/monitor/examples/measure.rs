//! Measures the content detectors on labelled texts: `measure FILE`, a text of JSON for each line, with
//! `label` (`attack` or `benign`), `place`, `group` and `text`. With `--errors`, also says which were wrong.
//! Used by `bench/detectors/run`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use monitor::Severity;
use monitor::content::{Canaries, Place, Policy, Scanner};
use serde::Deserialize;

#[derive(Deserialize)]
struct Text {
    label: String,
    place: String,
    group: String,
    text: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: measure FILE [--errors]")?;
    let errors = arguments.next().is_some();
    let scanner = Scanner::built_in();
    let canaries = Canaries::default();
    let policy = Policy::default();
    let mut out = io::stdout().lock();
    // For each severity from which a text counts as an attack: groups with how many were found of how many.
    let mut counts: BTreeMap<(Severity, String, String), (u32, u32)> = BTreeMap::new();
    let mut rules: BTreeMap<(String, String), u32> = BTreeMap::new();
    let (mut bytes, mut spent) = (0usize, Duration::ZERO);
    for line in io::BufReader::new(std::fs::File::open(file)?).lines() {
        let text: Text = serde_json::from_str(&line?)?;
        let place = Place::ALL
            .into_iter()
            .find(|place| place.as_str() == text.place)
            .ok_or("an unknown place")?;
        let begun = Instant::now();
        let scan = scanner.scan(&text.text, place, &canaries, &policy);
        spent += begun.elapsed();
        bytes += text.text.len();
        // Credentials and personal data are no attacks; they are looked for, for other reasons.
        let worst = scan
            .findings
            .iter()
            .filter(|finding| {
                !finding.rule.starts_with("secret-") && finding.rule != "not-all-scanned"
            })
            .map(|finding| finding.severity)
            .max();
        for from in [Severity::Low, Severity::Medium, Severity::High] {
            let key = (from, text.label.clone(), text.group.clone());
            let count = counts.entry(key).or_default();
            count.0 += u32::from(worst.is_some_and(|worst| worst >= from));
            count.1 += 1;
        }
        for finding in &scan.findings {
            if finding.severity >= Severity::Medium {
                *rules
                    .entry((text.label.clone(), finding.rule.clone()))
                    .or_default() += 1;
            }
        }
        let wrong =
            (text.label == "attack") != worst.is_some_and(|worst| worst >= Severity::Medium);
        if errors && wrong {
            let evidence = scan.findings.first().map(|finding| {
                let quote = finding
                    .evidence
                    .as_ref()
                    .map(|evidence| evidence.quote.as_str());
                format!("{}: {}", finding.rule, quote.unwrap_or_default())
            });
            let shown = monitor::text::escaped(&text.text, 160);
            writeln!(
                out,
                "{} {} | {} | {shown}",
                text.label,
                text.group,
                evidence.unwrap_or_default()
            )?;
        }
    }
    for from in [Severity::Low, Severity::Medium, Severity::High] {
        let sum = |label: &str| {
            counts
                .iter()
                .filter(|((severity, of, _), _)| *severity == from && of == label)
                .fold((0, 0), |sum, (_, count)| (sum.0 + count.0, sum.1 + count.1))
        };
        let ((right, attacks), (wrong, benign)) = (sum("attack"), sum("benign"));
        writeln!(
            out,
            "from {from:<6}  precision {:5.1} %  recall {:5.1} % ({right}/{attacks})  \
             false positives {:5.1} per 1,000 ({wrong}/{benign})",
            100.0 * f64::from(right) / f64::from((right + wrong).max(1)),
            100.0 * f64::from(right) / f64::from(attacks.max(1)),
            1_000.0 * f64::from(wrong) / f64::from(benign.max(1)),
        )?;
    }
    for ((_, label, group), (found, all)) in
        counts.iter().filter(|(key, _)| key.0 == Severity::Medium)
    {
        writeln!(out, "  {label:<7} {group:<28} {found:>5} of {all:>5}")?;
    }
    if errors {
        for ((label, rule), count) in &rules {
            writeln!(out, "  {label:<7} {rule:<28} {count:>5}")?;
        }
    }
    let seconds = spent.as_secs_f64().max(1e-9);
    writeln!(
        out,
        "{:.1} MB in {seconds:.2} s: {:.1} MB/s on one core",
        bytes as f64 / 1e6,
        bytes as f64 / 1e6 / seconds
    )?;
    Ok(())
}
