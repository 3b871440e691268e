//! What a session has given names to. The database keeps the same names; these say what they stand for, so
//! that what is carried out by name is decided for what it is. Whenever the two could differ, the name here
//! stands for nothing, and using it is refused.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::rows::Columns;
use super::steering::{Parameter, Sources};
use crate::sql::Analysed;
use crate::wire::backend::{ErrorResponse, NO_PORTAL};
use crate::wire::value::Formats;

/// Most names of each kind.
const NAMES: usize = 2_000;
/// Most bytes of prepared statements.
const TEXT: usize = 8 << 20;

/// Most bytes of parameters that are kept, since they decide something.
const BOUND: usize = 32 << 20;
/// Longest description of columns that is kept, in bytes. Without one each column is taken for text.
const COLUMNS: usize = 16 << 10;

/// A prepared statement.
pub(super) struct Prepared {
    /// What it says; nothing for an empty one.
    pub(super) analysed: Option<Arc<Analysed>>,
    /// Its text.
    pub(super) text: String,
    /// What decides in it, where somebody asks.
    pub(super) sources: Option<Sources>,
    /// The columns that it gives, once the database said so.
    pub(super) columns: OnceLock<Arc<Columns>>,
}

impl Prepared {
    /// Takes in which columns it gives: the database's `RowDescription`.
    pub(super) fn gives(&self, message: &Bytes) {
        // They stay what they are as long as it is prepared.
        if self.columns.get().is_none()
            && message.len() <= COLUMNS
            // Kept by itself, or all that came with it would be kept too.
            && let Some(columns) = Columns::read(&Bytes::copy_from_slice(message))
        {
            let _ = self.columns.set(Arc::new(columns));
        }
    }

    /// Whether what decides in it is known only with its parameters: then preparing it permits nothing.
    pub(super) fn is_decided_later(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(Sources::takes_parameters)
    }
}

/// A prepared statement with its parameters.
#[derive(Clone)]
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    /// The salted hash of the parameters.
    pub(super) parameters: String,
    /// The parameters, where they decide something.
    pub(super) bound: Vec<Parameter>,
    /// The formats of the result that the client asked for.
    pub(super) results: Formats,
}

impl Portal {
    fn bytes(&self) -> usize {
        let bytes = self.bound.iter().flat_map(|(_, bytes)| bytes);
        bytes.map(Bytes::len).sum()
    }
}

/// All names.
#[derive(Default)]
pub(super) struct Names {
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    cursors: HashMap<String, Arc<Analysed>>,
    text: usize,
    /// Bytes of parameters of portals.
    bound: usize,
}

impl Names {
    pub(super) fn statement(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.statements.get(name)
    }

    pub(super) fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name)
    }

    pub(super) fn cursor(&self, name: &str) -> Option<&Arc<Analysed>> {
        self.cursors.get(name)
    }

    /// Whether a statement of this name can be prepared: as in the database, not while there is one.
    pub(super) fn may_prepare(&self, name: &str, text: &str) -> Result<(), ErrorResponse> {
        if !name.is_empty() && self.statements.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(ErrorResponse::new("42P05", message));
        }
        if self.statements.len() >= NAMES || self.text + text.len() > TEXT {
            return Err(too_many("prepared statements"));
        }
        Ok(())
    }

    pub(super) fn prepare(&mut self, name: &str, prepared: Arc<Prepared>) {
        self.forget_statement(name);
        self.text += prepared.text.len();
        self.statements.insert(name.to_owned(), prepared);
    }

    pub(super) fn forget_statement(&mut self, name: &str) {
        if let Some(known) = self.statements.remove(name) {
            self.text = self.text.saturating_sub(known.text.len());
        }
    }

    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
        self.text = 0;
    }

    /// Whether a portal or cursor of this name can be made.
    pub(super) fn may_open(&self, name: &str) -> Result<(), ErrorResponse> {
        let taken = self.portals.contains_key(name) || self.cursors.contains_key(name);
        if name == NO_PORTAL || (!name.is_empty() && taken) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(ErrorResponse::new("42P03", message));
        }
        if self.portals.len() + self.cursors.len() >= NAMES {
            return Err(too_many("cursors"));
        }
        Ok(())
    }

    /// Opens a portal, if there is room for its parameters.
    pub(super) fn open(&mut self, name: &str, portal: Portal) -> Result<(), ErrorResponse> {
        self.forget_portal(name);
        let bytes = portal.bytes();
        if self.bound + bytes > BOUND {
            return Err(too_many("bytes of parameters in cursors"));
        }
        self.bound += bytes;
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    fn forget_portal(&mut self, name: &str) {
        if let Some(known) = self.portals.remove(name) {
            self.bound = self.bound.saturating_sub(known.bytes());
        }
    }

    pub(super) fn declare(&mut self, name: &str, query: Arc<Analysed>) {
        self.cursors.insert(name.to_owned(), query);
    }

    /// Forgets a portal or cursor, or all.
    pub(super) fn close(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.forget_portal(name);
                self.cursors.remove(name);
            }
            None => {
                self.portals.clear();
                self.bound = 0;
                self.cursors.clear();
            }
        }
    }
}

fn too_many(what: &str) -> ErrorResponse {
    ErrorResponse::new("53400", format!("the session has too many {what}"))
        .hint("forget some that are not needed any more")
}
