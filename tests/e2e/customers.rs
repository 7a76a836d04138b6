//! People: known by their profile while they want to be, unreadable everywhere once they are erased.

use std::{fs::File, time::Duration};

use api::{
    config::Config,
    platform::{Platform, ProcessRole, Servers},
    simulated_provider::free_address,
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use domain::{customer::Customer, ids::CustomerId};
use futures_util::StreamExt as _;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};
use support::{ApiShop, ScratchDir, TestPlatform, eventually, nobody, replay};

const NAME: &str = "Somchai Jaidee";
const PHONE: &str = "+66812345678";

fn profile(name: &str) -> Value {
    json!({"profile": {"name": name, "phone": PHONE, "email": "somchai@example.co.th"}})
}

async fn registered(platform: &TestPlatform, shop: &ApiShop) -> String {
    platform.post(&shop.cashier, "/v1/customers", profile(NAME)).await.id()
}

async fn erased(platform: &TestPlatform, shop: &ApiShop, customer: &str) {
    platform.post(&shop.admin, &format!("/v1/customers/{customer}/erase"), json!({"reason": "requested"})).await.ok();
}

/// The forms in which a text may stand somewhere: in the clear, in hex, and in base64 wherever in the encoded bytes it begins; each of them as
/// a column of bytes shows it, too.
fn forms(text: &str) -> Vec<String> {
    let mut forms = vec![text.to_owned(), hex::encode(text)];
    for offset in 0..3 {
        let encoded = STANDARD_NO_PAD.encode([&vec![0; offset], text.as_bytes()].concat());
        // Characters that hold bits of what stands before or behind are not known.
        let (first, end) = ((offset * 8).div_ceil(6), (offset + text.len()) * 8 / 6);
        let inner = &encoded[first..end];
        forms.extend([inner.to_owned(), inner.replace('+', "-").replace('/', "_")]);
    }
    forms.extend(forms.clone().iter().map(hex::encode));
    forms
}

/// Those of the texts that stand in these bytes in any form.
fn readable<'t>(bytes: &[u8], texts: &[&'t str]) -> Vec<&'t str> {
    let content = String::from_utf8_lossy(bytes);
    texts.iter().filter(|text| forms(text).iter().any(|form| content.contains(form))).copied().collect()
}

/// Rows of any table of ours in which one of the texts stands in any form.
async fn places_of(platform: &TestPlatform, texts: &[&str]) -> Vec<String> {
    let admin = &platform.database.admin;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind in ('r', 'm') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'",
    )
    .fetch_all(admin)
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table.contains("customers")) && tables.iter().any(|table| table == "log.append_key"), "{tables:?}");
    let mut places = Vec::new();
    for table in tables {
        for text in texts {
            let sql = format!(
                "select count(*) from (select t::text as content from {table} t) t \
                 where exists (select from unnest($1::text[]) as form where strpos(content, form) > 0)"
            );
            let found: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).bind(forms(text)).fetch_one(admin).await.unwrap();
            if found > 0 {
                places.push(format!("{table}: {text}"));
            }
        }
    }
    places
}

/// Everything that the bus holds, subjects and headers too, as text.
async fn bus(platform: &TestPlatform) -> String {
    let client = api::embedded::connect_nats(&platform.database.nats_url).await.unwrap();
    let streams = async_nats::jetstream::new(client);
    let mut text = String::new();
    let names: Vec<String> = streams.stream_names().map(|name| name.unwrap()).collect().await;
    for name in names {
        let mut stream = streams.get_stream(&name).await.unwrap();
        let state = stream.info().await.unwrap().state.clone();
        for sequence in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(sequence).await {
                text.push_str(&String::from_utf8_lossy(&message.payload));
                text.extend(["\n", message.subject.as_str(), "\n"]);
                for (name, values) in message.headers.iter() {
                    text.extend(values.iter().map(|value| format!("{name}: {value}\n")));
                }
            }
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_registered_changed_and_read() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let answered = platform.post(&shop.cashier, "/v1/customers", profile(NAME)).await.ok();
    assert_eq!(answered.status, 201);
    assert_eq!(answered.body.get("profile"), None, "an answer that is kept for ever does not hold it");
    let path = format!("/v1/customers/{}", answered.id());
    let seen = platform.get_until(&shop.manager, &path, |customer| customer["version"] == 1).await;
    assert_eq!(seen["profile"], profile(NAME)["profile"]);

    let change = json!({"profile": {"name": "Somchai J."}});
    let changed = platform.send(&shop.cashier, Method::PATCH, &path, Some("change-1"), Some(&change)).await.ok();
    assert_eq!(changed.body["version"], 2);
    let seen = platform.get_until(&shop.cashier, &path, |customer| customer["version"] == 2).await;
    assert_eq!(seen["profile"], json!({"name": "Somchai J."}), "the new profile replaces the old one");
    let other = registered(&platform, &shop).await;
    platform.get_until(&shop.cashier, &format!("/v1/customers/{other}"), |_| true).await;
    let listed = platform.get(&shop.admin, "/v1/customers?limit=1").await.ok();
    assert_eq!(listed.body["data"][0]["profile"]["name"], NAME);
    assert!(listed.body["next_cursor"].is_string());
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_unreadable_everywhere_and_the_log_still_verifies() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (customer, other) = (registered(&platform, &shop).await, registered(&platform, &shop).await);
    let path = format!("/v1/customers/{customer}");
    platform.get_until(&shop.cashier, &path, |customer| customer["profile"]["phone"] == PHONE).await;
    // Not even before: what is stored is ciphertext from the first event on.
    assert_eq!(places_of(&platform, &[NAME, PHONE, "somchai@"]).await, [""; 0]);

    erased(&platform, &shop, &customer).await;
    // The key is gone with the fact, before any read model has heard of it.
    let keys: Vec<bool> = sqlx::query("select wrapped is null from privacy.subject_key order by 1")
        .fetch_all(&platform.database.admin)
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(keys, [false, true], "one key is destroyed, the other person's is not");
    let seen = platform.get_until(&shop.admin, &path, |customer| customer["status"] == "erased").await;
    assert_eq!((seen.get("profile"), &seen["erasure_reason"], &seen["version"]), (None, &json!("requested"), &json!(2)));
    assert_eq!(places_of(&platform, &[NAME, PHONE, "somchai@"]).await, [""; 0]);
    let bus = eventually("the bus has heard of them", Duration::from_secs(15), || async {
        let text = bus(&platform).await;
        text.contains(&customer).then_some(text)
    })
    .await;
    assert!(bus.contains("Nats-Msg-Id: "), "headers are looked at: {bus}");
    assert_eq!(readable(bus.as_bytes(), &[NAME, PHONE, "somchai@"]), [""; 0]);
    // The other person is untouched, the log is what was written, and read models are equal to a fold.
    let seen = platform.get(&shop.cashier, &format!("/v1/customers/{other}")).await.ok();
    assert_eq!(seen.body["profile"]["name"], NAME);
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_would_be_noticed_in_whatever_form_it_stood_somewhere() {
    let platform = TestPlatform::start().await;
    let admin = &platform.database.admin;
    sqlx::raw_sql("create table public.note (words text, bytes bytea)").execute(admin).await.unwrap();
    for before in ["", "a", "ab", "abc"] {
        let sentence = format!("{before}{NAME} was here");
        let encoded = STANDARD_NO_PAD.encode(&sentence);
        let hex = hex::encode(&sentence);
        for words in [&sentence, &encoded, &hex] {
            assert_eq!(readable(words.as_bytes(), &[NAME, PHONE]), [NAME], "{words}");
            for sql in ["insert into public.note (words) values ($1)", "insert into public.note (bytes) values (convert_to($1, 'UTF8'))"] {
                sqlx::query("truncate public.note").execute(admin).await.unwrap();
                sqlx::query(sql).bind(words).execute(admin).await.unwrap();
                assert_eq!(places_of(&platform, &[NAME, PHONE]).await, [format!("public.note: {NAME}")], "{sql} {words}");
            }
        }
    }
    platform.stop().await;
}

/// All that an export of the log holds, column by column: as JSON lines, and as Parquet (whose pages are compressed).
async fn exports(platform: &TestPlatform, dir: &ScratchDir, name: &str) -> [Vec<u8>; 2] {
    let (jsonl, parquet) = (dir.path().join(format!("{name}.jsonl")), dir.path().join(format!("{name}.parquet")));
    for (format, file) in [("jsonl", &jsonl), ("parquet", &parquet)] {
        replay(&platform.database, &["export", "--format", format, "--out", file.to_str().unwrap()]).await.sound();
    }
    let mut columns = Vec::new();
    for row in SerializedFileReader::new(File::open(&parquet).unwrap()).unwrap().get_row_iter(None).unwrap() {
        for (_, field) in row.unwrap().get_column_iter() {
            if let Field::Bytes(bytes) = field {
                columns.extend_from_slice(bytes.data());
            } else if let Field::Str(text) = field {
                columns.extend_from_slice(text.as_bytes());
            } else {
                columns.extend_from_slice(field.to_string().as_bytes());
            }
            columns.push(b'\n');
        }
    }
    [std::fs::read(jsonl).unwrap(), columns]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_copy_of_a_person_is_readable_neither_one_made_before_the_erasure_nor_one_made_after() {
    let platform = TestPlatform::start().await;
    let (shop, dir) = (platform.shop().await, ScratchDir::new("erased-copies"));
    let (texts, everywhere) = ([NAME, PHONE, "somchai@example"], &platform.database);
    let customer = registered(&platform, &shop).await;
    let path = format!("/v1/customers/{customer}");
    // So long a history that its state is kept as a snapshot by who reads it anew.
    for n in 0..110 {
        let change = profile(&format!("{NAME} {n}"));
        platform.send(&shop.cashier, Method::PATCH, &path, Some(&format!("change-{n}")), Some(&change)).await.ok();
    }
    let another_process = everywhere.write_side();
    let id: CustomerId = customer.parse().unwrap();
    assert!(another_process.handler.read::<Customer>(shop.merchant, id).await.is_ok());
    eventually("a snapshot of the person is written", Duration::from_secs(10), || async {
        let sql = "select count(*) from log.snapshot where stream_type = 'customer'";
        let snapshots: i64 = sqlx::query_scalar(sql).fetch_one(&everywhere.admin).await.ok()?;
        (snapshots == 1).then_some(())
    })
    .await;
    another_process.stop().await;
    platform.settled().await;

    let before = exports(&platform, &dir, "before").await;
    let ciphertext: String = sqlx::query_scalar("select encode(pii, 'hex') from log.event where type = 'customer.registered'")
        .fetch_one(&everywhere.admin)
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&before[0]).contains(&format!("\"pii\":\"{ciphertext}\"")), "the export holds the ciphertext");
    assert!(before[1].windows(ciphertext.len() / 2).any(|window| hex::encode(window) == ciphertext), "so does Parquet");
    let end = everywhere.head().await.pos.to_string();

    erased(&platform, &shop, &customer).await;
    platform.get_until(&shop.admin, &path, |customer| customer["status"] == "erased").await;
    platform.settled().await;
    let after = exports(&platform, &dir, "after").await;
    assert!(String::from_utf8_lossy(&after[0]).contains("customer.erased"));
    for copy in before.iter().chain(&after) {
        assert_eq!(readable(copy, &texts), [""; 0]);
    }
    // A copy made before holds nothing that one made now would not: ciphertext to which there is no key any more.
    let again = dir.path().join("again.jsonl");
    replay(everywhere, &["export", "--out", again.to_str().unwrap(), "--to", &end]).await.sound();
    assert!(std::fs::read(again).unwrap() == before[0], "the same range is exported as before");
    let keys: i64 = sqlx::query_scalar("select count(*) from privacy.subject_key where wrapped is not null")
        .fetch_one(&everywhere.admin)
        .await
        .unwrap();
    assert_eq!(keys, 0);

    assert_eq!(places_of(&platform, &texts).await, [""; 0], "tables of the log, snapshots, read models, processes");
    let bus = eventually("the bus has heard of the erasure", Duration::from_secs(15), || async {
        let text = bus(&platform).await;
        text.contains("customer.erased").then_some(text)
    })
    .await;
    assert_eq!(readable(bus.as_bytes(), &texts), [""; 0]);
    for question in [&["show", &customer][..], &["grep", "--type", "customer.*"], &["as-of", &end, "customers"]] {
        let shown = replay(everywhere, question).await.sound();
        assert!(!shown.lines.is_empty());
        assert_eq!(readable(format!("{:?}", shown.lines).as_bytes(), &texts), [""; 0], "{question:?}");
    }
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_cannot_come_back() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let customer = registered(&platform, &shop).await;
    erased(&platform, &shop, &customer).await;
    let path = format!("/v1/customers/{customer}");
    let refused = platform.send(&shop.cashier, Method::PATCH, &path, Some("again"), Some(&profile(NAME))).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (409, &json!("CustomerErased")));
    // A second erasure changes nothing; the key cannot be put back, whoever tries.
    erased(&platform, &shop, &customer).await;
    for sql in [
        "update privacy.subject_key set wrapped = 'x'",
        "delete from privacy.subject_key",
        "truncate privacy.subject_key",
        "update privacy.subject_key set tenant = gen_random_uuid(), wrapped = null",
    ] {
        let refused = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&platform.database.admin).await;
        assert!(refused.is_err(), "{sql} went through");
    }
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let before = platform.database.head().await.pos;
    for (body, code) in [
        (json!({"profile": {}}), "ProfileEmpty"),
        (json!({"profile": {"name": " "}}), "NameInvalid"),
        (json!({"profile": {"phone": "0812345678"}}), "PhoneInvalid"),
        (json!({"profile": {"email": "somchai"}}), "EmailInvalid"),
        (json!({"profile": {"name": "S", "birthday": "1990-01-01"}}), "BodyInvalid"),
        (json!({"profile": "Somchai"}), "BodyInvalid"),
        (json!({}), "BodyInvalid"),
    ] {
        let refused = platform.post(&shop.cashier, "/v1/customers", body.clone()).await;
        assert!(refused.status.is_client_error() && refused.body["code"] == code, "{body}: {refused:?}");
    }
    let missing = format!("/v1/customers/{}", nobody::<domain::ids::CustomerId>());
    let refused = platform.send(&shop.cashier, Method::PATCH, &missing, Some("nobody"), Some(&profile(NAME))).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (404, &json!("CustomerNotFound")));
    assert_eq!(platform.database.head().await.pos, before);
    let keys: i64 = sqlx::query_scalar("select count(*) from privacy.subject_key").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(keys, 0);
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_its_first_answer_and_another_person_under_the_key_is_named() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let register = async |body: &Value| platform.send(&shop.cashier, Method::POST, "/v1/customers", Some("one"), Some(body)).await;
    let first = register(&profile(NAME)).await.ok();
    let again = register(&profile(NAME)).await.ok();
    assert_eq!((&first.bytes, again.header("idempotency-replayed")), (&again.bytes, "true"));
    let other = register(&profile("Malee")).await;
    assert_eq!((other.status.as_u16(), &other.body["code"]), (422, &json!("IdempotencyKeyReused")));
    assert!(other.body["detail"].as_str().unwrap().contains("'/profile'"), "{other:?}");
    // What is remembered of the person: one short tag for all of it.
    let fingerprints: Vec<Value> =
        sqlx::query_scalar("select convert_from(fingerprint, 'UTF8')::jsonb from log.append_key where key = 'one'")
            .fetch_all(&platform.database.admin)
            .await
            .unwrap();
    let names: Vec<&str> = fingerprints[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((fingerprints.len(), names), (1, vec!["(operation)", "/profile"]));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_known_to_one_merchant_only_and_erased_by_its_administrator() {
    let platform = TestPlatform::start().await;
    let (mine, yours) = (platform.shop().await, platform.shop().await);
    let customer = registered(&platform, &mine).await;
    let path = format!("/v1/customers/{customer}");
    platform.get_until(&mine.cashier, &path, |_| true).await;
    assert_eq!(platform.get(&yours.admin, &path).await.status, 404);
    assert_eq!(platform.get(&yours.admin, "/v1/customers").await.ok().body["data"], json!([]));
    let erase = format!("{path}/erase");
    assert_eq!(platform.post(&yours.admin, &erase, json!({"reason": "requested"})).await.status, 404);
    assert_eq!(platform.post(&mine.manager, &erase, json!({"reason": "requested"})).await.status, 403);
    assert!(platform.get(&mine.cashier, &path).await.ok().body["profile"].is_object());
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_erases_a_person_with_the_replay_tool_and_only_when_meant() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let customer = registered(&platform, &shop).await;
    let path = format!("/v1/customers/{customer}");
    platform.get_until(&shop.cashier, &path, |customer| customer["profile"]["name"] == NAME).await;

    let asked = replay(&platform.database, &["erase", &customer, "--reason", "requested"]).await;
    assert_eq!(asked.code, 2, "{asked:?}");
    let nobody = nobody::<domain::ids::CustomerId>().to_string();
    assert_eq!(replay(&platform.database, &["erase", &nobody, "--reason", "requested", "--yes"]).await.code, 2);
    assert!(platform.get(&shop.cashier, &path).await.ok().body["profile"].is_object(), "nothing has happened yet");

    let erase = ["erase", &customer, "--reason", "retention_ended", "--actor", "dpo", "--yes"];
    let erased = replay(&platform.database, &erase).await.sound();
    assert_eq!((&erased.lines[0]["subject"], &erased.lines[0]["version"]), (&json!(customer), &json!(2)));
    // The running platform hears of it, though another process wrote.
    let seen = platform.get_until(&shop.admin, &path, |customer| customer["status"] == "erased").await;
    assert_eq!((seen.get("profile"), &seen["erasure_reason"]), (None, &json!("retention_ended")));
    let refused = platform.send(&shop.cashier, Method::PATCH, &path, Some("late"), Some(&profile(NAME))).await;
    assert_eq!(refused.body["code"], "CustomerErased");
    let again = replay(&platform.database, &erase).await.sound();
    assert_eq!(again.lines[0]["position"], Value::Null, "once is enough");
    let actor: String =
        sqlx::query_scalar("select actor from log.event where type = 'customer.erased'").fetch_one(&platform.database.admin).await.unwrap();
    assert_eq!(actor, "user:dpo");
    assert_eq!(places_of(&platform, &[NAME, PHONE]).await, [""; 0]);
    replay(&platform.database, &["verify"]).await.sound();
    platform.proves_itself().await;
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_master_key_on_the_same_database_is_refused_at_the_start() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let customer = registered(&platform, &shop).await;
    // Its data directory is empty, so a key of its own is made there, as for one who lost the file.
    let elsewhere = ScratchDir::new("other-master");
    let mut config = Config { data_dir: elsewhere.path().to_path_buf(), ..platform.config.clone() };
    config.http.listen = free_address().unwrap();
    let (database_url, nats_url) = (platform.database.url.clone(), platform.database.nats_url.clone());
    let servers = Servers { database_url, owner_url: None, nats_url };
    let Err(refused) = Platform::start(&config, &servers, &[ProcessRole::Api]).await else { panic!("another key is taken") };
    let file = elsewhere.path().join("master.key").display().to_string();
    assert!(format!("{refused:#}").contains(&file), "{refused:#}");
    // The one that was there is not disturbed; a host with its key may join.
    platform.get_until(&shop.cashier, &format!("/v1/customers/{customer}"), |customer| customer["profile"]["name"] == NAME).await;
    config.data_dir.clone_from(&platform.config.data_dir);
    Platform::start(&config, &servers, &[ProcessRole::Api]).await.expect("the same key is taken").stop().await;
    for sql in ["update privacy.master_check set tag = tag", "delete from privacy.master_check", "truncate privacy.master_check"] {
        assert!(sqlx::raw_sql(sql).execute(&platform.database.admin).await.is_err(), "{sql} went through");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_that_does_not_open_hides_no_other() {
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let (broken, other) = (registered(&platform, &shop).await, registered(&platform, &shop).await);
    for customer in [&broken, &other] {
        platform.get_until(&shop.cashier, &format!("/v1/customers/{customer}"), |customer| customer["profile"]["name"] == NAME).await;
    }
    let id = broken.parse::<domain::ids::CustomerId>().unwrap().0;
    let sql = "alter table privacy.subject_key disable trigger user;
               update privacy.subject_key set wrapped = overlay(wrapped placing '\\x00'::bytea from 40) where subject = '{id}';
               alter table privacy.subject_key enable trigger user";
    let sql = sql.replace("{id}", &uuid::Uuid::from_bytes(id.to_bytes()).to_string());
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&platform.database.admin).await.unwrap();
    let listed = platform.get(&shop.admin, "/v1/customers").await.ok();
    let profile = |id: &str| listed.body["data"].as_array().unwrap().iter().find(|customer| customer["id"] == id).unwrap().get("profile");
    assert_eq!((profile(&broken), &profile(&other).unwrap()["name"]), (None, &json!(NAME)));
    platform.stop().await;
}
