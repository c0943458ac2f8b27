//! `cargo xtask package`: a Debian package of the release binary, by `dpkg-deb` itself.
//!
//! dpkg-deb is on every Debian machine, and what goes into the package is a dozen files: a tool that reads a manifest would be one more
//! thing to install and to pin, and no line shorter. Man pages and completions come from the binary's own command line
//! (`erdp generate`).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    command::{command, must, output, root},
    pieces::Need,
    setup, vm,
};

/// Options of `package`.
#[derive(clap::Args)]
pub struct Options {
    /// A number behind the version, for a package that is built again
    #[arg(long)]
    revision: Option<u32>,
    /// Also install, run, upgrade and remove it on a clean Debian with systemd, in a virtual machine; needs no root
    #[arg(long)]
    verify: bool,
}

/// Files of the repository: where they are, where they go, with which mode.
const FILES: &[(&str, &str)] = &[
    ("deploy/erdp.service", "usr/lib/systemd/system/erdp.service"),
    ("deploy/erdp.toml", "usr/share/doc/erdp/examples/erdp.toml"),
    ("deploy/presets/exchange.toml", "usr/share/doc/erdp/examples/exchange.toml"),
    ("deploy/presets/point-to-point.toml", "usr/share/doc/erdp/examples/point-to-point.toml"),
    ("deploy/presets/ip-vpn.toml", "usr/share/doc/erdp/examples/ip-vpn.toml"),
    ("deploy/presets/direct.toml", "usr/share/doc/erdp/examples/direct.toml"),
    ("deploy/frr/edge.toml", "usr/share/doc/erdp/examples/frr/edge.toml"),
    ("deploy/frr/frr.conf", "usr/share/doc/erdp/examples/frr/frr.conf"),
    ("deploy/grafana.json", "usr/share/doc/erdp/examples/grafana.json"),
    ("docs/metrics.md", "usr/share/doc/erdp/metrics.md"),
    ("docs/architecture.md", "usr/share/doc/erdp/docs/architecture.md"),
    ("docs/benchmarks.md", "usr/share/doc/erdp/docs/benchmarks.md"),
    ("docs/bgp.md", "usr/share/doc/erdp/docs/bgp.md"),
    ("docs/configuration.md", "usr/share/doc/erdp/docs/configuration.md"),
    ("docs/kernel-routes.md", "usr/share/doc/erdp/docs/kernel-routes.md"),
    ("docs/lab.md", "usr/share/doc/erdp/docs/lab.md"),
    ("docs/metrics.md", "usr/share/doc/erdp/docs/metrics.md"),
    ("docs/operating.md", "usr/share/doc/erdp/docs/operating.md"),
    ("docs/packets.md", "usr/share/doc/erdp/docs/packets.md"),
    ("docs/testing.md", "usr/share/doc/erdp/docs/testing.md"),
    ("docs/vm-lab.md", "usr/share/doc/erdp/docs/vm-lab.md"),
    ("README.md", "usr/share/doc/erdp/README.md"),
];

/// Generated files: what `erdp generate` calls them, and where they go.
const COMPLETIONS: &[(&str, &str)] = &[
    ("erdp.bash", "usr/share/bash-completion/completions/erdp"),
    ("_erdp", "usr/share/zsh/vendor-completions/_erdp"),
    ("erdp.fish", "usr/share/fish/vendor_completions.d/erdp.fish"),
];

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    setup::ensure(&[Need::Package])?;
    let package = package(&build::erdp()?, options.revision)?;
    println!("packaged {}", package.strip_prefix(root()).unwrap_or(&package).display());
    if options.verify {
        println!("{}", vm::service::run()?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the package of a binary; the answer is where it is.
pub fn package(binary: &Path, revision: Option<u32>) -> Result<PathBuf> {
    package_in(&root().join("target/package"), binary, revision)
}

/// The same in another folder.
pub fn package_in(folder: &Path, binary: &Path, revision: Option<u32>) -> Result<PathBuf> {
    let tree = folder.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    put(binary, &tree.join("usr/bin/erdp"), 0o755)?;
    must(command("strip").arg("--strip-debug").arg(tree.join("usr/bin/erdp")))?;
    for (from, to) in FILES {
        put(&root().join(from), &tree.join(to), 0o644)?;
    }
    generated(binary, &folder.join("generated"), &tree)?;
    write(&tree.join("usr/share/doc/erdp/copyright"), &copyright()?, 0o644)?;
    for script in ["postinst", "prerm", "postrm"] {
        put(&root().join("deploy/debian").join(script), &tree.join("DEBIAN").join(script), 0o755)?;
    }
    let architecture = output(command("dpkg").arg("--print-architecture"))
        .context("dpkg --print-architecture says nothing: a Debian package is made on Debian")?;
    let version = match revision {
        Some(revision) => format!("{}+{revision}", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    };
    write(&tree.join("DEBIAN/control"), &control(&version, architecture.trim(), &tree)?, 0o644)?;
    let package = folder.join(format!("erdp_{version}_{}.deb", architecture.trim()));
    must(command("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&tree).arg(&package))?;
    Ok(package)
}

fn control(version: &str, architecture: &str, tree: &Path) -> Result<String> {
    // Built against this machine's C library, which an older one need not be able to replace.
    let libc = output(command("dpkg-query").args(["-W", "-f", "${Version}", "libc6"]))
        .context("dpkg-query does not know libc6")?;
    let libc = libc.split('-').next().unwrap_or(&libc).to_owned();
    let size = output(command("du").args(["-sk", "--exclude=DEBIAN"]).arg(tree)).unwrap_or_default();
    let size = size.split_whitespace().next().unwrap_or("0").to_owned();
    Ok(format!(
        "Package: erdp\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: ERDP <erdp@localhost>\nInstalled-Size: {size}\n\
         Depends: libc6 (>= {libc}), libgcc-s1, passwd\nRecommends: ethtool, iproute2\n\
         Description: ExpressRoute edge router\n \
         Speaks BGP with the Microsoft edges of Azure ExpressRoute circuits and with the customer's routers, and\n \
         forwards between them in an XDP program.\n"
    ))
}

fn copyright() -> Result<String> {
    let mut text =
        "ERDP is licensed under MIT or Apache-2.0, at your choice; the BPF object in it declares\n\
                    \"Dual MIT/GPL\" to the kernel.\n"
            .to_owned();
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let path = root().join(name);
        text += "\n";
        text += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(text)
}

/// Man pages, compressed as Debian has them, and completions.
fn generated(binary: &Path, folder: &Path, tree: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    must(command(binary).arg("generate").arg(folder))?;
    for (from, to) in COMPLETIONS {
        put(&folder.join(from), &tree.join(to), 0o644)?;
    }
    let pages = folder.join("man1");
    for page in fs::read_dir(&pages).with_context(|| format!("cannot read {}", pages.display()))? {
        let page = page?.path();
        let name = page.file_name().context("a page without a name")?;
        let there = tree.join("usr/share/man/man1").join(name);
        put(&page, &there, 0o644)?;
        must(command("gzip").args(["-9", "-n"]).arg(there))?;
    }
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    make_parent(to)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    set_mode(to, mode)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    make_parent(path)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    set_mode(path, mode)
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let mode = fs::Permissions::from_mode(mode);
    fs::set_permissions(path, mode).with_context(|| format!("cannot set the mode of {}", path.display()))
}
