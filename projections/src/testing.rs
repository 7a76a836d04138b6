//! Hand-made history for tests: a sale paid in cash and refunded in part, among other things.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::{
    bill::{self, BillLine},
    customer::{self, ErasureReason, Sealed},
    envelope::{RecordedEvent, StreamKey, StreamType},
    event::{AggregateEvent, ReadEvent},
    ids::{
        BillId, CustomerId, LineId, MerchantId, OrderId, PaymentIntentId, ProviderAccountId, PspId, RefundId, StoreId, Ulid,
        WebhookEndpointId,
    },
    integrity::recorded_hash,
    merchant,
    money::{Currency, Money},
    order::{self, OrderType},
    payment_intent::{self, Evidence, Tender},
    pricing::{TaxClass, TaxProfile},
    refund::{self, Destination},
    store, webhook_endpoint,
};

pub(crate) const MERCHANT: MerchantId = MerchantId(Ulid(1));
pub(crate) const STORE: StoreId = StoreId(Ulid(3));

pub(crate) fn at(pos: i64) -> DateTime<Utc> {
    "2026-05-01T10:00:00.123456Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(pos)
}

pub(crate) fn day(n: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 5, n).unwrap()
}

/// An event that no projection needs to understand.
pub(crate) fn blank_event(pos: i64) -> Arc<ReadEvent> {
    let stream = StreamKey { tenant: MERCHANT, stream_type: StreamType::Order, stream_id: Ulid(77) };
    record(pos, stream, pos, "order.cancelled", br#"{"reason":"x"}"#.to_vec())
}

pub(crate) fn record(pos: i64, stream: StreamKey, version: i64, event_type: &str, payload: Vec<u8>) -> Arc<ReadEvent> {
    let mut event = RecordedEvent {
        pos,
        stream,
        version,
        event_type: event_type.into(),
        schema_version: 1,
        slice: stream.slice(),
        occurred_at: at(pos),
        recorded_at: at(pos),
        correlation_id: Ulid(500),
        causation_id: Ulid(501),
        actor: "user:test".into(),
        meta: b"{}".to_vec(),
        payload,
        pii: None,
        hash: [0; 32],
    };
    event.hash = recorded_hash(&event);
    ReadEvent::shared(event)
}

/// A log under construction.
#[derive(Default)]
pub(crate) struct History(pub(crate) Vec<Arc<ReadEvent>>);

impl History {
    pub(crate) fn add<E: AggregateEvent>(&mut self, stream_type: StreamType, id: impl Into<Ulid>, event: impl Into<E>) -> &mut Self {
        let stream = StreamKey { tenant: MERCHANT, stream_type, stream_id: id.into() };
        let encoded = event.into().encode();
        self.raw(stream, encoded.event_type, encoded.payload);
        if let (Some(pii), Some(last)) = (encoded.pii, self.0.last_mut()) {
            let mut event = RecordedEvent { pii: Some(pii), ..(***last).clone() };
            event.hash = recorded_hash(&event);
            *last = ReadEvent::shared(event);
        }
        self
    }

    pub(crate) fn raw(&mut self, stream: StreamKey, event_type: &str, payload: Vec<u8>) -> &mut Self {
        let version = self.0.iter().filter(|event| event.stream == stream).count() + 1;
        let pos = i64::try_from(self.0.len()).unwrap() + 1;
        self.0.push(record(pos, stream, i64::try_from(version).unwrap(), event_type, payload));
        self
    }

    pub(crate) fn directory(&mut self) -> &mut Self {
        let psp_id = PspId(Ulid(2));
        let registered = merchant::Registered { merchant_id: MERCHANT, psp_id, code: "KOPI".into(), name: "Kopi House".into() };
        let opened = store::Opened {
            store_id: STORE,
            merchant_id: MERCHANT,
            psp_id,
            code: "SIAM".into(),
            name: "Siam Square".into(),
            currency: Currency::THB,
            tax_profile: TaxProfile::thai_vat_inclusive(),
            zone: "Asia/Bangkok".into(),
            day_starts_at_minute: 300,
        };
        self.add::<merchant::Event>(StreamType::Merchant, MERCHANT, registered);
        self.add::<store::Event>(StreamType::Store, STORE, opened);
        self.add::<merchant::Event>(StreamType::Merchant, MERCHANT, merchant::Renamed { name: "Kopi & Co".into() });
        self.add::<store::Event>(StreamType::Store, STORE, store::Deactivated { reason: "lease".into() })
    }

    /// Order `n` with two coffees and, taken off again, a cake; billed.
    pub(crate) fn order(&mut self, n: u128) -> &mut Self {
        let order_id = OrderId(Ulid(1000 + n));
        let line = |id: u128, item: &str, quantity_milli| order::LineAdded {
            line_id: LineId(Ulid(id)),
            item_code: item.into(),
            name: format!("{item} ☕"),
            quantity_milli,
            unit_price: 53_50,
            price_base_milli: 1_000,
            tax_class: TaxClass::Standard,
            discount: None,
        };
        let opened = order::Opened {
            order_id,
            store_id: STORE,
            currency: Currency::THB,
            tax_profile: TaxProfile::thai_vat_inclusive(),
            business_date: day(1),
            order_type: OrderType::DineIn,
            table_number: Some("7".into()),
            order_number: None,
        };
        let mut add = |event: order::Event| {
            self.add::<order::Event>(StreamType::Order, order_id, event);
        };
        add(opened.into());
        add(line(1, "latte", 1_000).into());
        add(line(2, "cake", 1_000).into());
        add(order::LineQuantityChanged { line_id: LineId(Ulid(1)), delta_milli: 1_000, quantity_milli: 2_000 }.into());
        add(order::LineVoided { line_id: LineId(Ulid(2)), reason: "sold out".into() }.into());
        add(order::Billed { bill_id: BillId(Ulid(2000 + n)), total: 107_00 }.into());
        self
    }

    /// Bill `n` over order `n`: two coffees, 107.00 with 7.00 tax in it.
    pub(crate) fn bill(&mut self, n: u128) -> &mut Self {
        let (bill_id, order_id) = (BillId(Ulid(2000 + n)), OrderId(Ulid(1000 + n)));
        let line = BillLine {
            line_id: LineId(Ulid(1)),
            order_id,
            item_code: "latte".into(),
            name: "latte ☕".into(),
            quantity_milli: 2_000,
            unit_price: 53_50,
            gross: 107_00,
            discount: 0,
            service_charge: 0,
            tax: 7_00,
            total: 107_00,
        };
        let issued = bill::Issued {
            bill_id,
            store_id: STORE,
            order_ids: vec![order_id],
            business_date: day(1),
            currency: Currency::THB,
            tax_profile: TaxProfile::thai_vat_inclusive(),
            lines: vec![line],
            subtotal: 107_00,
            discount: 0,
            service_charge: 0,
            tax: 7_00,
            adjustment: 0,
            total: 107_00,
            taxes: vec![],
        };
        self.add::<bill::Event>(StreamType::Bill, bill_id, issued)
    }

    /// Payment `n` settles bill `n` in cash, and 1.00 more than asked for arrives.
    pub(crate) fn pay(&mut self, n: u128) -> &mut Self {
        let (bill_id, order_id) = (BillId(Ulid(2000 + n)), OrderId(Ulid(1000 + n)));
        let payment_intent_id = PaymentIntentId(Ulid(3000 + n));
        let created = payment_intent::Created {
            payment_intent_id,
            store_id: STORE,
            bill_id: Some(bill_id),
            order_id: Some(order_id),
            amount: Money::thb(107_00),
            tender: Tender::Cash,
            expires_at: None,
            merchant_reference: Some("till 4".into()),
            description: Some("two lattes".into()),
            merchant_terminal_id: None,
            terms: None,
        };
        let succeeded = payment_intent::Succeeded {
            payment_intent_id,
            bill_id: Some(bill_id),
            tender: Tender::Cash,
            attempt_id: None,
            transaction_id: None,
            amount: Money::thb(107_00),
            paid_at: at(0),
            evidence: Evidence::Staff,
            cash_received: Some(110_00),
            cash_change: Some(3_25),
            cash_rounding: -25,
            tip: 5_00,
            acquirer: Some("drawer 1".into()),
        };
        let allocated = bill::PaymentAllocated {
            payment_intent_id,
            tender: Tender::Cash,
            amount: 107_00,
            cash_rounding: -25,
            tip: 5_00,
            acquirer: Some("drawer 1".into()),
            paid_total: 107_00,
        };
        self.add::<payment_intent::Event>(StreamType::PaymentIntent, payment_intent_id, created);
        self.add::<payment_intent::Event>(StreamType::PaymentIntent, payment_intent_id, succeeded);
        self.add::<bill::Event>(StreamType::Bill, bill_id, allocated);
        self.add::<bill::Event>(
            StreamType::Bill,
            bill_id,
            bill::OverpaymentParked { payment_intent_id, tender: Tender::Cash, amount: 1_00 },
        );
        self.add::<bill::Event>(StreamType::Bill, bill_id, bill::Paid { bill_id, order_ids: vec![order_id], total: 107_00 });
        self.add::<order::Event>(StreamType::Order, order_id, order::Completed { bill_id })
    }

    /// Refund `n` gives half of payment `n` back in cash, a day later.
    pub(crate) fn refund(&mut self, n: u128) -> &mut Self {
        let (bill_id, refund_id) = (BillId(Ulid(2000 + n)), RefundId(Ulid(4000 + n)));
        let payment_intent_id = PaymentIntentId(Ulid(3000 + n));
        let (amount, bill) = (Money::thb(53_50), Some(bill_id));
        let requested = refund::Requested {
            unmatched: false,
            fallback_of: None,
            refund_id,
            payment_intent_id: Some(payment_intent_id),
            bill_id: bill,
            store_id: STORE,
            business_date: day(2),
            amount,
            tender: Tender::PromptPay,
            acquirer: None,
            destination: Destination::Cash,
            reason: "cold".into(),
            provider: None,
            breakdown: None,
            cash_rounding: 0,
        };
        let succeeded =
            refund::Succeeded { refund_id, payment_intent_id: Some(payment_intent_id), bill_id: bill, amount, provider_reference: None };
        let recorded = bill::RefundRecorded { refund_id, payment_intent_id, amount: 53_50, refunded_total: 53_50 };
        let reserved = payment_intent::RefundReserved { refund_id, amount: 53_50 };
        let settled = payment_intent::RefundSettled { refund_id, amount: 53_50, refunded_total: 53_50 };
        self.add::<refund::Event>(StreamType::Refund, refund_id, requested);
        self.add::<payment_intent::Event>(StreamType::PaymentIntent, payment_intent_id, reserved);
        self.add::<refund::Event>(StreamType::Refund, refund_id, succeeded);
        self.add::<payment_intent::Event>(StreamType::PaymentIntent, payment_intent_id, settled);
        self.add::<bill::Event>(StreamType::Bill, bill_id, recorded)
    }

    /// Two people, one of whom is forgotten again.
    pub(crate) fn customers(&mut self) -> &mut Self {
        let (kept, gone) = (CustomerId(Ulid(5001)), CustomerId(Ulid(5002)));
        let profile = || Sealed(vec![1, 2, 3]);
        for customer_id in [kept, gone] {
            self.add::<customer::Event>(StreamType::Customer, customer_id, customer::Registered { customer_id, profile: profile() });
        }
        self.add::<customer::Event>(StreamType::Customer, kept, customer::ProfileChanged { customer_id: kept, profile: profile() });
        let erased = customer::Erased { customer_id: gone, reason: ErasureReason::Requested };
        self.add::<customer::Event>(StreamType::Customer, gone, erased)
    }

    /// An account of a store, changed in every way.
    pub(crate) fn provider_account(&mut self) -> &mut Self {
        use domain::provider_account::{AmountRange, Disabled, Enabled, Event, Opened, SecretMarks, SecretsReplaced, Terms, TermsChanged};
        let provider_account_id = ProviderAccountId(Ulid(6001));
        let terms = Terms {
            name: "SCB".into(),
            priority: 10,
            methods: vec![domain::provider::MethodKind::PromptPay],
            amounts: vec![AmountRange { currency: Currency::THB, min: 1, max: Some(700_000_00) }],
            settings: [("biller_id".to_owned(), serde_json::json!("099400016550100"))].into(),
        };
        let secrets = SecretMarks::from([("api_key".to_owned(), "9f3a".to_owned())]);
        let sealed = || Sealed(vec![4, 5, 6]);
        let opened = Opened {
            provider_account_id,
            provider: "scb".into(),
            store_id: None,
            live: true,
            terms: terms.clone(),
            secrets: secrets.clone(),
            sealed: sealed(),
        };
        let kind = StreamType::ProviderAccount;
        self.add::<Event>(kind, provider_account_id, opened);
        self.add::<Event>(kind, provider_account_id, TermsChanged { terms: Terms { priority: 20, ..terms } });
        self.add::<Event>(kind, provider_account_id, SecretsReplaced { secrets, former_good_until: None, sealed: sealed() });
        self.add::<Event>(kind, provider_account_id, Disabled { reason: "contract ended".into() });
        self.add::<Event>(kind, provider_account_id, Enabled {})
    }

    /// An endpoint that wants everything.
    pub(crate) fn webhook_endpoint(&mut self) -> &mut Self {
        let webhook_endpoint_id = WebhookEndpointId(Ulid(7_000));
        let details = webhook_endpoint::Details { url: "https://shop.example/hooks".into(), events: vec!["*".into()], description: None };
        let secret = webhook_endpoint::Sealed(vec![1, 2, 3]);
        let created = webhook_endpoint::Created { webhook_endpoint_id, details, secret };
        self.add::<webhook_endpoint::Event>(StreamType::WebhookEndpoint, webhook_endpoint_id, created)
    }

    pub(crate) fn sale_and_refund() -> Vec<Arc<ReadEvent>> {
        let mut history = Self::default();
        history.directory().order(1).order(2).bill(1).bill(2).pay(2).pay(1).refund(1).customers().provider_account().webhook_endpoint();
        history.0
    }
}
