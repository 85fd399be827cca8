//! Configuration of gRPC. The listener follows with the gRPC slice. Until then the keys are checked
//! and have no effect.

use std::net::SocketAddr;

use settings::settings;

settings! {
    /// The gRPC listener.
    pub struct Config("grpc") {
        /// Listen address.
        pub addr("addr"): SocketAddr = Same("0.0.0.0:50051");
        /// Enables server reflection.
        pub reflection("reflection"): bool = Same("true");
    }
}
