//! Idempotency keys: the positions that they name exist, and lie in one commit.

use sqlx::{PgConnection, Row as _};

use super::{Problem, problems::MOST};
use crate::{error::Error, log_reader::Head};

/// Keys that name positions which no single commit holds.
const SQL: &str = "select scope, key, first_pos, last_pos from log.append_key k \
                   where (k.first_pos is null) <> (k.last_pos is null) or k.first_pos > k.last_pos or k.last_pos > $1 \
                   or (k.first_pos is not null and not coalesce((select c.last_pos >= k.last_pos from log.commit c \
                       where c.first_pos <= k.first_pos order by c.first_pos desc limit 1), false)) \
                   order by coalesce(k.first_pos, k.last_pos), k.scope, k.key limit $2";

/// Verifies all keys as the connection sees them.
pub(super) async fn verify(connection: &mut PgConnection, head: &Head) -> Result<Vec<Problem>, Error> {
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let rows = sqlx::query(SQL).bind(head.pos).bind(most).fetch_all(connection).await?;
    let mut problems = Vec::new();
    for row in rows {
        let (scope, key): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let (first, last): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let what = |problem: &str| format!("the idempotency key '{key}' of '{scope}' {problem}");
        problems.push(match (first, last) {
            // What lies beyond the head is missing; what does not, was named wrongly.
            (Some(first), Some(last)) if last > head.pos && first <= last => {
                Problem::within(first.max(head.pos.saturating_add(1)), last, what("names events beyond the end of the log"))
            }
            (Some(first), Some(last)) => {
                Problem::at(first, what(&format!("names positions {first} to {last}, which are no part of one commit")))
            }
            (first, last) => Problem::at(first.or(last).unwrap_or_default(), what("names half a range of positions")),
        });
    }
    Ok(problems)
}
