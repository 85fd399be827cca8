//! Configuration of the ledger.

use std::time::Duration;

use settings::check::positive;
use settings::settings;

settings! {
    /// The example application.
    pub struct Config("ledger") {
        /// Allowed currencies of accounts (ISO 4217).
        pub currencies("currencies"): Vec<String> = Same("EUR,USD,GBP"), check currency_codes;
        /// Time during which an idempotency key replays its answer.
        pub idempotency_ttl("idempotency_ttl"): Duration = Same("24h"), check positive;
    }
}

#[expect(
    clippy::ptr_arg,
    reason = "the type of a check is that of the key's value"
)]
fn currency_codes(codes: &Vec<String>) -> Result<(), String> {
    let is_code = |code: &String| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase());
    if codes.is_empty() || !codes.iter().all(is_code) {
        return Err("must list codes of three capital letters such as EUR".to_owned());
    }
    Ok(())
}
