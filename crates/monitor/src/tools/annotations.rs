//! Annotations (MCP `ToolAnnotations`) that do not fit the tool.

use model::ServerName;
use serde_json::Value;

use super::definition::Definition;
use super::names::subject;
use crate::finding::{Asi, Atlas, Evidence, Finding, Severity};
use crate::text::words;

/// What changes something.
const CHANGES: [&str; 44] = [
    "add", "append", "apply", "approve", "assign", "archive", "book", "buy", "cancel", "change",
    "commit", "create", "deploy", "edit", "execute", "grant", "insert", "install", "invite",
    "merge", "modify", "move", "order", "patch", "pay", "post", "publish", "push", "put", "rename",
    "reply", "reset", "restart", "run", "save", "schedule", "send", "set", "submit", "transfer",
    "update", "upload", "upsert", "write",
];
/// What takes something away for good.
const DESTROYS: [&str; 15] = [
    "delete",
    "destroy",
    "drop",
    "erase",
    "kill",
    "overwrite",
    "prune",
    "purge",
    "remove",
    "revoke",
    "rm",
    "terminate",
    "truncate",
    "uninstall",
    "wipe",
];
/// What reaches out to others.
const REACHES_OUT: [&str; 14] = [
    "browse", "call", "crawl", "download", "email", "fetch", "http", "mail", "notify", "post",
    "publish", "send", "sms", "upload",
];

/// What is odd about the annotations.
pub(super) fn lies(server: &ServerName, definition: &Definition) -> Vec<Finding> {
    let hint = |name: &str| definition.member("annotations")?.get(name)?.as_bool();
    let name = verb_of_name(definition.name());
    let said = verb_of_text(definition.description().unwrap_or_default());
    let is_one_of = |verbs: &[&str]| {
        [&name, &said]
            .into_iter()
            .flatten()
            .find(|word| verbs.contains(&word.as_str()))
            .cloned()
    };
    let changes = || is_one_of(&DESTROYS).or_else(|| is_one_of(&CHANGES));
    let read_only = hint("readOnlyHint") == Some(true);
    let mut findings = Vec::new();
    let mut note = |claim: &str, verb: String, severity| {
        findings.push(Finding {
            rule: "tool-lying-annotation".to_owned(),
            severity,
            asi: Some(Asi::Asi02),
            atlas: Atlas::known(Atlas::MASQUERADING),
            subject: subject(server, definition.name()),
            evidence: Some(Evidence::of("annotations", claim, 0, claim.len())),
            explanation: format!("The tool says `{claim}`, and its verb is `{verb}`"),
        });
    };
    if read_only && let Some(verb) = changes() {
        note("readOnlyHint: true", verb, Severity::Medium);
    } else if hint("destructiveHint") == Some(false)
        && let Some(verb) = is_one_of(&DESTROYS)
    {
        note("destructiveHint: false", verb, Severity::Medium);
    }
    if hint("openWorldHint") == Some(false)
        && let Some(verb) = is_one_of(&REACHES_OUT)
    {
        note("openWorldHint: false", verb, Severity::Low);
    }
    findings
}

/// The verb of a name: its first word that is one, without a prefix such as `github_`.
fn verb_of_name(name: &str) -> Option<String> {
    let all: Vec<String> = words(name).collect();
    let verb = |word: &&String| {
        [&CHANGES[..], &DESTROYS, &REACHES_OUT]
            .iter()
            .any(|verbs| verbs.contains(&word.as_str()))
            || matches!(
                word.as_str(),
                "get" | "list" | "read" | "search" | "find" | "show" | "describe"
            )
    };
    all.iter().find(verb).cloned()
}

/// The verb that a description begins with: `Deletes a file` and `Delete a file` both say `delete`.
fn verb_of_text(text: &str) -> Option<String> {
    let first = words(text.get(..text.len().min(200)).unwrap_or_default()).next()?;
    let known = |word: &str| {
        [&CHANGES[..], &DESTROYS, &REACHES_OUT]
            .iter()
            .any(|verbs| verbs.contains(&word))
    };
    let stems = [
        first.as_str(),
        first.strip_suffix('s').unwrap_or_default(),
        first.strip_suffix("es").unwrap_or_default(),
    ];
    stems
        .into_iter()
        .find(|stem| known(stem))
        .map(str::to_owned)
}

/// Parameters that ask for what no tool should be given by a model.
pub(super) fn credential_parameters(server: &ServerName, definition: &Definition) -> Vec<Finding> {
    let properties = definition
        .member("inputSchema")
        .and_then(|schema| schema.get("properties"))
        .and_then(Value::as_object);
    let mut findings = Vec::new();
    for name in properties
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .take(512)
    {
        if let Some(what) = credential(name) {
            findings.push(Finding {
                rule: "tool-asks-for-credential".to_owned(),
                severity: Severity::Medium,
                asi: Some(Asi::Asi03),
                atlas: Atlas::known("AML.T0098"),
                subject: subject(server, definition.name()),
                evidence: Some(Evidence::of("inputSchema.properties", name, 0, name.len())),
                explanation: format!(
                    "A parameter asks the model for {what}; credentials belong into the gateway's \
                     configuration, where no agent sees them"
                ),
            });
        }
    }
    findings
}

fn credential(name: &str) -> Option<&'static str> {
    let all: Vec<String> = words(name).collect();
    let has = |word: &str| all.iter().any(|other| other == word);
    let joined = all.concat();
    // Counts and positions are called tokens too.
    let counts = [
        "max",
        "min",
        "num",
        "page",
        "next",
        "prev",
        "count",
        "limit",
        "budget",
        "sync",
        "cursor",
        "continuation",
        "start",
        "resume",
        "type",
        "ids",
        "usage",
        "total",
    ];
    let counted = counts.iter().any(|word| has(word));
    if ["password", "passwd", "passphrase", "pwd", "pin"]
        .iter()
        .any(|word| has(word))
    {
        Some("a password")
    } else if joined.contains("apikey")
        || joined.contains("accesskey")
        || joined.contains("secretkey")
    {
        Some("an API key")
    } else if joined.contains("privatekey") || joined.contains("sshkey") {
        Some("a private key")
    } else if (has("token") && !counted)
        || joined.contains("bearer")
        || joined.contains("accesstoken")
    {
        Some("a token")
    } else if has("secret") || has("credential") || has("credentials") || has("mnemonic") {
        Some("a secret")
    } else if (has("cookie") || has("cookies")) || joined.contains("sessionid") {
        Some("a session")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn count(name: &str, description: &str, annotations: Value) -> usize {
        let definition =
            json!({"name": name, "description": description, "annotations": annotations});
        let server = ServerName::parse("s").unwrap();
        lies(&server, &Definition::of(&definition).unwrap()).len()
    }

    #[test]
    fn annotations_that_do_not_fit_are_noticed() {
        let read_only = || json!({"readOnlyHint": true});
        assert_eq!(count("delete_file", "", read_only()), 1);
        assert_eq!(count("gmailSendEmail", "", read_only()), 1);
        assert_eq!(count("helper", "Deletes all rows.", read_only()), 1);
        assert_eq!(
            count("drop_table", "", json!({"destructiveHint": false})),
            1
        );
        assert_eq!(count("fetch", "", json!({"openWorldHint": false})), 1);
    }

    #[test]
    fn annotations_that_fit_are_fine() {
        let read_only = || json!({"readOnlyHint": true});
        assert_eq!(
            count("list_deleted_files", "Lists what was deleted.", read_only()),
            0
        );
        assert_eq!(count("get_order", "Returns an order", read_only()), 0);
        assert_eq!(count("search_posts", "Search posts", read_only()), 0);
        assert_eq!(
            count("delete_file", "Deletes", json!({"destructiveHint": true})),
            0
        );
        assert_eq!(count("delete_file", "Deletes", json!({})), 0);
    }

    #[test]
    fn counts_are_no_credentials() {
        for name in [
            "max_tokens",
            "page_token",
            "nextToken",
            "tokens",
            "author",
            "key",
            "pinned",
            "passive",
        ] {
            assert_eq!(credential(name), None, "{name}");
        }
        for name in [
            "password",
            "apiKey",
            "api_key",
            "github_token",
            "AWS_SECRET_ACCESS_KEY",
            "sshKey",
            "session_id",
        ] {
            assert!(credential(name).is_some(), "{name}");
        }
    }
}
