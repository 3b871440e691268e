//! Keeping the rules on rows in the database.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::plan::RowRule;
use super::{patiently, search_path};
use crate::upstream::{Database, UpstreamError};

/// How long a rule that no session uses is kept, in the database's own words.
const KEPT: &str = "1 day";

/// How long one try to make rules waits for their tables. While it waits, whoever comes next at such a table
/// waits behind it, so it is short, and tried again.
pub(super) const LOCK: &str = "SET LOCAL lock_timeout = '200ms';\n";
/// How long making them is tried in all.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes the rules that are not there, and keeps the others from being swept.
///
/// # Errors
/// [`UpstreamError`]; among them [`UpstreamError::InUse`] when a table was never free.
pub(super) async fn keep(database: &Database, rules: &[RowRule]) -> Result<(), UpstreamError> {
    if rules.is_empty() {
        return Ok(());
    }
    // Each try asks anew: another session may have made them meanwhile.
    let kept = patiently(PATIENCE, || kept(database, rules)).await;
    kept.map_err(|error| match error {
        UpstreamError::Refused { code, .. } if code == "55P03" => {
            let tables: BTreeSet<String> = rules
                .iter()
                .map(|RowRule { table, .. }| format!("{}.{}", table.0, table.1))
                .collect();
            let tables: Vec<_> = tables.into_iter().collect();
            UpstreamError::InUse(tables.join(", "))
        }
        other => other,
    })
}

async fn kept(database: &Database, rules: &[RowRule]) -> Result<(), UpstreamError> {
    let literal = |text: &str| escape_literal(text).trim_start().to_owned();
    let names: Vec<String> = rules.iter().map(|rule| literal(&rule.role)).collect();
    // A rule is there when the very table has its policy, and the policy is for the rule's own role.
    let question = format!(
        "SELECT p.polname, n.nspname, c.relname, r.rolvaliduntil < now() + interval '12 hours' \
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_roles r ON r.rolname = p.polname AND p.polroles = ARRAY[r.oid] \
         WHERE NOT p.polpermissive AND p.polname IN ({})",
        names.join(", ")
    );
    let mut there = HashSet::new();
    let mut sql = String::new();
    for row in database.admin.run(database, &question).await? {
        let Ok([role, schema, table, stale]) = <[String; 4]>::try_from(row) else {
            continue;
        };
        if stale != "f" {
            sql.push_str(&until(&role));
        }
        there.insert((role, schema, table));
    }
    let missing = rules.iter().filter(|rule| {
        let (schema, table) = rule.table.clone();
        !there.contains(&(rule.role.clone(), schema, table))
    });
    let missing: Vec<&RowRule> = missing.collect();
    if !missing.is_empty() {
        sql.push_str(LOCK);
        // The names in conditions mean what they mean to sessions.
        sql.push_str(&format!(
            "SET LOCAL search_path = {};\n",
            search_path(database)
        ));
    }
    for rule in missing {
        let role = escape_identifier(&rule.role);
        sql.push_str(&format!(
            "DO $sallyport$ BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN \
             CREATE ROLE {role} NOLOGIN NOINHERIT; END IF; \
             IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN \
             GRANT {role} TO CURRENT_USER; END IF; END $sallyport$;\n",
            literal(&rule.role)
        ));
        sql.push_str(&rule.policies);
        sql.push_str(&until(&rule.role));
    }
    if sql.is_empty() {
        return Ok(());
    }
    database.admin.run(database, &sql).await.map(drop)
}

/// Nobody logs in with it: its time only says how long it is kept.
fn until(role: &str) -> String {
    format!(
        "DO $sallyport$ BEGIN EXECUTE pg_catalog.format('ALTER ROLE %I VALID UNTIL %L', {}, \
         pg_catalog.now() + interval '{KEPT}'); END $sallyport$;\n",
        escape_literal(role).trim_start()
    )
}
