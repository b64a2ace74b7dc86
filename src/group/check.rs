//! Makes one check: connections to a member's addresses, as many as it takes, within a time.
//!
//! A lost packet of a connection costs a fifth of a second to a second; a further connection beside it costs less. So further
//! attempts join those that wait, and the first answer counts. It decides nothing about the member.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::machine::{Outcome, Style};
use super::uri::{HealthUri, How};
use crate::net::{Alarm, Net};

/// What pir sends and wants back.
pub(super) const HEALTHY: u8 = 0;
/// An address that has refused so often is not tried again, and when each has, the check has failed.
const REFUSALS: usize = 2;
/// The longest first line of an answer to GET. The status is in its first twelve bytes.
const STATUS_LINE_BYTES_MAX: usize = 256;

type Attempt = Pin<Box<dyn Future<Output = Result<bool, io::Error>> + Send>>;

/// Checks the targets, the first for the first half of the time, or until it refuses, and then the others in turn with it.
pub(super) async fn check<N: Net>(net: &N, targets: &[HealthUri], style: Style) -> Outcome {
    let start = net.now();
    let mut end = net.alarm();
    end.set(Some(start.after(style.patience)));
    let mut next = net.alarm();
    let mut made = 0;
    let mut refusals = vec![0; targets.len()];
    let mut attempts: Vec<(usize, Attempt)> = Vec::new();
    poll_fn(move |context| {
        if end.poll_ring(context).is_ready() {
            return Poll::Ready(unanswered(&refusals));
        }
        if made == 0 || next.poll_ring(context).is_ready() {
            loop {
                let is_late = net.now().since(start) * 2 >= style.patience;
                let place = next_place(&refusals, made, is_late);
                attempts.push((place, Box::pin(attempt(net.clone(), targets[place].clone()))));
                made += 1;
                next.set(style.retry.map(|retry| net.now().after(retry)));
                if next.poll_ring(context).is_pending() {
                    break;
                }
            }
        }
        let mut answered = None;
        attempts.retain_mut(|(place, attempt)| match attempt.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(true)) => {
                answered.get_or_insert(*place);
                false
            }
            Poll::Ready(Ok(false)) => {
                refusals[*place] += 1;
                false
            }
            Poll::Ready(Err(error)) => {
                refusals[*place] += usize::from(error.kind() == io::ErrorKind::ConnectionRefused);
                false
            }
        });
        if let Some(place) = answered {
            return Poll::Ready(Outcome::Answered(place));
        }
        let is_enough = refusals.iter().all(|count| *count >= REFUSALS);
        if is_enough || (style.retry.is_none() && attempts.is_empty()) {
            return Poll::Ready(unanswered(&refusals));
        }
        Poll::Pending
    })
    .await
}

/// Which of the addresses is tried next, after so many attempts: the first while it is early, and each in turn when it is late;
/// but none that has refused often enough, as long as there is another.
fn next_place(refusals: &[usize], made: usize, is_late: bool) -> usize {
    let open = || refusals.iter().enumerate().filter(|(_, count)| **count < REFUSALS).map(|(place, _)| place);
    let turn = if is_late { made % open().count().max(1) } else { 0 };
    open().nth(turn).unwrap_or(0)
}

/// What it means that no address answered rightly.
fn unanswered(refusals: &[usize]) -> Outcome {
    match refusals.iter().any(|count| *count > 0) {
        true => Outcome::Failed,
        false => Outcome::Silent,
    }
}

/// One connection: whether the answer was right. An error says that there was none.
async fn attempt<N: Net>(net: N, target: HealthUri) -> io::Result<bool> {
    let mut stream = net.connect(target.at, None).await?;
    match &target.how {
        How::Open => Ok(true),
        How::Answer => {
            stream.write_all(&[HEALTHY]).await?;
            let mut answer = [!HEALTHY];
            let read = stream.read(&mut answer).await?;
            Ok(read == 1 && answer[0] == HEALTHY)
        }
        How::Get(path) => {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.at);
            stream.write_all(request.as_bytes()).await?;
            let mut line = Vec::new();
            while line.len() < STATUS_LINE_BYTES_MAX && !line.contains(&b'\n') {
                let mut bytes = [0; STATUS_LINE_BYTES_MAX];
                match stream.read(&mut bytes).await? {
                    0 => break,
                    read => line.extend_from_slice(&bytes[..read]),
                }
            }
            Ok(is_success(&line))
        }
    }
}

/// Whether an answer to GET begins with a status from 200 to 299.
fn is_success(answer: &[u8]) -> bool {
    let status = answer.strip_prefix(b"HTTP/1.1 2").or_else(|| answer.strip_prefix(b"HTTP/1.0 2"));
    let Some([first, second, after, ..]) = status else { return false };
    first.is_ascii_digit() && second.is_ascii_digit() && matches!(after, b' ' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_is_tried_until_it_refuses_or_it_is_late_and_then_each_in_turn() {
        assert_eq!([0, 1, 2].map(|made| next_place(&[0, 0], made, false)), [0, 0, 0]);
        assert_eq!([3, 4, 5].map(|made| next_place(&[0, 1], made, true)), [1, 0, 1]);
        assert_eq!([2, 3].map(|made| next_place(&[2, 0, 0], made, false)), [1, 1]);
        assert_eq!([2, 3, 4].map(|made| next_place(&[2, 0, 0], made, true)), [1, 2, 1]);
        assert_eq!(next_place(&[2, 2], 4, true), 0, "pir's style makes one attempt and ends anyway");
    }

    #[test]
    fn a_status_of_two_hundred_and_something_is_a_good_answer() {
        for good in ["HTTP/1.1 200 OK\r\n", "HTTP/1.0 204 \r\n", "HTTP/1.1 299\r\n"] {
            assert!(is_success(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "HTTP/1.1 500 Oh\r\n",
            "HTTP/1.1 2000 \r\n",
            "HTTP/1.1 20\r\n",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 2",
        ] {
            assert!(!is_success(bad.as_bytes()), "{bad}");
        }
    }
}
