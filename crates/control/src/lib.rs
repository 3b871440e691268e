//! Management API, token service and metadata
