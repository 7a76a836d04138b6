//! Reads JSON the strict way: one meaning or none. Duplicate names, NUL characters, deep nesting and card numbers are
//! refused while reading, before any type sees the value.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize,
    de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

use super::card::{holds_card_number, is_article_number, names_card_data, takes_article_numbers};
use crate::problem::{Kind, Problem};

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;
/// Longest part of a parser's message that is passed on.
const MAX_MESSAGE: usize = 240;

/// Parses and checks `bytes`.
///
/// # Errors
/// `BodyMalformed`, `CardNumberRefused`.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let card = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Strict { depth: 0, article: false, card: &card }.deserialize(&mut deserializer);
    let parsed = parsed.and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| match card.get() {
        Some(CardData::Number) => Problem::plain(Kind::CardNumberRefused),
        Some(CardData::Field) => {
            Problem::new(Kind::CardNumberRefused, "the body has a field for card data; only a provider's token of a card is taken")
        }
        None => Problem::new(Kind::BodyMalformed, shortened(&error.to_string())),
    })
}

/// Reads a value as `T`.
///
/// # Errors
/// `BodyInvalid`, naming the field.
pub fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    // Keeping track of the path costs as much as reading; only what cannot be read is read again with it.
    if let Ok(read) = T::deserialize(value) {
        return Ok(read);
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let place = if path == "." { String::new() } else { format!("{path}: ") };
        Problem::new(Kind::BodyInvalid, format!("{place}{}", shortened(&error.inner().to_string())))
    })
}

fn shortened(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).collect()
}

/// What made a body one with card data.
#[derive(Clone, Copy)]
enum CardData {
    Number,
    Field,
}

#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    /// The value of a field that may hold the number of an article.
    article: bool,
    card: &'c Cell<Option<CardData>>,
}

impl<'c> Strict<'c> {
    fn deeper<E: serde::de::Error>(self) -> Result<Strict<'c>, E> {
        if self.depth < MAX_DEPTH {
            Ok(Strict { depth: self.depth + 1, ..self })
        } else {
            Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")))
        }
    }

    fn text<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') {
            return Err(E::custom("a string holds the character U+0000"));
        }
        if holds_card_number(text) && !(self.article && is_article_number(text)) {
            self.card.set(Some(CardData::Number));
            return Err(E::custom("card number"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.text(&value.unsigned_abs().to_string())?;
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.text(&value.to_string())?;
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.text(&format!("{:.0}", value.abs()))?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(text)?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(seed)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let seed = self.deeper()?;
        let mut map = Map::new();
        while let Some(Name(name)) = members.next_key()? {
            Strict { article: false, ..self }.text(&name)?;
            if names_card_data(&name) {
                self.card.set(Some(CardData::Field));
                return Err(A::Error::custom("card data"));
            }
            let value = members.next_value_seed(Strict { article: takes_article_numbers(&name), ..seed })?;
            if map.contains_key(&name) {
                let name: String = name.chars().take(40).collect();
                return Err(A::Error::custom(format!("the name '{name}' stands twice in one object")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// A member name; read through a visitor of its own because serde_json offers special treatment for some names of `Value`.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use domain::money::Money;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        quantity: i64,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        lines: Vec<Line>,
        total: Option<Money>,
    }

    #[test]
    fn a_good_body_is_read() {
        let value = parse(br#"{"lines":[{"quantity":-2}],"total":{"currency":"THB","amount":12050}}"#).unwrap();
        let order: Order = read(&value).unwrap();
        assert_eq!((order.lines[0].quantity, order.total), (-2, Some(Money::thb(120_50))));
    }

    fn refused(text: &str) -> (Kind, String) {
        let problem = parse(text.as_bytes()).and_then(|value| read::<Order>(&value)).expect_err(text);
        (problem.kind(), problem.detail().to_owned())
    }

    #[test]
    fn plain_json_is_read_as_it_is() {
        let text = r#"{"a":[1,-2,1.5,"x",true,null,{"b":{}}],"c":18446744073709551615}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), json!({"a": [1, -2, 1.5, "x", true, null, {"b": {}}], "c": u64::MAX}));
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        assert_eq!(
            refused(r#"{"lines":[],"lines":[]}"#),
            (Kind::BodyMalformed, "the name 'lines' stands twice in one object at line 1 column 23".into())
        );
        assert_eq!(refused(r#"{"lines":[{"quantity":1,"quant\u0069ty":2}]}"#).0, Kind::BodyMalformed);
        assert_eq!(refused("{} {}").0, Kind::BodyMalformed);
        assert_eq!(refused("\u{feff}{}").0, Kind::BodyMalformed);
        assert_eq!(refused("").0, Kind::BodyMalformed);
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().kind(), Kind::BodyMalformed);
        assert_eq!(refused(r#"{"lines":"a\u0000b"}"#).0, Kind::BodyMalformed);
        assert_eq!(refused(r#"{"a":1e309}"#).0, Kind::BodyMalformed);
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()).unwrap_err().kind(), Kind::BodyMalformed);
        assert_eq!(parse("[".repeat(100_000).as_bytes()).unwrap_err().kind(), Kind::BodyMalformed);
    }

    #[test]
    fn a_wrong_type_names_its_place() {
        let place = |text: &str| {
            let (kind, detail) = refused(text);
            assert_eq!(kind, Kind::BodyInvalid, "{text}");
            detail.split(": ").next().unwrap().to_owned()
        };
        assert_eq!(place(r#"{"lines":[{"quantity":"12"}]}"#), "lines[0].quantity");
        assert_eq!(place(r#"{"lines":[{"quantity":1},{"quantity":1.0}]}"#), "lines[1].quantity");
        assert_eq!(place(r#"{"lines":[{"quantity":-0}]}"#), "lines[0].quantity");
        assert_eq!(place(r#"{"lines":[{"quantity":1e3}]}"#), "lines[0].quantity");
        assert_eq!(place(r#"{"lines":[{"quantity":9223372036854775808}]}"#), "lines[0].quantity");
        assert_eq!(place(r#"{"lines":[{"quantity":99999999999999999999}]}"#), "lines[0].quantity");
        assert_eq!(place(r#"{"lines":[],"total":{"amount":1,"currency":"XYZ"}}"#), "total.currency");
        assert_eq!(place(r#"{"lines":[],"total":{"amount":1,"currency":"THB","status":"paid"}}"#), "total.status");
        assert_eq!(place(r#"{"lines":[],"tenant":"mer_x"}"#), "tenant");
    }

    #[test]
    fn card_numbers_are_refused_and_never_echoed() {
        for text in [
            r#"{"note":"4111 1111 1111 1111"}"#,
            r#"{"a":{"b":["x","5555555555554444"]}}"#,
            r#"{"4111111111111111":1}"#,
            r#"{"amount":4111111111111111}"#,
            r#"{"amount":-4111111111111111}"#,
            r#"{"amount":4111111111111111.0}"#,
        ] {
            let (kind, detail) = refused(text);
            assert_eq!(kind, Kind::CardNumberRefused, "{text}");
            assert!(!detail.contains("1111") && !detail.contains("5555"), "{detail}");
        }
    }

    #[test]
    fn fields_for_card_data_are_refused_whatever_they_hold() {
        for text in [r#"{"cvv":"123"}"#, r#"{"card":{"CVC":123}}"#, r#"{"x":[{"Card-Number":"1"}]}"#, r#"{"security_code":null}"#] {
            assert_eq!(refused(text).0, Kind::CardNumberRefused, "{text}");
        }
        for text in [r#"{"card":{"token":"tokn_test_5g5mep9yrko3vx2f0hx"}}"#, r#"{"payment_method":"pm_1MqLiJLkdIwHu7ixUEgbFdYF"}"#] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn an_article_number_may_look_like_a_card_number_in_its_field_only() {
        // A GTIN-14 whose last digit happens to satisfy both rules.
        let number = "36400638133371";
        assert!(holds_card_number(number) && is_article_number(number));
        assert!(parse(format!(r#"{{"lines":[{{"item_code":"{number}"}}]}}"#).as_bytes()).is_ok());
        assert_eq!(refused(&format!(r#"{{"note":"{number}"}}"#)).0, Kind::CardNumberRefused);
        assert_eq!(refused(r#"{"item_code":"4111111111111111"}"#).0, Kind::CardNumberRefused, "no article has sixteen digits");
        assert_eq!(refused(r#"{"item_code":{"note":"36400638133371"}}"#).0, Kind::CardNumberRefused);
    }
}
