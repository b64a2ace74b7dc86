//! Consul: repeaters register as a service that has to be renewed, and wait for changes of what is registered (blocking
//! queries of its HTTP API, version 1). The original's way is spoken, too: keys below `docker/nodes` with an address in
//! each.
//!
//! Whatever Consul answers, the worst that comes of it is that nothing new is learned.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::Finder;
use super::http::{Answer, HttpError, ask};
use super::tls::Connector;
use crate::net::{Alarm, Net};
use crate::repeater::driver::Pause;
use crate::repeater::{Config, Consul};

/// How long Consul may hold a question back until something changes. It adds up to a sixteenth.
const WAIT: Duration = Duration::from_secs(30);
/// How long any other answer may take, and how much longer than [`WAIT`] one that was held back.
const PATIENCE: Duration = Duration::from_secs(8);
/// Between two questions whose answers come at once, so that a registry that changes all the time is not asked without
/// end. The original asks every second.
const CALM: Duration = Duration::from_millis(500);
/// How long Consul may take to list what was registered, before that is repeated; each time twice as long. A Consul that
/// has lost its memory is told again so soon, and not when the registration has to be renewed.
const UNLISTED: Duration = Duration::from_secs(1);
/// A registration that was void for so long is removed by Consul; it allows no less than a minute.
const REMOVED_AFTER: &str = "1m";

/// Asks one Consul.
#[derive(Clone, Debug)]
pub(super) struct Client<N: Net> {
    net: N,
    consul: Consul,
    tls: Option<Connector>,
    finder: Finder,
    own: Option<SocketAddr>,
    /// Whether Consul's last answer had us in it; unknown before the first.
    is_listed: watch::Sender<Option<bool>>,
}

/// Why Consul was of no use.
#[derive(Debug, thiserror::Error)]
enum ConsulError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An answer that says no.
    #[error("Consul answers {status} to {path}: {told}")]
    Refused { status: StatusCode, path: String, told: String },
    /// What it says is no JSON of the expected kind.
    #[error("Consul's answer to {path} makes no sense")]
    Nonsense { path: String },
}

/// What is asked, again and again.
struct Question {
    path: String,
    read: fn(&Value) -> Option<BTreeSet<SocketAddr>>,
    /// A key that does not exist is answered with 404, and means nobody.
    may_miss: bool,
}

impl<N: Net> Client<N> {
    /// `own` is what is registered.
    pub(super) fn new(
        net: N,
        consul: Consul,
        tls: Option<Connector>,
        finder: Finder,
        own: Option<SocketAddr>,
    ) -> Self {
        Self { net, consul, tls, finder, own, is_listed: watch::Sender::new(None) }
    }

    /// Tells who is registered, whenever that changes.
    pub(super) async fn watch(self) {
        let service = self.consul.service.as_ref().map(|service| Question {
            path: format!("/v1/health/service/{service}?passing=true"),
            read: repeaters_of_service,
            may_miss: false,
        });
        let keys = self.consul.keys.as_ref().map(|keys| Question {
            path: format!("/v1/kv/{keys}?recurse=1"),
            read: repeaters_of_keys,
            may_miss: true,
        });
        let questions: Vec<_> = service.into_iter().chain(keys).collect();
        let (found, mut changes) = watch::channel(vec![None; questions.len()]);
        let mut tasks = Vec::new();
        for (index, question) in questions.into_iter().enumerate() {
            let (client, found) = (self.clone(), found.clone());
            tasks.push(self.net.spawn("registry: Consul, question", async move {
                client
                    .ask_again(question, |answer| {
                        found.send_if_modified(|found| {
                            let is_new = found[index].as_ref() != Some(&answer);
                            found[index] = Some(answer);
                            is_new
                        });
                    })
                    .await;
            }));
        }
        while changes.changed().await.is_ok() {
            if let (Some(_), Some(own)) = (&self.consul.service, self.own) {
                let listed = changes.borrow()[0].as_ref().map(|found| found.contains(&own));
                self.is_listed.send_replace(listed);
            }
            let all: BTreeSet<SocketAddr> =
                changes.borrow_and_update().iter().flatten().flatten().copied().collect();
            self.finder.found(all).await;
        }
        drop(tasks);
    }

    async fn ask_again(&self, question: Question, mut tell: impl FnMut(BTreeSet<SocketAddr>)) {
        let mut pause = Pause::new(&self.net);
        let mut index = 0;
        let mut is_down = false;
        loop {
            let asked = self.net.now();
            let was_held_back = index > 0;
            match self.question(&question, index).await {
                Ok((answer, next)) => {
                    if std::mem::take(&mut is_down) {
                        info!(server = %self.consul.server, "Consul answers again");
                    }
                    pause.succeed();
                    tell(answer);
                    // An index that goes back belongs to a Consul that was made anew.
                    index = if next < index { 0 } else { next };
                    // What was asked without an index is asked again with one, at once.
                    let rest = CALM.saturating_sub(self.net.now().since(asked));
                    if (was_held_back || index == 0) && !rest.is_zero() {
                        pause.sleep(rest).await;
                        // Meanwhile Consul may have lost its memory, unseen. It would hold back a question with an
                        // index that it has not reached yet.
                        index = 0;
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_down, true) {
                        warn!(server = %self.consul.server, %error, "no use of Consul; what is known stays");
                    }
                    index = 0;
                    pause.wait().await;
                }
            }
        }
    }

    async fn question(
        &self,
        question: &Question,
        index: u64,
    ) -> Result<(BTreeSet<SocketAddr>, u64), ConsulError> {
        let mut path = question.path.clone();
        let mut patience = PATIENCE;
        if index > 0 {
            path.push_str(&format!("&index={index}&wait={}s", WAIT.as_secs()));
            patience += WAIT + WAIT / 16;
        }
        if let Some(datacenter) = &self.consul.datacenter {
            path.push_str(&format!("&dc={datacenter}"));
        }
        let Answer { status, index, body } = self.ask(Method::GET, &path, Bytes::new(), patience).await?;
        if status == StatusCode::NOT_FOUND && question.may_miss {
            return Ok((BTreeSet::new(), index.unwrap_or(0)));
        }
        if !status.is_success() {
            return Err(refused(status, path, &body));
        }
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        let found = value.as_ref().and_then(question.read);
        Ok((found.ok_or(ConsulError::Nonsense { path })?, index.unwrap_or(0)))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<Answer, ConsulError> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.consul.server.to_string());
        if let Some(token) = &self.consul.token {
            request = request.header("x-consul-token", token);
        }
        let request = request.body(Full::new(body)).expect("paths and tokens of a configuration are checked");
        Ok(ask(&self.net, &self.consul.server, self.tls.as_ref(), request, patience).await?)
    }

    /// Registers us, renews that, registers anew when Consul has forgotten, and takes it back in the end.
    pub(super) async fn stay_registered(self, mut leave: watch::Receiver<bool>) {
        let (Some(service), Some(own)) = (self.consul.service.clone(), self.own) else { return };
        let id = format!("{service}-{}-{}", own.ip(), own.port());
        let mut pause = Pause::new(&self.net);
        let mut is_listed = self.is_listed.subscribe();
        let mut is_registered = false;
        let mut was_registered = false;
        let mut is_told = false;
        let mut patience = UNLISTED;
        loop {
            let outcome = self.renew(&service, &id, own, &mut is_registered);
            let outcome = tokio::select! {
                biased;
                _ = leave.wait_for(|leave| *leave) => break,
                outcome = outcome => outcome,
            };
            match outcome {
                Ok(()) => {
                    pause.succeed();
                    is_told = false;
                    was_registered = true;
                    let interval = self.consul.ttl / 3;
                    let missed = async {
                        self.rest(patience.min(interval)).await;
                        let _ = is_listed.wait_for(|listed| *listed == Some(false)).await;
                    };
                    tokio::select! {
                        biased;
                        _ = leave.wait_for(|leave| *leave) => break,
                        () = self.rest(interval) => {
                            // Unless it lets us write and not read.
                            if *self.is_listed.borrow() != Some(false) {
                                patience = UNLISTED;
                            }
                        }
                        () = missed => {
                            // It has forgotten us, or has not told the others yet.
                            is_registered = false;
                            patience = interval.min(patience * 2);
                        }
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        warn!(server = %self.consul.server, %error, "not registered with Consul");
                    }
                    tokio::select! {
                        biased;
                        _ = leave.wait_for(|leave| *leave) => break,
                        () = pause.wait() => {}
                    }
                }
            }
        }
        if is_registered || was_registered {
            let path = format!("/v1/agent/service/deregister/{id}");
            if let Err(error) = self.put(path, &Value::Null).await {
                debug!(%error, "registration left to run out");
            }
        }
    }

    async fn rest(&self, span: Duration) {
        let mut alarm = self.net.alarm();
        alarm.set(Some(self.net.now().after(span)));
        alarm.ring().await;
    }

    async fn renew(
        &self,
        service: &str,
        id: &str,
        own: SocketAddr,
        is_registered: &mut bool,
    ) -> Result<(), ConsulError> {
        let pass = format!("/v1/agent/check/pass/service:{id}");
        if *is_registered {
            match self.put(pass.clone(), &Value::Null).await {
                // It has lost its memory, as an agent in development mode does when it is restarted.
                Err(ConsulError::Refused { .. }) => *is_registered = false,
                outcome => return outcome,
            }
        }
        let registration = json!({
            "ID": id,
            "Name": service,
            "Address": own.ip().to_string(),
            "Port": own.port(),
            "Check": {
                "TTL": format!("{}ms", self.consul.ttl.as_millis()),
                "DeregisterCriticalServiceAfter": REMOVED_AFTER,
            },
        });
        self.put("/v1/agent/service/register".to_owned(), &registration).await?;
        info!(server = %self.consul.server, %id, "registered with Consul");
        *is_registered = true;
        self.put(pass, &Value::Null).await
    }

    async fn put(&self, path: String, body: &Value) -> Result<(), ConsulError> {
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let Answer { status, body, .. } = self.ask(Method::PUT, &path, body, PATIENCE).await?;
        if status.is_success() { Ok(()) } else { Err(refused(status, path, &body)) }
    }
}

fn refused(status: StatusCode, path: String, body: &[u8]) -> ConsulError {
    let told = String::from_utf8_lossy(&body[..body.len().min(200)]).trim().to_owned();
    ConsulError::Refused { status, path, told }
}

/// `[{"Node": {"Address": ..}, "Service": {"Address": .., "Port": ..}}]`; a service without an address has its node's.
fn repeaters_of_service(answer: &Value) -> Option<BTreeSet<SocketAddr>> {
    let place = |entry: &Value| {
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty())?.parse().ok();
        let address: IpAddr =
            text(&entry["Service"]["Address"]).or_else(|| text(&entry["Node"]["Address"]))?;
        let port = u16::try_from(entry["Service"]["Port"].as_u64()?).ok()?;
        Some(SocketAddr::new(address, port))
    };
    Some(answer.as_array()?.iter().filter_map(place).collect())
}

/// `[{"Value": ..}]`, each value base64 of the text `address:port`, of which only the address counts: the port is that of
/// something else on the same machine.
fn repeaters_of_keys(answer: &Value) -> Option<BTreeSet<SocketAddr>> {
    let place = |entry: &Value| {
        let text = BASE64_STANDARD.decode(entry["Value"].as_str()?).ok()?;
        let text = std::str::from_utf8(&text).ok()?;
        let address = text.split(':').next()?.parse().ok()?;
        Some(SocketAddr::new(address, Config::PUBLISH_PORT))
    };
    Some(answer.as_array()?.iter().filter_map(place).collect())
}

/// Reads an answer's body as either kind, for the fuzz targets.
#[cfg(feature = "fuzzing")]
pub(in crate::repeater) fn read(body: &[u8]) {
    let Ok(answer) = serde_json::from_slice(body) else { return };
    let kinds = [repeaters_of_service(&answer), repeaters_of_keys(&answer)];
    assert!(kinds.into_iter().flatten().all(|found| found.len() <= body.len()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(found: Option<BTreeSet<SocketAddr>>) -> Vec<String> {
        found.unwrap().into_iter().map(|place| place.to_string()).collect()
    }

    #[test]
    fn services_are_where_they_say_or_where_their_node_is() {
        let answer = json!([
            {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "10.0.0.9", "Port": 2340}, "Checks": []},
            {"Node": {"Address": "10.0.0.2"}, "Service": {"Address": "", "Port": 2341}},
            {"Node": {"Address": "host"}, "Service": {"Address": "", "Port": 2341}},
            {"Node": {"Address": "10.0.0.3"}, "Service": {"Port": 70000}},
            {"Service": 7}, null, "x",
        ]);
        assert_eq!(places(repeaters_of_service(&answer)), ["10.0.0.2:2341", "10.0.0.9:2340"]);
        assert_eq!(repeaters_of_service(&json!({})), None);
        assert_eq!(places(repeaters_of_service(&json!([]))), [""; 0]);
    }

    /// As Docker's cluster store wrote them, and as the original reads them.
    #[test]
    fn keys_have_an_address_and_a_port_of_something_else() {
        let value = |text: &str| json!({"Key": "docker/nodes/x", "Value": BASE64_STANDARD.encode(text)});
        let answer = json!([
            value("10.0.0.7:2376"), value("10.0.0.8"), value("host:2376"), value(""),
            {"Key": "docker/nodes/", "Value": null}, {"Value": "%"}, {"Value": 7}, [],
        ]);
        assert_eq!(places(repeaters_of_keys(&answer)), ["10.0.0.7:2340", "10.0.0.8:2340"]);
        assert_eq!(repeaters_of_keys(&json!("x")), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("Service"),
            Just("Node"),
            Just("Address"),
            Just("Port"),
            Just("Value"),
            Just("x")
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_json_is_a_panic(answer in any_json()) {
            let _ = repeaters_of_service(&answer);
            let _ = repeaters_of_keys(&answer);
        }
    }
}
