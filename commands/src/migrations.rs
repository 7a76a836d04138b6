//! The migrations, in the binary. A list instead of the driver's macro: that builds the driver a second time, for the compiler.

use sqlx::{
    SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

/// A version, a name, and the statements of the file with both.
type Listed = (i64, &'static str, &'static str);

macro_rules! migrations {
    ($($version:literal $name:literal,)*) => {
        &[$(($version, $name, include_str!(concat!("../../schemas/migrations/", $version, "_", $name, ".sql")))),*]
    };
}

/// The schema of the log, the processes and the read-model bookkeeping. What has run once is never changed.
#[expect(clippy::unreadable_literal, reason = "as the files are named")]
const MIGRATIONS: &[Listed] = migrations! {
    20261122000001 "roles",
    20261122000002 "log",
    20261122000003 "append",
    20261122000004 "process",
    20261122000005 "read",
    20261124000001 "streams_stand_at",
    20261124000030 "as_of",
    20261124000040 "privacy",
    20261124000060 "master_key_check",
    20261124000070 "serve",
    20261124000080 "exchanges",
    20261124000090 "webhook_deliveries",
    20261124000100 "partner",
    20261124000101 "find_keys",
    20261124000110 "provider_accounts",
    20261124000111 "inbound_webhooks",
    20261124000120 "process_reads",
    20261124000121 "provider_object_by_reference",
    20261124000140 "looked_into",
    20261124000150 "caps",
    20261124000160 "planned_once",
    20261124000170 "rotation",
    20261124000180 "epochs",
    20261130000190 "append_tells_its_link",
    20261130000200 "call_backs_are_handed_over",
    20261130000210 "auditor",
    20261130000220 "looks_on_request",
    20261130000230 "unread_call_backs",
    20261201000240 "views_that_went",
    20261201000250 "few_statistics",
    20261201000260 "feed_from_the_log",
    20261201000270 "missing_commits_are_told",
};

/// All of them, oldest first.
pub fn migrator() -> Migrator {
    let migration = |&(version, name, sql): &Listed| {
        Migration::new(version, name.replace('_', " ").into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;

    #[test]
    fn every_file_is_listed_once_and_oldest_first() {
        let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/migrations")).unwrap();
        let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let listed: Vec<String> = MIGRATIONS.iter().map(|(version, name, _)| format!("{version}_{name}.sql")).collect();
        assert_eq!(listed, files.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn each_runs_in_a_transaction_of_its_own() {
        assert!(MIGRATIONS.iter().all(|(_, _, sql)| !sql.starts_with("-- no-transaction")), "`migrator` says so of all");
    }
}
