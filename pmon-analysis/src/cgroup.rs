//! Which unit, session, container and pod a process belongs to, according to the path of its
//! cgroup.
//!
//! Service managers and container runtimes create a cgroup for each service and container, and name
//! it after the service or the container. So the names are known offline, and after the end of the
//! process.

use std::borrow::Cow;

/// The identity that the path of a cgroup shows. Unknown parts are `None`.
///
/// With containers inside containers, the container and the pod are the innermost ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupIdentity<'a> {
    /// Unit of the system's service manager, as in `systemctl status PID`: a service, or a scope
    /// such as `session-3.scope`.
    pub unit: Option<&'a [u8]>,
    /// Unit of a user's service manager, inside the unit `user@UID.service`.
    pub user_unit: Option<&'a [u8]>,
    /// Login session of systemd-logind.
    pub session: Option<&'a [u8]>,
    /// Identifier of the container: 64 hexadecimal digits, or the name of the machine for LXC and
    /// systemd-nspawn.
    pub container_id: Option<Cow<'a, [u8]>>,
    /// UID of the Kubernetes pod, in lower case with hyphens; 32 hexadecimal digits for a static
    /// pod.
    pub pod_uid: Option<Cow<'a, [u8]>>,
}

impl<'a> CgroupIdentity<'a> {
    /// Returns the identity in the content of `/proc/<pid>/cgroup` (`cgroups(7)`), or in a single
    /// path. If there are several hierarchies, the first that names a container counts, otherwise
    /// the first that names a unit.
    pub fn of(cgroup: &'a [u8]) -> Self {
        let mut best = Self::default();
        for line in cgroup.split(|&byte| byte == b'\n') {
            let found = Self::of_path(path_of_line(line));
            if found.container_id.is_some() {
                return found;
            }
            if best.unit.is_none() {
                best = found;
            }
        }
        best
    }

    fn of_path(path: &'a [u8]) -> Self {
        let mut this = Self::default();
        let mut before: &[u8] = b"";
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            // systemd puts `_` before names that the kernel uses for files of the cgroup.
            let name = name.strip_prefix(b"_").unwrap_or(name);
            this.add(before, name);
            before = name;
        }
        this
    }

    /// Adds the component `name` of the path, which follows `before`.
    fn add(&mut self, before: &[u8], name: &'a [u8]) {
        if let Some(uid) = pod_uid(name) {
            (self.pod_uid, self.container_id) = (Some(uid), None);
        }
        if let Some(id) = container(before, name) {
            self.container_id = Some(id);
        } else if is_unit(name) {
            self.add_unit(name);
        }
    }

    /// Adds a service or a scope. Units inside a container belong to its own service manager.
    fn add_unit(&mut self, name: &'a [u8]) {
        if self.container_id.is_some() {
            return;
        }
        match self.unit {
            None => {
                self.session = name
                    .strip_prefix(b"session-")
                    .and_then(|rest| rest.strip_suffix(b".scope"))
                    .filter(|session| !session.is_empty());
                self.unit = Some(name);
            }
            Some(unit) if unit.starts_with(b"user@") && self.user_unit.is_none() => {
                self.user_unit = Some(name);
            }
            Some(_) => {}
        }
    }
}

/// Returns the path in a line `ID:CONTROLLERS:PATH`; a line without colons is a path.
fn path_of_line(line: &[u8]) -> &[u8] {
    if line.starts_with(b"/") {
        return line;
    }
    line.splitn(3, |&byte| byte == b':').nth(2).unwrap_or_default()
}

fn is_unit(name: &[u8]) -> bool {
    [&b".service"[..], b".scope"].iter().any(|suffix| name.len() > suffix.len() && name.ends_with(suffix))
}

/// Returns the container whose cgroup is `name` in `before`.
fn container<'a>(before: &[u8], name: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    const PREFIXES: [&[u8]; 6] =
        [b"docker-", b"cri-containerd-", b"nerdctl-", b"crio-", b"libpod-payload-", b"libpod-"];
    let scope = name.strip_suffix(b".scope").unwrap_or(name);
    let ids = PREFIXES.iter().filter_map(|prefix| scope.strip_prefix(*prefix));
    // The name of a systemd cgroup, `SLICE:PREFIX:ID`, that the cgroupfs driver took literally.
    let mut ids = ids.chain(rsplit_once(name, b':').map(|(_, id)| id));
    if let Some(id) = ids.find(|id| is_container_id(id)) {
        return Some(id.into());
    }
    if is_container_id(name) {
        let is_known = before == b"docker" || pod_uid(before).is_some() || before.is_empty();
        return is_known.then(|| name.into());
    }
    if let Some(machine) = name.strip_prefix(b"lxc.payload.").filter(|machine| !machine.is_empty()) {
        return Some(machine.into());
    }
    if before == b"lxc" || before == b"lxc.payload" {
        return Some(name.into());
    }
    let nspawn = name.strip_prefix(b"systemd-nspawn@").and_then(|name| name.strip_suffix(b".service"));
    let machine = scope.strip_prefix(b"machine-").filter(|_| name.ends_with(b".scope"));
    // libvirt registers virtual machines with the same prefix.
    let machine = machine.filter(|machine| !machine.starts_with(b"qemu\\x2d"));
    let machine = nspawn.or(machine).filter(|machine| !machine.is_empty())?;
    Some(unescaped(machine))
}

/// Returns the UID of the pod whose cgroup has this name: `podUID` with the cgroupfs driver, or a
/// slice such as `kubepods-burstable-podUID.slice` with underscores for hyphens. A container's name
/// that contains its slice counts, too.
fn pod_uid(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let slice = name.split(|&byte| byte == b':').next().and_then(|name| name.strip_suffix(b".slice"));
    let Some(slice) = slice else {
        return name.strip_prefix(b"pod").filter(|uid| is_pod_uid(uid, b'-')).map(Cow::Borrowed);
    };
    let (parents, last) = rsplit_once(slice, b'-')?;
    let uid = last.strip_prefix(b"pod").filter(|uid| is_pod_uid(uid, b'_'))?;
    let is_kubepods = parents.split(|&byte| byte == b'-').any(|part| part == b"kubepods");
    is_kubepods
        .then(|| uid.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect::<Vec<_>>().into())
}

/// Whether `uid` is a UUID with this separator, or the hash that a static pod has in its place.
fn is_pod_uid(uid: &[u8], separator: u8) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match uid.len() {
        32 => is_hex(uid),
        36 => {
            let parts: Vec<_> = uid.split(|&byte| byte == separator).collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| is_hex(part))
        }
        _ => false,
    }
}

/// Whether `id` has the form that OCI runtimes' managers give to identifiers.
fn is_container_id(id: &[u8]) -> bool {
    id.len() == 64 && id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn rsplit_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().rposition(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Replaces the escapes `\xHH` of systemd (`systemd-escape(1)`).
fn unescaped(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\\') {
        return Cow::Borrowed(name);
    }
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'\\', b'x', high, low, ..] => {
                let digit = |byte: u8| (byte as char).to_digit(16);
                digit(*high).zip(digit(*low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        out.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &rest[4..] } else { after };
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
    const INNER: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
    const UID: &str = "0c2b1d3e-4f5a-6b7c-8d9e-0f1a2b3c4d5e";
    const UID_: &str = "0c2b1d3e_4f5a_6b7c_8d9e_0f1a2b3c4d5e";
    const HASH: &str = "5f1c1d0a9b8c7d6e5f4a3b2c1d0e9f8a";

    /// Returns unit, user unit, container and pod, separated by spaces.
    fn identity(cgroup: &str) -> String {
        let found = CgroupIdentity::of(cgroup.as_bytes());
        let text = |bytes: Option<&[u8]>| {
            bytes.map_or("-".to_owned(), |bytes| {
                String::from_utf8_lossy(bytes).replace(ID, "ID").replace(INNER, "INNER")
            })
        };
        let (container, pod) = (text(found.container_id.as_deref()), text(found.pod_uid.as_deref()));
        format!("{} {} {container} {}", text(found.unit), text(found.user_unit), pod.replace(UID, "UID"))
    }

    #[test]
    fn units_sessions_containers_and_pods_are_known_by_their_paths() {
        for (cgroup, expected) in [
            ("0::/", "- - - -"),
            ("", "- - - -"),
            ("garbage", "- - - -"),
            ("0::/init.scope", "init.scope - - -"),
            ("0::/system.slice/nginx.service", "nginx.service - - -"),
            ("/system.slice/nginx.service", "nginx.service - - -"),
            ("0::/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service - - -"),
            ("0::/system.slice/a.service/worker.scope", "a.service - - -"),
            ("0::/system.slice/_cpu.service", "cpu.service - - -"),
            ("0::/user.slice/user-1000.slice/session-3.scope", "session-3.scope - - -"),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service/y.service",
                "user@1000.service app-x.service - -",
            ),
            ("0::/docker/ID", "- - ID -"),
            ("0::/system.slice/docker-ID.scope", "- - ID -"),
            ("0::/system.slice/docker-ID.scope/init.scope", "- - ID -"),
            (
                "0::/user.slice/user-1.slice/user@1.service/user.slice/docker-ID.scope",
                "user@1.service - ID -",
            ),
            ("0::/docker/ID/docker/INNER", "- - INNER -"),
            ("0::/system.slice/docker.service", "docker.service - - -"),
            ("0::/system.slice/nerdctl-ID.scope", "- - ID -"),
            ("0::/kubepods/burstable/podUID/ID", "- - ID UID"),
            ("0::/kubepods/podHASH/ID", "- - ID HASH"),
            ("0::/kubepods/besteffort/podUID", "- - - UID"),
            (
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
                "- - ID UID",
            ),
            ("0::/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope/container", "- - ID UID"),
            (
                "0::/docker/ID/kubelet.slice/kubelet-kubepods.slice/\
                 kubelet-kubepods-podUID_.slice/cri-containerd-INNER.scope",
                "- - INNER UID",
            ),
            (
                "0::/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
                "containerd.service - ID UID",
            ),
            ("0::/machine.slice/libpod-ID.scope/container", "- - ID -"),
            ("0::/machine.slice/libpod-conmon-ID.scope", "libpod-conmon-ID.scope - - -"),
            ("0::/system.slice/web.service/libpod-payload-ID", "web.service - ID -"),
            ("0::/lxc.payload.web-1/system.slice/ssh.service", "- - web-1 -"),
            ("0::/lxc.monitor.web-1", "- - - -"),
            ("0::/lxc/101/ns/init.scope", "- - 101 -"),
            ("0::/machine.slice/machine-deb\\x2d12.scope/payload/init.scope", "- - deb-12 -"),
            ("0::/machine.slice/systemd-nspawn@deb.service/payload", "- - deb -"),
            (
                "0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/emulator",
                "machine-qemu\\x2d1\\x2dvm.scope - - -",
            ),
            // Names that only resemble those of containers and pods.
            ("0::/docker-ID0.scope", "docker-ID0.scope - - -"),
            ("0::/podUID_/x", "- - - -"),
            ("0::/a-podUID_.slice", "- - - -"),
            ("0::/system.slice/x.service/ID", "x.service - - -"),
            ("0::/.service/.scope", "- - - -"),
            // Several hierarchies.
            ("12:pids:/\n1:name=systemd:/system.slice/a.service\n0::/", "a.service - - -"),
            ("5:cpu,cpuacct:/docker/ID\n1:name=systemd:/docker/ID\n0::/system.slice/c.service", "- - ID -"),
        ] {
            let expanded = cgroup.replace("UID_", UID_).replace("UID", UID).replace("HASH", HASH);
            let expanded = expanded.replace("INNER", INNER).replace("ID", ID);
            assert_eq!(identity(&expanded).replace(HASH, "HASH"), expected, "{cgroup}");
        }
        let session = |cgroup| CgroupIdentity::of(cgroup).session;
        assert_eq!(session(b"0::/user.slice/user-0.slice/session-c2.scope"), Some(&b"c2"[..]));
        assert_eq!(session(b"0::/system.slice/x.service"), None);
    }

    #[test]
    fn escapes_are_replaced_once() {
        for (name, expected) in
            [("a\\x2db", "a-b"), ("\\x5cx2d", "\\x2d"), ("\\x2", "\\x2"), ("\\xzz", "\\xzz")]
        {
            assert_eq!(&*unescaped(name.as_bytes()), expected.as_bytes());
        }
    }
}
