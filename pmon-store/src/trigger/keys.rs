//! The keys of a `[[trigger]]` in a configuration file.

mod values;

use std::time::Duration;

use pmon_analysis::filter::{EndCondition, EventCondition, ProcessCondition};
use serde::de::{self, Deserialize, Deserializer};

use self::values::{
    After, CgroupPath, ContainerId, Count, ExitCode, Expression, Kind, Limit, Name, OneOrMany, Pattern,
    ProcessName, SignalNumber, Span, UserId,
};
use super::window::Rate;
use crate::clip::{ClipName, DEFAULT_AFTER, DEFAULT_BEFORE};

const SECOND: u64 = 1_000_000_000;

/// A condition on events that requests a clip: one `[[trigger]]` of a configuration file.
///
/// | key | value | condition |
/// | --- | --- | --- |
/// | `name` | a [`ClipName`] | required; becomes part of the clip's name |
/// | `kind` | kind, or list of kinds | the event is of this kind; a fork or an exit is that of a process |
/// | `signal` | name or number, or list | the signal killed the process |
/// | `exit_code` | number, or list | the process returned the code |
/// | `longer_than` | duration | the process ran at least as long |
/// | `comm` | string of at most 15 bytes | the name of the process |
/// | `exe` | pattern ([`Glob`](pmon_analysis::filter::Glob)) | the path of the executable |
/// | `args` | regular expression | the command line, joined by spaces |
/// | `uid` | number, or list | the real or effective user id |
/// | `unit` | pattern | the unit of systemd, with or without `.service` |
/// | `container` | string | the container's name, or the first characters of its identifier |
/// | `cgroup` | path | the cgroup, or one below it |
/// | `count`, `within` | number, duration | as many events matched within the duration; times are those of the events |
/// | `before`, `after` | duration | span of the clip around the event; 30 s and 10 s by default |
/// | `limit` | number per time, such as `6/h` | maximum number of clips; `6/h` by default |
#[derive(Clone, Debug)]
pub struct Trigger {
    pub(super) name: ClipName,
    pub(super) condition: EventCondition,
    pub(super) rate: Option<Rate>,
    pub(super) before: Duration,
    pub(super) after: Duration,
    pub(super) limit: Rate,
}

impl Trigger {
    /// Returns the name, which becomes a part of the names of its clips.
    pub fn name(&self) -> &ClipName {
        &self.name
    }

    /// Returns the longest spans of time before and after an event that a clip covers.
    pub fn span(&self) -> (Duration, Duration) {
        (self.before, self.after)
    }
}

impl<'de> Deserialize<'de> for Trigger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Keys::deserialize(deserializer)?;
        Self::new(keys).map_err(de::Error::custom)
    }
}

/// The keys as they are written.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: Name,
    #[serde(default)]
    kind: OneOrMany<Kind>,
    #[serde(default)]
    signal: OneOrMany<SignalNumber>,
    #[serde(default)]
    exit_code: OneOrMany<ExitCode>,
    longer_than: Option<Span>,
    comm: Option<ProcessName>,
    exe: Option<Pattern>,
    args: Option<Expression>,
    #[serde(default)]
    uid: OneOrMany<UserId>,
    unit: Option<Pattern>,
    container: Option<ContainerId>,
    cgroup: Option<CgroupPath>,
    count: Option<Count>,
    within: Option<Span>,
    before: Option<Span>,
    after: Option<After>,
    limit: Option<Limit>,
}

impl Trigger {
    fn new(keys: Keys) -> Result<Self, String> {
        let name = keys.name.0;
        let signals = keys.signal.0.into_iter().map(|signal| EndCondition::Signal(signal.0));
        let codes = keys.exit_code.0.into_iter().map(|code| EndCondition::Code(code.0));
        let condition = EventCondition {
            kinds: keys.kind.0.into_iter().map(|kind| kind.0).collect(),
            process: ProcessCondition {
                ends: signals.chain(codes).collect(),
                longer_than_ns: keys.longer_than.map(|span| span.0),
                comm: keys.comm.map(|comm| comm.0),
                exe: keys.exe.map(|pattern| pattern.0),
                args: keys.args.map(|expression| expression.0),
                uids: keys.uid.0.into_iter().map(|uid| uid.0).collect(),
                unit: keys.unit.map(|pattern| pattern.0),
                container: keys.container.map(|container| container.0),
                cgroup: keys.cgroup.map(|path| path.0),
            },
        };
        if condition.kind_mask() == 0 {
            return Err(format!(
                "trigger {name}: signal, exit_code and longer_than match only exits; add \"exit\" to kind"
            ));
        }
        let rate = match (keys.count, keys.within) {
            (None, None) => None,
            (Some(Count(count)), Some(Span(within_ns))) if within_ns > 0 => Some(Rate { count, within_ns }),
            (Some(_), Some(_)) => return Err(format!("trigger {name}: within must be longer than 0")),
            (Some(_), None) => return Err(format!("trigger {name}: count needs within, for example \"1s\"")),
            (None, Some(_)) => return Err(format!("trigger {name}: within needs count, for example 500")),
        };
        if condition.kinds.is_empty() && condition.process.is_empty() {
            return Err(format!("trigger {name} matches every event; add a condition, for example kind"));
        }
        let span = |span: Option<Span>, default| span.map_or(default, |span| Duration::from_nanos(span.0));
        Ok(Self {
            name,
            condition,
            rate,
            before: span(keys.before, DEFAULT_BEFORE),
            after: span(keys.after.map(|after| after.0), DEFAULT_AFTER),
            limit: keys.limit.map_or(Rate { count: 6, within_ns: 3600 * SECOND }, |limit| limit.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use pmon_core::wire::EventKind;

    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct File {
        trigger: Vec<Trigger>,
    }

    fn parse(keys: &str) -> Result<Trigger, String> {
        let text = format!("[[trigger]]\nname = \"t\"\n{keys}\n");
        let file: File = toml::from_str(&text).map_err(|error| error.to_string())?;
        Ok(file.trigger.into_iter().next().unwrap())
    }

    #[test]
    fn each_key_is_read() {
        let trigger = parse(
            "kind = 'exit'\nsignal = ['SIGSEGV', 'abrt', 9]\nexit_code = 3\nlonger_than = '1.5s'\ncomm = 'nginx'\n\
             exe = '/usr/*/nginx'\nargs = '-c .*'\nuid = [0, 33]\nunit = 'nginx'\n\
             container = '4f79'\ncgroup = '/system.slice'\ncount = 500\n\
             within = '1s'\nbefore = '2m'\nafter = '500ms'\nlimit = '4/30s'",
        )
        .unwrap();
        let EventCondition { kinds, process: condition } = &trigger.condition;
        assert_eq!(kinds, &[EventKind::Exit]);
        let signals = [11, 6, 9].map(EndCondition::Signal);
        assert_eq!(condition.ends, [&signals[..], &[EndCondition::Code(3)]].concat());
        assert_eq!(condition.longer_than_ns, Some(1_500_000_000));
        assert_eq!(condition.unit.as_ref().unwrap().pattern(), "nginx");
        assert_eq!(condition.container.as_deref(), Some(&b"4f79"[..]));
        assert_eq!((condition.comm.as_deref(), &condition.uids[..]), (Some(&b"nginx"[..]), &[0, 33][..]));
        assert_eq!(condition.exe.as_ref().unwrap().pattern(), "/usr/*/nginx");
        assert_eq!(condition.args.as_ref().unwrap().as_str(), "-c .*");
        assert_eq!(condition.cgroup.as_deref(), Some(&b"/system.slice"[..]));
        assert_eq!(trigger.rate, Some(Rate { count: 500, within_ns: SECOND }));
        assert_eq!(trigger.span(), (Duration::from_secs(120), Duration::from_millis(500)));
        assert_eq!(trigger.limit, Rate { count: 4, within_ns: 30 * SECOND });
    }

    #[test]
    fn defaults_are_30_s_before_10_s_after_and_6_clips_per_hour() {
        let trigger = parse("kind = ['exec', 'fork']").unwrap();
        assert_eq!(trigger.span(), (Duration::from_secs(30), Duration::from_secs(10)));
        assert_eq!((trigger.rate, trigger.limit), (None, Rate { count: 6, within_ns: 3600 * SECOND }));
    }

    #[test]
    fn wrong_keys_and_values_are_refused_with_line_and_reason() {
        for (keys, reason) in [
            ("", "matches every event"),
            ("kind = 'exot'", "\"exot\" is no event kind; use one of"),
            ("kind = 'ack'", "\"ack\" is no event kind; use one of fork"),
            ("kind = []", "the list is empty"),
            ("kind = 'exec'\nsignal = 'SEGV'", "match only exits"),
            ("signal = 'SIGFOO'", "\"SIGFOO\" is no signal"),
            ("signal = 65", "from 1 to 64"),
            ("exit_code = 256", "invalid value: integer `256`, expected an exit code from 0 to 255"),
            ("uid = -1", "invalid value: integer `-1`, expected a user id from 0 to 4294967294"),
            ("uid = 4294967295", "expected a user id"),
            ("uid = ['root']", "invalid type: string \"root\", expected a user id"),
            ("exe = ''", "the pattern is empty"),
            ("unit = ''", "the pattern is empty"),
            ("args = ''", "the expression is empty"),
            ("container = ''", "the identifier is empty"),
            ("comm = 5", "invalid type: integer `5`, expected the name of a process"),
            ("longer_than = '300000d'", "is too long"),
            ("kind = 'fork'\nlimit = '99999/h'", "from 1 to 10000"),
            ("longer_than = '5'", "\"5\" is no duration"),
            ("longer_than = '-5s'", "is no duration"),
            ("longer_than = 'infs'", "is no duration"),
            ("comm = 'sixteen-bytes-xx'", "has 16 bytes and matches no process"),
            ("comm = ''", "comm is empty"),
            ("exe = '[a'", "a [ without a ]"),
            ("args = '('", "is no regular expression"),
            ("args = '(?:a{1000}){1000}'", "is no regular expression"),
            ("cgroup = 'x'", "is no path of a cgroup"),
            ("kind = 'fork'\ncount = 5", "count needs within"),
            ("kind = 'fork'\nwithin = '1s'", "within needs count"),
            ("kind = 'fork'\ncount = 0\nwithin = '1s'", "expected a number from 1 to 100000"),
            ("kind = 'fork'\ncount = 5\nwithin = '0s'", "within must be longer than 0"),
            ("kind = 'fork'\nlimit = '6'", "\"6\" is no limit"),
            ("kind = 'fork'\nlimit = '0/h'", "is no limit"),
            ("kind = 'fork'\nrun = 'rm'", "unknown field `run`"),
            ("kind = 'fork'\nafter = '61m'", "at most 1h after its event"),
            (
                "kind = 'fork'\nbefore = 30",
                "invalid type: integer `30`, expected a duration, for example \"30s\"",
            ),
        ] {
            let error = parse(keys).unwrap_err();
            assert!(error.contains(reason), "{keys}: {error}");
            assert!(error.contains("line "), "{keys}: {error}");
        }
        for name in ["", "a/b", "../x", "-x", "ü", &"x".repeat(65)] {
            let error =
                toml::from_str::<File>(&format!("[[trigger]]\nname = {name:?}\nkind = 'exit'")).unwrap_err();
            assert_eq!(error.span().map(|span| span.start), Some(19), "{error}");
        }
    }
}
