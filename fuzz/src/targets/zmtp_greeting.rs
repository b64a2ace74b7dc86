//! The first 64 bytes of a ZMTP connection.

use hailer::zmtp::Greeting;

/// One execution.
pub fn run(bytes: &[u8]) {
    if let Ok(Some(greeting)) = Greeting::decode(bytes) {
        assert!(bytes.len() >= Greeting::LEN);
        assert_eq!(Greeting::decode(&greeting.encode()), Ok(Some(greeting)));
    }
    // What is wrong in the beginning is wrong for ever.
    let is_refused = (0..bytes.len()).any(|len| Greeting::decode(&bytes[..len]).is_err());
    assert!(!is_refused || Greeting::decode(bytes).is_err());
}
