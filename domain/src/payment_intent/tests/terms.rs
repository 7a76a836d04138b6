//! What the merchant said when it made an intent, who may say otherwise, and the end of one that nobody confirms.

use super::*;

fn terms() -> Terms {
    Terms {
        awaits_confirm: true,
        tenders: vec![],
        valid_for_seconds: 1_800,
        manual_capture: true,
        return_url: Some("https://a.example".into()),
    }
}

fn made(terms: Option<Terms>) -> State {
    PaymentIntent::fold(&[Created { tender: Tender::OnlineCard, terms, ..created() }.into()])
}

fn minutes(minutes: i64) -> chrono::Duration {
    chrono::Duration::minutes(minutes)
}

#[test]
fn a_confirm_without_wishes_goes_by_the_terms() {
    let confirmed = made(Some(terms())).confirmed(&Wishes::default(), false).unwrap();
    assert_eq!(confirmed, Confirmed { manual_capture: true, valid_for: minutes(30), return_url: Some("https://a.example".into()) });
    let otherwise = made(None).confirmed(&Wishes::default(), true).unwrap();
    assert_eq!(otherwise, Confirmed { manual_capture: false, valid_for: minutes(DEFAULT_VALID_MINUTES), return_url: None });
}

#[test]
fn the_shop_may_say_otherwise_and_the_payer_may_not() {
    let intent = made(Some(terms()));
    let wishes = [
        Wishes { tender: Some(Tender::PromptPay), ..Wishes::default() },
        Wishes { manual_capture: Some(false), ..Wishes::default() },
        Wishes { valid_for: Some(minutes(60)), ..Wishes::default() },
    ];
    for wish in wishes {
        assert!(intent.confirmed(&wish, false).is_ok(), "{wish:?}");
        assert!(matches!(intent.confirmed(&wish, true), Err(Rejection::NotThePayersChoice)), "{wish:?}");
    }
    let same = Wishes { tender: Some(Tender::OnlineCard), manual_capture: Some(true), valid_for: Some(minutes(30)) };
    assert_eq!(intent.confirmed(&same, true), intent.confirmed(&Wishes::default(), true), "to repeat what the merchant said is no choice");
    assert!(matches!(State::default().confirmed(&same, true), Err(Rejection::PaymentIntentNotFound)));
}

#[test]
fn the_payer_chooses_among_what_the_merchant_offered() {
    let offered = Terms { tenders: vec![Tender::PromptPay, Tender::OnlineCard], ..terms() };
    let intent = made(Some(offered));
    assert_eq!(intent.tenders(), [Tender::OnlineCard, Tender::PromptPay], "its own first, each once");
    assert!(intent.confirmed(&Wishes { tender: Some(Tender::PromptPay), ..Wishes::default() }, true).is_ok());
    let drawer = Terms { tenders: vec![Tender::Cash], ..terms() };
    given::<PaymentIntent>(&[]).when(create(Created { terms: Some(drawer), ..created() })).then_rejected("TenderNotProvided");
}

#[test]
fn an_intent_without_a_live_attempt_lapses_at_its_end() {
    let lapse = |minute: i64| Command::Lapse { at: at(minute) };
    for history in [intent(&[]), and(processing(), failed(1))] {
        given::<PaymentIntent>(&history).when(lapse(9)).then(&[]);
        given::<PaymentIntent>(&history).when(lapse(10)).then(&[expired()]);
    }
    // What is under way has a watch, and what is over is over.
    for history in [processing(), waiting(), captured(), intent(&[canceled()]), intent(&[expired()]), drawer()] {
        given::<PaymentIntent>(&history).when(lapse(99)).then(&[]);
    }
    // An attempt that was begun late has its whole time, and the intent with it.
    let late: Event = AttemptStarted { started_at: at(8), expires_at: at(18), ..attempt(1) }.into();
    let history = intent(&[late, failed(1)]);
    given::<PaymentIntent>(&history).when(lapse(17)).then(&[]);
    given::<PaymentIntent>(&history).when(lapse(18)).then(&[expired()]);
}

#[test]
fn no_attempt_is_begun_after_the_end() {
    let begin =
        |minute: i64| Command::StartAttempt(Box::new(NewAttempt { started_at: at(minute), expires_at: at(minute + 10), ..new_attempt(1) }));
    given::<PaymentIntent>(&intent(&[])).when(begin(10)).then_rejected("PaymentIntentNotOpen");
    assert_eq!(given::<PaymentIntent>(&intent(&[])).when(begin(9)).events().len(), 1);
}
