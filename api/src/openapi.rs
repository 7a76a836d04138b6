//! The OpenAPI 3.1 document: made from the handlers, completed here with what holds for all of them.

use utoipa::openapi::{
    Components, ContactBuilder, ContentBuilder, Header, HeaderBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, Ref, RefOr,
    Required, ResponseBuilder, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem},
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};

use crate::{
    auth::{Permission, Principal, Proof, admit},
    problem::ProblemBody,
};

const DESCRIPTION: &str = "Orders, bills, payments and refunds of SmartPOS terminals.

Amounts are integers of minor units with an ISO 4217 code. Every POST but `…/sync` and `…/check`, which only look, `…/reprocess`, which may be repeated, and `…/settlement-lists`, \
whose list is its own key, carries an `Idempotency-Key`; the same key with the same request gets the first answer again. `ETag` names the version of a thing, `If-Match` asks for it. `Smartpos-Position` of an \
answer, sent as `Smartpos-Min-Position` with a query, makes the query see what the command did; with `as_of` a query sees how it was at an earlier moment. Errors are \
`application/problem+json`. Services may sign their requests instead of bearing a token, and a browser may hold the payment token of one intent. \
The same paths answer without `/v1` and under `/api/v1`.";

/// The whole document.
pub fn document() -> OpenApi {
    crate::router::described().into_openapi()
}

/// What the handlers' descriptions are added to.
pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("SmartPOS Cloud")
        .version("1")
        .description(Some(DESCRIPTION))
        .contact(Some(ContactBuilder::new().name(Some("SmartPOS Cloud")).build()));
    let mut components = Components::new();
    for (proof, scheme) in [Proof::Token, Proof::Signature, Proof::PaymentToken].map(|proof| (proof, scheme_of(proof))) {
        components.add_security_scheme(word_of(proof), scheme);
    }
    components.schemas.insert(ProblemBody::name().into_owned(), ProblemBody::schema());
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name()))).build();
    let problem = ResponseBuilder::new().description("A problem (RFC 9457)").content("application/problem+json", content).build();
    components.responses.insert("Problem".to_owned(), RefOr::T(problem));
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// What the ways in are called in the document.
const fn word_of(proof: Proof) -> &'static str {
    match proof {
        Proof::Token => "bearer",
        Proof::Signature => "signature",
        Proof::PaymentToken => "payment_token",
    }
}

fn scheme_of(proof: Proof) -> SecurityScheme {
    match proof {
        Proof::Token => {
            let text = "A token of the issuer (ES256): role, PSP, merchant and perhaps store.";
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(text)).build())
        }
        Proof::Signature => SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("Authorization", SIGNATURE))),
        Proof::PaymentToken => SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description(admit::PAYMENT_TOKEN, PAYMENT_TOKEN))),
    }
}

const SIGNATURE: &str = "A service signs with a credential of `/v1/api-keys`, in either version. \
Version 1: `HMAC-SHA256 <key id>:<unix seconds>:<signature>` over `METHOD \\n PATH \\n TIMESTAMP \\n hex(sha256(body))`. \
Version 2: `HMAC-SHA256-V2 <key id>:<unix seconds>:<nonce>:<signature>` over \
`HMAC-SHA256-V2 \\n METHOD \\n PATH \\n QUERY \\n TIMESTAMP \\n NONCE \\n hex(sha256(body))`, where a nonce is good once. \
The key is the text hex(sha256(secret)), the signature hex(hmac_sha256(key, message)); the clock may be 300 s off. A credential made \
with `nonce_only` takes version 2 only.";
const PAYMENT_TOKEN: &str = "`ptk_…` of the one intent that the path names, as its creation answered it: in the query, in the JSON body \
under the same name, or as `Authorization: Bearer`.";

/// The ways in that an operation takes, each enough by itself, by the same rules as the door's.
fn ways_in(method: &str, path: &str, permission: Permission) -> Vec<SecurityRequirement> {
    let open = |proof: &Proof| match proof {
        Proof::Token => true,
        Proof::Signature => Principal::proof_reaches(Proof::Signature, permission),
        Proof::PaymentToken => admit::opens_to_payers(method, path),
    };
    let ways = [Proof::Token, Proof::Signature, Proof::PaymentToken].into_iter().filter(open);
    ways.map(|proof| SecurityRequirement::new(word_of(proof), Vec::<String>::new())).collect()
}

/// What the operation's handler demands.
fn permission_of(operation: &Operation) -> Option<Permission> {
    let word = operation.extensions.as_ref()?.get("x-permission")?.as_str()?;
    Permission::ALL.iter().copied().find(|permission| permission.as_str() == word)
}

/// Adds what holds for every operation: who may call it, which headers it knows, how it fails.
pub fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        // An event never changes and has no version.
        let detail = path.ends_with('}') && !path.starts_with("/v1/events/");
        for (method, operation) in operations_mut(item) {
            let problem = Ref::new("#/components/responses/Problem");
            operation.responses.responses.insert("default".to_owned(), RefOr::Ref(problem));
            // Handlers of different resources share their short names.
            let tag = operation.tags.iter().flatten().next().cloned().unwrap_or_default();
            operation.operation_id = operation.operation_id.take().map(|name| format!("{}_{name}", tag.replace('-', "_")));
            let open = operation.security.is_some();
            if open || !path.starts_with("/v1/") {
                continue;
            }
            // Without its permission nothing gets in; that each operation names one is a test's.
            operation.security = Some(permission_of(operation).map_or_else(Vec::new, |permission| ways_in(method, path, permission)));
            // Credentials and keys are no read models: they are as they are now.
            if path.starts_with("/v1/api-keys") || path.starts_with("/v1/idempotency-keys") {
                if method != "get" {
                    operation.parameters.get_or_insert_default().extend(change_headers(true).into_iter().take(1).map(RefOr::T));
                }
                continue;
            }
            if stands_by_itself(path) {
                continue;
            }
            let headers = if method == "get" { query_headers(detail) } else { change_headers(method == "post") };
            let parameters = operation.parameters.get_or_insert_default();
            parameters.extend(headers.into_iter().map(RefOr::T));
            if method == "get" && !parameters.iter().any(is_as_of) {
                parameters.push(RefOr::T(as_of()));
            }
            describe_answer(operation, method, detail);
        }
    }
}

/// Neither a command nor a query of read models, so that it knows the headers of neither: what only looks, a list that is its own key since
/// it changes nothing more when it comes again, the catalog of providers, and call-backs, which are not in the log and may be looked into
/// again and again.
fn stands_by_itself(path: &str) -> bool {
    let acts = ["/sync", "/check", "/settlement-lists"].into_iter().any(|end| path.ends_with(end));
    acts || path == "/v1/providers" || path.starts_with("/v1/inbound-webhooks")
}

/// The operations of a path with their methods.
pub fn operations_mut(item: &mut PathItem) -> Vec<(&'static str, &mut Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation))).collect()
}

/// Questions about one thing have no parameters of their own to describe it among.
fn as_of() -> Parameter {
    let description = "As it was then: a log position, or an RFC 3339 time with its offset; `Smartpos-As-Of` answers the position.";
    ParameterBuilder::new()
        .name("as_of")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

fn is_as_of(parameter: &RefOr<Parameter>) -> bool {
    matches!(parameter, RefOr::T(parameter) if parameter.name == "as_of")
}

fn header(name: &str, required: bool, kind: Type, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(if required { Required::True } else { Required::False })
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .build()
}

fn change_headers(key_required: bool) -> Vec<Parameter> {
    vec![
        header("Idempotency-Key", key_required, Type::String, "1 to 255 printable ASCII characters; the same key repeats the first answer"),
        header("If-Match", false, Type::String, "The `ETag` that the caller saw; 412 when the thing has changed since"),
    ]
}

fn query_headers(detail: bool) -> Vec<Parameter> {
    let mut headers = vec![header(
        "Smartpos-Min-Position",
        false,
        Type::Integer,
        "Waits up to 2 s until the read model has seen this log position; 503 when it has not",
    )];
    if detail {
        headers.push(header("If-None-Match", false, Type::String, "An `ETag`; 304 when nothing has changed since"));
    }
    headers
}

fn describe_answer(operation: &mut Operation, method: &str, detail: bool) {
    let answer = |kind: Type, description: &str| {
        RefOr::T(HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(kind))).description(Some(description)).build())
    };
    let change = method != "get";
    let mut headers: Vec<(&str, RefOr<Header>)> = Vec::new();
    if change || detail {
        headers.push(("ETag", answer(Type::String, "The version, quoted")));
    }
    if change {
        headers.push(("Smartpos-Position", answer(Type::Integer, "Last log position that the request wrote")));
        headers.push(("Idempotency-Replayed", answer(Type::Boolean, "`true` on a repeated answer")));
    }
    if !change {
        headers.push(("Smartpos-As-Of", answer(Type::Integer, "With `as_of`: the log position that the answer stands for")));
    }
    for (status, response) in &mut operation.responses.responses {
        if let (true, RefOr::T(response)) = (status.starts_with('2'), response) {
            response.headers.extend(headers.iter().map(|(name, header)| ((*name).to_owned(), header.clone())));
            if status == "201" {
                response.headers.insert("Location".to_owned(), answer(Type::String, "Where the new thing is"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_committed_document_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/openapi.json");
        let wanted = format!("{}\n", document().to_pretty_json().unwrap());
        assert!(fs::read_to_string(&path).unwrap_or_default() == wanted, "run `make schemas`");
    }

    #[test]
    fn the_document_says_which_ways_in_an_operation_takes() {
        let document = serde_json::to_value(document()).unwrap();
        let schemes: Vec<&String> = document["components"]["securitySchemes"].as_object().unwrap().keys().collect();
        assert_eq!(schemes, ["bearer", "payment_token", "signature"]);
        let ways = |method: &str, path: &str| {
            let security = document["paths"][path][method]["security"].as_array().unwrap_or_else(|| panic!("{method} {path}"));
            security.iter().filter_map(|way| way.as_object().unwrap().keys().next().cloned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ways("get", "/v1/payment-intents/{id}"), "bearer signature payment_token");
        assert_eq!(ways("post", "/v1/payment-intents/{id}/confirm"), "bearer signature payment_token");
        assert_eq!(ways("post", "/v1/payment-intents/{id}/cancel"), "bearer signature payment_token");
        assert_eq!(ways("post", "/v1/payment-intents/{id}/capture"), "bearer signature");
        assert_eq!(ways("post", "/v1/orders"), "bearer signature");
        // A service does not make itself others, and no merchant's role registers merchants.
        assert_eq!(ways("post", "/v1/api-keys"), "bearer");
        assert_eq!(ways("post", "/v1/merchants"), "bearer");
        assert_eq!(ways("get", "/healthz"), "");
    }

    #[test]
    fn what_is_neither_a_command_nor_a_query_of_read_models_knows_none_of_their_headers() {
        let document = serde_json::to_value(document()).unwrap();
        let known = |method: &str, path: &str| {
            let operation = &document["paths"][path][method];
            let parameters = operation["parameters"].as_array().into_iter().flatten().map(|parameter| parameter["name"].as_str().unwrap());
            let answered = operation["responses"]["200"]["headers"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            parameters.chain(answered).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(known("get", "/v1/providers"), "");
        assert_eq!(known("get", "/v1/inbound-webhooks"), "state account limit cursor");
        assert_eq!(known("post", "/v1/inbound-webhooks/reprocess"), "");
        assert_eq!(known("post", "/v1/inbound-webhooks/{id}/reprocess"), "id");
        assert_eq!(known("post", "/v1/provider-accounts/{id}/check"), "id");
        assert_eq!(known("post", "/v1/provider-accounts/{id}/settlement-lists"), "id from to Smartpos-Position");
        assert!(known("post", "/v1/orders").starts_with("Idempotency-Key If-Match"));
        assert!(!known("get", "/v1/events/{id}").contains("ETag"));
    }

    #[test]
    fn every_reference_in_the_document_leads_somewhere() {
        let document = serde_json::to_value(document()).unwrap();
        let text = document.to_string();
        let mut count = 0;
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
            count += 1;
        }
        assert!(count > 50, "{count}");
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let mut document = document();
        let mut names = std::collections::BTreeSet::new();
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations_mut(item) {
                let name = operation.operation_id.clone().unwrap_or_default();
                assert!(names.insert(name.clone()), "{method} {path}: {name}");
            }
        }
    }
}
