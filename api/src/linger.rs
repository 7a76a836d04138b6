//! Reads on after a refusal: a client that is still sending when it is refused would otherwise see a broken connection
//! instead of the answer. Bounded in bytes and time.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::Next,
    response::Response,
};
use futures_util::StreamExt;

/// Bytes read on at most; whoever sends more is cut off.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long at most.
const MAX_TIME: Duration = Duration::from_secs(2);

type Slot = Arc<Mutex<Option<Body>>>;

/// A body that goes back to its slot when its reader drops it.
struct Returned {
    body: Option<Body>,
    slot: Slot,
}

impl HttpBody for Returned {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
    }
}

/// The layer.
pub async fn read_on(request: Request, next: Next) -> Response {
    let slot = Slot::default();
    let request = request.map(|body| Body::new(Returned { body: Some(body), slot: slot.clone() }));
    let response = next.run(request).await;
    let left = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = left.filter(|body| !body.is_end_stream()) {
        // What the client does after this is its own affair.
        let _ = tokio::time::timeout(MAX_TIME, drain(body)).await;
    }
    response
}

async fn drain(body: Body) {
    let mut read = 0;
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        read += chunk.len();
        if read > MAX_BYTES {
            return;
        }
    }
}
