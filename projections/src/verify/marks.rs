//! Tells which event of a commit was replaced together with its hash, when the commit does not hash to what it claims and nothing else
//! explains it.
//!
//! A commit keeps the first bytes of the hashes of its events, its marks, so an event whose hash begins otherwise is another one. Marks prove
//! nothing: no hash covers them, and the owner of the database can change them, too. That is why the commit as a whole stays a problem beside
//! what is told here. Commits of before there were marks have none.

use sqlx::{PgConnection, Row as _};

use super::Problem;
use crate::error::Error;

/// Of each event of these commits (first positions) its hash and its mark.
const SQL: &str = "select e.pos, e.hash, substring(c.marks from ((e.pos - c.first_pos) * 8 + 1)::integer for 8) \
                   from log.commit c join log.event e on e.pos between c.first_pos and c.last_pos \
                   where c.first_pos = any($1) and c.marks is not null order by e.pos";

/// Events of these commits (first position, last position) that are others than their commit has marked.
pub(super) async fn replaced(connection: &mut PgConnection, commits: &[(i64, i64)]) -> Result<Vec<Problem>, Error> {
    if commits.is_empty() || !are_kept(connection).await? {
        return Ok(Vec::new());
    }
    let firsts: Vec<i64> = commits.iter().map(|(first, _)| *first).collect();
    let rows = sqlx::query(SQL).bind(firsts).fetch_all(connection).await?;
    let mut problems = Vec::new();
    for row in rows {
        let (position, hash, mark): (i64, &[u8], &[u8]) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !hash.starts_with(mark) {
            problems.push(Problem::at(
                position,
                "the commit has the mark of another event here: it was replaced, with its hash, or the mark was changed",
            ));
        }
    }
    Ok(problems)
}

/// The database may be one that this build has not migrated yet.
async fn are_kept(connection: &mut PgConnection) -> Result<bool, Error> {
    let sql = "select exists (select from pg_attribute where attrelid = to_regclass('log.commit') and attname = 'marks')";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}
