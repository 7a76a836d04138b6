//! One count of several processes, in Redis. Redis may go away at any moment: whoever asks then learns it at
//! once or, when Redis is merely silent, within the patience of [`crate::config::Limits`], and nobody asks again before it is back.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use metrics::gauge;
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Party, Quota, Verdict, WINDOW, Window};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_millis(500);
/// Pause between attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks at every counter and counts with all of them, or with none. Answers 1 or 0, then what each has taken and how many
/// milliseconds its window has left.
const TAKE: &str = r"
local window, admitted, answer = tonumber(ARGV[1]), 1, {0}
for n, key in ipairs(KEYS) do
  local taken, left = tonumber(redis.call('GET', key) or '0'), redis.call('PTTL', key)
  if left < 0 then
    redis.call('DEL', key)
    taken, left = 0, window
  end
  if taken >= tonumber(ARGV[n + 1]) then admitted = 0 end
  answer[2 * n], answer[2 * n + 1] = taken, left
end
if admitted == 1 then
  for n, key in ipairs(KEYS) do
    answer[2 * n] = redis.call('INCR', key)
    if answer[2 * n] == 1 then redis.call('PEXPIRE', key, window) end
  end
end
answer[1] = admitted
return answer
";

/// The connection, when there is one.
type Slot = Arc<RwLock<Option<MultiplexedConnection>>>;

pub(super) struct Shared {
    connection: Slot,
    lost: Arc<Notify>,
    script: Script,
    /// Longest wait for an answer before this process counts for itself. A Redis that died says so at once, by a broken connection; this
    /// is for one that is silent.
    patience: Duration,
}

impl Shared {
    /// Connects in the background, and again whenever the connection was lost.
    pub(super) fn start(url: &str, patience: Duration, shutdown: CancellationToken) -> anyhow::Result<Self> {
        // The error could repeat the URL, and with it a password.
        let client = Client::open(url).ok().context("REDIS_URL cannot be used")?;
        let (connection, lost) = (Slot::default(), Arc::new(Notify::new()));
        tokio::spawn(keep_connected(client, patience, connection.clone(), lost.clone(), shutdown));
        Ok(Self { connection, lost, script: Script::new(TAKE), patience })
    }

    /// The common verdict; nothing while Redis does not answer.
    pub(super) async fn take(&self, quotas: &[Quota]) -> Option<Verdict> {
        let mut connection = self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        let mut call = self.script.prepare_invoke();
        call.arg(WINDOW.as_millis().to_string());
        for quota in quotas {
            call.key(key_of(quota.party)).arg(quota.limit);
        }
        let asked: Result<Result<Vec<i64>, _>, _> = tokio::time::timeout(self.patience, call.invoke_async(&mut connection)).await;
        let answer = match asked {
            Ok(Ok(answer)) => read(&answer, quotas.len()),
            Ok(Err(error)) => {
                tracing::warn!(kind = ?error.kind(), "Redis failed; requests are counted by this process alone");
                None
            }
            Err(_) => {
                tracing::warn!("Redis does not answer; requests are counted by this process alone");
                None
            }
        };
        if answer.is_none() {
            *self.connection.write().unwrap_or_else(PoisonError::into_inner) = None;
            self.lost.notify_one();
        }
        answer
    }
}

/// One hash tag, so that a cluster keeps the keys of one call together.
fn key_of(party: Party) -> String {
    match party {
        Party::All => "{smartpos-rate}:all".to_owned(),
        Party::Merchant(merchant) => format!("{{smartpos-rate}}:merchant:{merchant}"),
        Party::Intent(intent) => format!("{{smartpos-rate}}:intent:{intent}"),
        Party::Payers(merchant) => format!("{{smartpos-rate}}:payers:{merchant}"),
        Party::CallBacks(account) => format!("{{smartpos-rate}}:call-backs:{account}"),
        Party::Forgeries(account) => format!("{{smartpos-rate}}:forgeries:{account}"),
    }
}

fn read(answer: &[i64], parties: usize) -> Option<Verdict> {
    let (admitted, rest) = answer.split_first()?;
    let windows: Option<Vec<Window>> = rest
        .chunks_exact(2)
        .map(|pair| {
            let [taken, left] = pair else { return None };
            Some(Window { taken: u32::try_from(*taken).ok()?, ends_in: Duration::from_millis(u64::try_from(*left).ok()?) })
        })
        .collect();
    let windows = windows.filter(|windows| windows.len() == parties)?;
    Some(Verdict { admitted: *admitted == 1, windows })
}

async fn keep_connected(client: Client, patience: Duration, slot: Slot, lost: Arc<Notify>, shutdown: CancellationToken) {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT.max(patience)));
    let work = async {
        loop {
            gauge!("smartpos_rate_limit_shared").set(0);
            let connection = loop {
                match client.get_multiplexed_async_connection_with_config(&config).await {
                    Ok(connection) => break connection,
                    Err(error) => tracing::debug!(kind = ?error.kind(), "Redis cannot be reached"),
                }
                tokio::time::sleep(PAUSE).await;
            };
            *slot.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
            gauge!("smartpos_rate_limit_shared").set(1);
            tracing::info!("requests are counted in Redis");
            lost.notified().await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}
