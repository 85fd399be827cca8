//! The metrics page in the format that the scraper prefers.

mod accept;
mod exemplars;
mod openmetrics;

use prometheus::{Encoder as _, Registry, TextEncoder};

pub use accept::Format;
pub use exemplars::{Exemplar, Exemplars, SeriesExemplars};

/// Encodes all series of the registry.
///
/// # Errors
/// When a metric family is malformed.
pub fn encode(
    registry: &Registry,
    exemplars: &Exemplars,
    format: Format,
) -> prometheus::Result<Vec<u8>> {
    let families = registry.gather();
    Ok(match format {
        Format::OpenMetrics => openmetrics::encode(&families, exemplars).into_bytes(),
        Format::Text => {
            let mut text = Vec::with_capacity(64 * 1_024);
            TextEncoder::new().encode(&families, &mut text)?;
            text
        }
    })
}
