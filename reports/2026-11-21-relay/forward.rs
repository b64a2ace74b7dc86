//! The least that a relay of one hop can do: to each connection it opens another and moves bytes between the two, by copying or by
//! splice(2) through a pipe of so many KiB. `rustc --edition 2021 -O forward.rs`; `forward copy|spliceKIB LISTEN TO`.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

unsafe extern "C" {
    fn splice(from: i32, from_at: *mut i64, to: i32, to_at: *mut i64, len: usize, flags: u32) -> isize;
    fn pipe(ends: *mut i32) -> i32;
    fn fcntl(fd: i32, command: i32, ...) -> i32;
    fn close(fd: i32) -> i32;
}
const F_SETPIPE_SZ: i32 = 1031;
const SPLICE_F_MOVE: u32 = 1;

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() { break }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn spliced(from: TcpStream, to: TcpStream, size: usize) {
    let mut ends = [0; 2];
    let step = |from, to, len| unsafe { splice(from, null_mut(), to, null_mut(), len, SPLICE_F_MOVE) };
    unsafe { pipe(ends.as_mut_ptr()); fcntl(ends[1], F_SETPIPE_SZ, size as i32); }
    'all: loop {
        let mut left = step(from.as_raw_fd(), ends[1], size);
        if left <= 0 { break }
        while left > 0 {
            let moved = step(ends[0], to.as_raw_fd(), left as usize);
            if moved <= 0 { break 'all }
            left -= moved;
        }
    }
    unsafe { close(ends[0]); close(ends[1]); }
    let _ = to.shutdown(Shutdown::Write);
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let size = words[1].strip_prefix("splice").map(|kib| kib.parse::<usize>().unwrap() << 10);
    for client in TcpListener::bind(&words[2]).unwrap().incoming().flatten() {
        let Ok(service) = TcpStream::connect(&words[3]) else { continue };
        client.set_nodelay(true).unwrap();
        service.set_nodelay(true).unwrap();
        for (from, to) in [(&client, &service), (&service, &client)] {
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            std::thread::spawn(move || match size {
                Some(size) => spliced(from, to, size),
                None => copy(from, to),
            });
        }
    }
}
