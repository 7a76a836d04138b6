//! Documents that are published and read again by others: JSON in one form only.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// 32 bytes in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct HexHash(#[serde(with = "hex::serde")] pub [u8; 32]);

/// 64 bytes in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct HexSignature(#[serde(with = "hex::serde")] pub [u8; 64]);

/// Reads a document. One that says the same in another form (more fields, a field twice, other digits) is refused, so that
/// nothing in it escapes what is checked.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read<T: Serialize + DeserializeOwned>(text: &str) -> Result<T, String> {
    // From the text itself: a value keeps the last of two fields with one name, and readers elsewhere may show the first.
    let document: T = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(&document).map_err(|error| error.to_string())?;
    if again == value { Ok(document) } else { Err("it is not in the form in which it was written".to_owned()) }
}
