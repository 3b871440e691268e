//! The role of one session: made from the grant when the session begins, dropped when it ends. The
//! database itself so enforces what the gateway decided; a mistake in either leaves the other.

mod catalog;
mod plan;
mod rules;

pub(crate) use catalog::catalog;
pub use plan::{Plan, PlanError, RowRule, plan};

use std::time::{Duration, Instant};

use postgres_protocol::escape::{escape_identifier, escape_literal};
use zeroize::Zeroizing;

use crate::upstream::{Database, UpstreamError};

/// What the names of all such roles begin with.
const PREFIX: &str = "sallyport_";
/// How long a role's password may be used, in seconds: just long enough to log in with it. A role whose
/// time is over and that nobody is logged in with is left over, whoever made it.
const LOGIN_SECONDS: u32 = 20;
/// How long making a role is tried when it collides with others.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first pause between two tries, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(40), Duration::from_millis(500));
/// Most roles that one look for left-over ones drops.
const SWEPT: usize = 50;

/// A role that exists.
pub(crate) struct Role {
    /// Its name.
    pub(crate) name: String,
    /// Its password.
    pub(crate) password: Zeroizing<String>,
}

impl Role {
    /// Makes a role that may do what the plan says, and nothing else.
    ///
    /// # Errors
    /// [`UpstreamError`]; then there is none.
    pub(crate) async fn make(database: &Database, plan: &Plan) -> Result<Self, UpstreamError> {
        let name = format!("{PREFIX}{}", hexadecimal::<10>());
        let password = Zeroizing::new(hexadecimal::<32>());
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let role = escape_identifier(&name);
        let rules = plan.row_rules(&database.address.database);
        rules::keep(database, &rules).await?;
        // The roles of rules, its only memberships, are inherited, or their policies would not hold for it.
        let inherit = if rules.is_empty() {
            "NOINHERIT"
        } else {
            "INHERIT"
        };
        let mut sql = format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE {inherit} NOREPLICATION NOBYPASSRLS \
             CONNECTION LIMIT 1 PASSWORD {};\n",
            escape_literal(&verifier).trim_start(),
        );
        // By the database's own clock.
        sql.push_str(&format!(
            "DO $sallyport$ BEGIN EXECUTE format('ALTER ROLE %I VALID UNTIL %L', {}, now() + interval \
             '{LOGIN_SECONDS} seconds'); \
             IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN \
             EXECUTE format('GRANT %I TO CURRENT_USER', {}); END IF; END $sallyport$;\n",
            escape_literal(&name).trim_start(),
            escape_literal(&name).trim_start(),
        ));
        for rule in &rules {
            sql.push_str(&format!(
                "GRANT {} TO {role};\n",
                escape_identifier(&rule.role)
            ));
        }
        sql.push_str(&plan.sql(&name));
        // Another gateway may be granting at the same tables.
        patiently(PATIENCE, || database.admin.run(database, &sql)).await?;
        Ok(Self { name, password })
    }

    /// Drops it, with what it was granted.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`sweep`] tries again later.
    pub(crate) async fn drop(database: &Database, name: &str) -> Result<(), UpstreamError> {
        let role = escape_identifier(name);
        let role = role.trim();
        let sql = format!("{} DROP OWNED BY {role}; DROP ROLE {role};", rules::LOCK);
        database.admin.run(database, &sql).await.map(drop)
    }
}

/// Tries something again for a while when others are in its way.
async fn patiently<T, F>(
    patience: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, UpstreamError>
where
    F: Future<Output = Result<T, UpstreamError>>,
{
    let until = Instant::now() + patience;
    let (mut pause, longest) = PAUSES;
    loop {
        match attempt().await {
            Err(error) if error.is_passing() && Instant::now() + pause < until => {
                tracing::debug!(%error, "tried again in a moment");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            done => return done,
        }
    }
}

/// The schemas that names are looked up in, as the database takes them.
pub(crate) fn search_path(database: &Database) -> String {
    let path = database.server.postgres.search_path.iter();
    path.map(|schema| escape_identifier(schema))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Drops roles that a gateway left behind when it died.
///
/// # Errors
/// [`UpstreamError`] when the database cannot be asked.
pub(crate) async fn sweep(database: &Database) -> Result<usize, UpstreamError> {
    let sql = format!(
        "SELECT r.rolname FROM pg_roles r WHERE r.rolname ~ '^{PREFIX}(rows_[0-9a-f]{{30}}|[0-9a-f]{{20}})$' \
         AND r.rolvaliduntil < now() \
         AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid) \
         AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid \
           AND m.member IN (SELECT oid FROM pg_roles WHERE rolname ~ '^{PREFIX}')) LIMIT {SWEPT}"
    );
    let mut dropped = 0;
    for row in database.admin.run(database, &sql).await? {
        let Some(name) = row.first() else { continue };
        match Role::drop(database, name).await {
            Ok(()) => dropped += 1,
            // Someone else may have been faster.
            Err(error) => {
                tracing::debug!(server = %database.name, role = name, %error, "a role that was left over stays");
            }
        }
    }
    Ok(dropped)
}

fn hexadecimal<const N: usize>() -> String {
    use std::fmt::Write as _;
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system gives randomness");
    let mut text = String::with_capacity(N * 2);
    for byte in bytes.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
