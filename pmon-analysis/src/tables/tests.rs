use std::collections::HashSet;

use pmon_core::wire::EventKind;

use super::*;
use crate::life::{LIFE_COLUMNS, LifeColumn};

#[test]
fn each_table_of_events_has_all_its_columns_once() {
    for table in EVENT_TABLES {
        let columns = table.columns();
        let names: HashSet<_> = columns.iter().map(|column| column.name()).collect();
        assert_eq!(names.len(), columns.len(), "{}", table.name);
        // SQLite states for at most 63 columns whether a query uses them.
        assert!(columns.len() <= 63 && LIFE_COLUMNS.len() <= 63, "{}", table.name);
        assert!(columns.iter().all(|column| column.doc().ends_with('.')), "{}", table.name);
        for name in ["timestamp", "process_id", "comm", "args"] {
            assert!(names.contains(name), "{} lacks {name}", table.name);
        }
    }
}

#[test]
fn each_name_of_a_column_exists() {
    let counts: Vec<_> = EVENT_TABLES.iter().map(|table| (table.name, table.columns().len())).collect();
    let expected = [("execs", 39), ("exits", 62), ("forks", 42), ("ids", 39), ("comms", 40), ("events", 31)];
    assert_eq!(counts, expected);
    assert!(LifeColumn::named("nothing").is_none());
}

#[test]
fn each_kind_is_in_the_table_of_all_events() {
    let tables = |kind| -> Vec<_> {
        EVENT_TABLES.iter().filter(|table| table.has(kind)).map(|table| table.name).collect()
    };
    assert_eq!(tables(EventKind::Exec), ["execs", "events"]);
    assert_eq!(tables(EventKind::Sid), ["ids", "events"]);
    assert_eq!(tables(EventKind::Unknown), ["events"]);
}
