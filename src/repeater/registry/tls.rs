//! TLS to a server that is known by an authority of the user's own: files to what opens connections.
//!
//! TLS 1.2 and 1.3, as Consul offers them. There is no list of public authorities.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, rustls};

use crate::repeater::Tls;
use crate::tls::{self, TlsError};

/// Opens TLS on connections to one server.
#[derive(Clone)]
pub(in crate::repeater) struct Connector {
    config: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        self.config.connect(self.name.clone(), stream).await
    }
}

/// Reads the files.
pub(super) fn connector(wanted: &Tls, host: &str) -> Result<Connector, TlsError> {
    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .map_err(TlsError::Unusable)?
        .with_root_certificates(tls::authorities(&wanted.authority)?);
    let config = match &wanted.certificate {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = tls::certificate_and_key(files)?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Unusable)?
        }
    };
    let name = tls::server_name(wanted.name.as_deref().unwrap_or(host))?;
    Ok(Connector { config: TlsConnector::from(Arc::new(config)), name })
}
