//! How deep each program's stack is, from the instructions of the object: no kernel and no root needed.
//!
//! Everything is compiled into one function for each program, so what counts is the deepest byte below the frame pointer (r10) that
//! an instruction reaches, by r10 itself or by a register that was made from it; where a local function is called (the compiler's
//! memcpy and the like), its depth is added, the deepest of them. The kernel counts likewise, but only along what it walks: it tells the
//! number in the verifier's log, which aya keeps for refused programs only. Code that is switched off at load time counts here and not
//! there, so this number is never below the kernel's. Held against it once by hand (BPF_PROG_LOAD with log level 4, BPF_LOG_STATS, on
//! Linux 6.18, everything switched on): 432, 16 and 8 bytes for erdp, erdp_xmit and erdp_redirect_err, here as there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

/// The frame pointer.
const R10: usize = 10;
/// Calls may nest this deep (`MAX_CALL_FRAMES`, include/linux/bpf_verifier.h).
const FRAMES_MAX: usize = 8;

/// Where a function is: its section and first byte.
type Place = (usize, u64);

/// A function by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Function {
    /// Bytes of stack that it reaches.
    own: u32,
    /// What it calls.
    calls: Vec<Place>,
}

/// Bytes of stack by program, of each function outside `.text`, where local functions are.
pub fn depths(object: &[u8]) -> Result<BTreeMap<String, u32>> {
    let file = object::File::parse(object).context("the BPF object is no ELF file")?;
    let mut functions = BTreeMap::new();
    let mut programs = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
        let index = symbol.section_index().context("a function without a section")?;
        let section = file.section_by_index(index)?;
        let bytes =
            section.data_range(symbol.address(), symbol.size())?.context("a function beyond its section")?;
        let mut targets = BTreeMap::new();
        for (at, relocation) in section.relocations() {
            if let RelocationTarget::Symbol(target) = relocation.target() {
                let target = file.symbol_by_index(target)?;
                let named = (target.kind() == SymbolKind::Text).then(|| target.address());
                targets.insert(at, (target.section_index().map(|section| section.0), named));
            }
        }
        let start = symbol.address();
        let resolve = |at: u64, imm: i32| -> Option<Place> {
            match targets.get(&(start + at)) {
                Some((section, Some(address))) => section.map(|section| (section, *address)),
                // Relative to the section: the immediate is the instruction's number less one.
                Some((section, None)) => {
                    section.map(|section| (section, u64::from((imm + 1).cast_unsigned()) * 8))
                }
                None => {
                    (start + at + 8).checked_add_signed(i64::from(imm) * 8).map(|address| (index.0, address))
                }
            }
        };
        functions.insert((index.0, start), function(bytes, resolve));
        if section.name()? != ".text" {
            programs.push((symbol.name()?.to_owned(), (index.0, start)));
        }
    }
    programs.into_iter().map(|(name, place)| Ok((name, chain(&functions, place, FRAMES_MAX)?))).collect()
}

/// A function's own depth and the deepest of those it calls.
fn chain(functions: &BTreeMap<Place, Function>, place: Place, frames: usize) -> Result<u32> {
    let function =
        functions.get(&place).with_context(|| format!("a call to {place:?}, where no function is"))?;
    let frames = frames.checked_sub(1).context("calls nest deeper than the kernel allows")?;
    let mut below = 0;
    for callee in &function.calls {
        below = below.max(chain(functions, *callee, frames)?);
    }
    Ok(function.own + below)
}

/// Reads a function from its first instruction to its last, in the order in which they stand. `resolve` says where a call leads.
fn function(bytes: &[u8], resolve: impl Fn(u64, i32) -> Option<Place>) -> Function {
    let mut read = Function::default();
    // What each register is above the frame pointer, if it is made from it.
    let mut offsets: [Option<i64>; 16] = [None; 16];
    offsets[R10] = Some(0);
    for (number, instruction) in bytes.chunks_exact(8).enumerate() {
        let [code, registers, low, high, imm @ ..] = instruction else { continue };
        let (to, from) = (usize::from(registers & 0xf), usize::from(registers >> 4));
        let (offset, imm) = (i64::from(i16::from_le_bytes([*low, *high])), immediate(imm));
        let mut reach = |base: Option<i64>, offset: i64| {
            let depth = base.map_or(0, |base| -(base + offset));
            read.own = read.own.max(u32::try_from(depth).unwrap_or(0));
        };
        match code & 0x07 {
            // BPF_LDX reads at the source register; BPF_ST and BPF_STX (atomics too) write at the destination.
            0x01 => {
                reach(offsets[from], offset);
                offsets[to] = None;
            }
            0x02 | 0x03 => reach(offsets[to], offset),
            0x07 if *code == 0xbf => offsets[to] = offsets[from], // 64-bit move
            0x07 if *code == 0x07 => {
                // 64-bit addition of a constant: how the address of a buffer is made, which a helper fills from there upwards.
                offsets[to] = offsets[to].map(|base| base + i64::from(imm));
                reach(offsets[to], 0);
            }
            0x04 | 0x07 | 0x00 => offsets[to] = None,
            0x05 if *code == 0x85 => {
                offsets[..=5].fill(None);
                if from == 1 {
                    read.calls.extend(resolve(number as u64 * 8, imm));
                }
            }
            _ => {}
        }
        offsets[R10] = Some(0);
    }
    // The kernel keeps the stack in slots of 8 bytes.
    read.own = read.own.next_multiple_of(8);
    read
}

fn immediate(bytes: &[u8]) -> i32 {
    bytes.try_into().map_or(0, i32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, to: u8, from: u8, offset: i16, imm: i32) -> Vec<u8> {
        let mut bytes = vec![code, from << 4 | to];
        bytes.extend(offset.to_le_bytes());
        bytes.extend(imm.to_le_bytes());
        bytes
    }

    fn depth(instructions: &[Vec<u8>]) -> u32 {
        function(&instructions.concat(), |_, _| None).own
    }

    #[test]
    fn the_deepest_byte_that_is_reached_counts() {
        let store = |offset| instruction(0x7b, 10, 1, offset, 0);
        let load = |offset| instruction(0x79, 1, 10, offset, 0);
        let copy = |to, from| instruction(0xbf, to, from, 0, 0);
        let add = |to, imm| instruction(0x07, to, 0, 0, imm);
        let atomic = |to, offset| instruction(0xdb, to, 1, offset, 0);
        for (what, instructions, expected) in [
            ("nothing", vec![instruction(0x95, 0, 0, 0, 0)], 0),
            ("a store", vec![store(-8), store(-24), store(-16)], 24),
            ("a constant stored", vec![instruction(0x62, 10, 0, -12, 7)], 16),
            ("a load", vec![load(-40)], 40),
            ("the address of a buffer", vec![copy(2, 10), add(2, -64)], 64),
            ("an address that is moved on", vec![copy(2, 10), add(2, -64), copy(3, 2), add(3, -8)], 72),
            ("a store through an address", vec![copy(2, 10), add(2, -64), atomic(2, -16)], 80),
            ("another register's memory", vec![atomic(2, -400), instruction(0x79, 1, 2, -400, 0)], 0),
            (
                "a register that is something else since",
                vec![copy(2, 10), instruction(0xb7, 2, 0, 0, 9), add(2, -99)],
                0,
            ),
            ("one that a call has taken", vec![copy(2, 10), instruction(0x85, 0, 0, 0, 1), add(2, -99)], 0),
        ] {
            assert_eq!(depth(&instructions), expected, "{what}");
        }
    }

    #[test]
    fn a_call_adds_the_deepest_callee_and_endless_calls_are_a_fault() {
        let at = |number: u64| (1, number);
        let place =
            |own, calls: &[u64]| Function { own, calls: calls.iter().map(|number| at(*number)).collect() };
        let functions = BTreeMap::from([
            (at(0), place(100, &[8, 16])),
            (at(8), place(8, &[])),
            (at(16), place(16, &[24])),
            (at(24), place(24, &[])),
        ]);
        assert_eq!(chain(&functions, at(0), FRAMES_MAX).ok(), Some(140));
        assert!(chain(&BTreeMap::from([(at(0), place(8, &[0]))]), at(0), FRAMES_MAX).is_err());
        assert!(chain(&BTreeMap::from([(at(0), place(8, &[8]))]), at(0), FRAMES_MAX).is_err());
    }

    #[test]
    fn every_program_of_the_object_has_a_stack_that_the_kernel_accepts() -> Result<()> {
        let depths = depths(erdp::dataplane::aya::object())?;
        assert_eq!(
            depths.keys().collect::<Vec<_>>(),
            ["erdp", "erdp_bfd", "erdp_dropped", "erdp_redirect_err", "erdp_xmit"]
        );
        assert!(depths.values().all(|depth| *depth > 0 && *depth <= 512), "{depths:?}");
        Ok(())
    }
}
