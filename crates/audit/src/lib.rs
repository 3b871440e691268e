//! The transparency log: storage, proofs, verification, query
