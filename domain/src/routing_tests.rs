//! Which account a payment goes to.

use proptest::prelude::*;

use super::*;
use crate::{ids::Ulid, money::Currency};

fn store(n: u8) -> StoreId {
    StoreId(Ulid::from_bytes([n; 16]))
}

#[expect(clippy::unnecessary_wraps, reason = "what the candidate holds")]
fn thb(max: i64) -> Option<Vec<AmountRange>> {
    Some(vec![AmountRange { currency: Currency::THB, min: 1, max: Some(max) }])
}

fn account(name: &str, provider: &str) -> Candidate {
    Candidate {
        account: name.into(),
        provider: provider.into(),
        store: None,
        enabled: true,
        live: true,
        priority: 10,
        methods: vec![MethodKind::PromptPay],
        amounts: thb(700_000_00),
        health: Health::Good,
    }
}

fn request(satang: i64) -> Request<'static> {
    Request { method: MethodKind::PromptPay, amount: Money::new(satang, Currency::THB), store: store(1), failed_at: &[] }
}

fn order(request: &Request<'_>, candidates: &[Candidate]) -> Vec<String> {
    route(request, candidates).map(|choices| choices.into_iter().map(|choice| choice.account).collect()).unwrap_or_default()
}

#[test]
fn the_lower_priority_is_asked_first_and_equal_ones_in_the_order_of_their_names() {
    let late = Candidate { priority: 20, ..account("a", "scb") };
    assert_eq!(order(&request(100), &[late, account("c", "kbank"), account("b", "omise")]), ["b", "c", "a"]);
}

#[test]
fn an_account_whose_provider_is_away_comes_last_but_is_not_left_out() {
    let away = Candidate { health: Health::Away, priority: 1, ..account("a", "scb") };
    let recovering = Candidate { health: Health::Recovering, priority: 5, ..account("b", "omise") };
    assert_eq!(order(&request(100), &[away.clone(), recovering, account("c", "kbank")]), ["c", "b", "a"]);
    assert_eq!(order(&request(100), &[away]), ["a"]);
}

#[test]
fn a_store_s_own_account_replaces_the_merchant_s_at_the_same_provider() {
    let own = Candidate { store: Some(store(1)), priority: 99, ..account("own", "scb") };
    let all = [account("merchant", "scb"), own.clone(), account("other", "kbank")];
    assert_eq!(order(&request(100), &all), ["other", "own"]);
    // Not in another store, and not once it is out of service.
    assert_eq!(order(&Request { store: store(2), ..request(100) }, &all), ["merchant", "other"]);
    assert_eq!(order(&request(100), &[account("merchant", "scb"), Candidate { enabled: false, ..own }]), ["merchant"]);
}

#[test]
fn what_does_not_fit_is_passed_over_with_its_reason() {
    let card = Candidate { methods: vec![MethodKind::Card], ..account("card", "stripe") };
    let yen = Candidate { amounts: Some(vec![AmountRange { currency: "JPY".parse().unwrap(), min: 1, max: None }]), ..account("yen", "x") };
    let small = Candidate { amounts: thb(50), ..account("small", "kbank") };
    let off = Candidate { enabled: false, ..account("off", "omise") };
    let why = route(&request(100), &[card, yen, small, off]).unwrap_err().why;
    assert_eq!(
        why,
        "promptpay of 100 THB minor units: none fits; passed over card: does not take the method, yen: does not take the currency, \
         small: takes 1 to 50 THB minor units, off: disabled"
    );
    assert_eq!(route(&request(100), &[]).unwrap_err().why, "promptpay of 100 THB minor units: there is none");
}

#[test]
fn a_test_account_serves_only_where_no_live_one_does() {
    let test = Candidate { live: false, priority: 1, ..account("test", "scb") };
    assert_eq!(order(&request(100), &[test.clone(), account("live", "kbank")]), ["live"]);
    assert_eq!(order(&request(100), std::slice::from_ref(&test)), ["test"]);
    let off = Candidate { enabled: false, ..account("live", "kbank") };
    assert!(order(&request(100), &[test.clone(), off]).is_empty(), "a live account that is switched off is no reason to sell for nothing");
    let elsewhere = Candidate { store: Some(store(2)), ..account("live", "kbank") };
    assert_eq!(order(&request(100), &[test, elsewhere]), ["test"]);
}

#[test]
fn the_choice_says_why() {
    let choices = route(&request(100), &[account("pac_A", "scb"), Candidate { enabled: false, ..account("pac_B", "kbank") }]).unwrap();
    assert_eq!(
        choices[0].why,
        "the merchant's scb account, priority 10: 1 of 1 that take promptpay of 100 THB minor units; passed over pac_B: disabled"
    );
}

#[test]
fn where_an_attempt_failed_none_follows() {
    let failed = ["a".to_owned()];
    let again = Request { failed_at: &failed, ..request(100) };
    assert_eq!(order(&again, &[account("a", "scb"), account("b", "kbank")]), ["b"]);
    assert!(order(&again, &[account("a", "scb")]).is_empty());
}

#[test]
fn only_failures_of_the_provider_are_tried_elsewhere() {
    assert!(may_succeed_elsewhere("provider_unavailable") && may_succeed_elsewhere("credentials_refused"));
    for of_the_payer in ["card_declined", "insufficient_funds", "invalid_request", "amount_too_small", "", "unknown"] {
        assert!(!may_succeed_elsewhere(of_the_payer), "{of_the_payer}");
    }
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let health = prop_oneof![Just(Health::Good), Just(Health::Recovering), Just(Health::Away)];
    (0_u8..6, 0_u8..3, 0_u8..3, any::<bool>(), any::<bool>(), 0_u16..4, 1_i64..200, health).prop_map(
        |(name, provider, shop, enabled, live, priority, max, health)| Candidate {
            store: (shop > 0).then(|| store(shop)),
            enabled,
            live,
            priority,
            amounts: thb(max),
            health,
            ..account(&format!("pac_{name}"), ["scb", "kbank", "omise"][usize::from(provider)])
        },
    )
}

proptest! {
    #[test]
    fn a_choice_takes_the_payment_is_made_once_and_does_not_depend_on_the_order(
        mut candidates in proptest::collection::vec(any_candidate(), 0..7), satang in 1_i64..200, failed in proptest::collection::vec(0_u8..6, 0..3),
    ) {
        candidates.sort_by(|a, b| a.account.cmp(&b.account));
        candidates.dedup_by(|a, b| a.account == b.account);
        let failed: Vec<String> = failed.into_iter().map(|n| format!("pac_{n}")).collect();
        let asked = Request { failed_at: &failed, ..request(satang) };
        let chosen = order(&asked, &candidates);
        for account in &chosen {
            let candidate = candidates.iter().find(|candidate| &candidate.account == account).unwrap();
            prop_assert!(candidate.enabled && !failed.contains(account));
            prop_assert!(candidate.store.is_none_or(|shop| shop == store(1)));
            prop_assert!(candidate.amounts.as_ref().unwrap()[0].holds(satang));
        }
        let mut turned = candidates.clone();
        turned.reverse();
        prop_assert_eq!(&chosen, &order(&asked, &turned));
        let mut once = chosen.clone();
        once.dedup();
        prop_assert_eq!(once.len(), chosen.len());
        // Every account that is tried is one less: falling back ends.
        if let Some(first) = chosen.first() {
            let mut more = failed.clone();
            more.push(first.clone());
            let next = order(&Request { failed_at: &more, ..request(satang) }, &candidates);
            prop_assert_eq!(&chosen[1..], &next[..]);
        }
    }
}
