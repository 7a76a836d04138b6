//! The HTTP server: accepts, bounds how long a client may take to say what it wants, stops in time.
//!
//! HTTP/1.1 only, by hyper's own connection: the one of `hyper-util` that also speaks HTTP/2 first waits for the bytes that tell the
//! two apart, and for these no time-out holds; a client that sends none would be kept for ever.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1::Builder,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// How long whoever connects may take for the head of its first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// How long requests under way may take once the server stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves `app` until `shutdown`, then finishes what is under way. A connection whose last request was answered waits for `keep_alive`
/// until the head of the next one is complete.
pub async fn serve(listener: TcpListener, app: Router, keep_alive: Duration, shutdown: CancellationToken) {
    serve_within(Patience { first_head: FIRST_HEAD, keep_alive }, listener, app, shutdown).await;
}

/// How long a connection may stand without a request.
#[derive(Debug, Clone, Copy)]
struct Patience {
    first_head: Duration,
    /// Longer, since a client that keeps its connections may use one in the moment in which it is closed, and then does not know whether
    /// its request was heard.
    keep_alive: Duration,
}

async fn serve_within(patience: Patience, listener: TcpListener, app: Router, shutdown: CancellationToken) {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience.keep_alive);
    // Every connection holds a sender; the last one that goes ends the wait for them.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a client that went away at once: neither may end the server.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (builder, app, shutdown, open) = (builder.clone(), app.clone(), shutdown.clone(), open.clone());
        tokio::spawn(async move {
            attend(stream, &builder, patience.first_head, app, shutdown).await;
            drop(open);
        });
    }
    drop((listener, open));
    if tokio::time::timeout(DRAIN, all_closed.recv()).await.is_err() {
        tracing::info!("some connections were still open and are closed");
    }
}

async fn attend(stream: TcpStream, builder: &Builder, first_head: Duration, app: Router, shutdown: CancellationToken) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let heard = Arc::new(AtomicBool::new(false));
    let (app, hears) = (TowerToHyperService::new(app), heard.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        hears.store(true, Ordering::Relaxed);
        app.call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let said_nothing = async {
        tokio::time::sleep(first_head).await;
        if heard.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = said_nothing => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that breaks off is its own affair.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        task::JoinHandle,
        time::timeout,
    };

    use super::*;

    const HEAD: Duration = Duration::from_millis(300);
    const KEPT: Duration = Duration::from_millis(1500);
    const LONG: Duration = Duration::from_secs(10);

    async fn served() -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let slowly = || async {
            tokio::time::sleep(2 * HEAD).await;
            "done"
        };
        let app = Router::new().route("/", get(|| async { "ok" })).route("/slow", get(slowly));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        (address, shutdown.clone(), tokio::spawn(serve_within(Patience { first_head: HEAD, keep_alive: KEPT }, listener, app, shutdown)))
    }

    /// Everything that the server says until it closes the connection.
    async fn until_closed(stream: &mut TcpStream) -> String {
        let mut said = Vec::new();
        // A connection that is reset is closed as well.
        let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("the connection is closed");
        String::from_utf8(said).unwrap()
    }

    #[tokio::test]
    async fn whoever_does_not_finish_the_head_of_a_request_is_cut_off() {
        let (address, ..) = served().await;
        for said in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            assert!(!until_closed(&mut stream).await.contains("200 OK"), "after {said:?}");
        }
    }

    #[tokio::test]
    async fn a_head_that_drips_in_gains_no_time() {
        let (address, ..) = served().await;
        let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        let dripping = tokio::spawn(async move {
            to.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await.unwrap();
            while to.write_all(b"x").await.is_ok() {
                tokio::time::sleep(HEAD / 10).await;
            }
        });
        let mut said = Vec::new();
        let _ = timeout(LONG, from.read_to_end(&mut said)).await.expect("the connection is closed");
        timeout(LONG, dripping).await.expect("and takes nothing more").unwrap();
    }

    #[tokio::test]
    async fn who_has_asked_once_is_waited_for_longer_and_not_for_ever() {
        let (address, ..) = served().await;
        for dripping in [&b""[..], b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            tokio::time::sleep(2 * HEAD).await;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            stream.write_all(dripping).await.unwrap();
            let said = until_closed(&mut stream).await;
            assert_eq!(said.matches("200 OK").count(), 2, "{said}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_head() {
        let (address, ..) = served().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let said = until_closed(&mut stream).await;
        assert_eq!(said.matches("200 OK").count(), 2, "{said}");
    }

    #[tokio::test]
    async fn a_server_that_stops_finishes_what_is_under_way_and_nothing_else() {
        let (address, shutdown, server) = served().await;
        let (mut asking, mut idle) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        asking.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(HEAD / 3).await;
        shutdown.cancel();
        assert!(until_closed(&mut asking).await.ends_with("done"));
        assert_eq!(until_closed(&mut idle).await, "");
        timeout(LONG, server).await.expect("it ends").unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    }
}
