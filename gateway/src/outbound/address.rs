//! Which addresses a delivery may go to. Merchants choose the URL, so it must not lead into our own networks.
//!
//! A URL is checked when it is given and again at every delivery. Names are resolved at each connection, and only to addresses
//! that pass: the address that was checked is the one that is connected to, so a name that changes its mind gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Where deliveries may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPolicy {
    /// HTTPS to public addresses.
    Public,
    /// Anything over HTTP or HTTPS; for development and tests.
    Local,
}

/// Why a URL is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("it is not an absolute URL")]
    Malformed,
    /// Another scheme.
    #[error("only https is allowed")]
    Scheme,
    /// A user or a password, which would stand in the clear.
    #[error("it must not name a user or a password")]
    Credentials,
    /// A fragment is never sent.
    #[error("it must not have a fragment")]
    Fragment,
    /// A port of another service.
    #[error("the port must be 443 or above 1023")]
    Port,
    /// An address within our own or a private network.
    #[error("it names no public address")]
    NotPublic,
}

/// Checks a URL as far as it says itself where it leads.
///
/// # Errors
/// The rule that it breaks.
pub fn check_url(text: &str, policy: AddressPolicy) -> Result<Url, TargetError> {
    let url = Url::parse(text).map_err(|_| TargetError::Malformed)?;
    let plain = policy == AddressPolicy::Local && url.scheme() == "http";
    if url.scheme() != "https" && !plain {
        return Err(TargetError::Scheme);
    }
    let host = url.host_str().ok_or(TargetError::Malformed)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::Credentials);
    }
    if url.fragment().is_some() {
        return Err(TargetError::Fragment);
    }
    if policy == AddressPolicy::Local {
        return Ok(url);
    }
    // The parser has already made `0x7f.1` and `2130706433` what a connection would make of them.
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if address.is_ok_and(|address| !is_public(address)) || is_local_name(host) {
        return Err(TargetError::NotPublic);
    }
    match url.port_or_known_default() {
        Some(443 | 1024..) => Ok(url),
        _ => Err(TargetError::Port),
    }
}

fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    ["localhost", "local", "internal", "lan", "home.arpa"]
        .iter()
        .any(|end| host.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Whether an address belongs to the public internet.
/// Source: the IANA special-purpose address registries for IPv4 and IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = match (a, b, c) {
        (0 | 10 | 127 | 224.., _, _) // this network, private, loopback, multicast, reserved and broadcast
        | (100, 64..=127, _)         // carrier-grade NAT
        | (169, 254, _)              // link-local, where clouds keep their metadata
        | (172, 16..=31, _)
        | (192, 168, _)
        | (192, 0, 0 | 2)            // protocol assignments, documentation
        | (192, 88, 99)              // 6to4 relays
        | (198, 18 | 19, _)          // benchmarks
        | (198, 51, 100)
        | (203, 0, 113) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, ..] = address.segments();
    let last_four = |octets: [u8; 16]| Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    // NAT64 carries an IPv4 address in its last 32 bits.
    if (first, second, third) == (0x64, 0xff9b, 0) {
        return is_public_v4(last_four(address.octets()));
    }
    // Only 2000::/3 is given out; of it these are not public: Teredo and other protocol assignments, documentation, 6to4.
    let given_out = first & 0xe000 == 0x2000;
    let special = (first == 0x2001 && (second < 0x200 || second == 0xdb8)) || first == 0x2002 || (first == 0x3fff && second < 0x1000);
    given_out && !special
}

/// Resolves names and leaves only addresses that a delivery may go to.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckedResolver(pub AddressPolicy);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| policy == AddressPolicy::Local || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Box::new(TargetError::NotPublic) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let inside = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "100::1",
            "3fff::1",
            "4000::1",
        ];
        for text in inside {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "203.0.114.1",
            "::ffff:8.8.8.8",
            "2606:4700::1111",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_url_that_leads_inside_is_refused_however_it_is_written() {
        use TargetError as E;
        let refused = |text: &str| check_url(text, AddressPolicy::Public).err();
        for (text, why) in [
            ("", E::Malformed),
            ("/hooks", E::Malformed),
            ("https://", E::Malformed),
            ("http://shop.example/", E::Scheme),
            ("file:///etc/passwd", E::Scheme),
            ("gopher://shop.example/", E::Scheme),
            ("https://user@shop.example/", E::Credentials),
            ("https://:pw@shop.example/", E::Credentials),
            ("https://shop.example/#x", E::Fragment),
            ("https://shop.example:22/", E::Port),
            ("https://shop.example:80/", E::Port),
            ("https://127.0.0.1/", E::NotPublic),
            ("https://0x7f.1/", E::NotPublic),
            ("https://2130706433/", E::NotPublic),
            ("https://0177.0.0.1/", E::NotPublic),
            ("https://[::1]/", E::NotPublic),
            ("https://[::ffff:7f00:1]/", E::NotPublic),
            ("https://169.254.169.254/latest/meta-data/", E::NotPublic),
            ("https://localhost/", E::NotPublic),
            ("https://LOCALHOST./", E::NotPublic),
            ("https://db.internal/", E::NotPublic),
            ("https://a.localhost/", E::NotPublic),
            ("https://１２７.0.0.1/", E::NotPublic),
        ] {
            assert_eq!(refused(text), Some(why), "{text}");
        }
        for text in ["https://shop.example/hooks?a=b", "https://shop.example:8443/", "https://8.8.8.8/", "https://notlocalhost.example/"] {
            assert_eq!(refused(text), None, "{text}");
        }
        assert!(check_url("http://127.0.0.1:9/hooks", AddressPolicy::Local).is_ok());
        assert_eq!(check_url("ftp://127.0.0.1/", AddressPolicy::Local).err(), Some(E::Scheme));
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_the_inside_is_not_connected_to() {
        let resolve = |policy| CheckedResolver(policy).resolve("localhost".parse().unwrap());
        assert!(resolve(AddressPolicy::Public).await.is_err());
        assert!(resolve(AddressPolicy::Local).await.is_ok());
    }
}
