//! The `metrics!` macro: declares a metric as one documented line in a block.
//!
//! A block expands to a struct of `prometheus` instruments that registers with a given registry.
//! There is no global state. The first sentence of a doc comment is the help text. The
//! [`Descriptor`]s of all blocks form the catalogue that `docs/metrics.md` is generated from.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Buckets for request latencies, in seconds.
pub const LATENCY: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Buckets for short operations such as queries and waits for a connection, in seconds.
pub const QUICK: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The catalogue entry of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descriptor {
    /// Name, with its unit as suffix.
    pub name: &'static str,
    /// The doc comment.
    pub doc: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names. The label values come from closed sets.
    pub labels: &'static [&'static str],
    /// Buckets of a histogram: upper bounds.
    pub buckets: &'static [f64],
}

/// Base units of Prometheus that are suffixes of metric names.
const UNITS: [&str; 4] = ["seconds", "bytes", "ratio", "celsius"];

/// The unit at the end of a metric name, before `_total`.
#[must_use]
pub fn unit(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let (_, last) = name.rsplit_once('_')?;
    UNITS.into_iter().find(|unit| *unit == last)
}

impl Descriptor {
    /// The help text: the first sentence of the doc comment without backticks. Every scrape repeats
    /// it, so it is short. `docs/metrics.md` has the whole comment.
    #[must_use]
    pub fn help(&self) -> String {
        let line = self.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = line.split_once(". ").map_or(&*line, |(first, _)| first);
        first.trim_end_matches('.').replace('`', "")
    }
}

/// An instrument that is built from its descriptor.
pub trait Instrument: Sized {
    /// The type in the exposition format.
    const KIND: &'static str;

    /// Builds and registers the instrument.
    ///
    /// # Errors
    /// When the name is already registered or malformed.
    fn register(descriptor: &Descriptor, registry: &Registry) -> prometheus::Result<Self>;
}

fn add<C: Collector + Clone + 'static>(
    instrument: prometheus::Result<C>,
    registry: &Registry,
) -> prometheus::Result<C> {
    let instrument = instrument?;
    registry.register(Box::new(instrument.clone()))?;
    Ok(instrument)
}

macro_rules! instruments {
    (plain $($ty:ident => $kind:literal),*) => { $(
        impl Instrument for $ty {
            const KIND: &'static str = $kind;
            fn register(d: &Descriptor, registry: &Registry) -> prometheus::Result<Self> {
                add(Self::with_opts(Opts::new(d.name, d.help())), registry)
            }
        }
    )* };
    (labelled $($ty:ident => $kind:literal),*) => { $(
        impl Instrument for $ty {
            const KIND: &'static str = $kind;
            fn register(d: &Descriptor, registry: &Registry) -> prometheus::Result<Self> {
                add(Self::new(Opts::new(d.name, d.help()), d.labels), registry)
            }
        }
    )* };
}

instruments!(plain IntCounter => "counter", Counter => "counter", IntGauge => "gauge", Gauge => "gauge");
instruments!(labelled IntCounterVec => "counter", CounterVec => "counter", IntGaugeVec => "gauge", GaugeVec => "gauge");

impl Instrument for Histogram {
    const KIND: &'static str = "histogram";
    fn register(d: &Descriptor, registry: &Registry) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(d.name, d.help()).buckets(d.buckets.to_vec());
        add(Self::with_opts(opts), registry)
    }
}

impl Instrument for HistogramVec {
    const KIND: &'static str = "histogram";
    fn register(d: &Descriptor, registry: &Registry) -> prometheus::Result<Self> {
        let opts = HistogramOpts::new(d.name, d.help()).buckets(d.buckets.to_vec());
        add(Self::new(opts, d.labels), registry)
    }
}

/// Declares a block of metrics.
///
/// The crate documentation has an example. A histogram adds `, buckets LATENCY`.
#[macro_export]
macro_rules! metrics {
    (
        $(#[$meta:meta])*
        pub struct $block:ident {
            $(
                $(#[doc = $doc:literal])+
                pub $field:ident: $ty:ty = $name:literal $([$($label:literal),* $(,)?])? $(, buckets $buckets:expr)?;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone)]
        pub struct $block {
            $( $(#[doc = $doc])+ pub $field: $ty, )*
        }

        impl $block {
            /// The catalogue entries of this block.
            pub const DESCRIPTORS: &'static [$crate::metrics::Descriptor] = &[
                $( $crate::metrics::Descriptor {
                    name: $name,
                    doc: concat!($($doc, "\n"),+),
                    kind: <$ty as $crate::metrics::Instrument>::KIND,
                    labels: &[$($($label),*)?],
                    buckets: $crate::metrics!(@buckets $($buckets)?),
                }, )*
            ];

            /// Registers the block.
            ///
            /// # Errors
            /// When a name is already registered or malformed.
            pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
                use $crate::metrics::Instrument as _;
                let mut descriptors = Self::DESCRIPTORS.iter();
                Ok(Self {
                    $( $field: match descriptors.next() {
                        Some(descriptor) => <$ty>::register(descriptor, registry)?,
                        // There is exactly one descriptor for each field.
                        None => unreachable!(),
                    }, )*
                })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}
