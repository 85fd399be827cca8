//! The metrics page in the format that the scraper prefers.

mod exemplars;
mod format;
mod openmetrics;

use prometheus::{Encoder as _, Registry, TextEncoder};

pub use exemplars::{Exemplar, Exemplars, SeriesExemplars};
pub use format::Format;

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
