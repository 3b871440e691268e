//! What the demo and the drill both need: a Sallyport of their own (`own`), and a thief of its agent's token
//! (`stolen`).

pub(crate) mod own;
pub(crate) mod stolen;
