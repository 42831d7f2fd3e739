//! Tests of an update.
