//! The admin listener's section of the configuration.

use std::net::SocketAddr;

use crate::platform::settings::Secret;
use crate::platform::settings::check::at_least_one;
use crate::settings;

settings! {
    /// The admin listener: metrics, probes, switches. Never expose it to the internet.
    pub struct Config("admin") {
        /// Listen address of metrics, probes and switches.
        pub addr("addr"): SocketAddr = PerProfile { development: "127.0.0.1:9464", production: "0.0.0.0:9464" };
        /// Open connections on the admin listener; beyond it they are refused at once and counted. File descriptors are kept for all of them, so that probes and scrapes are answered whatever the public listener has to do.
        pub max_connections("max_connections"): u32 = Same("128"), check at_least_one;
        /// Bearer token for everything that writes, and for `/debug`; in production those are 404 without one.
        pub token("token"): Option<Secret> = Unset;
        /// Enables `PUT /faults`.
        pub fault_injection("fault_injection"): bool = PerProfile { development: "true", production: "false" };
    }
}
