//! Settings that sessions may look at and change: those that change how values are written, never what
//! may be touched.

use sqlparser::ast::{Ident, Reset, ResetStatement, Set};

use super::analysis::{Refused, fold, single};

/// Settings that may be changed.
const CHANGED: [&str; 11] = [
    "application_name",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "timezone",
    "bytea_output",
    "xmloption",
    "jit",
    "plan_cache_mode",
];

/// Settings that may be looked at besides those.
const SHOWN: [&str; 16] = [
    "server_version",
    "server_version_num",
    "server_encoding",
    "transaction isolation level",
    "transaction_isolation",
    "transaction_read_only",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "standard_conforming_strings",
    "search_path",
    "statement_timeout",
    "integer_datetimes",
    "max_identifier_length",
    "is_superuser",
    "session_authorization",
    "in_hot_standby",
];

/// Whether a setting may be changed by `SET`, or when the session begins.
#[must_use]
pub(crate) fn may_set(name: &str) -> bool {
    CHANGED.contains(&name)
}

/// Whether an encoding, by any of its names, is UTF-8: the only one in which texts mean to the gateway
/// what they mean to the database.
#[must_use]
pub(crate) fn is_utf8(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    matches!(plain.as_str(), "utf8" | "unicode")
}

fn refused(name: &str) -> Refused {
    Refused::forbidden(format!(
        "the setting `{name}` cannot be changed or shown here"
    ))
}

pub(super) fn show(variable: &[Ident]) -> Result<(), Refused> {
    let mut words = Vec::new();
    for word in variable {
        words.push(fold(word)?.to_ascii_lowercase());
    }
    let name = words.join(" ");
    let plain = name == "time zone";
    if plain || may_set(&name) || SHOWN.contains(&name.as_str()) {
        Ok(())
    } else {
        Err(refused(&name))
    }
}

pub(super) fn set(set: &Set, strings: &[String]) -> Result<(), Refused> {
    let encoding = || match strings {
        [one] if is_utf8(one) => Ok(()),
        _ => Err(Refused::forbidden("the client's encoding must be UTF8")),
    };
    match set {
        Set::SingleAssignment { variable, .. } => {
            let name = single(variable)?.to_ascii_lowercase();
            if name == "client_encoding" {
                return encoding();
            }
            if may_set(&name) {
                Ok(())
            } else {
                Err(refused(&name))
            }
        }
        Set::SetTimeZone { .. } => Ok(()),
        Set::SetNames { .. } => encoding(),
        Set::SetTransaction { snapshot: None, .. } => Ok(()),
        _ => Err(Refused::forbidden("this SET is not allowed here")),
    }
}

pub(super) fn reset(reset: &ResetStatement) -> Result<(), Refused> {
    match &reset.reset {
        // Back to what the session began with, which the gateway chose.
        Reset::ALL => Ok(()),
        Reset::ConfigurationParameter(name) => {
            let name = single(name)?.to_ascii_lowercase();
            if may_set(&name) {
                Ok(())
            } else {
                Err(refused(&name))
            }
        }
        #[allow(unreachable_patterns)]
        _ => Err(Refused::forbidden("this RESET is not allowed here")),
    }
}
