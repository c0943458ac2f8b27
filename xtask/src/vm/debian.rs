//! A clean Debian whose first process is systemd, made of packages: what debootstrap makes, without root and without running anything.
//!
//! apt resolves and downloads against an empty list of installed packages; they are unpacked side by side into `target/vm/debian`,
//! and written down as installed, so that `dpkg -i` in the guest finds what our package depends on. What the packages' scripts
//! would do is little of what is needed here, and done by hand: users, a machine's number, no console logins.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{apt::Apt, initramfs::Tree};
use crate::command::{must, output};

/// What a small machine has, what README's quick start asks for, and the lab's own tools. Without a name for it, apt would take the
/// package that merges / and /usr by Perl.
const PACKAGES: [&str; 25] = [
    "systemd",
    "systemd-sysv",
    "usr-is-merged",
    "base-files",
    "base-passwd",
    "bash",
    "coreutils",
    "dash",
    "debianutils",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "libc-bin",
    "login",
    "mount",
    "passwd",
    "procps",
    "sed",
    "tar",
    "util-linux",
    "iproute2",
    "ethtool",
    "bird2",
    "libgcc-s1",
];
/// What nobody reads there.
const UNREAD: [&str; 7] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/zoneinfo",
    "usr/lib/x86_64-linux-gnu/gconv",
];
/// Where it lies in the guest's first file system.
pub const PLACE: &str = "debian";
/// The guest's job, when everything that a machine starts has been started.
const JOB: &str = "[Unit]\nDescription=The VM lab's job\nAfter=multi-user.target\n\n\
                   [Service]\nType=oneshot\nExecStart=/bin/sh /job-of-systemd\n";

/// The packages, unpacked; downloaded where they have not been.
///
/// # Errors
/// When they cannot be downloaded or unpacked.
pub fn unpacked(vm: &Path) -> Result<PathBuf> {
    let folder = vm.join("debian");
    if folder.exists() {
        return Ok(folder);
    }
    println!("vm: fetching the packages of a small Debian with systemd");
    let (partial, packages) = (vm.join("debian.partial"), vm.join("debian.packages"));
    for leftover in [&partial, &packages] {
        let _gone = fs::remove_dir_all(leftover);
    }
    let tree = partial.join("tree");
    fs::create_dir_all(&tree).with_context(|| format!("cannot make {}", tree.display()))?;
    Apt::open(vm)?.download_from_nothing(&PACKAGES, &packages)?;
    let mut status = String::new();
    for entry in fs::read_dir(&packages)? {
        let package = entry?.path();
        if package.extension().is_some_and(|it| it == "deb") {
            must(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&tree))?;
            let control = output(Command::new("dpkg-deb").arg("--field").arg(&package));
            let control = control.with_context(|| format!("{} is no package", package.display()))?;
            status += &installed(&control);
        }
    }
    fs::write(partial.join("status"), status)?;
    fs::remove_dir_all(&packages).with_context(|| format!("cannot remove {}", packages.display()))?;
    fs::rename(&partial, &folder).with_context(|| format!("cannot rename {}", partial.display()))?;
    Ok(folder)
}

/// A package's paragraph in dpkg's list of what is installed.
fn installed(control: &str) -> String {
    let (first, rest) = control.split_once('\n').unwrap_or((control, ""));
    format!("{first}\nStatus: install ok installed\n{}\n\n", rest.trim_end())
}

/// The name of the list of a package's files: where several architectures may be installed, theirs is in it.
fn list_of(paragraph: &str) -> Option<String> {
    let field = |name: &str| {
        paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
    };
    let (package, architecture) = (field("Package")?, field("Architecture")?);
    let is_shared = field("Multi-Arch").is_some_and(|value| value == "same");
    Some(if is_shared { format!("{package}:{architecture}.list") } else { format!("{package}.list") })
}

/// Puts it into a guest's tree below [`PLACE`]; `script` is what the guest is for.
///
/// # Errors
/// When something cannot be read.
pub fn put(tree: &mut Tree, folder: &Path, script: &str) -> Result<()> {
    tree.unpacked(&folder.join("tree"), PLACE, &UNREAD)?;
    for empty in ["dev", "proc", "sys", "run", "var/lib/dpkg/updates", "var/lib/dpkg/info"] {
        tree.folder(&format!("{PLACE}/{empty}"));
    }
    let status = fs::read_to_string(folder.join("status")).context("the list of packages is gone")?;
    for name in status.split("\n\n").filter_map(list_of) {
        tree.text(&format!("{PLACE}/var/lib/dpkg/info/{name}"), "/.\n", 0o644);
    }
    let masters = folder.join("tree/usr/share/base-passwd");
    let users = |name: &str| {
        fs::read_to_string(masters.join(name)).with_context(|| format!("base-passwd has no {name}"))
    };
    let job = format!(
        "exec >/dev/console 2>&1 </dev/null\n\
         export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root TERM=dumb\n\
         touch /run/erdp-vm\n{script}\n\
         echo \"{}exit $?\"\nsleep 1\necho b >/proc/sysrq-trigger\n",
        super::qemu::MARK
    );
    for (path, text) in [
        ("var/lib/dpkg/status", status.as_str()),
        ("var/lib/dpkg/available", ""),
        ("var/lib/dpkg/info/format", "1\n"),
        ("etc/passwd", &users("passwd.master")?),
        ("etc/group", &users("group.master")?),
        ("etc/hostname", "edge\n"),
        ("etc/fstab", ""),
        // Known, so that this is no first boot, which would enable every unit there is.
        ("etc/machine-id", "e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5\n"),
        // The workspace may lie below /tmp, which a booting Debian empties.
        ("etc/tmpfiles.d/tmp.conf", ""),
        ("etc/systemd/system/erdp-job.service", JOB),
        ("job-of-systemd", &job),
    ] {
        tree.text(&format!("{PLACE}/{path}"), text, 0o644);
    }
    for (link, to) in [
        ("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target"),
        (
            "etc/systemd/system/multi-user.target.wants/erdp-job.service",
            "/etc/systemd/system/erdp-job.service",
        ),
        ("etc/systemd/system-generators/systemd-getty-generator", "/dev/null"),
        ("etc/systemd/system/getty.target", "/dev/null"),
        ("var/run", "/run"),
    ] {
        tree.link(&format!("{PLACE}/{link}"), to);
    }
    Ok(())
}

/// The end of the first init: this Debian's root becomes the machine's, and systemd its first process.
pub fn switch() -> String {
    format!(
        "mount --bind /{PLACE} /{PLACE}\n\
         mount --move /proc /{PLACE}/proc\n\
         umount /sys/fs/bpf /sys/kernel/tracing\n\
         mount --move /sys /{PLACE}/sys\n\
         mount --move /dev /{PLACE}/dev\n\
         cd /{PLACE}\n\
         mount --move . /\n\
         exec chroot . /usr/bin/env -i /lib/systemd/systemd --show-status=no --log-level=warning\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_written_down_as_installed_and_has_a_list_of_files() {
        let control = "Package: libc6\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36\n";
        let paragraph = installed(control);
        assert_eq!(
            paragraph,
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 2.36\n\n"
        );
        assert_eq!(list_of(&paragraph).as_deref(), Some("libc6:amd64.list"));
        assert_eq!(list_of("Package: dash\nArchitecture: amd64").as_deref(), Some("dash.list"));
        assert_eq!(list_of(""), None);
    }
}
