//! A TCP connection with a fault in it: slow, or broken between a request's effect and its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request of at least this many bytes may have its answer swallowed: a call with parameters, not a handshake.
const CALL: usize = 1000;

#[derive(Debug, Default)]
struct Faults {
    delay_ms: AtomicU64,
    swallow: AtomicBool,
    swallowed: AtomicUsize,
}

/// Forwards a local port to a server; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    faults: Arc<Faults>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server of this URL.
    pub async fn before(url: &str) -> Self {
        let (_, address) = url.split_once('@').expect("a URL with credentials");
        let address = address.split('/').next().expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("a bound port").to_string();
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        let url = url.replace(&address, &here);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (address, faults) = (address.clone(), shared.clone());
                tokio::spawn(async move {
                    // Either end may close at any time; the other then sees that.
                    if let Ok(server) = TcpStream::connect(&address).await {
                        let _ = forward(client, server, &faults).await;
                    }
                });
            }
        });
        Self { url, faults, task }
    }

    /// The server's URL through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// From now on every packet waits this long.
    pub fn delay(&self, by: Duration) {
        self.faults.delay_ms.store(by.as_millis().try_into().expect("a short time"), Ordering::SeqCst);
    }

    /// The answer to the next call is not delivered; the connection breaks instead.
    pub fn swallow_answer(&self) {
        self.faults.swallow.store(true, Ordering::SeqCst);
    }

    /// How many answers were swallowed.
    pub fn swallowed(&self) -> usize {
        self.faults.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, faults: &Faults) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut called = false;
    loop {
        let (bytes, to) = tokio::select! {
            read = client.read(&mut up) => {
                let bytes = &up[..read?];
                called |= bytes.len() >= CALL;
                (bytes, &mut server)
            }
            read = server.read(&mut down) => {
                if std::mem::take(&mut called) && faults.swallow.swap(false, Ordering::SeqCst) {
                    faults.swallowed.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                (&down[..read?], &mut client)
            }
        };
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(faults.delay_ms.load(Ordering::SeqCst))).await;
        to.write_all(bytes).await?;
    }
}
