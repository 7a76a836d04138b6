//! WebSocket clients in a process of their own: this program called as `bench sockets`.
//!
//! It reads its plan from the first line of standard input, connects, subscribes every socket to its shop's topic and says
//! `ready`; after another line it prints what was heard as JSON. Latency is from the time that the sender wrote into the event.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    process::{Child, ChildStdin, Command},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig},
};

use crate::{measure::Latencies, server::Shop};

/// Sockets for each source address: its ports are about 28,000, and other connections of this machine have some of them.
const PER_ADDRESS: usize = 10_000;
/// Marks a text whose rest is the sender's clock in microseconds since 1970.
pub const STAMP: &str = "sent at ";

/// Who connects.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// Where to.
    pub address: SocketAddr,
    /// One after the other.
    pub shops: Vec<Shop>,
    /// Number of the first socket, where another process has those before it.
    pub first: usize,
    /// How many sockets.
    pub sockets: usize,
}

/// What was heard.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Heard {
    /// From the stamp to the frame.
    pub latencies: Latencies,
    /// Stamped frames.
    pub frames: u64,
}

/// The process as its parent sees it.
pub struct Sockets {
    child: Child,
    input: ChildStdin,
    output: BufReader<tokio::process::ChildStdout>,
}

impl Sockets {
    /// Starts it and waits until every socket is subscribed.
    pub async fn connect(plan: &Plan) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sockets").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (mut input, output) = (child.stdin.take().context("a pipe")?, BufReader::new(child.stdout.take().context("a pipe")?));
        input.write_all(format!("{}\n", serde_json::to_string(plan)?).as_bytes()).await?;
        let mut sockets = Self { child, input, output };
        let line = tokio::time::timeout(Duration::from_secs(180), sockets.line()).await.context("the sockets connect in time")??;
        anyhow::ensure!(line == "ready", "the sockets are not ready: {line}");
        Ok(sockets)
    }

    async fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).await?;
        Ok(line.trim().to_owned())
    }

    /// Ends it and says what was heard.
    pub async fn heard(mut self) -> Result<Heard> {
        self.input.write_all(b"end\n").await?;
        let heard = serde_json::from_str(&self.line().await?)?;
        self.child.wait().await?;
        Ok(heard)
    }
}

/// This moment as a text that [`Heard`] understands.
pub fn stamp() -> String {
    format!("{STAMP}{}", micros())
}

/// This moment in microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "two processes of one machine have only its clock in common")]
pub fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

/// The process itself.
pub async fn main() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let plan: Plan = serde_json::from_str(&line)?;
    let heard = Arc::new(Mutex::new(Heard::default()));
    let plan = &plan;
    let sockets: Vec<_> =
        stream::iter(plan.first..plan.first + plan.sockets).map(|n| connect(plan, n)).buffer_unordered(64).try_collect().await?;
    for socket in sockets {
        tokio::spawn(listen(socket, Arc::clone(&heard)));
    }
    println!("ready");
    // A line, or the end of the input, which is the end of the parent.
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    println!("{}", serde_json::to_string(&*heard.lock().unwrap_or_else(PoisonError::into_inner))?);
    Ok(())
}

/// A socket that is subscribed.
pub type Socket = WebSocketStream<TcpStream>;

/// Connects socket number `n` of a plan and subscribes it to the topic of its shop.
pub async fn connect(plan: &Plan, n: usize) -> Result<Socket> {
    let shop = &plan.shops[n % plan.shops.len()];
    let tcp = TcpSocket::new_v4()?;
    let last = u8::try_from(n / PER_ADDRESS + 1)?;
    tcp.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0))?;
    let stream = tcp.connect(plan.address).await?;
    let mut request = format!("ws://{}/ws", plan.address).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", shop.token).parse()?);
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await?;
    let subscribe = format!(r#"{{"action":"subscribe","topic":"store.{}"}}"#, shop.store);
    socket.send(Message::text(subscribe)).await?;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text.contains(r#""subscribed""#) => return Ok(socket),
            Message::Text(text) => anyhow::bail!("not subscribed: {text}"),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
    }
    anyhow::bail!("socket {n} was closed")
}

async fn listen(mut socket: Socket, heard: Arc<Mutex<Heard>>) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Some((_, rest)) = text.split_once(STAMP) else { continue };
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse::<u64>().ok());
        if let Some(sent) = digits {
            let latency = Duration::from_micros(micros().saturating_sub(sent));
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.frames += 1;
            heard.latencies.add(latency);
        }
    }
}
