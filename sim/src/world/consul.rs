//! A Consul agent, as far as repeaters ask one: services with a TTL, blocking queries, keys.
//!
//! What it answers is held to what a real one (1.8.7, development mode) was seen to answer, in the tests below; hyper
//! speaks HTTP on both sides. It has one node, one datacenter, no access control, and removes nothing that is critical.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hailer::Timestamp;
use hailer::net::{Alarm, Net, TcpListener};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::scenario;

const DATACENTER: &str = "dc1";
/// The longest that a question is held back, as in Consul.
const WAIT_MAX: Duration = Duration::from_secs(600);
const BODY_MAX: usize = 512 << 10;

/// A registered service.
struct Service {
    name: String,
    address: String,
    port: u64,
    ttl: Duration,
    /// Until when its check passes.
    passes_until: Option<Timestamp>,
    created: u64,
}

/// What the agent knows.
struct State {
    /// The number of the last change.
    index: u64,
    services: BTreeMap<String, Service>,
    /// The change that each service was last part of.
    service_indices: BTreeMap<String, u64>,
    /// Values and the changes that made them.
    keys: BTreeMap<String, (String, u64)>,
    keys_index: u64,
}

#[derive(Debug, PartialEq)]
struct Reply {
    status: u16,
    /// Only for questions that can be held back.
    index: Option<u64>,
    body: String,
}

impl Reply {
    fn done() -> Self {
        Self { status: 200, index: None, body: String::new() }
    }

    fn failed(told: String) -> Self {
        Self { status: 500, index: None, body: told }
    }
}

impl State {
    fn new(keys: &BTreeMap<String, String>) -> Self {
        // What a fresh agent in development mode has changed before anybody asks.
        let index = 11;
        let keys = keys.iter().map(|(key, value)| (key.clone(), (value.clone(), index))).collect();
        Self { index, services: BTreeMap::new(), service_indices: BTreeMap::new(), keys, keys_index: index }
    }

    fn change(&mut self) -> u64 {
        self.index += 1;
        self.index
    }

    /// Lets checks fail that were not renewed in time.
    fn expire(&mut self, now: Timestamp) {
        let late = |service: &Service| service.passes_until.is_some_and(|until| until <= now);
        let late: Vec<_> =
            self.services.iter().filter(|(_, it)| late(it)).map(|(id, _)| id.clone()).collect();
        for id in late {
            let index = self.change();
            if let Some(service) = self.services.get_mut(&id) {
                service.passes_until = None;
                self.service_indices.insert(service.name.clone(), index);
            }
        }
    }

    /// When the next check fails by itself.
    fn next(&self) -> Option<Timestamp> {
        self.services.values().filter_map(|service| service.passes_until).min()
    }

    fn put(&mut self, now: Timestamp, path: &str, body: &[u8]) -> Reply {
        if path == "/v1/agent/service/register" {
            let Ok(told) = serde_json::from_slice::<Value>(body) else {
                return Reply { status: 400, index: None, body: "Request decode failed".to_owned() };
            };
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let index = self.change();
            let service = Service {
                name: text(&told["Name"]),
                address: text(&told["Address"]),
                port: told["Port"].as_u64().unwrap_or(0),
                ttl: span(told["Check"]["TTL"].as_str().unwrap_or_default()),
                passes_until: None,
                created: index,
            };
            self.service_indices.insert(service.name.clone(), index);
            self.services.insert(text(&told["ID"]), service);
            return Reply::done();
        }
        if let Some(check) = path.strip_prefix("/v1/agent/check/pass/") {
            let id = check.strip_prefix("service:").unwrap_or(check);
            let is_new = match self.services.get_mut(id) {
                Some(service) => service.passes_until.replace(now.after(service.ttl)).is_none(),
                None => return Reply::failed(format!("CheckID \"{check}\" does not have associated TTL")),
            };
            if is_new {
                let index = self.change();
                self.service_indices.insert(self.services[id].name.clone(), index);
            }
            return Reply::done();
        }
        if let Some(id) = path.strip_prefix("/v1/agent/service/deregister/") {
            if let Some(service) = self.services.remove(id) {
                let index = self.change();
                self.service_indices.insert(service.name, index);
            }
            return Reply::done();
        }
        if let Some(key) = path.strip_prefix("/v1/kv/") {
            let index = self.change();
            self.keys_index = index;
            self.keys.insert(key.to_owned(), (String::from_utf8_lossy(body).into_owned(), index));
            return Reply { status: 200, index: None, body: "true".to_owned() };
        }
        Reply { status: 404, index: None, body: String::new() }
    }

    fn get(&self, path: &str, query: &BTreeMap<String, String>) -> Reply {
        if query.get("dc").is_some_and(|dc| dc != DATACENTER) {
            return Reply { index: Some(1), ..Reply::failed("No path to datacenter".to_owned()) };
        }
        if let Some(name) = path.strip_prefix("/v1/health/service/") {
            let index = self.service_indices.get(name).copied().unwrap_or(11);
            let only_passing = query.contains_key("passing");
            let wanted = self.services.iter().filter(|(_, service)| {
                service.name == name && (service.passes_until.is_some() || !only_passing)
            });
            let entries: Vec<_> = wanted.map(|(id, service)| entry(id, service)).collect();
            return Reply { status: 200, index: Some(index), body: Value::from(entries).to_string() };
        }
        if let Some(prefix) = path.strip_prefix("/v1/kv/") {
            let found = self.keys.iter().filter(|(key, _)| key.starts_with(prefix));
            let entries: Vec<_> = found.map(|(key, (value, index))| pair(key, value, *index)).collect();
            if entries.is_empty() {
                return Reply { status: 404, index: Some(1), body: String::new() };
            }
            return Reply {
                status: 200,
                index: Some(self.keys_index),
                body: Value::from(entries).to_string(),
            };
        }
        Reply { status: 404, index: None, body: String::new() }
    }
}

/// What the catalogue says of a service, without what nobody here reads.
fn entry(id: &str, service: &Service) -> Value {
    let status = if service.passes_until.is_some() { "passing" } else { "critical" };
    json!({
        "Node": {"Node": "vm", "Address": "127.0.0.1", "Datacenter": DATACENTER},
        "Service": {
            "ID": id, "Service": service.name, "Tags": [], "Address": service.address, "Port": service.port,
            "CreateIndex": service.created,
        },
        "Checks": [
            {"CheckID": "serfHealth", "Status": "passing"},
            {"CheckID": format!("service:{id}"), "Status": status, "Type": "ttl"},
        ],
    })
}

fn pair(key: &str, value: &str, index: u64) -> Value {
    json!({
        "LockIndex": 0, "Key": key, "Flags": 0, "Value": base64(value.as_bytes()), "CreateIndex": index,
        "ModifyIndex": index,
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// A duration as Go writes the simple ones: `1500ms`, `15s`, `1m`.
fn span(text: &str) -> Duration {
    let number = |unit: &str| text.strip_suffix(unit)?.parse::<u64>().ok();
    let millis = number("ms").or_else(|| Some(number("s")? * 1000)).or_else(|| Some(number("m")? * 60_000));
    Duration::from_millis(millis.unwrap_or(0))
}

/// A running agent.
#[derive(Clone)]
struct Agent<N: Net> {
    net: N,
    state: Arc<Mutex<State>>,
    /// Wakes who waits for a change, in the order in which they came. (A `watch` channel wakes in an order that it draws.)
    changes: Arc<Notify>,
}

/// Serves until its tasks are ended.
pub(super) async fn serve<N: Net>(net: N, consul: scenario::Consul) {
    let Ok(listener) = net.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, consul.port))) else { return };
    let state = Arc::new(Mutex::new(State::new(&consul.keys)));
    if consul.is_nonsense {
        return babble(net, listener).await;
    }
    let agent = Agent { net: net.clone(), state, changes: Arc::default() };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let agent = agent.clone();
        let connection = async move {
            let service = service_fn(|request| agent.answer(request));
            let mut http = http1::Builder::new();
            // A date would be the real one.
            let http = http.auto_date_header(false).header_read_timeout(None);
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        };
        net.spawn("consul connection", connection).detach();
    }
}

/// Answers every question with something else: one kind of nonsense after the other.
async fn babble<N: Net>(net: N, listener: N::Listener) {
    for round in 0.. {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let connection = async move {
            let mut question = [0; 1024];
            let _ = stream.read(&mut question).await;
            let _ = stream.write_all(&nonsense(round)).await;
            let _ = stream.shutdown().await;
        };
        net.spawn("consul connection", connection).detach();
    }
}

fn nonsense(round: usize) -> Vec<u8> {
    let with = |head: &str, body: &str| {
        format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let ok = |index: &str, body: &str| with(&format!("200 OK\r\nx-consul-index: {index}"), body);
    match round % 12 {
        0 => Vec::new(),
        1 => vec![0xff; 700],
        2 => b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        3 => b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[".to_vec(),
        4 => with("302 Found\r\nlocation: http://10.9.0.3/", ""),
        5 => with("500 Internal Server Error", "rpc error: No cluster leader"),
        6 => ok("0", "<html>it works</html>"),
        7 => ok("18446744073709551615", "{\"Errors\": null}"),
        8 => ok("-1", "[1, \"x\", null, [], {\"Service\": 7}]"),
        9 => ok("7", "[{\"Service\": {\"Address\": \"everywhere\", \"Port\": 2340}}]"),
        // Addresses that no repeater has.
        10 => ok("9", "[{\"Service\": {\"Address\": \"0.0.0.0\", \"Port\": 2340}}]"),
        _ => ok("8", "[{\"Service\": {\"Address\": \"239.1.1.1\", \"Port\": 0}}]"),
    }
}

impl<N: Net> Agent<N> {
    fn with<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut state = self.state.lock().expect("nothing panics while it holds the state");
        let (now, before) = (self.net.now(), state.index);
        state.expire(now);
        let outcome = act(&mut state, now);
        if state.index != before {
            self.changes.notify_waiters();
        }
        outcome
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_MAX).collect().await else {
            return Ok(respond(Reply { status: 413, index: None, body: String::new() }));
        };
        let path = head.uri.path();
        if head.method == Method::PUT {
            return Ok(respond(self.with(|state, now| state.put(now, path, &body.to_bytes()))));
        }
        let query: BTreeMap<String, String> =
            head.uri.query().unwrap_or_default().split('&').map(word).collect();
        let after = query.get("index").and_then(|index| index.parse::<u64>().ok()).filter(|index| *index > 0);
        let wait = query.get("wait").map_or(Duration::from_secs(300), |wait| span(wait)).min(WAIT_MAX);
        let until = self.net.now().after(wait);
        let mut alarm = self.net.alarm();
        loop {
            let mut changed = pin!(self.changes.notified());
            changed.as_mut().enable();
            let (reply, next) = self.with(|state, _| (state.get(path, &query), state.next()));
            let is_news = reply.index.zip(after).is_none_or(|(index, after)| index > after);
            if is_news || reply.status == 500 || self.net.now() >= until {
                return Ok(respond(reply));
            }
            alarm.set(Some(next.map_or(until, |next| next.min(until))));
            tokio::select! {
                biased;
                () = &mut changed => {}
                () = alarm.ring() => {}
            }
        }
    }
}

fn word(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    (key.to_owned(), value.to_owned())
}

fn respond(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(reply.status);
    if let Some(index) = reply.index {
        response = response.header("x-consul-index", index);
    }
    response.body(Full::new(reply.body.into())).expect("a status and a number are right")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRATION: &str = r#"{"ID":"r-1","Name":"hailer-repeater","Address":"10.0.0.1","Port":2340,
        "Check":{"TTL":"2000ms","DeregisterCriticalServiceAfter":"1m"}}"#;

    fn get(state: &State, target: &str) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        state.get(path, &query.split('&').map(word).collect())
    }

    /// The exchange that was had with Consul 1.8.7, step by step, with its indices.
    #[test]
    fn it_answers_as_the_real_one_did() {
        let mut state = State::new(&BTreeMap::new());
        let passing = "/v1/health/service/hailer-repeater?passing=true";
        let at = Timestamp::from_millis;
        let empty = |index| Reply { status: 200, index: Some(index), body: "[]".to_owned() };
        assert_eq!(get(&state, passing), empty(11));
        assert_eq!(state.put(at(0), "/v1/agent/service/register", REGISTRATION.as_bytes()), Reply::done());
        // The real one had counted a change of its own node by then: 13.
        assert_eq!(get(&state, passing), empty(12));
        assert_eq!(state.put(at(0), "/v1/agent/check/pass/service:r-1", b""), Reply::done());
        let reply = get(&state, passing);
        assert_eq!((reply.status, reply.index), (200, Some(13)));
        let told: Value = serde_json::from_str(&reply.body).unwrap();
        let service = &told[0]["Service"];
        assert_eq!(told.as_array().unwrap().len(), 1);
        assert_eq!((&service["ID"], &service["Service"]), (&json!("r-1"), &json!("hailer-repeater")));
        assert_eq!((&service["Address"], &service["Port"]), (&json!("10.0.0.1"), &json!(2340)));
        assert_eq!(told[0]["Node"]["Address"], "127.0.0.1");
        assert_eq!(told[0]["Checks"][1]["Status"], "passing");
        assert_eq!(
            state.put(at(0), "/v1/agent/check/pass/service:nope", b""),
            Reply::failed("CheckID \"service:nope\" does not have associated TTL".to_owned())
        );
        assert_eq!(state.put(at(0), "/v1/agent/service/deregister/nope", b""), Reply::done());
        let keys = "/v1/kv/docker/nodes?recurse=1";
        assert_eq!(get(&state, keys), Reply { status: 404, index: Some(1), body: String::new() });
        let stored = state.put(at(0), "/v1/kv/docker/nodes/a", b"10.0.0.7:2376");
        assert_eq!(stored, Reply { status: 200, index: None, body: "true".to_owned() });
        let told: Value = serde_json::from_str(&get(&state, keys).body).unwrap();
        assert_eq!(told[0]["Key"], "docker/nodes/a");
        assert_eq!(told[0]["Value"], "MTAuMC4wLjc6MjM3Ng==");
        assert_eq!(get(&state, keys).index, Some(14));
        assert_eq!(state.put(at(0), "/v1/agent/service/deregister/r-1", b""), Reply::done());
        assert_eq!(get(&state, passing), empty(15));
        let elsewhere = Reply { index: Some(1), ..Reply::failed("No path to datacenter".to_owned()) };
        assert_eq!(get(&state, "/v1/health/service/x?passing=true&dc=dc9"), elsewhere);
    }

    #[test]
    fn a_check_that_is_not_renewed_fails() {
        let mut state = State::new(&BTreeMap::new());
        let at = Timestamp::from_millis;
        state.put(at(0), "/v1/agent/service/register", REGISTRATION.as_bytes());
        state.put(at(100), "/v1/agent/check/pass/service:r-1", b"");
        state.put(at(1000), "/v1/agent/check/pass/service:r-1", b"");
        let index = state.index;
        state.expire(at(2999));
        assert_eq!((state.index, state.next()), (index, Some(at(3000))));
        state.expire(at(3000));
        assert_eq!(state.index, index + 1);
        assert_eq!(get(&state, "/v1/health/service/hailer-repeater?passing=true").body, "[]");
        assert_ne!(get(&state, "/v1/health/service/hailer-repeater").body, "[]");
    }
}
