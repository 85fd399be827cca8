//! Signing keys: publication and rotation.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use super::client::{self, login, read_me, register, send, tokens};
use crate::on_both;
use crate::support::{Backend, Service, eventually};

/// A new JWK set from the `keygen` subcommand.
pub async fn keygen() -> String {
    let mut process = Service::builder(Backend::Sqlite)
        .arguments(&["keygen"])
        .spawn()
        .await;
    assert!(process.wait().await.success());
    process.stdout().join("\n")
}

fn first_kid(set: &str) -> Value {
    serde_json::from_str::<Value>(set).unwrap()["keys"][0]["kid"].clone()
}

async fn published(service: &Service) -> Vec<Value> {
    let answer = send(service.client.get(service.url("/.well-known/jwks.json"))).await;
    answer.is(200);
    answer.body["keys"].as_array().unwrap().clone()
}

/// The union of two JWK sets.
fn joined(one: &str, two: &str) -> String {
    let keys = |set: &str| {
        serde_json::from_str::<Value>(set).unwrap()["keys"]
            .as_array()
            .unwrap()
            .clone()
    };
    let all = [keys(one), keys(two)].concat();
    json!({ "keys": all }).to_string()
}

on_both! {
    async fn the_published_keys_verify_and_cannot_sign(backend: Backend) {
        let keys = keygen().await;
        let service = Service::builder(backend).env("APP__AUTH__KEYS", &keys).start().await;
        let published = published(&service).await;
        assert_eq!(published.len(), 1);
        let key = published[0].as_object().unwrap();
        assert_eq!(key["kid"], first_kid(&keys));
        assert_eq!((&key["kty"], &key["crv"]), (&json!("OKP"), &json!("Ed25519")));
        assert_eq!(key["alg"], "EdDSA");
        assert!(!key.contains_key("d"), "the private half");
        // Verified like a relying party does.
        let (token, _) = tokens(&service, "ada@example.com").await;
        let (message, signature) = token.rsplit_once('.').unwrap();
        let public = BASE64URL.decode(key["x"].as_str().unwrap()).unwrap();
        aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public)
            .verify(message.as_bytes(), &BASE64URL.decode(signature).unwrap())
            .expect("the published key verifies the token");
    }

    async fn shared_secrets_are_not_published(backend: Backend) {
        let k = BASE64URL.encode([7; 32]);
        let keys = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "a", "k": k}]});
        let service = Service::builder(backend)
            .env("APP__AUTH__KEYS", keys.to_string())
            .start()
            .await;
        assert_eq!(published(&service).await, Vec::<Value>::new());
        let (token, _) = tokens(&service, "ada@example.com").await;
        read_me(&service, &token).await.is(200);
    }

    async fn generated_keys_cause_a_warning(backend: Backend) {
        let service = Service::start(backend).await;
        let warned = service.logs().iter().any(|line| {
            line["level"] == "warn"
                && line["message"].as_str().is_some_and(|text| text.contains("auth.keys is not set"))
        });
        assert!(warned, "{:#?}", service.logs());
    }

    async fn keys_rotate_with_their_file(backend: Backend) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let (first, second) = (keygen().await, keygen().await);
        std::fs::write(&path, &first).unwrap();
        let service = Service::builder(backend)
            .env("APP__AUTH__KEYS_FILE", path.to_str().unwrap())
            .start()
            .await;
        let (old, _) = tokens(&service, "ada@example.com").await;
        read_me(&service, &old).await.is(200);

        // An invalid file leaves the old keys in force.
        std::fs::write(&path, "{\"keys\": [").unwrap();
        eventually("the warning", async || {
            service.logs().into_iter().find(|line| {
                line["message"].as_str().is_some_and(|text| text.contains("key file is not valid"))
            })
        })
        .await;
        assert_eq!(published(&service).await[0]["kid"], first_kid(&first));
        read_me(&service, &old).await.is(200);

        // The new key signs, and the old one still verifies.
        std::fs::write(&path, joined(&second, &first)).unwrap();
        eventually("both keys are published", async || {
            (published(&service).await.len() == 2).then_some(())
        })
        .await;
        assert_eq!(published(&service).await[0]["kid"], first_kid(&second));
        read_me(&service, &old).await.is(200);
        let answer = login(&service, "ada@example.com", client::PASSWORD).await;
        let new = answer.text("access_token");
        read_me(&service, &new).await.is(200);

        // The old key is removed, and with it the cached verifications of its tokens.
        std::fs::write(&path, &second).unwrap();
        eventually("one key is published", async || {
            (published(&service).await.len() == 1).then_some(())
        })
        .await;
        read_me(&service, &old).await.is(401);
        read_me(&service, &new).await.is(200);
    }

    async fn one_key_set_serves_several_processes(backend: Backend) {
        let keys = keygen().await;
        let one = Service::builder(backend).env("APP__AUTH__KEYS", &keys).start().await;
        register(&one, "ada@example.com").await.is(201);
        let answer = login(&one, "ada@example.com", client::PASSWORD).await;
        let two = Service::builder(backend)
            .database(&one.database)
            .env("APP__AUTH__KEYS", &keys)
            .start()
            .await;
        read_me(&two, &answer.text("access_token")).await.is(200);
        let refreshed = client::refresh(&two, &answer.text("refresh_token")).await;
        refreshed.is(200);
    }
}
