//! What the comparison of relays is loaded with: an echo service, a sink and source, and clients. `rustc -O load.rs`.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::Builder::new().stack_size(65536).spawn(move || one(stream)).unwrap();
    }
}

/// The first byte says what is wanted: e echo, u a sink, d a source.
fn one(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 1 << 16];
    let Ok(count @ 1..) = stream.read(&mut buffer) else { return };
    match buffer[0] {
        b'u' => while matches!(stream.read(&mut buffer), Ok(1..)) {},
        b'd' => while stream.write_all(&buffer).is_ok() {},
        _ => {
            if stream.write_all(&buffer[..count]).is_err() { return }
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() { return }
            }
        }
    }
}

fn bulk(port: u16, streams: usize, is_up: bool, time: Duration) -> f64 {
    static MOVED: AtomicU64 = AtomicU64::new(0);
    MOVED.store(0, Ordering::Relaxed);
    let start = Instant::now();
    let workers: Vec<_> = (0..streams).map(|_| std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut buffer = vec![b'u'; 1 << 16];
        if !is_up { stream.write_all(b"d").unwrap(); }
        while start.elapsed() < time {
            let count = if is_up { stream.write(&buffer) } else { stream.read(&mut buffer) };
            MOVED.fetch_add(count.unwrap() as u64, Ordering::Relaxed);
        }
    })).collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    MOVED.load(Ordering::Relaxed) as f64 * 8.0 / 1e9 / start.elapsed().as_secs_f64()
}

fn round_trips(port: u16, time: Duration) -> (f64, f64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
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

fn connects(port: u16, at_once: usize, time: Duration) -> f64 {
    let start = Instant::now();
    let workers: Vec<_> = (0..at_once).map(|_| std::thread::spawn(move || {
        let mut done = 0_u64;
        while start.elapsed() < time {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let _ = stream.set_nodelay(true);
            let mut buffer = [b'e'; 64];
            if stream.write_all(&buffer).is_ok() && stream.read_exact(&mut buffer).is_ok() { done += 1 }
        }
        done
    })).collect();
    let done: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    done as f64 / start.elapsed().as_secs_f64()
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let port = |i: usize| words[i].parse::<u16>().unwrap();
    let time = Duration::from_millis(words.get(4).map_or(2000, |t| t.parse().unwrap()));
    match words[1].as_str() {
        "serve" => serve(port(2)),
        "up" => println!("{:.2}", bulk(port(2), words[3].parse().unwrap(), true, time)),
        "down" => println!("{:.2}", bulk(port(2), words[3].parse().unwrap(), false, time)),
        "rtt" => { let (half, most) = round_trips(port(2), time); println!("{half:.0} {most:.0}") }
        "connect" => println!("{:.0}", connects(port(2), words[3].parse().unwrap(), time)),
        "hold" => {
            let held: Vec<_> = (0..words[3].parse().unwrap()).map(|_| {
                let mut stream = TcpStream::connect(("127.0.0.1", port(2))).unwrap();
                stream.write_all(b"e").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                stream
            }).collect();
            println!("held");
            std::thread::sleep(time);
            held.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
        _ => panic!("serve, up, down, rtt, connect or hold"),
    }
}
