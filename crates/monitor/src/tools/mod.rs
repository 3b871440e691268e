//! Definitions of tools: what they are, whether they are still what was approved, and what hides in them.
//!
//! A server can change what a tool means after somebody looked at it ("rug pull"), describe it so that a
//! model does more than people think ("tool poisoning"), or give it another tool's name ("shadowing"). So a
//! definition has one [`Definition::hash`] over all that a model may see; [`Pins`] holds what was approved;
//! [`Inspector`] reads definitions for what should not be in them.

mod annotations;
mod definition;
mod inspect;
mod names;
mod pins;

pub use definition::{Definition, Hash, NotADefinition};
pub use inspect::Inspector;
pub use names::Known;
pub use pins::{Comparison, Pin, PinError, Pins, Standing, difference};
