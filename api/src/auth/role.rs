//! Roles and what they may do. Everything that is not allowed here is forbidden.

use domain::envelope::StreamType;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! permissions {
    ($( $(#[$doc:meta])* $name:ident = $word:literal; )*) => {
        /// Something that a route may demand.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Permission { $( $(#[$doc])* $name ),* }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$name ),* ];
            /// The word in the OpenAPI document, `x-permission`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $word ),* }
            }
        }

        /// A permission as a type: a route names it in its signature, so that none is forgotten.
        pub trait Policy: Send + Sync + 'static {
            /// The permission.
            const PERMISSION: Permission;
        }

        /// One type per permission.
        pub mod may {
            $( $(#[$doc])* #[derive(Debug, Clone, Copy)] pub struct $name;
            impl super::Policy for $name { const PERMISSION: super::Permission = super::Permission::$name; } )*
        }
    };
}

permissions! {
    /// Register a merchant under the PSP.
    MerchantRegister = "merchant_register";
    /// See merchants.
    MerchantRead = "merchant_read";
    /// Rename or deactivate a merchant.
    MerchantManage = "merchant_manage";
    /// Open, change or deactivate stores.
    StoreManage = "store_manage";
    /// See stores.
    StoreRead = "store_read";
    /// Open and change orders.
    OrderWrite = "order_write";
    /// See orders.
    OrderRead = "order_read";
    /// Issue and void bills.
    BillWrite = "bill_write";
    /// See bills.
    BillRead = "bill_read";
    /// Start, confirm and cancel payments.
    PaymentTake = "payment_take";
    /// See payments.
    PaymentRead = "payment_read";
    /// Give money back.
    RefundRequest = "refund_request";
    /// See refunds.
    RefundRead = "refund_read";
    /// Register customers and change their profiles.
    CustomerWrite = "customer_write";
    /// See customers with their profiles.
    CustomerRead = "customer_read";
    /// Forget a customer, for ever.
    CustomerErase = "customer_erase";
    /// Open, change and disable provider accounts.
    ProviderAccountManage = "provider_account_manage";
    /// See provider accounts, without their secrets.
    ProviderAccountRead = "provider_account_read";
    /// See stored call-backs of providers.
    InboundWebhookRead = "inbound_webhook_read";
    /// Have stored call-backs of providers looked into again.
    InboundWebhookReprocess = "inbound_webhook_reprocess";
    /// See reports.
    ReportRead = "report_read";
    /// Make and revoke credentials of services.
    CredentialManage = "credential_manage";
    /// Look up an idempotency key of one's own.
    KeyRead = "key_read";
    /// Read the event feed.
    EventRead = "event_read";
    /// Set up webhook endpoints, see and repeat their deliveries.
    WebhookManage = "webhook_manage";
    /// Follow events over a WebSocket.
    EventsSubscribe = "events_subscribe";
}

impl Permission {
    /// What somebody must hold to read things of a kind, by whichever way.
    pub const fn to_read(kind: StreamType) -> Self {
        match kind {
            StreamType::Merchant => Self::MerchantRead,
            StreamType::Store => Self::StoreRead,
            StreamType::Order => Self::OrderRead,
            StreamType::Bill => Self::BillRead,
            StreamType::PaymentIntent => Self::PaymentRead,
            StreamType::Refund => Self::RefundRead,
            // Nothing of it is shown but what it adds to the daily sales.
            StreamType::LedgerAdjustment => Self::ReportRead,
            StreamType::Customer => Self::CustomerRead,
            StreamType::ProviderAccount => Self::ProviderAccountRead,
            StreamType::WebhookEndpoint => Self::WebhookManage,
        }
    }

    /// Whether it is about what belongs to a merchant as a whole: whoever is limited to one store never holds it. An endpoint is told
    /// the events of every store; a call-back of a provider names none. Things that may belong to one store (accounts, credentials)
    /// are not among these: their routes look at each of them.
    pub const fn is_of_the_whole_merchant(self) -> bool {
        matches!(self, Self::MerchantManage | Self::WebhookManage | Self::InboundWebhookRead | Self::InboundWebhookReprocess)
    }
}

/// Who somebody is to the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs a PSP: registers merchants and sees its merchants and stores, not their sales.
    PlatformAdmin,
    /// Runs a merchant.
    MerchantAdmin,
    /// Runs a shop; gives money back.
    Manager,
    /// Sells.
    Cashier,
    /// A terminal; sells.
    Device,
    /// Sees everything of a merchant but its customers, credentials and webhook endpoints; changes nothing.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 6] = [Self::PlatformAdmin, Self::MerchantAdmin, Self::Manager, Self::Cashier, Self::Device, Self::Auditor];

    /// The word in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform_admin",
            Self::MerchantAdmin => "merchant_admin",
            Self::Manager => "manager",
            Self::Cashier => "cashier",
            Self::Device => "device",
            Self::Auditor => "auditor",
        }
    }

    /// Whether the role may do this.
    pub const fn allows(self, permission: Permission) -> bool {
        use Permission as P;
        use Role as R;
        match permission {
            P::MerchantRegister => matches!(self, R::PlatformAdmin),
            P::MerchantManage => matches!(self, R::PlatformAdmin | R::MerchantAdmin),
            P::MerchantRead => matches!(self, R::PlatformAdmin | R::MerchantAdmin | R::Manager | R::Auditor),
            P::StoreManage | P::CustomerErase | P::CredentialManage | P::WebhookManage | P::ProviderAccountManage => {
                matches!(self, R::MerchantAdmin)
            }
            P::StoreRead => true,
            P::OrderWrite | P::BillWrite | P::PaymentTake => matches!(self, R::MerchantAdmin | R::Manager | R::Cashier | R::Device),
            P::OrderRead | P::BillRead | P::PaymentRead | P::RefundRead | P::EventsSubscribe | P::KeyRead => self.needs_merchant(),
            P::CustomerWrite | P::CustomerRead => matches!(self, R::MerchantAdmin | R::Manager | R::Cashier | R::Device),
            P::RefundRequest => matches!(self, R::MerchantAdmin | R::Manager),
            P::ProviderAccountRead => matches!(self, R::MerchantAdmin | R::Manager | R::Auditor),
            P::InboundWebhookRead => matches!(self, R::PlatformAdmin | R::MerchantAdmin | R::Auditor),
            P::InboundWebhookReprocess => matches!(self, R::PlatformAdmin | R::MerchantAdmin),
            P::ReportRead | P::EventRead => matches!(self, R::MerchantAdmin | R::Manager | R::Auditor),
        }
    }

    /// A token of this role is good only for one merchant.
    pub const fn needs_merchant(self) -> bool {
        match self {
            Self::PlatformAdmin => false,
            Self::MerchantAdmin | Self::Manager | Self::Cashier | Self::Device | Self::Auditor => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line per permission; roles in the order of [`Role::ALL`].
    const TABLE: &str = "\
merchant_register         x.....
merchant_read             xxx..x
merchant_manage           xx....
store_manage              .x....
store_read                xxxxxx
order_write               .xxxx.
order_read                .xxxxx
bill_write                .xxxx.
bill_read                 .xxxxx
payment_take              .xxxx.
payment_read              .xxxxx
refund_request            .xx...
refund_read               .xxxxx
customer_write            .xxxx.
customer_read             .xxxx.
customer_erase            .x....
provider_account_manage   .x....
provider_account_read     .xx..x
inbound_webhook_read      xx...x
inbound_webhook_reprocess xx....
report_read               .xx..x
credential_manage         .x....
key_read                  .xxxxx
event_read                .xx..x
webhook_manage            .x....
events_subscribe          .xxxxx
";

    #[test]
    fn the_table_of_permissions_is_the_agreed_one() {
        let line = |permission: &Permission| {
            let marks: String = Role::ALL.iter().map(|role| if role.allows(*permission) { 'x' } else { '.' }).collect();
            format!("{:<26}{marks}\n", permission.as_str())
        };
        let table: String = Permission::ALL.iter().map(line).collect();
        assert_eq!(table, TABLE);
    }
}
