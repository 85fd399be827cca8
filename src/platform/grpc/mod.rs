//! gRPC: its keys. The listener arrives with the gRPC slice; until then the keys
//! are checked and nothing listens.

use std::net::SocketAddr;

use settings::settings;

settings! {
    /// The gRPC listener.
    pub struct Config("grpc") {
        /// Listen address.
        pub addr("addr"): SocketAddr = Same("0.0.0.0:50051");
        /// Whether server reflection answers.
        pub reflection("reflection"): bool = Same("true");
    }
}
