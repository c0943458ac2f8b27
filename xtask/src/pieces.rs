//! The pieces of a machine that ERDP's verbs need: what each is for, how to tell that it is there, how it is installed.
//!
//! Pure: [`plan`] takes [`Facts`] and tells what is there, which [`Step`]s would supply the rest, and what cannot be supplied
//! here and why. [`crate::setup`] gathers the facts and carries the steps out.
//!
//! The BPF program needs a compiler with the source of `core` and a linker for BPF. Rust's own way is a nightly toolchain with
//! the component rust-src and an installed bpf-linker; where both are there, they are used. Otherwise Debian has a compiler
//! with that source (`rustc-web`) and the LLVM it was built with, against which bpf-linker is built.

use crate::facts::Facts;

/// What a verb needs the machine to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Compiling and linking the BPF program.
    Bpf,
    /// The lab: routers, traffic and the tools that wire it.
    Lab,
    /// The tools of `check`.
    Check,
    /// The VM lab: QEMU and what packs a guest.
    Vm,
    /// The Debian package.
    Package,
    /// Debian's checker of packages.
    Lint,
    /// What only `test --full` runs: a clean Debian root for the row "stranger".
    Full,
}

/// Which compiler makes the BPF object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BpfToolchain {
    /// rustup's nightly with rust-src.
    Nightly,
    /// Debian's rustc-web in /usr/bin.
    Debian,
}

/// One thing to install.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Debian packages, in one transaction, without letting their services start.
    Packages(Vec<&'static str>),
    /// The same, from the release's backports where they can be had: a QEMU of today.
    Backports(Vec<&'static str>),
    /// A cargo program at a pinned version, built from its locked dependencies.
    CargoTool(&'static Tool),
}

/// A program that `cargo install` builds.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// The crate.
    pub name: &'static str,
    /// The version that this repository was tried with.
    pub version: &'static str,
    /// Further arguments of `cargo install`.
    pub arguments: &'static [&'static str],
    /// Variables its build needs.
    pub environment: &'static [(&'static str, &'static str)],
    /// What it is for.
    pub purpose: &'static str,
}

/// bpf-linker against Debian's LLVM, the one that rustc-web was built with.
pub static BPF_LINKER: Tool = Tool {
    name: "bpf-linker",
    version: "0.13.0",
    arguments: &["--no-default-features", "--features", "llvm-22"],
    environment: &[("LLVM_PREFIX", "/usr/lib/llvm-22")],
    purpose: "links the BPF object",
};

static CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.18.9",
    arguments: &[],
    environment: &[],
    purpose: "checks the licences and sources of dependencies",
};

static TYPOS: Tool = Tool {
    name: "typos-cli",
    version: "1.40.0",
    arguments: &[],
    environment: &[],
    purpose: "checks spelling",
};

/// What the everyday tests need; all of it is installed before the first test.
pub const TESTS: &[Need] = &[Need::Bpf, Need::Lab, Need::Package];

/// Debian packages: the name, what it is for, who needs it.
const PACKAGES: &[(&str, &str, Need)] = &[
    ("iproute2", "makes the lab's namespaces and links (ip)", Need::Lab),
    ("ethtool", "sets offloads of the lab's links", Need::Lab),
    ("iperf3", "TCP and UDP traffic through the edge", Need::Lab),
    ("traceroute", "asks for the routers on the way, by UDP, TCP and ICMP", Need::Lab),
    ("frr", "the primary MSEE's BGP speaker", Need::Lab),
    ("bird2", "BGP of the secondary MSEE, the customer's router and the Azure gateway", Need::Lab),
    ("gobgpd", "a third BGP implementation to agree with", Need::Lab),
    ("openbgpd", "a fourth one", Need::Lab),
    ("exabgp", "a scripted BGP sender", Need::Lab),
    ("procps", "reads the lab's sysctls (sysctl)", Need::Lab),
    ("strace", "lists the daemon's system calls, in a test", Need::Lab),
    ("systemd", "lists what the unit's filter allows (systemd-analyze), in a test", Need::Lab),
    ("rustc-web", "compiles the BPF program", Need::Bpf),
    ("cargo-web", "builds the BPF program", Need::Bpf),
    ("rust-web-src", "the source of core, compiled for BPF", Need::Bpf),
    ("llvm-22-dev", "bpf-linker is built against it", Need::Bpf),
    ("libpolly-22-dev", "bpf-linker is built against it", Need::Bpf),
    ("libzstd-dev", "bpf-linker is built against it", Need::Bpf),
    ("zlib1g-dev", "bpf-linker is built against it", Need::Bpf),
    ("qemu-system-x86", "runs the VM lab's machines", Need::Vm),
    ("busybox-static", "the shell of the VM lab's guests", Need::Vm),
    ("kmod", "tells what a kernel's modules need (depmod)", Need::Vm),
    ("xz-utils", "unpacks kernel modules", Need::Vm),
    ("zstd", "unpacks kernel modules", Need::Vm),
    ("cpio", "reads a guest's archive back, in a test", Need::Vm),
    (
        "binutils",
        "strips programs for the package and for guests, and keeps their symbols (strip, objcopy, readelf)",
        Need::Package,
    ),
    ("lintian", "checks the package", Need::Lint),
    ("mmdebstrap", "makes a clean Debian root", Need::Full),
    ("rust-web-clippy", "lints the BPF program", Need::Check),
];

/// The units that these packages enable, which would start routing daemons at the machine's next boot.
const UNITS: &[(&str, &str)] = &[
    ("frr", "frr.service"),
    ("bird2", "bird.service"),
    ("gobgpd", "gobgpd.service"),
    ("openbgpd", "openbgpd.service"),
    ("exabgp", "exabgp.service"),
];

/// The units that come with packages that were not there before: nobody wants them to run.
pub fn units_of<'a>(installed: &'a [&str]) -> impl Iterator<Item = &'static str> + 'a {
    UNITS.iter().filter(|(package, _)| installed.contains(package)).map(|(_, unit)| *unit)
}

/// The names of all Debian packages that any verb may need.
pub fn all_packages() -> impl Iterator<Item = &'static str> {
    PACKAGES.iter().map(|row| row.0)
}

/// One piece and how it stands.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name, with a version where one is known.
    pub name: String,
    /// What it is for.
    pub purpose: &'static str,
    /// Is it there?
    pub there: bool,
}

/// What stands, what would be done, and what hinders it.
#[derive(Debug, Default)]
pub struct Plan {
    /// Every piece that the needs ask for.
    pub pieces: Vec<Piece>,
    /// What supplies those that are missing, in order.
    pub steps: Vec<Step>,
    /// Why the steps cannot be taken here, each with its remedy.
    pub obstacles: Vec<String>,
}

impl Plan {
    /// Is everything there?
    pub fn complete(&self) -> bool {
        self.pieces.iter().all(|piece| piece.there)
    }
}

/// Which compiler the machine's state asks for.
pub fn bpf_toolchain(facts: &Facts) -> BpfToolchain {
    if facts.nightly_with_source && facts.bpf_linker.is_some() {
        BpfToolchain::Nightly
    } else {
        BpfToolchain::Debian
    }
}

/// What `needs` ask of a machine with these `facts`.
pub fn plan(needs: &[Need], facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let nightly = bpf_toolchain(facts) == BpfToolchain::Nightly;
    let (mut missing, mut backports) = (Vec::new(), Vec::new());
    for &(name, purpose, need) in PACKAGES {
        // With nightly in use, the Debian compiler and what goes with it are not wanted.
        let of_debian_rust = need == Need::Bpf || name == "rust-web-clippy";
        if !needs.contains(&need) || (of_debian_rust && nightly) {
            continue;
        }
        let there = facts.packages.contains(name);
        plan.pieces.push(Piece { name: format!("Debian package {name}"), purpose, there });
        if !there {
            if need == Need::Vm { &mut backports } else { &mut missing }.push(name);
        }
    }
    for (missing, step) in [(missing, Step::Packages as fn(_) -> _), (backports, Step::Backports)] {
        if !missing.is_empty() {
            plan.obstacles.extend(why_packages_cannot_be_installed(&missing, facts));
            plan.steps.push(step(missing));
        }
    }
    if needs.contains(&Need::Bpf) {
        if nightly {
            let name = "rustup toolchain nightly with rust-src".to_owned();
            plan.pieces.push(Piece { name, purpose: "compiles the BPF program", there: true });
        }
        add_tool(&mut plan, &BPF_LINKER, facts.bpf_linker.as_deref(), nightly);
    }
    if needs.contains(&Need::Check) {
        add_tool(&mut plan, &CARGO_DENY, facts.cargo_deny.as_deref(), true);
        add_tool(&mut plan, &TYPOS, facts.typos.as_deref(), true);
    }
    plan
}

/// A tool is there if it is installed; `any_version` tells whether another version than ours will do.
fn add_tool(plan: &mut Plan, tool: &'static Tool, found: Option<&str>, any_version: bool) {
    let there = found.is_some_and(|version| any_version || version == tool.version);
    let version = found.unwrap_or(tool.version);
    plan.pieces.push(Piece { name: format!("{} {version}", tool.name), purpose: tool.purpose, there });
    if !there {
        plan.steps.push(Step::CargoTool(tool));
    }
}

fn why_packages_cannot_be_installed(missing: &[&str], facts: &Facts) -> Option<String> {
    let names = missing.join(" ");
    if !facts.debian {
        return Some(format!(
            "this is not a Debian system (no apt-get), so xtask cannot install {names}: install what corresponds to them \
             with this system's own package manager; for the BPF program use `rustup toolchain install nightly --component \
             rust-src` and `cargo install bpf-linker`"
        ));
    }
    (!facts.root).then(|| {
        format!("installing Debian packages needs root: run `sudo apt-get install {names}`, or xtask itself as root")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian(packages: &[&str], linker: Option<&str>) -> Facts {
        Facts {
            debian: true,
            root: true,
            packages: packages.iter().map(|&name| name.to_owned()).collect(),
            bpf_linker: linker.map(str::to_owned),
            ..Facts::default()
        }
    }

    #[test]
    fn a_fresh_debian_gets_all_packages_in_one_step_and_then_the_linker() {
        let plan = plan(&[Need::Bpf, Need::Lab], &debian(&[], None));
        let [Step::Packages(packages), Step::CargoTool(tool)] = plan.steps.as_slice() else {
            panic!("unexpected steps: {:?}", plan.steps)
        };
        for name in ["frr", "bird2", "iperf3", "ethtool", "rustc-web", "rust-web-src", "llvm-22-dev"] {
            assert!(packages.contains(&name), "{name} is missing in {packages:?}");
        }
        assert!(!packages.contains(&"rust-web-clippy"), "clippy is not needed without `check`");
        assert_eq!(tool.name, "bpf-linker");
        assert!(plan.obstacles.is_empty());
        assert!(!plan.complete());
    }

    #[test]
    fn daemons_that_came_with_a_package_are_known_by_their_units_and_others_are_left_alone() {
        assert_eq!(units_of(&["openbgpd", "iperf3"]).collect::<Vec<_>>(), ["openbgpd.service"]);
        let daemons = PACKAGES.iter().filter(|row| UNITS.iter().any(|unit| unit.0 == row.0)).count();
        assert_eq!(daemons, UNITS.len(), "every unit belongs to a package of ours");
    }

    #[test]
    fn a_machine_with_everything_gets_no_step() {
        let all: Vec<_> = all_packages().collect();
        let facts = Facts {
            cargo_deny: Some("0.18.9".into()),
            typos: Some("1.40.0".into()),
            ..debian(&all, Some("0.13.0"))
        };
        let plan = plan(&[Need::Bpf, Need::Lab, Need::Check, Need::Vm], &facts);
        assert_eq!(plan.steps, []);
        assert!(plan.complete());
    }

    #[test]
    fn nightly_with_source_and_a_linker_is_preferred_and_asks_for_no_debian_compiler() {
        let facts = Facts { nightly_with_source: true, ..debian(&[], Some("0.9.15")) };
        assert_eq!(bpf_toolchain(&facts), BpfToolchain::Nightly);
        let plan = plan(&[Need::Bpf], &facts);
        assert_eq!(plan.steps, []);
        assert!(plan.complete());
    }

    #[test]
    fn nightly_without_a_linker_or_without_source_falls_back_to_debian() {
        let rows = [(true, None), (false, Some("0.13.0")), (false, None)];
        for (source, linker) in rows {
            let facts = Facts { nightly_with_source: source, ..debian(&[], linker) };
            assert_eq!(bpf_toolchain(&facts), BpfToolchain::Debian, "source {source}, linker {linker:?}");
        }
    }

    #[test]
    fn another_linker_than_the_one_for_debians_llvm_is_replaced() {
        let all: Vec<_> = all_packages().collect();
        let plan = plan(&[Need::Bpf], &debian(&all, Some("0.9.15")));
        assert_eq!(plan.steps, [Step::CargoTool(&BPF_LINKER)]);
    }

    #[test]
    fn what_the_vm_lab_needs_comes_from_the_backports() {
        let plan =
            plan(&[Need::Lab, Need::Vm], &debian(&["iproute2", "ethtool", "frr", "bird2", "kmod"], None));
        let [Step::Packages(lab), Step::Backports(vm)] = plan.steps.as_slice() else {
            panic!("unexpected steps: {:?}", plan.steps)
        };
        assert!(lab.contains(&"iperf3") && !lab.contains(&"qemu-system-x86"), "{lab:?}");
        assert!(vm.contains(&"qemu-system-x86") && !vm.contains(&"kmod"), "{vm:?}");
    }

    #[test]
    fn without_root_the_obstacle_names_the_command_to_run() {
        let facts = Facts { root: false, ..debian(&["iproute2", "ethtool", "frr", "bird2"], None) };
        let plan = plan(&[Need::Lab], &facts);
        assert_eq!(plan.obstacles.len(), 1);
        assert!(plan.obstacles[0].contains("sudo apt-get install iperf3"), "{:?}", plan.obstacles);
    }

    #[test]
    fn another_system_than_debian_is_told_which_way_remains() {
        let plan = plan(&[Need::Bpf], &Facts { root: true, ..Facts::default() });
        assert!(plan.obstacles[0].contains("rustup toolchain install nightly --component rust-src"));
    }
}
