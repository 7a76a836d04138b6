//! Connections and migrations. Every runtime connection takes on a group role; only migrations run as owner.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgPool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::migrations::migrator;

/// The group role that a connection takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The HTTP edge: appends through one function, reads its tenant's rows.
    App,
    /// Relay, projectors, process managers, provider workers.
    Worker,
    /// Whoever looks around: reads the log and the read models of all tenants, writes nothing.
    Auditor,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::App => "smartpos_app",
            Self::Worker => "smartpos_worker",
            Self::Auditor => "smartpos_auditor",
        }
    }
}

/// Options of a connection that takes on `role` from its first statement.
///
/// # Errors
/// The URL cannot be parsed.
pub fn options(url: &str, role: Role) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("smartpos").options([
        ("role", role.name()),
        // Nothing here runs for long enough to be worth compiling.
        ("jit", "off"),
        ("statement_timeout", "15000"),
        ("idle_in_transaction_session_timeout", "15000"),
    ]))
}

/// A connection that was idle for longer is asked for a sign of life before it is used. One that was used a moment ago
/// answered when it came back, and asking again would cost every query a round trip.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a connection that nobody needs is kept: a burst must not take the server's places from other processes for good.
const IDLE_FOR: Duration = Duration::from_secs(30);

/// How long anybody waits for a connection. Shorter than a lease of a task is, which begins before the wait.
const PATIENCE: Duration = Duration::from_secs(3);

/// When somebody last had a connection of a pool.
#[derive(Debug, Clone)]
pub struct LastUse {
    began: Instant,
    /// Milliseconds after that; nothing is the beginning.
    at_ms: Arc<AtomicU64>,
}

impl Default for LastUse {
    /// Now.
    fn default() -> Self {
        Self { began: Instant::now(), at_ms: Arc::default() }
    }
}

impl LastUse {
    /// Somebody has one now.
    pub fn note(&self) {
        self.at_ms.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long ago that was.
    pub fn ago(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.at_ms.load(Ordering::Relaxed)))
    }
}

/// A lazily connected pool of `size` connections under `role`; waits at most three seconds for a free one.
///
/// # Errors
/// The URL cannot be parsed.
pub fn pool(url: &str, role: Role, size: u32) -> Result<PgPool, sqlx::Error> {
    Ok(watched_pool(url, role, size)?.0)
}

/// The same, and when somebody last had one of its connections.
///
/// # Errors
/// The URL cannot be parsed.
pub fn watched_pool(url: &str, role: Role, size: u32) -> Result<(PgPool, LastUse), sqlx::Error> {
    let last_use = LastUse::default();
    Ok((pool_with(options(url, role)?, size, &last_use), last_use))
}

/// The same under the worker's role for process managers, provider workers and projectors. What they write follows from the log, so
/// their commits do not wait for the disk, but for leases of calls that begin something, which say so themselves: after a crash of the
/// database their last moments are derived once more, and calls are repeated under the same identifiers. They repeat few statements very
/// often: each is planned once for a connection, and by index, since a plan that was made while a table was small stays after it has grown.
///
/// # Errors
/// The URL cannot be parsed.
pub fn pool_of_derived(url: &str, size: u32) -> Result<PgPool, sqlx::Error> {
    let planned_once = [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")];
    Ok(pool_with(options(url, Role::Worker)?.options([("synchronous_commit", "off")]).options(planned_once), size, &LastUse::default()))
}

fn pool_with(options: PgConnectOptions, size: u32, last_use: &LastUse) -> PgPool {
    let pool = PgPoolOptions::new().max_connections(size).acquire_timeout(PATIENCE).idle_timeout(IDLE_FOR);
    let (opened, used) = (last_use.clone(), last_use.clone());
    let pool = pool.test_before_acquire(false).after_connect(move |_, _| {
        opened.note();
        Box::pin(async { Ok(()) })
    });
    let pool = pool.before_acquire(move |connection, meta| {
        let used = used.clone();
        Box::pin(async move {
            // One that fails here is replaced by another.
            if meta.idle_for > TRUSTED_FOR {
                connection.ping().await?;
            }
            used.note();
            Ok(true)
        })
    });
    pool.connect_lazy_with(options)
}

/// Brings the database of an owner's URL to this build's schema and lets the login role `member` take on the group roles.
///
/// # Errors
/// The migrator's; a database that a newer build migrated is refused.
pub async fn migrate(owner: &PgPool, member: Option<&str>) -> Result<(), MigrateError> {
    migrator().run(owner).await?;
    if let Some(member) = member {
        // Role names cannot be bound; the server quotes this one itself.
        let grant: String = sqlx::query_scalar("select format('grant smartpos_app, smartpos_worker, smartpos_auditor to %I', $1::text)")
            .bind(member)
            .fetch_one(owner)
            .await?;
        sqlx::query(sqlx::AssertSqlSafe(grant)).execute(owner).await?;
    }
    Ok(())
}
