//! TCP ports of the embedded servers on 127.0.0.1.

use std::net::{Ipv4Addr, TcpListener};

use super::EmbeddedError;

/// Below the range Linux takes source ports from (32768 and up). In that range an outgoing connection could occupy the
/// port between two starts, and a client knocking on the closed port could even connect to itself.
const FIRST: u16 = 20_000;
const LAST: u16 = 29_999;
const ATTEMPTS: usize = 200;

/// Nothing listens there.
pub(super) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The kept port while it is free, else a random free one: URLs that clients remember stay valid.
pub(super) fn choose(kept: Option<u16>) -> Result<u16, EmbeddedError> {
    if let Some(port) = kept.filter(|port| is_free(*port)) {
        return Ok(port);
    }
    for _ in 0..ATTEMPTS {
        let mut bytes = [0_u8; 2];
        getrandom::fill(&mut bytes)?;
        let port = FIRST + u16::from_le_bytes(bytes) % (LAST - FIRST + 1);
        if is_free(port) {
            return Ok(port);
        }
    }
    Err(EmbeddedError::NoFreePort { from: FIRST, to: LAST })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_port_stays_until_something_else_listens_on_it() {
        let port = choose(None).unwrap();
        assert_eq!(choose(Some(port)).unwrap(), port);
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_ne!(choose(Some(port)).unwrap(), port);
    }
}
