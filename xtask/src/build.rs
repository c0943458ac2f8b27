//! `cargo xtask build`: the BPF object first, then the `erdp` binary that carries it.
//!
//! The object has its own target folder, because its compiler, flags and profile differ from the host's; it is copied to
//! `target/bpf/erdp-ebpf` (where erdp-user's build script looks) only when its bytes have changed, so that nothing of the host
//! side is built again without a reason.
//!
//! Both are the same bytes whatever folder they are built in and by whom ([`crate::remap`]); `cargo xtask package --reproduce` shows it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, command, forget_outer_cargo, must, root},
    facts::Facts,
    pieces::{BpfToolchain, Need, bpf_toolchain},
    remap::{self, Compiler},
    room::{self, Built},
    setup,
};

/// The compiler's flags for the BPF object: debug information is what bpf-linker makes BTF from; v3 has the 32-bit and atomic
/// instructions that the packet path uses; headers have alignment 1, and without the last flag (LLVM 22) each of their fields is
/// read byte by byte.
const BPF_RUSTFLAGS: &[&str] = &[
    "-Clinker=bpf-linker",
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Ctarget-cpu=v3",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];
/// What the BPF object is compiled for.
pub const BPF_TARGET: &str = "bpfel-unknown-none";

/// By the content, so that the name of a debug file depends on nothing else.
const BUILD_ID: &str = "-Clink-arg=-Wl,--build-id=sha1";

/// Options of `build`.
#[derive(clap::Args)]
pub struct Options {
    /// Only the BPF object (target/bpf/erdp-ebpf)
    #[arg(long)]
    object: bool,
}

/// The verb.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.object {
        bpf_object()?;
        println!("built {}", object().display());
        return Ok(ExitCode::SUCCESS);
    }
    let binary = erdp()?;
    println!("built {}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds everything that runs: the object and the release binaries; returns the path of `erdp`.
///
/// erdp and the lab are always built in one call: cargo unites the features that both ask of shared crates, and building one
/// alone would compile those crates once more with fewer.
pub fn erdp() -> Result<PathBuf> {
    room::ensure(Built::Programs)?;
    bpf_object()?;
    let mut cargo = cargo();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", host_flags()?.join("\x1f")).env("CARGO_INCREMENTAL", "0");
    must(cargo.args(["build", "--release", "--package", "erdp-user", "--package", "erdp-tests", "--bins"]))?;
    Ok(root().join("target/release/erdp"))
}

/// What the caller asks of the compiler, and what makes the bytes the same everywhere.
fn host_flags() -> Result<Vec<String>> {
    let theirs = env::var("RUSTFLAGS").unwrap_or_default();
    let mut flags: Vec<String> = theirs.split_whitespace().map(str::to_owned).collect();
    let rustc = || command(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    flags.extend(remap::flags(&Compiler::ask(rustc)?)?);
    flags.push(BUILD_ID.to_owned());
    Ok(flags)
}

/// Where the object is that the daemon includes.
pub fn object() -> PathBuf {
    root().join("target/bpf/erdp-ebpf")
}

/// Builds the BPF object and puts it where erdp-user's build script finds it.
pub fn bpf_object() -> Result<()> {
    let facts = setup::ensure(&[Need::Bpf])?;
    must(bpf_cargo(&facts, "build")?.args(["--release", "--target-dir", "target/bpf-build"]))?;
    let built = root().join("target/bpf-build").join(BPF_TARGET).join("release/erdp-ebpf");
    copy_if_changed(&built, &object())
}

/// Builds the benchmark's object (the contestants, and the program over another map) and returns where it is; it has a target
/// folder of its own, so that neither build throws away the other's work.
pub fn bench_object() -> Result<PathBuf> {
    let facts = setup::ensure(&[Need::Bpf])?;
    let folder = "target/bpf-bench";
    must(bpf_cargo(&facts, "build")?.args(["--release", "--features", "bench", "--target-dir", folder]))?;
    Ok(root().join(folder).join(BPF_TARGET).join("release/erdp-ebpf"))
}

/// A cargo that compiles erdp-ebpf for BPF by `verb` (build or clippy).
pub fn bpf_cargo(facts: &Facts, verb: &str) -> Result<Command> {
    let toolchain = bpf_toolchain(facts);
    let mut cargo = match toolchain {
        BpfToolchain::Nightly => nightly("cargo"),
        BpfToolchain::Debian => {
            // By its own path: `cargo clippy` would look in cargo's home first and find rustup's clippy there.
            let mut cargo =
                command(if verb == "clippy" { "/usr/bin/cargo-clippy" } else { "/usr/bin/cargo" });
            // Debian's is a release compiler; RUSTC_BOOTSTRAP lets it take -Z build-std.
            cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc").env("CARGO", "/usr/bin/cargo");
            cargo
        }
    };
    forget_outer_cargo(&mut cargo);
    cargo.env_remove("RUSTUP_TOOLCHAIN");
    let compiler = Compiler::ask(|| match toolchain {
        BpfToolchain::Nightly => nightly("rustc"),
        BpfToolchain::Debian => command("/usr/bin/rustc"),
    })?;
    let mut flags: Vec<String> = BPF_RUSTFLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.extend(remap::flags(&compiler)?);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // Those are user space's; in the object a checked sum would be a branch to nowhere.
    cargo.env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false");
    cargo.arg(verb).args(["--package", "erdp-ebpf", "-Z", "build-std=core", "--target", BPF_TARGET]);
    Ok(cargo)
}

/// A program of rustup's nightly.
fn nightly(program: &str) -> Command {
    let mut rustup = command("rustup");
    rustup.args(["run", "nightly", program]).env_remove("RUSTC").env_remove("CARGO");
    rustup
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from).with_context(|| format!("cannot read the BPF object {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    fs::write(to, new).with_context(|| format!("cannot write the BPF object {}", to.display()))
}
