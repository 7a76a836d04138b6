//! Configuration: defaults, then a TOML file, then the environment (`SMARTPOS_HTTP__LISTEN=…`), the last one wins.
//! `DATABASE_URL`, `MIGRATE_DATABASE_URL`, `NATS_URL` and `REDIS_URL` are read under their usual names.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Env, Format, Serialized, Toml},
    value::{Dict, Map, Value},
};
use gateway::{ScbConfig, Secret};
use serde::{Deserialize, Serialize, de::Error as _};

/// Everything that can be set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The HTTP edge.
    pub http: Http,
    /// PostgreSQL of your own; without it an embedded one is started.
    #[serde(skip_serializing)]
    pub database_url: Option<Secret>,
    /// An owner's URL for migrations; without it `database_url`.
    #[serde(skip_serializing)]
    pub migrate_database_url: Option<Secret>,
    /// NATS of your own; without it an embedded one is started.
    #[serde(skip_serializing)]
    pub nats_url: Option<Secret>,
    /// Redis of your own, for limits that several processes share; without it each process counts for itself.
    #[serde(skip_serializing)]
    pub redis_url: Option<Secret>,
    /// How many requests the gateway routes take.
    pub limits: Limits,
    /// Where embedded servers and keys live.
    pub data_dir: PathBuf,
    /// Tokens.
    pub auth: Auth,
    /// Personal data.
    pub privacy: Privacy,
    /// Payment providers.
    pub providers: Providers,
    /// Deliveries to merchants.
    pub webhooks: Webhooks,
    /// Logs.
    pub log: Log,
}

/// The HTTP edge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Where a process without the roles `api` and `gateway` answers `/healthz`, `/readyz` and `/metrics`; nowhere unless set. The others
    /// answer them where they listen.
    pub metrics_listen: Option<SocketAddr>,
    /// How long a client's connection is kept for its next request. More than a proxy before it (60 s for most; Google's 600) or an HTTP
    /// client (90 s for many) keeps one: whoever uses a connection in the moment in which it is closed does not know what became of its
    /// request.
    pub keep_alive_seconds: NonZeroU32,
    /// Connections to PostgreSQL for queries.
    pub query_connections: u32,
    /// Connections to PostgreSQL for storing what providers call back.
    pub call_back_connections: u32,
}

/// How many requests the gateway routes (payment intents, payments, refunds) and the doors of call-backs take in a minute; 0 is no
/// limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Of one merchant.
    pub per_merchant_per_minute: u32,
    /// Of the holders of one payment token; they do not count with the merchant, whose till they must not stop.
    pub per_payment_token_per_minute: u32,
    /// Of the holders of all payment tokens of one merchant.
    pub payers_per_merchant_per_minute: u32,
    /// Of all callers together.
    pub all_per_minute: u32,
    /// Call-backs for one account of a merchant at a provider that prove their sender.
    pub call_backs_per_account_per_minute: u32,
    /// The same for an account of the platform, which all merchants without one share.
    pub call_backs_per_platform_account_per_minute: u32,
    /// Those beside them that do not.
    pub forgeries_per_account_per_minute: u32,
    /// Bytes of one call-back.
    pub call_back_bytes: usize,
    /// How long a Redis that is connected may take to count a request before a process counts it for itself, milliseconds. Shorter, and a
    /// busy moment of this process would be taken for silence, and the count be wrong.
    pub redis_patience_ms: NonZeroU32,
}

/// See [`Limits::redis_patience_ms`].
const REDIS_PATIENCE_MS: NonZeroU32 = NonZeroU32::new(250).unwrap();

impl Limits {
    /// No limits.
    pub const fn off() -> Self {
        Self {
            per_merchant_per_minute: 0,
            per_payment_token_per_minute: 0,
            payers_per_merchant_per_minute: 0,
            all_per_minute: 0,
            call_backs_per_account_per_minute: 0,
            call_backs_per_platform_account_per_minute: 0,
            forgeries_per_account_per_minute: 0,
            call_back_bytes: 0,
            redis_patience_ms: REDIS_PATIENCE_MS,
        }
    }
}

impl Default for Limits {
    /// The published ones, and what keeps one payer page or one sender of call-backs from the rest.
    fn default() -> Self {
        Self {
            per_merchant_per_minute: 1_000,
            per_payment_token_per_minute: 120,
            payers_per_merchant_per_minute: 2_000,
            all_per_minute: 10_000,
            // A provider that is refused may not come again: three times a storm of 10,000 at one merchant. What one costs is a signature and
            // a row, and what is left to be done of them waits in a queue.
            call_backs_per_account_per_minute: 30_000,
            call_backs_per_platform_account_per_minute: 30_000,
            forgeries_per_account_per_minute: 600,
            call_back_bytes: 32 * 1024,
            redis_patience_ms: REDIS_PATIENCE_MS,
        }
    }
}

/// Tokens.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// P-256 key (PKCS#8 PEM) of the issuer; without it `auth.pem` in the data directory, made when missing.
    pub key_file: Option<PathBuf>,
    /// Serve `POST /v1/auth/dev-token`. For development only.
    pub dev_issuer: bool,
    /// The secret that `dev-token` asks for; without it `up` and `demo` make one and keep it in the data directory, and `serve` has no
    /// `dev-token`.
    #[serde(skip_serializing, deserialize_with = "secret")]
    pub dev_secret: Option<Secret>,
}

/// Personal data.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// The master key that wraps the keys of persons, 64 hex digits; without it `master.key` in the data directory, made when
    /// missing. Every API, gateway and worker process needs the same one; whoever loses it loses every profile, account secret and
    /// webhook secret.
    pub master_key_file: Option<PathBuf>,
}

/// Deliveries to merchants.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Deliver to any address over HTTP, too. For development only: merchants choose the addresses.
    pub allow_local: bool,
    /// Waits before the second, third … attempt, milliseconds; without it ten attempts over three days.
    pub waits_ms: Option<Vec<i64>>,
    /// An endpoint that only failed for so long is disabled, seconds; without it five days.
    pub disable_after_seconds: Option<i64>,
}

impl Webhooks {
    /// Where deliveries may go.
    pub const fn addresses(&self) -> gateway::outbound::AddressPolicy {
        if self.allow_local { gateway::outbound::AddressPolicy::Local } else { gateway::outbound::AddressPolicy::Public }
    }

    /// When to try again, and when to give up.
    pub fn policy(&self) -> domain::delivery::Policy {
        let published = domain::delivery::Policy::default();
        domain::delivery::Policy {
            waits_ms: self.waits_ms.clone().unwrap_or(published.waits_ms),
            disable_after: self.disable_after_seconds.and_then(chrono::Duration::try_seconds).unwrap_or(published.disable_after),
        }
    }
}

/// Payment providers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Providers {
    /// SCB, for PromptPay: the platform's own account, for merchants without one.
    #[serde(skip_serializing, deserialize_with = "scb")]
    pub scb: Option<ScbConfig>,
    /// What merchants may set of their own accounts.
    pub accounts: AccountSettings,
}

/// What merchants may set of their own accounts, and what is set for them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountSettings {
    /// Base URL of each provider, by its name, for accounts that name none.
    pub base_urls: BTreeMap<String, String>,
    /// Hosts that an account's own `base_url` may name; no other, or a merchant could have the platform call its own network.
    pub hosts: Vec<String>,
}

/// A secret of digits alone is still a text.
fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let Some(mut value) = Option::<serde_json::Value>::deserialize(deserializer)? else { return Ok(None) };
    as_text(&mut value);
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// Settings of SCB that are numbers; its codes and keys may be digits alone, and are texts.
const SCB_NUMBERS: [&str; 3] = ["timeout_ms", "calls_per_second", "quota_pause_ms"];

/// The gateway's own settings of SCB.
fn scb<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<ScbConfig>, D::Error> {
    let Some(mut settings) = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)? else { return Ok(None) };
    settings.iter_mut().filter(|(name, _)| !SCB_NUMBERS.contains(&name.as_str())).for_each(|(_, value)| as_text(value));
    serde_json::from_value(serde_json::Value::Object(settings)).map(Some).map_err(D::Error::custom)
}

/// The environment hands over a text of digits as a number.
fn as_text(value: &mut serde_json::Value) {
    if value.is_number() {
        *value = serde_json::Value::String(value.to_string());
    }
}

/// Logs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A filter as in `info,commands=debug`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: Http::default(),
            database_url: None,
            migrate_database_url: None,
            nats_url: None,
            redis_url: None,
            limits: Limits::default(),
            data_dir: crate::embedded::default_data_dir(),
            auth: Auth::default(),
            privacy: Privacy::default(),
            providers: Providers::default(),
            webhooks: Webhooks::default(),
            log: Log::default(),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: None,
            keep_alive_seconds: const { NonZeroU32::new(120).unwrap() },
            query_connections: 16,
            call_back_connections: 16,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,sqlx=warn,async_nats=warn,hyper=warn".to_owned() }
    }
}

impl Config {
    /// Reads defaults, the file (which must exist when named) and the environment.
    ///
    /// # Errors
    /// Names the setting that cannot be read and where it came from.
    pub fn load(file: Option<&Path>) -> Result<Self, Box<figment::Error>> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        figment = match file {
            Some(file) => figment.merge(Toml::file_exact(file)),
            None => figment.merge(Toml::file("smartpos.toml")),
        };
        figment
            .merge(Env::raw().only(&["DATABASE_URL", "MIGRATE_DATABASE_URL", "NATS_URL", "REDIS_URL"]))
            .merge(Environment)
            .extract()
            .map_err(Box::new)
    }
}

/// `SMARTPOS_A__B=c` as `a.b = c`. Digits with a leading zero stay text: they are codes, not numbers.
struct Environment;

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named("environment variables SMARTPOS_…")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut data = Dict::new();
        for (key, value) in Env::prefixed("SMARTPOS_").ignore(&["PG_BIN"]).iter() {
            let code = value.len() > 1 && value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
            // Parsing falls back to text by itself.
            let value = if code { Value::from(value) } else { value.parse().unwrap_or_else(|_| Value::from(value.clone())) };
            let path: Vec<String> = key.as_str().split("__").map(str::to_lowercase).collect();
            nest(&mut data, &path, value);
        }
        Ok(Profile::Default.collect(data))
    }
}

fn nest(dict: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => drop(dict.insert(last.clone(), value)),
        [first, rest @ ..] => {
            let inner = dict.entry(first.clone()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                nest(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_digits_come_from_the_environment_whole_and_secrets_are_never_written() {
        let read = |providers: &str| {
            let figment = Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(providers));
            figment.extract::<Config>().map_err(Box::new)
        };
        let config = read(
            "auth.dev_secret = 12345678
             [providers.scb]
             base_url = 'http://127.0.0.1:9'
             api_key = 1234
             api_secret = 'hush'
             biller_id = 123456789012345
             webhook_path_secret = 'hush-hush-hush-hush'
             timeout_ms = 900
             calls_per_second = 5",
        )
        .unwrap();
        let scb = config.providers.scb.clone().unwrap();
        assert_eq!((scb.api_key.reveal(), scb.biller_id.as_str(), scb.timeout_ms), ("1234", "123456789012345", 900));
        assert_eq!((scb.calls_per_second, scb.quota_pause_ms), (Some(5), 1_000));
        assert_eq!(config.auth.dev_secret.as_ref().map(Secret::reveal), Some("12345678"));
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("hush") && !written.contains("12345678"), "{written}");
        let error = read("[providers.scb]\nbase_url = 'http://127.0.0.1:9'\napi_keys = 'hush'").unwrap_err().to_string();
        assert!(error.contains("api_keys") && !error.contains("hush"), "{error}");
    }
}
