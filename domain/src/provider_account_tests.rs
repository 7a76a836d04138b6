//! The rules of a provider account.

use serde_json::json;

use super::*;
use crate::{event::AggregateEvent as _, ids::Ulid, testing::given};

fn terms() -> Terms {
    Terms {
        name: "SCB of the airport shops".into(),
        priority: 10,
        methods: vec![MethodKind::PromptPay],
        amounts: vec![AmountRange { currency: Currency::THB, min: 1, max: Some(700_000_00) }],
        settings: BTreeMap::from([("biller_id".to_owned(), json!("099400016550100"))]),
    }
}

fn opened() -> Opened {
    Opened {
        provider_account_id: ProviderAccountId(Ulid::from_bytes([1; 16])),
        provider: "scb".into(),
        store_id: None,
        live: true,
        terms: terms(),
        secrets: SecretMarks::from([("api_secret".to_owned(), "9f3a".to_owned())]),
        sealed: Sealed(b"ciphertext".to_vec()),
    }
}

fn open() -> Command {
    Command::Open(Box::new(opened()))
}

#[test]
fn an_account_is_opened_once() {
    given::<ProviderAccount>(&[]).when(open()).then(&[opened().into()]);
    given::<ProviderAccount>(&[opened().into()]).when(open()).then_rejected("ProviderAccountIdReused");
}

#[test]
fn terms_have_to_make_sense() {
    let code = |change: fn(&mut Terms)| {
        let mut terms = terms();
        change(&mut terms);
        terms.check().err().map(|rejection| rejection.code())
    };
    let thb = |min, max| AmountRange { currency: Currency::THB, min, max };
    assert_eq!(code(|_| {}), None);
    assert_eq!(code(|terms| terms.name = " ".into()), Some("NameRequired"));
    assert_eq!(code(|terms| terms.methods.clear()), Some("MethodsInvalid"));
    assert_eq!(code(|terms| terms.methods.push(MethodKind::PromptPay)), Some("MethodsInvalid"));
    assert_eq!(code(|terms| terms.amounts.clear()), Some("AmountsInvalid"));
    assert_eq!(code(|terms| terms.amounts.push(terms.amounts[0])), Some("AmountsInvalid"));
    assert_eq!(code(|terms| terms.amounts[0].min = 0), Some("AmountsInvalid"));
    assert_eq!(code(|terms| terms.amounts[0].max = Some(0)), Some("AmountsInvalid"));
    assert_eq!(code(|terms| drop(terms.settings.insert("x".into(), json!("y".repeat(9_000))))), Some("SettingsTooLarge"));
    assert!(thb(5, Some(9)).holds(5) && thb(5, Some(9)).holds(9) && thb(1, None).holds(i64::MAX));
    assert!(!thb(5, Some(9)).holds(4) && !thb(5, Some(9)).holds(10));
}

#[test]
fn changing_to_the_same_terms_changes_nothing() {
    let change = |terms: Terms| Command::ChangeTerms(Box::new(terms));
    let other = Terms { priority: 20, ..terms() };
    given::<ProviderAccount>(&[opened().into()]).when(change(terms())).then(&[]);
    given::<ProviderAccount>(&[opened().into()]).when(change(other.clone())).then(&[TermsChanged { terms: other.clone() }.into()]);
    given::<ProviderAccount>(&[]).when(change(other)).then_rejected("ProviderAccountNotFound");
    let broken = Terms { methods: vec![], ..terms() };
    given::<ProviderAccount>(&[opened().into()]).when(change(broken)).then_rejected("MethodsInvalid");
}

#[test]
fn an_account_goes_out_of_service_and_back() {
    let disable = || Command::Disable { reason: "contract ended".into() };
    let disabled = || Disabled { reason: "contract ended".into() }.into();
    given::<ProviderAccount>(&[opened().into()]).when(disable()).then(&[disabled()]);
    given::<ProviderAccount>(&[opened().into(), disabled()]).when(disable()).then(&[]);
    given::<ProviderAccount>(&[opened().into()]).when(Command::Disable { reason: "\n".into() }).then_rejected("ReasonRequired");
    given::<ProviderAccount>(&[opened().into(), disabled()]).when(Command::Enable).then(&[Enabled {}.into()]);
    given::<ProviderAccount>(&[opened().into()]).when(Command::Enable).then(&[]);
    given::<ProviderAccount>(&[]).when(Command::Enable).then_rejected("ProviderAccountNotFound");
}

#[test]
fn replaced_secrets_leave_their_marks_and_how_long_the_former_ones_are_good() {
    let until = DateTime::from_timestamp(1_800_000_000, 0);
    let marks = SecretMarks::from([("api_secret".to_owned(), "0c0c".to_owned())]);
    let replaced = SecretsReplaced { secrets: marks.clone(), former_good_until: until, sealed: Sealed(b"other".to_vec()) };
    let command =
        || Command::ReplaceSecrets { replaced: Box::new(replaced.clone()), now: DateTime::from_timestamp(1_700_000_000, 0).unwrap() };
    given::<ProviderAccount>(&[opened().into()]).when(command()).then(&[replaced.clone().into()]);
    given::<ProviderAccount>(&[]).when(command()).then_rejected("ProviderAccountNotFound");
    let state = ProviderAccount::fold(&[opened().into(), replaced.clone().into()]);
    assert_eq!((state.former_good_until, &state.known().unwrap().secrets), (until, &marks));
}

#[test]
fn a_second_replacement_within_the_overlap_is_refused_unless_it_keeps_nothing() {
    let until = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let replaced = |former_good_until| SecretsReplaced { secrets: SecretMarks::new(), former_good_until, sealed: Sealed(b"x".to_vec()) };
    let command = |former_good_until, seconds: i64| Command::ReplaceSecrets {
        replaced: Box::new(replaced(former_good_until)),
        now: until + chrono::Duration::seconds(seconds),
    };
    let history = [opened().into(), replaced(Some(until)).into()];
    let later = Some(until + chrono::Duration::days(1));
    given::<ProviderAccount>(&history).when(command(later, -1)).then_rejected("OverlapUnderWay");
    given::<ProviderAccount>(&history).when(command(None, -1)).then(&[replaced(None).into()]);
    given::<ProviderAccount>(&history).when(command(later, 0)).then(&[replaced(later).into()]);
}

#[test]
fn sealed_secrets_stand_beside_the_payload_and_neither_in_it_nor_in_the_state() {
    let stored = Event::from(opened()).encode();
    assert_eq!(stored.pii.as_deref(), Some(&b"ciphertext"[..]));
    assert!(!String::from_utf8(stored.payload).unwrap().contains("ciphertext"));
    let state = ProviderAccount::fold(&[opened().into()]);
    assert_eq!(state.known().unwrap().sealed, Sealed::default());
}
