//! Merchant: a business or brand under a PSP. Stream `merchant-{MerchantId}`; its id is the tenant of all it owns.
//! Invariant: code unique within the PSP (a claim in the same transaction); deletion is deactivation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    decider::Aggregate,
    envelope::StreamType,
    event::events,
    ids::{MerchantId, PspId},
    rejection::rejections,
};

/// Merchant registered under a PSP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The merchant.
    pub merchant_id: MerchantId,
    /// Its PSP.
    pub psp_id: PspId,
    /// Short code, unique within the PSP.
    pub code: String,
    /// Name for people.
    pub name: String,
}

/// Name changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Renamed {
    /// New name.
    pub name: String,
}

/// Taken out of service; nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deactivated {
    /// Why.
    pub reason: String,
}

events! {
    /// Facts of a merchant.
    {
        /// Registered under a PSP.
        Registered = "merchant.registered" v 1;
        /// Name changed.
        Renamed = "merchant.renamed" v 1;
        /// Taken out of service.
        Deactivated = "merchant.deactivated" v 1;
    }
}

/// What can be asked of a merchant.
#[derive(Debug, Clone)]
pub enum Command {
    /// Register it.
    Register(Registered),
    /// Change its name.
    Rename {
        /// New name.
        name: String,
    },
    /// Take it out of service.
    Deactivate {
        /// Why.
        reason: String,
    },
}

rejections! {
    /// Rules of a merchant.
    {
        MerchantNotFound => Missing, "the merchant does not exist";
        MerchantIdReused => State, "a merchant with this id exists already";
        MerchantNotActive => State, "the merchant is not active";
        NameRequired => Invalid, "name must have 1 to 120 characters";
        CodeInvalid => Invalid, "code must have 1 to 32 characters of A-Z, a-z, 0-9, '-' and '_'";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
    }
}

/// Life of a merchant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never registered.
    #[default]
    Absent,
    /// In service.
    Active,
    /// Out of service.
    Inactive,
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// As registered, with the current name.
    pub details: Option<Registered>,
}

/// The decider.
pub struct Merchant;

/// A code for people and files: 1–32 characters that are safe everywhere.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Text for people: neither blank nor longer than `max` characters nor holding control characters.
pub(crate) fn is_text(text: &str, max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control)
}

impl Aggregate for Merchant {
    const STREAM_TYPE: StreamType = StreamType::Merchant;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Register(_) if state.status != Status::Absent => Err(Rejection::MerchantIdReused),
            Command::Register(details) => {
                if !is_text(&details.name, 120) {
                    return Err(Rejection::NameRequired);
                }
                if !is_code(&details.code) {
                    return Err(Rejection::CodeInvalid);
                }
                Ok(vec![details.into()])
            }
            Command::Rename { .. } | Command::Deactivate { .. } if state.status == Status::Absent => Err(Rejection::MerchantNotFound),
            Command::Rename { name } => {
                if state.status != Status::Active {
                    return Err(Rejection::MerchantNotActive);
                }
                if !is_text(&name, 120) {
                    return Err(Rejection::NameRequired);
                }
                let unchanged = state.details.as_ref().is_some_and(|details| details.name == name);
                Ok(if unchanged { vec![] } else { vec![Renamed { name }.into()] })
            }
            Command::Deactivate { reason } => {
                if state.status == Status::Inactive {
                    return Ok(vec![]);
                }
                if !is_text(&reason, 200) {
                    return Err(Rejection::ReasonRequired);
                }
                Ok(vec![Deactivated { reason }.into()])
            }
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Registered(details) => {
                state.status = Status::Active;
                state.details = Some(details.clone());
            }
            Event::Renamed(renamed) => {
                if let Some(details) = &mut state.details {
                    details.name.clone_from(&renamed.name);
                }
            }
            Event::Deactivated(_) => state.status = Status::Inactive,
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ids::Ulid, testing::given};

    fn registered() -> Registered {
        let (merchant_id, psp_id) = (MerchantId(Ulid::from_bytes([1; 16])), PspId(Ulid::from_bytes([2; 16])));
        Registered { merchant_id, psp_id, code: "KOPI".into(), name: "Kopi House".into() }
    }

    #[test]
    fn a_merchant_is_registered_once() {
        given::<Merchant>(&[]).when(Command::Register(registered())).then(&[registered().into()]);
        given::<Merchant>(&[registered().into()]).when(Command::Register(registered())).then_rejected("MerchantIdReused");
    }

    #[test]
    fn a_blank_name_or_a_strange_code_is_refused() {
        given::<Merchant>(&[]).when(Command::Register(Registered { name: "  ".into(), ..registered() })).then_rejected("NameRequired");
        given::<Merchant>(&[]).when(Command::Register(Registered { code: "a b".into(), ..registered() })).then_rejected("CodeInvalid");
    }

    #[test]
    fn repeating_a_deactivation_changes_nothing() {
        let gone = Deactivated { reason: "closed".into() };
        let history = [registered().into(), gone.into()];
        given::<Merchant>(&history).when(Command::Deactivate { reason: "again".into() }).then(&[]);
        given::<Merchant>(&history).when(Command::Rename { name: "New".into() }).then_rejected("MerchantNotActive");
    }
}
