//! Deliveries are checked with the verifiers that the Standard Webhooks project publishes for Python and JavaScript. They are small and are
//! fetched once; one that cannot be had is left out, aloud.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use serde_json::json;
use support::{Lacking, Receiver, TestPlatform, eventually, skipped};

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

/// A published verifier that is there or could be fetched.
fn fetched(language: &str, registry: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let note = "deliveries were not checked with the published verifier for";
        skipped(Lacking::Verifiers, &format!("{note} {language}: it is not installed and {registry} could not be reached"));
    }
    found
}

fn folder() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/verifiers");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// The Python in whose environment the verifier is.
fn python() -> Option<PathBuf> {
    let dir = folder().join("py");
    if !dir.join("lib").exists() {
        assert!(run(Command::new("python3").args(["-m", "venv"]).arg(&dir)).status.success(), "run scripts/setup.sh");
    }
    let importable = || run(Command::new(dir.join("bin/python")).args(["-c", "import standardwebhooks"])).status.success();
    if !importable() {
        run(Command::new(dir.join("bin/pip")).args(["install", "-q", "standardwebhooks==1.1.0"]));
    }
    fetched("Python", "pypi.org", importable().then(|| dir.join("bin/python")))
}

/// The folder from which Node.js finds the verifier.
fn javascript() -> Option<PathBuf> {
    let dir = folder();
    let module = dir.join("node_modules/standardwebhooks");
    if !module.exists() {
        run(Command::new("npm").args(["install", "--silent", "--prefix"]).arg(&dir).arg("standardwebhooks@1.1.1"));
    }
    fetched("JavaScript", "registry.npmjs.org", module.exists().then_some(dir))
}

type Verifier<'a> = Box<dyn Fn(&Path, &str) -> bool + 'a>;

/// Those that are there, each with its name: whether it believes a body with these headers under a secret.
fn verifiers<'a>(head: &'a Path, python: Option<&'a PathBuf>, javascript: Option<&'a PathBuf>) -> Vec<(&'static str, Verifier<'a>)> {
    let mut all: Vec<(&'static str, Verifier<'a>)> = Vec::new();
    if let Some(program) = python {
        let verify = move |body: &Path, secret: &str| {
            run(Command::new(program).args(["-c", PYTHON]).arg(head).arg(body).arg(secret)).status.success()
        };
        all.push(("Python", Box::new(verify)));
    }
    if let Some(dir) = javascript {
        let verify = move |body: &Path, secret: &str| {
            let mut command = Command::new("node");
            run(command.current_dir(dir).args(["-e", JAVASCRIPT]).arg(head).arg(body).arg(secret)).status.success()
        };
        all.push(("JavaScript", Box::new(verify)));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_published_verifiers_believe_a_delivery_and_no_other_body_or_secret() {
    let (python, javascript) = tokio::task::spawn_blocking(|| (python(), javascript())).await.unwrap();
    if python.is_none() && javascript.is_none() {
        return; // said above
    }
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
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (old, new) = (created.body["secret"].as_str().unwrap(), rotated.body["secret"].as_str().unwrap());
    for (name, verifier) in verifiers(&head, python.as_ref(), javascript.as_ref()) {
        assert!(verifier(&body, old) && verifier(&body, new), "{name}: both secrets sign while one replaces the other");
        assert!(!verifier(&forged, new), "{name}: another body is not believed");
        assert!(!verifier(&body, other), "{name}: another secret is not believed");
    }
    platform.stop().await;
}
