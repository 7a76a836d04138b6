use crate::import::{
    Mapping,
    plan::tests::SHOP,
    rows::{Step, StepKind, tests::steps_of},
};

fn refusal(text: &str) -> String {
    Mapping::parse(text).expect_err("the mapping was accepted").to_string()
}

#[test]
fn the_sample_is_sound() {
    let mapping = Mapping::parse(SHOP).unwrap();
    assert_eq!(mapping.source, "shop");
}

#[test]
fn each_mistake_is_named_by_its_key() {
    for (from, to, told) in [
        ("source = \"shop\"", "source = \"my shop\"", "'source'"),
        ("psp = \"demo\"", "psp = \"psp_x\"", "'merchant.psp'"),
        ("code = \"shop\"", "code = \"my shop\"", "'merchant': code must have"),
        ("Asia/Bangkok", "Asia/Atlantis", "'store': 'Asia/Atlantis' is not an IANA time zone"),
        ("tax = \"untaxed\"", "tax = \"explicit\"", "'store.tax_profile'"),
        ("tax = \"untaxed\"", "tax = \"untaxed\"\nday_starts_at = \"24:00\"", "'store.day_starts_at'"),
        ("code = \"siam\"", "code = \"\"", "'store.known.S1'"),
        ("column = \"store\", default = \"S1\"", "constant = \"S2\"", "'store.known': has no store 'S2'"),
        ("column = \"store\", default = \"S1\"", "default = \"S1\"", "'store.value': needs either"),
        ("%Y-%m-%d %H:%M", "%Y-%m-%d %Q", "'order.opened_at.format'"),
        ("%Y-%m-%d %H:%M", "%Y-%m-%d", "'order.opened_at.format'"),
        ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M %z", "'order.opened_at.format'"),
        ("unit_price = { column = \"price\" }", "", "'line[0]': needs either"),
        ("column = \"qty\", default = \"1\"", "constant = \"one\"", "'line[0].quantity'"),
        ("column = \"price\"", "constant = \"1.005\"", "'line[0].unit_price'"),
        ("column = \"tender\", values", "values", "'payment.tender'"),
    ] {
        assert!(SHOP.contains(from), "{from}");
        let message = refusal(&SHOP.replace(from, to));
        assert!(message.contains(told), "{to}: {message}");
    }
}

#[test]
fn rules_are_checked_too() {
    for (more, told) in [
        ("[customer]\ncolumn = \"no\"\npseudonymous = false\nkeep_as = \"merchant_reference\"", "'customer.pseudonymous'"),
        ("[difference]\nreason = \"x\"", "'difference': needs payment.amount"),
        ("amount = { column = \"paid\" }\n[difference]\nreason = \"\"", "'difference.reason'"),
        ("amount = { column = \"paid\" }\n[difference]\nreason = \"x\"\nlimit = \"-1\"", "'difference.limit'"),
        ("[[skip]]\nreason = \"x\"\nwhen = []", "'skip[0].when'"),
        ("[refund]\nnegative = \"refund\"", "'refund.of'"),
        ("[refund]\nnegative = \"skip\"\nreason = \"x\"\nof = \"no\"", "'refund.of'"),
        ("[refund]\nnegative = \"skip\"\nreason = \"x\"\nreason_column = \"no\"", "'refund.reason_column'"),
        ("[refund]\nnegative = \"skip\"", "'refund.reason'"),
        ("[refund]\nnegative = \"refund\"\nof = \"no\"\nreason = \"\"", "'refund.reason'"),
        ("[refund]\nnegative = \"refund\"\nof = \"no\"\nmatch = [\"item\"]", "'refund.match'"),
        ("[refund]\nnegative = \"refund\"\nof = \"no\"\ntender = { constant = \"cash\" }", "'refund.tender'"),
        ("[refund]\nnegative = \"skip\"\nreason = \"x\"\nunlinked = \"record\"", "'refund.unlinked'"),
        ("[payment.dispute]\nreason = \"x\"\nwhen = []", "'payment.dispute.when'"),
        ("[[ledger]]\nreason = { constant = \"x\" }\namount = { constant = \"x\" }\nwhen = []", "'ledger[0].amount'"),
        ("[[skip]]\nreason = \"x\"\nwhen = [{ column = \"no\" }]", "'skip[0].when[0]'"),
    ] {
        let message = refusal(&format!("{SHOP}{more}\n"));
        assert!(message.contains(told), "{more}: {message}");
    }
}

#[test]
fn unknown_and_missing_keys_are_shown() {
    assert!(refusal(&SHOP.replace("zone = ", "zome = ")).contains("zome"));
    assert!(refusal(&SHOP.replace("source = \"shop\"", "")).contains("source"));
    assert!(refusal(&SHOP.replace("C = \"cash\"", "C = \"promptpay\"")).contains("promptpay"));
    assert!(refusal(&SHOP.replace("\"THB\"", "\"BTC\"")).contains("BTC"));
    assert!(refusal("nonsense").contains("nonsense"));
}

/// What the user documentation shows must work as it stands there.
#[test]
fn the_documented_example_imports_the_documented_file() {
    let page = include_str!("../../../docs/import.md");
    let block = |start: &str, fence: &str| {
        let from = page.find(start).unwrap();
        let rest = &page[from..];
        rest[..rest.find(fence).unwrap()].to_owned()
    };
    let profile = block("[store.tax_profile]\n", "```");
    let mapping = block("source = \"riverside-2024\"", "```");
    let file = block("receipt;when;", "```");
    let sums = |mapping: &str| {
        let steps = steps_of(Mapping::parse(mapping).unwrap(), file.as_bytes());
        let total = |step: &Step| match &step.what {
            StepKind::Sale(sale) => sale.total.amount,
            StepKind::Refund(_) | StepKind::Ledger(_) | StepKind::Skipped(_) | StepKind::Bad(_) => panic!("{step:?}"),
        };
        steps.iter().map(total).collect::<Vec<_>>()
    };
    assert_eq!(sums(&mapping), [151_00, 60_00]);
    assert_eq!(sums(&(mapping.replace("thai_inclusive", "explicit") + &profile)), [151_00, 60_00]);
}
