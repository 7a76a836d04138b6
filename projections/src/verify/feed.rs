//! Asks the event feed (the read model `events`) which event of a commit was replaced together with its hash, when the commit does not hash to
//! what it claims and nothing else explains it.
//!
//! The name of an event is half of its hash, and the feed keeps names by position. So a name that is another than the stored hash gives
//! tells where, unless the feed was made anew since. The feed proves nothing: it is a copy that the owner of the database can change, too. That is
//! why the commit as a whole stays a problem beside what is told here.

use domain::ids::{EventId, Ulid};
use sqlx::{PgConnection, Row as _};

use super::Problem;
use crate::error::Error;

/// What the feed knows of commits (first position, last position), beside what the log has there.
const SQL: &str = "select l.pos, l.hash, f.key from unnest($1::bigint[], $2::bigint[]) as commit (first_pos, last_pos) \
                   join log.event l on l.pos between commit.first_pos and commit.last_pos join read.events f on f.pos = l.pos order by l.pos";

/// Events of these commits (first position, last position) that are others than the feed names; none where there is no feed.
pub(super) async fn replaced(connection: &mut PgConnection, commits: &[(i64, i64)]) -> Result<Vec<Problem>, Error> {
    if commits.is_empty() || !can_be_asked(connection).await? {
        return Ok(Vec::new());
    }
    let (firsts, lasts): (Vec<i64>, Vec<i64>) = commits.iter().copied().unzip();
    let rows = sqlx::query(SQL).bind(firsts).bind(lasts).fetch_all(connection).await?;
    let mut problems = Vec::new();
    for row in rows {
        let (position, hash, name): (i64, Vec<u8>, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !is_named(&hash, &name) {
            let what = format!("the event feed knows another event here, {name}: it was replaced, with its hash");
            problems.push(Problem::at(position, what));
        }
    }
    Ok(problems)
}

/// A log may be verified before there is any read model.
async fn can_be_asked(connection: &mut PgConnection) -> Result<bool, Error> {
    let sql = "select coalesce(has_table_privilege(to_regclass('read.events')::oid, 'select'), false)";
    Ok(sqlx::query_scalar(sql).fetch_one(connection).await?)
}

fn is_named(hash: &[u8], name: &str) -> bool {
    hash.first_chunk().is_some_and(|half| EventId(Ulid::from_bytes(*half)).to_string() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::blank_event;

    #[test]
    fn a_name_is_that_of_its_own_hash_only() {
        let (one, other) = (blank_event(1), blank_event(2));
        assert!(is_named(&one.hash, &one.event_id().to_string()));
        assert!(!is_named(&other.hash, &one.event_id().to_string()));
        assert!(!is_named(&[], &one.event_id().to_string()));
    }
}
