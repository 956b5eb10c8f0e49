//! Configuration of the embedded engine.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::WAL_BYTES_MAX;

/// Where the database lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of `gateway.db` and `gateway.lock`, on a local disk (the write-ahead log needs shared memory, so no
    /// network file system). Created with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Age at which events may be deleted, such as `8d` or `36h`; a day is 24 hours. The engine deletes only when
    /// `trim` is called.
    #[serde(
        default = "retention_default",
        deserialize_with = "duration",
        serialize_with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required::serialize"
    )]
    pub retention: Duration,
    /// Bytes of used pages and write-ahead log from which on appends are refused. Absent: only the disk limits.
    #[serde(default)]
    pub size_bytes_max: Option<u64>,
    /// Bytes that must stay free on the disk (free pages inside the database count); below, appends are refused.
    /// 0 switches the mark off. Default: four times the write-ahead log's limit, at least 256 MiB.
    #[serde(default = "free_bytes_min_default")]
    pub free_bytes_min: u64,
}

impl Config {
    /// The defaults, in `data_dir`.
    pub fn in_dir(data_dir: PathBuf) -> Self {
        let (retention, free_bytes_min) = (retention_default(), free_bytes_min_default());
        Self { data_dir, retention, size_bytes_max: None, free_bytes_min }
    }

    /// Every problem of this section, each as `field: what is wrong and what to do`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.data_dir.as_os_str().is_empty() {
            problems.push("data_dir: is empty; name a folder on a local disk".to_owned());
        }
        if self.retention.is_zero() {
            problems.push(
                "retention: is zero, so every event would be deleted; write something like 8d".to_owned(),
            );
        }
        if self.size_bytes_max == Some(0) {
            problems.push(
                "size_bytes_max: is 0, so nothing could be stored; leave it out for no limit".to_owned(),
            );
        }
        problems
    }
}

/// Meta sends a webhook again for up to 7 days.
fn retention_default() -> Duration {
    Duration::from_hours(8 * 24)
}

fn free_bytes_min_default() -> u64 {
    (4 * WAL_BYTES_MAX).max(256 * 1024 * 1024)
}

/// Reads a duration such as `8d 12h`. jiff's own readers refuse days, whose length depends on the calendar.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let span = Span::deserialize(deserializer)?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(de::Error::custom)?;
    Duration::try_from(signed).map_err(de::Error::custom)
}
