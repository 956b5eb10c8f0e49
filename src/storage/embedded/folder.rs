//! The data folder: made private and durable, and on a disk that can hold the database.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::OpenError;

/// Creates the folder with mode 0700 if it is missing, and refuses one on a network file system.
pub(super) fn prepare(data_dir: &Path) -> Result<(), OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: data_dir.to_owned(), source };
    let found = fs::metadata(data_dir).ok();
    if found.as_ref().is_some_and(|found| !found.is_dir()) {
        return Err(OpenError::NoFolder { path: data_dir.to_owned() });
    }
    if found.is_none() {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unwritable)?;
        // The folder's own entry must survive a power cut too.
        if let Some(parent) = data_dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent)?;
        }
    }
    match network_file_system(data_dir).map_err(unwritable)? {
        Some(kind) => Err(OpenError::NetworkDisk { path: data_dir.to_owned(), kind }),
        None => Ok(()),
    }
}

/// Makes created and deleted files of the folder durable.
pub(super) fn sync(dir: &Path) -> Result<(), OpenError> {
    let unwritable = |source| OpenError::Unwritable { path: dir.to_owned(), source };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(unwritable)
}

/// The network file system that the folder is on, if it is one: their locks and shared memory do not hold what the
/// write-ahead log needs. The numbers are the kernel's (`statfs(2)`); elsewhere than on Linux nothing is known.
#[cfg(target_os = "linux")]
fn network_file_system(dir: &Path) -> std::io::Result<Option<&'static str>> {
    let kind = i128::from(rustix::fs::statfs(dir)?.f_type) & 0xFFFF_FFFF;
    Ok(match kind {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x00C3_6400 => Some("Ceph"),
        _ => None,
    })
}

#[cfg(not(target_os = "linux"))]
fn network_file_system(_dir: &Path) -> std::io::Result<Option<&'static str>> {
    Ok(None)
}
