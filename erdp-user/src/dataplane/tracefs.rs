//! Field offsets of the tracepoints that tell what is lost after a redirect.
//!
//! Tracepoint records differ between kernels; their `format` files in tracefs say where each field is. tracefs is mounted
//! privately for this process where nobody has mounted it (for instance inside `ip netns exec`, which mounts a fresh /sys).

use std::{fs, io, path::Path, ptr};

const TRACEFS: &str = "/sys/kernel/tracing";

/// Makes tracefs visible to this thread and those it starts; call it before any other thread exists.
pub fn ensure_mounted() -> io::Result<()> {
    if Path::new(TRACEFS).join("events").is_dir() || Path::new("/sys/kernel/debug/tracing/events").is_dir() {
        return Ok(());
    }
    let check = |result: libc::c_int| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: system calls on constant strings; a private mount namespace keeps the mount away from everybody else.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        check(libc::mount(
            ptr::null(),
            c"/".as_ptr(),
            ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            ptr::null(),
        ))?;
        check(libc::mount(
            c"tracefs".as_ptr(),
            c"/sys/kernel/tracing".as_ptr(),
            c"tracefs".as_ptr(),
            0,
            ptr::null(),
        ))
    }
}

/// Byte offset of a field of an `xdp` tracepoint; -1 when there is none.
pub fn field_offset(tracepoint: &str, field: &str) -> i32 {
    [TRACEFS, "/sys/kernel/debug/tracing"]
        .iter()
        .find_map(|root| fs::read_to_string(format!("{root}/events/xdp/{tracepoint}/format")).ok())
        .and_then(|format| parse_offset(&format, field))
        .unwrap_or(-1)
}

fn parse_offset(format: &str, field: &str) -> Option<i32> {
    format.lines().find_map(|line| {
        let (declaration, rest) = line.trim().strip_prefix("field:")?.split_once(';')?;
        let name = declaration.rsplit([' ', '\t']).next()?;
        let offset = rest.trim().strip_prefix("offset:")?.split(';').next()?;
        (name == field).then(|| offset.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::parse_offset;

    const FORMAT: &str = "name: xdp_devmap_xmit\nformat:\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:int from_ifindex;\toffset:8;\tsize:4;\tsigned:1;\n\tfield:int drops;\toffset:20;\tsize:4;\tsigned:1;\n";

    #[test]
    fn offsets_are_read_from_the_format_file() {
        assert_eq!(parse_offset(FORMAT, "from_ifindex"), Some(8));
        assert_eq!(parse_offset(FORMAT, "drops"), Some(20));
        assert_eq!(parse_offset(FORMAT, "ifindex"), None, "a suffix of a name is not the name");
    }
}
