//! `cargo xtask package`: a Debian package of the release binary, by `dpkg-deb` itself.
//!
//! dpkg-deb is on every Debian machine, and what goes into the package is a dozen files: a tool that reads a manifest would be one more
//! thing to install and to pin, and no line shorter. Man pages and completions come from the binary's own command line
//! (`erdp generate`).
//!
//! The same commit gives the same bytes: [`deb`] settles what is not content, [`symbols`] takes the debug information apart, [`sbom`] lists
//! what is linked, [`licences`] has what its authors want said, [`lint`] asks Debian's own checker, and [`reproduce`] builds all of it again elsewhere as somebody else.

mod deb;
mod licences;
mod lint;
pub mod reproduce;
mod sbom;
mod symbols;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
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
    /// Also build it again from a clone in another folder, as another user, and compare: all of it, or the BPF object alone
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "package")]
    reproduce: Option<reproduce::What>,
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
    ("deploy/alerts.yml", "usr/share/doc/erdp/examples/alerts.yml"),
    ("deploy/grafana.json", "usr/share/doc/erdp/examples/grafana.json"),
    ("docs/metrics.md", "usr/share/doc/erdp/metrics.md"),
    ("docs/architecture.md", "usr/share/doc/erdp/docs/architecture.md"),
    ("docs/audit.md", "usr/share/doc/erdp/docs/audit.md"),
    ("docs/benchmarks.md", "usr/share/doc/erdp/docs/benchmarks.md"),
    ("docs/bgp.md", "usr/share/doc/erdp/docs/bgp.md"),
    ("docs/configuration.md", "usr/share/doc/erdp/docs/configuration.md"),
    ("docs/design-forwarding.md", "usr/share/doc/erdp/docs/design-forwarding.md"),
    ("docs/design-liveness.md", "usr/share/doc/erdp/docs/design-liveness.md"),
    ("docs/design-restart.md", "usr/share/doc/erdp/docs/design-restart.md"),
    ("docs/design-routes.md", "usr/share/doc/erdp/docs/design-routes.md"),
    ("docs/kernel-routes.md", "usr/share/doc/erdp/docs/kernel-routes.md"),
    ("docs/lab.md", "usr/share/doc/erdp/docs/lab.md"),
    ("docs/metrics.md", "usr/share/doc/erdp/docs/metrics.md"),
    ("docs/operating.md", "usr/share/doc/erdp/docs/operating.md"),
    ("docs/packaging.md", "usr/share/doc/erdp/docs/packaging.md"),
    ("docs/packets.md", "usr/share/doc/erdp/docs/packets.md"),
    ("docs/parser-apart.md", "usr/share/doc/erdp/docs/parser-apart.md"),
    ("docs/security.md", "usr/share/doc/erdp/docs/security.md"),
    ("docs/testing.md", "usr/share/doc/erdp/docs/testing.md"),
    ("docs/vm-lab.md", "usr/share/doc/erdp/docs/vm-lab.md"),
    ("README.md", "usr/share/doc/erdp/README.md"),
    ("SECURITY.md", "usr/share/doc/erdp/SECURITY.md"),
    ("deploy/debian/copyright", "usr/share/doc/erdp/copyright"),
    ("deploy/debian/lintian-overrides", "usr/share/lintian/overrides/erdp"),
];

/// Generated files: what `erdp generate` calls them, and where they go.
const COMPLETIONS: &[(&str, &str)] = &[
    ("erdp.bash", "usr/share/bash-completion/completions/erdp"),
    ("_erdp", "usr/share/zsh/vendor-completions/_erdp"),
    ("erdp.fish", "usr/share/fish/vendor_completions.d/erdp.fish"),
];

/// The list of what is linked, where the package puts it.
const BILL: &str = "usr/share/doc/erdp/erdp.cdx.json";
/// The licences of what is linked.
const LICENCES: &str = "usr/share/doc/erdp/third-party-licences";
const CHANGELOG: &str = "usr/share/doc/erdp/changelog";
/// The project has no mail address (SECURITY.md says how to reach its maintainers); RFC 2606 keeps such a name free.
const MAINTAINER: &str = "ERDP maintainers <maintainers@erdp.invalid>";

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.reproduce == Some(reproduce::What::Object) {
        return reproduce::run(reproduce::What::Object);
    }
    setup::ensure(&[Need::Package])?;
    let binary = build::erdp()?;
    let folder = folder();
    let symbols = package_symbols(&folder, &binary, options.revision)?;
    println!("debug symbols {}", symbols.strip_prefix(root()).unwrap_or(&symbols).display());
    let package = package(&binary, options.revision)?;
    println!("packaged {}", package.strip_prefix(root()).unwrap_or(&package).display());
    if options.verify {
        println!("{}", lint::run(&[&package, &symbols])?);
        println!("{}", vm::service::run()?);
    }
    match options.reproduce {
        Some(what) => reproduce::run(what),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn folder() -> PathBuf {
    root().join("target/package")
}

/// Makes the package of a binary; the answer is where it is.
pub fn package(binary: &Path, revision: Option<u32>) -> Result<PathBuf> {
    package_in(&folder(), binary, revision)
}

/// The same in another folder.
pub fn package_in(folder: &Path, binary: &Path, revision: Option<u32>) -> Result<PathBuf> {
    let tree = emptied(&folder.join("tree"))?;
    let version = version(revision);
    let epoch = epoch()?;
    let packaged = tree.join("usr/bin/erdp");
    put(binary, &packaged, 0o755)?;
    symbols::strip(&packaged)?;
    for (from, to) in FILES {
        put(&root().join(from), &tree.join(to), 0o644)?;
    }
    generated(binary, &folder.join("generated"), &tree)?;
    changelog(&tree, revision, epoch)?;
    let crates = sbom::crates()?;
    write(&tree.join(BILL), &sbom::text(&crates, &packaged, epoch)?, 0o644)?;
    write(&tree.join(LICENCES), &licences::text(&crates)?, 0o644)?;
    compress(&tree.join(LICENCES))?;
    for script in ["postinst", "prerm", "postrm"] {
        put(&root().join("deploy/debian").join(script), &tree.join(deb::CONTROL).join(script), 0o755)?;
    }
    let architecture = architecture()?;
    let control = control(&version, &architecture, deb::installed_size(&tree)?)?;
    write(&tree.join(deb::CONTROL).join("control"), &control, 0o644)?;
    let package = folder.join(format!("erdp_{version}_{architecture}.deb"));
    deb::pack(&tree, &package, epoch)?;
    Ok(package)
}

/// Makes the package of a binary's debug information.
fn package_symbols(folder: &Path, binary: &Path, revision: Option<u32>) -> Result<PathBuf> {
    let tree = emptied(&folder.join("symbols"))?;
    let build_id = symbols::keep(binary, &tree)?;
    let documents = tree.join("usr/share/doc");
    fs::create_dir_all(&documents).with_context(|| format!("cannot make {}", documents.display()))?;
    symlink("erdp", documents.join("erdp-dbgsym")).context("cannot make a link")?;
    let (version, architecture) = (version(revision), architecture()?);
    let size = deb::installed_size(&tree)?;
    let control = format!(
        "Package: erdp-dbgsym\nSource: erdp\nVersion: {version}\nAuto-Built-Package: debug-symbols\n\
         Architecture: {architecture}\nMaintainer: {MAINTAINER}\nInstalled-Size: {size}\n\
         Depends: erdp (= {version})\nSection: debug\nPriority: optional\n\
         Description: debug symbols for erdp\nBuild-Ids: {build_id}\n"
    );
    write(&tree.join(deb::CONTROL).join("control"), &control, 0o644)?;
    let package = folder.join(format!("erdp-dbgsym_{version}_{architecture}.deb"));
    deb::pack(&tree, &package, epoch()?)?;
    Ok(package)
}

fn emptied(folder: &Path) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    Ok(folder.to_owned())
}

fn version(revision: Option<u32>) -> String {
    match revision {
        Some(revision) => format!("{}+{revision}", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn architecture() -> Result<String> {
    let said = output(command("dpkg").arg("--print-architecture"))
        .context("dpkg --print-architecture says nothing: a Debian package is made on Debian")?;
    Ok(said.trim().to_owned())
}

/// The time that everything in the package has: SOURCE_DATE_EPOCH, or when the commit was made.
fn epoch() -> Result<u64> {
    let said = env::var("SOURCE_DATE_EPOCH").ok();
    let said = said.or_else(|| output(command("git").args(["log", "-1", "--format=%ct"])));
    let said = said.context("no commit says when this was made: set SOURCE_DATE_EPOCH")?;
    said.trim().parse().with_context(|| format!("SOURCE_DATE_EPOCH is no number of seconds: {said}"))
}

fn control(version: &str, architecture: &str, size: u64) -> Result<String> {
    // Built against this machine's C library, which an older one need not be able to replace.
    let libc = output(command("dpkg-query").args(["-W", "-f", "${Version}", "libc6"]))
        .context("dpkg-query does not know libc6")?;
    let libc = libc.split('-').next().unwrap_or(&libc).to_owned();
    Ok(format!(
        "Package: erdp\nVersion: {version}\nArchitecture: {architecture}\nSection: net\nPriority: optional\n\
         Maintainer: {MAINTAINER}\nInstalled-Size: {size}\n\
         Depends: libc6 (>= {libc}), libgcc-s1, passwd\nRecommends: ethtool, iproute2\n\
         Description: ExpressRoute edge router\n \
         Speaks BGP with the Microsoft edges of Azure ExpressRoute circuits and with\n \
         the customer's routers, and forwards between them in an XDP program.\n"
    ))
}

/// What has changed, compressed as Debian has it. A package that is built again says so.
fn changelog(tree: &Path, revision: Option<u32>, epoch: u64) -> Result<()> {
    let committed = root().join("deploy/debian/changelog");
    let mut text =
        fs::read_to_string(&committed).with_context(|| format!("cannot read {}", committed.display()))?;
    if revision.is_some() {
        let at = jiff::Timestamp::from_second(i64::try_from(epoch)?).context("the commit's time is none")?;
        let date = jiff::fmt::rfc2822::to_string(&at.to_zoned(jiff::tz::TimeZone::UTC))?;
        let version = version(revision);
        text = format!(
            "erdp ({version}) unstable; urgency=medium\n\n  * Built again.\n\n -- {MAINTAINER}  {date}\n\n{text}"
        );
    }
    let there = tree.join(CHANGELOG);
    write(&there, &text, 0o644)?;
    compress(&there)
}

fn compress(file: &Path) -> Result<()> {
    must(command("gzip").args(["-9", "-n"]).arg(file))
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
        compress(&there)?;
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
