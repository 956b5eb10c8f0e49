//! A disk whose faults can be switched on and off, by a library that is preloaded into the gateway (Linux only).

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::gateway::{Builder, Gateway};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faulty_disk.c");

/// The switches of one gateway's disk.
#[derive(Debug)]
pub struct FaultyDisk {
    folder: TempDir,
    library: PathBuf,
    suffix: &'static str,
}

impl FaultyDisk {
    /// Faults that meet the files whose names end so: `gateway.db-wal` for commits, `gateway.db` for checkpoints.
    pub fn of(suffix: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let library = folder.path().join("faulty_disk.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).args([SOURCE, "-ldl"]);
        assert!(compiler.status().expect("cc is needed, as for linking").success());
        Self { folder, library, suffix }
    }

    /// A gateway on this disk.
    pub fn gateway(&self) -> Builder {
        Gateway::builder()
            .env("LD_PRELOAD", self.library.to_str().unwrap())
            .env("DISK_FAULTS", self.folder.path().to_str().unwrap())
            .env("DISK_FAULTS_SUFFIX", self.suffix)
    }

    /// Switches `sync`, `hold` or `full` on.
    pub fn start(&self, fault: &str) {
        std::fs::write(self.folder.path().join(fault), "").unwrap();
    }

    /// Switches it off.
    pub fn stop(&self, fault: &str) {
        std::fs::remove_file(self.folder.path().join(fault)).unwrap();
    }

    /// Whether a sync waits because of `hold`.
    pub fn is_held(&self) -> bool {
        self.folder.path().join("held").exists()
    }
}
