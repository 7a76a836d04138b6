//! A TCP connection with a fault in it: slow, narrow, held like behind a partition, refused, or broken between a request's effect
//! and its answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// A request of at least this many bytes may have its answer swallowed: a call with parameters, not a handshake.
const CALL: usize = 1000;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

#[derive(Debug)]
struct Faults {
    delay_ms: AtomicU64,
    opening_ms: AtomicU64,
    opening: AtomicU64,
    bytes_per_second: AtomicU64,
    swallow: AtomicBool,
    swallowed: AtomicUsize,
    up_held: watch::Sender<bool>,
    down_held: watch::Sender<bool>,
    refused: watch::Sender<bool>,
}

/// One more that is being opened.
struct Opening<'a>(&'a AtomicU64);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Faults {
    const fn held(&self, way: Way) -> &watch::Sender<bool> {
        match way {
            Way::Up => &self.up_held,
            Way::Down => &self.down_held,
        }
    }

    /// Waits as long as opening a connection takes.
    async fn open(&self) {
        const SLICE: u64 = 10;
        let mut left = self.opening_ms.load(Ordering::SeqCst);
        self.opening.fetch_add(1, Ordering::SeqCst);
        let _opening = Opening(&self.opening);
        while left > 0 {
            tokio::time::sleep(Duration::from_millis(SLICE * self.opening.load(Ordering::SeqCst))).await;
            left = left.saturating_sub(SLICE);
        }
    }

    /// Waits as long as this many bytes take.
    async fn pass(&self, bytes: usize, way: Way) {
        let delay = self.delay_ms.load(Ordering::SeqCst);
        let rate = self.bytes_per_second.load(Ordering::SeqCst);
        let narrow = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1000).checked_div(rate).unwrap_or(0);
        if delay + narrow > 0 {
            tokio::time::sleep(Duration::from_millis(delay + narrow)).await;
        }
        // Its sender lives as long as this.
        let _ = self.held(way).subscribe().wait_for(|held| !held).await;
    }
}

/// Forwards a local port to a server; ends, with its connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    faults: Arc<Faults>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server of this URL.
    pub async fn before(url: &str) -> Self {
        let (_, rest) = url.split_once("//").expect("a URL");
        let server = rest.split('/').next().expect("a host");
        let address = server.rsplit('@').next().expect("a host").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("a bound port").to_string();
        let flag = || watch::channel(false).0;
        let faults = Arc::new(Faults {
            delay_ms: AtomicU64::default(),
            opening_ms: AtomicU64::default(),
            opening: AtomicU64::default(),
            bytes_per_second: AtomicU64::default(),
            swallow: AtomicBool::default(),
            swallowed: AtomicUsize::default(),
            up_held: flag(),
            down_held: flag(),
            refused: flag(),
        });
        let url = url.replace(&address, &here);
        let task = tokio::spawn(accept(listener, address, faults.clone()));
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

    /// From now on it takes this long to open a connection, and those that are opened side by side share that: what a processor does that
    /// is busy. Who gives up does not make it faster for the others.
    pub fn open_in(&self, time: Duration) {
        self.faults.opening_ms.store(time.as_millis().try_into().expect("a short time"), Ordering::SeqCst);
    }

    /// From now on so many bytes a second pass, in each direction of each connection; 0 is no limit.
    pub fn narrow(&self, bytes_per_second: u64) {
        self.faults.bytes_per_second.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Nothing passes this way any more, or it does again: what was held then arrives. Connections stay, as behind a partition.
    pub fn hold(&self, way: Way, held: bool) {
        self.faults.held(way).send_replace(held);
    }

    /// Every connection breaks, and each new one at once, until told otherwise.
    pub fn refuse(&self, refused: bool) {
        self.faults.refused.send_replace(refused);
    }

    /// The answer to the next call is not delivered; the connection breaks instead.
    pub fn swallow_answer(&self) {
        self.faults.swallow.store(true, Ordering::SeqCst);
    }

    /// How many answers were swallowed.
    pub fn swallowed(&self) -> usize {
        self.faults.swallowed.load(Ordering::SeqCst)
    }

    /// No fault any more.
    pub fn heal(&self) {
        self.delay(Duration::ZERO);
        self.open_in(Duration::ZERO);
        self.narrow(0);
        self.refuse(false);
        self.faults.swallow.store(false, Ordering::SeqCst);
        self.hold(Way::Up, false);
        self.hold(Way::Down, false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.refuse(true);
    }
}

async fn accept(listener: TcpListener, address: String, faults: Arc<Faults>) {
    while let Ok((client, _)) = listener.accept().await {
        let (address, faults) = (address.clone(), faults.clone());
        tokio::spawn(async move {
            let mut refused = faults.refused.subscribe();
            tokio::select! {
                biased;
                _ = refused.wait_for(|refused| *refused) => {}
                () = forward(client, &address, &faults) => {}
            }
        });
    }
}

/// Until either end closes; the other then sees that.
async fn forward(client: TcpStream, address: &str, faults: &Faults) {
    faults.open().await;
    let Ok(server) = TcpStream::connect(address).await else { return };
    // What is small is not to wait for more.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let called = AtomicBool::new(false);
    tokio::select! {
        _ = pump(from_client, to_server, Way::Up, &called, faults) => {}
        _ = pump(from_server, to_client, Way::Down, &called, faults) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, called: &AtomicBool, faults: &Faults) -> std::io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let bytes = match from.read(&mut buffer).await? {
            0 => return Ok(()),
            read => &buffer[..read],
        };
        match way {
            Way::Up if bytes.len() >= CALL => called.store(true, Ordering::SeqCst),
            Way::Down if called.swap(false, Ordering::SeqCst) && faults.swallow.swap(false, Ordering::SeqCst) => {
                faults.swallowed.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            Way::Up | Way::Down => {}
        }
        faults.pass(bytes.len(), way).await;
        to.write_all(bytes).await?;
    }
}
