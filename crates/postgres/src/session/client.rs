//! What the client sends, message by message: nothing goes on without leave ([`super::deciding`]).

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut as _, Bytes};
use gateway::pipeline::Digest;
use model::Steering;

use super::expected::{Expected, Running};
use super::named::{Portal, Prepared};
use super::relay::{Copying, End, Relay};
use super::rows::Rows;
use super::steering::Sources;
use crate::sql::{Analysed, Kind, Refused};
use crate::wire::Message;
use crate::wire::backend::{ErrorResponse, NO_PORTAL, put, put_text};
use crate::wire::frontend::{Bound, Frontend, Named};

/// Where a refusal comes from: it decides how the database is told to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Simple,
    Extended,
}

impl Relay<'_> {
    /// Takes one message.
    pub(super) async fn take(&mut self, message: Message) -> Result<(), End> {
        let read = Frontend::read(&message).map_err(|error| End::violation(&error))?;
        match (self.copying, read) {
            (_, Frontend::Terminate) => {
                self.ending = true;
                return Ok(());
            }
            (Copying::In, Frontend::CopyData) => {
                self.forward(&message);
                return Ok(());
            }
            (Copying::In, Frontend::CopyDone | Frontend::CopyFail) => {
                self.copying = Copying::Done;
                self.forward(&message);
                // What follows is taken when the end of the copy is known, so it must be told at once.
                put(&mut self.to_upstream, b'H', |_| {});
                return Ok(());
            }
            // The database ignores these in the middle of a copy, and those outside of one.
            (Copying::In, Frontend::Sync | Frontend::Flush)
            | (_, Frontend::CopyData | Frontend::CopyDone | Frontend::CopyFail) => return Ok(()),
            (Copying::In, _) => return Err(End::told("08P01", "data to copy was expected")),
            (_, Frontend::Sync) => {
                self.skipping = false;
                let unspent = std::mem::take(&mut self.unspent);
                let unspent = unspent.into_iter().map(|(_, running)| running).collect();
                self.expected.push_back(Expected::Sync(unspent));
                self.forward(&message);
                return Ok(());
            }
            // After an error the database ignores everything up to the next Sync.
            _ if self.skipping => return Ok(()),
            _ => {}
        }
        let (mode, done) = match read {
            Frontend::Query(text) => (Mode::Simple, self.query(text, &message).await),
            Frontend::Parse {
                statement,
                text,
                types,
            } => {
                let done = self.parse(statement, text, types, &message).await;
                (Mode::Extended, done)
            }
            Frontend::Bind {
                portal,
                statement,
                parameters,
            } => {
                let done = self.bind(portal, statement, parameters, &message);
                (Mode::Extended, done)
            }
            Frontend::Execute(portal) => (Mode::Extended, self.execute(portal, &message).await),
            Frontend::Describe(named) => {
                let described = match named {
                    Named::Statement(name) => self.names.statement(name).cloned(),
                    Named::Portal(name) => self.names.portal(name).map(|p| Arc::clone(&p.prepared)),
                };
                self.expected.push_back(Expected::Describe(described));
                self.forward(&message);
                (Mode::Extended, Ok(()))
            }
            Frontend::Close(named) => {
                match named {
                    Named::Statement(name) => self.names.forget_statement(name),
                    Named::Portal(name) => self.names.close(Some(name)),
                }
                self.expected.push_back(Expected::Close);
                self.forward(&message);
                (Mode::Extended, Ok(()))
            }
            Frontend::Flush => {
                self.forward(&message);
                (Mode::Extended, Ok(()))
            }
            // Its answer ends with `ReadyForQuery`, as that of a text does.
            Frontend::FunctionCall => {
                let refused = Refused::forbidden("functions are not called by their number");
                (Mode::Simple, Err(self.refused(&refused)))
            }
            Frontend::Sync
            | Frontend::Terminate
            | Frontend::CopyData
            | Frontend::CopyDone
            | Frontend::CopyFail => (Mode::Extended, Ok(())),
        };
        if let Err(error) = done {
            self.fail(&error, mode);
        }
        Ok(())
    }

    fn forward(&mut self, message: &Message) {
        self.in_flight += message.bytes.len();
        self.to_upstream.put_slice(&message.bytes);
    }

    /// Has the database fail where the client's message would have been carried out, so that its
    /// transaction is what it would be after any error; the client is told what really happened.
    fn fail(&mut self, error: &ErrorResponse, mode: Mode) {
        self.fail_upstream(error.to_bytes());
        match mode {
            Mode::Simple => {
                self.expected.push_back(Expected::Sync(Vec::new()));
                put(&mut self.to_upstream, b'S', |_| {});
            }
            Mode::Extended => self.skipping = true,
        }
    }

    /// Has the database fail at this place, which aborts its transaction. `told` is what the client is told.
    pub(super) fn fail_upstream(&mut self, told: Bytes) {
        self.expected.push_back(Expected::Refusal(told));
        put(&mut self.to_upstream, b'E', |body| {
            put_text(body, NO_PORTAL);
            body.put_u32(0);
        });
    }

    async fn query(&mut self, text: &str, message: &Message) -> Result<(), ErrorResponse> {
        let lexed = self.lexed(text)?;
        let mut statements = Vec::with_capacity(lexed.len());
        for one in &lexed {
            statements.push(self.analysed(one)?);
        }
        let copies = statements.iter().any(|one| one.kind == Kind::CopyIn);
        if copies && statements.len() > 1 {
            let alone = Refused::forbidden("COPY FROM STDIN must stand alone");
            return Err(self.refused(&alone));
        }
        for one in &statements {
            self.may_name(one)?;
        }
        // A text is carried out as a whole or not at all.
        let mut running = VecDeque::with_capacity(statements.len());
        if statements.is_empty() {
            let permit = self.attempt(None, text, "", Steering::Unknown).await?;
            running.push_back(Running::new(permit, Rows::default()));
        }
        for (one, lexed) in statements.iter().zip(&lexed) {
            let sources = self.sources(lexed)?;
            let rows = Rows::of(Some(one), sources.as_ref().map(Sources::flows));
            let steering = sources.map_or(Steering::Unknown, |sources| sources.steering(&[]));
            let permit = self.attempt(Some(one), text, "", steering).await?;
            running.push_back(Running::new(permit, rows));
        }
        for one in &statements {
            self.name(one);
        }
        // It takes the place of the unnamed ones.
        self.names.forget_statement("");
        self.names.close(Some(""));
        if copies {
            self.copying = Copying::Asked;
        }
        self.expected.push_back(Expected::Query(running));
        self.forward(message);
        Ok(())
    }

    async fn parse(
        &mut self,
        name: &str,
        text: &str,
        types: &[u8],
        message: &Message,
    ) -> Result<(), ErrorResponse> {
        if name.is_empty() {
            self.names.forget_statement("");
        }
        self.names.may_prepare(name, text)?;
        let lexed = self.lexed(text)?;
        let (analysed, sources) = match &lexed[..] {
            [] => (None, None),
            [one] => {
                let analysed = self.analysed(one)?;
                let sources = self.sources(one)?;
                (
                    Some(analysed),
                    sources.map(|sources| sources.declaring(types)),
                )
            }
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                return Err(self.refused(&Refused::syntax(message)));
            }
        };
        let steering = match &sources {
            Some(sources) if sources.takes_parameters() => Steering::Later,
            Some(sources) => sources.steering(&[]),
            None => Steering::Unknown,
        };
        let permit = self.attempt(analysed.as_ref(), text, "", steering).await?;
        let prepared = Arc::new(Prepared {
            analysed,
            text: text.to_owned(),
            sources,
            columns: OnceLock::new(),
        });
        self.names.prepare(name, Arc::clone(&prepared));
        let running = Running::new(permit, Rows::of_prepared(&prepared));
        self.unspent.push((prepared, running));
        self.expected.push_back(Expected::Parse(name.to_owned()));
        self.forward(message);
        Ok(())
    }

    fn bind(
        &mut self,
        portal: &str,
        statement: &str,
        parameters: &[u8],
        message: &Message,
    ) -> Result<(), ErrorResponse> {
        let prepared = self.names.statement(statement).cloned().ok_or_else(|| {
            let message = format!("prepared statement \"{statement}\" does not exist");
            ErrorResponse::new("26000", message)
        })?;
        self.names.may_open(portal)?;
        let mut digest = Digest::new(&self.caller.task);
        digest.update(parameters);
        let Bound {
            parameters: bound,
            results,
        } = Bound::read(parameters, prepared.is_decided_later())
            .map_err(|error| ErrorResponse::new("08P01", error.to_string()))?;
        let bound = bound.into_iter();
        let bound = bound.map(|(format, bytes)| (format, bytes.map(Bytes::copy_from_slice)));
        self.names.open(
            portal,
            Portal {
                prepared,
                parameters: digest.tag(),
                bound: bound.collect(),
                results,
            },
        )?;
        self.expected.push_back(Expected::Bind(portal.to_owned()));
        self.forward(message);
        Ok(())
    }

    async fn execute(&mut self, portal: &str, message: &Message) -> Result<(), ErrorResponse> {
        let found = self.names.portal(portal).cloned().ok_or_else(|| {
            ErrorResponse::new("34000", format!("portal \"{portal}\" does not exist"))
        })?;
        let prepared = found.prepared;
        let analysed = prepared.analysed.clone();
        if let Some(analysed) = &analysed {
            self.may_name(analysed)?;
        }
        // What was permitted when it was prepared a moment ago is carried out once.
        let fresh = self.unspent.iter();
        let fresh = fresh
            .clone()
            .position(|(one, _)| Arc::ptr_eq(one, &prepared))
            .filter(|_| !prepared.is_decided_later());
        let mut running = match fresh {
            Some(at) => {
                let mut running = self.unspent.swap_remove(at).1;
                running.permit.note("parameters_hash", found.parameters);
                running
            }
            None => {
                let sources = prepared.sources.as_ref();
                let steering = sources.map_or(Steering::Unknown, |s| s.steering(&found.bound));
                let permit = self
                    .attempt(
                        analysed.as_ref(),
                        &prepared.text,
                        &found.parameters,
                        steering,
                    )
                    .await?;
                Running::new(permit, Rows::of_prepared(&prepared))
            }
        };
        running.returned = 0;
        running.rows.asked = Some(found.results);
        if let Some(analysed) = &analysed {
            self.name(analysed);
            if analysed.kind == Kind::CopyIn {
                self.copying = Copying::Asked;
            }
        }
        self.expected
            .push_back(Expected::Execute(Box::new(running)));
        self.forward(message);
        Ok(())
    }

    /// Whether what a statement gives a name to can have it.
    fn may_name(&self, analysed: &Analysed) -> Result<(), ErrorResponse> {
        match &analysed.kind {
            Kind::Declare(name) => self.names.may_open(name),
            _ => Ok(()),
        }
    }

    /// Keeps in mind what a statement does to names.
    fn name(&mut self, analysed: &Arc<Analysed>) {
        match &analysed.kind {
            Kind::Declare(name) => self.names.declare(name, Arc::clone(analysed)),
            Kind::CloseCursor(name) => self.names.close(name.as_deref()),
            Kind::Deallocate(Some(name)) => self.names.forget_statement(name),
            Kind::Deallocate(None) => self.names.forget_statements(),
            Kind::Discard => {
                self.names.forget_statements();
                self.names.close(None);
            }
            Kind::Plain | Kind::CopyIn | Kind::Fetch(_) => {}
        }
    }
}
