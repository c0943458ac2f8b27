//! What a driver says that it can do with XDP, asked of the kernel by generic netlink (family "netdev", Linux 6.3;
//! Documentation/netlink/specs/netdev.yaml).
//!
//! Two requests with one answer each: the family's number, then the device. Nothing is attached for it, so that an interface in
//! use is not disturbed. A kernel that has no such family does not know; there the start itself tries.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
};

/// A program can be attached in the driver, and pass, drop and send back (NETDEV_XDP_ACT_BASIC).
pub const BASIC: u64 = 1;
/// It can redirect (NETDEV_XDP_ACT_REDIRECT).
pub const REDIRECT: u64 = 2;
/// Frames can be redirected to it (NETDEV_XDP_ACT_NDO_XMIT); many drivers say so only while a program is attached.
pub const TARGET: u64 = 4;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const ATTRIBUTE_HEADER: usize = 4;
/// The family that knows the families: its number, its request, and the attributes of that.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Of the family "netdev".
const GET_DEVICE: u8 = 1;
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;

/// The XDP features of the interface with this index in this thread's network namespace; `None` where the kernel cannot tell.
///
/// # Errors
/// The kernel's.
pub fn xdp_features(ifindex: u32) -> io::Result<Option<u64>> {
    let socket = open(libc::NETLINK_GENERIC)?;
    let family = match ask(&socket, CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0") {
        Ok(answer) => answer,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(family) = attribute(&family, FAMILY_ID).and_then(|bytes| bytes.first_chunk()) else {
        return Ok(None);
    };
    let device = ask(&socket, u16::from_ne_bytes(*family), GET_DEVICE, IFINDEX, &ifindex.to_ne_bytes())?;
    Ok(attribute(&device, XDP_FEATURES)
        .and_then(|bytes| bytes.first_chunk())
        .map(|bytes| u64::from_ne_bytes(*bytes)))
}

fn open(protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the answer is -1 or a descriptor that is ours.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an open descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One request with one attribute; the attributes of the answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let answer = exchange(socket, &request(family, command, kind, value))?;
    body(&answer)?.get(GENERIC_HEADER..).map(<[u8]>::to_vec).ok_or_else(short)
}

/// One request of rtnetlink, of which `body` is all behind the message's header; the same of the answer, which must be of the second
/// kind.
///
/// # Errors
/// The kernel's.
pub(super) fn ask_route([kind, answer_kind]: [u16; 2], body: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(MESSAGE_HEADER + body.len());
    request.extend(u32::try_from(MESSAGE_HEADER + body.len()).unwrap_or(0).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence, port
    request.extend(body);
    let answer = exchange(&open(libc::NETLINK_ROUTE)?, &request)?;
    let body = self::body(&answer)?;
    if answer.get(4..6) == Some(&answer_kind.to_ne_bytes()) {
        Ok(body.to_vec())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// Sends a request and waits for nothing: the kernel has answered by then.
fn exchange(socket: &OwnedFd, request: &[u8]) -> io::Result<Vec<u8>> {
    // SAFETY: the buffer is as long as is said. A netlink socket that is not connected sends to the kernel.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = vec![0; 8_192];
    // SAFETY: as above; the kernel has answered before `send` has come back.
    let length = unsafe {
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), libc::MSG_DONTWAIT)
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    answer.truncate(length);
    Ok(answer)
}

fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let padded = value.len().next_multiple_of(4);
    let length = MESSAGE_HEADER + GENERIC_HEADER + ATTRIBUTE_HEADER + padded;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(0).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length, 0);
    bytes
}

/// What is behind the header of an answer, or the error that it is.
fn body(answer: &[u8]) -> io::Result<&[u8]> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.first_chunk()).ok_or_else(short)?;
    let body = answer.get(MESSAGE_HEADER..).ok_or_else(short)?;
    if u16::from_ne_bytes(*kind) == NLMSG_ERROR {
        let code = i32::from_ne_bytes(*body.first_chunk().ok_or_else(short)?);
        return Err(io::Error::from_raw_os_error(-code));
    }
    Ok(body)
}

/// The value of the first attribute of this kind.
pub(super) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(ATTRIBUTE_HEADER..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_errors_are_told() {
        let attributes_of = [&[8, 0, 1, 0, 7, 0, 0, 0][..], &[5, 0, 3, 0, 9, 0, 0, 0]].concat();
        assert_eq!(attribute(&attributes_of, 3), Some(&[9][..]));
        assert_eq!(attribute(&attributes_of, 2), None);
        let mut refused = vec![0; 20];
        refused[4] = 2;
        refused[16..].copy_from_slice(&(-2i32).to_ne_bytes());
        assert_eq!(body(&refused).expect_err("an error").kind(), io::ErrorKind::NotFound);
        assert!(body(&[0; 5]).is_err());
    }
}
