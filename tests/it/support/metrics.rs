//! Reads the Prometheus text format.

use std::collections::BTreeMap;

/// A scrape: value of each series.
#[derive(Debug, Clone)]
pub struct Samples(pub BTreeMap<String, f64>);

impl Samples {
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(
            samples
                .map(|line| {
                    let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
                    (
                        series.to_owned(),
                        value.parse().expect("a value is a number"),
                    )
                })
                .collect(),
        )
    }

    /// The value of a series. The order of the labels does not matter.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.0.iter().find_map(|(series, value)| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            let matches = own == name
                && labels
                    .iter()
                    .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")));
            matches.then_some(*value)
        })
    }

    /// The sum of all series with this name and these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let matching = self.0.iter().filter(|(series, _)| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            own == name
                && labels
                    .iter()
                    .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
        });
        matching.map(|(_, value)| value).sum()
    }
}
