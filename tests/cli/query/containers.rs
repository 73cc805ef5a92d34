//! Tests how the names of containers are shown and selected.

use super::*;

/// Returns details of a program in a container, with the names that the recorder has read.
fn named(record: Record<'static>, names: &[u8]) -> Record<'static> {
    let Record::Details(details) = in_cgroup(record, &format!("0::/system.slice/docker-{CONTAINER}.scope"))
    else {
        unreachable!("details")
    };
    Record::Details(Box::new(Details { container: Some(names.to_vec()), ..*details }))
}

/// A container whose shell starts `ls`, one with hostile names, and a process without a container.
fn containers() -> Vec<Record<'static>> {
    let other = CONTAINER.replace('4', "5");
    let hostile = in_cgroup(details(3_000_500, 23, "rm", b"rm\0"), &format!("0::/docker/{other}"));
    let Record::Details(hostile) = hostile else { unreachable!("details") };
    let hostile = Details { container: Some(b"\x1b[2J'\"\xff\0\0\0\n\0".to_vec()), ..*hostile };
    vec![
        found(1, 0, "/sbin/init splash", 100),
        found(10, 1, "sh", 50_000),
        scan(0, 2, SnapshotReason::Start),
        fork(1_000_000, 1, 10, (20, 20)),
        exec(1_000_500, 2, 20),
        named(details(1_000_500, 20, "sh", b"sh\0-c\0ls\0"), b"web\0web-0\0shop\0nginx:1\0"),
        fork(2_000_000, 3, 20, (21, 21)),
        exec(2_000_500, 4, 21),
        in_cgroup(
            details(2_000_500, 21, "ls", b"ls\0"),
            &format!("0::/system.slice/docker-{CONTAINER}.scope"),
        ),
        exit(2_100_000, 5, (21, 21), 0),
        fork(3_000_000, 6, 10, (23, 23)),
        exec(3_000_500, 7, 23),
        Record::Details(Box::new(hostile)),
        exit(3_100_000, 8, (23, 23), 0),
        end(6_000_000, 8),
    ]
}

fn fixture() -> (Dir, String) {
    let dir = Dir::new();
    let file = dir.file("x.pmon", &ticking_capture(&containers()));
    (dir, file)
}

#[test]
fn every_output_shows_the_names() {
    let (_dir, file) = fixture();
    let names = |line: &Value| ["container", "pod", "namespace", "image"].map(|name| line[name].clone());
    let expected = ["web", "web-0", "shop", "nginx:1"].map(Value::from);
    // The names of the exec are those of the process and of its children.
    let find =
        |pid: &str| pmon(&["find", &file, "", "--pid", pid, "--json"]).expect(0).json_lines()[0].clone();
    for pid in ["20", "21"] {
        assert_eq!(names(&find(pid)), expected, "{pid}");
    }
    assert_eq!(names(&find("10")), [const { Value::Null }; 4]);
    let printed = pmon(&["print", &file, "--format", "json", "--pid", "21"]).expect(0).json_lines();
    let exit = printed.iter().find(|line| line["kind"] == "exit").expect("an exit");
    assert_eq!(names(exit), expected);
    let csv = pmon(&["print", &file, "--format", "csv", "--pid", "21", "--kind", "exit"]).expect(0).out;
    assert!(csv.ends_with(",web,web-0,shop,nginx:1\n"), "{csv}");
    let sql = |query: &str| pmon(&["sql", &file, "--format", "line", query]).expect(0).out;
    let query = "SELECT container || pod || namespace || image FROM TABLE WHERE pid = 21";
    for table in ["processes", "execs", "exits"] {
        assert_eq!(sql(&query.replace("TABLE", table)), "webweb-0shopnginx:1\n", "{table}");
    }
    let columns = "container,container_id,pod,namespace,image";
    let ps = |options: &[&str]| {
        pmon(&[&["ps", &file, "--at", "+2050ms", "-o", columns], options].concat()).expect(0).out
    };
    let line = format!("web {} web-0 shop nginx:1", &CONTAINER[..12]);
    let shown = ps(&["--pid", "21", "--no-headers"]);
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>().join(" "), line);
    let why = pmon(&["why", &file, "21"]).expect(0).out;
    assert!(why.contains("named web, pod web-0, namespace shop, image nginx:1"), "{why}");
}

#[test]
fn groups_by_container_have_its_name() {
    let (_dir, file) = fixture();
    let text = pmon(&["stats", &file, "--by", "container"]).expect(0).out;
    assert!(text.contains(&format!(" web {}\n", &CONTAINER[..12])), "{text}");
    let groups = pmon(&["stats", &file, "--by", "container", "--json"]).expect(0).json_lines();
    let group = groups.iter().find(|group| group["key"] == CONTAINER).expect("a group");
    assert_eq!((&group["container"], &group["count"]), (&"web".into(), &2.into()));
    let none =
        groups.iter().find(|group| group["kind"] == "group" && group["key"].is_null()).expect("a group");
    assert_eq!(none["container"], Value::Null);
}

#[test]
fn a_container_is_selected_by_its_name_or_the_first_digits_of_its_identifier() {
    let (dir, file) = fixture();
    for (container, expected) in
        [("web", "21 20"), ("4f79", "21 20"), ("we", ""), ("web-0", ""), ("nginx:1", "")]
    {
        let found = pmon(&["find", &file, "", "--container", container, "--json"]).expect(0).json_lines();
        let pids = found.iter().filter(|line| line["kind"] == "process").map(|line| line["pid"].to_string());
        assert_eq!(pids.collect::<Vec<_>>().join(" "), expected, "{container}");
    }
    let part = arg(&dir.path("part.pmon"));
    // The names are known from before the range.
    pmon(&[
        "cut",
        &file,
        "-q",
        "-o",
        &part,
        "--since",
        "+2050ms",
        "--until",
        "+2500ms",
        "--container",
        "web",
    ])
    .expect(0);
    let printed = pmon(&["print", &part, "--format", "json", "--kind", "exit"]).expect(0).json_lines();
    assert_eq!((printed.len(), &printed[0]["container"]), (1, &"web".into()));
    let all = arg(&dir.path("all.pmon"));
    pmon(&["cut", &file, "-q", "-o", &all, "--since", "+2050ms"]).expect(0);
    let found = pmon(&["find", &all, "sh", "--container", "web", "--json"]).expect(0).json_lines();
    assert_eq!((&found[0]["pid"], &found[0]["image"]), (&20.into(), &"nginx:1".into()));
}

#[test]
fn hostile_names_are_escaped() {
    let (_dir, file) = fixture();
    for line in [
        &["find", &file, "", "--pid", "23", "--json"][..],
        &["print", &file, "--format", "json"],
        &["print", &file, "--format", "csv"],
        &["print", &file],
        &["ps", &file, "--at", "+3050ms", "-o", "container,image,args"],
        &["why", &file, "23"],
        &["stats", &file, "--by", "container"],
        &["sql", &file, "SELECT container, image FROM processes"],
    ] {
        let out = pmon(line).expect(0).out;
        assert!(!out.bytes().any(|byte| byte != b'\n' && byte.is_ascii_control()), "{line:?}: {out:?}");
    }
}
