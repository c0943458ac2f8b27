//! What `erdp doctor` and `erdp run` say of a kernel that is too old or does not tell its types: provoked by other files in the place of
//! the kernel's own, in a mount namespace that ends with the command, and gone where they are not.

use anyhow::{Result, ensure};
use erdp::kernel::preflight::Kind;
use erdp_tests::edge;

/// What provokes a finding, whether the router must not start, and words of it. The remedy is the machine as it is.
const ROWS: &[(Kind, &str, bool, &str)] = &[
    (
        Kind::Kernel,
        "echo 5.10.0-1-amd64 > $F; mount --bind $F /proc/sys/kernel/osrelease",
        true,
        "is older than 5.15",
    ),
    (
        Kind::Kernel,
        "echo 5.19.0 > $F; mount --bind $F /proc/sys/kernel/osrelease",
        false,
        "is older than what is tested",
    ),
    (
        Kind::Kernel,
        "echo odd > $F; mount --bind $F /proc/sys/kernel/osrelease",
        false,
        "cannot be understood",
    ),
    (Kind::Btf, "mount -t tmpfs none /sys/kernel/btf", true, "/sys/kernel/btf/vmlinux: is missing"),
];

#[test]
fn a_kernel_that_will_not_do_is_told_until_it_is_another() -> Result<()> {
    if edge::skipped() {
        return Ok(());
    }
    let erdp = edge::binary()?;
    let doctor = |before: &str| -> Result<(Option<i32>, String)> {
        let script = format!(
            "set -e; F=$(mktemp); trap 'rm -f $F' EXIT; {before}; '{}' doctor || exit $?",
            erdp.display()
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let output = command.output()?;
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Ok((output.status.code(), text))
    };
    for (kind, provoke, refuses, words) in ROWS {
        let (code, text) = doctor(provoke)?;
        println!("{kind:?}: {}", text.trim());
        ensure!(text.contains(words), "{kind:?}: `{words}` is not in: {text}");
        ensure!(code == Some(if *refuses { 3 } else { 0 }), "{kind:?}: exit code {code:?}: {text}");
        let (code, text) = doctor("true")?;
        ensure!(code == Some(0) && !text.contains(words), "{kind:?} stays: {text}");
    }
    Ok(())
}
