use serde_json::{Value, json};

use crate::import::{
    mapping::Mapping,
    plan::tests::{HEADER, SHOP},
    rows::{StepKind, tests::steps_of},
};

/// What the idempotency keys of these rows are made of.
fn meanings(more: &str, rows: &str) -> Vec<Value> {
    let mapping = Mapping::parse(&format!("{SHOP}[refund]\nnegative = \"refund\"\nof = \"paid\"\n{more}")).unwrap();
    let meaning = |step: crate::import::rows::Step| match step.what {
        StepKind::Sale(sale) => serde_json::to_value(sale).unwrap(),
        StepKind::Refund(refund) => serde_json::to_value(refund).unwrap(),
        StepKind::Ledger(_) | StepKind::Skipped(_) | StepKind::Bad(_) => panic!("{step:?}"),
    };
    steps_of(mapping, format!("{HEADER}{rows}").as_bytes()).into_iter().map(meaning).collect()
}

/// Whoever changes these breaks the second run of every import that an earlier build made: it would find conflicts.
#[test]
fn the_keys_of_a_sale_and_its_refund_are_those_of_earlier_builds() {
    let found = meanings("", "s1,,2024-03-01 10:00,Tea,2,45.50,C,,\nr1,,2024-03-02 10:00,Tea,-1,45.50,,s1,\n");
    let sale = json!({
        "key": "s1",
        "order_id": "ord_01HQVZ8KW0P911B92DKD0FC234",
        "bill_id": "bill_01HQVZ8KW058PSWZNYTJH6Q7A4",
        "store_id": "sto_00000000009XNEMTWWGM1KT1MP",
        "opened_at": "2024-03-01T03:00:00Z",
        "order_number": null,
        "order_type": "takeaway",
        "lines": [{
            "line_id": "lin_01HQVZ8KW0YHK8JVT0077P1281",
            "item_code": "Tea",
            "name": "Tea",
            "quantity_milli": 2_000,
            "unit_price": 45_50,
            "tax_class": "standard",
        }],
        "adjustments": [],
        "total": { "amount": 91_00, "currency": "THB" },
        "payment": {
            "payment_intent_id": "pi_01HQVZ8KW01HX4ZPTDJZ40CCS4",
            "tender": "cash",
            "amount": { "amount": 91_00, "currency": "THB" },
            "paid_at": "2024-03-01T03:00:00Z",
            "transaction_id": null,
            "merchant_reference": null,
        },
    });
    let refund = json!({
        "key": "r1",
        "refund_id": "ref_01HQYHNAW0SNNAYZ4WSF6PX008",
        "of": "s1",
        "payment_intent_id": "pi_01HQVZ8KW01HX4ZPTDJZ40CCS4",
        "destination": "cash",
        "tender": "cash",
        "amount": { "amount": 45_50, "currency": "THB" },
        "given_at": "2024-03-02T03:00:00Z",
        "reason": "imported refund",
    });
    assert_eq!(found, [sale, refund]);
}

#[test]
fn the_key_of_a_refund_without_a_sale_knows_its_store_and_its_parts() {
    let found = meanings("unlinked = \"record\"\ntender = { constant = \"cash\" }\n", "r1,,2024-03-02 10:00,Tea,-1,45.50,,,\n");
    let names: Vec<_> = found[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["amount", "breakdown", "given_at", "key", "reason", "refund_id", "store_id", "tender"]);
}
