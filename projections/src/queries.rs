//! How the read models are asked: always inside a scope, which row-level security enforces but for the event feed, which is the log.

use std::{fmt, sync::Arc};

use chrono::NaiveDate;
use domain::ids::{MerchantId, OrderId, PspId, StoreId, Ulid};
use sqlx::{AssertSqlSafe, PgPool, Postgres, QueryBuilder, Transaction};
use tokio::sync::watch;

use crate::{
    as_of::CONCURRENT_FOLDS,
    error::Error,
    projection::{Row, tenant_to_uuid},
    turns::Turns,
};

/// Whose rows a caller may see; made from a token, never from input. Nothing set, nothing seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadScope {
    /// Rows of this merchant.
    pub tenant: Option<MerchantId>,
    /// Merchants and stores of this PSP, whatever the tenant.
    pub psp: Option<PspId>,
    /// Of the merchant's rows only those of this store (and those of no store).
    pub store: Option<StoreId>,
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Most rows, 1 to [`Page::MOST`]; brought into that range.
    pub limit: i64,
    /// `stamp.opened_pos` of the last row of the page before.
    pub after: Option<i64>,
}

impl Page {
    /// Most rows of a page.
    pub const MOST: i64 = 500;
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, after: None }
    }
}

/// The read models, as they stand or as they stood at a position. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadModels {
    pub(crate) pool: PgPool,
    pub(crate) turns: Arc<Turns>,
    position: Option<i64>,
    /// Checkpoints of projectors in this process, see [`Self::following`].
    pub(crate) local: Arc<[Progress]>,
}

/// The checkpoint of a projector in this process, as it moves.
pub type Progress = (&'static str, watch::Receiver<i64>);

impl ReadModels {
    /// Over a pool whose login is a member of `smartpos_app` and not exempt from row-level security.
    pub fn new(pool: PgPool) -> Self {
        Self { pool, turns: Arc::new(Turns::new(CONCURRENT_FOLDS)), position: None, local: Arc::default() }
    }

    /// The same in a process that runs these projectors: waiting for a position listens to them before it asks the database.
    #[must_use]
    pub fn following(mut self, projectors: Vec<Progress>) -> Self {
        self.local = projectors.into();
        self
    }

    /// The same as they stood once the log up to and including `position` was folded in. Answers need no projector to have
    /// come that far, but only then do they leave out the events that it left out: see [`Self::wait_for`].
    #[must_use]
    pub fn at(&self, position: i64) -> Self {
        Self { position: Some(position), ..self.clone() }
    }

    /// This position, or the one that answers are about where that is earlier.
    pub(crate) fn no_later_than(&self, position: i64) -> i64 {
        self.position.map_or(position, |moment| moment.min(position))
    }

    /// A transaction in which row-level security shows the rows of `scope`. It reads only; dropping it ends it when the
    /// connection goes back to its pool, so that no caller waits for that.
    pub(crate) async fn scoped(&self, scope: &ReadScope) -> Result<Transaction<'static, Postgres>, Error> {
        let sql = format!(
            "begin read only; select set_config('smartpos.tenant', '{}', true), set_config('smartpos.store', '{}', true), \
             set_config('smartpos.psp', '{}', true)",
            scope.tenant.map(|tenant| tenant_to_uuid(tenant).to_string()).unwrap_or_default(),
            scope.store.map(|store| store.to_string()).unwrap_or_default(),
            scope.psp.map(|psp| psp.to_string()).unwrap_or_default(),
        );
        // One round trip. Several statements at once take no parameters; ids written out hold nothing but letters, digits,
        // `-` and `_`, whoever gave them.
        //
        // A task of its own, out of reach of a caller that hangs up: a begin that is dropped half way would put a connection
        // back into the pool inside a read-only transaction that nobody ends, to be met by whoever writes next.
        let pool = self.pool.clone();
        let begun = tokio::spawn(async move { pool.begin_with(AssertSqlSafe(sql)).await }).await;
        Ok(begun.map_err(|error| sqlx::Error::Io(std::io::Error::other(error)))??)
    }

    /// All rows of a selection.
    pub(crate) async fn many<R: Row>(&self, scope: &ReadScope, mut select: Select) -> Result<Vec<R>, Error> {
        if let Some(position) = self.position {
            return self.many_as_of(scope, position, select).await;
        }
        let mut tx = self.scoped(scope).await?;
        let texts: Vec<String> = select.query.build_query_scalar().fetch_all(&mut *tx).await?;
        drop(tx);
        texts.iter().map(|text| parse(text)).collect()
    }

    /// The row of a thing, under its id as key.
    pub(crate) async fn one<R: Row>(&self, scope: &ReadScope, id: impl Into<Ulid> + fmt::Display) -> Result<Option<R>, Error> {
        let key = Some(id.to_string());
        Ok(self.many(scope, Select::of::<R>().of_stream(id).equal("key", key)).await?.pop())
    }
}

pub(crate) fn parse<R: Row>(text: &str) -> Result<R, Error> {
    let shown = || text.chars().take(80).collect();
    serde_json::from_str(text).map_err(|error| Error::BadRow { table: R::TABLE, key: shown(), what: error.to_string() })
}

/// A selection of rows of one table. Column names are ours, values are always bound. Tables are named in [`READ`].
pub(crate) struct Select {
    pub(crate) query: QueryBuilder<Postgres>,
    /// The stream of the only thing that its rows are about, if there is one.
    pub(crate) stream: Option<Ulid>,
}

/// What every table name in a selection begins with: the schema of the views that name the version in service.
pub(crate) const READ: &str = "read.";

impl Select {
    pub(crate) fn of<R: Row>() -> Self {
        let mut query = QueryBuilder::new("select to_jsonb(t)::text from ");
        query.push(READ).push(R::TABLE).push(" t where true");
        Self { query, stream: None }
    }

    /// Says that the rows selected are about the thing with this stream only.
    pub(crate) fn of_stream(mut self, id: impl Into<Ulid>) -> Self {
        self.stream = Some(id.into());
        self
    }

    pub(crate) fn equal(mut self, column: &'static str, value: Option<String>) -> Self {
        if let Some(value) = value {
            self.query.push(" and t.").push(column).push(" = ").push_bind(value);
        }
        self
    }

    /// With this value in one of several columns, each of which has an index.
    pub(crate) fn any_equal(mut self, columns: &[&'static str], value: Option<&str>) -> Self {
        if let Some(value) = value {
            for (at, column) in columns.iter().enumerate() {
                self.query.push(if at == 0 { " and (t." } else { " or t." }).push(column).push(" = ").push_bind(value.to_owned());
            }
            self.query.push(")");
        }
        self
    }

    pub(crate) fn of_tenant(mut self, tenant: Option<MerchantId>) -> Self {
        if let Some(tenant) = tenant {
            self.query.push(" and t.tenant = ").push_bind(tenant_to_uuid(tenant));
        }
        self
    }

    pub(crate) fn flag(mut self, column: &'static str, value: Option<bool>) -> Self {
        if let Some(value) = value {
            self.query.push(" and t.").push(column).push(" = ").push_bind(value);
        }
        self
    }

    /// Bills with this order on them.
    pub(crate) fn of_order(mut self, order: Option<OrderId>) -> Self {
        if let Some(order) = order {
            self.query
                .push(" and t.key in (select o.bill_id from read.bill_orders o where o.order_id = ")
                .push_bind(order.to_string())
                .push(")");
        }
        self
    }

    pub(crate) fn dates(mut self, from: Option<NaiveDate>, to: Option<NaiveDate>) -> Self {
        if let Some(from) = from {
            self.query.push(" and t.business_date >= ").push_bind(from);
        }
        if let Some(to) = to {
            self.query.push(" and t.business_date <= ").push_bind(to);
        }
        self
    }

    pub(crate) fn page(mut self, page: Page) -> Self {
        if let Some(after) = page.after {
            self.query.push(" and t.opened_pos < ").push_bind(after);
        }
        self.query.push(" order by t.opened_pos desc limit ").push_bind(page.limit.clamp(1, Page::MOST));
        self
    }

    pub(crate) fn sorted(mut self, columns: &'static str) -> Self {
        self.query.push(" order by ").push(columns);
        self
    }
}
