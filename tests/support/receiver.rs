//! A receiver of webhooks that misbehaves as it is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// This status.
    Status(u16),
    /// This status with `Retry-After`, seconds.
    Later(u16, u32),
    /// Nothing: the connection is cut after the request was read.
    Cut,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
    /// What was answered.
    pub reply: Reply,
}

impl Received {
    /// A header; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// It was taken.
    pub fn taken(&self) -> bool {
        matches!(self.reply, Reply::Status(200..300))
    }
}

/// An HTTP server on this machine.
#[derive(Debug)]
pub struct Receiver {
    /// Where it listens.
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    script: Arc<Mutex<VecDeque<Reply>>>,
    usual: Arc<Mutex<Reply>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens; takes everything until told otherwise.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("an address"));
        let (received, script) = (Arc::<Mutex<Vec<Received>>>::default(), Arc::<Mutex<VecDeque<Reply>>>::default());
        let usual = Arc::new(Mutex::new(Reply::Status(200)));
        let (log, replies, otherwise) = (received.clone(), script.clone(), usual.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, replies, otherwise) = (log.clone(), replies.clone(), otherwise.clone());
                tokio::spawn(async move {
                    let choose = || {
                        let next = replies.lock().expect("nobody panicked").pop_front();
                        next.unwrap_or_else(|| *otherwise.lock().expect("nobody panicked"))
                    };
                    // A sender that dies half way has delivered nothing.
                    let _ = answer(stream, choose, &log).await;
                });
            }
        });
        Self { url, received, script, usual, task }
    }

    /// The next requests are answered with these, one each.
    pub fn then(&self, replies: impl IntoIterator<Item = Reply>) {
        self.script.lock().expect("nobody panicked").extend(replies);
    }

    /// All other requests are answered with this.
    pub fn usually(&self, reply: Reply) {
        *self.usual.lock().expect("nobody panicked") = reply;
    }

    /// What came so far, in order.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, choose: impl FnOnce() -> Reply, log: &Mutex<Vec<Received>>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let (head, length, headers) = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
        let headers: Vec<(String, String)> = text
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
        break (head + 4, length.unwrap_or(0_usize), headers);
    };
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    }
    let reply = choose();
    log.lock().expect("nobody panicked").push(Received { headers, body: bytes[head..head + length].to_vec(), reply });
    let (status, more) = match reply {
        Reply::Status(status @ 300..400) => (status, "location: http://127.0.0.1:1/elsewhere\r\n".to_owned()),
        Reply::Status(status) => (status, String::new()),
        Reply::Later(status, seconds) => (status, format!("retry-after: {seconds}\r\n")),
        Reply::Cut => return Ok(()),
    };
    let text = format!("HTTP/1.1 {status} Said\r\n{more}content-length: 4\r\nconnection: close\r\n\r\nsaid");
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}
