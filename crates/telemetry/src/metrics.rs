//! The `metrics!` catalogue: a metric is one documented line in a block.
//!
//! A block becomes a struct of `prometheus` instruments that registers on the
//! registry handed to it; nothing is global. The first sentence of a doc comment is
//! the help text, and its [`Descriptor`]s are joined into the catalogue from which
//! `docs/metrics.md` is written.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Bounds of request latencies, in seconds.
pub const LATENCY: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Bounds of what should be quick (queries, waits for a connection), in seconds.
pub const QUICK: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// What the catalogue says of one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descriptor {
    /// Name, with its unit as suffix.
    pub name: &'static str,
    /// The doc comment.
    pub doc: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Label names; their values come from closed sets.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram.
    pub buckets: &'static [f64],
}

/// Base units of Prometheus that stand at the end of our names.
const UNITS: [&str; 4] = ["seconds", "bytes", "ratio", "celsius"];

/// The unit at the end of a metric's name, before `_total`.
#[must_use]
pub fn unit(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let (_, last) = name.rsplit_once('_')?;
    UNITS.into_iter().find(|unit| *unit == last)
}

impl Descriptor {
    /// The help text: the first sentence of the doc comment without its marks of code.
    /// `docs/metrics.md` has the whole comment; a scrape carries this text every time.
    #[must_use]
    pub fn help(&self) -> String {
        let line = self.doc.split_whitespace().collect::<Vec<_>>().join(" ");
        let first = line.split_once(". ").map_or(&*line, |(first, _)| first);
        first.trim_end_matches('.').replace('`', "")
    }
}

/// An instrument that can be built from its description.
pub trait Instrument: Sized {
    /// The type in the exposition format.
    const KIND: &'static str;

    /// Builds and registers the instrument.
    ///
    /// # Errors
    /// When the name is taken or malformed.
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
/// The page of the crate has an example; a histogram adds `, buckets LATENCY`.
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
            /// What the catalogue says of this block.
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
            /// When a name is taken or malformed.
            pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
                use $crate::metrics::Instrument as _;
                let mut descriptors = Self::DESCRIPTORS.iter();
                Ok(Self {
                    $( $field: match descriptors.next() {
                        Some(descriptor) => <$ty>::register(descriptor, registry)?,
                        // One descriptor a field, by construction.
                        None => unreachable!(),
                    }, )*
                })
            }
        }
    };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
}
