//! TLS as far as its users share it: files in PEM to what rustls takes, the name of a server, and what is wrong with them.
//!
//! Who is believed, and which versions are spoken, is decided where TLS is used: between hosts and their relay
//! (`relay/tls.rs`), and to Consul (`repeater/registry/tls.rs`). There is no list of public authorities.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{Error, RootCertStore};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or has not what it should have.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not fit.
    #[error("certificate and key can't be used: {0}")]
    Unusable(Error),
    /// The name can't be in a certificate.
    #[error("`{0}` can't be the name in a server's certificate")]
    BadName(String),
}

/// The certificate that one end shows, those between it and its authority, and its key.
pub(crate) fn certificate_and_key(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| file(&files.key, error))?;
    Ok((chain, key))
}

/// The authorities of a file.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| file(path, error))?;
    }
    Ok(roots)
}

/// The name or the address that a server's certificate has to be for.
pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::BadName(name.to_owned()))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| file(path, error))?;
    if found.is_empty() { Err(file(path, "it has no certificate in PEM")) } else { Ok(found) }
}

fn file(path: &Path, problem: impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(path("a.pem"), certificate.pem()).unwrap();
        std::fs::write(path("a.key"), key.serialize_pem()).unwrap();
        std::fs::write(path("text"), "no PEM").unwrap();
        let told = |error: TlsError| error.to_string();
        let files = |certificate, key| {
            certificate_and_key(&TlsFiles { certificate: path(certificate), key: path(key) })
        };
        assert_eq!(files("a.pem", "a.key").unwrap().0.len(), 1);
        for (wrong, files) in [
            ("none", files("none", "a.key")),
            ("none", files("a.pem", "none")),
            ("text", files("text", "a.key")),
            ("text", files("a.pem", "text")),
        ] {
            assert!(told(files.unwrap_err()).starts_with(path(wrong).to_str().unwrap()));
        }
        assert_eq!(authorities(&path("a.pem")).unwrap().len(), 1);
        assert!(told(authorities(&path("text")).unwrap_err()).ends_with("it has no certificate in PEM"));
    }

    #[test]
    fn servers_have_names_and_addresses() {
        for name in ["server.dc1.consul", "10.0.0.1", "fd00::1"] {
            assert_eq!(server_name(name).unwrap().to_str(), name);
        }
        for name in ["", "a b", "[fd00::1]"] {
            assert!(server_name(name).unwrap_err().to_string().contains(&format!("`{name}`")));
        }
    }
}
