//! How a host and a relay show each other that they have the same token, which itself never travels.
//!
//! Both make HMAC-SHA256 values with the token as key, over what they are for, the service's name and both sides' nonces.
//! The host's comes first, so that a stranger who only connects learns nothing to try tokens on. Data connections prove
//! themselves with a key that both have made from the token and the nonces. Comparing takes the same time whatever the difference.
//!
//! Without TLS the bytes of sessions are neither secret nor protected: who can change packets on the way can take over a
//! connection after its proof. A short token can be guessed from a recorded proof; see [`Token::BYTES_MIN`].

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A secret that a relay and the hosts of one service share. An empty one lets everybody serve.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token(Vec<u8>);

impl Token {
    /// Shorter tokens are refused: a recorded proof lets tokens be tried at leisure.
    pub const BYTES_MIN: usize = 16;
    /// Longer ones have no use.
    pub const BYTES_MAX: usize = 1024;

    /// The token with this text; `None` when it is too short or too long.
    pub fn new(text: &str) -> Option<Self> {
        (Self::BYTES_MIN..=Self::BYTES_MAX).contains(&text.len()).then(|| Self(text.as_bytes().to_vec()))
    }

    /// A token that nobody knows.
    pub(super) fn random(bytes: [u8; 32]) -> Self {
        Self(bytes.to_vec())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mac(&self, purpose: &str, context: &Context<'_>, extra: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(b"hailer relay 1 ");
        mac.update(purpose.as_bytes());
        // Everything but the name has a fixed length.
        mac.update(&[0, context.service.len() as u8]);
        mac.update(context.service.as_bytes());
        mac.update(context.host_nonce);
        mac.update(context.relay_nonce);
        mac.update(extra);
        mac
    }

    /// The host's proof.
    pub fn host_proof(&self, context: &Context<'_>) -> [u8; 32] {
        finish(self.mac("host", context, b""))
    }

    /// Whether this is the host's proof.
    pub fn is_host_proof(&self, context: &Context<'_>, proof: &[u8; 32]) -> bool {
        self.mac("host", context, b"").verify_slice(proof).is_ok()
    }

    /// The relay's proof.
    pub fn relay_proof(&self, context: &Context<'_>, session: u64) -> [u8; 32] {
        finish(self.mac("relay", context, &session.to_be_bytes()))
    }

    /// Whether this is the relay's proof.
    pub fn is_relay_proof(&self, context: &Context<'_>, session: u64, proof: &[u8; 32]) -> bool {
        self.mac("relay", context, &session.to_be_bytes()).verify_slice(proof).is_ok()
    }

    /// The key that the data connections of a session prove themselves with.
    pub fn session_key(&self, context: &Context<'_>, session: u64) -> SessionKey {
        SessionKey(finish(self.mac("session", context, &session.to_be_bytes())))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Token(none)" } else { "Token(secret)" })
    }
}

/// What a proof is about.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The host's nonce.
    pub host_nonce: &'a [u8; 32],
    /// The relay's nonce.
    pub relay_nonce: &'a [u8; 32],
}

/// The key of one control connection.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The proof of the data connection with this ticket.
    pub fn ticket_proof(&self, ticket: u64) -> [u8; 32] {
        finish(self.mac(ticket))
    }

    /// Whether this is the proof of the data connection with this ticket.
    pub fn is_ticket_proof(&self, ticket: u64, proof: &[u8; 32]) -> bool {
        self.mac(ticket).verify_slice(proof).is_ok()
    }

    fn mac(&self, ticket: u64) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(&ticket.to_be_bytes());
        mac
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(secret)")
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn finish(mac: Hmac<Sha256>) -> [u8; 32] {
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_good_for_one_token_one_purpose_and_one_pair_of_nonces() {
        let token = Token::new("a token of enough bytes").unwrap();
        let context = Context { service: "ssh", host_nonce: &[1; 32], relay_nonce: &[2; 32] };
        let proof = token.host_proof(&context);
        assert!(token.is_host_proof(&context, &proof));
        assert!(!token.is_relay_proof(&context, 0, &proof));
        for other in [
            Context { service: "ssh2", ..context },
            Context { host_nonce: &[3; 32], ..context },
            Context { relay_nonce: &[3; 32], ..context },
        ] {
            assert!(!token.is_host_proof(&other, &proof));
        }
        assert!(!Token::default().is_host_proof(&context, &proof));
        let relay = token.relay_proof(&context, 7);
        assert!(token.is_relay_proof(&context, 7, &relay) && !token.is_relay_proof(&context, 8, &relay));
        let key = token.session_key(&context, 7);
        assert!(
            key.is_ticket_proof(3, &key.ticket_proof(3)) && !key.is_ticket_proof(4, &key.ticket_proof(3))
        );
    }

    #[test]
    fn tokens_have_16_bytes_at_least_and_are_not_shown() {
        assert!(Token::new("fifteen bytes..").is_none());
        let token = Token::new("sixteen bytes...").unwrap();
        assert_eq!(format!("{token:?}"), "Token(secret)");
        assert!(Token::new(&"x".repeat(1025)).is_none());
    }
}
