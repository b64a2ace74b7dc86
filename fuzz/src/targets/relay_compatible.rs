//! The original relay's protocol: its frames in pieces, and each message in them.

use hailer::fuzzing::Source;
use hailer::relay::compatible::{Announcement, FRAME_BYTES_MAX, Framer, Hello, Response};

/// One execution.
pub fn run(bytes: &[u8]) {
    let mut source = Source::new(bytes);
    let piece = source.below(64) + 1;
    let mut framer = Framer::default();
    for piece in source.rest().chunks(piece) {
        framer.push(piece);
        loop {
            match framer.take() {
                Ok(Some(body)) => {
                    assert!(body.len() <= FRAME_BYTES_MAX);
                    read(&body);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
    read(bytes);
}

fn read(body: &[u8]) {
    fn bodies(frame: &[u8]) -> Vec<u8> {
        let mut framer = Framer::default();
        framer.push(frame);
        framer.take().expect("our own frame").expect("it is whole").to_vec()
    }
    if let Ok(hello) = Hello::decode(body) {
        assert_eq!(Hello::decode(&bodies(&hello.encode())).as_ref(), Ok(&hello));
    }
    if let Ok(response) = Response::decode(body)
        && response.encode().len() <= FRAME_BYTES_MAX
    {
        assert_eq!(Response::decode(&bodies(&response.encode())).as_ref(), Ok(&response));
    }
    if let Ok(announcement) = Announcement::decode(body) {
        assert_eq!(Announcement::decode(&bodies(&announcement.encode())).as_ref(), Ok(&announcement));
    }
}
