//! What a running role tells its application, in order: the receiving end that each role hands out beside its handle.
//!
//! When events come, which are lost and which are waited for is the role's own business; each says it at its own alias.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

/// The events of one role. Also a [`Stream`].
#[derive(Debug)]
pub struct Events<E>(mpsc::Receiver<E>);

impl<E> Events<E> {
    pub(crate) const fn new(events: mpsc::Receiver<E>) -> Self {
        Self(events)
    }

    /// Waits for the next event; `None` when the role has ended and all its events are taken. Cancel safe.
    pub async fn next(&mut self) -> Option<E> {
        self.0.recv().await
    }
}

impl<E> Stream for Events<E> {
    type Item = E;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<E>> {
        self.0.poll_recv(context)
    }
}
