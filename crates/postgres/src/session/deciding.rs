//! From a statement to leave for it: it is understood, decided and recorded.

use std::sync::Arc;

use gateway::pipeline::Permit;
use model::{Action, Denial, Operation, Rule, Statement, Steered, Steering};

use super::expected::denied;
use super::relay::Relay;
use super::steering::of_functions;
use crate::sql::lexer::{Lexed, lex, lex_with_values};
use crate::sql::{Analysed, Kind, Refused, analyse};
use crate::wire::backend::ErrorResponse;

/// Most shapes whose analysis is kept.
pub(super) const KEPT: usize = 1_000;
/// Longest shape that is kept, in bytes.
pub(super) const KEPT_BYTES: usize = 8 << 10;

impl Relay<'_> {
    /// Records a statement that did not become an action.
    pub(super) fn refused(&self, refused: &Refused) -> ErrorResponse {
        let rule = match refused.sqlstate {
            "42501" => Rule::NotGranted,
            _ => Rule::ProtocolViolation,
        };
        let denial = Denial {
            rule,
            reason: refused.message.clone(),
            remedy: refused.hint.clone(),
        };
        let pipeline = &self.endpoint.pipeline;
        pipeline.refuse(&self.route.path(), Some(&self.caller), denial);
        ErrorResponse::new(refused.sqlstate, refused.message.clone()).hint(refused.hint.clone())
    }

    pub(super) fn lexed(&self, text: &str) -> Result<Vec<Lexed>, ErrorResponse> {
        let lexed = match self.is_annotated() {
            true => lex_with_values(text),
            false => lex(text),
        };
        lexed.map_err(|error| self.refused(&Refused::syntax(error.to_string())))
    }

    pub(super) fn analysed(&mut self, lexed: &Lexed) -> Result<Arc<Analysed>, ErrorResponse> {
        let keeps = lexed.strings.is_empty() && lexed.shape.len() <= KEPT_BYTES;
        if keeps && let Some(known) = self.analyses.get(&lexed.shape) {
            return Ok(Arc::clone(known));
        }
        let analysed = analyse(lexed, &self.catalog, &self.database.functions)
            .map_err(|refused| self.refused(&refused))?;
        let analysed = Arc::new(analysed);
        if keeps {
            if self.analyses.len() >= KEPT {
                self.analyses.clear();
            }
            self.analyses
                .insert(lexed.shape.clone(), Arc::clone(&analysed));
        }
        Ok(analysed)
    }

    /// Decides a statement and records the intent; what comes back may be sent.
    pub(super) async fn attempt(
        &mut self,
        analysed: Option<&Arc<Analysed>>,
        text: &str,
        parameters: &str,
        steering: Steering,
    ) -> Result<Permit, ErrorResponse> {
        // What a cursor gives is what its query touches.
        let touching = match analysed.map(|analysed| &analysed.kind) {
            Some(Kind::Fetch(name)) => Some(self.names.cursor(name).cloned().ok_or_else(|| {
                let message = format!("cursor \"{name}\" does not exist");
                ErrorResponse::new("34000", message)
            })?),
            _ => analysed.cloned(),
        };
        let accesses = touching
            .as_ref()
            .map_or(&[][..], |found| &found.accesses[..]);
        if let Some(analysed) = analysed
            && let Err(refused) = self.tables_may_be_touched(analysed)
        {
            return Err(self.refused(&refused));
        }
        let operation = if accesses.is_empty() {
            self.may_be_given(&of_functions(&steering))?;
            Operation::Converse
        } else {
            let mut whole = String::with_capacity(text.len() + parameters.len() + 1);
            whole.push_str(text);
            if !parameters.is_empty() {
                whole.push('\n');
                whole.push_str(parameters);
            }
            Operation::Query {
                statement: Statement {
                    text: whole,
                    shape: analysed.map_or_else(String::new, |a| a.shape.to_string()),
                    accesses: accesses.to_vec(),
                    steering,
                },
            }
        };
        let method = analysed.map_or("EMPTY", |analysed| analysed.method);
        let action = Action::new(self.route.server.clone(), method, operation);
        let pipeline = &self.endpoint.pipeline;
        let mut permit = pipeline
            .attempt(&self.caller, action)
            .await
            .map_err(|refused| denied(&refused))?;
        if let Some(missing) = analysed.and_then(|analysed| analysed.missing.as_ref()) {
            let message = format!("relation \"{missing}\" does not exist");
            return Err(ErrorResponse::new("42P01", message)
                .hint("tables made since the session began need a new session"));
        }
        let dispatch = permit.dispatch().map_err(|refused| denied(&refused))?;
        self.dispatches.push(dispatch);
        Ok(permit)
    }

    /// Whether functions may be given these values by a statement that touches no table: people cannot be
    /// asked about such a one.
    fn may_be_given(&self, steered: &[Steered]) -> Result<(), ErrorResponse> {
        if steered.is_empty() {
            return Ok(());
        }
        let pipeline = &self.endpoint.pipeline;
        match pipeline.refuses_values(&self.caller, &self.route.server, steered) {
            None => Ok(()),
            Some(denial) => {
                let error = ErrorResponse::new("42501", denial.reason.clone());
                let error = error.hint(denial.remedy.clone());
                pipeline.refuse(&self.route.path(), Some(&self.caller), denial);
                Err(error)
            }
        }
    }

    /// What the grant's words alone do not say.
    fn tables_may_be_touched(&self, analysed: &Analysed) -> Result<(), Refused> {
        for access in &analysed.accesses {
            let schema = access.table.split('.').next().unwrap_or("");
            let system = schema.starts_with("pg_") || schema == "information_schema";
            if system && !self.names_system_table(schema, &access.table) {
                return Err(Refused::forbidden(format!(
                    "\"{}\" is the database's own; a template must name it, with its schema",
                    access.table
                )));
            }
            // Plans tell how many rows there are that the task may not see.
            if analysed.method == "EXPLAIN" && self.plan.is_filtered(&access.table) {
                return Err(Refused::forbidden(format!(
                    "plans for \"{}\" would tell of rows that the task may not see",
                    access.table
                )));
            }
        }
        Ok(())
    }

    /// Whether a permission names a table of the database's own knowingly, not by a `*` for all.
    fn names_system_table(&self, schema: &str, table: &str) -> bool {
        let permissions = self.caller.task.task().grant.permissions.iter();
        permissions
            .filter(|permission| permission.server == self.route.server)
            .flat_map(|permission| &permission.tables)
            .any(|granted| {
                let stem = granted.name.stem();
                let rest = stem.strip_prefix(schema);
                rest.is_some_and(|rest| rest.starts_with('.')) && granted.name.matches(table)
            })
    }
}
