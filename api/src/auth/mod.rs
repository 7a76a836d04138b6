//! Who may do what: tokens prove a [`Principal`], its [`Role`] decides, [`Allowed`] stands in front of each handler.

pub mod admit;
pub mod key;
pub mod payment_token;
pub mod principal;
pub mod role;
pub mod sight;
pub mod signature;
pub mod token;

use std::marker::PhantomData;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

pub use key::{SigningKey, load_or_create_key};
pub use principal::{Principal, Proof};
pub use role::{Permission, Policy, Role, may};
pub use sight::Sight;
pub use token::{TokenIssuer, TokenRequest, TokenVerifier};

use crate::{problem::Problem, state::AppState};

/// A caller whose token was believed and whose role holds the permission `P`. The first argument of every handler of a
/// tenant's data, so that nothing else of the request is looked at before.
#[derive(Debug)]
pub struct Allowed<P: Policy> {
    /// The caller.
    pub principal: Principal,
    policy: PhantomData<P>,
}

impl<P: Policy> FromRequestParts<AppState> for Allowed<P> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let principal = match parts.extensions.get::<Principal>() {
            Some(admitted) => admitted.clone(),
            None => state.authenticate(bearer(&parts.headers)?)?,
        };
        principal.demand(P::PERMISSION)?;
        Ok(Self { principal, policy: PhantomData })
    }
}

/// The token in `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let missing = || Problem::unauthorized("the request needs a header 'Authorization: Bearer <token>'");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(missing());
    }
    let (scheme, token) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

impl AppState {
    /// Who bears this token.
    ///
    /// # Errors
    /// `Unauthenticated`, whatever is wrong with it; the log says what.
    pub fn authenticate(&self, token: &str) -> Result<Principal, Problem> {
        self.verifier.verify(token, self.clock.now()).map_err(|error| {
            tracing::info!(%error, "a token was refused");
            Problem::unauthorized("the token is not valid, or not any more")
        })
    }
}
