//! One order with its bill, payment and refund, in which the managers and the worker do what they want.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::{
    bill::Bill,
    order::{self, Order},
    pricing::TaxClass,
    provider::{AttemptStatus, AttemptView, CallOutcome, PaymentSeen},
    refund::Refund,
    store,
};

/// One order, bill, payment and refund, and a driver that executes what the managers want, each command `times` times.
pub(super) struct World {
    times: usize,
    pub(super) order: order::State,
    pub(super) bill: bill::State,
    pub(super) payment: payment_intent::State,
    pub(super) refund: refund::State,
    pub(super) tasks: BTreeMap<String, Task>,
    queue: VecDeque<(Ulid, DomainEvent)>,
}

/// What the provider answers.
pub(super) fn books(status: AttemptStatus, payments: Vec<PaymentSeen>) -> AttemptView {
    AttemptView { provider_id: None, status, payments }
}

/// Decides and remembers; a rejection is a bug of the flow.
fn apply<A: Aggregate>(state: &mut A::State, command: A::Command) -> Vec<A::Event> {
    let events = A::decide(state, command).unwrap_or_else(|rejection| panic!("rejected: {rejection}"));
    for event in &events {
        *state = A::evolve(state.clone(), event);
    }
    events
}

impl World {
    /// An order of 117.70, billed, with a payment that holds all of it.
    pub(super) fn with_payment_by(tender: Tender, times: usize) -> Self {
        let mut world = Self {
            times,
            order: order::State::default(),
            bill: bill::State::default(),
            payment: payment_intent::State::default(),
            refund: refund::State::default(),
            tasks: BTreeMap::new(),
            queue: VecDeque::new(),
        };
        let store = store::tests::opened();
        world.order(order::Command::Open(Box::new(order::Opened {
            order_id: id(7),
            store_id: store.store_id,
            currency: store.currency,
            tax_profile: store.tax_profile,
            business_date: at(0).date_naive(),
            order_type: order::OrderType::Takeaway,
            table_number: None,
            order_number: None,
        })));
        let (item_code, name) = ("KS".to_owned(), "Khao soi".to_owned());
        let (quantity_milli, unit_price, tax_class) = (1_000, 110_00, TaxClass::Standard);
        let line = order::LineAdded {
            line_id: id(1),
            item_code,
            name,
            quantity_milli,
            unit_price,
            price_base_milli: 1_000,
            tax_class,
            discount: None,
        };
        world.order(order::Command::AddLine(line));
        world.order(order::Command::Bill { bill_id: id(3) });
        world.issue_bill();
        let created = payment_intent::Created {
            bill_id: Some(id(3)),
            order_id: Some(id(7)),
            tender,
            ..created((!tender.is_recorded()).then(|| at(10)), None)
        };
        world.payment(payment_intent::Command::Create(Box::new(created)));
        let currency = world.bill.details.as_ref().unwrap().currency;
        world.bill(bill::Command::ReservePayment { payment_intent_id: id(10), amount: 117_70, currency });
        world
    }

    /// The bill that the order's price asks for.
    fn issue_bill(&mut self) {
        let details = self.order.details.clone().unwrap();
        let priced = self.order.priced().unwrap().unwrap();
        let lines = priced.lines.iter().zip(self.order.live_lines()).map(|(figures, line)| bill::BillLine {
            line_id: figures.line_id,
            order_id: details.order_id,
            item_code: line.item_code.clone(),
            name: line.name.clone(),
            quantity_milli: figures.quantity_milli,
            unit_price: line.unit_price,
            gross: figures.gross,
            discount: figures.discount,
            service_charge: figures.service_charge,
            tax: figures.tax,
            total: figures.total,
        });
        let issued = bill::Issued {
            bill_id: id(3),
            store_id: details.store_id,
            order_ids: vec![details.order_id],
            business_date: details.business_date,
            currency: details.currency,
            tax_profile: details.tax_profile.clone(),
            lines: lines.collect(),
            subtotal: priced.subtotal,
            discount: priced.discount,
            service_charge: priced.service_charge,
            tax: priced.tax,
            adjustment: priced.adjustment,
            total: priced.total,
            taxes: priced.taxes,
        };
        self.bill(bill::Command::Issue(Box::new(issued)));
    }

    fn order(&mut self, command: order::Command) {
        let events = apply::<Order>(&mut self.order, command);
        self.queue.extend(events.into_iter().map(|event| (id(7), DomainEvent::Order(event))));
    }

    pub(super) fn bill(&mut self, command: bill::Command) {
        let events = apply::<Bill>(&mut self.bill, command);
        self.queue.extend(events.into_iter().map(|event| (id(3), DomainEvent::Bill(event))));
    }

    pub(super) fn payment(&mut self, command: payment_intent::Command) {
        let events = apply::<PaymentIntent>(&mut self.payment, command);
        self.queue.extend(events.into_iter().map(|event| (id(10), DomainEvent::PaymentIntent(event))));
    }

    pub(super) fn refund(&mut self, command: refund::Command) {
        let events = apply::<Refund>(&mut self.refund, command);
        self.queue.extend(events.into_iter().map(|event| (id(5), DomainEvent::Refund(event))));
    }

    fn execute(&mut self, command: ProcessCommand) {
        use payment_intent::Command as Pay;
        match command {
            ProcessCommand::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer, .. } => {
                self.bill(bill::Command::AllocatePayment { payment_intent_id, tender, amount, cash_rounding, tip, acquirer });
            }
            ProcessCommand::ReleaseReservation { payment_intent_id, .. } => {
                self.bill(bill::Command::ReleaseReservation { payment_intent_id });
            }
            ProcessCommand::CompleteOrder { bill_id, .. } => self.order(order::Command::Complete { bill_id }),
            ProcessCommand::SettleRefund { refund_id, .. } => self.payment(Pay::SettleRefund { refund_id }),
            ProcessCommand::RecordBillRefund { payment_intent_id, refund_id, amount, .. } => {
                self.bill(bill::Command::RecordSentRefund { refund_id, payment_intent_id, amount });
            }
            ProcessCommand::CountFoundRefund { payment_intent_id, refund_id, amount, unmatched_transaction_id } => {
                self.payment(Pay::CountFoundRefund { refund_id, amount, unmatched_transaction_id });
                self.bill(bill::Command::RecordSentRefund { refund_id, payment_intent_id, amount });
            }
            ProcessCommand::ReleaseRefund { refund_id, .. } => self.payment(Pay::ReleaseRefund { refund_id }),
            ProcessCommand::LeaveRefundOfPayment { refund_id, .. } => self.payment(Pay::LeaveRefundToPerson { refund_id }),
            ProcessCommand::TakeBackRefund { refund_id, .. } => self.payment(Pay::TakeBackRefund { refund_id }),
            ProcessCommand::TakeBackBillRefund { payment_intent_id, refund_id, .. } => {
                self.bill(bill::Command::TakeBackRefund { refund_id, payment_intent_id });
            }
            ProcessCommand::OpenDispute { transaction_id, reason, at, .. } => {
                let (transaction_id, business_date) = (Some(transaction_id), at.date_naive());
                self.payment(Pay::Dispute { transaction_id, reason, disputed_at: at, business_date });
            }
            ProcessCommand::DecideDispute { transaction_id, outcome, at, .. } => {
                let (transaction_id, business_date) = (Some(transaction_id), at.date_naive());
                self.payment(Pay::ResolveDispute { transaction_id, outcome, resolved_at: at, business_date });
            }
            ProcessCommand::AcceptAttempt { attempt_id, provider_id, .. } => self.payment(Pay::AcceptAttempt { attempt_id, provider_id }),
            ProcessCommand::AuthorizeAttempt { attempt_id, amount, capture_before, .. } => {
                self.payment(Pay::Authorize { attempt_id, amount, capture_before });
            }
            ProcessCommand::EndAttempt { attempt_id, how, .. } => self.payment(Pay::EndAttempt { attempt_id, how }),
            ProcessCommand::FailCapture { attempt_id, code, message, .. } => self.payment(Pay::FailCapture { attempt_id, code, message }),
            ProcessCommand::FailIncrease { attempt_id, code, message, .. } => self.payment(Pay::FailIncrease { attempt_id, code, message }),
            ProcessCommand::LeaveToPerson { attempt_id, at, .. } => self.payment(Pay::LeaveToPerson { attempt_id, at }),
            ProcessCommand::RequireAction { attempt_id, qr_payload, redirect_url, .. } => {
                self.payment(Pay::RequireAction { attempt_id, qr_payload, redirect_url });
            }
            ProcessCommand::FailAttempt { attempt_id, code, message, .. } => {
                let before = self.payment.status;
                self.payment(Pay::FailAttempt { attempt_id, code, message });
                if self.payment.status != before {
                    self.bill(bill::Command::ReleaseReservation { payment_intent_id: id(10) });
                }
            }
            ProcessCommand::MarkAttemptUnknown { attempt_id, reason, since, .. } => {
                self.payment(Pay::MarkOutcomeUnknown { attempt_id, reason, since });
            }
            ProcessCommand::ConfirmPayment { report, .. } => self.payment(Pay::ConfirmFromProvider(report)),
            ProcessCommand::ConfirmCancel { .. } => self.payment(Pay::ConfirmCancel),
            ProcessCommand::ExpirePayment { attempt_id, .. } => self.payment(Pay::Expire { attempt_id }),
            ProcessCommand::LapsePayment { at, .. } => self.payment(Pay::Lapse { at }),
            ProcessCommand::SucceedRefund { provider_reference, .. } => {
                self.refund(refund::Command::Succeed { provider_reference: Some(provider_reference) });
            }
            ProcessCommand::FailRefund { code, message, refused, .. } => {
                self.refund(refund::Command::Fail { code, message, refused });
            }
            ProcessCommand::MarkRefundUnknown { reason, since, .. } => {
                self.refund(refund::Command::MarkOutcomeUnknown { reason, since });
            }
            ProcessCommand::LeaveRefundToPerson { at, .. } => self.refund(refund::Command::LeaveToPerson { at }),
        }
    }

    /// Lets every manager follow every event until nothing is left to do.
    pub(super) fn settle(&mut self) {
        while let Some((stream_id, event)) = self.queue.pop_front() {
            for manager in ALL {
                let happened = Happened { tenant: id(1), stream_id, position: 7, recorded_at: at(0), event: &event };
                for intent in (manager.react)(&happened) {
                    match intent {
                        Intent::Commands(commands) => {
                            for command in std::iter::repeat_n(commands, self.times).flatten() {
                                self.execute(command);
                            }
                        }
                        Intent::Schedule { key, task, .. } => {
                            self.tasks.entry(key).or_insert(task);
                        }
                        Intent::RememberReference(known) => assert_eq!(known.reference, "REF"),
                    }
                }
            }
        }
    }

    /// What a provider's answer led to.
    pub(super) fn step(&mut self, step: work::Step) {
        for command in std::iter::repeat_n(step.commands, self.times).flatten() {
            self.execute(command);
        }
        self.settle();
    }

    pub(super) fn start_attempt(&mut self) {
        let new = payment_intent::NewAttempt {
            attempt_id: id(2),
            provider: "scb".into(),
            provider_account: None,
            route: None,
            reference: "REF".into(),
            card_token: None,
            manual_capture: false,
            return_url: None,
            started_at: at(0),
            expires_at: at(10),
        };
        self.payment(payment_intent::Command::StartAttempt(Box::new(new)));
        self.settle();
    }

    pub(super) fn inquire(&mut self, mode: InquiryMode, seen: Vec<PaymentSeen>, now: DateTime<Utc>) {
        let status = if seen.is_empty() { AttemptStatus::NotFound } else { AttemptStatus::Paid };
        let standing = self.payment.standing(id(2));
        self.step(work::after_inquiry(attempt(), mode, 0, standing, CallOutcome::Done(books(status, seen)), now));
    }

    pub(super) fn ends(&self) -> (order::Status, bill::Status, payment_intent::Status) {
        (self.order.status, self.bill.status, self.payment.status)
    }

    pub(super) fn held(&self) -> i64 {
        self.bill.reservations.values().sum()
    }
}
