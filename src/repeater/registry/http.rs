//! One HTTP/1.1 exchange on a connection of its own. hyper speaks the protocol; the bytes go over a [`Net`], so that a
//! simulated server answers a simulated repeater.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::Connector;
use crate::net::Net;
use crate::repeater::Place;
use crate::repeater::driver::within;

/// The longest answer, in bytes. A thousand services of Consul take about 1 MiB.
const ANSWER_MAX: usize = 8 << 20;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Consul's `X-Consul-Index`, when it is a number.
    pub(super) index: Option<u64>,
    pub(super) body: Bytes,
}

/// Why there is no answer. Another attempt may have one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection, or it broke, or took too long.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What came is not HTTP, or it is cut.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The body was cut, or is too long.
    #[error("the answer is longer than {ANSWER_MAX} bytes, or cut: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Asks and waits for the answer, so long.
pub(super) async fn ask<N: Net>(
    net: &N,
    server: &Place,
    tls: Option<&Connector>,
    request: Request<Full<Bytes>>,
    patience: Duration,
) -> Result<Answer, HttpError> {
    let stream = within::<N, _, HttpError>(net, CONNECT_TIMEOUT, async {
        let mut outcome = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        for address in net.resolve(&server.host, server.port).await? {
            outcome = net.connect(address, None).await;
            if outcome.is_ok() {
                break;
            }
        }
        Ok(outcome?)
    })
    .await?;
    within(net, patience, async {
        match tls {
            None => exchange(stream, request).await,
            Some(tls) => exchange(tls.open(stream).await?, request).await,
        }
    })
    .await
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut answering = pin!(async {
        let answer = sender.send_request(request).await?;
        let index =
            answer.headers().get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await.map_err(HttpError::Body)?;
        Ok(Answer { status, index, body: body.to_bytes() })
    });
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        // The connection ends when its last byte has come, which the answer may not have taken yet.
        ended = connection => {
            ended?;
            answering.await
        }
    }
}
