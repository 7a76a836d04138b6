//! What can go wrong while a provider is being set up. Calls never fail this way: they end in a `CallOutcome`.

/// A provider that cannot be put into service.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A setting has the wrong shape. Holds the setting's name, never its value.
    #[error("provider '{provider}': setting '{setting}' {problem}")]
    Setting {
        /// The provider's name.
        provider: &'static str,
        /// The field of its configuration.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The settings are not the provider's: a field is missing, unknown or of another type. Names fields, never values.
    #[error("provider '{provider}': {problem}")]
    Settings {
        /// The provider's name.
        provider: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// No such provider.
    #[error("there is no provider of that name")]
    UnknownProvider,
    /// The HTTP client could not be built (no TLS roots, for example).
    #[error("the HTTP client could not be built: {0}")]
    HttpClient(#[source] reqwest::Error),
    /// Two providers claim one name.
    #[error("provider '{0}' is registered twice")]
    DuplicateProvider(&'static str),
}

/// An `http` or `https` address.
pub fn check_base_url(provider: &'static str, base_url: &str) -> Result<(), GatewayError> {
    let valid = ["http://", "https://"].iter().any(|scheme| base_url.starts_with(scheme)) && reqwest::Url::parse(base_url).is_ok();
    if valid { Ok(()) } else { Err(GatewayError::Setting { provider, setting: "base_url", problem: "is not an http or https address" }) }
}

/// 1 ms to 2 minutes; the guard ends a whole call after 30 s all the same, and its lease is renewed meanwhile.
pub fn check_timeout(provider: &'static str, timeout_ms: u64) -> Result<(), GatewayError> {
    let valid = (1..=120_000).contains(&timeout_ms);
    if valid { Ok(()) } else { Err(GatewayError::Setting { provider, setting: "timeout_ms", problem: "is not between 1 and 120000" }) }
}
