//! The users of this machine. A recording has only the numbers of users.

use std::collections::HashMap;
use std::fs;

use pmon_core::capture::{Header, Meta};

use crate::output::printable;

/// The users in `/etc/passwd`, by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserNames(HashMap<u32, String>);

impl UserNames {
    /// Returns the users that a recording with this header refers to: those of this machine, if it
    /// was recorded here, and otherwise none.
    pub(crate) fn of(header: Option<&Header>) -> Self {
        match header.is_some_and(|header| is_recorded_here(&header.meta)) {
            true => Self::of_this_machine(),
            false => Self::default(),
        }
    }

    /// Returns the users of this machine.
    pub(crate) fn of_this_machine() -> Self {
        Self::parse(&passwd())
    }

    /// Returns the name of a user; its number if the name is unknown.
    pub(crate) fn text(&self, uid: u32) -> String {
        self.name(uid).map_or_else(|| uid.to_string(), str::to_owned)
    }

    /// Returns the name of a user.
    pub(crate) fn name(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }

    fn parse(passwd: &str) -> Self {
        let mut names = HashMap::new();
        for (name, uid) in entries(passwd) {
            // As for getpwuid(3), the first entry of a number counts.
            names.entry(uid).or_insert_with(|| printable(name.as_bytes()));
        }
        Self(names)
    }
}

/// Returns the number of a user of this machine.
pub(crate) fn uid_of(name: &str) -> Option<u32> {
    find(&passwd(), name)
}

/// Returns whether a recording was made on this machine, so that it has the same users.
pub(crate) fn is_recorded_here(meta: &Meta) -> bool {
    let id = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    !meta.machine_id.is_empty() && meta.machine_id == id.trim()
}

fn passwd() -> String {
    fs::read("/etc/passwd").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Returns the names and numbers in the text of `/etc/passwd`.
fn entries(passwd: &str) -> impl Iterator<Item = (&str, u32)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name, fields.nth(1)?.parse().ok()?))
    })
}

fn find(passwd: &str, name: &str) -> Option<u32> {
    entries(passwd).find(|entry| entry.0 == name).map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n+nis\nbroken:x:one\n\
        ada:x:1000:1000::/home/ada:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n:x:7:7::/:/bin/sh\n";

    #[test]
    fn users_are_found_by_their_names() {
        assert_eq!(["root", "ada", "toor"].map(|name| find(PASSWD, name)), [Some(0), Some(1000), Some(0)]);
        for unknown in ["", "roo", "x", "+nis", "broken", "0"] {
            assert_eq!(find(PASSWD, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_first_entry_names_a_number() {
        let names = UserNames::parse(PASSWD);
        assert_eq!([0, 1000, 7].map(|uid| names.text(uid)), ["root", "ada", "7"]);
    }

    #[test]
    fn recordings_of_other_machines_have_other_users() {
        let own = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let meta = |machine_id: &str| Meta { machine_id: machine_id.into(), ..Meta::default() };
        assert!(!is_recorded_here(&meta("")));
        assert!(!is_recorded_here(&meta("0123456789abcdef0123456789abcdef")));
        assert!(own.trim().is_empty() || is_recorded_here(&meta(own.trim())));
        assert_eq!(UserNames::of(None).text(0), "0");
    }
}
