//! The `OTEL_*` variables of one signal.

use std::time::Duration;

use super::settings::{self, ExporterSettings, Protocol};
use super::variables::{Reader, pairs, timeout};

/// Size of the queue and of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) delay: Duration,
    pub(crate) timeout: Duration,
    pub(crate) queue: usize,
    pub(crate) size: usize,
}

/// A signal and the names of its variables.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Signal {
    exporter: &'static str,
    endpoint: &'static str,
    /// Infix of the variables `OTEL_EXPORTER_OTLP_…`.
    infix: &'static str,
    /// Prefix of the batch variables.
    batch: &'static str,
    /// Default delay between two batches.
    delay_millis: u64,
    /// Path of HTTP endpoints.
    pub(super) path: &'static str,
    /// gRPC method.
    pub(super) method: &'static str,
    /// Plural of the items in log messages.
    pub(super) plural: &'static str,
    /// Whether the common endpoint is not sufficient to enable the export.
    needs_naming: bool,
}

impl Signal {
    pub(crate) const TRACES: Self = Self {
        exporter: "OTEL_TRACES_EXPORTER",
        endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        infix: "TRACES_",
        batch: "OTEL_BSP_",
        delay_millis: 5_000,
        path: "/v1/traces",
        method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        plural: "spans",
        needs_naming: false,
    };

    /// Off by default, because the lines are already on standard output.
    pub(crate) const LOGS: Self = Self {
        exporter: "OTEL_LOGS_EXPORTER",
        endpoint: "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
        infix: "LOGS_",
        batch: "OTEL_BLRP_",
        delay_millis: 1_000,
        path: "/v1/logs",
        method: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        plural: "log lines",
        needs_naming: true,
    };

    fn default_endpoint(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Http => format!("http://localhost:4318{}", self.path),
            Protocol::Grpc => "http://localhost:4317".to_owned(),
        }
    }

    pub(crate) fn exporter(&self, read: &mut Reader<'_>) -> Option<ExporterSettings> {
        let exporters = read.words(self.exporter);
        let chosen = exporters.iter().any(|name| name == "otlp");
        if exporters
            .iter()
            .any(|name| name != "otlp" && name != "none")
        {
            read.ignore(
                self.exporter,
                "supports otlp and none, other values are ignored",
            );
        }
        if !chosen && exporters.iter().any(|name| name == "none") {
            return None;
        }
        let protocol = read
            .signal(
                self.infix,
                "PROTOCOL",
                "http/protobuf or grpc",
                |text, _| match &*text.to_ascii_lowercase() {
                    "http/protobuf" => Some(Protocol::Http),
                    "grpc" => Some(Protocol::Grpc),
                    _ => None,
                },
            )
            .unwrap_or(Protocol::Http);
        let insecure = read
            .signal(self.infix, "INSECURE", "true or false", |text, _| {
                text.to_ascii_lowercase().parse::<bool>().ok()
            })
            .unwrap_or(false);
        let expected = "an http or https URL";
        let endpoint = read.signal(self.infix, "ENDPOINT", expected, |text, own| {
            settings::endpoint(text, protocol, self, own, insecure)
        });
        let named = read.text(self.endpoint).is_some();
        if !chosen && (endpoint.is_none() || (self.needs_naming && !named)) {
            return None;
        }
        let client = self.client(read);
        let endpoint = endpoint.unwrap_or_else(|| self.default_endpoint(protocol));
        let (endpoint, credentials) = settings::without_credentials(endpoint);
        let expected = "a list of name=value pairs that headers can hold";
        let mut headers = read
            .signal(self.infix, "HEADERS", expected, |text, _| {
                pairs(text).filter(|pairs| pairs.iter().all(settings::is_header))
            })
            .unwrap_or_default();
        let is_authorization =
            |(name, _): &(String, String)| name.eq_ignore_ascii_case("authorization");
        if !headers.iter().any(is_authorization) {
            headers.extend(credentials);
        }
        Some(ExporterSettings {
            protocol,
            endpoint,
            headers,
            timeout: read
                .signal(
                    self.infix,
                    "TIMEOUT",
                    "a number of milliseconds",
                    |text, _| text.parse().ok(),
                )
                .map_or(Duration::from_secs(10), timeout),
            gzip: read
                .signal(
                    self.infix,
                    "COMPRESSION",
                    "gzip or none",
                    |text, _| match &*text.to_ascii_lowercase() {
                        "gzip" => Some(true),
                        "none" => Some(false),
                        _ => None,
                    },
                )
                .unwrap_or(false),
            certificate: read.signal(self.infix, "CERTIFICATE", "a path", |text, _| {
                Some(text.to_owned())
            }),
            client,
        })
    }

    /// Files of the client certificate and its key.
    fn client(&self, read: &mut Reader<'_>) -> Option<(String, String)> {
        let mut file = |setting| {
            read.signal(self.infix, setting, "a path", |text, _| {
                Some(text.to_owned())
            })
        };
        let (certificate, key) = (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY"));
        match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (one, _) => {
                let [given, lacking] = match one {
                    Some(_) => ["CLIENT_CERTIFICATE", "CLIENT_KEY"],
                    None => ["CLIENT_KEY", "CLIENT_CERTIFICATE"],
                };
                let why = format!("has no effect without OTEL_EXPORTER_OTLP_{lacking}");
                read.ignore(&format!("OTEL_EXPORTER_OTLP_{given}"), &why);
                None
            }
        }
    }

    pub(crate) fn batch(&self, read: &mut Reader<'_>) -> Batch {
        let prefix = self.batch;
        let mut positive = |name: &str, default: usize| match read.number::<usize>(name) {
            Some(0) => {
                read.ignore(name, "must be greater than 0");
                default
            }
            value => value.unwrap_or(default),
        };
        let queue = positive(&format!("{prefix}MAX_QUEUE_SIZE"), 2_048);
        let size_name = format!("{prefix}MAX_EXPORT_BATCH_SIZE");
        let size = positive(&size_name, 512);
        if size > queue && read.text(&size_name).is_some() {
            read.ignore(
                &size_name,
                "is greater than the queue, the size of the queue is used",
            );
        }
        let delay = read
            .number(&format!("{prefix}SCHEDULE_DELAY"))
            .unwrap_or(self.delay_millis);
        let export = read.number(&format!("{prefix}EXPORT_TIMEOUT"));
        Batch {
            delay: Duration::from_millis(delay),
            timeout: timeout(export.unwrap_or(30_000)),
            queue,
            size: size.min(queue),
        }
    }
}
