//! `message-debug`: shows messages.

use std::fmt::Write as _;

use crate::prelude::*;

/// Shows each buffer as the text that it is, or its bytes in hexadecimal.
pub(super) struct MessageDebug;

/// Bytes of a message that are shown.
const SHOWN_BYTES: usize = 256;

impl Block for MessageDebug {
    fn spec() -> Spec {
        Spec::new("message-debug", "Shows each message: its text, or its bytes if it is no text")
            .details("Lines appear among the pipeline's messages; long messages are cut off after 256 bytes.")
            .example(
                r#"
connect = ["program -> lines"]
blocks.program = { type = "exec-source", command = "dmesg --follow" }
blocks.lines = { type = "message-debug" }
"#,
            )
            .input(Port::new("in", "any stream"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take("in")?;
        describe(buffer.as_bytes()).lines().for_each(|line| io.note(line));
        Ok(())
    }
}

fn describe(bytes: &[u8]) -> String {
    let (shown, cut) = (&bytes[..bytes.len().min(SHOWN_BYTES)], bytes.len() > SHOWN_BYTES);
    let is_shown = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let text = match std::str::from_utf8(shown) {
        // A character that is cut in two at the end is no reason to show bytes.
        Err(error) if cut && error.valid_up_to() + 4 > shown.len() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        text => text.ok(),
    };
    let mut line = match text.filter(|text| text.chars().all(is_shown)) {
        Some("") => "(empty)".to_owned(),
        Some(text) => text.trim_end_matches('\n').to_owned(),
        None => shown.iter().fold(String::new(), |mut line, byte| {
            let space = if line.is_empty() { "" } else { " " };
            let _ = write!(line, "{space}{byte:02x}");
            line
        }),
    };
    if cut {
        let _ = write!(line, " ... ({} bytes)", bytes.len());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn text_is_shown_as_text_and_bytes_as_bytes() {
        assert_eq!(describe("Grüße\n".as_bytes()), "Grüße");
        assert_eq!(describe(b""), "(empty)");
        assert_eq!(describe(&[0, 0x1f, 0xff]), "00 1f ff");
        assert_eq!(describe("ü".repeat(200).as_bytes()), format!("{} ... (400 bytes)", "ü".repeat(128)));
        assert_eq!(
            describe(format!("a{}", "ü".repeat(200)).as_bytes()),
            format!("a{} ... (401 bytes)", "ü".repeat(127))
        );
        let mut bench = Bench::of::<MessageDebug>(&[]).unwrap();
        bench.push("in", b"hello").unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
    }
}
