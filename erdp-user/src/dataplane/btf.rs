//! Where the members of the running kernel's structures are, by its own type information (BTF, `/sys/kernel/btf/vmlinux`, Linux 5.4).
//!
//! A compiler with relocations for BPF (CO-RE) would leave this to the loader; Rust's makes none, and aya's reader of BTF keeps
//! members to itself. The format: Documentation/bpf/btf.rst of the kernel. Only what is needed is read, and anything unexpected means "not
//! known".

use std::{fs, io};

/// The kernel's own.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
/// Bytes of a type before what its kind adds.
const TYPE: usize = 12;
/// Structures in structures are followed so deep.
const DEPTH_MAX: usize = 8;

const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The type information of a kernel.
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where each type is in `types`, by its number; number 0 is `void`.
    at: Vec<usize>,
}

impl Btf {
    /// That of the running kernel.
    pub fn of_this_kernel() -> io::Result<Self> {
        Self::parse(&fs::read(VMLINUX)?).ok_or_else(|| io::Error::other(format!("{VMLINUX} is not BTF")))
    }

    /// Reads the header and finds all types.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let [header, types_at, types_len, strings_at, strings_len] =
            [4, 8, 12, 16, 20].map(|at| word(bytes, at));
        let header = header? as usize;
        let part = |at: u32, len: u32| bytes.get(header + at as usize..)?.get(..len as usize);
        let types = part(types_at?, types_len?)?.to_vec();
        let strings = part(strings_at?, strings_len?)?.to_vec();
        let mut found = vec![usize::MAX];
        let mut at = 0;
        while at < types.len() {
            found.push(at);
            at += TYPE + more(word(&types, at + 4)?)?;
        }
        Some(Self { types, strings, at: found })
    }

    /// Bytes from the begin of a structure to its member, which may be in structures without a name in it.
    pub fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let is_it = |id: &u32| {
            self.members(*id).is_some_and(|(kind, count)| kind == STRUCT && count > 0)
                && self.name(*id) == Some(structure.as_bytes())
        };
        let id = (1..self.at.len() as u32).find(is_it)?;
        self.offset_in(id, member, DEPTH_MAX)
    }

    fn offset_in(&self, id: u32, member: &str, depth: usize) -> Option<u32> {
        let at = *self.at.get(id as usize)?;
        let (_, count) = self.members(id)?;
        let is_of_bits = word(&self.types, at + 4)? >> 31 != 0;
        (0..count).find_map(|number| {
            let at = at + TYPE + 12 * number;
            let [name, kind, bits] = [0, 4, 8].map(|more| word(&self.types, at + more));
            let bits = if is_of_bits { bits? & 0x00ff_ffff } else { bits? };
            match self.string(name?)? {
                b"" if depth > 0 => Some(bits / 8 + self.offset_in(kind?, member, depth - 1)?),
                name if name == member.as_bytes() => Some(bits / 8),
                _ => None,
            }
        })
    }

    /// The kind of a structure or union, and how many members it has.
    fn members(&self, id: u32) -> Option<(u32, usize)> {
        let info = word(&self.types, *self.at.get(id as usize)? + 4)?;
        let kind = info >> 24 & 0x1f;
        (kind == STRUCT || kind == UNION).then_some((kind, (info & 0xffff) as usize))
    }

    fn name(&self, id: u32) -> Option<&[u8]> {
        self.string(word(&self.types, *self.at.get(id as usize)?)?)
    }

    fn string(&self, at: u32) -> Option<&[u8]> {
        self.strings.get(at as usize..)?.split(|byte| *byte == 0).next()
    }
}

/// Bytes that a kind adds to a type; `None`: a kind that this program does not know, after which nothing can be found.
fn more(info: u32) -> Option<usize> {
    let members = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Enumeration, parameters.
        6 | 13 => 8 * members,
        // Structure, union, section, enumeration of 64 bits.
        STRUCT | UNION | 15 | 19 => 12 * members,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::Btf;

    /// A structure with a number and a union without a name, in which a pointer is.
    fn example() -> Vec<u8> {
        let strings = b"\0int\0net_device\0flags\0ifindex\0";
        let types: Vec<u32> = [
            vec![1, 1 << 24, 4, 32],                      // 1: int
            vec![0, 2 << 24, 1],                          // 2: int *
            vec![0, 5 << 24 | 1, 8, 22, 2, 0],            // 3: union { int *ifindex }
            vec![5, 4 << 24 | 2, 16, 16, 1, 0, 0, 3, 64], // 4: struct net_device { int flags; union 3 }
        ]
        .concat();
        let len = 4 * types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, len, len, strings.len() as u32];
        let words = header.iter().chain(&types);
        words.flat_map(|word| word.to_ne_bytes()).chain(*strings).collect()
    }

    #[test]
    fn members_are_found_in_structures_without_a_name_too() {
        let btf = Btf::parse(&example()).expect("an example that is right");
        for (structure, member, expected) in [
            ("net_device", "flags", Some(0)),
            ("net_device", "ifindex", Some(8)),
            ("net_device", "mtu", None),
            ("net", "flags", None),
            ("int", "flags", None),
        ] {
            assert_eq!(btf.offset(structure, member), expected, "{structure}.{member}");
        }
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_no_type_information() {
        let bytes = example();
        for len in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..len]).is_none(), "{len} bytes");
        }
        let mut odd = bytes.clone();
        odd[24 + 7] = 31;
        assert!(Btf::parse(&odd).is_none());
    }

    #[test]
    fn this_kernels_network_devices_have_an_index_and_a_namespace() {
        let Ok(btf) = Btf::of_this_kernel() else {
            println!("SKIP: this kernel has no type information");
            return;
        };
        let offsets = [("net_device", "ifindex"), ("net_device", "nd_net"), ("net", "net_cookie")];
        let offsets = offsets.map(|(structure, member)| btf.offset(structure, member));
        assert!(offsets.iter().all(Option::is_some), "{offsets:?}");
    }
}
