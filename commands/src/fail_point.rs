//! Places where a test can hold this process for ever, to kill it there. Only debug builds look; in others nothing is left of it.

/// Holds whoever comes by, if the environment variable `FAIL_POINT` names this place; says so in the log first.
#[cfg(debug_assertions)]
pub async fn reach(name: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    if WANTED.get_or_init(|| std::env::var("FAIL_POINT").ok()).as_deref() == Some(name) {
        tracing::error!(name, "held at a fail point");
        std::future::pending::<()>().await;
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn reach(_name: &str) -> std::future::Ready<()> {
    std::future::ready(())
}
