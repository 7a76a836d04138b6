//! Tells which event was replaced together with its hash, where something is wrong and nothing else tells at which position.
//!
//! A commit keeps the first bytes of the hashes of its events, its marks, so an event whose hash begins otherwise is another one. Marks
//! prove nothing: no hash covers them, and the owner of the database can change them, too. That is why the range as a whole stays a problem
//! beside what is told here. Commits of before there were marks have none.

use sqlx::PgConnection;

use super::{Problem, problems::MOST};
use crate::error::Error;

/// Events between two positions, both greater than zero, whose hash begins otherwise than the mark that their commit has of them.
/// Positions may be forged: no number overflows, and where a commit has no more marks it has an empty one, with which any hash begins.
/// Commit by commit (`offset 0` keeps the order of the joins): each range is read once, however few of its events are told.
const SQL: &str = "select e.pos from (select first_pos, last_pos, marks from log.commit where first_pos between \
                       coalesce((select max(first_pos) from log.commit where first_pos between 1 and $1), $1) and $2 \
                       order by first_pos offset 0) c \
                   cross join lateral (select pos, hash from log.event \
                       where pos between greatest(c.first_pos, $1) and least(c.last_pos, $2) order by pos offset 0) e \
                   cross join lateral (select substring(c.marks from \
                       (least(greatest(e.pos - c.first_pos, 0), 200000000) * 8 + 1)::integer for 8)) m (mark) \
                   where substring(e.hash for length(m.mark)) <> m.mark limit $3";

/// Events in these ranges (first position, last position; apart) that are others than their commits have marked.
pub(super) async fn replaced(connection: &mut PgConnection, ranges: &[(i64, i64)]) -> Result<Vec<Problem>, Error> {
    if ranges.is_empty() || !are_kept(connection).await? {
        return Ok(Vec::new());
    }
    let most = i64::try_from(MOST).unwrap_or(i64::MAX);
    let mut problems = Vec::new();
    for (first, last) in ranges.iter().copied() {
        let query = sqlx::query_scalar(SQL).bind(first.max(1)).bind(last).bind(most);
        let positions: Vec<i64> = query.fetch_all(&mut *connection).await?;
        let what = "the commit has the mark of another event here: it was replaced, with its hash, or the mark was changed";
        problems.extend(positions.into_iter().map(|position| Problem::at(position, what)));
    }
    Ok(problems)
}

/// The database may be one that this build has not migrated yet.
async fn are_kept(connection: &mut PgConnection) -> Result<bool, Error> {
    let sql = "select exists (select from pg_attribute where attrelid = to_regclass('log.commit') and attname = 'marks')";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
