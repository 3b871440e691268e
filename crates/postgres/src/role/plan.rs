//! From a grant to what a role is given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::grant::TablePermission;
use model::statement::TableOperation;
use postgres_protocol::escape::escape_identifier;

use crate::sql::analysis::check_condition;
use crate::sql::{Catalog, Relation, RelationKind};

/// Most tables that one session may reach.
const TABLES: usize = 1_000;

/// Why no role can be made from a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Rows are limited at a table whose rows the database does not limit.
    #[error("the grant limits the rows of {0}, but row security is not enabled for it")]
    NoRowSecurity(String),
    /// Rows are limited at something that is not a table.
    #[error(
        "the grant limits the rows of {0}, which is not a table: the database can limit only those of tables"
    )]
    NotATable(String),
    /// A condition that is not one.
    #[error("the grant's condition on the rows of {0} cannot be used: {1}")]
    Condition(String, String),
    /// The grant matches too many tables.
    #[error("the grant matches more than 1,000 tables")]
    TooMany,
}

impl PlanError {
    /// What can be done.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::NoRowSecurity(table) => format!(
                "the owner of the table can say: CREATE POLICY everyone_else ON {table} USING (true); ALTER TABLE \
                 {table} ENABLE ROW LEVEL SECURITY"
            ),
            Self::NotATable(_) => "grant the table itself, or a view without `rows`".to_owned(),
            Self::Condition(..) => "`rows` in the template must be one SQL condition".to_owned(),
            Self::TooMany => "name fewer tables in the template".to_owned(),
        }
    }
}

/// What a role is given.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    tables: Vec<Given>,
    /// Tables of which it sees only some rows.
    filtered: BTreeSet<String>,
    writes: bool,
}

#[derive(Debug, Clone)]
struct Given {
    table: Arc<Relation>,
    operations: BTreeMap<TableOperation, Right>,
}

/// In one way, at one table.
#[derive(Debug, Clone)]
struct Right {
    /// All columns when `None`.
    columns: Option<BTreeSet<String>>,
    /// All rows when `None`.
    rows: Option<String>,
}

impl Plan {
    /// Whether rows of a table are hidden from the role.
    #[must_use]
    pub fn is_filtered(&self, table: &str) -> bool {
        self.filtered.contains(table)
    }

    /// Whether it writes anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// The statements that give a role what is planned.
    #[must_use]
    pub fn sql(&self, role: &str) -> String {
        let to = quote(role);
        let mut sql = String::new();
        let schemas: BTreeSet<&str> = self
            .tables
            .iter()
            .map(|g| g.table.schema.as_str())
            .collect();
        for schema in schemas {
            sql.push_str(&format!(
                "GRANT USAGE ON SCHEMA {} TO {to};\n",
                quote(schema)
            ));
        }
        for given in &self.tables {
            let table = format!(
                "{}.{}",
                quote(&given.table.schema),
                quote(&given.table.name)
            );
            for (operation, right) in &given.operations {
                let columns = match &right.columns {
                    Some(columns) if *operation != TableOperation::Delete => {
                        let names: Vec<_> = columns.iter().map(|name| quote(name)).collect();
                        format!(" ({})", names.join(", "))
                    }
                    _ => String::new(),
                };
                let word = operation.as_str().to_uppercase();
                sql.push_str(&format!("GRANT {word}{columns} ON {table} TO {to};\n"));
                if *operation == TableOperation::Insert {
                    for sequence in &given.table.sequences {
                        sql.push_str(&format!("GRANT USAGE ON SEQUENCE {sequence} TO {to};\n"));
                    }
                }
            }
        }
        sql
    }

    /// The rules on rows that it is held to.
    #[must_use]
    pub fn row_rules(&self, database: &str) -> Vec<RowRule> {
        let filtered = self
            .tables
            .iter()
            .filter(|given| self.filtered.contains(&given.table.full_name()));
        filtered
            .flat_map(|given| {
                let each = given.operations.iter();
                each.map(|(operation, right)| row_rule(database, &given.table, *operation, right))
            })
            .collect()
    }
}

/// Which rows of a table may be touched in one way. It is kept in the database as policies for a role of
/// its own that nobody logs in with; roles of sessions become its members. So that a session can begin
/// while another one has the table in use: making a policy needs the table for itself, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRule {
    /// The name of the role, and of the policy.
    pub role: String,
    /// The table's schema and name.
    pub table: (String, String),
    /// The statements that make the policies.
    pub policies: String,
}

/// What the names of roles for rules on rows begin with.
pub(super) const RULES: &str = "sallyport_rows_";

fn row_rule(
    database: &str,
    relation: &Relation,
    operation: TableOperation,
    right: &Right,
) -> RowRule {
    let open = if relation.open_policies {
        "open"
    } else {
        "closed"
    };
    let condition = right.rows.as_deref().unwrap_or("true");
    let whole = [
        database,
        &relation.schema,
        &relation.name,
        operation.as_str(),
        open,
        condition,
    ];
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, whole.join("\0").as_bytes());
    let digest = digest
        .as_ref()
        .iter()
        .take(15)
        .map(|byte| format!("{byte:02x}"));
    let role = format!("{RULES}{}", digest.collect::<String>());
    let table = format!("{}.{}", quote(&relation.schema), quote(&relation.name));
    RowRule {
        policies: policies(relation, &table, &role, operation, condition),
        table: (relation.schema.clone(), relation.name.clone()),
        role,
    }
}

/// The policies that hold a role to its rows: one that nothing can widen, and where no policy lets
/// everyone in, one that lets it in.
fn policies(
    relation: &Relation,
    table: &str,
    role: &str,
    operation: TableOperation,
    condition: &str,
) -> String {
    let checks = match operation {
        TableOperation::Select | TableOperation::Delete => format!("USING (({condition}\n))"),
        TableOperation::Insert => format!("WITH CHECK (({condition}\n))"),
        TableOperation::Update => {
            format!("USING (({condition}\n)) WITH CHECK (({condition}\n))")
        }
    };
    let word = operation.as_str().to_uppercase();
    let to = quote(role);
    let policy = |kind: &str, name: &str| {
        let name = quote(name);
        format!("CREATE POLICY {name} ON {table} AS {kind} FOR {word} TO {to} {checks};\n")
    };
    let mut sql = policy("RESTRICTIVE", role);
    if !relation.open_policies {
        sql.push_str(&policy("PERMISSIVE", &format!("{role}_in")));
    }
    sql
}

fn quote(name: &str) -> String {
    escape_identifier(name)
}

/// What a role is given for these permissions.
///
/// # Errors
/// [`PlanError`] when the database could not hold it to them.
pub fn plan<'a>(
    permissions: impl Iterator<Item = &'a TablePermission> + Clone,
    catalog: &Catalog,
) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    for table in catalog.relations() {
        let name = table.full_name();
        // What is PostgreSQL's own is open to every role as far as it is.
        if table.is_system() {
            continue;
        }
        let matching = permissions.clone().filter(|one| one.name.matches(&name));
        let mut operations: BTreeMap<TableOperation, Vec<Right>> = BTreeMap::new();
        for permission in matching {
            // Each by itself: two halves could make one whole.
            if let Some(rows) = &permission.rows {
                check_condition(rows).map_err(|why| PlanError::Condition(name.clone(), why))?;
            }
            let columns = permission.columns.as_ref().map(|columns| {
                let there = columns.iter().filter(|c| table.columns.contains(c));
                there.cloned().collect::<BTreeSet<_>>()
            });
            for operation in &permission.operations {
                if columns.as_ref().is_some_and(BTreeSet::is_empty) {
                    continue;
                }
                operations.entry(*operation).or_default().push(Right {
                    columns: columns.clone(),
                    rows: permission.rows.clone(),
                });
            }
        }
        if operations.is_empty() {
            continue;
        }
        let operations: BTreeMap<_, _> = operations
            .into_iter()
            .map(|(operation, rights)| (operation, merged(rights)))
            .collect();
        if operations.values().any(|right| right.rows.is_some()) {
            if table.kind != RelationKind::Table {
                return Err(PlanError::NotATable(name));
            }
            if !table.row_security {
                return Err(PlanError::NoRowSecurity(name));
            }
            for rows in operations
                .values()
                .filter_map(|right| right.rows.as_deref())
            {
                check_condition(rows).map_err(|why| PlanError::Condition(name.clone(), why))?;
            }
            plan.filtered.insert(name);
        }
        plan.writes |= operations.keys().any(|op| *op != TableOperation::Select);
        plan.tables.push(Given {
            table: Arc::clone(table),
            operations,
        });
        if plan.tables.len() > TABLES {
            return Err(PlanError::TooMany);
        }
    }
    Ok(plan)
}

/// Several rights at one table, in one way: all their columns. Of rows, those of any if the columns are the
/// same for all; else those of all, since the database knows rows for a table only, not for a column.
fn merged(rights: Vec<Right>) -> Right {
    let same = rights
        .iter()
        .all(|r| Some(&r.columns) == rights.first().map(|f| &f.columns));
    let every: Vec<&String> = rights
        .iter()
        .filter_map(|right| right.rows.as_ref())
        .collect();
    let rows = match (every.len() == rights.len(), same) {
        _ if every.is_empty() => None,
        // One of them has no condition at all.
        (false, true) => None,
        (_, same) => {
            let between = if same { " OR " } else { " AND " };
            let each: Vec<_> = every.iter().map(|rows| format!("({rows}\n)")).collect();
            Some(each.join(between))
        }
    };
    let columns = rights
        .iter()
        .map(|right| right.columns.clone())
        .reduce(|a, b| match (a, b) {
            (Some(mut a), Some(b)) => {
                a.extend(b);
                Some(a)
            }
            _ => None,
        })
        .flatten();
    Right { columns, rows }
}

#[cfg(test)]
mod tests;
