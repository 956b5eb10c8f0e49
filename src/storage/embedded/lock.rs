//! The lock file: one process per data folder.
//!
//! The lock is the operating system's and ends with the process, however that ends; the text inside only tells a
//! second process who is in its way.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::process;

use jiff::Timestamp;

use super::OpenError;

/// Name of the file in the data folder.
const FILE_NAME: &str = "gateway.lock";

/// Bytes of the holder's text that are shown.
const HOLDER_BYTES_MAX: u64 = 256;

/// A data folder held by this process. The lock ends with this value.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder, or says who has it.
    pub(super) fn take(data_dir: &Path, now_ms: u64) -> Result<Self, OpenError> {
        let path = data_dir.join(FILE_NAME);
        let unwritable = |source| OpenError::Unwritable { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&file);
                return Err(OpenError::Held { path, holder });
            }
            Err(TryLockError::Error(source)) => return Err(unwritable(source)),
        }
        write_holder(&mut file, now_ms).map_err(unwritable)?;
        Ok(Self { _file: file })
    }
}

fn write_holder(file: &mut File, now_ms: u64) -> std::io::Result<()> {
    let started = i64::try_from(now_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let started = started.unwrap_or_default();
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "pid {} on {} since {started}", process::id(), host_name())?;
    file.sync_all()
}

fn holder(file: &File) -> String {
    let mut text = Vec::new();
    match file.take(HOLDER_BYTES_MAX).read_to_end(&mut text) {
        Ok(0) | Err(_) => "an unknown process".to_owned(),
        Ok(_) => String::from_utf8_lossy(&text).trim().to_owned(),
    }
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown host".to_owned(), |name| name.trim().to_owned())
}
