//! The control plane: who there is, what is open, and the ways to change that.
//!
//! [`Engine`] owns the control plane's state and is the only way to change it. [`Control`] puts it
//! on the control listener: the management API, the token service (OAuth), metrics and probes.
//! Nothing here decides on actions; what is changed here is what decisions look at.

pub mod api;
mod engine;
mod http_api;
mod management;
mod nonces;
mod oauth;
mod operator;
mod probes;
mod respond;
mod signals;
mod sources;
mod watch;

pub use engine::{
    Actor, Approve, Databases, Engine, EngineError, EngineParts, Hold, Limits, OpenTask,
    Restricted, Settings, Setup,
};
pub use http_api::{Control, ControlSettings, ReloadError, Reloader};
pub use operator::{OperatorToken, OperatorTokenError};
pub use respond::{Known, Playbooks, Responder, Teller, TellingError};
pub use signals::{Prepared as PreparedSignals, Signals, SignalsError};
pub use watch::Watch;
