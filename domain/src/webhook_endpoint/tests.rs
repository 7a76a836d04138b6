//! Rules of a webhook endpoint.

use super::*;
use crate::{event::AggregateEvent as _, ids::Ulid, testing::given};

fn id() -> WebhookEndpointId {
    WebhookEndpointId(Ulid::from_bytes([1; 16]))
}
fn details() -> Details {
    Details { url: "https://shop.example/hooks".into(), events: vec!["payment_intent.*".into()], description: None }
}
fn created() -> Created {
    Created { webhook_endpoint_id: id(), details: details(), secret: Sealed(b"ciphertext".to_vec()) }
}
fn create(change: fn(&mut Details)) -> Command {
    let mut created = created();
    change(&mut created.details);
    Command::Create(Box::new(created))
}

#[test]
fn an_endpoint_is_created_once_with_a_filter_that_means_something() {
    given::<WebhookEndpoint>(&[]).when(create(|_| {})).then(&[created().into()]);
    given::<WebhookEndpoint>(&[created().into()]).when(create(|_| {})).then_rejected("WebhookEndpointIdReused");
    given::<WebhookEndpoint>(&[]).when(create(|d| d.events = vec![])).then_rejected("EventsRequired");
    given::<WebhookEndpoint>(&[]).when(create(|d| d.events = vec!["payment_intent.suceeded".into()])).then_rejected("EventsInvalid");
    given::<WebhookEndpoint>(&[]).when(create(|d| d.url = "https://a b".into())).then_rejected("UrlInvalid");
    given::<WebhookEndpoint>(&[]).when(create(|d| d.url = format!("https://{}", "a".repeat(2_048)))).then_rejected("UrlInvalid");
    given::<WebhookEndpoint>(&[]).when(create(|d| d.description = Some(String::new()))).then_rejected("DescriptionInvalid");
}

#[test]
fn disabling_and_enabling_are_in_effect_once() {
    let gone = Disabled { reason: DisableReason::Gone };
    let disabled = [created().into(), gone.clone().into()];
    given::<WebhookEndpoint>(&[created().into()]).when(Command::Disable(DisableReason::Gone)).then(&[gone.into()]);
    given::<WebhookEndpoint>(&disabled).when(Command::Disable(DisableReason::Failing)).then(&[]);
    given::<WebhookEndpoint>(&disabled).when(Command::Enable).then(&[Enabled {}.into()]);
    given::<WebhookEndpoint>(&[created().into()]).when(Command::Enable).then(&[]);
    given::<WebhookEndpoint>(&disabled).when(Command::Test).then_rejected("WebhookEndpointDisabled");
}

#[test]
fn a_deleted_endpoint_does_not_exist_any_more() {
    let deleted = [created().into(), Deleted {}.into()];
    given::<WebhookEndpoint>(&deleted).when(Command::Delete).then(&[]);
    for command in [Command::Update(details()), Command::Disable(DisableReason::Requested), Command::Enable, Command::Test] {
        given::<WebhookEndpoint>(&deleted).when(command).then_rejected("WebhookEndpointNotFound");
    }
    given::<WebhookEndpoint>(&deleted).when(create(|_| {})).then_rejected("WebhookEndpointIdReused");
    given::<WebhookEndpoint>(&[]).when(Command::Delete).then_rejected("WebhookEndpointNotFound");
}

#[test]
fn a_range_to_send_again_has_an_order() {
    let resend = |after, until| Command::Resend(ResendRequested { after, until });
    let all = ResendRequested { after: 7, until: None };
    given::<WebhookEndpoint>(&[created().into()]).when(resend(7, None)).then(&[all.into()]);
    given::<WebhookEndpoint>(&[created().into()]).when(resend(-1, None)).then_rejected("RangeInvalid");
    given::<WebhookEndpoint>(&[created().into()]).when(resend(7, Some(6))).then_rejected("RangeInvalid");
    given::<WebhookEndpoint>(&[created().into()]).when(resend(7, Some(7))).then_rejected("RangeInvalid");
}

#[test]
fn a_secret_stands_beside_the_payload_and_nothing_shows_it() {
    let stored = Event::from(created()).encode();
    assert_eq!(stored.pii.as_deref(), Some(&b"ciphertext"[..]));
    assert!(!String::from_utf8(stored.payload).unwrap().contains("secret"));
    assert!(!format!("{:?}", created()).contains("ciphertext"));
}

#[test]
fn a_rotation_within_the_overlap_of_another_is_refused_unless_it_keeps_nothing() {
    let at = |hours: i64| DateTime::from_timestamp(1_800_000_000 + 3_600 * hours, 0).unwrap();
    let rotated = |until| SecretRotated { previous_until: until, secret: Sealed(b"ciphertext".to_vec()) };
    let rotate = |now: i64, until: i64| Command::RotateSecret { rotated: rotated(at(until)), now: at(now) };
    let once = [created().into(), rotated(at(24)).into()];
    given::<WebhookEndpoint>(&[created().into()]).when(rotate(0, 24)).then(&[rotated(at(24)).into()]);
    given::<WebhookEndpoint>(&once).when(rotate(23, 47)).then_rejected("RotationUnderWay");
    given::<WebhookEndpoint>(&once).when(rotate(23, 23)).then(&[rotated(at(23)).into()]);
    given::<WebhookEndpoint>(&once).when(rotate(24, 48)).then(&[rotated(at(48)).into()]);
    given::<WebhookEndpoint>(&[]).when(rotate(0, 24)).then_rejected("WebhookEndpointNotFound");
}
