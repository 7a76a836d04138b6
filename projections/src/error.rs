//! What can go wrong on the read side.

/// Why something on the read side failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed; the caller tries again later.
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    /// Something in the log that this build cannot read. Never skipped: the reader stops and alarms.
    #[error("log position {position}: {what}")]
    Corrupt {
        /// Place in the log.
        position: i64,
        /// What is wrong there.
        what: String,
    },
    /// A reader stands beyond the end of the log: the database was restored to the past.
    #[error("position {after} is beyond the end of the log at {head}")]
    AheadOfLog {
        /// Where the reader stands.
        after: i64,
        /// Where the log ends.
        head: i64,
    },
    /// A stored row does not have the shape that this build expects.
    #[error("row '{key}' of table {table}: {what}")]
    BadRow {
        /// The table.
        table: &'static str,
        /// Its key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// More is asked for at once than there is room for; the caller tries again later.
    #[error("too many whole tenants are being folded")]
    Busy,
    /// More belongs to a question than one query may fold.
    #[error("more belongs to this question than one query may fold")]
    TooMuch,
    /// A rebuild found that it cannot take over.
    #[error("rebuild of {projection}: {what}")]
    Rebuild {
        /// The projection.
        projection: &'static str,
        /// Why not.
        what: String,
    },
}

impl Error {
    /// A lock was not to be had in time; whoever holds it lets go some day.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Sql(error) if error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("55P03"))
    }

    /// The data itself was refused (SQLSTATE class 22 or 23), so that trying the same again cannot help.
    pub(crate) fn is_bad_data(&self) -> bool {
        match self {
            Self::Sql(error) => {
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
            }
            Self::Corrupt { .. } | Self::AheadOfLog { .. } | Self::BadRow { .. } | Self::Busy | Self::TooMuch | Self::Rebuild { .. } => {
                false
            }
        }
    }
}
