//! An identity provider with metadata, keys and tokens of the test's choice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

pub const AUDIENCE: &str = "an-api";

/// The path of the issuer, as with several realms on one server.
const REALM: &str = "/realm";

pub struct Provider {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _runtime: Runtime,
}

struct Shared {
    issuer: String,
    /// The published keys. The last one signs.
    keys: Vec<(String, EcdsaKeyPair)>,
    is_failing: bool,
    /// Headers of each request for the keys.
    fetches: Vec<HeaderMap>,
}

/// The runtime of the server. Its end closes the listener and the connections.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Provider {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    /// A provider at an address that was free.
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            issuer: issuer_at(address),
            keys: vec![new_key()],
            is_failing: false,
            fetches: Vec::new(),
        }));
        let metadata = format!("{REALM}/.well-known/openid-configuration");
        let router = Router::new()
            .route(&metadata, get(metadata_of))
            .route("/keys", get(keys_of))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            shared,
            _runtime: Runtime(Some(runtime)),
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub fn issuer(&self) -> String {
        issuer_at(self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers everything with 500 from now on, or no longer.
    pub fn fail(&self, is_failing: bool) {
        self.shared().is_failing = is_failing;
    }

    /// Replaces all keys by a new one.
    pub fn rotate(&self) {
        self.shared().keys = vec![new_key()];
    }

    /// Headers of each request for the keys so far.
    pub fn fetches(&self) -> Vec<HeaderMap> {
        self.shared().fetches.clone()
    }

    /// The public key, which an attacker could take for a secret.
    pub fn public_key(&self) -> Vec<u8> {
        let shared = self.shared();
        let (_, pair) = shared.keys.last().unwrap();
        pair.public_key().as_ref().to_vec()
    }

    pub fn header(&self) -> Value {
        let shared = self.shared();
        let (kid, _) = shared.keys.last().unwrap();
        json!({"typ": "at+jwt", "alg": "ES256", "kid": kid})
    }

    pub fn claims(&self, subject: &str) -> Value {
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        json!({
            "iss": self.issuer(), "aud": AUDIENCE, "sub": subject, "client_id": "app",
            "iat": now, "exp": now + 60, "jti": uuid::Uuid::now_v7(),
        })
    }

    /// A valid token of a user.
    pub fn token(&self, subject: &str) -> String {
        self.sign(&self.header(), &self.claims(subject))
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let shared = self.shared();
        let (_, pair) = shared.keys.last().unwrap();
        let message = message(header, claims);
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", BASE64URL.encode(signature.as_ref()))
    }
}

pub fn issuer_at(address: SocketAddr) -> String {
    format!("http://{address}{REALM}")
}

pub fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

fn new_key() -> (String, EcdsaKeyPair) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    (uuid::Uuid::now_v7().to_string(), pair)
}

async fn metadata_of(State(shared): State<Arc<Mutex<Shared>>>) -> Response {
    let shared = shared.lock().unwrap();
    if shared.is_failing {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let origin = shared.issuer.strip_suffix(REALM).unwrap();
    let keys = format!("{origin}/keys");
    axum::Json(json!({"issuer": shared.issuer, "jwks_uri": keys})).into_response()
}

async fn keys_of(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap) -> Response {
    let mut shared = shared.lock().unwrap();
    shared.fetches.push(headers);
    if shared.is_failing {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let jwk = |(kid, pair): &(String, EcdsaKeyPair)| {
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|part| BASE64URL.encode(part));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y})
    };
    let keys: Vec<_> = shared.keys.iter().map(jwk).collect();
    axum::Json(json!({"keys": keys})).into_response()
}
