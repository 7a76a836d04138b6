//! Requests in the published spelling, as the canonical ones that they mean.

use axum::http::{HeaderMap, HeaderValue};
use domain::{ids::StoreId, money::Currency, payment_intent::Tender};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    extract::IDEMPOTENCY_KEY,
    problem::{Kind, Problem},
};

/// Why an intent is canceled by whoever does not say: the published form has no field for it. Part of what a repeat is compared by, so it
/// stays as it is.
const NO_REASON: &str = "no reason was given";
/// How long a QR is good unless told, in the published form.
const DEFAULT_MINUTES: i64 = 30;

/// The fields of a request in the canonical spelling.
pub(super) type Fields = Map<String, Value>;

/// The canonical fields of a request for an intent, in either spelling, with what the published form means by what it leaves out.
pub(super) fn created(mut fields: Fields, headers: &mut HeaderMap, own_store: Option<StoreId>) -> Result<Fields, Problem> {
    key_by_reference(&fields, headers, own_store);
    rename(&mut fields, "merchant_ref_id", "merchant_reference")?;
    rename(&mut fields, "merchant_store_id", "store_id")?;
    join_amount(&mut fields);
    let tenders = take_types(&mut fields)?;
    if let Some(first) = tenders.first() {
        fields.entry("tender").or_insert(json!(first));
        if tenders.iter().any(|tender| tender != first) {
            let offered: Vec<Value> = tenders.iter().map(|tender| json!({ "tender": tender })).collect();
            fields.entry("tenders").or_insert(Value::Array(offered));
        }
        // Which of several it is, and by which card, the confirm says.
        let open = tenders.iter().any(|tender| tender != first) || (*first == Tender::OnlineCard && !fields.contains_key("card_token"));
        if open {
            fields.entry("confirm").or_insert(json!(false));
        }
    }
    take_mode(&mut fields)?;
    fields.entry("expires_in_minutes").or_insert(json!(DEFAULT_MINUTES));
    Ok(fields)
}

/// The canonical fields of a change, in either spelling: what is left out stays as it is, and an intent stays in its store.
pub(super) fn changed(mut fields: Fields, _: &mut HeaderMap) -> Result<Fields, Problem> {
    rename(&mut fields, "merchant_ref_id", "merchant_reference")?;
    join_amount(&mut fields);
    let tenders = take_types(&mut fields)?;
    if let Some(first) = tenders.first() {
        if tenders.iter().any(|tender| tender != first) {
            return Err(Problem::new(Kind::RuleBroken, "payment_method_types: a change names one type"));
        }
        fields.entry("tender").or_insert(json!(first));
    }
    Ok(fields)
}

/// The canonical fields of a request to cancel.
#[expect(clippy::unnecessary_wraps, reason = "as the others")]
pub(super) fn canceled(mut fields: Fields, _: &mut HeaderMap) -> Result<Fields, Problem> {
    if fields.get("reason").is_none_or(Value::is_null) {
        fields.insert("reason".to_owned(), json!(NO_REASON));
    }
    Ok(fields)
}

/// The canonical fields of a request for some of an intent's money: an amount without a currency is in the intent's `own`.
pub(super) fn of_amount(mut fields: Fields, own: Option<Currency>) -> Fields {
    let unsaid = fields.get("currency").is_none_or(Value::is_null);
    if fields.get("amount").is_some_and(Value::is_number)
        && let Some(own) = own.filter(|_| unsaid)
    {
        fields.insert("currency".to_owned(), json!(own));
    }
    join_amount(&mut fields);
    fields
}

/// A creation without a key is known by its reference, which a merchant uses once for ever: sent again it gets the first answer. The store
/// that a caller need not name is part of it: what one person asks for in another store is not the same.
fn key_by_reference(fields: &Fields, headers: &mut HeaderMap, own_store: Option<StoreId>) {
    let reference = fields.get("merchant_ref_id").or_else(|| fields.get("merchant_reference")).and_then(Value::as_str);
    let Some(reference) = reference.filter(|_| !headers.contains_key(IDEMPOTENCY_KEY)) else { return };
    // A reference may be in any script and of any length; a key may not.
    let store = own_store.map(|store| store.to_string()).unwrap_or_default();
    let digest = Sha256::new().chain_update(store).chain_update([0]).chain_update(reference).finalize();
    let key = format!("merchant_ref_id:{}", hex::encode(digest));
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(IDEMPOTENCY_KEY, key);
    }
}

/// Takes the published mode out. It follows from the way of paying, and is taken where it says the same.
fn take_mode(fields: &mut Fields) -> Result<(), Problem> {
    let Some(mode) = fields.remove("processing_mode").filter(|mode| !mode.is_null()) else { return Ok(()) };
    let cash = fields.get("tender").is_some_and(|tender| tender == Tender::Cash.as_str());
    let own = if cash { "manual" } else { "pgw_processed" };
    if mode == own {
        return Ok(());
    }
    let detail = if mode == "external" {
        "processing_mode: what a terminal took elsewhere (external) is recorded by POST /v1/payments".to_owned()
    } else {
        format!("processing_mode: an intent of this way of paying is {own}")
    };
    Err(Problem::new(Kind::RuleBroken, detail))
}

/// One name for what may come under two.
fn rename(fields: &mut Fields, published: &str, canonical: &str) -> Result<(), Problem> {
    let Some(value) = fields.remove(published) else { return Ok(()) };
    if fields.contains_key(canonical) {
        return Err(Problem::new(Kind::BodyInvalid, format!("{published}: another name of {canonical}; send one of them")));
    }
    fields.insert(canonical.to_owned(), value);
    Ok(())
}

/// An amount in the published form is a number with its currency beside it.
fn join_amount(fields: &mut Fields) {
    if fields.get("amount").is_some_and(Value::is_number) {
        let (amount, currency) = (fields.remove("amount"), fields.remove("currency").unwrap_or(Value::Null));
        fields.insert("amount".to_owned(), json!({"amount": amount, "currency": currency}));
    }
}

/// Takes the published types of payment out, as tenders.
fn take_types(fields: &mut Fields) -> Result<Vec<Tender>, Problem> {
    let types = fields.remove("payment_method_types").into_iter().flat_map(|types| match types {
        Value::Array(types) => types,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => vec![other],
    });
    let wanted = types.chain(fields.remove("payment_method_type")).map(|word| tender_of(word.as_str().unwrap_or_default()));
    let unknown = || Problem::new(Kind::RuleBroken, "payment_method_types: this route takes qr_mpm and credit_card");
    wanted.collect::<Option<Vec<Tender>>>().ok_or_else(unknown)
}

/// The tender that a published type means.
fn tender_of(word: &str) -> Option<Tender> {
    match word {
        "qr_mpm" | "promptpay" => Some(Tender::PromptPay),
        "credit_card" | "card" => Some(Tender::OnlineCard),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::Ulid;

    use super::*;

    type Translation = fn(Fields, &mut HeaderMap) -> Result<Fields, Problem>;

    fn by(fields_of: Translation, body: Value) -> Result<Value, String> {
        let Value::Object(fields) = body else { panic!("an object") };
        fields_of(fields, &mut HeaderMap::new()).map(Value::Object).map_err(|problem| problem.detail().to_owned())
    }

    fn translated(body: Value) -> Result<Value, String> {
        by(|fields, headers| created(fields, headers, None), body)
    }

    #[test]
    fn the_published_request_is_the_canonical_one() {
        let published = json!({"amount": 12000, "currency": "THB", "payment_method_types": ["qr_mpm"], "merchant_ref_id": "A-1",
                               "merchant_store_id": "sto_1"});
        let canonical = json!({"amount": {"amount": 12000, "currency": "THB"}, "merchant_reference": "A-1", "store_id": "sto_1",
                               "tender": "promptpay", "expires_in_minutes": 30});
        assert_eq!(translated(published), Ok(canonical.clone()));
        assert_eq!(translated(canonical.clone()), Ok(canonical), "the canonical one passes");
        let card = translated(json!({"payment_method_types": ["credit_card"]})).unwrap();
        assert_eq!((&card["tender"], &card["confirm"]), (&json!("online_card"), &json!(false)), "its token comes with the confirm");
        let either = translated(json!({"payment_method_types": ["qr_mpm", "credit_card"]})).unwrap();
        assert_eq!((&either["tender"], &either["confirm"]), (&json!("promptpay"), &json!(false)), "the confirm chooses");
        assert_eq!(either["tenders"], json!([{"tender": "promptpay"}, {"tender": "online_card"}]), "among what was offered");
        assert!(translated(json!({"payment_method_types": ["qr_cpm"]})).unwrap_err().contains("qr_mpm"));
        assert!(translated(json!({"merchant_ref_id": "A", "merchant_reference": "B"})).unwrap_err().contains("merchant_ref_id"));
    }

    #[test]
    fn a_change_takes_the_published_names_and_adds_nothing() {
        let changed = |body: Value| by(super::changed, body);
        let published = json!({"amount": 9000, "currency": "THB", "payment_method_types": ["credit_card"], "merchant_ref_id": "A-2",
                               "merchant_terminal_id": "T-4", "description": "Lunch"});
        let canonical = json!({"amount": {"amount": 9000, "currency": "THB"}, "tender": "online_card", "merchant_reference": "A-2",
                               "merchant_terminal_id": "T-4", "description": "Lunch"});
        assert_eq!(changed(published), Ok(canonical.clone()));
        assert_eq!(changed(canonical.clone()), Ok(canonical), "the canonical one passes");
        assert_eq!(changed(json!({})), Ok(json!({})), "what is left out stays");
        let store = json!({"merchant_store_id": "sto_1"});
        assert_eq!(changed(store.clone()), Ok(store), "no field of a change, and refused as one");
        let same = json!({"payment_method_types": ["qr_mpm", "promptpay"]});
        assert_eq!(changed(same), Ok(json!({"tender": "promptpay"})));
        assert!(changed(json!({"payment_method_types": ["qr_mpm", "credit_card"]})).unwrap_err().contains("one type"));
        assert!(changed(json!({"payment_method_types": ["qr_cpm"]})).unwrap_err().contains("qr_mpm"));
        assert!(changed(json!({"merchant_ref_id": "A", "merchant_reference": "B"})).unwrap_err().contains("merchant_ref_id"));
    }

    #[test]
    fn the_published_mode_is_taken_where_it_says_what_is_done_anyway() {
        let mode = |way: &str, mode: Value| translated(json!({"payment_method_type": way, "processing_mode": mode}));
        for (way, said) in [("qr_mpm", json!("pgw_processed")), ("credit_card", json!("pgw_processed")), ("qr_mpm", json!(null))] {
            assert_eq!(mode(way, said).unwrap().get("processing_mode"), None, "{way}");
        }
        assert!(translated(json!({"tender": "cash", "processing_mode": "manual"})).is_ok());
        assert!(mode("credit_card", json!("external")).unwrap_err().contains("/v1/payments"));
        for refused in [json!("manual"), json!("automatic"), json!(1)] {
            assert!(mode("qr_mpm", refused).unwrap_err().contains("pgw_processed"));
        }
        assert!(translated(json!({"tender": "cash", "processing_mode": "pgw_processed"})).unwrap_err().contains("manual"));
    }

    #[test]
    fn an_amount_of_an_intent_is_in_its_currency_unless_told() {
        let asked = |body: Value| {
            let Value::Object(fields) = body else { panic!("an object") };
            Value::Object(of_amount(fields, Some(Currency::THB)))
        };
        let whole = json!({"amount": {"amount": 500, "currency": "THB"}});
        assert_eq!(asked(json!({"amount": 500})), whole);
        assert_eq!(
            asked(json!({"amount": 500, "currency": "USD"})),
            json!({"amount": {"amount": 500, "currency": "USD"}}),
            "to be refused"
        );
        assert_eq!(asked(json!({"amount": 500, "currency": null})), whole, "not said");
        assert_eq!(asked(whole.clone()), whole, "the canonical one passes");
        assert_eq!(asked(json!({})), json!({}));
    }

    #[test]
    fn a_creation_without_a_key_is_known_by_its_reference() {
        let key_in = |fields: Value, given: Option<&'static str>, store: Option<StoreId>| {
            let Value::Object(fields) = fields else { panic!("an object") };
            let mut headers = HeaderMap::new();
            headers.extend(given.map(|given| (IDEMPOTENCY_KEY, HeaderValue::from_static(given))));
            key_by_reference(&fields, &mut headers, store);
            headers.get(IDEMPOTENCY_KEY).map(|key| key.to_str().unwrap().to_owned())
        };
        let key = |fields: Value, given: Option<&'static str>| key_in(fields, given, None);
        let known = key(json!({"merchant_ref_id": "ใบ 7"}), None).expect("a key");
        let elsewhere = key_in(json!({"merchant_ref_id": "ใบ 7"}), None, Some(StoreId(Ulid(1))));
        assert_ne!(elsewhere.as_deref(), Some(known.as_str()), "by the token of a store");
        assert_eq!(key(json!({"merchant_reference": "ใบ 7"}), None).as_deref(), Some(known.as_str()), "in either spelling");
        assert_ne!(key(json!({"merchant_ref_id": "ใบ 8"}), None), Some(known));
        assert_eq!(key(json!({"merchant_ref_id": "A"}), Some("mine")).as_deref(), Some("mine"));
        assert_eq!(key(json!({}), None), None, "to be refused");
    }
}
