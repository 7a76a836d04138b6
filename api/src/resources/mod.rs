//! What callers see: one shape per thing, made from the aggregate's state, the same after a command and in a query.

pub mod bill;
pub mod customer;
pub mod event;
pub mod merchant;
pub mod order;
pub mod payment;
pub mod payment_intent;
pub mod provider_account;
pub mod refund;
pub mod report;
pub mod settlement;
pub mod store;
pub mod webhook_endpoint;

use domain::money::{Currency, Money};
use serde::Serialize;
use utoipa::ToSchema;

pub use bill::BillResource;
pub use customer::CustomerResource;
pub use event::EventResource;
pub use merchant::MerchantResource;
pub use order::{OrderResource, TimelineEntry};
pub use payment::PaymentResource;
pub use payment_intent::PaymentIntentResource;
pub use refund::RefundResource;
pub use store::StoreResource;
pub use webhook_endpoint::WebhookEndpointResource;

/// A thing that callers see, made from the state of its aggregate.
pub trait Resource<S>: Serialize + Sized {
    /// `None` for a thing that was never made.
    fn of(state: &S, version: i64) -> Option<Self>;
}

/// A page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListOf<T> {
    /// The things.
    pub data: Vec<T>,
    /// What to ask for as `cursor` to get the next page; nothing on the last one.
    pub next_cursor: Option<String>,
}

/// How an amount looks. The platform's own type is `domain::money::Money`, which knows nothing of OpenAPI.
#[derive(ToSchema)]
#[schema(as = Money)]
pub struct MoneySchema {
    /// Minor units of the currency: satang for THB, yen for JPY.
    #[schema(examples(12050))]
    pub amount: i64,
    /// ISO 4217 code.
    #[schema(examples("THB"), pattern = "^[A-Z]{3}$")]
    pub currency: String,
}

/// A reduction of a line or of a whole order.
#[derive(ToSchema)]
#[schema(as = Discount)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DiscountSchema {
    /// A share.
    Percent {
        /// 1 to 10,000; 1,000 is 10 %.
        basis_points: u32,
    },
    /// A fixed sum.
    Amount {
        /// Minor units of the order's currency.
        amount: i64,
    },
}

/// How a line is taxed.
#[derive(ToSchema)]
#[schema(as = TaxClass)]
#[serde(rename_all = "snake_case")]
pub enum TaxClassSchema {
    /// At the standard rate of the store's profile.
    Standard,
    /// Taxable at 0 %.
    Zero,
    /// Outside the tax.
    Exempt,
    /// Itself a tax, as an outside source states it: the whole line is tax.
    Stated,
}

/// How money is tendered.
#[derive(ToSchema)]
#[schema(as = Tender)]
#[serde(rename_all = "lowercase")]
pub enum TenderSchema {
    /// Notes and coins, recorded by staff.
    Cash,
    /// A PromptPay QR, confirmed by the provider.
    PromptPay,
    /// A card taken by an outside terminal, recorded by staff.
    Card,
    /// A card charged through a provider, by its token.
    OnlineCard,
    /// On account, recorded by staff.
    Invoice,
    /// The imported record does not say how.
    Unknown,
}

/// The tax of one class on one document.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaxLine {
    /// The class.
    #[schema(value_type = TaxClassSchema)]
    pub tax_class: domain::pricing::TaxClass,
    /// The rate, basis points; 700 is 7 %.
    pub rate_basis_points: u32,
    /// The value without tax.
    #[schema(value_type = MoneySchema)]
    pub base: Money,
    /// The tax.
    #[schema(value_type = MoneySchema)]
    pub tax: Money,
}

impl TaxLine {
    fn of(total: &domain::pricing::TaxTotal, currency: Currency) -> Self {
        Self {
            tax_class: total.tax_class,
            rate_basis_points: total.rate_basis_points,
            base: Money::new(total.base, currency),
            tax: Money::new(total.tax, currency),
        }
    }
}

#[cfg(test)]
mod tests;
