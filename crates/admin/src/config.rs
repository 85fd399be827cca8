//! Configuration of the admin listener.

use std::net::SocketAddr;

use settings::check::at_least_one;
use settings::{Profile, Reader, Secret, settings};

settings! {
    /// The admin listener: metrics, probes, switches. Never expose it to the internet.
    pub struct Config("admin", validate) {
        /// Listen address of metrics, probes and switches.
        pub addr("addr"): SocketAddr = PerProfile { development: "127.0.0.1:9464", production: "0.0.0.0:9464" };
        /// Limit of open connections on the admin listener. Further ones are rejected at once and
        /// counted. File descriptors are reserved for all of them, so that probes and scrapes are
        /// answered under any load of the public listener.
        pub max_connections("max_connections"): u32 = Same("128"), check at_least_one;
        /// Bearer token for everything that writes, and for `/debug`. In production these are 404
        /// without a token, and the token has at least 32 characters.
        pub token("token"): Option<Secret> = Unset;
        /// Limit of wrong tokens of one client (an IPv4 address or an IPv6 /64) within a minute.
        /// Beyond it, requests that need the token are answered 429 and counted.
        pub max_token_guesses("max_token_guesses"): u32 = Same("10"), check at_least_one;
        /// Enables `PUT /faults`.
        pub fault_injection("fault_injection"): bool = PerProfile { development: "true", production: "false" };
    }
}

/// Shortest token in production, in characters: 128 bits as hexadecimal digits.
const SHORTEST_TOKEN: usize = 32;

impl Config {
    /// Validates rules that depend on the profile.
    fn validate(&self, reader: &mut Reader) {
        let Some(token) = &self.token else { return };
        let token = token.expose();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            reader.refuse(
                "admin.token",
                "has characters other than visible ASCII, which `Authorization` cannot carry",
            );
        } else if reader.profile() == Profile::Production && token.len() < SHORTEST_TOKEN {
            reader.refuse(
                "admin.token",
                "is shorter than 32 characters; create one with `openssl rand -hex 32`",
            );
        }
    }
}
