//! Names of a container, as its runtime recorded them.

/// Names of a container. A name is `None` if it is unknown, or if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerNames<'a> {
    /// Name of the container.
    pub container: Option<&'a [u8]>,
    /// Name of the Kubernetes pod.
    pub pod: Option<&'a [u8]>,
    /// Namespace of the pod, or of the container.
    pub namespace: Option<&'a [u8]>,
    /// Name of the image.
    pub image: Option<&'a [u8]>,
}

impl<'a> ContainerNames<'a> {
    /// Maximum length in bytes of [`ContainerNames::to_bytes`] in a capture; longer ones are left
    /// out.
    pub const MAX_BYTES: usize = 2048;

    /// Reads the names as they are in [`Details::container`](super::Details::container).
    pub fn parse(bytes: &'a [u8]) -> Self {
        let mut names = bytes.split(|&byte| byte == 0).map(|name| Some(name).filter(|name| !name.is_empty()));
        let mut next = || names.next().flatten();
        Self { container: next(), pod: next(), namespace: next(), image: next() }
    }

    /// Returns the names as they are in [`Details::container`](super::Details::container); `None`
    /// if none is known.
    pub fn to_bytes(self) -> Option<Vec<u8>> {
        let Self { container, pod, namespace, image } = self;
        let all = [container, pod, namespace, image];
        let is_known = all.iter().flatten().any(|name| !name.is_empty());
        is_known.then(|| {
            all.iter().flat_map(|name| name.unwrap_or_default().iter().chain(b"\0")).copied().collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_as_bytes() {
        let all = ContainerNames {
            container: Some(b"web"),
            pod: Some(b"web-0"),
            namespace: Some(b"shop"),
            image: Some(b"nginx:1"),
        };
        assert_eq!(all.to_bytes().as_deref(), Some(&b"web\0web-0\0shop\0nginx:1\0"[..]));
        for names in
            [all, ContainerNames { pod: None, image: None, ..all }, ContainerNames { container: None, ..all }]
        {
            assert_eq!(ContainerNames::parse(&names.to_bytes().unwrap()), names);
        }
        assert_eq!(ContainerNames::default().to_bytes(), None);
        for forged in [&b""[..], b"\0\0\0\0\0\0", b"\0"] {
            assert_eq!(ContainerNames::parse(forged), ContainerNames::default());
        }
        assert_eq!(ContainerNames::parse(b"a").container, Some(&b"a"[..]));
    }
}
