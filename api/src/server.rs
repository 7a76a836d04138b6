//! The HTTP server: accepts, bounds how long a client may take to say what it wants and to hear the answer, stops in time.
//!
//! HTTP/1.1 only, by hyper's own connection: the one of `hyper-util` that also speaks HTTP/2 first waits for the bytes that tell the
//! two apart, and for these no time-out holds; a client that sends none would be kept for ever.

use std::{
    io,
    net::SocketAddr,
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
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// How long whoever connects may take for the head of its first request.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// How long a client may take next to nothing of what it is told: a few kilobytes a second are enough.
const DEAF: Duration = Duration::from_secs(30);
/// How long requests under way may take once the server stops.
const DRAIN: Duration = Duration::from_secs(3);

/// What the kernel takes of an answer before its client does. With more of it, one that reads slowly would look like one that does not: it
/// says nothing of a client that reads until a third of this is free. Enough for a megabyte a second around the world.
const SEND_BUFFER: u32 = 128 << 10;

/// Listens there.
///
/// # Errors
/// The address is taken, or is none of this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Those that are accepted have it from here.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// Serves `app` until `shutdown`, then finishes what is under way. A connection whose last request was answered waits for `keep_alive`
/// until the head of the next one is complete.
pub async fn serve(listener: TcpListener, app: Router, keep_alive: Duration, shutdown: CancellationToken) {
    serve_within(Patience { first_head: FIRST_HEAD, keep_alive, deaf: DEAF }, listener, app, shutdown).await;
}

/// How long a connection may stand without a request, or with an answer that nobody takes.
#[derive(Debug, Clone, Copy)]
struct Patience {
    first_head: Duration,
    /// Longer, since a client that keeps its connections may use one in the moment in which it is closed, and then does not know whether
    /// its request was heard.
    keep_alive: Duration,
    /// hyper has no such bound: a client that asks and never reads would be kept for ever, with its answer.
    deaf: Duration,
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
            attend(stream, &builder, patience, app, shutdown).await;
            drop(open);
        });
    }
    drop((listener, open));
    if tokio::time::timeout(DRAIN, all_closed.recv()).await.is_err() {
        tracing::info!("some connections were still open and are closed");
    }
}

async fn attend(stream: TcpStream, builder: &Builder, patience: Patience, app: Router, shutdown: CancellationToken) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience.deaf));
    let heard = Arc::new(AtomicBool::new(false));
    let (app, hears) = (TowerToHyperService::new(app), heard.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        hears.store(true, Ordering::Relaxed);
        app.call(request)
    });
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service).with_upgrades();
    let mut connection = pin!(connection);
    let said_nothing = async {
        tokio::time::sleep(patience.first_head).await;
        if heard.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        // What has come already counts, however late it is looked at.
        biased;
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
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::Notify,
        task::JoinHandle,
        time::{Instant, timeout},
    };

    use super::*;

    const HEAD: Duration = Duration::from_millis(300);
    const KEPT: Duration = Duration::from_secs(6);
    const DEAF: Duration = Duration::from_secs(6);
    /// More than the buffers of two sockets hold.
    const BIG: usize = 32 << 20;
    const LONG: Duration = Duration::from_secs(60);

    /// A server, how it is stopped, and who is told that it is asked for `/slow`.
    fn served() -> (SocketAddr, CancellationToken, JoinHandle<()>, Arc<Notify>) {
        let asked = Arc::new(Notify::new());
        let tell = asked.clone();
        let slowly = || async move {
            tell.notify_one();
            tokio::time::sleep(2 * HEAD).await;
            "done"
        };
        let app = Router::new().route("/", get(|| async { "ok" })).route("/slow", get(slowly));
        let app = app.route("/big", get(|| async { vec![b'x'; BIG] }));
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let patience = Patience { first_head: HEAD, keep_alive: KEPT, deaf: DEAF };
        (address, shutdown.clone(), tokio::spawn(serve_within(patience, listener, app, shutdown)), asked)
    }

    /// Everything that the server says until it closes the connection.
    async fn until_closed(stream: &mut TcpStream) -> String {
        let mut said = Vec::new();
        // A connection that is reset is closed as well.
        let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("the connection is closed");
        String::from_utf8(said).unwrap()
    }

    /// Has said this long before the patience with a first head ends; anew where this machine stood still meanwhile.
    async fn saying(address: SocketAddr, said: &[u8]) -> TcpStream {
        loop {
            let began = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said).await.unwrap();
            if began.elapsed() < HEAD / 2 {
                return stream;
            }
        }
    }

    #[tokio::test]
    async fn whoever_does_not_finish_the_head_of_a_request_is_cut_off() {
        let (address, ..) = served();
        for said in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            assert!(!until_closed(&mut stream).await.contains("200 OK"), "after {said:?}");
        }
    }

    #[tokio::test]
    async fn a_head_that_drips_in_gains_no_time() {
        let (address, ..) = served();
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
        let (address, ..) = served();
        for dripping in [&b""[..], b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
            let ask = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            let said = loop {
                let mut stream = saying(address, ask).await;
                let asked = Instant::now();
                tokio::time::sleep(2 * HEAD).await;
                let heard = stream.write_all(ask).await.is_ok() && stream.write_all(dripping).await.is_ok();
                let was_soon = asked.elapsed() < KEPT / 2;
                let said = until_closed(&mut stream).await;
                // Where this machine stood still meanwhile, it was not waited for, and that is right.
                if was_soon {
                    assert!(heard, "{said}");
                    break said;
                }
            };
            assert_eq!(said.matches("200 OK").count(), 2, "{said}");
        }
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_head() {
        let (address, ..) = served();
        let mut stream = saying(address, b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let said = until_closed(&mut stream).await;
        assert_eq!(said.matches("200 OK").count(), 2, "{said}");
    }

    /// How much of a big answer is told to who takes nothing of it, and to who takes it slowly. Nothing where this machine stood still, so
    /// that the slow one, which is in the same process as the server, may have looked like the other.
    async fn told_to_deaf_and_slow(address: SocketAddr) -> Option<(usize, usize)> {
        let ask = b"GET /big HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        let (deaf, mut slow) = (saying(address, ask).await, saying(address, ask).await);
        let mut took_at = vec![Instant::now()];
        // 160 KiB a second, for longer than the patience with who takes nothing.
        let (mut part, mut told) = (vec![0; 32 << 10], 0);
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let read = timeout(LONG, slow.read_exact(&mut part)).await.expect("it speaks");
            took_at.push(Instant::now());
            if read.is_err() {
                break;
            }
            told += part.len();
        }
        let rest = async |mut stream: TcpStream| {
            let mut heard = Vec::new();
            let _ = timeout(LONG, stream.read_to_end(&mut heard)).await.expect("the connection is closed");
            heard.len()
        };
        let began = Instant::now();
        told += rest(slow).await;
        let rest_took = began.elapsed();
        // The kernel need not take more of an answer after each part, but must after some.
        let some_took = (0..took_at.len()).map(|at| took_at[(at + 7).min(took_at.len() - 1)] - took_at[at]).max();
        let deaf_told = rest(deaf).await;
        (some_took < Some(DEAF / 2) && rest_took < DEAF / 2).then_some((deaf_told, told))
    }

    #[tokio::test]
    async fn who_takes_nothing_of_its_answer_is_cut_off_and_who_takes_it_slowly_is_not() {
        let (address, ..) = served();
        for _ in 0..5 {
            if let Some((deaf, slow)) = told_to_deaf_and_slow(address).await {
                assert!(deaf < BIG, "it is told no more");
                assert!(slow > BIG, "it is told all");
                return;
            }
        }
        panic!("this machine stood still each time");
    }

    #[tokio::test]
    async fn a_server_that_stops_finishes_what_is_under_way_and_nothing_else() {
        let (address, shutdown, server, asked) = served();
        let (mut asking, mut idle) = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        asking.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        timeout(LONG, asked.notified()).await.expect("it is heard");
        shutdown.cancel();
        assert!(until_closed(&mut asking).await.ends_with("done"));
        assert_eq!(until_closed(&mut idle).await, "");
        timeout(LONG, server).await.expect("it ends").unwrap();
        // A process that is being started beside this one holds copies of all that is open, for a moment.
        let nobody_listens = async { while TcpStream::connect(address).await.is_ok() {} };
        timeout(LONG, nobody_listens).await.expect("nobody listens any more");
    }
}
