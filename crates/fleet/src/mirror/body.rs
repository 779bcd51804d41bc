//! Bodies that are passed on while they are copied for the comparison.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Outcome of copying a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    Whole(Bytes),
    TooLarge,
    /// The body was not read to its end.
    Aborted,
    /// Its sender did not send all of it.
    Broken,
}

/// Passes a body on as it comes, and hands over a copy once it has ended.
#[derive(Debug)]
pub struct Tee<B> {
    body: B,
    copy: Option<Copying>,
}

#[derive(Debug)]
struct Copying {
    bytes: Vec<u8>,
    limit: usize,
    done: oneshot::Sender<Copied>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Tee<B> {
    /// Copies at most `limit` bytes.
    pub fn new(body: B, limit: usize) -> (Self, oneshot::Receiver<Copied>) {
        let (done, copied) = oneshot::channel();
        let copying = Copying {
            bytes: Vec::new(),
            limit,
            done,
        };
        let mut tee = Self {
            body,
            copy: Some(copying),
        };
        tee.end_if_complete();
        (tee, copied)
    }

    /// hyper does not poll a body again whose length is known and reached.
    fn end_if_complete(&mut self) {
        if self.body.is_end_stream()
            && let Some(copy) = self.copy.take()
        {
            // The comparison may have been given up.
            let _given_up = copy.done.send(Copied::Whole(copy.bytes.into()));
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Tee<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map_or(&[][..], |data| data);
                match &mut this.copy {
                    Some(copy) if copy.bytes.len() + data.len() > copy.limit => {
                        if let Some(copy) = this.copy.take() {
                            let _given_up = copy.done.send(Copied::TooLarge);
                        }
                    }
                    Some(copy) => copy.bytes.extend_from_slice(data),
                    None => {}
                }
                this.end_if_complete();
            }
            None => {
                if let Some(copy) = this.copy.take() {
                    let _given_up = copy.done.send(Copied::Whole(copy.bytes.into()));
                }
            }
            Some(Err(_)) => {
                if let Some(copy) = this.copy.take() {
                    let _given_up = copy.done.send(Copied::Broken);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Resolves with the copy; aborted when the body was dropped before its end.
pub async fn copied(copy: oneshot::Receiver<Copied>) -> Copied {
    copy.await.unwrap_or(Copied::Aborted)
}

/// A body that can be shared between threads, as clients demand it of theirs. Nothing ever waits for the lock: only who owns the body
/// polls it.
#[derive(Debug)]
pub struct Shared(Mutex<Body>);

impl Shared {
    pub fn new(body: Body) -> Self {
        Self(Mutex::new(body))
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(self.0.get_mut()).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().size_hint()
    }
}

/// Reads a body of at most `limit` bytes.
pub async fn read<B>(mut body: B, limit: usize) -> Result<Copied, B::Error>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len() + data.len() > limit {
                return Ok(Copied::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(Copied::Whole(bytes.into()))
}
