//! Writing results to standard output.

use std::io::{ErrorKind, Write as _, stdout};

/// Writes `text` to standard output. A reader that went away (`millpond ps | head -1`) is not a failure.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> std::io::Result<()> {
    print_while_read(text).map(drop)
}

/// As [`print`]; false if the reader went away.
///
/// # Errors
/// See [`print`].
pub fn print_while_read(text: &str) -> std::io::Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let problem = format!("cannot write to standard output: {error}");
            Err(std::io::Error::new(error.kind(), problem))
        }
        Ok(()) => Ok(true),
    }
}

/// Writes `value` as one pretty-printed JSON document.
///
/// # Errors
/// See [`print`].
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}
