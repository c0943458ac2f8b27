//! What the commands print. A reader that goes (`erdp show routes | head`) ends nothing but the printing: `std`'s macros would panic.
//!
//! The macros here have the names of `std`'s and take their place in the whole binary, so that no call can be the one that was forgotten.
//! SIGPIPE stays ignored: it would also end a command whose daemon has gone, without a word.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write as _},
    process,
    sync::atomic::{AtomicBool, Ordering},
};

/// Nobody reads standard output any more.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// As `std`'s, without its panic.
macro_rules! print {
    ($($text:tt)*) => { $crate::out::write(format_args!($($text)*)) };
}

/// As `std`'s, without its panic.
macro_rules! println {
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `std`'s, without its panic.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::out::write_error(format_args!("{}\n", format_args!($($text)*))) };
}

/// Whether nobody reads any more: what is made only to be printed need not be made.
pub fn is_closed() -> bool {
    IS_CLOSED.load(Ordering::Relaxed)
}

/// Writes to standard output. Anything but a reader that has gone, a full disk for instance, ends the command with an error.
pub fn write(text: Arguments<'_>) {
    if is_closed() {
        return;
    }
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => IS_CLOSED.store(true, Ordering::Relaxed),
        Err(error) => {
            write_error(format_args!("error: standard output: {error}\n"));
            process::exit(1);
        }
    }
}

/// Writes to standard error. Where that fails there is nobody to be told.
pub fn write_error(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}
