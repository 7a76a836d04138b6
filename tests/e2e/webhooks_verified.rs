//! Deliveries are checked with the verifiers that the Standard Webhooks project publishes for Python and JavaScript.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;
use support::{Receiver, TestPlatform, eventually};

const PYTHON: &str = "
import json, sys
from standardwebhooks import Webhook
headers, body, secret = json.load(open(sys.argv[1])), open(sys.argv[2], 'rb').read(), sys.argv[3]
Webhook(secret).verify(body, headers)
";
const JAVASCRIPT: &str = "
const { Webhook } = require('standardwebhooks');
const fs = require('fs');
const [headers, body, secret] = process.argv.slice(1);
new Webhook(secret).verify(fs.readFileSync(body), JSON.parse(fs.readFileSync(headers)));
";

fn run(command: &mut Command) -> Output {
    let what = format!("{command:?}");
    command.output().unwrap_or_else(|error| panic!("{what}: {error}; scripts/setup.sh installs what is missing"))
}

/// The published verifiers; nothing when the registries that they come from cannot be reached.
fn verifiers() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/verifiers");
    std::fs::create_dir_all(&dir).unwrap();
    if !dir.join("py/lib").exists() {
        assert!(run(Command::new("python3").args(["-m", "venv"]).arg(dir.join("py"))).status.success(), "run scripts/setup.sh");
    }
    let importable = |dir: &Path| run(Command::new(dir.join("py/bin/python")).args(["-c", "import standardwebhooks"])).status.success();
    if !importable(&dir) {
        run(Command::new(dir.join("py/bin/pip")).args(["install", "-q", "standardwebhooks==1.1.0"]));
    }
    if !dir.join("node_modules/standardwebhooks").exists() {
        run(Command::new("npm").args(["install", "--silent", "--prefix"]).arg(&dir).arg("standardwebhooks@1.1.1"));
    }
    let complete = importable(&dir) && dir.join("node_modules/standardwebhooks").exists();
    complete.then_some(dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_verifiers_believe_a_delivery_and_no_other_body_or_secret() {
    let Some(verifiers) = tokio::task::spawn_blocking(verifiers).await.unwrap() else {
        eprintln!("skipped: pypi.org or registry.npmjs.org cannot be reached, so the published verifiers are not there");
        return;
    };
    let platform = TestPlatform::start().await;
    let shop = platform.shop().await;
    let receiver = Receiver::start().await;
    let created = platform.post(&shop.admin, "/v1/webhook-endpoints", json!({"url": receiver.url, "events": "bill.paid"})).await.ok();
    let path = format!("/v1/webhook-endpoints/{}", created.id());
    let rotated = platform.post(&shop.admin, &format!("{path}/rotate-secret"), json!({})).await.ok();
    platform.post(&shop.admin, &format!("{path}/test"), json!({})).await.ok();
    let delivery = eventually("it arrives", Duration::from_secs(20), || async { receiver.received().into_iter().next() }).await;

    let dir = support::ScratchDir::new("verified");
    let headers: serde_json::Map<_, _> = delivery.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let (head, body, forged) = (dir.path().join("headers"), dir.path().join("body"), dir.path().join("forged"));
    std::fs::write(&head, serde_json::Value::Object(headers).to_string()).unwrap();
    std::fs::write(&body, &delivery.body).unwrap();
    std::fs::write(&forged, String::from_utf8(delivery.body.clone()).unwrap().replace("test", "paid")).unwrap();
    let python = |body: &Path, secret: &str| {
        let program = verifiers.join("py/bin/python");
        run(Command::new(program).args(["-c", PYTHON]).arg(&head).arg(body).arg(secret)).status.success()
    };
    let javascript = |body: &Path, secret: &str| {
        let mut command = Command::new("node");
        run(command.current_dir(&verifiers).args(["-e", JAVASCRIPT]).arg(&head).arg(body).arg(secret)).status.success()
    };
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (old, new) = (created.body["secret"].as_str().unwrap(), rotated.body["secret"].as_str().unwrap());
    for (verifier, name) in [(&python as &dyn Fn(&Path, &str) -> bool, "Python"), (&javascript, "JavaScript")] {
        assert!(verifier(&body, old) && verifier(&body, new), "{name}: both secrets sign while one replaces the other");
        assert!(!verifier(&forged, new), "{name}: another body is not believed");
        assert!(!verifier(&body, other), "{name}: another secret is not believed");
    }
    platform.stop().await;
}
