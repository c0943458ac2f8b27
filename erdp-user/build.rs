//! Finds the BPF object that `cargo xtask build` has made, for `src/dataplane/aya.rs` to include.
//!
//! Nothing is compiled here: a BPF toolchain is another one than the host's, and `cargo xtask setup` looks after it.

use std::{env, path::PathBuf, process::exit};

fn main() {
    println!("cargo::rerun-if-env-changed=ERDP_BPF_OBJECT");
    let object = env::var_os("ERDP_BPF_OBJECT").map_or_else(
        || {
            PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default())
                .join("../target/bpf/erdp-ebpf")
        },
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    let Ok(object) = object.canonicalize() else {
        println!(
            "cargo::error=the BPF object {} does not exist: run `cargo xtask build`, which makes it",
            object.display()
        );
        exit(1);
    };
    println!("cargo::rustc-env=ERDP_BPF_OBJECT={}", object.display());
}
