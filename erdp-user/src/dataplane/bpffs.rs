//! The file system in which BPF objects outlive the process that made them.
//!
//! Each mount of `bpf` is a file system of its own, and one in a private mount namespace dies with it, pins and all. So the one that
//! counts is that of the machine (of its first process): the standard place, which is mounted there if nobody has. A process in
//! another mount namespace (`ip netns exec`, a service with a private one) reaches it through /proc/1/root, and mounts it from a
//! thread that enters the first process's namespace. Where that process cannot be looked at, our own namespace has to do: call
//! [`root`] before anything makes a private one.
//!
//! Also the few calls of bpf(2) that aya has no name for (Linux 5.13 for all of them on XDP links).

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    ptr, thread,
};

use nix::{
    mount::MsFlags,
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::geteuid,
};

/// Where everybody expects it.
const STANDARD: &str = "/sys/fs/bpf";

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;
/// `BPF_LINK_TYPE_XDP`.
const LINK_TYPE_XDP: u32 = 6;

/// The machine's bpffs, mounted if it was not.
pub fn root() -> io::Result<PathBuf> {
    let own = fs::read_link("/proc/self/ns/mnt")?;
    match fs::read_link("/proc/1/ns/mnt") {
        Ok(first) if first != own => of_first_process(),
        _ => {
            if !is_bpffs(Path::new(STANDARD)) {
                mount()?;
            }
            Ok(STANDARD.into())
        }
    }
}

fn of_first_process() -> io::Result<PathBuf> {
    let there = PathBuf::from("/proc/1/root/sys/fs/bpf");
    if !is_bpffs(&there) {
        let namespace = fs::File::open("/proc/1/ns/mnt")?;
        // A thread of its own, because a mount namespace cannot be entered by a process that shares its working directory.
        let entered = thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            setns(namespace, CloneFlags::CLONE_NEWNS)?;
            mount()
        });
        entered.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))?;
    }
    Ok(there)
}

fn mount() -> io::Result<()> {
    if !geteuid().is_root() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "only root may mount"));
    }
    Ok(nix::mount::mount(Some("bpf"), STANDARD, Some("bpf"), MsFlags::empty(), None::<&str>)?)
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A number for this network namespace that no other has had since the machine was started (`SO_NETNS_COOKIE`, Linux 5.14).
pub fn network_namespace() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    let (mut cookie, mut len) = (0_u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the socket is open; value and length are those of a u64.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    })?;
    Ok(cookie)
}

/// What an operator calls this network namespace: its name for `ip netns`, or what /proc says.
pub fn network_namespace_name() -> String {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| fs::metadata(path).map(|it| it.ino()).ok();
    let own = Path::new("/proc/thread-self/ns/net");
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let found =
        named.map(|entry| entry.path()).find(|path| inode(path).is_some() && inode(path) == inode(own));
    let name = found.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.or_else(|| Some(fs::read_link(own).ok()?.to_string_lossy().into_owned())).unwrap_or_default()
}

/// `union bpf_attr` as far as it is needed here: at least as long as any member, the rest zero.
#[repr(C, align(8))]
struct Attr([u32; 32]);

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<libc::c_int> {
    // SAFETY: the attribute is as long as said, and pointers in it are to values that outlive the call (see the callers).
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<Attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn words(pointer: u64) -> [u32; 2] {
    let bytes = pointer.to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
}

/// A pinned object.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr([0; 32]);
    attr.0[..2].copy_from_slice(&words(path.as_ptr() as u64));
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pins an object.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr([0; 32]);
    attr.0[..2].copy_from_slice(&words(path.as_ptr() as u64));
    attr.0[2] = object.as_raw_fd().cast_unsigned();
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Replaces the program of a link in one step (`BPF_LINK_UPDATE`): each packet meets the old program or the new one.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr([0; 32]);
    attr.0[0] = link.as_raw_fd().cast_unsigned();
    attr.0[1] = program.as_raw_fd().cast_unsigned();
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Ends what a link does, at once (`BPF_LINK_DETACH`, Linux 5.9): when the last pin goes the kernel does so too, but some time later.
pub fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr([0; 32]);
    attr.0[0] = link.as_raw_fd().cast_unsigned();
    bpf(BPF_LINK_DETACH, &mut attr).map(drop)
}

/// What the kernel says of an XDP link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpLink {
    /// The program's identifier.
    pub program: u32,
    /// The interface; 0: it is gone.
    pub ifindex: u32,
}

/// Asks about a link; an error where it is none of XDP.
pub fn xdp_link(link: BorrowedFd<'_>) -> io::Result<XdpLink> {
    // struct bpf_link_info: type, id, prog_id, padding, then for XDP the interface's index.
    let mut info = [0_u32; 32];
    let mut attr = Attr([0; 32]);
    attr.0[0] = link.as_raw_fd().cast_unsigned();
    attr.0[1] = size_of_val(&info) as u32;
    attr.0[2..4].copy_from_slice(&words(info.as_mut_ptr() as u64));
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    if info[0] != LINK_TYPE_XDP {
        return Err(io::Error::other(format!("a BPF link of type {} and not of XDP", info[0])));
    }
    Ok(XdpLink { program: info[2], ifindex: info[4] })
}

/// A program's identifier.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_prog_info: type, id. Whoever has the descriptor may ask.
    let mut info = [0_u32; 64];
    let mut attr = Attr([0; 32]);
    attr.0[0] = program.as_raw_fd().cast_unsigned();
    attr.0[1] = size_of_val(&info) as u32;
    attr.0[2..4].copy_from_slice(&words(info.as_mut_ptr() as u64));
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[1])
}

/// Runs a program once on a frame (`BPF_PROG_TEST_RUN`); the answer is how much of `output` is the frame afterwards.
pub fn run_program(
    program: BorrowedFd<'_>,
    context: &[u8],
    input: &[u8],
    output: &mut [u8],
) -> io::Result<usize> {
    // prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ctx_size_in, ctx_size_out, ctx_in, ctx_out
    let mut attr = Attr([0; 32]);
    attr.0[0] = program.as_raw_fd().cast_unsigned();
    attr.0[2] = input.len() as u32;
    attr.0[3] = output.len() as u32;
    attr.0[4..6].copy_from_slice(&words(input.as_ptr() as u64));
    attr.0[6..8].copy_from_slice(&words(output.as_mut_ptr() as u64));
    attr.0[10] = context.len() as u32;
    attr.0[12..14].copy_from_slice(&words(context.as_ptr() as u64));
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(output.len().min(attr.0[3] as usize))
}

/// A program by its identifier, which only CAP_SYS_ADMIN may ask for: see [`super::pins::Pins::program`].
pub fn program(id: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr([0; 32]);
    attr.0[0] = id;
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
