//! One keep-alive connection that sends prepared bytes and reads whole answers. A load generator shares the machine with what
//! it loads, so it costs as little as it can: no headers map, no task, no copy beyond its buffer.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What came back.
#[derive(Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Smartpos-Position`.
    pub position: Option<&'a str>,
    /// The last part of `Location`: the id of what was made.
    pub id: Option<&'a str>,
    /// The body as text; empty when it is none.
    pub body: &'a str,
}

/// A connection.
pub struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { address, stream, buffer: Vec::with_capacity(8 * 1024) })
    }

    /// Connects anew, after an answer was lost.
    pub async fn reopen(&mut self) -> Result<()> {
        *self = Self::open(self.address).await?;
        Ok(())
    }

    /// Sends a request and reads its whole answer.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head, body) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(lengths) = lengths(&self.buffer)? {
                break lengths;
            }
        };
        while self.buffer.len() < head + body {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
        }
        answer(&self.buffer, head)
    }
}

/// Bytes of head and body, once the head is there.
fn lengths(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else { return Ok(None) };
    let body = header(&response, "content-length").map_or(Ok(0), str::parse)?;
    Ok(Some((head, body)))
}

fn answer(bytes: &[u8], head: usize) -> Result<Answer<'_>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(bytes)?;
    let status = response.code.context("an answer has a status")?;
    let id = header(&response, "location").and_then(|path| path.rsplit('/').next());
    let body = bytes.get(head..).and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
    Ok(Answer { status, position: header(&response, "smartpos-position"), id, body })
}

fn header<'b>(response: &httparse::Response<'_, 'b>, name: &str) -> Option<&'b str> {
    let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.and_then(|header| std::str::from_utf8(header.value).ok())
}
