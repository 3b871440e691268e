//! The shared pipeline, and one module per enforcement point
