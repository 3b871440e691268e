//! Rules of the content detectors, `rules/*.toml`, and what programs were pinned to, `pins.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::config::Config;
use model::{Mistake, ServerName};
use monitor::content::{Limits, RuleSet, Scanner};
use serde::{Deserialize, Serialize};

use super::{Reading, Remark, toml_text};

/// Longest example that is quoted in a remark, in characters.
const QUOTED: usize = 80;

/// The file beside the configuration in which `sallyport mcp pin` keeps digests.
pub(crate) const PINS: &str = "pins.toml";

/// What programs were pinned to, by server and file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Pinned(pub(crate) BTreeMap<ServerName, BTreeMap<PathBuf, String>>);

impl Pinned {
    /// Reads the file.
    ///
    /// # Errors
    /// The mistake in it.
    pub(crate) fn parse(file: &Path, text: &str) -> Result<Self, Vec<Mistake>> {
        toml::from_str(text)
            .map_err(|error| vec![Mistake::new(file, error.message()).at(error.span())])
    }

    /// Adds what was pinned to the servers of a configuration.
    pub(crate) fn add_to(&self, config: &mut Config) {
        for (name, digests) in &self.0 {
            if let Some(server) = config.servers.get_mut(name) {
                server.digests.extend(digests.clone());
            }
        }
    }
}

impl Reading {
    /// Reads the rules beside the configuration, over those that come with the program, and tries their
    /// examples.
    pub(super) fn rules(&mut self, folder: &Path) -> Arc<Scanner> {
        let scanner = self.compiled_rules(folder);
        if Arc::ptr_eq(&scanner, &Scanner::shared()) {
            return scanner;
        }
        for broken in scanner.broken_examples() {
            let says = if broken.found {
                "is found in"
            } else {
                "is not found in"
            };
            let text = monitor::text::escaped(broken.text, QUOTED);
            let message = format!("rule `{}` {says} its example `{text}`", broken.rule);
            let mistake = Mistake::new(folder, message)
                .hint("correct the rule or the example; `sallyport rules test` shows more");
            self.remarks.push(mistake.into());
        }
        scanner
    }

    /// The rules, compiled; those that come with the program when there is a mistake in the others.
    pub(super) fn compiled_rules(&mut self, folder: &Path) -> Arc<Scanner> {
        let files = self.files(folder, "toml");
        if files.is_empty() {
            return Scanner::shared();
        }
        let mut set = RuleSet::built_in();
        for file in &files {
            let Some(text) = self.text(file) else {
                continue;
            };
            if let Err(error) = set.add(&text) {
                let mistake = Mistake::new(file, error.to_string())
                    .hint("docs/detection.md says what rules look like");
                self.remarks.push(mistake.into());
            }
        }
        match Scanner::new(set, Limits::default()) {
            Ok(scanner) => Arc::new(scanner),
            Err(error) => {
                self.remarks
                    .push(Mistake::new(folder, error.to_string()).into());
                Scanner::shared()
            }
        }
    }

    /// Reads what programs were pinned to, and adds it to the configuration.
    pub(super) fn pins(&mut self, file: &Path, config: Option<&mut Config>) {
        if !file.exists() {
            return;
        }
        let (Some(text), Some(config)) = (self.text(file), config) else {
            return;
        };
        match toml_text::read(file, &text, |text| Pinned::parse(file, text)) {
            Ok(pinned) => {
                for name in pinned.0.keys() {
                    let known = config.servers.get(name);
                    if known.is_none_or(|server| server.command.is_empty()) {
                        let mistake = Mistake::new(
                            file,
                            format!("there is no server `{name}` with a `command`, so nothing is pinned for it"),
                        )
                        .hint(format!("`sallyport mcp pin` writes the file anew without `{name}`"));
                        self.remarks.push(Remark::advice(mistake));
                    }
                }
                pinned.add_to(config);
            }
            Err(mistakes) => self.remarks.extend(mistakes.into_iter().map(Remark::from)),
        }
    }
}
