//! `/v1/provider-accounts/{id}/settlement-lists`: a provider's list is held against the log, and what was left to a person and stands on it
//! is resolved, each intent as `/v1/payment-intents/{id}/resolve` would do it with that line.
//!
//! The list is its own key. What one of its lines resolved, the log has from then on, so the line is no difference any more when the list
//! comes again; and a line that was on its way when the caller lost sight of it has a key of its own, made of list, line and intent.

use axum::{
    Json as JsonBody,
    body::Bytes,
    extract::State,
    http::HeaderValue,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use commands::{handle::Caller, idempotency::IdempotencyKey, payment_cases};
use domain::{
    ids::{MerchantId, PaymentIntentId, ProviderAccountId},
    payment_intent::Finding,
    provider_account::{ProviderAccount, Rejection},
    reconciliation::{Difference, Listed, Named, Period},
};
use projections::reconciliation::{BadList, Failure, read_list};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    command::{POSITION, scope_of},
    payment_intent_changes::names_transaction,
    payment_intents::change_intent_as,
    provider_accounts::reaches,
};
use crate::{
    auth::{Allowed, Principal, may},
    extract::{
        Correlation, Csv, Filter, Id,
        card::{holds_card_number, without_card_numbers},
        moment::Moment,
    },
    problem::{Kind, Problem},
    resources::settlement::{Resolutions, SettlementReportResource, SettlementResolution},
    state::AppState,
};

/// The only path whose body may be long.
pub const ROUTE: &str = "/v1/provider-accounts/{id}/settlement-lists";
/// As the log names the call.
const OPERATION: &str = "POST /v1/provider-accounts/{id}/settlement-lists";
/// Most days that a list covers: a month, whatever its clock does meanwhile.
const MOST_DAYS: i64 = 32;
/// Most intents that one request takes up: each waits for the disk, and the caller for all of them.
const MOST_TAKEN_UP: usize = 500;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(hand_in))
}

/// What the list covers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SettlementQuery {
    /// The first moment that it covers: RFC 3339 with its offset (in an address, + is %2B).
    #[param(value_type = String, format = DateTime)]
    from: Moment,
    /// The first moment that it does not cover any more, at most 32 days later.
    #[param(value_type = String, format = DateTime)]
    to: Moment,
}

impl SettlementQuery {
    fn period(&self) -> Result<Period, Problem> {
        let Self { from: Moment(from), to: Moment(to) } = *self;
        if from >= to {
            return Err(Problem::new(Kind::ParameterInvalid, "to is the first moment after the list, so it lies after from"));
        }
        if to - from > TimeDelta::days(MOST_DAYS) {
            return Err(Problem::new(Kind::ParameterInvalid, format!("a list covers at most {MOST_DAYS} days")));
        }
        Ok(Period { from, to })
    }
}

/// Hands in a provider's settlement list. It is held against the log, and every intent that is left to a person and whose money stands on it,
/// under its reference and with exactly what is owed, is resolved with its line, as by `…/resolve`. Nothing else is changed. The same list
/// once more changes nothing more, so there is no key; after a failure it goes on where it stopped. A file with a bad line is refused as a
/// whole. With the token of one store only for an account of that store. One request takes up at most 500 intents, and looks at payments and
/// refunds that were begun within 62 days of the period.
#[utoipa::path(post, path = "/v1/provider-accounts/{id}/settlement-lists", tag = "provider-accounts",
    params(("id" = String, Path, description = "`pac_…`"), SettlementQuery),
    request_body(content = String, content_type = "text/csv",
        description = "At most 4 MiB in UTF-8, with the header `transaction_id,reference,kind,currency,gross,fee,net,at`"),
    responses((status = 200, description = "What both sides say, each difference, and what was resolved", body = SettlementReportResource,
        headers(("Smartpos-Position" = i64, description = "Last log position that the request wrote, if it wrote any")))),
    extensions(("x-permission" = json!("refund_request"))))]
async fn hand_in(
    State(state): State<AppState>,
    allowed: Allowed<may::RefundRequest>,
    correlation: Correlation,
    Id(account): Id<ProviderAccountId>,
    Filter(query): Filter<SettlementQuery>,
    Csv(file): Csv,
) -> Result<Response, Problem> {
    let (principal, period) = (&allowed.principal, query.period()?);
    let tenant = principal.tenant()?;
    let known = state.commands.read::<ProviderAccount>(tenant, account).await?;
    reaches(principal.store, &known).map_err(Problem::missing)?;
    let (hash, list) = read(file).await?;
    let found = state.reads.reconcile(&state.log_pool, (tenant, account), period, list).await.map_err(unanswered)?;
    let handed = HandedIn { state: &state, principal, tenant, correlation, account, hash };
    let (became, position) = handed.resolve(&found.report.differences).await;
    let report = SettlementReportResource::of(account, period, handed.hash, &found, &became);
    let mut response = JsonBody(report).into_response();
    if let Some(position) = position {
        response.headers_mut().insert(POSITION, HeaderValue::from(position));
    }
    Ok(response)
}

/// The hash of a list, and its rows. Some ten thousands of them: not a thing to do between two awaits.
async fn read(file: Bytes) -> Result<(String, Vec<Listed>), Problem> {
    let work = tokio::task::spawn_blocking(move || (hex::encode(Sha256::digest(&file)), read_list(&file)));
    let (hash, list) = work.await.map_err(|error| Problem::internal(&error))?;
    Ok((hash, list.map_err(|bad| unusable(&bad))?))
}

fn unusable(bad: &BadList) -> Problem {
    let told = bad.to_string();
    Problem::new(Kind::SettlementListInvalid, without_card_numbers(&told).unwrap_or(told))
}

fn unanswered(failure: Failure) -> Problem {
    match failure {
        Failure::NoSuchAccount(_) => Problem::missing(Rejection::ProviderAccountNotFound),
        Failure::Sum(error) => Problem::new(Kind::SettlementListInvalid, format!("the sums of the list or of the log: {error}")),
        Failure::Log(projections::Error::TooMuch) => Problem::plain(Kind::SettlementTooLarge),
        Failure::Log(error) => error.into(),
    }
}

/// A list that is sound, with whoever hands it in.
struct HandedIn<'r> {
    state: &'r AppState,
    principal: &'r Principal,
    tenant: MerchantId,
    correlation: Correlation,
    account: ProviderAccountId,
    /// SHA-256 of the file, hex.
    hash: String,
}

impl HandedIn<'_> {
    /// Resolves what can be, in the order of the lines; answers what became of each of them, and the last position that was written. Behind a
    /// failure that may pass nothing more is tried.
    async fn resolve(&self, differences: &[Difference]) -> (Resolutions, Option<i64>) {
        let (mut became, mut position, mut goes_on, mut taken_up) = (Resolutions::new(), None, true, 0);
        let now = self.state.clock.now();
        for (listed, intent) in differences.iter().filter_map(resolvable) {
            // What can never be taken stands in nobody's way.
            let finding = match finding(listed, now) {
                Ok(finding) => finding,
                Err(problem) => {
                    became.insert(listed.line, SettlementResolution::refused(&problem));
                    continue;
                }
            };
            let resolution = if !goes_on || taken_up >= MOST_TAKEN_UP {
                SettlementResolution::left(None)
            } else {
                taken_up += 1;
                match self.resolve_with(listed, finding, intent.payment_intent_id).await {
                    Ok(written) => {
                        position = position.max(written);
                        SettlementResolution::resolved()
                    }
                    Err(problem) if problem.kind().is_retryable() => {
                        goes_on = false;
                        SettlementResolution::left(Some(&problem))
                    }
                    Err(problem) => SettlementResolution::refused(&problem),
                }
            };
            became.insert(listed.line, resolution);
        }
        (became, position)
    }

    /// The finding of a person whose statement is this line; answers the position that it was written at.
    async fn resolve_with(&self, listed: &Listed, finding: Finding, id: PaymentIntentId) -> Result<Option<i64>, Problem> {
        let reference = statement_reference(&self.hash, listed.line);
        let caller = self.caller(listed, id);
        let answer = change_intent_as(self.state, &caller, self.principal.store, id, move |unit| {
            Box::pin(payment_cases::resolve_by_person(unit, id, finding.clone(), reference.clone()))
        });
        Ok(answer.await?.position)
    }

    fn caller(&self, listed: &Listed, id: PaymentIntentId) -> Caller {
        let actor = self.principal.actor();
        let key = format!("{}:{}:{id}", self.hash, listed.line);
        let operation = format!("POST /v1/provider-accounts/{}/settlement-lists", self.account);
        let body = json!({"list_sha256": self.hash, "line": listed.line, "payment_intent_id": id});
        Caller {
            tenant: self.tenant,
            idempotency: Some(IdempotencyKey::new(self.tenant.0, scope_of(&actor, OPERATION), key, &operation, &body)),
            actor,
            device: self.principal.device.clone(),
            operation: Some(OPERATION.to_owned()),
            correlation_id: self.correlation.0,
            if_match: None,
        }
    }
}

/// The row and the intent that it may resolve.
fn resolvable(difference: &Difference) -> Option<(&Listed, &Named)> {
    if difference.is_resolvable() { difference.listed().zip(difference.intent()) } else { None }
}

/// What the line says, as far as the log takes it from a person: not under a name that may be a card's number, as in any other body. The
/// rest of the list is not kept, and a provider's own numbers may look like one: so only this line is refused. Nor at a time that has not
/// come, or that no database holds.
fn finding(Listed { row, .. }: &Listed, now: DateTime<Utc>) -> Result<Finding, Problem> {
    if holds_card_number(&row.transaction_id) {
        return Err(Problem::plain(Kind::CardNumberRefused));
    }
    if !names_transaction(&row.transaction_id) {
        return Err(Problem::new(Kind::RuleBroken, "transaction_id has more than 64 characters"));
    }
    let never = || Problem::new(Kind::RuleBroken, "at is no time that has come, or is of a year before 1");
    let Moment(paid_at) = Moment::of(row.at).filter(|at| at.has_come(now)).ok_or_else(never)?;
    Ok(Finding::Paid { transaction_id: row.transaction_id.clone(), amount: row.gross, paid_at })
}

/// As the log names the statement and its line.
fn statement_reference(hash: &str, line: u64) -> String {
    format!("settlement list {hash}, line {line}")
}

#[cfg(test)]
mod tests {
    use domain::{
        money::Money,
        reconciliation::{Kind as Way, ListRow},
    };

    use super::*;

    const NOON: &str = "2026-05-01T12:00:00Z";

    fn at(transaction_id: &str, at: &str) -> Result<Finding, Kind> {
        let (transaction_id, gross, at) = (transaction_id.to_owned(), Money::thb(1_00), at.parse().unwrap());
        let row = ListRow { transaction_id, reference: None, kind: Way::Payment, gross, fee: None, net: None, at };
        finding(&Listed { line: 2, row }, NOON.parse().unwrap()).map_err(|problem| problem.kind())
    }

    fn of(transaction_id: &str) -> Result<Finding, Kind> {
        at(transaction_id, NOON)
    }

    #[test]
    fn a_line_says_what_a_person_could_say_and_no_more() {
        assert!(
            matches!(of("T1"), Ok(Finding::Paid { transaction_id, amount, .. }) if transaction_id == "T1" && amount == Money::thb(1_00))
        );
        assert!(of(&"T".repeat(64)).is_ok());
        assert_eq!(of(&"T".repeat(65)), Err(Kind::RuleBroken));
        assert_eq!(of("4111 1111 1111 1111"), Err(Kind::CardNumberRefused));
    }

    #[test]
    fn a_line_tells_of_a_time_that_has_come_and_that_a_database_holds() {
        assert!(at("T1", "2020-02-29T00:00:00Z").is_ok() && at("T1", "2026-05-01T12:05:00Z").is_ok());
        for bad in ["2026-05-01T12:05:01Z", "9999-12-31T23:59:59-07:00", "0000-06-01T00:00:00Z", "0001-01-01T00:00:00+07:00"] {
            assert_eq!(at("T1", bad), Err(Kind::RuleBroken), "{bad}");
        }
    }

    #[test]
    fn a_reference_names_list_and_line_and_is_short_enough_for_the_log() {
        let reference = statement_reference(&"f".repeat(64), u64::MAX);
        assert!(reference.contains(&u64::MAX.to_string()) && reference.len() <= 200, "{reference}");
    }

    #[test]
    fn a_list_covers_a_month_at_most() {
        let period = |from: &str, to: &str| {
            let query = SettlementQuery { from: Moment(from.parse().unwrap()), to: Moment(to.parse().unwrap()) };
            query.period().map(|period| period.to - period.from).map_err(|problem| problem.kind())
        };
        assert_eq!(period("2026-05-01T00:00:00+07:00", "2026-05-02T00:00:00+07:00"), Ok(TimeDelta::days(1)));
        assert_eq!(period("2026-05-01T00:00:00Z", "2026-06-02T00:00:00Z"), Ok(TimeDelta::days(32)));
        for (from, to) in [("2026-05-01T00:00:00Z", "2026-05-01T00:00:00Z"), ("2026-05-01T00:00:00Z", "2026-06-02T00:00:01Z")] {
            assert_eq!(period(from, to), Err(Kind::ParameterInvalid), "{to}");
        }
    }
}
