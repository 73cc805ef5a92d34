use std::sync::Mutex;
use std::time::{Duration, Instant};

use pmon_analysis::life::{ColumnType, ColumnValue};

use super::*;
use crate::table::{Bound, BoundOp, Scan, ScanError, ScanRequest, TableColumn};

const COLUMNS: [TableColumn; 5] = [
    TableColumn { name: "id", kind: ColumnType::Integer, doc: "", is_hidden: false },
    TableColumn { name: "parent", kind: ColumnType::Integer, doc: "", is_hidden: false },
    TableColumn { name: "name", kind: ColumnType::Text, doc: "", is_hidden: false },
    TableColumn { name: "time", kind: ColumnType::Timestamp, doc: "", is_hidden: false },
    TableColumn { name: "args", kind: ColumnType::TextList, doc: "", is_hidden: false },
];

/// A table of `rows` rows, which notes its scans.
#[derive(Clone)]
struct Numbers {
    rows: i64,
    scans: Arc<Mutex<Vec<ScanRequest>>>,
}

impl Table for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }

    fn columns(&self) -> &[TableColumn] {
        &COLUMNS
    }

    fn scan(&self, request: &ScanRequest) -> Result<Box<dyn Scan>, ScanError> {
        self.scans.lock().expect("no panic").push(request.clone());
        if self.rows < 0 {
            return Err("the table is gone".into());
        }
        Ok(Box::new(Rows { rows: self.rows, at: 0, bounds: request.bounds.clone() }))
    }
}

struct Rows {
    rows: i64,
    at: i64,
    bounds: Vec<Bound>,
}

impl Scan for Rows {
    fn advance(&mut self) -> Result<bool, ScanError> {
        loop {
            self.at += 1;
            let value = |column| if column == 0 { self.at } else { self.at / 10 };
            if self.at > self.rows || self.bounds.iter().all(|bound| bound.matches(value(bound.column))) {
                return Ok(self.at <= self.rows);
            }
        }
    }

    fn value(&self, column: usize) -> ColumnValue<'_> {
        match column {
            0 => ColumnValue::Integer(self.at),
            1 if self.at < 10 => ColumnValue::Null,
            1 => ColumnValue::Integer(self.at / 10),
            2 => ColumnValue::Text(format!("n{}\u{ff}", self.at % 10).into_bytes().into()),
            3 => ColumnValue::Timestamp(self.at),
            _ => ColumnValue::TextList(b"a b\0c\0"),
        }
    }
}

#[derive(Default)]
struct Collected(Vec<String>);

impl RowSink for Collected {
    type Error = ();

    fn begin(&mut self, columns: &[&str]) -> Result<(), ()> {
        self.0.push(format!("[{}]", columns.join(",")));
        Ok(())
    }

    fn row(&mut self, values: &[ValueRef<'_>]) -> Result<(), ()> {
        let values: Vec<_> = values
            .iter()
            .map(|value| match value {
                ValueRef::Null => "null".into(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
            })
            .collect();
        self.0.push(values.join("|"));
        Ok(())
    }

    fn end(&mut self) -> Result<(), ()> {
        Ok(())
    }
}

struct Fixture {
    database: Database,
    scans: Arc<Mutex<Vec<ScanRequest>>>,
    interruption: Arc<Interruption>,
}

fn fixture(rows: i64) -> Fixture {
    let scans = Arc::default();
    let interruption = Arc::new(Interruption::new());
    let table = Numbers { rows, scans: Arc::clone(&scans) };
    let view = "CREATE VIEW tens AS SELECT id / 10 AS ten FROM numbers WHERE id % 10 = 0;";
    let database = Database::open(vec![Box::new(table)], view, Arc::clone(&interruption)).expect("opens");
    Fixture { database, scans, interruption }
}

impl Fixture {
    fn rows(&self, sql: &str) -> Vec<String> {
        let mut rows = Collected::default();
        self.database.run(sql, &mut rows).unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.0
    }

    fn error(&self, sql: &str) -> (String, Option<usize>) {
        match self.database.run(sql, &mut Collected::default()) {
            Err(QueryError::Sql { message, position }) => (message, position),
            other => panic!("{sql}: {other:?}"),
        }
    }

    fn scans(&self) -> Vec<ScanRequest> {
        std::mem::take(&mut self.scans.lock().expect("no panic"))
    }
}

#[test]
fn values_have_their_types() {
    let fixture = fixture(1);
    assert_eq!(
        fixture.rows(
            "SELECT *, typeof(id), typeof(parent), typeof(name), args ->> 0, cmdline(args) FROM numbers"
        ),
        [
            "[id,parent,name,time,args,typeof(id),typeof(parent),typeof(name),args ->> 0,cmdline(args)]",
            "1|null|n1\u{ff}|1970-01-01T00:00:00.000000001Z|[\"a b\",\"c\"]|integer|null|text|a b|a b c",
        ]
    );
}

#[test]
fn conditions_on_integers_reach_the_scan() {
    let fixture = fixture(100);
    let bound = |op, value| Bound { column: 0, op, value };
    for (condition, bounds, rows) in [
        ("id = 7", vec![bound(BoundOp::Equal, 7)], 1),
        ("id > 95", vec![bound(BoundOp::AtLeast, 95)], 5),
        ("id >= 95 AND id < 97", vec![bound(BoundOp::AtLeast, 95), bound(BoundOp::AtMost, 97)], 2),
        ("id <= 2.5", vec![bound(BoundOp::AtMost, 3)], 2),
        ("id = '7'", vec![], 1),
        ("id IN (7, 8)", vec![], 2),
        ("id = 7 OR parent = 3", vec![], 11),
        ("id = NULL", vec![], 0),
        ("name = 'n1\u{ff}'", vec![], 10),
    ] {
        let found = fixture.rows(&format!("SELECT count(*) FROM numbers WHERE {condition}"));
        assert_eq!(found[1], rows.to_string(), "{condition}");
        // Each of these conditions needs one scan. Nothing is equal to null.
        let scans: Vec<_> = fixture.scans().into_iter().map(|request| request.bounds).collect();
        assert!(scans == [bounds] || condition == "id = NULL", "{condition}: {scans:?}");
    }
    fixture.rows("SELECT name FROM numbers");
    assert_eq!(fixture.scans()[0].used, 0b100);
}

#[test]
fn a_join_reads_each_table_at_most_twice() {
    let fixture = fixture(2000);
    for (sql, expected) in [
        ("SELECT count(*), sum(p.id) FROM numbers c JOIN numbers p ON p.id = c.parent", "1991|199200"),
        ("SELECT count(*), count(p.id) FROM numbers c LEFT JOIN numbers p ON p.id = c.parent", "2000|1991"),
        ("SELECT count(*), 1 FROM numbers a JOIN numbers b USING (name)", "400000|1"),
        ("SELECT sum((SELECT count(*) FROM numbers c WHERE c.parent = p.id)), 1 FROM numbers p", "1991|1"),
        ("SELECT count(*), 1 FROM numbers WHERE id IN (SELECT parent FROM numbers)", "200|1"),
        (
            "SELECT count(*), 1 FROM numbers p WHERE EXISTS (SELECT 1 FROM numbers c WHERE c.parent = p.id)",
            "200|1",
        ),
    ] {
        assert_eq!(fixture.rows(sql)[1], expected, "{sql}");
        let scans = fixture.scans().len();
        assert!(scans <= 3, "{scans} scans: {sql}");
    }
    // A value of another type is converted as SQLite does.
    assert_eq!(
        fixture.rows("SELECT count(*) FROM (SELECT '12' AS t UNION ALL SELECT '13') JOIN numbers ON id = t")
            [1],
        "2"
    );
    assert_eq!(fixture.rows("SELECT count(*) FROM (SELECT 'N1\u{ff}' AS t UNION ALL SELECT 'N2\u{ff}') JOIN numbers ON name = t COLLATE NOCASE")[1], "400");
}

#[test]
fn views_and_published_quotes_work() {
    let fixture = fixture(50);
    assert_eq!(fixture.rows("SELECT max(ten) FROM tens")[1], "5");
    assert_eq!(fixture.rows("SELECT count(*) FROM numbers WHERE name LIKE \"n3%\"")[1], "5");
    assert_eq!(fixture.rows("SELECT 1; SELECT 2;\n-- the end"), ["[1]", "1", "[2]", "2"]);
    assert_eq!(fixture.rows("PRAGMA table_info(numbers)").len(), 6);
    assert_eq!(fixture.rows("SELECT 1 WHERE 0"), ["[1]"]);
}

#[test]
fn functions_convert_values() {
    let fixture = fixture(1);
    let value = |sql: &str| fixture.rows(&format!("SELECT {sql}"))[1].clone();
    assert_eq!(value("iso(1700000000000000001)"), "2023-11-14T22:13:20.000000001Z");
    assert_eq!(value("iso(NULL)"), "null");
    assert_eq!(value("iso(1.5)"), "1970-01-01T00:00:00.000000001Z");
    assert_eq!(value("signal_name(9)"), "SIGKILL");
    assert_eq!(value("signal_name(-1)"), "null");
    assert_eq!(value("signal_name(300)"), "null");
    assert_eq!(value("basename('/usr/bin/ls')"), "ls");
    assert_eq!(value("basename('/usr/')"), "");
    assert_eq!(value("basename(NULL)"), "null");
    assert_eq!(value("cmdline('no json')"), "null");
    assert_eq!(value("'kworker/0:1' REGEXP '^kworker/\\d'"), "1");
    assert_eq!(value("regexp('b$', 'abc')"), "0");
    assert_eq!(value("regexp('x', NULL)"), "null");
    assert_eq!(value("'x' REGEXP NULL"), "null");
    assert_eq!(value("'a12' REGEXP 13"), "0");
    assert_eq!(value("'a12' REGEXP 12"), "1");
    assert_eq!(value("abs(ago('2 days') - (strftime('%s', 'now') - 172800) * 1000000000) < 5000000000"), "1");
    assert_eq!(value("ago('1h') - ago('90m')"), "1800000000000");
    for (sql, expected) in [
        ("regex_match('/usr/bin/ls', '.*/(.*)', 1)", "ls"),
        ("regex_match('/usr/bin/ls', '.*/(.*)', 0)", "/usr/bin/ls"),
        ("regex_match('/usr/bin/ls', '.*/(.*)', 2)", "null"),
        ("regex_match('/usr/bin/ls', '.*/(.*)', -1)", "null"),
        ("regex_match('ls', '.*/(.*)', 1)", "null"),
        ("regex_match(NULL, '.*/(.*)', 1)", "null"),
        ("regex_match('ls', NULL, 0)", "null"),
        ("hex(regex_match(CAST(x'2fff' AS TEXT), '/(?-u)(.)', 1))", "EFBFBD"),
        ("split('/usr//bin/ls', '/', 0)", "usr"),
        ("split('/usr//bin/ls', '/', 2)", "ls"),
        ("split('a, b;c', ',;', 1)", "b"),
        ("split('/usr', '/', 1)", "null"),
        ("split('/usr', '/', -1)", "null"),
        ("split(NULL, '/', 0)", "null"),
    ] {
        assert_eq!(value(sql), expected, "{sql}");
    }
    assert!(fixture.error("SELECT regex_match('a', '(', 0)").0.contains("unclosed group"));
    assert!(fixture.error("SELECT ago('yesterday')").0.contains("an example is ago('2 days')"));
    let wrong = fixture.error("SELECT regexp('(', 'a')").0;
    assert!(wrong.ends_with("no regular expression: unclosed group"), "{wrong}");
    assert!(fixture.error("SELECT regexp('(a{1000}){1000}', 'a')").0.contains("size limit"));
}

#[test]
fn nothing_can_be_changed_or_opened() {
    let fixture = fixture(1);
    for sql in [
        "CREATE TABLE t(x)",
        "CREATE TEMP TABLE t AS SELECT 1",
        "CREATE VIRTUAL TABLE t USING fts5(x)",
        "CREATE VIEW v AS SELECT 1",
        "DROP VIEW tens",
        "INSERT INTO numbers VALUES (1, 2, 3, 4, 5)",
        "DELETE FROM numbers",
        "UPDATE numbers SET id = 1",
        "ATTACH '/etc/passwd' AS p",
        "ATTACH ':memory:' AS p",
        "DETACH main",
        "VACUUM INTO '/tmp/pmon-sql-copy'",
        "PRAGMA hard_heap_limit = 0",
        "PRAGMA writable_schema = 1",
        "PRAGMA temp_store_directory = '/tmp'",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('/tmp/x.so')",
        "SELECT load_extension('/tmp/x.so') WHERE 0",
        "BEGIN",
        "ANALYZE",
    ] {
        let (message, _) = fixture.error(sql);
        let expected = [
            "not permitted",
            "may not be modified",
            "no such table: pragma_",
            "not authorized to use function",
        ];
        assert!(expected.iter().any(|expected| message.contains(expected)), "{sql}: {message}");
    }
    assert!(fixture.error("SELECT readfile('/etc/passwd')").0.contains("no such function"));
}

#[test]
fn a_mistake_has_its_position() {
    let fixture = fixture(1);
    assert_eq!(fixture.error("SELECT nme FROM numbers"), ("no such column: nme".into(), Some(7)));
    assert_eq!(fixture.error("SELECT 1; SELECT 2, x"), ("no such column: x".into(), Some(20)));
    assert_eq!(fixture.error("SELECT 1 FROM absent").0, "no such table: absent");
    assert!(fixture.error("SELECT ?1").0.contains("has a parameter"));
}

#[test]
fn an_error_of_a_scan_ends_the_query() {
    assert!(fixture(-1).error("SELECT * FROM numbers").0.contains("the table is gone"));
}

#[test]
fn a_query_without_an_end_is_interrupted() {
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let fixture = fixture(1);
    fixture.interruption.reset(Some(Instant::now() + Duration::from_millis(50)));
    let stopped = fixture.database.run(endless, &mut Collected::default());
    assert!(matches!(stopped, Err(QueryError::Stopped(StopReason::Deadline))), "{stopped:?}");
    fixture.interruption.reset(None);
    fixture.interruption.request();
    let stopped = fixture.database.run(endless, &mut Collected::default());
    assert!(matches!(stopped, Err(QueryError::Stopped(StopReason::Requested))), "{stopped:?}");
    fixture.interruption.reset(None);
    assert_eq!(fixture.rows("SELECT 1"), ["[1]", "1"]);
}

#[test]
fn a_statement_has_limits() {
    let fixture = fixture(1);
    let deep = format!("SELECT {}1{}", "(1+".repeat(600), ")".repeat(600));
    assert!(fixture.error(&deep).0.contains("tree is too large"), "{:?}", fixture.error(&deep));
    assert!(fixture.error("SELECT zeroblob(100000000)").0.contains("too big"));
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    assert!(fixture.error(&long).0.contains("too long"), "{:?}", fixture.error(&long));
}

/// The sign `+` makes SQLite group the rows itself.
#[test]
fn groups_are_those_that_sqlite_makes() {
    let fixture = fixture(500);
    for (grouped, by_sqlite) in [
        (
            "SELECT name, count(*), sum(id), min(time) FROM numbers GROUP BY name",
            "SELECT name, count(*), sum(id), min(time) FROM numbers GROUP BY +name",
        ),
        (
            "SELECT parent, name, group_concat(id) FROM numbers WHERE id % 3 = 0 AND id > 20 GROUP BY 1, 2",
            "SELECT parent, name, group_concat(id) FROM numbers WHERE id % 3 = 0 AND id > 20 GROUP BY +parent, +name",
        ),
        (
            "SELECT time, count(*) FROM numbers WHERE id > 9 GROUP BY parent, time HAVING time > '2' LIMIT 5",
            "SELECT time, count(*) FROM numbers WHERE id > 9 GROUP BY +parent, +time HAVING time > '2' LIMIT 5",
        ),
        (
            "SELECT name, count(*) FROM numbers GROUP BY name ORDER BY name DESC",
            "SELECT name, count(*) FROM numbers GROUP BY +name ORDER BY +name DESC",
        ),
        (
            "SELECT args, count(*) FROM numbers GROUP BY args",
            "SELECT args, count(*) FROM numbers GROUP BY +args",
        ),
        (
            "SELECT n.name, max(m.id) FROM numbers n, numbers m WHERE m.parent = n.id GROUP BY n.name",
            "SELECT n.name, max(m.id) FROM numbers n, numbers m WHERE m.parent = n.id GROUP BY +n.name",
        ),
        ("SELECT name FROM numbers GROUP BY name COLLATE nocase", "SELECT name FROM numbers GROUP BY +name"),
    ] {
        assert_eq!(fixture.rows(grouped)[1..], fixture.rows(by_sqlite)[1..], "{grouped}");
    }
    let plan = |sql: &str| fixture.rows(&format!("EXPLAIN QUERY PLAN {sql}")).join("\n");
    assert!(!plan("SELECT name, sum(id) FROM numbers GROUP BY name").contains("TEMP B-TREE"));
    assert!(plan("SELECT name, sum(id) FROM numbers GROUP BY +name").contains("TEMP B-TREE"));
}

#[test]
fn a_query_that_needs_too_much_memory_has_a_message_of_its_own() {
    let error = Error::SqliteFailure(rusqlite::ffi::Error::new(7), Some("out of memory".to_owned()));
    let QueryError::<()>::Sql { message, .. } = sql_error(&error, "") else { panic!("an error of SQL") };
    assert_eq!(message, "the query needs more than 1024 MiB");
}

#[test]
fn a_value_that_is_looked_up_once_bounds_the_scan() {
    let fixture = fixture(100);
    assert_eq!(fixture.rows("SELECT name FROM numbers WHERE id = (SELECT 7)")[1], "n7\u{ff}");
    let scans = fixture.scans();
    assert_eq!(scans.len(), 1, "{scans:?}");
    assert_eq!(scans[0].bounds, [Bound { column: 0, op: BoundOp::Equal, value: 7 }]);
}

#[test]
fn a_scan_for_an_index_or_for_groups_reads_the_key_columns() {
    let fixture = fixture(100);
    let join = "SELECT count(p.name) FROM numbers c JOIN numbers p ON p.id = c.parent";
    let used = |sql: &str| {
        fixture.rows(sql);
        fixture.scans().iter().map(|request| request.used).collect::<Vec<_>>()
    };
    // The first lookup has no index. Only a scan for the index has no bound.
    assert_eq!(used(join), [0b10, 0b101, 0b101]);
    // The index is not kept for the next query.
    assert_eq!(used(join), [0b10, 0b101, 0b101]);
    assert_eq!(used("SELECT count(*) FROM numbers GROUP BY name, parent"), [0b110]);
    assert_eq!(used("SELECT sum(id) FROM numbers GROUP BY id, id"), [0b1]);
}

#[test]
fn the_planner_prefers_integers_as_keys_and_begins_with_the_table_that_has_conditions() {
    let fixture = fixture(100);
    let plan = |sql: &str| fixture.rows(&format!("EXPLAIN QUERY PLAN {sql}"))[1..].join("\n");
    for (on, key) in [
        ("b.name = a.name AND b.id = a.id", " k0"),
        ("b.id = a.id AND b.name = a.name", " k0"),
        ("b.id = a.id AND b.parent = a.parent", " k0"),
        ("b.parent = a.parent AND b.id = a.id", " k1"),
    ] {
        let plan = plan(&format!("SELECT 1 FROM numbers a CROSS JOIN numbers b ON {on}"));
        assert!(plan.contains(key), "{on}: {plan}");
    }
    for (condition, first) in [("a.id > 5 AND a.id < 90", "SCAN a"), ("b.id > 5 AND b.id < 90", "SCAN b")] {
        let sql = format!("SELECT 1 FROM numbers a, numbers b WHERE a.name = b.name AND {condition}");
        let plan = plan(&sql);
        let begin = plan.find("SCAN").expect("a scan");
        assert!(plan[begin..].starts_with(first), "{condition}: {plan}");
    }
}

#[test]
fn rows_are_numbered_in_the_order_of_the_table() {
    let fixture = fixture(30);
    assert_eq!(fixture.rows("SELECT sum(rowid = id), sum(rowid) FROM numbers")[1], "30|465");
    let join = "SELECT count(*), sum(p.rowid = p.id) FROM numbers c JOIN numbers p ON p.id = c.parent";
    assert_eq!(fixture.rows(join)[1], "21|21");
    let grouped = "SELECT name, group_concat(rowid) FROM numbers GROUP BY name LIMIT 2";
    assert_eq!(fixture.rows(grouped)[1..], ["n0\u{ff}|10,20,30", "n1\u{ff}|1,11,21"]);
}
