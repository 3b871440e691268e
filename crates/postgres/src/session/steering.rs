//! What decides in a statement, with its constants and parameters, at databases that are annotated.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::statement::{Given, Steered, Steering, Steers};
use serde_json::Value;

use super::deciding::{KEPT, KEPT_BYTES};
use super::relay::Relay;
use crate::sql::flows::From;
use crate::sql::lexer::Lexed;
use crate::sql::{Flows, flows};
use crate::wire::backend::ErrorResponse;
use crate::wire::value::{self, Format, Read};

/// Most values of a statement that is kept.
const KEPT_FLOWS: usize = 256;

/// The values that a statement has, once it was read.
pub(super) struct Sources {
    flows: Arc<Flows>,
    constants: Vec<Option<String>>,
    /// The types of parameters that the client says, 0 for those that the database finds.
    declared: Vec<u32>,
    /// The types of parameters that the database found.
    found: OnceLock<Vec<u32>>,
}

/// A parameter as it was bound: its format, and its bytes unless it is NULL.
pub(super) type Parameter = (Format, Option<Bytes>);

impl Relay<'_> {
    /// Whether somebody asks what decides in statements here.
    pub(super) fn is_annotated(&self) -> bool {
        let pipeline = &self.endpoint.pipeline;
        pipeline.is_annotated(&self.route.server)
    }

    /// What decides in a statement; `None` where nobody asks.
    pub(super) fn sources(&mut self, lexed: &Lexed) -> Result<Option<Sources>, ErrorResponse> {
        let Some(values) = &lexed.values else {
            return Ok(None);
        };
        let flows = match self.flows.get(&lexed.shape) {
            Some(known) => Arc::clone(known),
            None => {
                let found = flows(values, &self.catalog, &self.database.functions)
                    .map_err(|refused| self.refused(&refused))?;
                let found = Arc::new(found);
                let is_small = found.flows.len() <= KEPT_FLOWS
                    && found
                        .outputs
                        .as_ref()
                        .is_none_or(|given| given.len() <= KEPT_FLOWS);
                if lexed.shape.len() <= KEPT_BYTES && is_small {
                    if self.flows.len() >= KEPT {
                        self.flows.clear();
                    }
                    self.flows.insert(lexed.shape.clone(), Arc::clone(&found));
                }
                found
            }
        };
        Ok(Some(Sources {
            flows,
            constants: values.constants.clone(),
            declared: Vec::new(),
            found: OnceLock::new(),
        }))
    }
}

impl Sources {
    /// With the types of parameters that the client says.
    pub(super) fn declaring(mut self, types: &[u8]) -> Self {
        let types = types.chunks_exact(4);
        let types = types.filter_map(|four| four.try_into().ok());
        self.declared = types.map(u32::from_be_bytes).collect();
        self
    }

    /// Whether parameters are among what decides.
    pub(super) fn takes_parameters(&self) -> bool {
        self.flows.takes_parameters
    }

    /// What was found about where its values go.
    pub(super) fn flows(&self) -> Arc<Flows> {
        Arc::clone(&self.flows)
    }

    /// Takes in which types the database found for the parameters: the body of a `ParameterDescription`.
    pub(super) fn found(&self, body: &[u8]) {
        let types = body.get(2..).unwrap_or_default().chunks_exact(4);
        let types = types.filter_map(|four| four.try_into().ok());
        // They stay what they are as long as the statement is prepared.
        let _ = self.found.set(types.map(u32::from_be_bytes).collect());
    }

    /// What decides, with these parameters.
    pub(super) fn steering(&self, parameters: &[Parameter]) -> Steering {
        let steered = self.flows.flows.iter().map(|flow| {
            let given = match &flow.from {
                From::Constant {
                    number,
                    negative,
                    elements,
                } => self.constant(*number, *negative, *elements),
                From::Parameter { number, elements } => {
                    self.parameter(*number, *elements, parameters)
                }
                From::Boolean(value) => Given::Value(Value::Bool(*value)),
                From::Column(table, column) => Given::Column {
                    table: table.clone(),
                    column: column.clone(),
                },
                From::Computed => Given::Computed,
                From::Unseen => Given::Unseen,
                From::Rows(by) => Given::Rows(by.clone()),
            };
            Steered {
                of: flow.of.clone(),
                column: flow.column.clone(),
                steers: flow.steers,
                given,
            }
        });
        Steering::Known(steered.collect())
    }

    fn constant(&self, number: usize, negative: bool, elements: bool) -> Given {
        let says = self.constants.get(number).cloned().flatten();
        match (says, negative) {
            (Some(says), true) => Given::Value(Value::String(format!("-{says}"))),
            (Some(says), false) => text(says, elements),
            (None, _) => Given::Computed,
        }
    }

    fn parameter(&self, number: usize, elements: bool, parameters: &[Parameter]) -> Given {
        let place = number.checked_sub(1);
        let bound = place.and_then(|place| parameters.get(place));
        // A number that is not there fails in the database, too.
        let (Some(place), Some((format, bytes))) = (place, bound) else {
            return Given::Computed;
        };
        let Some(bytes) = bytes else {
            return Given::Value(Value::Null);
        };
        let declared = self.declared.get(place).copied().filter(|oid| *oid != 0);
        let found = || self.found.get().and_then(|found| found.get(place)).copied();
        let oid = declared.or_else(found).unwrap_or_default();
        match value::read(oid, *format, bytes) {
            Some(Read::Text(says)) if is_json(oid) => json(says),
            Some(Read::Text(says)) if oid == value::types::BOOL => boolean(&says),
            Some(Read::Text(says)) => text(says, elements),
            Some(Read::Elements(all)) => {
                Given::Value(Value::Array(all.into_iter().map(Value::String).collect()))
            }
            None => Given::Computed,
        }
    }
}

/// Those of the values that are given to functions.
pub(super) fn of_functions(steering: &Steering) -> Vec<Steered> {
    match steering {
        Steering::Known(steered) => {
            let given = steered.iter().filter(|one| one.steers == Steers::Argument);
            given.cloned().collect()
        }
        Steering::Later | Steering::Unknown => Vec::new(),
    }
}

fn is_json(oid: u32) -> bool {
    matches!(oid, value::types::JSON | value::types::JSONB)
}

/// A text, or the elements of the array that it stands for.
fn text(says: String, elements: bool) -> Given {
    if !elements {
        return Given::Value(Value::String(says));
    }
    match value::elements(&says) {
        Some(all) => Given::Value(Value::Array(all.into_iter().map(Value::String).collect())),
        None => Given::Computed,
    }
}

fn json(says: String) -> Given {
    match serde_json::from_str(&says) {
        Ok(value) => Given::Value(value),
        Err(_) => Given::Value(Value::String(says)),
    }
}

fn boolean(says: &str) -> Given {
    let yes = says.starts_with(['t', 'T', '1', 'y', 'Y', 'o']);
    Given::Value(Value::Bool(yes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::flows::Flow;
    use model::TableOperation;

    fn sources(from: From, declared: &[u32], found: Option<&[u32]>) -> Sources {
        let flow = Flow {
            of: "public.t".to_owned(),
            column: "c".to_owned(),
            steers: Steers::Written(TableOperation::Insert),
            from,
        };
        let sources = Sources {
            flows: Arc::new(Flows {
                flows: vec![flow],
                takes_parameters: true,
                outputs: None,
            }),
            constants: vec![Some("7".to_owned()), None],
            declared: declared.to_vec(),
            found: OnceLock::new(),
        };
        if let Some(found) = found {
            let mut body = vec![0, 1];
            found
                .iter()
                .for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
            sources.found(&body);
        }
        sources
    }

    fn given(sources: &Sources, parameters: &[Parameter]) -> Given {
        match sources.steering(parameters) {
            Steering::Known(mut all) => all.pop().unwrap().given,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn binary_parameters_are_read_by_their_type_or_not_at_all() {
        let first = From::Parameter {
            number: 1,
            elements: false,
        };
        let bound = [(Format::Binary, Some(Bytes::from_static(&[0, 0, 0, 7])))];
        let seven = Given::Value(Value::String("7".to_owned()));
        assert_eq!(given(&sources(first.clone(), &[23], None), &bound), seven);
        assert_eq!(
            given(&sources(first.clone(), &[0], Some(&[23])), &bound),
            seven
        );
        assert_eq!(
            given(&sources(first.clone(), &[], None), &bound),
            Given::Computed
        );
        assert_eq!(
            given(&sources(first.clone(), &[600], None), &bound),
            Given::Computed
        );
        // What the client says counts for the database, so it does here.
        let lied = given(&sources(first.clone(), &[25], Some(&[23])), &bound);
        assert_eq!(lied, Given::Value(Value::String("\0\0\0\u{7}".to_owned())));
        assert_eq!(
            given(&sources(first.clone(), &[23], None), &[]),
            Given::Computed
        );
        let null = [(Format::Binary, None)];
        assert_eq!(
            given(&sources(first, &[23], None), &null),
            Given::Value(Value::Null)
        );
    }

    #[test]
    fn constants_and_arrays() {
        let constant = |number, negative, elements| From::Constant {
            number,
            negative,
            elements,
        };
        let value = |from| given(&sources(from, &[], None), &[]);
        assert_eq!(
            value(constant(0, true, false)),
            Given::Value(Value::String("-7".to_owned()))
        );
        assert_eq!(value(constant(1, false, false)), Given::Computed);
        assert_eq!(value(constant(0, false, true)), Given::Computed, "no array");
        let all = From::Parameter {
            number: 1,
            elements: true,
        };
        let bound = [(Format::Text, Some(Bytes::from_static(b"{a,b}")))];
        let both = Value::Array(vec!["a".into(), "b".into()]);
        assert_eq!(given(&sources(all, &[], None), &bound), Given::Value(both));
    }
}
