//! The HTTP server: accepts, bounds how long a client may take to say what it wants, stops in time.

use std::time::Duration;

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// How long a client may take for the head of a request; also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests under way may take once the server stops.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves `app` until `shutdown`, then finishes what is under way.
pub async fn serve(listener: TcpListener, app: Router, shutdown: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = GracefulShutdown::new();
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
        attend(stream, &builder, app.clone(), &connections);
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::info!("some connections were still open and are closed");
    }
}

fn attend(stream: TcpStream, builder: &Builder<TokioExecutor>, app: Router, connections: &GracefulShutdown) {
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(app));
    let watched = connections.watch(connection.into_owned());
    tokio::spawn(async move {
        // A client that breaks off is its own affair.
        if let Err(error) = watched.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}
