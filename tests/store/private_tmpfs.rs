//! A tmpfs that only this test and its children see.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pmon_testkit::live::OutputLines;
use tempfile::TempDir;

/// A tmpfs in a mount namespace of its own. It is unmounted on drop.
pub(crate) struct PrivateTmpfs {
    holder: Child,
    path: PathBuf,
    _directory: TempDir,
}

impl PrivateTmpfs {
    /// Mounts a tmpfs of `size`.
    pub(crate) fn new(size: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let script = r#"mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && exec sleep 100000"#;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(directory.path())
            .arg(size)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = OutputLines::new(holder.stdout.take().unwrap()).next();
        assert_eq!(line.as_deref(), Some("mounted"));
        let root = PathBuf::from(format!("/proc/{}/root", holder.id()));
        let path = root.join(directory.path().strip_prefix("/").unwrap());
        Self { holder, path, _directory: directory }
    }

    /// Returns the path at which this process reaches the filesystem.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts the filesystem again with these options.
    pub(crate) fn remount(&self, options: &str) {
        let mounted = self.path.strip_prefix(format!("/proc/{}/root", self.holder.id())).unwrap();
        let status = Command::new("nsenter")
            .args(["--mount", "--target", &self.holder.id().to_string()])
            .args(["mount", "-o", &format!("remount,{options}")])
            .arg(Path::new("/").join(mounted))
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for PrivateTmpfs {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
