//! The enforcement point for PostgreSQL: agents speak the database's own protocol, and the password is the
//! token of their task; or the user is their task, and a client certificate says who they are.
//!
//! The path of a session: [`listen`] accepts and encrypts; `session::entry` authenticates, makes a role from
//! the grant ([`role`]) and logs in with it; `session::relay` carries messages; `session::client` has each
//! statement understood ([`sql`]), decided and recorded before it goes on; `session::upstream` counts what
//! comes back. When the session ends, its role is dropped.
//!
//! [`connector`] is the other end: a listener beside the agent that authenticates for clients as they are.

mod cancel;
pub mod connector;
mod described;
mod door;
pub mod listen;
pub mod role;
mod session;
pub mod sql;
pub mod upstream;
pub mod wire;

pub use described::{DescribeError, DescribedTable, described};
pub use door::Endpoint;
pub use listen::{Options, serve};
