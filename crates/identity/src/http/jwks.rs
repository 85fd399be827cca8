//! The keys that verify access tokens.

use axum::extract::State as AxumState;
use http_server::extract::Json;
use serde_json::Value;

use super::State;

/// Returns the public keys as a JWK set (RFC 7517). Keys of HS256 are not included.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "getPublicKeys",
    tag = "auth",
    responses((status = 200, body = Value, description = "A JWK set", example = json!({
        "keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": "2026-11", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        }],
    })))
)]
pub(super) async fn get(AxumState(service): AxumState<State>) -> Json<Value> {
    Json(service.public_keys())
}
