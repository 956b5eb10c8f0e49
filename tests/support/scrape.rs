//! What `/metrics` says, sample by sample.

use std::collections::{BTreeMap, BTreeSet};

use whatsapp_gateway::telemetry::names::{Kind, METRICS, Metric};

use super::Gateway;

/// One line: its name, its labels, its value, and the trace of its exemplar.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    pub trace: Option<String>,
}

/// All lines of one scrape.
#[derive(Debug, Clone)]
pub struct Scrape(pub Vec<Sample>);

impl Scrape {
    /// Reads either format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(sample).collect())
    }

    /// The sum over all series that begin like this: `name{label="word"`, or a bare name.
    pub fn sum(&self, series: &str) -> f64 {
        let wanted = sample(&format!("{series} 0"));
        let fits = |other: &&Sample| {
            other.name == wanted.name
                && wanted.labels.iter().all(|label| other.labels.get(label.0) == Some(label.1))
        };
        self.0.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// Which metrics of our table are there.
    pub fn names(&self) -> BTreeSet<&'static str> {
        self.0.iter().map(|sample| metric_of(&sample.name).name).collect()
    }

    /// Fails unless every sample is of a metric of our table, with its labels, and words that the table knows.
    pub fn assert_declared(&self) {
        for sample in &self.0 {
            let metric = metric_of(&sample.name);
            let is_bucket = sample.name.ends_with("_bucket") && metric.kind == Kind::Histogram;
            let declared = metric.labels.iter().map(|label| label.name).chain(is_bucket.then_some("le"));
            let declared: BTreeSet<_> = declared.collect();
            let has: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
            assert_eq!(has, declared, "{sample:?}");
            for label in metric.labels.iter().filter(|label| !label.words.is_empty()) {
                let word = &sample.labels[label.name];
                assert!(label.words.contains(&word.as_str()), "{word} is no {} of {sample:?}", label.name);
            }
        }
    }
}

fn metric_of(name: &str) -> &'static Metric {
    let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
    let found = parts.chain([name]).find_map(|name| METRICS.iter().find(|metric| metric.name == name));
    found.unwrap_or_else(|| panic!("{name} is not in the table"))
}

fn sample(line: &str) -> Sample {
    let (line, exemplar) =
        line.split_once(" # ").map_or((line, None), |(line, exemplar)| (line, Some(exemplar)));
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').unwrap_or(labels);
    let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    let trace = exemplar.map(|exemplar| exemplar.split('"').nth(1).unwrap().to_owned());
    Sample {
        name: name.to_owned(),
        labels: pairs.map(|(name, word)| (name.to_owned(), word.trim_matches('"').to_owned())).collect(),
        value: value.parse().unwrap_or_else(|_| panic!("{line}")),
        trace,
    }
}

impl Gateway {
    /// What `/metrics` says now.
    pub async fn scrape(&self) -> Scrape {
        Scrape::parse(&self.admin("/metrics").await.1)
    }
}
