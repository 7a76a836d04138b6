use domain::{
    bill::{self, Bill},
    decider::Aggregate,
    ids::{AttemptId, BillId, LineId, OrderId, PaymentIntentId, RefundId, StoreId, Ulid},
    merchant,
    order::{self, LineAdded, Order, OrderType},
    payment_intent::{self, Created, Evidence, PaymentIntent, PaymentReport, Tender},
    pricing::{Discount, TaxClass, TaxProfile},
};
use serde_json::{Value, json};

use super::*;

fn ulid(n: u8) -> Ulid {
    Ulid::from_bytes([n; 16])
}

fn after<A: Aggregate>(commands: Vec<A::Command>) -> A::State
where
    A::Rejection: std::fmt::Debug,
{
    commands.into_iter().fold(A::State::default(), |state, command| {
        let events = A::decide(&state, command).unwrap();
        events.iter().fold(state, A::evolve)
    })
}

fn shown<S, R: Resource<S>>(state: &S) -> Value {
    serde_json::to_value(R::of(state, 4).unwrap()).unwrap()
}

fn line(n: u8, unit_price: i64, quantity_milli: i64) -> order::Command {
    let (item_code, name) = (format!("I{n}"), format!("Item {n}"));
    let line_id = LineId(ulid(n));
    order::Command::AddLine(LineAdded {
        line_id,
        item_code,
        name,
        quantity_milli,
        unit_price,
        price_base_milli: 1000,
        tax_class: TaxClass::Standard,
        discount: None,
    })
}

fn order() -> order::State {
    let opened = order::Opened {
        order_id: OrderId(ulid(1)),
        store_id: StoreId(ulid(2)),
        currency: Currency::THB,
        tax_profile: TaxProfile::thai_vat_inclusive(),
        business_date: chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
        order_type: OrderType::DineIn,
        table_number: Some("7".into()),
        order_number: None,
    };
    let discount = Discount::Percent { basis_points: 1000 };
    after::<Order>(vec![
        order::Command::Open(Box::new(opened)),
        line(3, 100_00, 2000),
        line(4, 50_00, 1000),
        line(5, 7_00, 1000),
        order::Command::VoidLine { line_id: LineId(ulid(4)), reason: "cold".into() },
        order::Command::ApplyDiscount { discount, reason: "member".into() },
    ])
}

#[test]
fn an_order_shows_all_lines_and_prices_the_live_ones() {
    let shown = shown::<_, OrderResource>(&order());
    assert_eq!(shown["id"], OrderId(ulid(1)).to_string());
    assert_eq!((&shown["status"], &shown["order_type"], &shown["version"]), (&json!("open"), &json!("dine_in"), &json!(4)));
    assert_eq!(shown["lines"].as_array().unwrap().len(), 3);
    assert_eq!(shown["lines"][1]["voided"], true);
    assert_eq!(shown["lines"][1]["total"], Value::Null);
    assert_eq!(shown["totals"]["subtotal"], json!({"amount": 207_00, "currency": "THB"}));
    assert_eq!(shown["totals"]["total"], json!({"amount": 186_30, "currency": "THB"}));
    let sum: i64 = [0, 2].iter().map(|n| shown["lines"][*n]["total"]["amount"].as_i64().unwrap()).sum();
    assert_eq!(sum, 186_30);
    assert_eq!(shown["discount"], json!({"kind": "percent", "basis_points": 1000}));
    assert_eq!(shown["taxes"][0]["rate_basis_points"], 700);
}

#[test]
fn what_was_never_made_is_not_shown() {
    assert!(OrderResource::of(&order::State::default(), 0).is_none());
    assert!(BillResource::of(&bill::State::default(), 0).is_none());
    assert!(PaymentResource::of(&payment_intent::State::default(), 0).is_none());
    assert!(MerchantResource::of(&merchant::State::default(), 0).is_none());
}

#[test]
fn a_bill_shows_what_is_due_and_what_is_held() {
    let priced = order().priced().unwrap().unwrap();
    let issued = bill::Issued {
        bill_id: BillId(ulid(6)),
        store_id: StoreId(ulid(2)),
        order_ids: vec![OrderId(ulid(1))],
        business_date: chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
        currency: Currency::THB,
        tax_profile: TaxProfile::thai_vat_inclusive(),
        lines: vec![],
        subtotal: 0,
        discount: 0,
        service_charge: 0,
        tax: 0,
        adjustment: 100_00,
        total: 100_00,
        taxes: priced.taxes,
    };
    let (one, two) = (PaymentIntentId(ulid(7)), PaymentIntentId(ulid(8)));
    // The state is made by hand: what a real bill adds up to is the domain's business.
    let mut state = Bill::evolve(bill::State::default(), &issued.into());
    for command in [
        bill::Command::AllocatePayment {
            payment_intent_id: one,
            tender: Tender::Cash,
            amount: 30_00,
            cash_rounding: 0,
            tip: 0,
            acquirer: None,
        },
        bill::Command::ReservePayment { payment_intent_id: two, amount: 50_00, currency: Currency::THB },
    ] {
        let events = Bill::decide(&state, command).unwrap();
        state = events.iter().fold(state, Bill::evolve);
    }
    let shown = shown::<_, BillResource>(&state);
    let amount = |name: &str| shown[name]["amount"].as_i64().unwrap();
    assert_eq!(shown["status"], "partially_paid");
    assert_eq!((amount("paid"), amount("reserved"), amount("due")), (30_00, 50_00, 20_00));
    assert_eq!(shown["payments"][0]["payment_id"], one.payment_id().to_string());
}

fn created(tender: Tender) -> payment_intent::Command {
    let provided = !tender.is_recorded();
    payment_intent::Command::Create(Box::new(Created {
        payment_intent_id: PaymentIntentId(ulid(9)),
        store_id: StoreId(ulid(2)),
        bill_id: None,
        order_id: None,
        amount: Money::thb(100_00),
        tender,
        expires_at: provided.then(|| chrono::DateTime::from_timestamp(1_800_000_900, 0).unwrap()),
        merchant_reference: None,
        description: None,
        merchant_terminal_id: None,
        terms: None,
    }))
}

fn started() -> payment_intent::Command {
    let started_at = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    payment_intent::Command::StartAttempt(Box::new(payment_intent::NewAttempt {
        attempt_id: AttemptId(ulid(10)),
        provider: "scb".into(),
        provider_account: None,
        route: None,
        reference: "R".into(),
        card_token: None,
        manual_capture: false,
        return_url: None,
        started_at,
        expires_at: started_at + chrono::Duration::minutes(15),
    }))
}

fn ready() -> payment_intent::Command {
    payment_intent::Command::RequireAction { attempt_id: AttemptId(ulid(10)), qr_payload: Some("000201".into()), redirect_url: None }
}

fn failed() -> payment_intent::Command {
    payment_intent::Command::FailAttempt { attempt_id: AttemptId(ulid(10)), code: "declined".into(), message: "no".into() }
}

fn paid() -> payment_intent::Command {
    payment_intent::Command::ConfirmFromProvider(PaymentReport {
        attempt_id: Some(AttemptId(ulid(10))),
        transaction_id: Some("T".into()),
        amount: Money::thb(100_00),
        paid_at: chrono::DateTime::from_timestamp(1_800_000_100, 0).unwrap(),
        evidence: Evidence::Inquiry,
        cash_received: None,
        cash_rounding: 0,
        tip: 0,
        acquirer: None,
    })
}

fn refunded(n: u8, amount: i64) -> Vec<payment_intent::Command> {
    let refund_id = RefundId(ulid(n));
    vec![
        payment_intent::Command::ReserveRefund { refund_id, amount: Money::thb(amount) },
        payment_intent::Command::SettleRefund { refund_id },
    ]
}

#[test]
fn the_published_status_of_a_payment_follows_its_intent() {
    let word = |commands: Vec<payment_intent::Command>| {
        let all = [vec![created(Tender::PromptPay)], commands].concat();
        shown::<_, PaymentResource>(&after::<PaymentIntent>(all))["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(word(vec![]), "pending");
    assert_eq!(word(vec![started()]), "processing");
    assert_eq!(word(vec![started(), ready()]), "processing");
    assert_eq!(word(vec![started(), failed()]), "failed");
    assert_eq!(word(vec![payment_intent::Command::Cancel { reason: "gone".into() }]), "cancelled");
    assert_eq!(word(vec![started(), ready(), paid()]), "completed");
    assert_eq!(word([vec![started(), ready(), paid()], refunded(11, 40_00)].concat()), "partially_refunded");
    assert_eq!(word([vec![started(), ready(), paid()], refunded(11, 40_00), refunded(12, 60_00)].concat()), "refunded");
}

#[test]
fn nothing_of_a_disputed_payment_can_be_given_back() {
    let refundable = |commands: &[payment_intent::Command]| {
        let start = [created(Tender::PromptPay), started(), ready(), paid()];
        let state = after::<PaymentIntent>([&start[..], &refunded(11, 10_00), commands].concat());
        shown::<_, PaymentResource>(&state)["refundable"]["amount"].as_i64().unwrap()
    };
    let business_date = chrono::NaiveDate::from_ymd_opt(2026, 11, 22).unwrap();
    let (reason, disputed_at) = ("not me".to_owned(), chrono::DateTime::UNIX_EPOCH);
    let dispute = payment_intent::Command::Dispute { transaction_id: None, reason, disputed_at, business_date };
    assert!(refundable(&[]) > 0);
    assert_eq!(refundable(&[dispute]), 0);
}

#[test]
fn a_qr_is_shown_while_it_can_be_paid() {
    let intent = |commands: Vec<payment_intent::Command>| {
        shown::<_, PaymentIntentResource>(&after::<PaymentIntent>([vec![created(Tender::PromptPay)], commands].concat()))
    };
    let shown = intent(vec![started(), ready()]);
    let picture = |kind: &str| format!("/v1/payment-intents/{}/qr.{kind}", shown["id"].as_str().unwrap());
    let action = json!({"type": "display_qr", "qr_payload": "000201", "qr_png": picture("png"), "qr_svg": picture("svg")});
    assert_eq!(shown["next_action"], action);
    assert_eq!(intent(vec![started()])["next_action"], Value::Null);
    assert_eq!(intent(vec![started(), ready(), paid()])["next_action"], Value::Null);
    let failed = intent(vec![started(), failed()]);
    assert_eq!((&failed["status"], &failed["failure"]["code"]), (&json!("requires_payment_method"), &json!("declined")));
}

#[test]
fn a_status_word_means_what_it_says_and_absence_is_none() {
    assert_eq!(super::order::status_of("billed"), Some(order::Status::Billed));
    assert_eq!(super::bill::status_of("partially_paid"), Some(bill::Status::PartiallyPaid));
    assert_eq!(super::payment_intent::status_of("canceled"), Some(payment_intent::Status::Canceled));
    for word in ["absent", "", "OPEN"] {
        assert!(super::order::status_of(word).is_none() && super::payment_intent::status_of(word).is_none());
    }
}

#[test]
fn the_shapes_in_the_document_are_those_on_the_wire() {
    let profile = serde_json::to_value(TaxProfile::thai_vat_inclusive()).unwrap();
    let document = serde_json::to_value(crate::openapi::document()).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
    let schema = |name: &str| names(&document["components"]["schemas"][name]["properties"]);
    assert_eq!(schema("TaxProfile"), names(&profile));
    assert_eq!(schema("Order"), names(&shown::<_, OrderResource>(&order())));
    assert_eq!(schema("Money"), names(&json!(Money::thb(1))));
}

#[test]
fn the_ladder_of_an_unknown_outcome_names_each_step_with_its_time() {
    let unknown = payment_intent::Command::MarkOutcomeUnknown {
        attempt_id: AttemptId(ulid(10)),
        reason: "time-out".into(),
        since: chrono::DateTime::from_timestamp(1_800_000_010, 0).unwrap(),
    };
    let intent = after::<PaymentIntent>(vec![created(Tender::PromptPay), started(), unknown]);
    let shown = shown::<_, PaymentIntentResource>(&intent);
    let ladder = json!([{"step": "inquiry", "until": "2027-01-15T08:15:05Z"}, {"step": "webhook", "until": "2027-01-15T09:15:05Z"},
                        {"step": "person", "until": null}]);
    assert_eq!((&shown["outcome"]["step"], &shown["outcome"]["ladder"]), (&json!("inquiry"), &ladder));
    assert_eq!(shown["outcome"]["resolves_by"], ladder[1]["until"], "the worst case is the last step");
}

#[test]
fn beyond_the_schedule_of_inquiries_a_call_back_is_waited_for() {
    let at = |second| chrono::DateTime::from_timestamp(second, 0).unwrap();
    let mut ladder = super::payment_intent::OutcomeLadder::unknown(
        Some(at(0)),
        None,
        vec![
            super::payment_intent::Rung { step: "inquiry", until: Some(at(100)) },
            super::payment_intent::Rung { step: "webhook", until: Some(at(3_700)) },
        ],
    );
    for (next, step) in [(None, "inquiry"), (Some(at(100)), "inquiry"), (Some(at(160)), "webhook")] {
        ladder.asked_next(next);
        assert_eq!(ladder.step, Some(step), "{next:?}");
    }
}
