//! Names of tools across servers: which look alike, and which are spoken of.

use std::collections::HashMap;

use model::ServerName;

use crate::finding::{Asi, Atlas, Evidence, Finding, Severity, Subject};
use crate::text::{self, skeleton};

/// Most names of tools that are compared.
const NAMES: usize = 65_536;
/// Shortest name, in letters and digits, that is looked for in descriptions.
const TELLING: usize = 6;

/// The tools that are known, of all servers.
#[derive(Debug, Clone, Default)]
pub struct Known {
    by_skeleton: HashMap<String, Vec<(ServerName, String)>>,
    count: usize,
}

impl Known {
    /// Adds a tool. Beyond [`NAMES`] there are no more.
    pub fn add(&mut self, server: &ServerName, tool: &str) {
        if self.count >= NAMES {
            return;
        }
        let same = self.by_skeleton.entry(skeleton(tool)).or_default();
        let tool: String = tool.chars().take(256).collect();
        if !same.iter().any(|(at, name)| at == server && *name == tool) {
            same.push((server.clone(), tool));
            self.count += 1;
        }
    }

    /// What is odd about a name: it is, or looks like, that of another tool.
    pub(super) fn shadows(&self, server: &ServerName, name: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let same = self
            .by_skeleton
            .get(&skeleton(name))
            .map_or(&[][..], Vec::as_slice);
        let finding = |rule: &str, severity, other: &(ServerName, String), how: &str| Finding {
            rule: rule.to_owned(),
            severity,
            asi: Some(Asi::Asi04),
            atlas: Atlas::known(Atlas::MASQUERADING),
            subject: subject(server, name),
            evidence: Some(Evidence::of("name", name, 0, name.len())),
            explanation: format!(
                "The name {how} tool `{}` of server `{}`: a model cannot keep them apart",
                text::escaped(&other.1, 60),
                other.0
            ),
        };
        // Mere capitals and separators are a habit; other characters that look alike are not.
        let plain = |name: &str| {
            let kept = name.chars().filter(|c| c.is_alphanumeric());
            kept.flat_map(char::to_lowercase).collect::<String>()
        };
        if let Some(other) = same
            .iter()
            .find(|(at, other)| at != server && other == name)
        {
            findings.push(finding(
                "tool-shadowing",
                Severity::Medium,
                other,
                "is that of",
            ));
        } else if let Some(other) = same.iter().find(|(_, other)| plain(other) != plain(name)) {
            findings.push(finding(
                "tool-look-alike",
                Severity::High,
                other,
                "looks like that of",
            ));
        } else if let Some(other) = same.iter().find(|(_, other)| other != name) {
            findings.push(finding(
                "tool-shadowing",
                Severity::Low,
                other,
                "is almost that of",
            ));
        }
        if !name.is_ascii() {
            findings.push(Finding {
                rule: "tool-name-not-ascii".to_owned(),
                severity: Severity::Medium,
                asi: Some(Asi::Asi04),
                atlas: Atlas::known(Atlas::MASQUERADING),
                subject: subject(server, name),
                evidence: Some(Evidence::of("name", name, 0, name.len())),
                explanation: "The name has characters outside ASCII, which MCP does not allow in names of tools"
                    .to_owned(),
            });
        }
        findings
    }

    /// The tools of other servers that a text speaks of, with where in the text.
    pub(super) fn spoken_of<'a>(
        &'a self,
        server: &ServerName,
        text: &str,
    ) -> Option<(&'a ServerName, &'a str, usize, usize)> {
        let mut at = 0;
        for word in text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))) {
            let start = at;
            at += word.len();
            at += text[at..].chars().next().map_or(0, char::len_utf8);
            let word = word.trim_end_matches(['.', '-']);
            // Ordinary words are names of tools often enough: only a name with a sign or a capital in it
            // is a reference.
            let telling = word.len() >= TELLING
                && (word.contains(['_', '.']) || word.contains('-') || has_hump(word));
            if !telling {
                continue;
            }
            let same = self
                .by_skeleton
                .get(&skeleton(word))
                .map_or(&[][..], Vec::as_slice);
            let own = same.iter().any(|(of, _)| of == server);
            if let Some((of, tool)) = same.iter().find(|(of, _)| of != server && !own) {
                return Some((of, tool, start, start + word.len()));
            }
        }
        None
    }
}

fn has_hump(word: &str) -> bool {
    let mut chars = word.chars().zip(word.chars().skip(1));
    chars.any(|(a, b)| a.is_lowercase() && b.is_uppercase())
}

pub(super) fn subject(server: &ServerName, tool: &str) -> Subject {
    Subject {
        server: Some(server.clone()),
        target: Some(text::escaped(tool, 128)),
        ..Subject::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let mut known = Known::default();
        for (server, tool) in [
            ("mail", "send_email"),
            ("files", "read_file"),
            ("files", "search"),
        ] {
            known.add(&ServerName::parse(server).unwrap(), tool);
        }
        known
    }

    fn rules(server: &str, name: &str) -> Vec<String> {
        let server = ServerName::parse(server).unwrap();
        known()
            .shadows(&server, name)
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn names_of_others_are_noticed() {
        assert_eq!(rules("evil", "send_email"), ["tool-shadowing"]);
        assert_eq!(rules("evil", "sendEmail"), ["tool-shadowing"]);
        assert_eq!(rules("evil", "send_emai1"), ["tool-look-alike"]);
        assert_eq!(
            rules("evil", "send_\u{435}mail"),
            ["tool-look-alike", "tool-name-not-ascii"]
        );
        assert_eq!(rules("mail", "send_email"), Vec::<String>::new());
        assert_eq!(rules("mail", "send_letter"), Vec::<String>::new());
    }

    #[test]
    fn references_to_other_servers_are_noticed() {
        let known = known();
        let evil = ServerName::parse("evil").unwrap();
        let text = "Adds. When send_email is there, use it.";
        let (server, tool, start, end) = known.spoken_of(&evil, text).unwrap();
        assert_eq!(
            (server.as_str(), tool, &text[start..end]),
            ("mail", "send_email", "send_email")
        );
        assert!(
            known
                .spoken_of(&evil, "A search of files; search again")
                .is_none()
        );
        let mail = ServerName::parse("mail").unwrap();
        assert!(
            known
                .spoken_of(&mail, "Like send_email, but later")
                .is_none()
        );
    }
}
