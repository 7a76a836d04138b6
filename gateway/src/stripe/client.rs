//! Calls to Stripe: form bodies, one idempotency key per thing, objects read whole.

use chrono::TimeDelta;
use domain::provider::{AttemptKey, AttemptView, DisputeSeen, ExchangeLog, RefundRequest};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    StripeConfig,
    mapping::{self, Dispute, Intent, List, Refund, is_id},
};
use crate::{
    Clock,
    error::GatewayError,
    failure::{Failure, decline, dispute_seen},
    http::{Http, Recorded},
};

/// Tokens, and whatever tells of the payer.
const MASKED: [&str; 8] =
    ["payment_method", "card", "billing_details", "email", "receipt_email", "customer", "client_secret", "receipt_url"];
/// Of a list, a hundred a page.
const MAX_PAGES: usize = 20;
/// Stripe's clock may be behind ours.
const SKEW: TimeDelta = TimeDelta::minutes(10);

/// Fields of a form.
pub(super) type Form = Vec<(&'static str, String)>;

pub(super) struct Client {
    http: Http,
    config: StripeConfig,
}

impl Client {
    pub(super) fn new(config: &StripeConfig, clock: Clock) -> Result<Self, GatewayError> {
        Ok(Self { http: Http::new(&config.base_url, config.timeout(), clock)?, config: config.clone() })
    }

    pub(super) fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.http.now()
    }

    /// A POST about an intent. A card that is refused is an answer too: the intent comes with the error.
    pub(super) async fn post_intent(
        &self,
        operation: &'static str,
        path: &str,
        idempotency_key: &str,
        mut form: Form,
        log: &ExchangeLog,
    ) -> Result<Intent, (Failure, Option<Box<Intent>>)> {
        form.push(("expand[]", "latest_charge".to_owned()));
        let request = self.request(Method::POST, path).header("idempotency-key", idempotency_key).form(&form);
        let recorded = Recorded { operation, masked: &MASKED, log };
        let answer = self.http.exchange(request, recorded).await.map_err(|failure| (failure, None))?;
        if (200..300).contains(&answer.status) {
            return parse(&answer.body).map_err(|failure| (failure, None));
        }
        Err(mapping::read_failure(answer.status, &answer.body))
    }

    pub(super) async fn get_intent(&self, id: &str, log: &ExchangeLog) -> Result<Intent, Failure> {
        let query = [("expand[]", "latest_charge".to_owned())];
        self.get("inquire", &format!("/v1/payment_intents/{}", checked(id)?), &query, log).await
    }

    /// The attempt in the books: by its id, or looked for among what was made since it started.
    pub(super) async fn find(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<Option<AttemptView>, Failure> {
        let intent = match &key.provider_id {
            Some(id) => Some(self.get_intent(id, log).await?),
            None => self.search(key, log).await?,
        };
        let Some(intent) = intent else { return Ok(None) };
        let disputed = intent.disputed_charge().map(str::to_owned);
        let mut view = mapping::read_intent(intent, key)?;
        if let Some(charge) = disputed {
            let dispute = self.dispute(&charge, log).await?;
            for payment in &mut view.payments {
                payment.dispute.clone_from(&dispute);
            }
        }
        Ok(Some(view))
    }

    /// How the newest dispute of a charge stands.
    async fn dispute(&self, charge: &str, log: &ExchangeLog) -> Result<Option<DisputeSeen>, Failure> {
        let query = [("charge", checked(charge)?.to_owned()), ("limit", "1".to_owned())];
        let page: List<Dispute> = self.get("inquire", "/v1/disputes", &query, log).await?;
        Ok(page.data.first().map(|dispute| dispute_seen(&dispute.status, dispute.reason.as_deref())))
    }

    async fn search(&self, key: &AttemptKey, log: &ExchangeLog) -> Result<Option<Intent>, Failure> {
        let (ours, since) = (key.attempt_id.0.to_string(), (key.started_at - SKEW).timestamp().to_string());
        let mut query = vec![("created[gte]", since), ("limit", "100".to_owned()), ("expand[]", "data.latest_charge".to_owned())];
        for _ in 0..MAX_PAGES {
            let page: List<Intent> = self.get("inquire", "/v1/payment_intents", &query, log).await?;
            let last = page.data.last().map(|intent| intent.id.clone());
            if let Some(found) = page.data.into_iter().find(|intent| intent.metadata.get("attempt").and_then(Value::as_str) == Some(&ours))
            {
                return Ok(Some(found));
            }
            match last {
                Some(last) if page.has_more => next_page(&mut query, last),
                Some(_) | None => return Ok(None),
            }
        }
        Err(Failure::Uncertain("more than 2,000 intents since then: the attempt was not found among them".to_owned()))
    }

    pub(super) async fn post_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> Result<Refund, Failure> {
        let form = [
            ("charge", checked(&request.transaction_id)?.to_owned()),
            ("amount", request.amount.amount.to_string()),
            ("metadata[refund]", request.refund_id.0.to_string()),
            ("metadata[reference]", request.reference.clone()),
        ];
        let key = format!("refund-{}", request.refund_id.0);
        let call = self.request(Method::POST, "/v1/refunds").header("idempotency-key", key).form(&form);
        let answer = self.http.exchange(call, Recorded { operation: "refund", masked: &MASKED, log }).await?;
        if (200..300).contains(&answer.status) { parse(&answer.body) } else { Err(mapping::read_failure(answer.status, &answer.body).0) }
    }

    /// Our refund among those of its charge.
    pub(super) async fn find_refund(&self, request: &RefundRequest, log: &ExchangeLog) -> Result<Option<Refund>, Failure> {
        let ours = request.refund_id.0.to_string();
        let mut query = vec![("charge", checked(&request.transaction_id)?.to_owned()), ("limit", "100".to_owned())];
        for _ in 0..MAX_PAGES {
            let page: List<Refund> = self.get("inquire_refund", "/v1/refunds", &query, log).await?;
            let last = page.data.last().map(|refund| refund.id.clone());
            if let Some(found) = page.data.into_iter().find(|refund| refund.metadata.get("refund").and_then(Value::as_str) == Some(&ours)) {
                return Ok(Some(found));
            }
            match last {
                Some(last) if page.has_more => next_page(&mut query, last),
                Some(_) | None => return Ok(None),
            }
        }
        Err(Failure::Uncertain("more than 2,000 refunds of one charge".to_owned()))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&'static str, String)],
        log: &ExchangeLog,
    ) -> Result<T, Failure> {
        let request = self.request(Method::GET, path).query(query);
        let answer = self.http.exchange(request, Recorded { operation, masked: &MASKED, log }).await?;
        if (200..300).contains(&answer.status) { parse(&answer.body) } else { Err(mapping::read_failure(answer.status, &answer.body).0) }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, path).bearer_auth(self.config.secret_key.reveal()).header("stripe-version", &self.config.api_version)
    }
}

fn next_page(query: &mut Vec<(&'static str, String)>, after: String) {
    query.retain(|(name, _)| *name != "starting_after");
    query.push(("starting_after", after));
}

/// The parser's own words could quote a payer's data.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|e| Failure::Uncertain(format!("a success that is unreadable at line {} column {}", e.line(), e.column())))
}

/// An id that may stand in a path.
pub(super) fn checked(id: &str) -> Result<&str, Failure> {
    if is_id(id) { Ok(id) } else { Err(Failure::Declined(decline("invalid_request", "the provider's id is malformed"))) }
}
