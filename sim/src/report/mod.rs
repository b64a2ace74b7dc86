//! The trace for people.
