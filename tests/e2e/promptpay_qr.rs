//! PromptPay codes for the counter of a store: what is on them, read by a camera's decoder, and who gets none.

use reqwest::Method;
use serde_json::json;
use support::{TestPlatform, store_body};

/// Laid out by hand after EMVCo MPM: 0987654321 without an amount.
const STATIC: &str = "00020101021129370016A0000006770101110113006698765432153037645802TH6304A00F";
/// A biller with one reference, without an amount.
const BILL: &str = "00020101021130500016A00000067701011201150999000123456010207SAMPLE153037645802TH630404EC";

/// What a camera reads off a PNG picture.
fn scanned(picture: &[u8]) -> String {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * info.line_size + x]);
    image.detect_grids()[0].decode().unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_gets_a_static_code_as_text_and_as_a_picture_that_a_camera_reads() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    platform.settled().await;
    let path = format!("/v1/stores/{}/promptpay-qr", shop.store);
    for (payee, query, payload) in
        [("mobile", "mobile=098-765-4321", STATIC), ("bill", "biller_id=099900012345601&reference1=SAMPLE1", BILL)]
    {
        let shown = platform.get(&shop.cashier, &format!("{path}?{query}")).await.ok();
        assert_eq!(shown.body, json!({"payload": payload, "point_of_initiation": "static", "payee": payee, "amount": null}));
        let picture = platform.get(&shop.cashier, &format!("{path}.png?{query}")).await.ok();
        assert_eq!((picture.header("content-type"), picture.header("cache-control")), ("image/png", "no-store"));
        assert_eq!(scanned(&picture.bytes), payload);
        let drawing = platform.get(&shop.cashier, &format!("{path}.svg?{query}")).await.ok();
        assert_eq!(drawing.header("content-type"), "image/svg+xml");
        assert!(String::from_utf8(drawing.bytes).unwrap().contains("<svg"));
    }
    let dynamic = platform.get(&shop.cashier, &format!("{path}?mobile=0987654321&amount=4550")).await.ok();
    assert_eq!((&dynamic.body["point_of_initiation"], &dynamic.body["amount"]["amount"]), (&json!("dynamic"), &json!(45_50)));
    assert!(dynamic.body["payload"].as_str().unwrap().contains("540545.50"), "{dynamic:?}");
    let before = platform.database.head().await.pos;
    platform.get(&shop.cashier, &format!("{path}?mobile=0987654321")).await.ok();
    assert_eq!(platform.database.head().await.pos, before, "nothing is stored");
    assert_eq!(platform.database.tables_with("0066987654321").await, [""; 0], "nor anywhere else");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_no_payee_has_no_code_and_neither_have_strangers_and_stores_that_cannot_use_one() {
    let platform = TestPlatform::start().await;
    let (shop, stranger) = (platform.shop().await, platform.shop().await);
    let mut yen = store_body("TOKYO");
    (yen["currency"], yen["tax_profile"]["cash_rounding"]["unit"]) = (json!("JPY"), json!(1));
    let yen = platform.post(&shop.admin, "/v1/stores", yen).await.id();
    platform.settled().await;
    let path = format!("/v1/stores/{}/promptpay-qr", shop.store);
    for bad in [
        "",
        "?mobile=12345",
        "?mobile=0987654321&e_wallet=009876543210123",
        "?mobile=0987654321&amount=0",
        "?mobile=0987654321&amount=x",
        "?mobile=0987654321&colour=red",
        "?biller_id=099900012345601",
        "?biller_id=099900012345601&reference1=table%207",
        "?mobile=0987654321&as_of=1",
    ] {
        for kind in ["", ".png", ".svg"] {
            let answer = platform.get(&shop.cashier, &format!("{path}{kind}{bad}")).await;
            assert_eq!((answer.status.as_u16(), &answer.body["code"]), (400, &json!("ParameterInvalid")), "{kind}{bad}: {answer:?}");
        }
    }
    let query = "mobile=0987654321";
    assert_eq!(platform.get(&stranger.manager, &format!("{path}?{query}")).await.status.as_u16(), 404, "another merchant's store");
    let nobody = platform.raw(Method::GET, &format!("{path}?{query}")).send().await.unwrap();
    assert_eq!(nobody.status().as_u16(), 401);
    let answer = platform.get(&shop.admin, &format!("/v1/stores/{yen}/promptpay-qr?{query}")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (422, &json!("RuleBroken")), "{answer:?}");
    platform.post(&shop.admin, &format!("/v1/stores/{}/deactivate", shop.store), json!({"reason": "moved"})).await.ok();
    platform.settled().await;
    let answer = platform.get(&shop.admin, &format!("{path}?{query}")).await;
    assert_eq!((answer.status.as_u16(), &answer.body["code"]), (409, &json!("StateConflict")), "{answer:?}");
    platform.stop().await;
}
