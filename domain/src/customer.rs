//! Customer: a person known to a merchant. Stream `customer-{CustomerId}`.
//!
//! Invariant: nothing here names the person. Personal fields ([`Profile`]) are checked in the clear and sealed under the
//! person's own key before an event is decided; events carry only the ciphertext, in the log's personal-data column, and the
//! state remembers none of it. Once erased, always erased: the key is destroyed in the transaction that stores the fact.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{decider::Aggregate, envelope::StreamType, event::events, ids::CustomerId, merchant::is_text, rejection::rejections};

/// What a merchant may know of a person, in the clear. At least one field is given.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name, 1 to 120 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Telephone number in E.164 form: `+`, then 7 to 15 digits, the first not zero.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub phone: Option<String>,
    /// E-mail address, at most 254 characters.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<String>,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Profile(..)") // never in a log line
    }
}

impl Profile {
    /// Checks every field.
    ///
    /// # Errors
    /// The rule that a field breaks; the refusal does not repeat what was sent.
    pub fn check(&self) -> Result<(), Rejection> {
        if self.name.is_none() && self.phone.is_none() && self.email.is_none() {
            return Err(Rejection::ProfileEmpty);
        }
        if self.name.as_deref().is_some_and(|name| !is_text(name, 120)) {
            return Err(Rejection::NameInvalid);
        }
        if self.phone.as_deref().is_some_and(|phone| !is_e164(phone)) {
            return Err(Rejection::PhoneInvalid);
        }
        if self.email.as_deref().is_some_and(|email| !is_address(email)) {
            return Err(Rejection::EmailInvalid);
        }
        Ok(())
    }
}

/// Source: ITU-T E.164, §6.2: a country code and number of at most 15 digits together.
fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether a text can be an address at all; only a message to it would prove more.
fn is_address(text: &str) -> bool {
    let plain = text.len() <= 254 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    plain && text.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.starts_with('.'))
}

/// A [`Profile`], or the secrets of an account or an endpoint, as ciphertext under the key of whoever it belongs to.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Sealed(pub Vec<u8>);

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// Customer registered with a merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// The customer.
    pub customer_id: CustomerId,
    /// The sealed profile; stored beside the payload, never in it.
    #[serde(skip)]
    pub profile: Sealed,
}

/// What is known of the person changed; the new profile replaces the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileChanged {
    /// The customer.
    pub customer_id: CustomerId,
    /// The sealed profile; stored beside the payload, never in it.
    #[serde(skip)]
    pub profile: Sealed,
}

/// Why a person was forgotten: a word and no free text, in which the person could be named again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErasureReason {
    /// The person asked for it.
    Requested,
    /// The time for which it may be kept is over.
    RetentionEnded,
    /// It should never have been registered.
    Mistake,
}

/// The person's key was destroyed: every profile of this stream is unreadable from here on, wherever it was copied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Erased {
    /// The customer.
    pub customer_id: CustomerId,
    /// Why.
    pub reason: ErasureReason,
}

events! {
    /// Facts of a customer.
    {
        /// Registered with a merchant.
        Registered = "customer.registered" v 1 sealed profile;
        /// What is known of the person changed.
        ProfileChanged = "customer.profile_changed" v 1 sealed profile;
        /// The person's key was destroyed.
        Erased = "customer.erased" v 1;
    }
}

/// What can be asked of a customer. Profiles come sealed; see [`Profile::check`].
#[derive(Debug, Clone)]
pub enum Command {
    /// Register the person.
    Register(Registered),
    /// Replace what is known of the person.
    ChangeProfile {
        /// The new profile.
        profile: Sealed,
    },
    /// Forget the person.
    Erase {
        /// Why.
        reason: ErasureReason,
    },
}

rejections! {
    /// Rules of a customer.
    {
        CustomerNotFound => Missing, "the customer does not exist";
        CustomerIdReused => State, "a customer with this id exists already";
        CustomerErased => State, "the customer was erased";
        ProfileEmpty => Invalid, "a name, a phone or an email is required";
        NameInvalid => Invalid, "name must have 1 to 120 characters";
        PhoneInvalid => Invalid, "phone must be in E.164 form: + and 7 to 15 digits";
        EmailInvalid => Invalid, "email must be an address of at most 254 characters";
    }
}

/// Life of a customer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Never registered.
    #[default]
    Absent,
    /// Known.
    Active,
    /// Forgotten.
    Erased,
}

/// What is remembered: nothing personal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Life.
    pub status: Status,
    /// The customer, once registered.
    pub customer_id: Option<CustomerId>,
    /// Why the person was forgotten.
    pub erasure_reason: Option<ErasureReason>,
}

impl State {
    fn known(&self) -> Result<CustomerId, Rejection> {
        match (self.status, self.customer_id) {
            (Status::Active, Some(customer_id)) => Ok(customer_id),
            (Status::Erased, _) => Err(Rejection::CustomerErased),
            (Status::Absent | Status::Active, _) => Err(Rejection::CustomerNotFound),
        }
    }
}

/// The decider.
pub struct Customer;

impl Aggregate for Customer {
    const STREAM_TYPE: StreamType = StreamType::Customer;
    const STATE_SCHEMA: i16 = 1;
    type Command = Command;
    type Event = Event;
    type State = State;
    type Rejection = Rejection;

    fn decide(state: &State, command: Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Register(_) if state.status != Status::Absent => Err(Rejection::CustomerIdReused),
            Command::Register(registered) => Ok(vec![registered.into()]),
            // Ciphertexts of equal profiles differ, so a repeat cannot be seen here; its idempotency key tells.
            Command::ChangeProfile { profile } => Ok(vec![ProfileChanged { customer_id: state.known()?, profile }.into()]),
            Command::Erase { .. } if state.status == Status::Erased => Ok(vec![]),
            Command::Erase { reason } => Ok(vec![Erased { customer_id: state.known()?, reason }.into()]),
        }
    }

    fn evolve(mut state: State, event: &Event) -> State {
        match event {
            Event::Registered(registered) => {
                state.status = Status::Active;
                state.customer_id = Some(registered.customer_id);
            }
            Event::ProfileChanged(_) => {}
            Event::Erased(erased) => {
                state.status = Status::Erased;
                state.erasure_reason = Some(erased.reason);
            }
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::AggregateEvent as _, ids::Ulid, testing::given};

    fn id() -> CustomerId {
        CustomerId(Ulid::from_bytes([1; 16]))
    }
    fn registered() -> Registered {
        Registered { customer_id: id(), profile: Sealed(b"ciphertext".to_vec()) }
    }
    fn erased() -> Erased {
        Erased { customer_id: id(), reason: ErasureReason::Requested }
    }

    #[test]
    fn a_customer_is_registered_once() {
        given::<Customer>(&[]).when(Command::Register(registered())).then(&[registered().into()]);
        given::<Customer>(&[registered().into()]).when(Command::Register(registered())).then_rejected("CustomerIdReused");
    }

    #[test]
    fn a_profile_is_replaced_while_the_person_is_known() {
        let profile = Sealed(b"other".to_vec());
        let change = || Command::ChangeProfile { profile: profile.clone() };
        let changed = ProfileChanged { customer_id: id(), profile: profile.clone() };
        given::<Customer>(&[registered().into()]).when(change()).then(&[changed.into()]);
        given::<Customer>(&[]).when(change()).then_rejected("CustomerNotFound");
        given::<Customer>(&[registered().into(), erased().into()]).when(change()).then_rejected("CustomerErased");
    }

    #[test]
    fn erasing_is_once_and_for_all() {
        let erase = || Command::Erase { reason: ErasureReason::Requested };
        given::<Customer>(&[registered().into()]).when(erase()).then(&[erased().into()]);
        given::<Customer>(&[registered().into(), erased().into()]).when(erase()).then(&[]);
        given::<Customer>(&[]).when(erase()).then_rejected("CustomerNotFound");
        given::<Customer>(&[registered().into(), erased().into()]).when(Command::Register(registered())).then_rejected("CustomerIdReused");
    }

    #[test]
    fn a_sealed_profile_stands_beside_the_payload_and_not_in_it() {
        let stored = Event::from(registered()).encode();
        assert_eq!(stored.pii.as_deref(), Some(&b"ciphertext"[..]));
        assert_eq!(stored.payload, format!(r#"{{"customer_id":"{}"}}"#, id()).as_bytes());
        assert_eq!(Event::from(erased()).encode().pii, None);
    }

    #[test]
    fn a_profile_has_to_make_sense() {
        let code = |change: fn(&mut Profile)| {
            let mut profile = Profile { name: Some("สมชาย ใจดี".into()), phone: None, email: None };
            change(&mut profile);
            profile.check().err().map(|rejection| rejection.code())
        };
        assert_eq!(code(|_| {}), None);
        assert_eq!(code(|profile| profile.name = None), Some("ProfileEmpty"));
        assert_eq!(code(|profile| profile.name = Some(" ".into())), Some("NameInvalid"));
        for good in ["+66812345678", "+1234567", "+123456789012345"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in ["", "+", "0812345678", "+0812345678", "+66 812345678", "+123456", "+1234567890123456", "+66๑23456"] {
            assert!(!is_e164(bad), "{bad}");
        }
        for bad in ["", "a", "@b.c", "a@b", "a@.b", "a b@c.d", "a\u{0}@c.d"] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(is_address("somchai@example.co.th"));
    }

    #[test]
    fn nothing_shows_a_profile_by_accident() {
        let profile = Profile { name: Some("Somchai".into()), ..Profile::default() };
        assert!(!format!("{profile:?}{:?}", registered()).contains("Somchai"));
    }
}
