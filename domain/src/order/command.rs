//! What can be asked of an order, how it is refused, and its limits.

use super::{LineAdded, Opened};
use crate::{
    ids::{BillId, LineId},
    pricing::Discount,
    rejection::rejections,
};

/// Most lines of one order; a bound on every list.
pub const MAX_LINES: usize = 2_000;
/// Largest quantity of a line, in thousandths: a million pieces.
pub const MAX_QUANTITY_MILLI: i64 = 1_000_000_000;
/// Largest unit price or adjustment in minor units.
pub const MAX_PRICE: i64 = 100_000_000_000;

/// What can be asked of an order.
#[derive(Debug, Clone)]
pub enum Command {
    /// Open it.
    Open(Box<Opened>),
    /// Add a line.
    AddLine(LineAdded),
    /// Add lines together: all or none, one fact.
    AddLines(Vec<LineAdded>),
    /// Change a quantity by a signed difference, so that two devices merge.
    ChangeLineQuantity {
        /// The line.
        line_id: LineId,
        /// Thousandths, signed.
        delta_milli: i64,
    },
    /// Take a line off.
    VoidLine {
        /// The line.
        line_id: LineId,
        /// Why.
        reason: String,
    },
    /// Discount the whole order.
    ApplyDiscount {
        /// How much.
        discount: Discount,
        /// Why.
        reason: String,
    },
    /// Take the discount back.
    RemoveDiscount,
    /// Add an untaxed amount outside the lines.
    Adjust {
        /// Minor units, signed.
        amount: i64,
        /// Why.
        reason: String,
    },
    /// Freeze the lines into a bill.
    Bill {
        /// The bill to be.
        bill_id: BillId,
    },
    /// Follow the voiding of the bill.
    Reopen {
        /// The voided bill.
        bill_id: BillId,
    },
    /// Follow the payment of the bill.
    Complete {
        /// The paid bill.
        bill_id: BillId,
    },
    /// Give it up.
    Cancel {
        /// Why.
        reason: String,
    },
}

rejections! {
    /// Rules of an order.
    {
        OrderNotFound => Missing, "the order does not exist";
        OrderIdReused => State, "an order with this id exists already";
        OrderNotEditable { status: &'static str } => State, "the order is {status}; lines change only while it is open";
        LineUnknown => Missing, "the order has no such line";
        LineIdReused => State, "the order has a line with this id already";
        LineAlreadyVoided => State, "the line is voided";
        TooManyLines => Invalid, "an order has at most 2,000 lines";
        QuantityNotPositive => Invalid, "quantity must be between 0.001 and 1,000,000";
        QuantityWouldBeNegative => Invalid, "the quantity would fall to zero or below; void the line instead";
        PriceNegative => Invalid, "unit price must be between 0 and 100,000,000,000 minor units";
        PriceBaseInvalid => Invalid, "price_base must be between 0.001 and 1,000,000";
        ItemInvalid => Invalid, "item_code must have 1 to 64 and name 1 to 200 characters";
        TextInvalid => Invalid, "table_number and order_number must have 1 to 40 characters";
        DiscountInvalid => Invalid, "a discount is 1 to 10,000 basis points or a positive amount, with a reason";
        DiscountOverLimit => Invalid, "the discount is larger than what it applies to";
        AmountOutOfRange => Invalid, "the amount is zero or out of range";
        TotalNegative => Invalid, "the total of the order would be negative";
        NothingToBill => State, "the order has no line to bill";
        ReasonRequired => Invalid, "a reason of 1 to 200 characters is required";
        BillExists => State, "the order is billed; void the bill first";
        OrderAlreadyClosed { status: &'static str } => State, "the order is {status}";
        OrderNotBilled => Invalid, "the order has no bill to pay; bill it first";
        BillsOutstanding => State, "the order's bill is not this one, or not paid";
    }
}
