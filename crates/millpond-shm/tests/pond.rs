//! Ponds by name: made, found, listed, cleaned up; what is refused, and that nothing remains when everybody was killed.
//!
//! Most of it happens in children that have a rendezvous directory of their own and do what the parent tells them.

mod support;

use millpond_shm::{
    Buffer, ConnectionConfig, Error, Input, InputConfig, Monitor, Output, OutputConfig, Pond, PondConfig,
    PoolConfig, Role, Wait, clean, list,
};
use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use support::{Child, Parent, TemporaryDirectory, eventually, is_root, own_program, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "remote" => be_told(&parent),
        "cycles" => come_and_go(&parent),
        other => panic!("no scenario {other}"),
    }
}

fn small() -> PondConfig {
    PondConfig { pools: vec![PoolConfig::new(4096, 64)], table_slots: 64 }
}

/// Does what the parent says, one command a line, and says what came of it.
fn be_told(parent: &Parent) {
    let mut ponds: BTreeMap<String, Pond> = BTreeMap::new();
    parent.say("ready");
    loop {
        let line = parent.listen();
        let (command, name) = line.split_once(' ').unwrap_or((&line, ""));
        let done: Result<String, Error> = match command {
            "create" => Pond::create(name, &small(), Role::Block).map(|p| {
                ponds.insert(name.to_owned(), p);
                "made".to_owned()
            }),
            "attach" => Pond::attach(name, Role::Block).map(|p| {
                ponds.insert(name.to_owned(), p);
                "attached".to_owned()
            }),
            "leave" => {
                ponds.remove(name).expect("a pond to leave");
                Ok("left".to_owned())
            }
            "monitor" => Monitor::open(name).map(|m| format!("{} processes", m.snapshot().processes.len())),
            "list" => list().map(|l| {
                l.iter().map(|e| format!("{} {:?}", e.name, e.members)).collect::<Vec<_>>().join("; ")
            }),
            "clean" => clean().map(|names| names.join(" ")),
            "" => return,
            other => panic!("what is {other}?"),
        };
        // The variant's name, and the text for people, in one line.
        parent.say(&match done {
            Ok(text) => text,
            Err(e) => format!("{}: {e}", format!("{e:?}").split(' ').next().unwrap_or_default()),
        });
    }
}

/// A child whose ponds are found in `directory`.
fn remote(directory: &Path) -> Child {
    remote_by(Command::new(own_program()), directory)
}

fn remote_by(mut command: Command, directory: &Path) -> Child {
    command.env("MILLPOND_RUNTIME_DIR", directory);
    let mut child = Child::spawn_by(command, "remote", &[]);
    child.expect("ready");
    child
}

fn ask(child: &mut Child, command: &str) -> String {
    child.tell(command);
    child.line()
}

/// Asks for what must be refused: the error's variant and every one of `parts` of its text.
fn refused(child: &mut Child, command: &str, variant: &str, parts: &[&str]) {
    let answer = ask(child, command);
    println!("{command}: {answer}");
    assert!(answer.starts_with(&format!("{variant}:")), "{command} was answered {answer}");
    for part in parts {
        assert!(answer.contains(part), "{command}: no `{part}` in: {answer}");
    }
}

#[test]
fn a_pond_is_made_found_listed_and_left() {
    let directory = TemporaryDirectory::new();
    let mut maker = remote(&directory.0);
    let mut guest = remote(&directory.0);
    refused(
        &mut guest,
        "attach mill",
        "PondNotFound",
        &["`mill`", directory.0.to_str().unwrap(), "millpond ps"],
    );
    refused(&mut guest, "monitor mill", "PondNotFound", &["`mill`"]);
    assert_eq!(ask(&mut guest, "list"), "");
    assert_eq!(ask(&mut maker, "create mill"), "made");
    let pid = maker.pid.to_string();
    refused(&mut guest, "create mill", "PondExists", &["`mill`", &pid, "attach", "another name"]);
    refused(&mut maker, "create mill", "PondExists", &["`mill`", &pid]);
    assert_eq!(ask(&mut guest, "create weir"), "made");
    assert_eq!(ask(&mut guest, "attach mill"), "attached");
    assert_eq!(ask(&mut guest, "list"), format!("mill {:?}; weir {:?}", [maker.pid, guest.pid], [guest.pid]));
    assert_eq!(ask(&mut guest, "monitor mill"), "2 processes");

    // Whoever made it may leave: the pond lives on as long as anybody is in it.
    assert_eq!(ask(&mut maker, "leave mill"), "left");
    assert_eq!(ask(&mut maker, "list"), format!("mill {:?}; weir {:?}", [guest.pid], [guest.pid]));
    assert_eq!(ask(&mut maker, "attach mill"), "attached");
    assert_eq!(ask(&mut guest, "leave mill"), "left");
    assert_eq!(ask(&mut maker, "leave mill"), "left");
    refused(&mut maker, "attach mill", "PondNotFound", &["`mill`"]);
    assert_eq!(ask(&mut maker, "clean"), "", "leaving left something to clean");
    assert!(!directory.0.join("mill.pond").exists());
    assert_eq!(ask(&mut maker, "create mill"), "made");
}

#[test]
fn names_are_checked() {
    for (name, part) in [
        ("", "it is empty"),
        ("a/b", "`/` is not allowed"),
        ("../up", "use letters, digits, `-` and `_`"),
        ("m\u{fc}hle", "is not allowed"),
        ("with space", "` ` is not allowed"),
        (&"x".repeat(65), "65 bytes, at most 64"),
    ] {
        for error in [
            Pond::create(name, &small(), Role::Block).err().unwrap(),
            Pond::attach(name, Role::Block).err().unwrap(),
            Monitor::open(name).err().unwrap(),
        ] {
            assert!(matches!(error, Error::InvalidName { what: "pond", .. }), "{error:?}");
            assert!(error.to_string().contains(part), "no `{part}` in: {error}");
        }
    }
    let longest = format!("{}{}", unique_name("longest"), "x".repeat(64));
    let pond = Pond::create(&longest[..64], &small(), Role::Block).unwrap();
    assert_eq!(pond.name(), &longest[..64]);
    for port in ["gain", "gain.", ".out", "a.b.c", "a b.out"] {
        let error = pond.connect(port, "sink.in", &ConnectionConfig::default()).unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }), "{error:?}");
    }
}

#[test]
fn a_table_of_no_or_too_many_slots_is_refused() {
    for (table_slots, found) in [(0, "found 0"), ((1 << 26) + 1, "found 67108865")] {
        let config = PondConfig { pools: Vec::new(), table_slots };
        let error = Pond::create(&unique_name("slots"), &config, Role::Block).err().unwrap();
        assert!(error.to_string().contains(found) && error.to_string().contains("1 to 67108864"), "{error}");
    }
}

/// Inodes of every memory file of a pond that some process of this machine maps or has open.
fn memory_files(of: Option<u32>) -> BTreeSet<u64> {
    let mut inodes = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else { continue };
        if of.is_some_and(|p| p != pid) {
            continue;
        }
        for line in fs::read_to_string(process.path().join("maps")).unwrap_or_default().lines() {
            if line.contains("/memfd:millpond-") {
                inodes.extend(line.split_ascii_whitespace().nth(4).and_then(|i| i.parse::<u64>().ok()));
            }
        }
        for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(fd.path()).unwrap_or_default();
            if link.to_string_lossy().starts_with("/memfd:millpond-") {
                inodes.extend(fs::metadata(fd.path()).map(|m| m.ino()));
            }
        }
    }
    inodes
}

#[test]
fn sigkill_of_everybody_leaves_a_small_file_which_any_command_removes() {
    for command in ["list", "clean", "attach mill", "create mill", "monitor mill"] {
        let directory = TemporaryDirectory::new();
        let mut members: Vec<Child> = (0..4).map(|_| remote(&directory.0)).collect();
        assert_eq!(ask(&mut members[0], "create mill"), "made");
        for member in &mut members[1..] {
            assert_eq!(ask(member, "attach mill"), "attached");
        }
        let memory: BTreeSet<u64> = members.iter().flat_map(|m| memory_files(Some(m.pid))).collect();
        assert_eq!(memory.len(), 2, "one file for the tables, one for the data, shared by all");
        for member in &members {
            member.signal(rustix::process::Signal::KILL);
        }
        for member in &mut members {
            member.wait();
        }
        assert!(memory.is_disjoint(&memory_files(None)), "the memory outlived its processes");
        let left: Vec<_> = fs::read_dir(&directory.0).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert!(left[0].metadata().unwrap().len() < 1024);

        let mut tool = remote(&directory.0);
        match command {
            "list" => assert_eq!(ask(&mut tool, "list"), ""),
            "clean" => assert_eq!(ask(&mut tool, "clean"), "mill"),
            "create mill" => {
                assert_eq!(ask(&mut tool, "create mill"), "made");
                assert_eq!(ask(&mut tool, "leave mill"), "left");
            }
            _ => refused(&mut tool, command, "PondNotFound", &["`mill`"]),
        }
        assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0, "{command} left something");
    }
}

#[test]
fn what_a_killed_writer_of_the_file_left_is_removed() {
    let directory = TemporaryDirectory::new();
    let mut tool = remote(&directory.0);
    fs::write(directory.0.join(".mill.new"), "half").unwrap();
    assert_eq!(ask(&mut tool, "create mill"), "made");
    fs::write(directory.0.join(".weir.new"), "half").unwrap();
    assert_eq!(ask(&mut tool, "list"), format!("mill [{}]", tool.pid));
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 1);
}

/// A member that a crafted rendezvous file names: this process, with any descriptor as the control segment.
struct Impostor<'a> {
    directory: &'a TemporaryDirectory,
    control: i32,
    data: i32,
}

impl Impostor<'_> {
    fn write_file(&self, uuid: &str) {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let started = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().to_owned();
        write_file(
            &self.directory.0,
            uuid,
            &[&format!("{} {started} {} {}", std::process::id(), self.control, self.data)],
        );
    }
}

fn write_file(directory: &Path, uuid: &str, members: &[&str]) {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap().to_string_lossy().into_owned();
    let namespace = namespace.trim_start_matches("pid:[").trim_end_matches(']');
    let mut text = format!("millpond rendezvous 1\nuuid {uuid}\npid_namespace {namespace}\n");
    for member in members {
        text.push_str(&format!("member {member}\n"));
    }
    let path = directory.join("mill.pond");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn memfd(bytes: &[u8], length: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("foreign", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, length).unwrap();
    fs::File::from(fd.try_clone().unwrap()).write_all_at(bytes, 0).unwrap();
    fd
}

/// Both memory files of the only pond in `directory`, opened as whoever attaches opens them.
fn segments(directory: &Path) -> (fs::File, fs::File) {
    let text = fs::read_to_string(directory.join("mill.pond")).unwrap();
    let member = text.lines().find(|l| l.starts_with("member ")).unwrap();
    let words: Vec<&str> = member.split(' ').collect();
    let open = |fd: &str| {
        let path = format!("/proc/{}/fd/{fd}", words[1]);
        fs::OpenOptions::new().read(true).write(true).open(path).unwrap()
    };
    (open(words[3]), open(words[4]))
}

/// Offset of a field of the header, from the generated page.
fn header_field(name: &str) -> usize {
    let page = millpond_shm::layout::describe();
    let header = page.split("\n## ").find(|s| s.starts_with("Header ")).unwrap();
    let row = header.lines().find(|l| l.contains(&format!("| `{name}` |"))).unwrap();
    row.split('|').nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn foreign_and_torn_memory_is_refused() {
    let (home, directory) = (TemporaryDirectory::new(), TemporaryDirectory::new());
    let mut maker = remote(&home.0);
    assert_eq!(ask(&mut maker, "create mill"), "made");
    let (control, data) = segments(&home.0);
    let length = control.metadata().unwrap().len();
    let mut header = vec![0; 4096];
    control.read_exact_at(&mut header, 0).unwrap();
    let uuid: String = {
        let at =
            |i: usize| u64::from_le_bytes(header[header_field("uuid") + 8 * i..][..8].try_into().unwrap());
        format!("{:016x}{:016x}", at(0), at(1))
    };
    let changed = |field: &str, bytes: &[u8]| {
        let mut copy = header.clone();
        copy[header_field(field)..][..bytes.len()].copy_from_slice(bytes);
        memfd(&copy, length)
    };
    let mut tool = remote(&directory.0);
    let mut expect = |fd: &OwnedFd, what: &str, parts: &[&str]| {
        let impostor = Impostor { directory: &directory, control: fd.as_raw_fd(), data: data.as_raw_fd() };
        impostor.write_file(&uuid);
        for command in ["attach mill", "monitor mill"] {
            let mut all = vec!["`mill`", what, "expected", "found"];
            all.extend(parts);
            refused(&mut tool, command, "NotAPond", &all);
        }
        assert!(directory.0.join("mill.pond").exists(), "what may be somebody's was removed");
    };
    expect(&memfd(b"", 0), "size", &["found 0 bytes"]);
    expect(&memfd(b"hello", 5), "size", &["found 5 bytes"]);
    expect(&memfd(b"hello", 8192), "magic", &["0x6f6c6c6568"]);
    expect(&changed("magic", &[0; 8]), "magic", &["found 0x0"]);
    expect(&changed("layout_version", &999u32.to_le_bytes()), "layout version", &["found 999"]);
    expect(&changed("layout_hash", &0xabcu64.to_le_bytes()), "layout hash", &["this build", "found 0xabc"]);
    expect(&changed("table_slots", &0u32.to_le_bytes()), "size", &["0 slots"]);
    expect(&changed("table_slots", &u32::MAX.to_le_bytes()), "size", &["4294967295 slots"]);
    expect(&memfd(&header, 4096), "size", &["found 4096 bytes"]);
    expect(&changed("uuid", &[7; 16]), "uuid", &["07070707"]);
    // Right in every field, but it could be cut short under its users, who would die of SIGBUS.
    expect(&memfd(&header, length), "seals", &[]);
    let other_data = memfd(b"", 1 << 20);
    let (read_end, _write_end) = rustix::pipe::pipe().unwrap();
    for data in [other_data.as_raw_fd(), read_end.as_raw_fd()] {
        Impostor { directory: &directory, control: control.as_raw_fd(), data }.write_file(&uuid);
        refused(&mut tool, "attach mill", "NotAPond", &["seals"]);
    }
    // With the real memory the crafted file works: nothing but the memory was wrong.
    let impostor = Impostor { directory: &directory, control: control.as_raw_fd(), data: data.as_raw_fd() };
    impostor.write_file(&uuid);
    assert_eq!(ask(&mut tool, "attach mill"), "attached");
}

#[test]
fn a_member_that_is_something_else_by_now_does_not_hang_anybody() {
    let directory = TemporaryDirectory::new();
    let mut tool = remote(&directory.0);
    // A pipe that nobody writes to: a plain open for reading would wait for a writer.
    let (read_end, write_end) = rustix::pipe::pipe().unwrap();
    drop(write_end);
    let fd = read_end.as_raw_fd();
    for command in ["monitor mill", "attach mill"] {
        Impostor { directory: &directory, control: fd, data: fd }.write_file("00");
        let answer = ask(&mut tool, command);
        assert!(answer.starts_with("NotAPond:") || answer.starts_with("PondNotFound:"), "{answer}");
    }
    // A number that is no descriptor at all, and a process that is none.
    Impostor { directory: &directory, control: 9999, data: 9999 }.write_file("00");
    let answer = ask(&mut tool, "attach mill");
    println!("{answer}");
    write_file(&directory.0, "00", &["1234567890 1 3 4"]);
    assert_eq!(ask(&mut tool, "list"), "");
    assert!(!directory.0.join("mill.pond").exists(), "a dead pond's file stayed");
}

#[test]
fn a_later_process_with_the_same_pid_is_no_member() {
    let directory = TemporaryDirectory::new();
    let mut tool = remote(&directory.0);
    // This process, but started at another time: an earlier one had its pid.
    write_file(&directory.0, "00", &[&format!("{} 12345 3 4", std::process::id())]);
    refused(&mut tool, "attach mill", "PondNotFound", &["`mill`"]);
    assert!(!directory.0.join("mill.pond").exists());
}

#[test]
fn a_rendezvous_file_that_makes_no_sense_is_refused() {
    let directory = TemporaryDirectory::new();
    let mut tool = remote(&directory.0);
    let path = directory.0.join("mill.pond");
    for text in ["", "hello\n", "millpond rendezvous 2\n", "millpond rendezvous 1\nmember 1 two 3 4\n"] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for command in ["attach mill", "create mill"] {
            refused(&mut tool, command, "Rendezvous", &[path.to_str().unwrap(), "remove it"]);
        }
        // It stands in nobody else's way.
        assert_eq!(ask(&mut tool, "list"), "");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&mut tool, "attach mill", "Rendezvous", &["this user alone", "remove it"]);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    refused(&mut tool, "attach mill", "Rendezvous", &["remove it"]);
    fs::remove_file(&path).unwrap();
    assert_eq!(ask(&mut tool, "create mill"), "made");
}

#[test]
fn a_rendezvous_directory_that_is_not_this_users_alone_is_refused() {
    let directory = TemporaryDirectory::new();
    let inner = directory.0.join("ponds");
    let mut tool = remote(&inner);
    let shown = inner.to_str().unwrap().to_owned();
    assert_eq!(ask(&mut tool, "list"), "");
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700, "made owner-only");
    for mode in [0o755, 0o770, 0o701] {
        fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).unwrap();
        for command in ["list", "create mill", "attach mill"] {
            refused(&mut tool, command, "Rendezvous", &[&shown, "expected 700", "chmod 700"]);
        }
    }
    fs::remove_dir(&inner).unwrap();
    // A link planted in advance, even to a directory that would be fine.
    let target = directory.0.join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&target, &inner).unwrap();
    refused(&mut tool, "create mill", "Rendezvous", &[&shown, "remove it"]);
    fs::remove_file(&inner).unwrap();
    fs::write(&inner, "a file").unwrap();
    refused(&mut tool, "create mill", "Rendezvous", &[&shown, "remove it"]);
    fs::remove_file(&inner).unwrap();
    if is_root("a rendezvous directory of another user") {
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&inner, Some(NOBODY), Some(NOBODY)).unwrap();
        refused(&mut tool, "create mill", "Rendezvous", &[&shown, "65534", "remove it"]);
        fs::remove_dir(&inner).unwrap();
    }
    let mut lost = remote(&directory.0.join("no/such/place"));
    refused(&mut lost, "create mill", "Rendezvous", &["no/such/place", "cannot be made"]);
    assert_eq!(ask(&mut tool, "create mill"), "made");
}

#[test]
fn who_keeps_the_rendezvous_locked_is_named() {
    let directory = TemporaryDirectory::new();
    let mut tool = remote(&directory.0);
    assert_eq!(ask(&mut tool, "create mill"), "made");
    let locked = fs::File::open(&directory.0).unwrap();
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let holder = format!("process {} has kept it locked", std::process::id());
    refused(
        &mut tool,
        "list",
        "Rendezvous",
        &[directory.0.to_str().unwrap(), &holder, "continue or kill it"],
    );
    drop(locked);
    assert!(ask(&mut tool, "list").starts_with("mill "));
}

const NOBODY: u32 = 65534;

#[test]
fn another_user_cannot_attach() {
    if !is_root("a process of another user") {
        return;
    }
    let ours = TemporaryDirectory::new();
    let mut maker = remote(&ours.0);
    assert_eq!(ask(&mut maker, "create mill"), "made");
    let (control, data) = segments(&ours.0);
    assert_eq!(control.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // The other user may run this program from a place that it can reach, and has a directory of its own.
    let theirs = TemporaryDirectory::new();
    fs::set_permissions(&theirs.0, fs::Permissions::from_mode(0o755)).unwrap();
    let program = theirs.0.join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let ponds = theirs.0.join("ponds");
    fs::create_dir(&ponds).unwrap();
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(&ponds, fs::Permissions::from_mode(0o700)).unwrap();
    own(&ponds);
    let start = |directory: &Path| {
        let mut command = Command::new(&program);
        command.uid(NOBODY).gid(NOBODY);
        remote_by(command, directory)
    };
    // Looking where our ponds are found is refused ...
    refused(&mut start(&ours.0), "attach mill", "Rendezvous", &[]);
    // ... and so is the memory itself, for one who knows its place without having to look.
    fs::copy(ours.0.join("mill.pond"), ponds.join("mill.pond")).unwrap();
    own(&ponds.join("mill.pond"));
    let mut child = start(&ponds);
    refused(&mut child, "attach mill", "System", &["`mill`", "ermission denied"]);
    refused(&mut child, "monitor mill", "System", &["ermission denied"]);
    // Nor can it signal: neither by the kernel's signals nor by the pipe that wakes a watcher.
    let pid = maker.pid;
    let try_it = format!("kill -0 {pid} || cat /proc/{pid}/maps || : > /proc/{pid}/fd/0");
    let tried = Command::new("/bin/sh").args(["-c", &try_it]).uid(NOBODY).gid(NOBODY).output().unwrap();
    let said = String::from_utf8_lossy(&tried.stderr);
    assert!(!tried.status.success(), "{said}");
    let refusals = said.lines().filter(|line| line.contains("not permitted") || line.contains("denied"));
    assert_eq!(refusals.count(), 3, "{said}");
    assert_eq!(ask(&mut maker, "list").lines().count(), 1, "and the pond goes on");
}

#[test]
fn another_pid_namespace_is_refused_with_a_clear_error() {
    if !is_root("a pid namespace") {
        return;
    }
    let directory = TemporaryDirectory::new();
    let mut maker = remote(&directory.0);
    assert_eq!(ask(&mut maker, "create mill"), "made");
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(own_program());
    let mut stranger = remote_by(unshare, &directory.0);
    let parts = ["`mill`", "pid namespace", "run both in one pid namespace", "mill.pond"];
    for command in ["attach mill", "monitor mill", "create mill"] {
        refused(&mut stranger, command, "PidNamespace", &parts);
    }
    // Not its pond to judge: neither listed nor removed.
    assert_eq!(ask(&mut stranger, "list"), "");
    assert_eq!(ask(&mut stranger, "clean"), "");
    assert_eq!(ask(&mut maker, "list"), format!("mill [{}]", maker.pid));
    // Its own ponds work inside.
    assert_eq!(ask(&mut stranger, "create inside"), "made");
    refused(&mut maker, "attach inside", "PidNamespace", &["`inside`"]);
}

struct Opened {
    threads: BTreeSet<String>,
    descriptors: usize,
    mappings: usize,
}

fn opened() -> Opened {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    Opened {
        threads: fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .map(|t| t.file_name().to_string_lossy().into_owned())
            .collect(),
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count(),
        mappings: maps.lines().filter(|l| l.contains("memfd:")).count(),
    }
}

fn use_once(pond: &Pond) {
    pond.connect("a.out", "b.in", &ConnectionConfig::default()).unwrap();
    let waiter = pond.waiter(Wait::Block).unwrap();
    let config = OutputConfig { waiter: Some(waiter.clone()), ..OutputConfig::default() };
    let mut out: Output = pond.output("a.out", &config).unwrap();
    let mut input: Input = pond.input("b.in", &InputConfig::default()).unwrap();
    let descriptor = waiter.event_fd().unwrap();
    let buffer = out.allocate(100).unwrap();
    out.send(buffer).unwrap();
    let buffer: Buffer = input.receive().unwrap();
    let kept = buffer.clone();
    drop((buffer, kept, descriptor));
}

/// Private memory of this process.
fn private_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

fn come_and_go(parent: &Parent) {
    let name = parent.get("pond");
    let rounds: u32 = parent.get("rounds").parse().unwrap();
    let mut settled_kib = 0;
    // Once before counting: what a process makes once and keeps (a page that tells forked children apart).
    for round in 0..=rounds {
        let before = opened();
        let pond = Pond::create(name, &small(), Role::Worker).unwrap();
        let guest = Pond::attach(name, Role::Block).unwrap();
        use_once(&pond);
        assert_eq!(list().unwrap().iter().filter(|e| e.name == name).count(), 1);
        drop(guest);
        drop(pond);
        if round > 0 {
            eventually("nothing is left open", || {
                let after = opened();
                after.threads == before.threads
                    && after.descriptors == before.descriptors
                    && after.mappings == before.mappings
            });
        }
        assert_eq!(opened().mappings, 0);
        eventually("the pond is gone", || list().unwrap().iter().all(|e| e.name != name));
        if round == rounds / 10 {
            settled_kib = private_kib();
        }
        if round % 20 == 0 {
            parent.say("going on");
        }
    }
    let grown_kib = private_kib().saturating_sub(settled_kib);
    assert!(grown_kib < 1024, "{grown_kib} KiB grown in {rounds} rounds");
    parent.say("done");
}

#[test]
fn coming_and_going_leaves_nothing_behind() {
    let directory = TemporaryDirectory::new();
    let name = unique_name("cycles");
    // `MILLPOND_CYCLES=10000` takes some minutes.
    let rounds = std::env::var("MILLPOND_CYCLES").unwrap_or_else(|_| "20".to_owned());
    let mut command = Command::new(own_program());
    command.env("MILLPOND_RUNTIME_DIR", &directory.0);
    let mut child = Child::spawn_by(command, "cycles", &[("pond", &name), ("rounds", &rounds)]);
    let last = std::iter::repeat_with(|| child.line()).find(|line| line != "going on");
    assert_eq!(last.as_deref(), Some("done"));
    assert!(child.wait().success());
    assert_eq!(fs::read_dir(&directory.0).unwrap().count(), 0);
}

#[test]
fn memory_is_sealed_against_shrinking() {
    let directory = TemporaryDirectory::new();
    let mut maker = remote(&directory.0);
    assert_eq!(ask(&mut maker, "create mill"), "made");
    let (control, data) = segments(&directory.0);
    for file in [&control, &data] {
        assert!(rustix::fs::fcntl_get_seals(file).unwrap().contains(SealFlags::SHRINK));
    }
}
