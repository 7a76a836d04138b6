//! `/v1/stores/{id}/promptpay-qr`: a PromptPay code for the counter of a store, as text and as a picture.
//!
//! Nobody's books are asked and nothing is stored. Whose bank takes the money is said with each request: the name of a person's
//! account (a mobile number, a national id) is personal data, and the log cannot forget. Money that comes by such a code is tied to no
//! payment; a payment with a code of its own is a payment intent.

use std::borrow::Cow;

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use domain::{
    ids::StoreId,
    money::{Currency, Money},
    store::{self, Status},
};
use gateway::{
    promptpay::{QrError, QrSpec, Target},
    qr_image::{self, QrImageError},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::query::{Ask, Directory};
use crate::{
    auth::may,
    extract::{Filter, Id},
    problem::{Kind, Problem},
    resources::MoneySchema,
    state::AppState,
};

/// Side of one module of a picture.
const QR_PIXELS: usize = 8;
/// The longest spelling of a number that is read.
const MAX_SPELLING: usize = 40;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(promptpay_qr)).routes(routes!(promptpay_qr_png)).routes(routes!(promptpay_qr_svg))
}

/// Who is paid: exactly one of `mobile`, `national_id`, `e_wallet` and `biller_id`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QrQuery {
    /// A mobile number: `0812345678`, `081-234-5678`, `66812345678`.
    mobile: Option<String>,
    /// A national or tax id, 13 digits; blanks and dashes may stand between them.
    national_id: Option<String>,
    /// An e-wallet, 15 digits; blanks and dashes may stand between them.
    e_wallet: Option<String>,
    /// A biller, 15 digits; with `reference1`.
    biller_id: Option<String>,
    /// Of a bill payment: 1 to 20 characters of A-Z and 0-9.
    reference1: Option<String>,
    /// The same, for billers that are set up for two references.
    reference2: Option<String>,
    /// Satang; the payer says how much unless told.
    #[param(minimum = 1)]
    amount: Option<i64>,
    /// As the header `Smartpos-Min-Position`.
    pub min_pos: Option<i64>,
    /// Not taken: a code of the past is not to be scanned.
    pub as_of: Option<String>,
}

/// A PromptPay code.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PromptPayQr)]
pub struct PromptPayQrResource {
    /// EMVCo payload to show as a QR code.
    payload: String,
    /// `static`: payable any number of times, with an amount of the payer's. `dynamic`: names its amount; banks' apps mean it for one
    /// payment, but nobody ends it.
    #[schema(value_type = String, examples("static"))]
    point_of_initiation: &'static str,
    /// `mobile`, `national_id`, `e_wallet` or `bill`.
    #[schema(value_type = String, examples("mobile"))]
    payee: &'static str,
    /// What it asks for.
    #[schema(value_type = Option<MoneySchema>)]
    amount: Option<Money>,
}

fn invalid(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::new(Kind::ParameterInvalid, detail)
}

/// A number in digits, blanks, dashes and a leading plus, as `read` takes it.
fn proxy(name: &str, text: &str, read: impl Fn(&str) -> Result<Target, QrError>) -> Result<Target, Problem> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_spelled = digits.len() <= MAX_SPELLING && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ' || byte == b'-');
    let target = if is_spelled { read(text) } else { Err(QrError::BadTarget) };
    target.map_err(|_| invalid(format!("{name} is not one that PromptPay knows")))
}

impl QrQuery {
    fn target(&self) -> Result<Target, Problem> {
        let is_bill = self.biller_id.is_some();
        if !is_bill && (self.reference1.is_some() || self.reference2.is_some()) {
            return Err(invalid("reference1 and reference2 belong to biller_id"));
        }
        match (&self.mobile, &self.national_id, &self.e_wallet, &self.biller_id) {
            (Some(text), None, None, None) => proxy("mobile", text, Target::mobile),
            (None, Some(text), None, None) => proxy("national_id", text, Target::national_id),
            (None, None, Some(text), None) => proxy("e_wallet", text, Target::e_wallet),
            (None, None, None, Some(biller_id)) => {
                let reference1 = self.reference1.clone().ok_or_else(|| invalid("biller_id needs reference1"))?;
                Ok(Target::Bill { biller_id: biller_id.clone(), reference1, reference2: self.reference2.clone() })
            }
            _ => Err(invalid("name exactly one of mobile, national_id, e_wallet and biller_id")),
        }
    }

    /// The code, as far as it can be judged without the store.
    fn code(&self) -> Result<PromptPayQrResource, Problem> {
        let target = self.target()?;
        let payee = match target {
            Target::Mobile(_) => "mobile",
            Target::NationalId(_) => "national_id",
            Target::EWallet(_) => "e_wallet",
            Target::Bill { .. } => "bill",
            Target::BankAccount(_) => return Err(invalid("bank accounts are not written into codes")),
        };
        let amount = self.amount.map(Money::thb);
        // Numbers of persons were judged above.
        let payee_refused = "biller_id must have 15 digits, reference1 and reference2 1 to 20 characters of A-Z and 0-9";
        let amount_refused = "amount must be 1 to 999999999999 satang";
        let refused = |error| invalid(if error == QrError::BadAmount { amount_refused } else { payee_refused });
        let payload = QrSpec::new(target, amount).encode().map_err(refused)?;
        let point_of_initiation = if amount.is_some() { "dynamic" } else { "static" };
        Ok(PromptPayQrResource { payload, point_of_initiation, payee, amount })
    }
}

/// The code, if this store of the caller's can use one.
async fn code_of(ask: &Ask<may::StoreRead, Directory>, store_id: StoreId, query: &QrQuery) -> Result<PromptPayQrResource, Problem> {
    let code = query.code()?;
    if ask.is_past() {
        return Err(invalid("as_of: a code of the past is not to be scanned"));
    }
    let row = ask.reads.store(&ask.scope, store_id).await?;
    let store = row.map(|row| row.document).ok_or_else(|| Problem::missing(store::Rejection::StoreNotFound))?;
    let details = store.details.as_ref().ok_or_else(|| Problem::missing(store::Rejection::StoreNotFound))?;
    if store.status != Status::Active {
        return Err(Problem::new(Kind::StateConflict, "the store is closed"));
    }
    if details.currency != Currency::THB {
        return Err(Problem::new(Kind::RuleBroken, "PromptPay is for stores that sell in baht"));
    }
    Ok(code)
}

/// A PromptPay code of a store: static without an amount, so that it can be printed; dynamic with one. Nothing is stored, and money that
/// comes by it is tied to no payment.
#[utoipa::path(get, path = "/v1/stores/{id}/promptpay-qr", tag = "stores",
    params(("id" = String, Path, description = "`sto_…`"), QrQuery),
    responses((status = 200, description = "The code", body = PromptPayQrResource)),
    extensions(("x-permission" = json!("store_read"))))]
async fn promptpay_qr(
    ask: Ask<may::StoreRead, Directory>,
    Id(store_id): Id<StoreId>,
    Filter(query): Filter<QrQuery>,
) -> Result<Response, Problem> {
    Ok(ask.answer(axum::Json(code_of(&ask, store_id, &query).await?)))
}

/// The same as a PNG picture with 8 pixels for the side of a module.
#[utoipa::path(get, path = "/v1/stores/{id}/promptpay-qr.png", tag = "stores",
    params(("id" = String, Path, description = "`sto_…`"), QrQuery),
    responses((status = 200, description = "The picture", body = String, content_type = "image/png")),
    extensions(("x-permission" = json!("store_read"))))]
async fn promptpay_qr_png(
    ask: Ask<may::StoreRead, Directory>,
    Id(store_id): Id<StoreId>,
    Filter(query): Filter<QrQuery>,
) -> Result<Response, Problem> {
    let code = code_of(&ask, store_id, &query).await?;
    drawn(&ask, "image/png", qr_image::png(&code.payload, QR_PIXELS))
}

/// The same as an SVG picture.
#[utoipa::path(get, path = "/v1/stores/{id}/promptpay-qr.svg", tag = "stores",
    params(("id" = String, Path, description = "`sto_…`"), QrQuery),
    responses((status = 200, description = "The picture", body = String, content_type = "image/svg+xml")),
    extensions(("x-permission" = json!("store_read"))))]
async fn promptpay_qr_svg(
    ask: Ask<may::StoreRead, Directory>,
    Id(store_id): Id<StoreId>,
    Filter(query): Filter<QrQuery>,
) -> Result<Response, Problem> {
    let code = code_of(&ask, store_id, &query).await?;
    drawn(&ask, "image/svg+xml", qr_image::svg(&code.payload))
}

/// The answer with a picture. No payload of ours is too long for one; should one be, it is our fault.
fn drawn(
    ask: &Ask<may::StoreRead, Directory>,
    content_type: &'static str,
    picture: Result<impl IntoResponse, QrImageError>,
) -> Result<Response, Problem> {
    let picture = picture.map_err(|error| Problem::internal(&error))?;
    Ok(ask.answer(([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")], picture)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<PromptPayQrResource, String> {
        let query: QrQuery = serde_json::from_str(text).unwrap();
        query.code().map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_code_names_one_payee_and_is_static_without_an_amount() {
        let code = query(r#"{"mobile":"098-765-4321"}"#).unwrap();
        assert_eq!((code.point_of_initiation, code.payee, code.amount), ("static", "mobile", None));
        assert_eq!(code.payload, "00020101021129370016A0000006770101110113006698765432153037645802TH6304A00F");
        assert_eq!(query(r#"{"mobile":"+66 98 765 4321"}"#).unwrap().payload, code.payload);
        let code = query(r#"{"e_wallet":"009876543210123","amount":123450}"#).unwrap();
        assert_eq!((code.point_of_initiation, code.payee, code.amount), ("dynamic", "e_wallet", Some(Money::thb(1_234_50))));
        assert_eq!(code.payload, "00020101021229390016A0000006770101110315009876543210123530376454071234.505802TH630490AB");
        let code = query(r#"{"biller_id":"099900012345601","reference1":"SAMPLE1"}"#).unwrap();
        assert_eq!(code.payload, "00020101021130500016A00000067701011201150999000123456010207SAMPLE153037645802TH630404EC");
    }

    #[test]
    fn what_names_nobody_or_two_or_is_no_number_is_refused() {
        for bad in [
            "{}",
            r#"{"mobile":"0987654321","national_id":"3100700123456"}"#,
            r#"{"mobile":"0987654321","reference1":"A"}"#,
            r#"{"mobile":""}"#,
            r#"{"mobile":"098765432"}"#,
            r#"{"mobile":"O987654321x0"}"#,
            r#"{"mobile":"098.765.4321"}"#,
            r#"{"mobile":"09876+54321"}"#,
            r#"{"mobile":"0987654321                                         "}"#,
            r#"{"national_id":"310070012345"}"#,
            r#"{"e_wallet":"3100700123456"}"#,
            r#"{"biller_id":"099900012345601"}"#,
            r#"{"biller_id":"0999000123456","reference1":"A"}"#,
            r#"{"biller_id":"099900012345601","reference1":"table 7"}"#,
            r#"{"mobile":"0987654321","amount":0}"#,
            r#"{"mobile":"0987654321","amount":-1}"#,
            r#"{"mobile":"0987654321","amount":1000000000000}"#,
        ] {
            assert!(query(bad).is_err(), "{bad}");
        }
        assert!(query(r#"{"mobile":"0987654321","amount":999999999999}"#).is_ok());
    }
}
