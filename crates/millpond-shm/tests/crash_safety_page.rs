//! `docs/crash-safety.md` explains every crash point there is, once, and none that is gone.

use millpond_shm::crash_point;
use std::path::Path;

#[test]
fn the_page_explains_every_crash_point() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/crash-safety.md");
    let page = std::fs::read_to_string(&path).expect("docs/crash-safety.md");
    let first_column = |line: &str| Some(line.strip_prefix("| ")?.split_once(" | ")?.0.to_owned());
    let explained: Vec<String> =
        page.lines().filter_map(first_column).filter(|name| name != "killed there").collect();
    for (point, name) in crash_point::ALL {
        let times = explained.iter().filter(|e| e == name).count();
        assert_eq!(times, 1, "docs/crash-safety.md: {point:?} is to have one row that begins `| {name} |`");
    }
    for row in explained {
        assert!(
            crash_point::ALL.iter().any(|(_, name)| *name == row),
            "docs/crash-safety.md: there is no crash point `{row}`"
        );
    }
}
