//! What xtask prints. A reader that goes (`cargo xtask test | head`) ends nothing but the printing: `std`'s macros would panic in the middle
//! of a run, and what it has brought up would stay. As `erdp`'s own commands do it; xtask depends on none of the other crates.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write as _},
    process,
};

/// As `std`'s, without its panic.
macro_rules! println {
    () => { $crate::out::write(format_args!("\n")) };
    ($($text:tt)*) => { $crate::out::write(format_args!("{}\n", format_args!($($text)*))) };
}

/// As `std`'s, without its panic.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::out::write_error(format_args!("{}\n", format_args!($($text)*))) };
}

/// Writes to standard output. Anything but a reader that has gone, a full disk for instance, ends the run with an error.
pub fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            write_error(format_args!("error: standard output: {error}\n"));
            process::exit(1);
        }
        _ => {}
    }
}

/// Writes to standard error. Where that fails there is nobody to be told.
pub fn write_error(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}
