//! One virtual machine: QEMU's command line, its console, its end.
//!
//! The guest speaks by its serial console, and lines that begin with `erdp-vm: ` are for us: `ready` (the init runs), `link NIC
//! on` or `off` (pull that cable: QEMU's monitor is told), `exit N` (the job's exit status). Everything else passes to the terminal.
//!
//! KVM is used where it works, which only trying tells: a machine that has not come to its init after [`PROBE`] is killed and
//! started again by TCG, and that is remembered until the host is booted again. QEMU dies with xtask, however that ends
//! (`setpriv --pdeathsig`), and needs neither a socket nor a privilege: the wires are hubs inside QEMU, the monitor is its standard
//! input.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsRawFd as _,
    path::Path,
    process::{self, Child, ChildStderr, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::kernels::Kernel;
use crate::command::{is_root, output};

/// How long the init may take by KVM; by TCG it takes a few seconds.
const PROBE: Duration = Duration::from_secs(6);
/// The program.
pub const QEMU: &str = "qemu-system-x86_64";
/// What the guest begins a line with that is for us.
pub const MARK: &str = "erdp-vm: ";

/// A cable between two network cards of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The card at the edge's end, as QEMU names such devices.
    pub edge: &'static str,
    /// The card at the other end.
    pub far: &'static str,
}

/// A machine that could be started.
#[derive(Debug)]
pub struct Machine<'a> {
    /// What it boots.
    pub kernel: &'a Kernel,
    /// Its file system: a file without a name.
    pub initramfs: &'a File,
    /// Its cables.
    pub wires: &'a [Wire],
    /// One more card, on a TAP: with offloads and two queues, which the hubs' cards have not. It leads nowhere.
    pub has_tap: bool,
    /// How long it may take in all.
    pub limit: Duration,
}

/// How a machine has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The job's exit status.
    pub status: i32,
    /// How the machine was run: `kvm` or `tcg`.
    pub accelerator: &'static str,
    /// From QEMU's start to its end.
    pub took: Duration,
}

/// The version of QEMU, major first.
pub fn version() -> Option<u32> {
    let printed = output(Command::new(QEMU).arg("--version"))?;
    printed.split_whitespace().nth(3)?.split('.').next()?.parse().ok()
}

/// Runs a machine to its end; `tell` gets each line of its console.
///
/// # Errors
/// When QEMU does not start, or the guest does not end in time or without telling its exit status.
pub fn run(machine: &Machine<'_>, vm: &Path, tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let known = vm.join("accelerator");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let remembered = fs::read_to_string(&known).ok();
    let remembered = remembered.as_deref().and_then(|text| text.strip_prefix(&boot)).map(str::to_owned);
    let writable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
    if writable && remembered.as_deref() != Some("tcg") {
        let mut running = Running::start(machine, "kvm", "host")?;
        let ready = remembered.is_some() || running.ready(PROBE);
        if ready {
            fs::write(&known, format!("{boot}kvm"))
                .with_context(|| format!("cannot write {}", known.display()))?;
            return running.finish("kvm", machine.limit, tell);
        }
        tell(&format!("KVM does not boot a kernel here within {} s: TCG from now on", PROBE.as_secs()));
        fs::write(&known, format!("{boot}tcg"))
            .with_context(|| format!("cannot write {}", known.display()))?;
    }
    Running::start(machine, "tcg", "max")?.finish("tcg", machine.limit, tell)
}

/// `setpriv`, where a TAP is wanted in a network namespace of its own: there QEMU may make one, and it goes with QEMU.
fn starter(has_tap: bool) -> Command {
    if !has_tap {
        return Command::new("setpriv");
    }
    let mut unshare = Command::new("unshare");
    if !is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--net", "setpriv"]);
    unshare
}

/// Runs a machine whose console is our standard input and output; the answer is QEMU's own exit status.
/// Cables cannot be cut, because the monitor is not there.
///
/// # Errors
/// When QEMU does not start.
pub fn interactive(machine: &Machine<'_>, accelerator: &str) -> Result<i32> {
    let cpu = if accelerator == "kvm" { "host" } else { "max" };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]).args(arguments(machine, accelerator, cpu, Console::Terminal));
    let status = command.status().with_context(|| format!("cannot start setpriv and {QEMU}"))?;
    Ok(status.code().unwrap_or(1))
}

/// A machine that runs; killed when dropped.
struct Running {
    qemu: Child,
    lines: Receiver<String>,
    kept: Vec<String>,
    begin: Instant,
}

impl Running {
    fn start(machine: &Machine<'_>, accelerator: &'static str, cpu: &str) -> Result<Running> {
        let mut command = starter(machine.has_tap);
        command.args(["--pdeathsig", "KILL", QEMU]).args(arguments(machine, accelerator, cpu, Console::Ours));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut qemu = command.spawn().with_context(|| format!("cannot start setpriv and {QEMU}"))?;
        let stderr = qemu.stderr.take().context("QEMU's standard error is a pipe")?;
        Ok(Running { qemu, lines: console(stderr), kept: Vec::new(), begin: Instant::now() })
    }

    /// Does the init come within `patience`? Lines before it are kept.
    fn ready(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let is_ready = line == format!("{MARK}ready");
            self.kept.push(line);
            if is_ready {
                return true;
            }
        }
        false
    }

    fn finish(
        mut self,
        accelerator: &'static str,
        limit: Duration,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Outcome> {
        let deadline = self.begin + limit;
        let mut status = None;
        let mut last = Vec::new();
        for line in std::mem::take(&mut self.kept) {
            tell(&line);
        }
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => bail!(
                    "the virtual machine has not ended within {} s and was killed; its last lines:\n{}",
                    limit.as_secs(),
                    last.join("\n")
                ),
            };
            match line.strip_prefix(MARK).map(|words| words.split_whitespace().collect::<Vec<_>>()).as_deref()
            {
                Some(["exit", code]) => status = code.parse().ok(),
                Some(["link", nic, state]) => self.set_link(nic, state)?,
                _ => tell(&line),
            }
            last.push(line);
            if last.len() > 12 {
                last.remove(0);
            }
        }
        self.qemu.wait().context("cannot wait for QEMU")?;
        let status = status.with_context(|| {
            format!("the virtual machine ended without an exit status; its last lines:\n{}", last.join("\n"))
        })?;
        Ok(Outcome { status, accelerator, took: self.begin.elapsed() })
    }

    /// Pulls or plugs a cable at one card, as on a cut fibre.
    fn set_link(&mut self, nic: &str, state: &str) -> Result<()> {
        let monitor = self.qemu.stdin.as_mut().context("QEMU's monitor is its standard input")?;
        writeln!(monitor, "set_link {nic} {state}").context("cannot speak to QEMU's monitor")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _killed = self.qemu.kill();
        let _status = self.qemu.wait();
    }
}

/// The lines of the console, as they come. A full channel stops QEMU's serial port, and so the guest: nothing is lost.
fn console(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = sync_channel(256);
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            if sender.send(line.trim_end_matches('\r').to_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Where the machine's console is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Console {
    /// On standard error, which we read; the monitor on standard input, where we ask for cables to be cut. Neither needs a socket.
    Ours,
    /// On standard input and output, for people.
    Terminal,
}

impl Console {
    fn arguments(self) -> [String; 2] {
        match self {
            Console::Ours => [
                "-chardev file,id=console,path=/dev/stderr -serial chardev:console".to_owned(),
                "-chardev stdio,id=monitor,signal=off -mon chardev=monitor,mode=readline".to_owned(),
            ],
            Console::Terminal => [
                "-chardev stdio,id=console,signal=off -serial chardev:console".to_owned(),
                "-monitor none".to_owned(),
            ],
        }
    }
}

/// QEMU's command line.
fn arguments(machine: &Machine<'_>, accelerator: &str, cpu: &str, console: Console) -> Vec<String> {
    let threads = if accelerator == "tcg" { ",thread=multi" } else { "" };
    let mut words = vec![
        "-machine q35".to_owned(),
        format!("-accel {accelerator}{threads}"),
        format!("-cpu {cpu} -smp 2 -m 1536"),
        "-nodefaults -no-user-config -display none -no-reboot".to_owned(),
    ];
    words.extend(console.arguments());
    for (number, wire) in machine.wires.iter().enumerate() {
        for (end, (driver, which)) in [(wire.edge, "edge"), (wire.far, "far")].into_iter().enumerate() {
            let name = format!("{which}{number}");
            words.push(format!("-netdev hubport,id={name}-port,hubid={number}"));
            words.push(format!(
                "-device {driver},id={name},netdev={name}-port,mac=52:54:00:e5:{number:02x}:{end:02x},romfile="
            ));
        }
    }
    if machine.has_tap {
        words.push("-netdev tap,id=tap-port,ifname=erdp-tap,script=no,downscript=no,queues=2".to_owned());
        words.push(
            "-device virtio-net-pci,id=tap,netdev=tap-port,mac=52:54:00:e5:ff:00,romfile=,mq=on,vectors=6"
                .to_owned(),
        );
    }
    let mut arguments: Vec<String> =
        words.iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    // QEMU opens it by way of our descriptor.
    let initramfs = format!("/proc/{}/fd/{}", process::id(), machine.initramfs.as_raw_fd());
    let image = machine.kernel.image.to_string_lossy().into_owned();
    arguments.extend(["-kernel".to_owned(), image, "-initrd".to_owned(), initramfs]);
    // no_timer_check: an emulated CPU that has to wait for a real one fails the kernel's check of its timer, which then panics.
    let append = "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init net.ifnames=0 no_timer_check";
    arguments.extend(["-append".to_owned(), append.to_owned()]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wire_has_two_cards_on_one_hub_with_addresses_that_tell_wire_and_end() {
        let kernel = Kernel { release: "6.1".into(), image: "/a b".into(), modules: "/m".into() };
        let wires = [Wire { edge: "igb", far: "virtio-net-pci" }; 2];
        let initramfs = File::open("/dev/null").expect("it is there");
        let limit = Duration::from_secs(1);
        let machine =
            Machine { kernel: &kernel, initramfs: &initramfs, wires: &wires, has_tap: false, limit };
        let line = arguments(&machine, "tcg", "max", Console::Ours).join(" ");
        for part in [
            "-netdev hubport,id=edge1-port,hubid=1 -device igb,id=edge1,netdev=edge1-port,mac=52:54:00:e5:01:00,romfile=",
            "-netdev hubport,id=far1-port,hubid=1 -device virtio-net-pci,id=far1,netdev=far1-port,mac=52:54:00:e5:01:01",
            "-accel tcg,thread=multi -cpu max",
        ] {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.contains(&format!("-initrd /proc/{}/fd/", process::id())), "{line}");
    }
}
