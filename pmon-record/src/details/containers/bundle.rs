//! Reads the bundle of a container: `config.json` of the OCI runtime specification, whose
//! annotations name the container, its pod and its image.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use pmon_core::capture::ContainerNames;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use serde::Deserialize;

/// Maximum size of a bundle's configuration in bytes; a larger one is not read.
const MAX_CONFIG: u64 = 1 << 20;
/// Maximum number of namespaces of a containerd daemon in which a container is searched.
const MAX_NAMESPACES: usize = 64;
/// Maximum size of `/etc/passwd` in bytes; the rest is not read.
const MAX_PASSWD: u64 = 1 << 20;
/// Maximum length of a name in bytes; a longer one is left out.
const MAX_NAME: usize = 255;
/// Maximum length of the name of an image in bytes; a longer one is left out.
const MAX_IMAGE: usize = 1024;

/// Where containerd keeps the bundles of a daemon, by namespace.
const TASKS: &str = "io.containerd.runtime.v2.task";
/// Where CRI-O and Podman keep the bundles of a store.
const STORAGE: &str = "containers/storage/overlay-containers";

/// Reads the names of a container, as in a capture. `uid` is the user in whose slice it is. All
/// paths are below `root`.
pub(super) fn read(root: &Path, id: &[u8], uid: Option<u32>) -> Option<Vec<u8>> {
    let id = std::str::from_utf8(id).ok()?;
    let mut daemons = ["run/containerd", "run/docker/containerd/daemon", "run/k3s/containerd"]
        .map(|daemon| root.join(daemon).join(TASKS))
        .to_vec();
    let mut stores = ["run", "var/lib"].map(|parent| root.join(parent).join(STORAGE)).to_vec();
    if let Some(uid) = uid {
        let runtime = root.join(format!("run/user/{uid}"));
        daemons.extend(
            ["docker/containerd/daemon", "containerd"].map(|daemon| runtime.join(daemon).join(TASKS)),
        );
        stores.push(runtime.join("containers/overlay-containers"));
        stores.extend(home(root, uid).map(|home| home.join(".local/share").join(STORAGE)));
    }
    let of_stores = stores.iter().map(|store| (store, format!("{id}/userdata/config.json")));
    let of_daemons = daemons.iter().flat_map(|daemon| {
        namespaces(daemon).into_iter().map(move |namespace| (daemon, format!("{namespace}/{id}/config.json")))
    });
    of_stores.chain(of_daemons).find_map(|(base, below)| config(base, &below))
}

/// Returns the namespaces of a containerd daemon.
fn namespaces(tasks: &Path) -> Vec<String> {
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten().take(MAX_NAMESPACES);
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Returns the home directory of a user.
fn home(root: &Path, uid: u32) -> Option<PathBuf> {
    let mut passwd = Vec::new();
    File::open(root.join("etc/passwd")).ok()?.take(MAX_PASSWD).read_to_end(&mut passwd).ok()?;
    let uid = uid.to_string();
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b':').skip(2);
        let home = (fields.next()? == uid.as_bytes()).then(|| fields.nth(2)).flatten()?;
        Some(root.join(OsStr::from_bytes(home.strip_prefix(b"/")?)))
    })
}

/// Reads the names from a configuration, whose path below `base` has no symbolic link. Another
/// file than a regular one is not read: it could block, or do something when it is opened.
fn config(base: &Path, below: &str) -> Option<Vec<u8>> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = open(base, directory, Mode::empty()).ok()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let at = openat2(&base, below, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?;
    let is_file = |stat: &rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let before = fstat(&at).ok().filter(is_file)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(&base, below, flags, Mode::empty(), resolve).ok()?;
    let stat = fstat(&file).ok().filter(is_file)?;
    if stat.st_size as u64 > MAX_CONFIG || (stat.st_dev, stat.st_ino) != (before.st_dev, before.st_ino) {
        return None;
    }
    let mut text = Vec::new();
    File::from(file).take(MAX_CONFIG).read_to_end(&mut text).ok()?;
    let config: Config = serde_json::from_slice(&text).ok()?;
    config.annotations?.names()
}

/// The part of a configuration that is read.
#[derive(Deserialize)]
struct Config {
    annotations: Option<Annotations>,
}

/// The annotations that name a container: of containerd for Kubernetes, of CRI-O, of nerdctl, and
/// of the OCI image specification.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "io.kubernetes.cri.container-name")]
    cri_container: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-name")]
    cri_pod: Option<String>,
    #[serde(rename = "io.kubernetes.cri.sandbox-namespace")]
    cri_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri.image-name")]
    cri_image: Option<String>,
    #[serde(rename = "io.kubernetes.container.name")]
    crio_container: Option<String>,
    #[serde(rename = "io.kubernetes.pod.name")]
    crio_pod: Option<String>,
    #[serde(rename = "io.kubernetes.pod.namespace")]
    crio_namespace: Option<String>,
    #[serde(rename = "io.kubernetes.cri-o.ImageName")]
    crio_image: Option<String>,
    #[serde(rename = "nerdctl/name")]
    nerdctl_container: Option<String>,
    #[serde(rename = "nerdctl/namespace")]
    nerdctl_namespace: Option<String>,
    #[serde(rename = "org.opencontainers.image.ref.name")]
    oci_image: Option<String>,
}

impl Annotations {
    fn names(&self) -> Option<Vec<u8>> {
        let names = ContainerNames {
            container: first([&self.cri_container, &self.crio_container, &self.nerdctl_container], MAX_NAME),
            pod: first([&self.cri_pod, &self.crio_pod], MAX_NAME),
            namespace: first([&self.cri_namespace, &self.crio_namespace, &self.nerdctl_namespace], MAX_NAME),
            image: first([&self.cri_image, &self.crio_image, &self.oci_image], MAX_IMAGE),
        };
        names.to_bytes()
    }
}

/// Returns the first name that a capture can hold.
fn first<const N: usize>(names: [&Option<String>; N], max_len: usize) -> Option<&[u8]> {
    let mut names = names.into_iter().flatten().map(|name| name.as_bytes());
    names.find(|name| !name.is_empty() && name.len() <= max_len && !name.contains(&0))
}
