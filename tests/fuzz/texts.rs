//! Short texts: ids, entity tags, keys, topics, addresses of webhooks.

use std::net::IpAddr;

use api::{
    extract::{Correlation, idempotency_key, if_match, version_of},
    ws::topic::Topic,
};
use domain::ids::{BillId, CustomerId, MerchantId, OrderId, PaymentId, PaymentIntentId, RefundId, StoreId};
use gateway::outbound::{AddressPolicy, check_url};
use reqwest::header::HeaderMap;

use crate::{Tally, edits::Samples, fuzz};

/// The names of the kinds that take this text, each with what it is written as again.
fn read_as_ids(text: &str) -> Vec<String> {
    [
        text.parse::<OrderId>().ok().map(|id| id.to_string()),
        text.parse::<BillId>().ok().map(|id| id.to_string()),
        text.parse::<PaymentId>().ok().map(|id| id.to_string()),
        text.parse::<PaymentIntentId>().ok().map(|id| id.to_string()),
        text.parse::<RefundId>().ok().map(|id| id.to_string()),
        text.parse::<StoreId>().ok().map(|id| id.to_string()),
        text.parse::<MerchantId>().ok().map(|id| id.to_string()),
        text.parse::<CustomerId>().ok().map(|id| id.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn ids_tags_and_keys_have_one_spelling() {
    let tally = Tally::default();
    fuzz!(1_500, Samples::of("texts"), |input| {
        let mut seen = false;
        if let Some(text) = input.text() {
            let ids = read_as_ids(text);
            assert!(ids.len() <= 1 && ids.iter().all(|id| id == text), "{text} is read as {ids:?}");
            let topic = Topic::parse(text);
            assert!(topic.is_none_or(|topic| topic.name() == text), "{text}");
            let version = version_of(text);
            if let Some(version) = version {
                let digits: String = text.chars().filter(char::is_ascii_digit).collect();
                assert_eq!(digits.trim_start_matches('0'), version.to_string().trim_start_matches('0'), "{text}");
            }
            seen = !ids.is_empty() || topic.is_some() || version.is_some();
        }
        if let Ok(value) = reqwest::header::HeaderValue::from_bytes(&input.bytes) {
            let headers = |name: &'static str| HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.clone())]);
            if let Ok(Some(key)) = idempotency_key(&headers("idempotency-key")) {
                assert!(key.as_bytes() == input.bytes && key.len() <= 255 && key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
            if let Some(correlation) = Correlation::given(&headers("smartpos-correlation-id")) {
                assert_eq!(correlation.0.to_string().as_bytes(), input.bytes);
                seen = true;
            }
            if let Ok(Some(version)) = if_match(&headers("if-match")) {
                assert!(version >= 0 && version_of(input.text().unwrap_or_default()) == Some(version));
            }
        }
        if seen { tally.accepted() } else { tally.refused() }
    });
    tally.has_seen_both("texts");
}

/// An address that nobody's webhook can have, by the standard library's words and a few ranges that it has none for.
fn is_inside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || (a == 100 && (64..128).contains(&b))
                || a == 0
                || a >= 240
                || (a == 198 && (b == 18 || b == 19))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4_mapped().is_some_and(|v4| is_inside(v4.into()))
        }
    }
}

#[test]
fn webhooks_go_to_public_https_addresses_only() {
    let tally = Tally::default();
    fuzz!(1_500, Samples::of("urls"), |input| {
        let Some(text) = input.text() else { return tally.refused() };
        let Ok(url) = check_url(text, AddressPolicy::Public) else { return tally.refused() };
        tally.accepted();
        assert!(url.scheme() == "https" && url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
        assert!(matches!(url.port_or_known_default(), Some(443 | 1024..)), "{url}");
        let host = url.host_str().unwrap();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        assert!(!address.is_ok_and(is_inside), "{url} leads inside");
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        assert!(!["localhost", "local", "internal"].iter().any(|end| name == *end || name.ends_with(&format!(".{end}"))), "{url}");
        assert_eq!(check_url(url.as_str(), AddressPolicy::Public).as_ref(), Ok(&url), "what is stored is checked again at each delivery");
        assert!(check_url(text, AddressPolicy::Local).is_ok());
    });
    tally.has_seen_both("urls");
}
