//! The suite that every [`Net`](super::Net) must pass.
