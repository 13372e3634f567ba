//! Speaking to the terminal. One that is gone is no reason to stop: what was paid for is paid for.

/// A line to standard output.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

/// A part of a line to standard output, shown at once.
macro_rules! say_part {
    ($($text:tt)*) => {{
        use std::io::Write;
        let mut stdout = std::io::stdout();
        // Nobody may be there to read it.
        let _ = write!(stdout, $($text)*).and_then(|()| stdout.flush());
    }};
}

/// A line to standard error.
macro_rules! warn_person {
    ($($text:tt)*) => {{
        use std::io::Write;
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
