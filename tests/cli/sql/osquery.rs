//! Tests queries that were written for osquery.

use pmon_core::capture::Credentials;

use super::*;

/// Returns details of an exec by a user, with a working directory and a cgroup.
fn run(us: u64, (pid, ppid): (u32, u32), name: &str, args: &[u8]) -> Record<'static> {
    let Record::Details(details) = details(us, pid, name, args) else { unreachable!("details") };
    let ids = Some(Credentials { uid: 33, euid: 33, gid: 33, egid: 33 });
    let cgroup = Some(b"0::/system.slice/cron.service".to_vec());
    let ppid = Some(ppid);
    Record::Details(Box::new(Details { ppid, ids, cwd: Some(b"/tmp".to_vec()), cgroup, ..*details }))
}

/// Returns the exit of a child of the shell.
fn ended(us: u64, seq: u32, pid: u32) -> Record<'static> {
    let (task, parent) = (Task::new(pid, pid), Some(Task::new(20, 20)));
    event(us, 0, seq, EventBody::Exit { task, code: 0, signal: 17, parent })
}

/// A daemon starts a shell, which starts `curl` and `ls`.
fn downloads() -> Vec<Record<'static>> {
    vec![
        scanned(10, 1, "cron"),
        scan_end(),
        fork(500, 1, 10, (20, 20)),
        exec(1_000, 2, 20),
        run(1_000, (20, 10), "sh", b"sh\0-c\0curl -s x; ls\0"),
        fork(1_500, 3, 20, (21, 21)),
        exec(2_000, 4, 21),
        run(2_000, (21, 20), "curl", b"curl\0-s\0x\0"),
        ended(3_000, 5, 21),
        fork(3_500, 6, 20, (22, 22)),
        exec(4_000, 7, 22),
        run(4_000, (22, 20), "ls", b"ls\0"),
        ended(5_000, 8, 22),
        end(3_000_000, 8),
    ]
}

#[test]
fn queries_for_osquery_run_on_the_views() {
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "20000"]);
    let execs = pmon(&["sql", &file, "--format", "line", "SELECT count(*) FROM execs"]).expect(0).out;
    let execs: u64 = execs.trim().parse().expect("a number");
    // The idioms of published query packs: strings in double quotes, text compared with numbers,
    // arithmetic with the time, and each column of osquery's tables.
    for (sql, expected) in [
        ("SELECT count(*) FROM process_events WHERE syscall = \"execve\"", execs),
        ("SELECT count(*) FROM process_events WHERE time > (strftime('%s', 'now') - 300)", 0),
        ("SELECT count(*) FROM process_events WHERE time < strftime('%s', 'now') AND uptime > 0", execs),
        ("SELECT count(*) FROM process_events WHERE cmdline LIKE '%' AND cmdline_size > 0", execs),
        ("SELECT count(*) FROM process_events WHERE auid = 4294967295 OR auid < 100000", execs),
        ("SELECT count(DISTINCT eid) FROM process_events", execs),
        ("SELECT count(*) FROM process_events p JOIN process_events c ON c.parent = p.pid WHERE 0", 0),
        (
            "SELECT count(*) FROM bpf_process_events WHERE syscall LIKE 'exec%' AND CAST(exit_code AS INTEGER) >= 0",
            execs,
        ),
        ("SELECT count(*) FROM bpf_process_events WHERE exit_code = 0 AND probe_error = 0", execs),
        (
            "SELECT count(*) FROM bpf_process_events WHERE json_extract(json_cmdline, '$[0]') IS NOT NULL",
            execs,
        ),
        ("SELECT count(*) FROM bpf_process_events WHERE ntime > '0' AND time > 0 AND tid = pid", execs),
        (
            "SELECT count(mode) + count(env) + count(env_count) + count(env_size) + count(owner_uid) + count(owner_gid) \
          + count(atime) + count(mtime) + count(ctime) + count(btime) + count(overflows) + count(fsuid) \
          + count(suid) + count(fsgid) + count(sgid) FROM process_events",
            0,
        ),
        (
            "SELECT count(*) FROM (SELECT pid, path, cmdline, cwd, uid, euid, gid, egid, parent FROM process_events) \
          WHERE path LIKE '/%'",
            execs,
        ),
        ("SELECT count(cid) + count(duration) FROM bpf_process_events", 0),
    ] {
        let ran = pmon(&["sql", &file, "--format", "line", sql]).expect(0);
        assert_eq!(ran.out.trim(), expected.to_string(), "{sql}");
    }
}

/// Queries in the forms of published ones: joins of starts with the running processes for the
/// parent and its parent, tables of helpers, functions, and aggregates. With each, its rows in the
/// order of the columns, whose names begin with letters in that order.
const QUERIES: &[(&str, &str)] = &[
    (
        "SELECT pe.path AS a, pe.cmdline AS b, p.name AS c, p.path AS d, p.cmdline AS e, p.uid AS f, p.cwd AS g \
         FROM process_events pe LEFT JOIN processes p ON pe.parent = p.pid WHERE pe.path LIKE '%/curl'",
        "/usr/bin/curl|curl -s x|sh|/usr/bin/sh|sh -c curl -s x; ls|33|/tmp",
    ),
    (
        "SELECT b.path AS a, p.name AS b, p.parent AS c FROM bpf_process_events b JOIN processes p ON p.pid = b.parent \
         WHERE b.cmdline LIKE '%-s x' AND b.exit_code = 0",
        "/usr/bin/curl|sh|10",
    ),
    (
        "SELECT REGEX_MATCH(pe.path, '.*/(.*)', 1) AS a, TRIM(COALESCE(p1.cmdline, pe1.cmdline)) AS b, \
         REGEX_MATCH(COALESCE(p1.path, pe1.path), '.*/(.*)', 1) AS c, COALESCE(p1_p2.name, pe1_p2.name) AS d, \
         p.cgroup_path AS e, h1.sha256 AS f \
         FROM process_events pe, uptime \
         LEFT JOIN processes p ON pe.pid = p.pid \
         LEFT JOIN processes p1 ON pe.parent = p1.pid \
         LEFT JOIN hash h1 ON p1.path = h1.path \
         LEFT JOIN process_events pe1 ON pe.parent = pe1.pid AND pe1.cmdline != '' \
         LEFT JOIN processes p1_p2 ON p1.parent = p1_p2.pid \
         LEFT JOIN processes pe1_p2 ON pe1.parent = pe1_p2.pid \
         WHERE uptime.total_seconds >= 0 AND pe.path IN ('/usr/bin/curl', '/bin/curl') \
         AND NOT (pe.euid > 500 AND c IN ('bash', 'fish')) GROUP BY pe.pid",
        "curl|sh -c curl -s x; ls|sh|cron|/system.slice/cron.service|null",
    ),
    (
        "SELECT IIF(pp.path IS NOT NULL, pp.path, ppe.path) AS a, CONCAT(REGEX_MATCH(pe.path, '.*/(.*)', 1), ',', MIN(pe.euid, 500)) AS b \
         FROM process_events pe LEFT JOIN processes pp ON pe.parent = pp.pid \
         LEFT JOIN process_events ppe ON pe.parent = ppe.pid WHERE b = 'ls,33'",
        "/usr/bin/sh|ls,33",
    ),
    (
        "SELECT DISTINCT(processes.pid) AS a, processes.parent AS b, processes.root AS c, \
         (SELECT cmdline FROM processes AS parents WHERE pid = processes.parent) AS d \
         FROM processes JOIN hash USING (path) WHERE (name = 'curl' OR name = 'wget') AND hash.md5 IS NULL",
        "21|20|null|sh -c curl -s x; ls",
    ),
    ("SELECT count(*) AS a FROM (SELECT name, path, cmdline, cwd, on_disk, state, nice FROM processes)", "4"),
    (
        "SELECT ((own * 100) / (SUM(system_time) + SUM(user_time))) AS a \
         FROM processes, (SELECT SUM(processes.user_time) AS own FROM processes WHERE name = 'sh')",
        "null",
    ),
    (
        "SELECT name AS a, pgroup AS b FROM processes WHERE resident_size IS NULL AND disk_bytes_read IS NULL \
         AND SPLIT(cgroup_path, '/', 1) = 'cron.service' AND name = \"sh\"",
        "sh|null",
    ),
    (
        "SELECT DATETIME(p.start_time, 'unixepoch') = DATETIME(pe.time, 'unixepoch') AS a, pe.time - p.start_time AS b, \
         p.start_time > (STRFTIME('%s', 'now') - 300) AS c \
         FROM process_events pe JOIN processes p USING (pid) WHERE p.name = 'ls'",
        "1|0|0",
    ),
];

#[test]
fn published_queries_that_join_processes_run_unchanged() {
    let fixture = fixture(&downloads());
    for (sql, expected) in QUERIES {
        let line = ["sql", &fixture.file, "--osquery", "--format", "json", sql];
        let rows = pmon(&line).expect(0).json_lines();
        let values = rows.iter().flat_map(|row| row.as_object().expect("an object").values());
        let values: Vec<_> = values.map(|value| value.to_string().replace('"', "")).collect();
        assert_eq!(values.join("|"), *expected, "{sql}");
    }
}

#[test]
fn the_columns_of_osquery_are_hidden_and_agree_with_those_of_pmon() {
    let fixture = fixture(&downloads());
    let row = &fixture.rows("SELECT * FROM processes LIMIT 1")[0];
    for hidden in ["path", "name", "cmdline", "parent", "cgroup_path", "nice"] {
        assert!(!row.as_object().expect("an object").contains_key(hidden), "{hidden}");
    }
    let differ = "SELECT count(*) FROM processes WHERE path IS NOT coalesce(exe, filename) OR name IS NOT comm \
                  OR cmdline IS NOT cmdline(args) OR parent IS NOT ppid OR pgroup IS NOT process_group \
                  OR '0::' || cgroup_path IS NOT cgroup OR user_time IS NOT user_ns / 1000000 \
                  OR system_time IS NOT system_ns / 1000000 OR resident_size IS NOT max_rss_bytes \
                  OR disk_bytes_read IS NOT read_bytes OR disk_bytes_written IS NOT write_bytes";
    assert_eq!(fixture.value(differ), "0");
    let dir = Dir::new();
    let file = synthetic(&dir, &["-n", "5000"]);
    assert_eq!(pmon(&["sql", &file, "--format", "line", differ]).expect(0).out, "0\n");
    // A join looks rows up by a hidden column, and groups by one.
    let joined = "SELECT count(*) FROM processes a JOIN processes b ON a.path = b.exe AND a.pid = b.pid";
    assert_eq!(fixture.value(joined), "3");
    let grouped =
        "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM processes GROUP BY disk_bytes_written, nice)";
    assert_eq!(fixture.value(grouped), "4");
}

#[test]
fn start_time_is_a_text_unless_a_query_is_for_osquery() {
    let fixture = fixture(&downloads());
    let sql = "SELECT typeof(start_time) FROM processes WHERE pid = 22";
    assert_eq!(fixture.value(sql), "text");
    let seconds = "SELECT start_time - start_time_ns / 1000000000 FROM processes WHERE pid = 22";
    let ran = pmon(&["sql", &fixture.file, "--osquery", "--format", "line", seconds]).expect(0);
    assert_eq!(ran.out, "0\n");
}

#[test]
fn the_helper_views_have_what_a_recording_knows() {
    let fixture = fixture(&downloads());
    assert_eq!(fixture.value("SELECT count(*) FROM hash"), "3");
    assert_eq!(fixture.value("SELECT count(*) FROM execs LEFT JOIN hash h ON h.path = exe"), "3");
    assert_eq!(fixture.value("SELECT count(md5) + count(sha1) + count(sha256) FROM hash"), "0");
    let last = "SELECT total_seconds = (SELECT max(mono_ns) / 1000000000 FROM events) FROM uptime";
    assert_eq!(fixture.value(last), "1");
    let parts = "SELECT ((days * 24 + hours) * 60 + minutes) * 60 + seconds = total_seconds FROM uptime";
    assert_eq!(fixture.value(parts), "1");
}

#[test]
fn an_unknown_table_is_refused_with_the_names_of_all_tables() {
    let fixture = fixture(&downloads());
    let ran = pmon(&["sql", &fixture.file, "SELECT * FROM file_events"]).expect(2);
    let expected = "no such table: file_events; the tables are processes, execs, ";
    assert!(ran.err.contains(expected), "{}", ran.err);
    let (_, names) = ran.err.trim_end().split_once("the tables are ").expect("names");
    for name in names.split(", at: ").next().expect("names").split(", ") {
        pmon(&["sql", &fixture.file, &format!("SELECT count(*) FROM {name}")]).expect(0);
    }
}
