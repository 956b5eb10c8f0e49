//! Configuration of the embedded engine.

use std::path::PathBuf;
use std::time::Duration;

use super::WAL_BYTES_MAX;

/// Where the database lives and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of `gateway.db` and `gateway.lock`, on a local disk (the write-ahead log needs shared memory, so no
    /// network file system). Created with mode 0700 when missing.
    pub data_dir: PathBuf,
    /// Age at which events may be deleted. The engine deletes only when `trim` is called.
    pub retention: Duration,
    /// Bytes of used pages and write-ahead log from which on appends are refused.
    pub size_max: u64,
    /// Bytes that must stay free on the disk (free pages inside the database count); below, appends are refused.
    /// 0 switches the mark off.
    pub free_min: u64,
}

impl Config {
    /// 8 days, 8 GiB, and the least mark that lets a full write-ahead log be folded back, in `data_dir`. Meta sends a
    /// webhook again for up to 7 days.
    pub fn in_dir(data_dir: PathBuf) -> Self {
        let free_min = (4 * WAL_BYTES_MAX).max(256 * 1024 * 1024);
        Self { data_dir, retention: Duration::from_hours(8 * 24), size_max: 8 << 30, free_min }
    }
}
