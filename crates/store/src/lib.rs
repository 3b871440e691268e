//! Durable control-plane state
