//! Amounts on the wire: a JSON number or a text, read by its characters and never through binary floating point.

use domain::money::{Currency, Money};
use serde_json::value::RawValue;

/// The amount of a payment in major units: `100.5`, `"100.50"`. One of nothing, or less, is no payment.
///
/// # Errors
/// What is wrong with it.
pub fn read_major(raw: &RawValue, currency: Currency) -> Result<Money, String> {
    let text = raw.get();
    let money = if text.starts_with('"') {
        let text: String = serde_json::from_str(text).map_err(|e| e.to_string())?;
        Money::parse_major(&text, currency)
    } else {
        Money::parse_major(text, currency)
    };
    let money = money.map_err(|e| e.to_string())?;
    if money.is_positive() { Ok(money) } else { Err("an amount that is not positive".to_owned()) }
}
