//! What every guest holds: busybox, the tools and daemons of the lab, our programs, modules, and the init.
//!
//! Our programs lie where they lie on this machine, because tests know the workspace's path. The init mounts what a Debian has
//! mounted, loads the modules, runs the job and tells its exit status; then it reboots, which ends QEMU (`-no-reboot`).

use std::{
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result};

use super::{debian, initramfs::Tree, kernels::Kernel, qemu::MARK};
use crate::command::{must, root};

/// Drivers, 802.1Q, and what tests use of the kernel. What a kernel has built in or lacks is left out.
const MODULES: [&str; 23] = [
    "virtio_pci",
    "virtio_net",
    "virtio_rng",
    "igb",
    "vmxnet3",
    "veth",
    "8021q",
    "dummy",
    "vrf",
    "bridge",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
    "cls_matchall",
    "act_police",
    "act_gact",
    "act_mirred",
    "sch_netem",
    "sch_tbf",
    "sch_htb",
    "sch_fq",
    "wireguard",
];
/// Tools and daemons of the lab.
const PROGRAMS: [&str; 7] = ["ip", "tc", "bridge", "ethtool", "iperf3", "bird", "birdc"];
/// FRR's daemons, and its user's folder.
const FRR: [&str; 3] = ["/usr/lib/frr/zebra", "/usr/lib/frr/bgpd", "/usr/bin/vtysh"];

/// A job for a guest.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Programs of ours, by their paths here; they are stripped of what only debuggers read.
    pub programs: Vec<PathBuf>,
    /// Other files, by their paths here.
    pub files: Vec<PathBuf>,
    /// Lines of a shell script; the exit status of the last is the job's.
    pub script: String,
    /// Whether the machine is to have a card with offloads ([`super::qemu::Machine::has_tap`]).
    pub wants_tap: bool,
    /// Where the script runs.
    pub system: System,
}

/// What a guest's processes live in.
#[derive(Clone, Debug, Default)]
pub enum System {
    /// This machine's tools, and an init that runs the job and nothing else.
    #[default]
    Small,
    /// A Debian with systemd ([`debian`]), unpacked here: the job's programs and files are put into it. The last are other files by
    /// their paths there and here.
    Debian(PathBuf, Vec<(String, PathBuf)>),
}

/// Builds the file system of a guest that runs `job` on `kernel`: an open file without a name. `programs` keeps stripped programs.
///
/// # Errors
/// When something that it should hold is not there.
pub fn build(kernel: &Kernel, job: &Job, programs: &Path) -> Result<File> {
    let mut tree = Tree::new();
    tree.text(
        "bb/busybox",
        fs::read("/bin/busybox").context("the package busybox-static is not installed")?,
        0o755,
    );
    for name in PROGRAMS {
        tree.named_program(name)?;
    }
    for path in FRR {
        tree.program(Path::new(path))?;
    }
    for path in ["/etc/frr", "/var/run/frr"].map(Path::new).into_iter().filter(|path| path.exists()) {
        tree.owned_folder(path)?;
    }
    // Users by name (FRR gives up root), protocols by name.
    for path in [
        "/etc/passwd",
        "/etc/group",
        "/etc/nsswitch.conf",
        "/etc/protocols",
        "/etc/services",
        "/etc/iproute2",
    ] {
        let path = Path::new(path);
        if path.exists() {
            tree.copy(path)?;
        }
    }
    let modules = tree.modules(&kernel.modules, &MODULES)?;
    let place = match &job.system {
        System::Small => {
            tree.text("init", init(&modules, RUN_JOB), 0o755);
            tree.text("job", format!("cd '{}'\n{}\n", root().display(), job.script), 0o755);
            String::new()
        }
        System::Debian(folder, others) => {
            debian::put(&mut tree, folder, &job.script)?;
            tree.text("init", init(&modules, &debian::switch()), 0o755);
            for (there, here) in others {
                let bytes = fs::read(here).with_context(|| format!("the guest needs {}", here.display()))?;
                tree.text(&format!("{}/{there}", debian::PLACE), bytes, 0o644);
            }
            format!("{}/", debian::PLACE)
        }
    };
    for path in &job.programs {
        tree.program(path)?;
        let bytes = stripped(path, programs)?;
        tree.text(&format!("{place}{}", path.to_string_lossy().trim_start_matches('/')), bytes, 0o755);
    }
    for path in &job.files {
        tree.copy(path)?;
    }
    let file = nameless(programs)?;
    let mut out = BufWriter::new(file);
    tree.write(&mut out)?;
    out.into_inner().map_err(|error| error.into_error()).context("cannot write the initramfs")
}

/// A program without what only debuggers read: kept, and made anew when the program is.
fn stripped(path: &Path, kept: &Path) -> Result<Vec<u8>> {
    let plain = kept.join(path.file_name().context("a program has a name")?);
    let made = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    if made(&plain).is_none_or(|kept| made(path).is_none_or(|built| kept <= built)) {
        fs::create_dir_all(kept).with_context(|| format!("cannot make {}", kept.display()))?;
        // Under another name until it is whole: two machines may be made at once.
        let partial = plain.with_extension(process::id().to_string());
        must(Command::new("strip").arg("-s").arg("-o").arg(&partial).arg(path))?;
        fs::rename(&partial, &plain).with_context(|| format!("cannot rename {}", partial.display()))?;
    }
    fs::read(&plain).with_context(|| format!("cannot read {}", plain.display()))
}

/// A file that is gone when its last user is.
fn nameless(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("initramfs-{}", process::id()));
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(file)
}

/// The end of a small guest's init.
const RUN_JOB: &str = "sh /job\necho \"erdp-vm: exit $?\"\nreboot -f\n";

/// The first process: mounts, modules, and what comes then.
fn init(modules: &[String], then: &str) -> String {
    let load: String =
        modules.iter().map(|path| format!("insmod {path} || echo 'module {path} was refused'\n")).collect();
    format!(
        "#!/bb/busybox sh\n\
         /bb/busybox --install -s /bb\n\
         export PATH=/usr/sbin:/usr/bin:/bb HOME=/root TERM=dumb ERDP_VM=1\n\
         mount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\n\
         mount -t devtmpfs devtmpfs /dev\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         mount -t tracefs tracefs /sys/kernel/tracing\n\
         ln -sf /proc/self/fd /dev/fd\n\
         echo '{MARK}ready'\n\
         {load}\
         ip link set lo up\n\
         {then}"
    )
}
