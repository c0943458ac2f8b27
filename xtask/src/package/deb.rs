//! A folder as a Debian package: the same bytes whoever packs it, wherever, in whatever order its files were made, and whenever.
//!
//! What is not content is settled here: owners, modes (of the umask nothing is left), times (the commit's), the order of members and the
//! compression. The rest is dpkg-deb's, which sorts and takes its own time from SOURCE_DATE_EPOCH.

use std::{
    fs::{self, File, FileTimes},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use crate::command::{command, must, output};

/// Where dpkg-deb looks for what is about the package.
pub const CONTROL: &str = "DEBIAN";

/// Packs `tree`, in which `DEBIAN/control` stands, with the sums of its files; every time in it is `epoch`. A package that was made of
/// the same content stays as it is.
///
/// # Errors
/// When something cannot be read, or dpkg-deb refuses it.
pub fn pack(tree: &Path, package: &Path, epoch: u64) -> Result<()> {
    let sums = tree.join(CONTROL).join("md5sums");
    fs::write(&sums, md5sums(tree)?).with_context(|| format!("cannot write {}", sums.display()))?;
    settle(tree, epoch)?;
    let record = package.with_extension("made-of");
    let content = content(tree, epoch)?;
    let as_recorded =
        |package: &Path| Ok::<_, anyhow::Error>(format!("{} the package\n{content}", sha256(package)?));
    if package.exists() && fs::read_to_string(&record).ok() == Some(as_recorded(package)?) {
        println!("{} is there and of the same content", package.display());
        return Ok(());
    }
    let mut pack = command("dpkg-deb");
    pack.env("SOURCE_DATE_EPOCH", epoch.to_string()).env("LC_ALL", "C").env("TZ", "UTC0");
    // How many CPUs there are may not decide how the data is divided.
    pack.env("DPKG_DEB_THREADS_MAX", "1");
    must(pack.args(["--root-owner-group", "-Zxz", "-z6", "--build"]).arg(tree).arg(package))?;
    fs::write(&record, as_recorded(package)?).with_context(|| format!("cannot write {}", record.display()))
}

/// All that the bytes of a package depend on, a line for each thing: the sums of its files, modes, links and the time.
fn content(tree: &Path, epoch: u64) -> Result<String> {
    let mut lines = format!("{epoch} the time\n");
    let mut files = Vec::new();
    for path in below(tree)? {
        let name = path.strip_prefix(tree).unwrap_or(&path).display().to_string();
        let about = fs::symlink_metadata(&path)?;
        if about.is_symlink() {
            lines += &format!("link {name} to {}\n", fs::read_link(&path)?.display());
            continue;
        }
        lines += &format!("{:o} {name}\n", about.permissions().mode());
        if about.is_file() {
            files.push(name);
        }
    }
    let mut sums = command("sha256sum");
    Ok(lines
        + &output(sums.current_dir(tree).args(files)).context("sha256sum cannot read the package's files")?)
}

/// Kibibytes that the package takes once it is installed, as Debian's policy counts: each file rounded up, and one for everything else.
///
/// # Errors
/// When the tree cannot be read.
pub fn installed_size(tree: &Path) -> Result<u64> {
    let mut kibibytes = 0;
    for path in below(tree)? {
        if path.starts_with(tree.join(CONTROL)) {
            continue;
        }
        let about = fs::symlink_metadata(&path)?;
        kibibytes += if about.is_file() { about.len().div_ceil(1024) } else { 1 };
    }
    Ok(kibibytes)
}

/// The SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let said = output(command("sha256sum").arg(path));
    let said = said.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(said.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned())
}

/// One line for each file that will be installed.
fn md5sums(tree: &Path) -> Result<String> {
    let control = tree.join(CONTROL);
    let files = below(tree)?.into_iter().filter(|path| path.is_file() && !path.is_symlink());
    let files: Vec<PathBuf> = files
        .filter(|path| !path.starts_with(&control))
        .filter_map(|path| path.strip_prefix(tree).ok().map(Path::to_path_buf))
        .collect();
    let mut sums = command("md5sum");
    output(sums.current_dir(tree).args(files)).context("md5sum cannot read the package's files")
}

/// Everything below a folder, sorted.
fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path)?);
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}

/// Folders and programs 0755, other files 0644, all of them of one time.
fn settle(tree: &Path, epoch: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(epoch);
    let times = FileTimes::new().set_accessed(time).set_modified(time);
    for path in below(tree)?.iter().chain([&tree.to_owned()]) {
        if path.is_symlink() {
            continue;
        }
        let about = fs::metadata(path)?;
        let mode = if about.is_dir() || about.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .and_then(|()| File::open(path)?.set_times(times))
            .with_context(|| format!("cannot set mode and time of {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &str, u32); 4] = [
        ("DEBIAN/control", CONTROL_FILE, 0o644),
        ("usr/bin/x", "#!/bin/sh\n", 0o755),
        ("usr/share/doc/x/b", "b", 0o644),
        ("usr/share/doc/x/a", "a", 0o644),
    ];
    const CONTROL_FILE: &str =
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: X <x@localhost>\nDescription: x\n";

    /// The files, made in some order, of some time, with what an umask leaves of their modes.
    fn tree(folder: &Path, is_reversed: bool, umask: u32, time: u64) -> PathBuf {
        let tree = folder.join("tree");
        let mut files = FILES;
        if is_reversed {
            files.reverse();
        }
        for (name, text, mode) in files {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & !umask)).expect("a mode");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            File::open(&path).and_then(|file| file.set_modified(time)).expect("a time");
        }
        for path in below(&tree).expect("it can be read").iter().filter(|path| path.is_dir()) {
            let mode = 0o755 & !umask;
            // dpkg-deb refuses a control folder that others may not read; it is settled before.
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        }
        tree
    }

    #[test]
    fn the_same_tree_packed_with_another_umask_order_time_and_folder_gives_the_same_bytes() {
        if !Path::new("/usr/bin/dpkg-deb").exists() {
            println!("SKIP: there is no dpkg-deb");
            return;
        }
        let folder = std::env::temp_dir().join(format!("erdp-deb-{}", std::process::id()));
        let mut packages = Vec::new();
        for (name, is_reversed, umask, time) in
            [("one", false, 0o022, 1_000_000_000), ("another-one", true, 0o077, 1_900_000_000)]
        {
            let tree = tree(&folder.join(name), is_reversed, umask, time);
            let package = folder.join(name).join("x.deb");
            pack(&tree, &package, 1_700_000_000).expect("it is packed");
            let sums = fs::read_to_string(tree.join("DEBIAN/md5sums")).expect("sums");
            assert_eq!(sums.lines().count(), FILES.len() - 1, "{sums}");
            assert!(sums.contains("  usr/bin/x\n"), "{sums}");
            packages.push((fs::read(&package).expect("a package"), installed_size(&tree).expect("a size")));
        }
        assert!(packages[0] == packages[1], "two folders, orders, umasks and times: two packages");
        fs::remove_dir_all(&folder).expect("it goes");
    }

    #[test]
    fn a_package_is_made_again_when_its_content_the_time_or_itself_has_changed_and_else_stays() {
        if !Path::new("/usr/bin/dpkg-deb").exists() {
            println!("SKIP: there is no dpkg-deb");
            return;
        }
        let folder = std::env::temp_dir().join(format!("erdp-deb-again-{}", std::process::id()));
        let tree = tree(&folder, false, 0o022, 1_000_000_000);
        let package = folder.join("x.deb");
        let made = |epoch: u64| {
            let before = fs::metadata(&package).and_then(|about| about.modified()).ok();
            pack(&tree, &package, epoch).expect("it is packed");
            before != fs::metadata(&package).and_then(|about| about.modified()).ok()
        };
        assert!(made(1_700_000_000));
        assert!(!made(1_700_000_000), "of the same content");
        assert!(made(1_700_000_001), "another time");
        let script = tree.join("usr/bin/x");
        fs::write(&script, "#!/bin/bash\n").expect("a file");
        assert!(made(1_700_000_001), "other content");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).expect("a mode");
        assert!(made(1_700_000_001), "another mode");
        fs::write(&package, "half of it").expect("a file");
        assert!(made(1_700_000_001), "another package");
        assert!(!made(1_700_000_001), "nothing is new");
        fs::remove_dir_all(&folder).expect("it goes");
    }
}
