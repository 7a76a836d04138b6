use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

fn ids() -> (PspId, MerchantId, StoreId) {
    let ulid = |n: u8| Ulid::from_bytes([n; 16]);
    (PspId(ulid(1)), MerchantId(ulid(2)), StoreId(ulid(3)))
}

fn claims() -> Value {
    let (psp, merchant, store) = ids();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "role": "cashier", "psp": psp, "merchant": merchant, "store": store,
           "iat": NOW, "exp": NOW + 600, "jti": "t1"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

struct Fixture {
    key: SigningKey,
    verifier: TokenVerifier,
}

impl Fixture {
    fn new() -> Self {
        let key = SigningKey::generate().unwrap();
        let verifier = TokenVerifier::new(&key).unwrap();
        Self { key, verifier }
    }

    fn signed(&self, claims: &Value) -> String {
        self.signed_as(claims, Some(self.key.kid.clone()))
    }

    fn signed_as(&self, claims: &Value, kid: Option<String>) -> String {
        let key = EncodingKey::from_ec_pem(self.key.private_pem.as_bytes()).unwrap();
        encode(&Header { kid, ..Header::new(Algorithm::ES256) }, claims, &key).unwrap()
    }

    fn refuses(&self, token: &str) -> bool {
        self.verifier.verify(token, at(NOW)).is_err()
    }
}

#[test]
fn a_token_says_who_somebody_is() {
    let fixture = Fixture::new();
    let (psp, merchant, store) = ids();
    let principal = fixture.verifier.verify(&fixture.signed(&claims()), at(NOW)).unwrap();
    assert_eq!((principal.role, principal.psp), (Role::Cashier, psp));
    assert_eq!((principal.merchant, principal.store), (Some(merchant), Some(store)));
    assert_eq!(principal.actor(), "user:ann");
}

#[test]
fn time_has_thirty_seconds_of_play() {
    let fixture = Fixture::new();
    let token = fixture.signed(&claims());
    let verify = |seconds: i64| fixture.verifier.verify(&token, at(NOW + seconds)).map(drop);
    assert!(verify(630).is_ok());
    assert_eq!(verify(631), Err(TokenError::NotNow));
    assert!(verify(-30).is_ok());
    assert_eq!(verify(-31), Err(TokenError::NotNow));
    let later = fixture.signed(&with("nbf", json!(NOW + 100)));
    assert_eq!(fixture.verifier.verify(&later, at(NOW)).map(drop), Err(TokenError::NotNow));
}

#[test]
fn a_token_that_was_believed_is_still_compared_with_the_time() {
    let fixture = Fixture::new();
    let token = fixture.signed(&claims());
    let verify = |seconds: i64| fixture.verifier.verify(&token, at(NOW + seconds)).map(|principal| principal.subject);
    assert_eq!(verify(0), Ok("ann".to_owned()));
    assert_eq!(fixture.verifier.believed.len(), 1);
    assert_eq!(verify(1), Ok("ann".to_owned()));
    assert_eq!(verify(631), Err(TokenError::NotNow));
    assert_eq!(fixture.verifier.believed.len(), 0, "what is over is forgotten");
    assert_eq!(verify(630), Ok("ann".to_owned()), "a clock that was set back finds a token that is good again");
}

#[test]
fn what_was_believed_vouches_for_no_other_token() {
    let fixture = Fixture::new();
    let token = fixture.signed(&claims());
    assert!(fixture.verifier.verify(&token, at(NOW)).is_ok());
    // Same header and claims, another signature; and the reverse.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let last = if signature.ends_with('A') { 'Q' } else { 'A' };
    let forged = format!("{signed}.{}{last}", &signature[..signature.len() - 1]);
    let other = fixture.signed(&with("role", json!("merchant_admin")));
    let (raised, _) = other.rsplit_once('.').unwrap();
    for token in [forged, format!("{raised}.{signature}"), format!("{token} "), format!("{token}.")] {
        assert!(fixture.refuses(&token), "{token}");
        assert!(fixture.refuses(&token), "a refusal is not forgotten by repeating: {token}");
    }
    assert_eq!(fixture.verifier.believed.len(), 1, "refusals are not remembered");
}

#[test]
fn as_many_tokens_as_there_is_room_for_are_remembered() {
    let fixture = Fixture::new();
    assert_eq!(fixture.verifier.believed.capacity(), u64::try_from(REMEMBERED).unwrap());
}

#[test]
fn a_claim_that_is_missing_or_of_another_type_is_not_believed() {
    let fixture = Fixture::new();
    for name in ["iss", "aud", "sub", "role", "psp", "merchant", "iat", "exp", "jti"] {
        assert!(fixture.refuses(&fixture.signed(&without(name))), "without {name}");
    }
    for (name, value) in [
        ("iss", json!("other")),
        ("aud", json!("other")),
        ("aud", json!([AUDIENCE, "other"])),
        ("exp", json!("1900000000")),
        ("exp", json!(1.9e9)),
        ("nbf", json!("1900000000")),
        ("role", json!("system_op")),
        ("psp", json!("mer_01HZY3T5V6W7X8Y9Z0A1B2C3D4")),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("a|b")),
        ("sub", json!("x".repeat(200))),
    ] {
        assert!(fixture.refuses(&fixture.signed(&with(name, value.clone()))), "{name} = {value}");
    }
}

#[test]
fn the_key_is_looked_up_and_nothing_is_fetched() {
    let fixture = Fixture::new();
    for kid in [None, Some("../../etc/passwd".to_owned()), Some("' or 1=1".to_owned()), Some(String::new())] {
        assert!(fixture.refuses(&fixture.signed_as(&claims(), kid.clone())), "{kid:?}");
    }
    let stranger = SigningKey::generate().unwrap();
    let forged = Fixture { verifier: TokenVerifier::new(&stranger).unwrap(), key: stranger };
    assert!(fixture.refuses(&forged.signed(&claims())));
    assert!(fixture.refuses(&forged.signed_as(&claims(), Some(fixture.key.kid.clone()))));
}

#[test]
fn no_other_algorithm_will_do() {
    let fixture = Fixture::new();
    let token = fixture.signed(&claims());
    let (_, rest) = token.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    // {"alg":"none","kid":…}, {"alg":"None"}, {"alg":"ES384"}: written by hand, for no library would.
    for alg in ["none", "None", "ES384", "HS256"] {
        let header = base64url(json!({"alg": alg, "typ": "JWT", "kid": fixture.key.kid}).to_string().as_bytes());
        assert!(fixture.refuses(&format!("{header}.{payload}.")), "{alg} without a signature");
        assert!(fixture.refuses(&format!("{header}.{payload}.{signature}")), "{alg}");
    }
    let confused = Header { kid: Some(fixture.key.kid.clone()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(fixture.key.public_pem.as_bytes());
    assert!(fixture.refuses(&encode(&confused, &claims(), &secret).unwrap()));
}

#[test]
fn rubbish_is_refused_without_much_thought() {
    let fixture = Fixture::new();
    let token = fixture.signed(&claims());
    for rubbish in ["", ".", "..", "a.b.c", &token[..token.len() - 4], &format!("{token}A"), &"a".repeat(1_000_000)] {
        assert!(fixture.refuses(rubbish));
    }
}

#[test]
fn the_issuer_gives_no_token_that_would_not_be_believed() {
    let key = SigningKey::generate().unwrap();
    let (issuer, verifier) = (TokenIssuer::new(&key).unwrap(), TokenVerifier::new(&key).unwrap());
    let (psp, merchant, _) = ids();
    let request = |role, merchant| TokenRequest {
        subject: "ann".into(),
        role,
        psp,
        merchant,
        store: None,
        device: None,
        lifetime: Duration::minutes(15),
    };
    let id = Ulid::from_bytes([4; 16]);
    let token = issuer.issue(request(Role::Manager, Some(merchant)), id, at(NOW)).unwrap();
    let principal = verifier.verify(&token, at(NOW)).unwrap();
    assert_eq!((principal.role, principal.expires_at), (Role::Manager, at(NOW + 900)));
    assert!(issuer.issue(request(Role::PlatformAdmin, None), id, at(NOW)).is_ok());
    assert!(matches!(issuer.issue(request(Role::Cashier, None), id, at(NOW)), Err(TokenError::Incomplete(_))));
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain(std::iter::repeat(&0)).take(3).fold(0_usize, |group, byte| group << 8 | usize::from(*byte));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[group >> (18 - 6 * place) & 63]));
        }
    }
    text
}
