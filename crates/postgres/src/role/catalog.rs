//! Reading what tables a database has.

use crate::sql::{Catalog, Relation, RelationKind};
use crate::upstream::{Database, UpstreamError};

/// Most tables that a database may have.
const RELATIONS: usize = 20_000;

/// Everything with columns, in one question.
const QUESTION: &str = r"
SELECT n.nspname, c.relname, c.relkind, c.relrowsecurity,
  (SELECT coalesce(json_agg(a.attname ORDER BY a.attnum), '[]') FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polroles = '{0}'),
  (SELECT coalesce(json_agg(quote_ident(sn.nspname) || '.' || quote_ident(s.relname)), '[]')
    FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    JOIN pg_namespace sn ON sn.oid = s.relnamespace
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = c.oid AND d.deptype = 'a')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_(toast|temp)'
ORDER BY 1, 2 LIMIT ";

/// Reads the catalog.
///
/// # Errors
/// [`UpstreamError`]
pub(crate) async fn catalog(database: &Database) -> Result<Catalog, UpstreamError> {
    let question = format!("{QUESTION}{}", RELATIONS + 1);
    let rows = database.admin.run(database, &question).await?;
    if rows.len() > RELATIONS {
        return Err(UpstreamError::Protocol("it has more than 20,000 tables"));
    }
    let names = |json: &str| serde_json::from_str::<Vec<String>>(json).ok();
    let relations = rows
        .into_iter()
        .filter_map(|row| {
            let [schema, name, kind, row_security, columns, open, sequences] =
                <[String; 7]>::try_from(row).ok()?;
            Some(Relation {
                schema,
                name,
                kind: match kind.as_str() {
                    "r" | "p" => RelationKind::Table,
                    _ => RelationKind::Other,
                },
                columns: names(&columns)?,
                row_security: row_security == "t",
                open_policies: open == "t",
                sequences: names(&sequences)?,
            })
        })
        .collect();
    let path = database.server.postgres.search_path.clone();
    Ok(Catalog::new(relations, path))
}
