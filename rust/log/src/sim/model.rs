//! What a disk keeps and what only the cache knows: files by page and sector, directories by entry.
//! Not the calls that reach it (see the parent module): nothing here fails.

use std::collections::{BTreeMap, BTreeSet};

use super::SimRng;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// How much the simulated file system promises beyond what was synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsMode {
    /// Like ext4 with `data=ordered`: directory changes persist in the order they were made, and a
    /// file never shows more than was written to it.
    Ordered,
    /// Only what POSIX promises: unsynced directory changes persist in any order, a longer file
    /// size may persist before the bytes it covers.
    Loose,
}

pub(super) type Ino = usize;

/// A file: what a read sees, and what survives a power failure if nothing more is written back.
#[derive(Debug, Default, Clone)]
pub(super) struct FileNode {
    pub cached: Vec<u8>,
    pub durable: Vec<u8>,
    /// Set by a sync that failed: pages that still look like this are clean to the kernel, so the
    /// next sync succeeds without writing them.
    forgotten: Option<Vec<u8>>,
    /// Pages written since then, which are dirty again even if they look the same.
    rewritten: BTreeSet<usize>,
    /// Whether `cached` may differ from `durable`.
    dirty: bool,
}

/// The part of `bytes` in `[at, at + len)`, zeros where it ends sooner.
fn padded(bytes: &[u8], at: usize, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    let have = bytes.get(at..bytes.len().min(at + len)).unwrap_or_default();
    out[..have.len()].copy_from_slice(have);
    out
}

impl FileNode {
    /// Writes into the cache; a gap before `at` reads as zeros.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.cached.len() < at + bytes.len() {
            self.cached.resize(at + bytes.len(), 0);
        }
        self.cached[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty = true;
        if self.forgotten.is_some() {
            self.rewritten.extend(at / PAGE..=(at + bytes.len()) / PAGE);
        }
    }

    pub fn set_len(&mut self, len: usize) {
        self.cached.resize(len, 0);
        self.dirty = true;
    }

    fn is_forgotten(&self, at: usize) -> bool {
        let clean = !self.rewritten.contains(&(at / PAGE));
        self.forgotten
            .as_ref()
            .filter(|_| clean)
            .is_some_and(|seen| padded(seen, at, PAGE) == padded(&self.cached, at, PAGE))
    }

    /// A sync that works: everything the kernel still holds as dirty is on disk.
    pub fn sync(&mut self) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        if self.forgotten.is_none() {
            self.durable.clone_from(&self.cached);
            return;
        }
        let len = self.cached.len();
        self.durable.resize(len, 0);
        for at in (0..len).step_by(PAGE) {
            if !self.is_forgotten(at) {
                let end = len.min(at + PAGE);
                self.durable[at..end].copy_from_slice(&self.cached[at..end]);
            }
        }
    }

    /// A sync that fails: some pages made it, all are marked clean.
    pub fn fail_sync(&mut self, mode: FsMode, rng: &mut SimRng) {
        self.write_back(mode, rng);
        self.forgotten = Some(self.cached.clone());
        self.rewritten.clear();
    }

    /// Gives back the clean pages: the next read of them comes from the disk.
    pub fn drop_cache(&mut self) {
        if self.forgotten.is_none() {
            return;
        }
        for at in (0..self.cached.len()).step_by(PAGE) {
            if self.is_forgotten(at) {
                let end = self.cached.len().min(at + PAGE);
                let disk = padded(&self.durable, at, end - at);
                self.cached[at..end].copy_from_slice(&disk);
            }
        }
    }

    /// The kernel writes back some dirty pages on its own, whole or torn at a sector.
    pub fn write_back(&mut self, mode: FsMode, rng: &mut SimRng) {
        if !self.dirty {
            return;
        }
        let (old, new) = (self.durable.len(), self.cached.len());
        let size = match rng.below(4) {
            0 => old,
            1 | 2 => new,
            _ => old.min(new) + rng.index(old.abs_diff(new) + 1),
        };
        // How eager this round is: nothing, a mixture, everything.
        let eager = [0, 30, 70, 100][rng.index(4)];
        let torn = [0, 0, 20, 80][rng.index(4)];
        let mut next = padded(&self.durable, 0, old.max(new));
        for at in (0..next.len()).step_by(SECTOR * 8) {
            let end = next.len().min(at + PAGE);
            let page = padded(&self.cached, at, end - at);
            if next[at..end] == page[..] || self.is_forgotten(at) {
                continue;
            }
            let whole = rng.percent(eager);
            let tear = rng.percent(torn);
            for sector in (0..end - at).step_by(SECTOR) {
                let stop = (end - at).min(sector + SECTOR);
                // In order: bytes of a file that grew are there before the size that shows them.
                let shown = mode == FsMode::Ordered && at + stop > old;
                if shown || if tear { rng.percent(50) } else { whole } {
                    next[at + sector..at + stop].copy_from_slice(&page[sector..stop]);
                }
            }
        }
        next.truncate(size);
        self.durable = next;
    }

    /// Power is lost: what was written back is all there is.
    fn lose_cache(&mut self, mode: FsMode, rng: &mut SimRng) {
        self.write_back(mode, rng);
        self.forgotten = None;
        self.dirty = false;
        self.cached.clone_from(&self.durable);
    }
}

/// A directory: its entries as seen and as on disk.
#[derive(Debug, Default, Clone)]
pub(super) struct DirNode {
    pub cached: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
    /// Unreachable after a crash.
    Gone,
}

/// One entry set or removed.
#[derive(Debug, Clone)]
struct Edit {
    dir: Ino,
    name: String,
    to: Option<Ino>,
}

/// All files and directories, and the directory changes that no sync has made durable yet. A
/// change is one or two edits that persist together.
#[derive(Debug, Clone)]
pub(super) struct Volume {
    pub nodes: Vec<Node>,
    changes: Vec<Vec<Edit>>,
    pub mode: FsMode,
}

pub(super) const ROOT: Ino = 0;

impl Volume {
    pub fn new(mode: FsMode) -> Volume {
        Volume {
            nodes: vec![Node::Dir(DirNode::default())],
            changes: Vec::new(),
            mode,
        }
    }

    pub fn dir(&self, ino: Ino) -> Option<&DirNode> {
        match self.nodes.get(ino) {
            Some(Node::Dir(dir)) => Some(dir),
            _ => None,
        }
    }

    pub fn file(&mut self, ino: Ino) -> Option<&mut FileNode> {
        match self.nodes.get_mut(ino) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Adds an inode, not yet in any directory.
    pub fn add(&mut self, node: Node) -> Ino {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Changes entries in the cache and remembers that the disk does not know.
    fn change(&mut self, edits: Vec<Edit>) {
        for edit in &edits {
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(edit.dir) {
                set(&mut dir.cached, edit);
            }
        }
        self.changes.push(edits);
    }

    pub fn link(&mut self, dir: Ino, name: &str, ino: Ino) {
        self.change(vec![Edit {
            dir,
            name: name.to_owned(),
            to: Some(ino),
        }]);
    }

    pub fn unlink(&mut self, dir: Ino, name: &str) {
        self.change(vec![Edit {
            dir,
            name: name.to_owned(),
            to: None,
        }]);
    }

    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), ino: Ino) {
        let gone = Edit {
            dir: from.0,
            name: from.1.to_owned(),
            to: None,
        };
        let here = Edit {
            dir: to.0,
            name: to.1.to_owned(),
            to: Some(ino),
        };
        self.change(vec![gone, here]);
    }

    /// Makes the entries of one directory durable.
    pub fn sync_dir(&mut self, dir: Ino) {
        let touches = |change: &Vec<Edit>| change.iter().any(|edit| edit.dir == dir);
        match self.mode {
            FsMode::Ordered => {
                let last = self.changes.iter().rposition(touches);
                self.commit(|at| last.is_some_and(|last| at <= last));
            }
            FsMode::Loose => {
                let wanted: Vec<bool> = self.changes.iter().map(touches).collect();
                self.commit(|at| wanted[at]);
            }
        }
    }

    /// Makes everything durable.
    pub fn sync_all(&mut self) {
        self.commit(|_| true);
        for node in &mut self.nodes {
            if let Node::File(file) = node {
                file.sync();
            }
        }
    }

    /// Makes the wanted changes durable, and those before them that touch the same names.
    fn commit(&mut self, wanted: impl Fn(usize) -> bool) {
        let mut keep: Vec<bool> = (0..self.changes.len()).map(wanted).collect();
        for later in (0..keep.len()).rev().filter(|_| self.mode == FsMode::Loose) {
            for earlier in 0..if keep[later] { later } else { 0 } {
                keep[earlier] |= share_a_name(&self.changes[earlier], &self.changes[later]);
            }
        }
        let mut rest = Vec::new();
        for (change, keep) in std::mem::take(&mut self.changes).into_iter().zip(keep) {
            if !keep {
                rest.push(change);
                continue;
            }
            for edit in &change {
                if let Some(Node::Dir(dir)) = self.nodes.get_mut(edit.dir) {
                    set(&mut dir.durable, edit);
                }
            }
        }
        self.changes = rest;
    }

    /// The kernel makes some directory changes durable on its own.
    pub fn commit_some(&mut self, rng: &mut SimRng) {
        if self.changes.is_empty() {
            return;
        }
        match self.mode {
            FsMode::Ordered => {
                let upto = rng.index(self.changes.len() + 1);
                self.commit(|at| at < upto);
            }
            FsMode::Loose => {
                let eager = [0, 50, 90][rng.index(3)];
                let wanted: Vec<bool> = self.changes.iter().map(|_| rng.percent(eager)).collect();
                self.commit(|at| wanted[at]);
            }
        }
    }

    /// The kernel writes back part of what is dirty.
    pub fn write_back_some(&mut self, rng: &mut SimRng) {
        self.commit_some(rng);
        let mode = self.mode;
        for node in &mut self.nodes {
            if let Node::File(file) = node {
                if rng.percent(50) {
                    file.write_back(mode, rng);
                }
            }
        }
    }

    /// Power is lost and comes back.
    pub fn crash(&mut self, rng: &mut SimRng) {
        self.commit_some(rng);
        self.changes.clear();
        let mut reached = vec![false; self.nodes.len()];
        let mut todo = vec![ROOT];
        while let Some(ino) = todo.pop() {
            reached[ino] = true;
            if let Some(Node::Dir(dir)) = self.nodes.get_mut(ino) {
                dir.cached.clone_from(&dir.durable);
                todo.extend(dir.durable.values().copied());
            }
        }
        let mode = self.mode;
        for (node, reached) in self.nodes.iter_mut().zip(reached) {
            match node {
                _ if !reached => *node = Node::Gone,
                Node::File(file) => file.lose_cache(mode, rng),
                _ => {}
            }
        }
    }
}

fn set(entries: &mut BTreeMap<String, Ino>, edit: &Edit) {
    match edit.to {
        Some(ino) => entries.insert(edit.name.clone(), ino),
        None => entries.remove(&edit.name),
    };
}

fn share_a_name(a: &[Edit], b: &[Edit]) -> bool {
    a.iter()
        .any(|x| b.iter().any(|y| x.dir == y.dir && x.name == y.name))
}
