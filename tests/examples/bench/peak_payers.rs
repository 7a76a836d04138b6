//! Whoever pays what the peak mix confirms: hears of QRs on the shops' sockets, pays them at the simulated bank, whose call-backs go
//! to the platform, and hears that the payments succeeded. Part of the load generator's process; its time is in no latency.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex as Turn, mpsc},
    time::{Instant, sleep},
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::Connection,
    frames::{Heard, heard},
    payers::post,
    server::Shop,
    sockets::{self, Socket, micros},
};

/// How long payments may go on after the last request of a rate that is held.
pub const DRAIN: Duration = Duration::from_secs(2);
/// How long payments are waited for in all.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections to the bank.
const CONNECTIONS: usize = 16;

/// How the payments of a run ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Settled {
    /// Payments that were confirmed.
    pub confirmed: u64,
    /// Of them, those that had not succeeded [`DRAIN`] after the last answer.
    pub late: u64,
    /// Of them, those that had not succeeded when nobody waited any longer.
    pub left: u64,
    /// From the last answer until all had succeeded, or nobody waited any longer.
    pub took_ms: u64,
}

impl Settled {
    /// Permille of confirmed payments that were late.
    pub fn late_permille(&self) -> u64 {
        self.late * 1000 / self.confirmed.max(1)
    }
}

#[derive(Default)]
struct Shared {
    confirmed: AtomicU64,
    /// Intents that were or are being confirmed and have not succeeded, each with its reference at the bank once that is known.
    waiting: Mutex<HashMap<String, Option<String>>>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Option<String>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All payers of a run.
pub struct Payers {
    shared: Arc<Shared>,
}

impl Payers {
    /// Listens on a socket of each shop and connects to the bank.
    pub async fn start(address: SocketAddr, bank: SocketAddr, shops: &[Shop]) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (to_pay, due) = mpsc::unbounded_channel();
        let due = Arc::new(Turn::new(due));
        for _ in 0..CONNECTIONS {
            tokio::spawn(pay(Connection::open(bank).await?, Arc::clone(&due)));
        }
        let plan = sockets::Plan { address, shops: shops.to_vec(), first: 0, sockets: shops.len() };
        for n in 0..plan.sockets {
            tokio::spawn(listen(sockets::connect(&plan, n).await?, Arc::clone(&shared), to_pay.clone()));
        }
        Ok(Self { shared })
    }

    /// An intent is about to be confirmed: its frames may come before the answer.
    pub fn expect(&self, intent: &str) {
        self.shared.waiting().insert(intent.to_owned(), None);
    }

    /// It was confirmed.
    pub fn confirmed(&self) {
        self.shared.confirmed.fetch_add(1, Ordering::Relaxed);
    }

    /// It was not confirmed: nobody will pay it.
    pub fn forget(&self, intent: &str) {
        self.shared.waiting().remove(intent);
    }

    /// Waits for the payments that are under way.
    pub async fn settled(&self) -> Settled {
        let (ended, mut late) = (Instant::now(), None);
        loop {
            let left = u64::try_from(self.shared.waiting().len()).unwrap_or(u64::MAX);
            let took = ended.elapsed();
            if late.is_none() && took >= DRAIN {
                late = Some(left);
            }
            if left == 0 || took >= PATIENCE {
                let (confirmed, took_ms) =
                    (self.shared.confirmed.load(Ordering::Relaxed), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                return Settled { confirmed, late: late.unwrap_or(left), left, took_ms };
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Listens to a shop until its socket closes, and says which references can be paid.
async fn listen(mut socket: Socket, shared: Arc<Shared>, to_pay: mpsc::UnboundedSender<String>) {
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let Some((intent, heard)) = heard(&text, micros()) else { continue };
        let mut waiting = shared.waiting();
        match heard {
            Heard::Started { reference } => {
                if let Some(known) = waiting.get_mut(intent) {
                    *known = Some(reference);
                }
            }
            Heard::ActionRequired { .. } => {
                if let Some(reference) = waiting.get_mut(intent).and_then(Option::take) {
                    let _ = to_pay.send(reference);
                }
            }
            Heard::Succeeded { .. } => {
                waiting.remove(intent);
            }
        }
    }
    // Without it the payments of this shop are late, and the rate is not held.
    eprintln!("  a shop's socket was closed");
}

/// One connection to the bank, over which one payer after the other pays.
async fn pay(mut bank: Connection, due: Arc<Turn<mpsc::UnboundedReceiver<String>>>) -> Result<()> {
    loop {
        let Some(reference) = due.lock().await.recv().await else { return Ok(()) };
        let body = format!(r#"{{"reference":"{reference}"}}"#);
        match bank.send(&post("", "/sim/pay", None, &body)).await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => eprintln!("  the bank answered a payer with {}: {}", answer.status, answer.body),
            Err(error) => {
                eprintln!("  a payer lost the bank: {error:#}");
                bank.reopen().await?;
            }
        }
    }
}
