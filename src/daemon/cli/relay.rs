//! `hailer relay` and `hailer host`: options to the same configuration that a file has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::daemon::output::Output;
use crate::daemon::{Config, LoadError, Roles};
use crate::relay::config::{
    Compatible, CompatibleHost, Config as RelayConfig, HostConfig, HostService, Limits, Local, Place,
    Protocol, Service, TlsFiles, Trust,
};
use crate::relay::proof::Token;

pub(super) const RELAY_HELP: &str = "\
Without --service it speaks the protocol of the original RelayServer: hosts on port 8000, command channels on 8001,
clients on 8002, and no authentication at all.

A token is at least 16 bytes long, on the first line of a file: openssl rand -hex 32 > token
SIGTERM and Ctrl-C let sessions go on for 30 s at most; a second one ends at once.";

pub(super) const HOST_HELP: &str = "\
Without --service it speaks the protocol of the original RelayServer.
The relay is tried again and again, quickly at first, then at most every 20 s.";

/// What `hailer relay` takes.
#[derive(Debug, Args)]
pub(super) struct RelayOptions {
    /// A service and where its clients connect to; may be given several times. NAME=udp:ADDRESS:PORT is a UDP service
    #[arg(long, short, value_name = "NAME=ADDRESS:PORT", value_parser = parse_service)]
    service: Vec<(String, (Protocol, SocketAddr))>,
    /// File with the token that hosts have to know [default: every host may serve]
    #[arg(long, value_name = "FILE", requires = "service")]
    token_file: Option<PathBuf>,
    /// Where hosts connect to
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8000")]
    hosts: SocketAddr,
    /// Certificate for TLS, in PEM; hosts without TLS are refused then
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "service"])]
    tls_certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Speak the original protocol too
    #[arg(long)]
    compatible: bool,
}

/// What `hailer host` takes.
#[derive(Debug, Args)]
pub(super) struct HostOptions {
    /// The local service; udp:HOST:PORT is a UDP service
    #[arg(long, value_name = "HOST:PORT")]
    to: Local,
    /// The relay, with its port for hosts
    #[arg(long, value_name = "HOST:PORT")]
    relay: Place,
    /// The name of the service [default: speak the original protocol]
    #[arg(long, short, value_name = "NAME", value_parser = parse_name)]
    service: Option<String>,
    /// File with the token that the relay has for the service
    #[arg(long, value_name = "FILE", requires = "service")]
    token_file: Option<PathBuf>,
    /// Speak TLS, with a relay whose certificate is signed by one of those in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "service", conflicts_with = "tls_pin")]
    tls_authority: Option<PathBuf>,
    /// Speak TLS, with a relay whose certificate has this SHA-256
    #[arg(long, value_name = "HASH", requires = "service")]
    tls_pin: Option<String>,
}

fn parse_name(text: &str) -> Result<String, String> {
    if (1..=crate::relay::message::SERVICE_BYTES_MAX).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("a name has 1 to {} bytes", crate::relay::message::SERVICE_BYTES_MAX))
    }
}

fn parse_service(text: &str) -> Result<(String, (Protocol, SocketAddr)), String> {
    let (name, at) = text.split_once('=').ok_or("write NAME=ADDRESS:PORT, for example ssh=0.0.0.0:2222")?;
    let (protocol, at) = Protocol::split(at);
    let help = "after = comes an address and a port, for example 0.0.0.0:2222 or udp:0.0.0.0:53";
    Ok((parse_name(name)?, (protocol, at.parse().map_err(|_| help)?)))
}

fn token(file: Option<&Path>) -> Result<Token, String> {
    let Some(file) = file else { return Ok(Token::default()) };
    let content = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let line = content.lines().next().unwrap_or_default();
    let (least, most) = (Token::BYTES_MIN, Token::BYTES_MAX);
    Token::new(line).ok_or_else(|| {
        format!(
            "{}: its first line has {} bytes, and a token has {least} to {most}",
            file.display(),
            line.len()
        )
    })
}

impl RelayOptions {
    /// The configuration that they stand for.
    pub(super) fn config(&self) -> Result<Config, String> {
        let token = token(self.token_file.as_deref())?;
        let service = |(protocol, clients)| Service {
            clients,
            protocol,
            token: token.clone(),
            limits: Limits::of(protocol),
        };
        let services = self.service.iter().map(|(name, at)| (name.clone(), service(*at))).collect();
        let tls = self.tls_certificate.clone().zip(self.tls_key.clone());
        let relay = RelayConfig {
            hosts: self.hosts,
            compatible: (self.compatible || self.service.is_empty()).then(Compatible::default),
            services,
            tls: tls.map(|(certificate, key)| TlsFiles { certificate, key }),
            ..RelayConfig::default()
        };
        Ok(Config { relay: Some(relay), ..Config::default() })
    }
}

impl HostOptions {
    /// The configuration that they stand for.
    pub(super) fn config(&self) -> Result<Config, String> {
        let token = token(self.token_file.as_deref())?;
        let pin = |text: &String| Trust::pin(text).ok_or("--tls-pin takes 64 hexadecimal digits");
        let tls = match &self.tls_authority {
            Some(file) => Some(Trust::Authority { file: file.clone(), name: None }),
            None => self.tls_pin.as_ref().map(pin).transpose()?,
        };
        let service = |name: &String| {
            (name.clone(), HostService { token: token.clone(), ..HostService::at(self.to.clone()) })
        };
        let compatible = match (&self.service, &self.to) {
            (Some(_), _) => None,
            (None, Local::Port(to)) => Some(CompatibleHost::new(to.clone())),
            (None, _) => return Err("the original protocol has no UDP: add --service".to_owned()),
        };
        let host = HostConfig {
            relay: self.relay.clone(),
            tls,
            compatible,
            services: self.service.iter().map(service).collect(),
            drain: RelayConfig::default().drain,
        };
        Ok(Config { host: Some(host), ..Config::default() })
    }
}

/// Says where relay and host are.
pub(super) async fn announce(roles: &Roles, output: &Output) {
    if let Some(relay) = &roles.relay {
        output.remark(&format!("relay: hosts connect to {}; Ctrl-C ends", relay.hosts_at()));
        for (name, at) in relay.services().await {
            let name = if name.is_empty() { "the original protocol" } else { &name };
            output.remark(&format!("relay: clients of {name} come to {at}"));
        }
    }
    if roles.host.is_some() {
        output.remark("host: connecting; Ctrl-C ends");
    }
}

/// Requests to read the configuration again: SIGHUP, where there is such a thing.
pub(super) struct Requests {
    #[cfg(unix)]
    hangup: Option<tokio::signal::unix::Signal>,
}

impl Requests {
    pub(super) fn new() -> Self {
        Self {
            #[cfg(unix)]
            hangup: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok(),
        }
    }
}

/// Waits for a request; without [`Requests`] for ever.
pub(super) async fn requested(requests: &mut Option<Requests>) {
    #[cfg(unix)]
    if let Some(hangup) = requests.as_mut().and_then(|requests| requests.hangup.as_mut()) {
        hangup.recv().await;
        return;
    }
    let _ = requests;
    std::future::pending::<()>().await;
}

/// Reads the configuration again and applies what can be applied: to a relay and to a host.
pub(super) async fn reload(roles: &mut Roles, file: Option<&Path>) {
    let Some(file) = file else { return tracing::warn!("there is no file to read again") };
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(LoadError::Invalid(diagnostics)) => return super::complain(diagnostics.render(false)),
        Err(error @ LoadError::Read { .. }) => return tracing::warn!(%error, "settings stay as they were"),
    };
    if let (Some(relay), Some(config)) = (&roles.relay, config.relay)
        && let Err(error) = relay.reload(config).await
    {
        tracing::warn!(%error, "settings of the relay stay as they were");
    }
    if let (Some(host), Some(config)) = (&mut roles.host, config.host) {
        match host.reload(config) {
            Ok(()) => tracing::info!("settings of the host read again"),
            Err(error) => tracing::warn!(%error, "settings of the host stay as they were"),
        }
    }
}
