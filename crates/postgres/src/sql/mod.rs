//! What a statement says: [`lexer`] takes its text apart, the parser makes a tree of it, and
//! [`analysis`] finds every table, column and function in the tree.

pub mod analysis;
mod calls;
pub mod catalog;
mod expression;
pub mod flows;
mod functions;
pub mod lexer;
mod names;
mod query;
mod scope;
mod settings;
mod sources;
mod writing;

pub use analysis::{Analysed, Kind, Refused, analyse};
pub use catalog::{Catalog, Relation, RelationKind};
pub use flows::{Flows, flows};
pub(crate) use settings::{is_utf8, may_set};
