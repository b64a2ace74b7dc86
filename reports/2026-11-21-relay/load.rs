//! What the comparison of relays is loaded with: an echo service, a sink and source, clients, and the table of what they
//! measured. `rustc --edition 2024 -O load.rs`.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn serve(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::Builder::new().stack_size(131_072).spawn(move || one(stream)).unwrap();
    }
}

/// The first byte says what is wanted: e echo, u a sink, d a source.
fn one(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut small = [0; 1024];
    let Ok(count @ 1..) = stream.read(&mut small) else { return };
    match small[0] {
        b'u' => {
            let mut buffer = vec![0; 1 << 16];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        }
        b'd' => {
            let buffer = vec![0; 1 << 16];
            while stream.write_all(&buffer).is_ok() {}
        }
        _ => {
            if stream.write_all(&small[..count]).is_err() { return }
            while let Ok(count @ 1..) = stream.read(&mut small) {
                if stream.write_all(&small[..count]).is_err() { return }
            }
        }
    }
}

fn bulk(at: &str, streams: usize, is_up: bool, time: Duration) -> f64 {
    static MOVED: AtomicU64 = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..streams {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(at).unwrap();
                let mut buffer = vec![b'u'; 1 << 16];
                if !is_up { stream.write_all(b"d").unwrap(); }
                while start.elapsed() < time {
                    let count = if is_up { stream.write(&buffer) } else { stream.read(&mut buffer) };
                    MOVED.fetch_add(count.unwrap() as u64, Ordering::Relaxed);
                }
            });
        }
    });
    MOVED.load(Ordering::Relaxed) as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64()
}

fn round_trips(at: &str, time: Duration) -> (f64, f64) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut taken = Vec::new();
    let start = Instant::now();
    let mut buffer = [b'e'; 64];
    while start.elapsed() < time {
        let before = Instant::now();
        stream.write_all(&buffer).unwrap();
        stream.read_exact(&mut buffer).unwrap();
        taken.push(before.elapsed().as_nanos() as f64 / 1e3);
    }
    taken.sort_by(f64::total_cmp);
    (taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

/// One session: connect, 64 bytes there and back.
fn visit(at: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(at) else { return false };
    let _ = stream.set_nodelay(true);
    let mut buffer = [b'e'; 64];
    stream.write_all(&buffer).is_ok() && stream.read_exact(&mut buffer).is_ok()
}

/// Sessions, so many at once, until the time or their number is over. How many a second; what fails is told.
fn connects(at: &str, at_once: usize, time: Duration, most: u64) -> f64 {
    let (start, begun) = (Instant::now(), AtomicU64::new(0));
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while start.elapsed() < time && begun.fetch_add(1, Ordering::Relaxed) < most {
                    let count = if visit(at) { &done } else { &failed };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let failed = failed.into_inner();
    if failed > 0 { eprintln!("{failed} sessions with {at} failed") }
    done.into_inner() as f64 / start.elapsed().as_secs_f64()
}

fn hold(at: &str, count: usize, time: Duration) {
    let held: Vec<_> = (0..count).map(|number| {
        let mut stream = TcpStream::connect(at).unwrap_or_else(|error| panic!("session {number}: {error}"));
        stream.write_all(b"e").unwrap();
        stream.read_exact(&mut [0]).unwrap_or_else(|error| panic!("session {number}: {error}"));
        stream
    }).collect();
    println!("held");
    std::thread::sleep(time);
    held.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
}

/// Tries until the service answers, and says when that was, in milliseconds of the Unix time.
fn back(at: &str, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        if visit(at) {
            return println!("{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("never");
}

/// What must be reached: of which row, whose value, beside whose, and the least or most of their ratio.
type Bar = (&'static str, &'static str, &'static str, f64, bool);
const BARS: [Bar; 20] = [
    ("up 1", "hailer", "rathole", 1.5, true),
    ("down 1", "hailer", "rathole", 1.5, true),
    ("up 4", "hailer", "rathole", 1.5, true),
    ("down 4", "hailer", "rathole", 1.5, true),
    ("up 1", "hailer-tls", "rathole-noise", 1.2, true),
    ("down 1", "hailer-tls", "rathole-noise", 1.2, true),
    ("up 4", "hailer-tls", "rathole-noise", 1.2, true),
    ("down 4", "hailer-tls", "rathole-noise", 1.2, true),
    ("rtt p50", "hailer", "rathole", 1.0, false),
    ("rtt p99", "hailer", "rathole", 1.0, false),
    ("rtt p50", "hailer-tls", "rathole-noise", 1.0, false),
    ("rtt p99", "hailer-tls", "rathole-noise", 1.0, false),
    ("connect 1", "hailer", "rathole", 2.0, true),
    ("connect 16", "hailer", "rathole", 2.0, true),
    ("connect 64", "hailer", "rathole", 2.0, true),
    ("connect 1", "hailer-tls", "rathole-noise", 2.0, true),
    ("connect 16", "hailer-tls", "rathole-noise", 2.0, true),
    ("connect 64", "hailer-tls", "rathole-noise", 2.0, true),
    ("idle relay KiB", "hailer", "rathole", 1.0, false),
    ("idle host KiB", "hailer", "rathole", 1.0, false),
];
/// Bars of one value alone.
const LIMITS: [(&str, &str, f64); 3] = [
    ("500 sessions add KiB", "hailer", 4096.0),
    ("bytes an idle session of 10000", "hailer", 16384.0),
    ("back after ms", "hailer", 300.0),
];

/// Medians of `round,what,of,value` on standard input, with the bars.
fn table() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let mut values: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        if let [_, what, of, value] = fields[..] {
            values.entry((what, of)).or_default().push(value.parse().unwrap_or(f64::INFINITY));
        }
    }
    let median = |what, of| {
        let mut all = values.get(&(what, of))?.clone();
        all.sort_by(f64::total_cmp);
        Some(all[all.len() / 2])
    };
    let most = |what, of| values.get(&(what, of))?.iter().copied().max_by(f64::total_cmp);
    let names = ["direct", "hailer", "rathole", "hailer-tls", "rathole-noise"];
    println!("| median of the rounds | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
    let mut rows: Vec<&str> = values.keys().map(|(what, _)| *what).collect();
    rows.dedup();
    for what in rows {
        let cells = names.map(|of| median(what, of).map_or_else(String::new, |value| format!("{value:.2}")));
        println!("| {what} | {} |", cells.join(" | "));
    }
    println!("\n| bar | ours | theirs | ratio | must be | |\n|---|---|---|---|---|---|");
    let verdict = |is_met| if is_met { "ok" } else { "MISSED" };
    for (what, ours, theirs, limit, is_least) in BARS {
        let (Some(our), Some(their)) = (median(what, ours), median(what, theirs)) else { continue };
        let ratio = our / their;
        let is_met = if is_least { ratio >= limit } else { ratio <= limit };
        let must = if is_least { "at least" } else { "at most" };
        println!("| {what} | {ours} {our:.2} | {theirs} {their:.2} | {ratio:.2} | {must} {limit} | {} |", verdict(is_met));
    }
    for (what, of, limit) in LIMITS {
        let Some(worst) = most(what, of) else { continue };
        println!("| {what} (worst) | {of} {worst:.0} | | | at most {limit} | {} |", verdict(worst <= limit));
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let word = |i: usize| words.get(i).map_or("", String::as_str);
    let number = |i: usize| word(i).parse::<usize>().unwrap();
    let time = Duration::from_millis(word(4).parse().unwrap_or(2000));
    match word(1) {
        "serve" => serve(word(2)),
        "up" => println!("{:.3}", bulk(word(2), number(3), true, time)),
        "down" => println!("{:.3}", bulk(word(2), number(3), false, time)),
        "rtt" => { let (half, most) = round_trips(word(2), time); println!("{half:.1} {most:.1}") }
        "connect" => println!("{:.1}", connects(word(2), number(3), time, u64::MAX)),
        "many" => println!("{:.1}", connects(word(2), 64, Duration::from_secs(60), number(3) as u64)),
        "hold" => hold(word(2), number(3), time),
        "back" => back(word(2), Duration::from_secs(15)),
        "table" => table(),
        _ => panic!("serve, up, down, rtt, connect, many, hold, back or table"),
    }
}
