//! Names of containers, from the bundles of their runtimes, while events are recorded.

mod bundle;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::thread;

/// Maximum number of containers whose names are kept; then all are read again.
const MAX_CONTAINERS: usize = 4096;
/// Maximum number of bundles that wait to be read; further ones are read at a later exec.
const MAX_WAITING: usize = 16;
/// Maximum time to wait for a bundle at the first exec in a container. Later execs do not wait.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// A bundle to read.
#[derive(Debug)]
struct Request {
    id: Vec<u8>,
    /// The user in whose slice the container is.
    uid: Option<u32>,
}

/// A container's identifier, and its names as in a capture.
type Reply = (Vec<u8>, Option<Vec<u8>>);

/// Finds the names of containers. Another thread reads the bundles, because a file system can block
/// it.
#[derive(Debug)]
pub(crate) struct ContainerLookup {
    root: PathBuf,
    /// The thread, once there was a container. `None` inside: there can be no thread.
    reader: Option<Option<BundleReader>>,
    known: HashMap<Vec<u8>, Option<Vec<u8>>>,
    /// Containers whose bundles are being read.
    pending: HashSet<Vec<u8>>,
}

/// The ends of the queues of the thread that reads bundles. It ends once they are dropped, unless a
/// file system blocks it.
#[derive(Debug)]
struct BundleReader {
    requests: SyncSender<Request>,
    replies: Receiver<Reply>,
}

impl BundleReader {
    fn start(root: PathBuf) -> Option<Self> {
        let (requests, waiting) = sync_channel::<Request>(MAX_WAITING);
        let (done, replies) = sync_channel::<Reply>(MAX_WAITING);
        let read = move || {
            while let Ok(Request { id, uid }) = waiting.recv() {
                let names = bundle::read(&root, &id, uid);
                if done.send((id, names)).is_err() {
                    return;
                }
            }
        };
        drop(thread::spawn("pmon-containers", 0, read).ok()?);
        Some(Self { requests, replies })
    }
}

impl ContainerLookup {
    /// Creates a lookup of bundles below `root`, normally `/`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, reader: None, known: HashMap::new(), pending: HashSet::new() }
    }

    /// Returns the names of the container of a cgroup, if there is one and its bundle could be
    /// read. `cgroup` is the content of `/proc/<pid>/cgroup`.
    pub(crate) fn names(&mut self, cgroup: &[u8]) -> Option<Vec<u8>> {
        let id = container_id(cgroup)?;
        let reader = self.reader.get_or_insert_with(|| BundleReader::start(self.root.clone())).as_ref()?;
        while let Ok(reply) = reader.replies.try_recv() {
            keep(&mut self.known, &mut self.pending, reply);
        }
        if let Some(names) = self.known.get(id) {
            return names.clone();
        }
        if self.pending.contains(id) {
            return None;
        }
        // A thread that is blocked must not delay every new container.
        let is_blocked = !self.pending.is_empty();
        let request = Request { id: id.to_vec(), uid: user(cgroup) };
        if reader.requests.try_send(request).is_err() {
            return None;
        }
        self.pending.insert(id.to_vec());
        let until = Instant::now() + MAX_WAIT;
        while !is_blocked && self.pending.contains(id) {
            let left = until.saturating_duration_since(Instant::now());
            let reply = reader.replies.recv_timeout(left).ok()?;
            keep(&mut self.known, &mut self.pending, reply);
        }
        self.known.get(id).cloned().flatten()
    }
}

/// Keeps a reply, if necessary in place of all earlier ones.
fn keep(known: &mut HashMap<Vec<u8>, Option<Vec<u8>>>, pending: &mut HashSet<Vec<u8>>, (id, names): Reply) {
    pending.remove(&id);
    if known.len() >= MAX_CONTAINERS {
        known.clear();
    }
    known.insert(id, names);
}

/// Returns the identifier of the innermost container in the path of a cgroup: 64 hexadecimal digits
/// at the end of a component, after the prefix of the runtime and before `.scope`.
fn container_id(cgroup: &[u8]) -> Option<&[u8]> {
    const DIGITS: usize = 64;
    let of = |name: &[u8]| -> Option<std::ops::Range<usize>> {
        let name = name.strip_suffix(b".scope").unwrap_or(name);
        let start = name.len().checked_sub(DIGITS)?;
        let (prefix, id) = name.split_at(start);
        // The monitor of a container is not in it.
        let is_monitor = prefix.ends_with(b"conmon-");
        let is_separate = prefix.last().is_none_or(|last| matches!(last, b'-' | b':'));
        let is_id = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_id && is_separate && !is_monitor).then_some(start..name.len())
    };
    let mut found = cgroup.split(|&byte| byte == b'/').filter_map(|name| of(name).map(|id| &name[id]));
    found.next_back()
}

/// Returns the user in whose slice a cgroup is.
fn user(cgroup: &[u8]) -> Option<u32> {
    let mut names = cgroup.split(|&byte| byte == b'/');
    names.find_map(|name| {
        let uid = name.strip_prefix(b"user-")?.strip_suffix(b".slice")?;
        std::str::from_utf8(uid).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";

    fn bundle(root: &Path, below: &str, annotations: &str) {
        let dir = root.join(below);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("config.json"), format!("{{\"annotations\":{annotations}}}")).unwrap();
    }

    fn names_of(root: &Path, cgroup: &str) -> Option<String> {
        let mut lookup = ContainerLookup::new(root.to_owned());
        // The first answer can come too late on a busy machine.
        for _ in 0..500 {
            let names = lookup.names(cgroup.as_bytes());
            if lookup.pending.is_empty() {
                return names.map(|names| String::from_utf8(names).unwrap().replace('\0', "|"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no reply");
    }

    #[test]
    fn identifiers_are_found_in_the_paths_of_all_runtimes() {
        let of = |path: String| container_id(path.as_bytes()).map(<[u8]>::to_vec);
        for path in [
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("0::/docker/{ID}"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("0::/kubepods/pod1/{ID}/init.scope"),
            format!("0::/system.slice:cri-containerd:{ID}"),
            format!("0::/user.slice/user-7.slice/user@7.service/user.slice/libpod-{ID}.scope/container"),
        ] {
            assert_eq!(of(path.clone()).as_deref(), Some(ID.as_bytes()), "{path}");
        }
        for path in [
            "0::/system.slice/nginx.service".to_owned(),
            format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            format!("0::/a{ID}"),
            format!("0::/{}", &ID[1..]),
        ] {
            assert_eq!(of(path.clone()), None, "{path}");
        }
        let inner = ID.replace('4', "5");
        assert_eq!(of(format!("0::/docker/{ID}/docker/{inner}")), Some(inner.into_bytes()));
        assert_eq!(user(b"0::/user.slice/user-1000.slice/x"), Some(1000));
        assert_eq!(user(b"0::/user.slice/user-.slice/x"), None);
    }

    #[test]
    fn names_are_read_from_the_bundle_of_each_runtime() {
        let cri = "{\"io.kubernetes.cri.container-name\":\"web\",\"io.kubernetes.cri.sandbox-name\":\"web-0\",\
                   \"io.kubernetes.cri.sandbox-namespace\":\"shop\",\"io.kubernetes.cri.image-name\":\"nginx:1\"}";
        let crio = "{\"io.kubernetes.container.name\":\"web\",\"io.kubernetes.pod.name\":\"web-0\",\
                    \"io.kubernetes.pod.namespace\":\"shop\",\"io.kubernetes.cri-o.ImageName\":\"nginx:1\"}";
        let nerdctl = "{\"nerdctl/name\":\"web\",\"nerdctl/namespace\":\"default\",\"other\":7}";
        let image = "{\"org.opencontainers.image.ref.name\":\"nginx:1\"}";
        let task = "io.containerd.runtime.v2.task";
        let system = format!("0::/x/{ID}");
        let user = format!("0::/user.slice/user-1000.slice/user@1000.service/libpod-{ID}.scope");
        for (below, annotations, cgroup, expected) in [
            (format!("run/containerd/{task}/k8s.io/{ID}"), cri, &system, "web|web-0|shop|nginx:1|"),
            (format!("run/containerd/{task}/any/{ID}"), nerdctl, &system, "web||default||"),
            (format!("run/k3s/containerd/{task}/k8s.io/{ID}"), cri, &system, "web|web-0|shop|nginx:1|"),
            (format!("run/docker/containerd/daemon/{task}/moby/{ID}"), image, &system, "|||nginx:1|"),
            (
                format!("run/containers/storage/overlay-containers/{ID}/userdata"),
                crio,
                &system,
                "web|web-0|shop|nginx:1|",
            ),
            (
                format!("var/lib/containers/storage/overlay-containers/{ID}/userdata"),
                image,
                &system,
                "|||nginx:1|",
            ),
            (format!("run/user/1000/docker/containerd/daemon/{task}/moby/{ID}"), image, &user, "|||nginx:1|"),
            (
                format!("home/u/.local/share/containers/storage/overlay-containers/{ID}/userdata"),
                crio,
                &user,
                "web|web-0|shop|nginx:1|",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join("etc")).unwrap();
            fs::write(
                root.path().join("etc/passwd"),
                "r:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n",
            )
            .unwrap();
            bundle(root.path(), &below, annotations);
            assert_eq!(names_of(root.path(), cgroup).as_deref(), Some(expected), "{below}");
        }
    }

    #[test]
    fn hostile_bundles_have_no_names_and_do_not_block() {
        let below = format!("run/containers/storage/overlay-containers/{ID}/userdata");
        let cgroup = format!("0::/x/{ID}");
        let config = |write: &dyn Fn(&Path)| {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir_all(root.path().join(&below)).unwrap();
            write(&root.path().join(&below).join("config.json"));
            names_of(root.path(), &cgroup)
        };
        let text = |text: &str| config(&|path| fs::write(path, text).unwrap());
        let name = |name: &str| text(&format!("{{\"annotations\":{{\"nerdctl/name\":\"{name}\"}}}}"));
        assert_eq!(name("web").as_deref(), Some("web||||"));
        assert_eq!(name("\\u001b[31m\\n").as_deref(), Some("\u{1b}[31m\n||||"), "readers escape it");
        assert_eq!(name("a\\u0000b"), None, "a zero byte would end the name");
        assert_eq!(name(&"x".repeat(300)), None);
        assert_eq!(name(""), None);
        for wrong in
            ["", "{", "[]", "null", "{}", "{\"annotations\":null}", "{\"annotations\":{\"nerdctl/name\":7}}"]
        {
            assert_eq!(text(wrong), None, "{wrong}");
        }
        assert_eq!(text(&"[".repeat(500_000)), None);
        assert_eq!(
            text(&format!(
                "{{\"x\":\"{}\",\"annotations\":{{\"nerdctl/name\":\"web\"}}}}",
                "y".repeat(2 << 20)
            )),
            None
        );
        assert_eq!(config(&|path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap()), None);
        assert_eq!(config(&|path| fs::create_dir(path).unwrap()), None);
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("config.json");
        fs::write(&target, "{\"annotations\":{\"nerdctl/name\":\"web\"}}").unwrap();
        assert_eq!(config(&|path| std::os::unix::fs::symlink(&target, path).unwrap()), None);
        assert_eq!(
            config(&|path| {
                fs::remove_dir(path.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(elsewhere.path(), path.parent().unwrap()).unwrap();
            }),
            None
        );
    }

    #[test]
    fn a_blocked_thread_delays_one_exec_only() {
        let (requests, _waiting) = sync_channel(MAX_WAITING);
        let (_done, replies) = sync_channel(MAX_WAITING);
        let mut lookup = ContainerLookup::new("/".into());
        lookup.reader = Some(Some(BundleReader { requests, replies }));
        for number in 0..100_000 {
            let id = format!("0::/docker/{number:064x}");
            assert_eq!((lookup.names(id.as_bytes()), lookup.names(id.as_bytes())), (None, None));
        }
        assert_eq!(lookup.pending.len(), MAX_WAITING);
    }

    #[test]
    fn the_memory_of_a_lookup_is_limited() {
        let (mut known, mut pending) = (HashMap::new(), HashSet::new());
        for number in 0..2 * MAX_CONTAINERS {
            keep(&mut known, &mut pending, (number.to_string().into_bytes(), None));
            assert!(known.len() <= MAX_CONTAINERS);
        }
    }
}
