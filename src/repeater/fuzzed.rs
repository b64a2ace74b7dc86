//! The door of the fuzz targets to Consul's answers, whose reader is private (feature `fuzzing`).

/// Reads an answer of Consul as one about services and as one about keys.
pub fn consul_answer(bytes: &[u8]) {
    super::registry::read_consul(bytes);
}
