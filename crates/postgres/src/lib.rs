//! The enforcement point for PostgreSQL.
