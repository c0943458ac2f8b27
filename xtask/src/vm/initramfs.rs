//! The guest's whole file system: programs of this machine with their libraries, a kernel's modules, and an init.
//!
//! A [`Tree`] is a list of paths and what is there; [`Tree::write`] makes a cpio archive of the format "newc" of it
//! (Documentation/driver-api/early-userspace/buffer-format.rst), which the kernel unpacks into its first file system. Files of this
//! machine lie in the guest under their own paths, so that a program that knows a path finds what it knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command::output;

enum Content {
    Folder,
    Link(String),
    Bytes(Vec<u8>),
    Host(PathBuf),
    /// A console: init's standard streams are opened before anything is mounted.
    Device(u32, u32),
}

struct Entry {
    content: Content,
    mode: u32,
    owner: (u32, u32),
}

/// Paths in the guest (without the leading slash) and what is there.
#[derive(Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    asked: BTreeSet<PathBuf>,
}

/// Debian's / has these as links into /usr.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

impl Tree {
    /// An empty root with the folders that every guest has.
    pub fn new() -> Tree {
        let mut tree = Tree::default();
        for folder in ["dev", "proc", "sys", "run", "tmp", "root", "etc", "var/run", "mnt"] {
            tree.folder(folder);
        }
        for name in MERGED {
            tree.folder(&format!("usr/{name}"));
            tree.put(name, Content::Link(format!("usr/{name}")), 0o777);
        }
        tree.put("dev/console", Content::Device(5, 1), 0o600);
        tree
    }

    /// A file with this text.
    pub fn text(&mut self, path: &str, text: impl Into<Vec<u8>>, mode: u32) {
        self.put(path, Content::Bytes(text.into()), mode);
    }

    /// A folder of this machine, empty in the guest, with its owner.
    pub fn owned_folder(&mut self, path: &Path) -> Result<()> {
        let host = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
        let inside = inside(path);
        self.folder(&inside);
        if let Some(entry) = self.entries.get_mut(&inside) {
            entry.owner = (host.uid(), host.gid());
        }
        Ok(())
    }

    /// A file of this machine under its own path.
    ///
    /// # Errors
    /// When it is not there.
    pub fn copy(&mut self, path: &Path) -> Result<()> {
        let metadata = path.metadata().with_context(|| format!("the guest needs {}", path.display()))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                self.copy(&entry?.path())?;
            }
            return Ok(());
        }
        self.put(&inside(path), Content::Host(path.to_owned()), metadata.permissions().mode() & 0o7777);
        Ok(())
    }

    /// A program and the libraries it is linked with.
    ///
    /// # Errors
    /// When it is not there.
    pub fn program(&mut self, path: &Path) -> Result<()> {
        if !self.asked.insert(path.to_owned()) {
            return Ok(());
        }
        self.copy(path)?;
        // ldd fails for what is linked statically: then there is nothing to add.
        for library in libraries(&output(Command::new("ldd").arg(path)).unwrap_or_default()) {
            self.copy(&library)?;
        }
        Ok(())
    }

    /// The program `name`, wherever PATH has it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn named_program(&mut self, name: &str) -> Result<()> {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let path = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
        self.program(
            &path.with_context(|| {
                format!("the guest needs the program {name}, and it is not installed here")
            })?,
        )
    }

    /// Modules of a kernel, uncompressed, with all that they need. Returns their paths in the guest in the order of loading.
    /// What the kernel has built in or does not have at all is left out.
    ///
    /// # Errors
    /// When a module cannot be read or unpacked.
    pub fn modules(&mut self, folder: &Path, wanted: &[&str]) -> Result<Vec<String>> {
        let list = folder.join("modules.dep");
        let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let mut paths = Vec::new();
        for module in closure(&list, wanted) {
            let file = folder.join(&module);
            let plain = module.trim_end_matches(".xz").trim_end_matches(".zst");
            let path = format!("usr/lib/modules/{plain}");
            self.text(&path, unpacked(&file)?, 0o644);
            paths.push(format!("/{path}"));
        }
        Ok(paths)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.put(path, Content::Link(to.to_owned()), 0o777);
    }

    /// Everything in a folder of unpacked packages, below `place` in the guest, but for what begins with one of `without`. Debian's
    /// merged folders are merged.
    ///
    /// # Errors
    /// When something cannot be read.
    pub fn unpacked(&mut self, folder: &Path, place: &str, without: &[&str]) -> Result<()> {
        for name in MERGED {
            self.folder(&format!("{place}/usr/{name}"));
            self.link(&format!("{place}/{name}"), &format!("usr/{name}"));
        }
        self.unpacked_below(folder, folder, place, without)
    }

    fn unpacked_below(&mut self, folder: &Path, top: &Path, place: &str, without: &[&str]) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = inside(path.strip_prefix(top).unwrap_or(&path));
            if without.iter().any(|start| name.starts_with(start)) {
                continue;
            }
            let metadata =
                path.symlink_metadata().with_context(|| format!("cannot look at {}", path.display()))?;
            let there = format!("{place}/{name}");
            if metadata.is_symlink() {
                self.link(&there, &fs::read_link(&path)?.to_string_lossy());
            } else if metadata.is_dir() {
                // Two packages' halves of a merged folder: the one is there already.
                if !MERGED.contains(&name.trim_start_matches("usr/")) {
                    self.put(&there, Content::Folder, metadata.permissions().mode() & 0o7777);
                }
                self.unpacked_below(&path, top, place, without)?;
            } else {
                self.put(&there, Content::Host(path), metadata.permissions().mode() & 0o7777);
            }
        }
        Ok(())
    }

    /// An empty folder.
    pub fn folder(&mut self, path: &str) {
        self.put(path, Content::Folder, 0o755);
    }

    fn put(&mut self, path: &str, content: Content, mode: u32) {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            if !self.entries.contains_key(parent) {
                self.entries.insert(
                    parent.to_owned(),
                    Entry { content: Content::Folder, mode: 0o755, owner: (0, 0) },
                );
            }
        }
        self.entries.insert(path.to_owned(), Entry { content, mode, owner: (0, 0) });
    }

    /// Writes the archive. Parents come before what is in them, because their names are shorter.
    ///
    /// # Errors
    /// When a file cannot be read or the archive cannot be written.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let host;
            let (kind, data, device): (u32, &[u8], (u32, u32)) = match &entry.content {
                Content::Folder => (0o040_000, &[], (0, 0)),
                Content::Link(to) => (0o120_000, to.as_bytes(), (0, 0)),
                Content::Bytes(bytes) => (0o100_000, bytes, (0, 0)),
                Content::Host(path) => {
                    host = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                    (0o100_000, &host, (0, 0))
                }
                Content::Device(major, minor) => (0o020_000, &[], (*major, *minor)),
            };
            let header = Header { number: number + 1, mode: kind | entry.mode, owner: entry.owner, device };
            write_member(out, &header, path, data).context("cannot write the initramfs")?;
        }
        let end = Header { number: 0, mode: 0, owner: (0, 0), device: (0, 0) };
        write_member(out, &end, "TRAILER!!!", &[]).context("cannot write the initramfs")
    }
}

/// The path in the guest: no leading slash, and merged folders under usr.
fn inside(path: &Path) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_start_matches('/');
    let first = text.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{text}") } else { text.to_owned() }
}

/// The paths in what ldd prints: `libc.so.6 => /lib/libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn libraries(printed: &str) -> Vec<PathBuf> {
    let words = printed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

/// The modules of `list` (the format of modules.dep) with these names, and what each needs, in the order of loading.
fn closure(list: &str, wanted: &[&str]) -> Vec<String> {
    let mut ordered: Vec<String> = Vec::new();
    for name in wanted {
        for line in list.lines() {
            let Some((module, needs)) = line.split_once(':') else { continue };
            let file = module.rsplit('/').next().unwrap_or_default();
            if file.split('.').next().unwrap_or_default().replace('-', "_") != name.replace('-', "_") {
                continue;
            }
            // Of its needs the last must be loaded first.
            for path in needs.split_whitespace().rev().chain([module]) {
                if !ordered.iter().any(|known| known == path) {
                    ordered.push(path.to_owned());
                }
            }
        }
    }
    ordered
}

fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
    };
    let output = Command::new(program).arg("-dc").arg(file).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} cannot unpack {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

struct Header {
    number: usize,
    mode: u32,
    owner: (u32, u32),
    device: (u32, u32),
}

/// One member: thirteen numbers of eight hexadecimal digits, the name, the data; name and data are padded to four bytes.
fn write_member(out: &mut impl Write, header: &Header, name: &str, data: &[u8]) -> io::Result<()> {
    let Header { number, mode, owner: (user, group), device: (major, minor) } = header;
    let name_len = name.len() + 1;
    write!(out, "070701{number:08x}{mode:08x}{user:08x}{group:08x}{:08x}{:08x}{:08x}", 1, 0, data.len())?;
    write!(out, "{:08x}{:08x}{major:08x}{minor:08x}{name_len:08x}{:08x}{name}\0", 0, 0, 0)?;
    out.write_all(&[0; 3][..padding(110 + name_len)])?;
    out.write_all(data)?;
    out.write_all(&[0; 3][..padding(data.len())])
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_loaded_before_those_who_need_them_and_each_once() {
        let list = "kernel/net/8021q/8021q.ko.xz: kernel/net/802/mrp.ko.xz kernel/net/802/garp.ko.xz kernel/net/llc/llc.ko.xz\n\
                    kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz\n\
                    kernel/drivers/net/virtio_net.ko.xz:\n";
        let ordered = closure(list, &["virtio-net", "8021q", "bridge", "absent"]);
        let names: Vec<_> = ordered.iter().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(
            names,
            ["virtio_net.ko.xz", "llc.ko.xz", "garp.ko.xz", "mrp.ko.xz", "8021q.ko.xz", "bridge.ko.xz"]
        );
    }

    #[test]
    fn libraries_are_read_with_and_without_an_arrow() {
        let printed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        assert_eq!(
            libraries(printed),
            ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        assert_eq!(inside(Path::new("/lib/x/libc.so.6")), "usr/lib/x/libc.so.6");
        assert_eq!(inside(Path::new("/home/x")), "home/x");
    }

    #[test]
    fn an_archive_is_read_by_cpio_as_it_was_written() {
        let mut tree = Tree::new();
        tree.text("etc/greeting", "hello", 0o640);
        let mut archive = Vec::new();
        tree.write(&mut archive).expect("it is written");
        assert_eq!(archive.len() % 4, 0);
        let file = std::env::temp_dir().join(format!("erdp-cpio-{}", std::process::id()));
        fs::write(&file, &archive).expect("a file");
        let listed = fs::File::open(&file)
            .ok()
            .and_then(|file| Command::new("cpio").arg("-tv").arg("--quiet").stdin(file).output().ok());
        fs::remove_file(&file).expect("it goes");
        let Some(listed) = listed else {
            println!("SKIP: cpio is not installed");
            return;
        };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = listed.lines().find(|line| line.ends_with("etc/greeting")).expect("the file is listed");
        assert!(line.starts_with("-rw-r-----") && line.contains(" 5 "), "{line}");
        assert!(listed.lines().any(|line| line.ends_with("lib64 -> usr/lib64")), "{listed}");
    }
}
