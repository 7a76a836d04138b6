//! An answer before and after a fault is laid over it.

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A failure that the provider words in its own format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wording {
    /// 500, 502, 503 or 504.
    Http(StatusCode),
    /// Too many calls.
    Quota,
    /// The token is not good.
    Unauthorized,
    /// An error of its own business that says nothing about what happened.
    Trouble,
    /// What is asked for is not visible.
    NotVisible,
    /// A list of refunds that shows none yet.
    NoRefunds,
    /// It has this already.
    Duplicate,
    /// The money is settled and no longer goes back this way.
    Settled,
    /// Not at this time of the day.
    OutsideHours,
}

/// What the provider answers before any fault is laid over it.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Reply {
    /// A JSON body.
    pub(crate) fn json(status: StatusCode, body: &impl serde::Serialize) -> Self {
        // Plain structs with text keys: this cannot fail, and an empty body would only look like one more fault.
        Self { status, body: serde_json::to_string(body).unwrap_or_default() }
    }

    /// The same answer, cut in the middle.
    pub(crate) fn cut(self) -> Response {
        let half: Vec<u8> = self.body.bytes().take(self.body.len() / 2).collect();
        broken(self.status, vec![Ok(half)], self.body.len())
    }

    /// The connection ends before the first byte of the body.
    pub(crate) fn reset() -> Response {
        broken(StatusCode::OK, vec![], 1)
    }

    /// The same answer with every text of these fields replaced by a word that nobody knows.
    pub(crate) fn with_unknown_status(self, fields: &[&str]) -> Self {
        self.changed(|json| replace(json, fields))
    }

    /// The same answer with fields that nobody knows, in every object.
    pub(crate) fn with_extra_fields(self) -> Self {
        self.changed(extend)
    }

    /// The same answer without these fields, wherever they stand.
    pub(crate) fn without_fields(self, names: &[String]) -> Self {
        self.changed(|json| leave_out(json, names))
    }

    fn changed(self, change: impl FnOnce(&mut Value)) -> Self {
        let Ok(mut json) = serde_json::from_str::<Value>(&self.body) else { return self };
        change(&mut json);
        Self { body: json.to_string(), ..self }
    }
}

fn broken(status: StatusCode, mut pieces: Vec<std::io::Result<Vec<u8>>>, promised: usize) -> Response {
    pieces.push(Err(std::io::Error::other("cut")));
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::CONTENT_LENGTH, promised.to_string())];
    (status, headers, Body::from_stream(futures_util::stream::iter(pieces))).into_response()
}

fn replace(json: &mut Value, names: &[&str]) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                if value.is_string() && names.contains(&name.as_str()) {
                    *value = Value::from("SOMETHING_NEW");
                } else {
                    replace(value, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn leave_out(json: &mut Value, names: &[String]) {
    match json {
        Value::Object(fields) => {
            fields.retain(|name, _| !names.contains(name));
            fields.values_mut().for_each(|value| leave_out(value, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn extend(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            fields.values_mut().for_each(extend);
            fields.insert("zzAddedLater".to_owned(), json!({"of": ["no", 1, null, "interest"]}));
        }
        Value::Array(items) => items.iter_mut().for_each(extend),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "application/json")], self.body).into_response()
    }
}
