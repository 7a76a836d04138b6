//! `/ws`: live events for terminals and portals. See [`session`] for the frames.

use std::time::Duration;

use axum::{
    Router,
    extract::{Query, State, WebSocketUpgrade},
    http::HeaderMap,
    response::{IntoResponse, Response},
    routing::get,
};
use commands::{
    event_log::{EventLog, StoreError},
    handle::CommandHandler,
};
use projections::Feed;
use serde::Deserialize;
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{auth::Permission, problem::Problem, state::AppState};

pub mod hub;
pub mod session;
pub mod topic;

use hub::Hub;
use session::Session;

/// Largest message of a client, bytes.
const MAX_MESSAGE: usize = 4 * 1024;
/// Kept for each socket from its beginning, bytes. What a terminal says is short, and most say nothing for hours.
const READ_BUFFER: usize = 512;

/// Between looks at the log's epoch, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the socket route needs.
#[derive(Clone)]
pub struct WsState {
    /// Hands out events.
    pub hub: Hub,
    /// The log, under the worker role; every read filters by the token's tenant.
    pub log: PgPool,
    /// Checks tokens.
    pub app: AppState,
    /// Ends all sessions.
    pub shutdown: CancellationToken,
}

#[derive(Debug, Deserialize)]
struct Parameters {
    access_token: Option<String>,
}

/// The route `/ws`.
pub fn router(state: WsState) -> Router {
    Router::new().route("/ws", get(upgrade)).with_state(state)
}

async fn upgrade(
    State(state): State<WsState>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let header = headers.get("authorization").and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = header.or(parameters.access_token.as_deref()) else {
        return Problem::unauthorized("a bearer token is required").into_response();
    };
    let principal = match state.app.authenticate(token) {
        Ok(principal) => principal,
        Err(problem) => return problem.into_response(),
    };
    let Some(who) = principal.sight().filter(|_| principal.demand(Permission::EventsSubscribe).is_ok()) else {
        return Problem::forbidden("this token may not listen to events").into_response();
    };
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).read_buffer_size(READ_BUFFER).write_buffer_size(0);
    upgrade.on_upgrade(move |socket| Session::run(socket, state.hub, state.log, who, state.shutdown))
}

/// Feeds the hub from the log's tail until `shutdown`, and tells the command handler what other processes wrote.
/// When the log turns out to have been restored to the past, everything begins anew at its present head.
pub async fn feed_hub(feed: Feed, log: PgPool, hub: Hub, commands: CommandHandler, mut after: i64, shutdown: CancellationToken) {
    let (mut look_at, mut went_back) = (Instant::now() + LOOK_EVERY, feed.went_back());
    while !shutdown.is_cancelled() {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return,
            batch = feed.next_batch(after, 500, Duration::from_secs(1)) => batch,
        };
        match batch {
            Ok(events) => {
                // Under steady traffic, too: a log that went back may have grown beyond `after` before anybody looked.
                let due = Instant::now() >= look_at;
                // Sessions may have seen what this process wrote and the bus never had: then nobody else notices.
                if feed.went_back() != went_back {
                    match raise_epoch(&log, &hub).await {
                        Ok(()) => went_back = feed.went_back(),
                        Err(error) => tracing::warn!(%error, "live events wait for the log"),
                    }
                    look_at = Instant::now();
                    after = notice_a_restore(&log, &hub, &commands, after).await;
                    continue;
                }
                if due || events.is_empty() {
                    look_at = Instant::now() + LOOK_EVERY;
                    let known = after;
                    after = notice_a_restore(&log, &hub, &commands, known).await;
                    if after != known {
                        continue;
                    }
                }
                let Some(last) = events.last() else { continue };
                after = last.pos;
                for event in &events {
                    commands.notice(event.stream, event.version);
                }
                hub.dispatch(events);
            }
            Err(projections::Error::AheadOfLog { .. }) => {
                after = notice_a_restore(&log, &hub, &commands, after).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "live events wait for the log");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// A new epoch of the log, unless somebody else has begun one already.
async fn raise_epoch(log: &PgPool, hub: &Hub) -> Result<(), StoreError> {
    let epoch = EventLog::head(log).await?.epoch;
    if epoch == hub.epoch() { log.raise_epoch(epoch).await } else { Ok(()) }
}

/// Looks, when nothing comes or less than was there, whether the log is still the one that was read; says from where to go on.
async fn notice_a_restore(log: &PgPool, hub: &Hub, commands: &CommandHandler, after: i64) -> i64 {
    match commands::event_store::log_head(log).await {
        Ok(head) if head.epoch != hub.epoch() || head.pos < after => {
            tracing::error!(position = head.pos, epoch = head.epoch, "the log was restored to the past: every session begins anew");
            commands.forget_all();
            hub.start_anew(head.pos, head.epoch);
            head.pos
        }
        Ok(_) => after,
        Err(error) => {
            tracing::warn!(%error, "live events wait for the log");
            after
        }
    }
}
