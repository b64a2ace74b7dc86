//! TLS for the connections between hosts and their relay: files to rustls' configurations.
//!
//! TLS 1.3 only: both ends are this program. A host knows its relay by an authority of the user's own or by the hash of
//! its certificate; there is no list of public authorities.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::config::{Place, Trust};
use crate::tls::{TlsError, TlsFiles, authorities, certificate_and_key, provider, server_name};

/// What a relay accepts TLS with.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = certificate_and_key(files)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What a host opens TLS with, and the name that it asks for.
pub(super) fn connector(
    trust: &Trust,
    relay: &Place,
) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Unusable)?;
    let (config, name) = match trust {
        Trust::Authority { file: path, name } => (
            builder.with_root_certificates(authorities(path)?).with_no_client_auth(),
            name.as_ref().unwrap_or(&relay.host),
        ),
        Trust::Pinned(hash) => {
            let verifier = Pinned { hash: *hash, algorithms: provider().signature_verification_algorithms };
            let verifier = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            (verifier.with_no_client_auth(), &relay.host)
        }
    };
    Ok((TlsConnector::from(Arc::new(config)), server_name(name)?))
}

/// Believes one certificate, whoever signed it and whatever its dates are.
#[derive(Debug)]
struct Pinned {
    hash: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if Sha256::digest(certificate)[..] == self.hash {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
