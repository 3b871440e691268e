//! The tables of a database, as names in statements are resolved to them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The tables, views and their columns, as they were when the session began.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    relations: HashMap<String, Arc<Relation>>,
    hidden: HashSet<String>,
    search_path: Vec<String>,
}

/// A table or something like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns, in their order.
    pub columns: Vec<String>,
    /// Whether row security is enabled for it.
    pub row_security: bool,
    /// Whether it has permissive policies that hold for every role.
    pub open_policies: bool,
    /// The sequences that give its columns their defaults, as `schema.name` in SQL.
    pub sequences: Vec<String>,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// A table, partitioned or not.
    Table,
    /// A view, materialized or not, or a foreign table.
    Other,
}

impl Relation {
    /// `schema.name`, as templates and records name it.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// Whether it is part of PostgreSQL itself.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.schema.starts_with("pg_") || self.schema == "information_schema"
    }
}

impl Catalog {
    /// A catalog of relations. Names with a dot are left out: `a.b` would not be told from them.
    #[must_use]
    pub fn new(relations: Vec<Relation>, search_path: Vec<String>) -> Self {
        let relations = relations
            .into_iter()
            .filter(|one| !one.schema.contains('.') && !one.name.contains('.'))
            .map(|one| (one.full_name(), Arc::new(one)))
            .collect();
        Self {
            relations,
            hidden: HashSet::new(),
            search_path,
        }
    }

    /// Hides all relations that are not granted: their names still stand for them, as they do in the
    /// database, but whether they are there, and with which columns, is told nobody.
    pub fn hide(&mut self, granted: impl Fn(&str) -> bool) {
        let names = self.relations.keys();
        self.hidden = names.filter(|name| !granted(name)).cloned().collect();
    }

    /// Whether a relation is hidden.
    #[must_use]
    pub fn is_hidden(&self, relation: &Relation) -> bool {
        self.hidden.contains(&relation.full_name())
    }

    /// All relations.
    pub fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// The relation that a name in a statement stands for. Without a schema it is looked up where the
    /// database does: in `pg_catalog` first.
    #[must_use]
    pub fn resolve(&self, schema: Option<&str>, name: &str) -> Option<&Arc<Relation>> {
        let get = |schema: &str| self.relations.get(&format!("{schema}.{name}"));
        match schema {
            Some(schema) => get(schema),
            None => std::iter::once("pg_catalog")
                .chain(self.search_path.iter().map(String::as_str))
                .find_map(get),
        }
    }

    /// How a name that stands for nothing is written in full.
    #[must_use]
    pub fn unresolved(&self, schema: Option<&str>, name: &str) -> String {
        let first = self.search_path.first().map_or("public", String::as_str);
        format!("{}.{name}", schema.unwrap_or(first))
    }
}
