//! The frame as XDP gives it: the only place of this program where packet bytes are touched.
//!
//! Each access loads `data` and `data_end` anew and compares, because the verifier forgets every packet pointer when the
//! front is moved, and a variable offset gives each window a bound of its own.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, generated::bpf_probe_read_kernel},
    programs::XdpContext,
};
use erdp_common::{
    abi::{TRACE_MAGIC, Trace},
    packet::{OFFSET_MAX, Packet, WINDOW_MIN, Window},
};

/// The frame of an XDP context.
pub struct Frame<'c> {
    ctx: &'c XdpContext,
}

impl<'c> Frame<'c> {
    /// The frame that this run of the program is about.
    #[inline(always)]
    pub fn new(ctx: &'c XdpContext) -> Self {
        Self { ctx }
    }

    /// Whether the metadata area holds a question. Drivers leave it empty: one comparison tells.
    #[inline(always)]
    pub fn is_question(&mut self) -> bool {
        self.ctx.metadata() < self.ctx.data()
            && self.metadata::<Trace>().is_some_and(|trace| trace.magic == TRACE_MAGIC)
    }

    /// The start of the metadata area.
    #[inline(always)]
    pub fn metadata<T: Window>(&mut self) -> Option<&mut T> {
        let start = self.ctx.metadata();
        if start + size_of::<T>() > self.ctx.data() {
            return None;
        }
        // SAFETY: the bytes are inside the metadata area by the comparison above, which the verifier checks again; `Window`
        // allows every bit pattern; the exclusive borrow of the frame keeps other accesses away.
        Some(unsafe { &mut *(start as *mut T) })
    }

    /// Copies the front of the frame, of any length, and answers how many bytes; 0 when the kernel is locked down. Not for the
    /// packet path: a helper that copies is slow, and takes a length that is not known before.
    #[inline(always)]
    pub fn copy_front<const N: usize>(&self, to: &mut [u8; N]) -> u16 {
        let len = (self.ctx.data_end() - self.ctx.data()).min(N);
        // SAFETY: at most N bytes are written; those that are read lie between data and data_end, and the helper checks them.
        let failed =
            unsafe { bpf_probe_read_kernel(to.as_mut_ptr().cast(), len as u32, self.ctx.data() as *const _) };
        if failed == 0 { len as u16 } else { 0 }
    }

    #[inline(always)]
    fn window<T>(&self, at: usize) -> Option<*mut T> {
        const { assert!(size_of::<T>() >= WINDOW_MIN) };
        if at > OFFSET_MAX {
            return None;
        }
        let start = self.ctx.data() + at;
        (start + size_of::<T>() <= self.ctx.data_end()).then_some(start as *mut T)
    }
}

impl Packet for Frame<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.data_end() - self.ctx.data()
    }

    #[inline(always)]
    fn read<T: Window>(&self, at: usize) -> Option<T> {
        // SAFETY: `window` has compared the end with data_end; `Window` allows every bit pattern; no alignment is assumed.
        self.window::<T>(at).map(|window| unsafe { window.read_unaligned() })
    }

    #[inline(always)]
    fn write<T: Window>(&mut self, at: usize, value: T) -> Option<()> {
        // SAFETY: as in `read`; the frame is borrowed exclusively.
        self.window::<T>(at).map(|window| unsafe { window.write_unaligned(value) })
    }

    #[inline(always)]
    fn cut_to(&mut self, len: usize) -> Option<()> {
        // Opaque, or the compiler would subtract packet pointers in 32 bits, which the verifier refuses.
        let surplus = core::hint::black_box(self.len()).checked_sub(len)?;
        // SAFETY: the context is the one the kernel has called us with.
        (unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, -(surplus as i32)) } == 0).then_some(())
    }

    #[inline(always)]
    fn cut_front(&mut self, bytes: i32) -> Option<()> {
        // SAFETY: the context is the one the kernel has called us with.
        (unsafe { bpf_xdp_adjust_head(self.ctx.ctx, bytes) } == 0).then_some(())
    }
}
