//! The programs of processes: texts and ids that a process shares with the children it forks.

use std::collections::VecDeque;

use pmon_core::MonoNs;
use pmon_core::capture::{Details, MissReason, ProcessContext};

use super::name::Name;
use super::table::Process;

/// Index of an image; [`NO_IMAGE`] for a process about which nothing is known.
pub(super) type ImageId = u32;
/// No image.
pub(super) const NO_IMAGE: ImageId = u32::MAX;

/// Memory of an image without its texts, in bytes.
pub(super) const IMAGE_BYTES: usize = size_of::<Image>() + 16;
/// Maximum capacity of the buffer that a free image keeps, in bytes.
const MAX_SPARE: usize = 1 << 10;
/// Maximum capacity of the buffer in which texts are merged, in bytes.
const MAX_SCRATCH: usize = 16_384;
/// Maximum number of images in [`Images::awaited`].
const MAX_AWAITED: usize = 256;
/// Maximum number of free images that keep their buffers.
const MAX_SPARES: usize = 256;

/// A text of an image. The order is that of the buffer: an exec truncates the buffer after the
/// texts that it preserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    Cwd,
    Cgroup,
    Container,
    Exe,
    Filename,
    Args,
}

const TEXTS: [Text; 6] = [Text::Cwd, Text::Cgroup, Text::Container, Text::Exe, Text::Filename, Text::Args];
/// The last text that an exec preserves.
const LAST_PRESERVED: usize = Text::Container as usize;

/// A program as details describe it.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Number of users of the image, processes or entries of [`Images::awaited`]; 0 if it is free.
    users: u32,
    /// Process whose exec created the image, until its details arrive; otherwise 0.
    awaits: u32,
    /// All texts, one after the other.
    bytes: Vec<u8>,
    /// End of each text in `bytes`.
    ends: [u32; TEXTS.len()],
    /// One bit for each text that is known.
    known: u8,
    /// Name that the exec gave to the first thread.
    pub(super) name: Name,
    pub(super) miss: Option<MissReason>,
    /// Full length of the arguments if they are truncated; otherwise 0.
    args_len: u64,
    /// The fields of the context that a child shares with its parent.
    pub(super) context: Option<SharedContext>,
}

/// The fields of a [`ProcessContext`] that a fork preserves.
#[derive(Clone, Copy, Debug)]
pub(super) struct SharedContext {
    pub(super) login_uid: u32,
    pub(super) cgroup: u64,
    pub(super) pid_namespace: u32,
}

impl From<ProcessContext> for SharedContext {
    fn from(context: ProcessContext) -> Self {
        let ProcessContext { login_uid, cgroup, pid_namespace, .. } = context;
        Self { login_uid, cgroup, pid_namespace }
    }
}

impl Image {
    /// Whether the details of the exec may still arrive, while the process runs the program.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaits != 0
    }

    /// Returns a text, if it is known.
    pub(super) fn text(&self, text: Text) -> Option<&[u8]> {
        let at = text as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        (self.known & 1 << at != 0).then(|| &self.bytes[start..self.ends[at] as usize])
    }

    /// Returns the full length of the arguments, if they are truncated.
    pub(super) fn args_len(&self) -> Option<u64> {
        (self.args_len != 0).then_some(self.args_len)
    }

    /// Whether `details` has something that this image lacks.
    fn lacks(&self, details: &Details, has_texts: bool) -> bool {
        has_texts && TEXTS.iter().any(|&text| self.text(text).is_none() && text_of(details, text).is_some())
            || self.context.is_none() && details.context.is_some()
    }

    /// Merges the context of `details` into the image. Where both have one, that of `details` wins
    /// if `replace` is set.
    fn merge_context(&mut self, details: &Details, replace: bool) {
        let context = details.context.map(SharedContext::from);
        self.context = if replace { context.or(self.context) } else { self.context.or(context) };
    }

    /// Merges the texts of `details` into the image. Where both have one, that of `details` wins if
    /// `replace` is set. `scratch` is memory to use, and empty.
    fn merge_texts(&mut self, details: &Details, replace: bool, scratch: &mut Vec<u8>) {
        let own_cgroup = self.text(Text::Cgroup);
        let new_cgroup = text_of(details, Text::Cgroup);
        let has_moved = replace && new_cgroup.is_some() && new_cgroup != own_cgroup;
        let (mut ends, mut known) = ([0; TEXTS.len()], 0);
        for text in TEXTS {
            let (own, other) = (self.text(text), text_of(details, text));
            // The names of a container belong to its cgroup.
            let is_left = text == Text::Container && has_moved;
            let is_own = own.is_some() && !(replace && other.is_some()) && !is_left;
            if let Some(bytes) = if is_own { own } else { other } {
                scratch.extend_from_slice(bytes);
                known |= 1 << text as usize;
            }
            ends[text as usize] = scratch.len() as u32;
            if text == Text::Args && !is_own {
                self.args_len = details.args_len.unwrap_or(0);
            }
        }
        (self.ends, self.known) = (ends, known);
        self.bytes.clear();
        self.bytes.reserve_exact(scratch.len());
        self.bytes.extend_from_slice(scratch);
    }

    /// Removes all texts that an exec does not preserve.
    fn truncate(&mut self) {
        let end = self.ends[LAST_PRESERVED];
        self.bytes.truncate(end as usize);
        self.ends[LAST_PRESERVED..].fill(end);
        self.known &= (2 << LAST_PRESERVED) - 1;
        (self.args_len, self.miss, self.name) = (0, None, Name::Unknown);
    }
}

/// Returns the text of `details`, limited to what an offset can address.
fn text_of(details: &Details, text: Text) -> Option<&[u8]> {
    const MAX_TEXT: usize = 1 << 24;
    let text = match text {
        Text::Cwd => &details.cwd,
        Text::Cgroup => &details.cgroup,
        Text::Container => &details.container,
        Text::Exe => &details.exe,
        Text::Filename => &details.filename,
        Text::Args => &details.args,
    };
    text.as_deref().map(|text| &text[..text.len().min(MAX_TEXT)])
}

/// All images, with the number of their users.
#[derive(Debug)]
pub(super) struct Images {
    /// Whether images hold the texts of details.
    pub(super) has_texts: bool,
    all: Vec<Image>,
    free: Vec<ImageId>,
    /// Number of free images that keep their buffers.
    spares: usize,
    /// Capacity of all buffers, in bytes.
    text_bytes: usize,
    /// Images whose details are awaited, and which only children of the process with the exec still
    /// use: the process, the time of its exec, and the image.
    awaited: VecDeque<(u32, MonoNs, ImageId)>,
    scratch: Vec<u8>,
}

impl Images {
    pub(super) fn new() -> Self {
        Self {
            has_texts: true,
            all: Vec::new(),
            free: Vec::new(),
            spares: 0,
            text_bytes: 0,
            awaited: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Returns the name of a process's first thread.
    pub(super) fn name<'a>(&'a self, process: &'a Process) -> &'a Name {
        match self.get(process.image) {
            Some(image) if process.name.is_unknown() => &image.name,
            _ => &process.name,
        }
    }

    pub(super) fn get(&self, id: ImageId) -> Option<&Image> {
        self.all.get(id as usize)
    }

    /// Returns the memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.all.len() * IMAGE_BYTES + self.text_bytes
    }

    /// Adds a user.
    pub(super) fn share(&mut self, id: ImageId) {
        if let Some(image) = self.all.get_mut(id as usize) {
            image.users += 1;
        }
    }

    /// Removes a user.
    pub(super) fn release(&mut self, id: ImageId) {
        let Some(image) = self.all.get_mut(id as usize) else { return };
        image.users -= 1;
        if image.users > 0 {
            return;
        }
        if image.bytes.capacity() > MAX_SPARE || self.spares >= MAX_SPARES {
            self.text_bytes -= image.bytes.capacity();
            image.bytes = Vec::new();
        }
        self.spares += usize::from(image.bytes.capacity() > 0);
        self.free.push(id);
    }

    /// Removes the process `pid` as a user. If its children wait for the details of its exec at
    /// `exec`, keeps the image for these.
    pub(super) fn leave(&mut self, id: ImageId, pid: u32, exec: Option<MonoNs>) {
        match (self.all.get_mut(id as usize), exec) {
            (Some(image), Some(exec)) if image.awaits == pid && image.users > 1 => {
                image.awaits = 0;
                self.awaited.push_back((pid, exec, id));
                if self.awaited.len() > MAX_AWAITED
                    && let Some((.., id)) = self.awaited.pop_front()
                {
                    self.release(id);
                }
            }
            _ => self.release(id),
        }
    }

    /// Stores the details of an exec for the children of a process that has ended or called exec
    /// again.
    pub(super) fn set_awaited(&mut self, pid: u32, exec: MonoNs, details: &Details) {
        if let Some(at) = self.awaited.iter().position(|&(of, time, _)| (of, time) == (pid, exec))
            && let Some((.., id)) = self.awaited.remove(at)
        {
            self.set_details(id, details);
            self.release(id);
        }
    }

    /// Returns the image that the process `pid` with the image `id` has after an exec. The time of
    /// its previous exec is `last_exec`.
    pub(super) fn exec(&mut self, id: ImageId, pid: u32, last_exec: Option<MonoNs>) -> ImageId {
        let id = self.replaced(id, pid, last_exec);
        self.all[id as usize].awaits = pid;
        id
    }

    fn replaced(&mut self, id: ImageId, pid: u32, last_exec: Option<MonoNs>) -> ImageId {
        match self.all.get_mut(id as usize) {
            // The process may get details later, and so may the children that it forks until then.
            None => self.add(),
            Some(image) if image.users == 1 => {
                image.truncate();
                id
            }
            Some(_) => {
                let copy = self.copy(id, |image| image.ends[LAST_PRESERVED]);
                self.all[copy as usize].truncate();
                self.leave(id, pid, last_exec);
                copy
            }
        }
    }

    /// Stores the details of an exec, for all processes that share the image.
    pub(super) fn set_details(&mut self, id: ImageId, details: &Details) {
        self.change(id, details, true);
        if let Some(image) = self.all.get_mut(id as usize) {
            (image.awaits, image.miss, image.name) = (0, details.miss, Name::of_details(details));
        }
    }

    /// Fills what the image of one process lacks, and returns its new image.
    pub(super) fn fill(&mut self, id: ImageId, details: &Details) -> ImageId {
        let id = match self.all.get(id as usize) {
            None => {
                let id = self.add();
                self.all[id as usize].miss = details.miss;
                id
            }
            Some(image) if !image.lacks(details, self.has_texts) => return id,
            Some(image) if image.users == 1 => id,
            Some(_) => {
                let copy = self.copy(id, |image| image.bytes.len() as u32);
                self.release(id);
                copy
            }
        };
        self.change(id, details, false);
        id
    }

    /// Removes the texts of images until at most `bytes` are in use, and returns the number of
    /// these images.
    pub(super) fn shed(&mut self, bytes: usize) -> u64 {
        let mut shed = 0;
        for id in 0..self.all.len() {
            if self.bytes() <= bytes {
                break;
            }
            let image = &mut self.all[id];
            if image.users == 0 || image.bytes.capacity() == 0 {
                continue;
            }
            self.text_bytes -= image.bytes.capacity();
            *image = Image {
                users: image.users,
                awaits: image.awaits,
                name: std::mem::take(&mut image.name),
                context: image.context,
                miss: Some(MissReason::TooLong),
                ..Image::default()
            };
            shed += 1;
        }
        shed
    }

    /// Returns the images that are kept for the children of a process.
    #[cfg(test)]
    pub(super) fn awaited(&self) -> impl Iterator<Item = ImageId> {
        self.awaited.iter().map(|&(.., id)| id)
    }

    /// Returns the number of users of each image.
    #[cfg(test)]
    pub(super) fn users(&self) -> std::collections::BTreeMap<ImageId, u32> {
        let all = self.all.iter().enumerate().map(|(id, image)| (id as ImageId, image.users));
        all.filter(|&(_, users)| users > 0).collect()
    }

    /// Adds an empty image with one user.
    fn add(&mut self) -> ImageId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.all.push(Image::default());
            (self.all.len() - 1) as ImageId
        });
        let image = &mut self.all[id as usize];
        self.spares -= usize::from(image.bytes.capacity() > 0);
        let mut bytes = std::mem::take(&mut image.bytes);
        bytes.clear();
        *image = Image { users: 1, bytes, ..Image::default() };
        id
    }

    /// Adds a copy of an image with the first bytes of its texts, whose number `len` returns.
    fn copy(&mut self, id: ImageId, len: impl Fn(&Image) -> u32) -> ImageId {
        let copy = self.add();
        let mut bytes = std::mem::take(&mut self.all[copy as usize].bytes);
        self.text_bytes -= bytes.capacity();
        let image = &self.all[id as usize];
        bytes.extend_from_slice(&image.bytes[..len(image) as usize]);
        self.text_bytes += bytes.capacity();
        let Image { ends, known, ref name, miss, args_len, context, .. } = *image;
        let name = name.clone();
        self.all[copy as usize] =
            Image { users: 1, awaits: 0, bytes, ends, known, name, miss, args_len, context };
        copy
    }

    /// Merges details into an image.
    fn change(&mut self, id: ImageId, details: &Details, replace: bool) {
        let Some(image) = self.all.get_mut(id as usize) else { return };
        image.merge_context(details, replace);
        if !self.has_texts {
            return;
        }
        self.text_bytes -= image.bytes.capacity();
        image.merge_texts(details, replace, &mut self.scratch);
        self.text_bytes += image.bytes.capacity();
        self.scratch.clear();
        self.scratch.shrink_to(MAX_SCRATCH);
    }
}
