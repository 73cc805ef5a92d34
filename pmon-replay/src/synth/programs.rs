//! The programs of the simulated processes, and how these behave.

/// Kind of workload of a synthetic capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadProfile {
    /// A software build: `make`, shells and compilers; three events per process, including one
    /// exec.
    Build,
    /// Short-lived processes and threads in quick succession, with few execs.
    Storm,
    /// A server: workers, threads, user sessions, scheduled jobs and occasional crashes.
    Server,
    /// A mixture of the other workloads.
    #[default]
    Mixed,
}

/// User ID of the user who logs in.
pub(super) const LOGIN_USER: u32 = 1000;

impl WorkloadProfile {
    /// All workloads.
    pub const ALL: [Self; 4] = [Self::Build, Self::Storm, Self::Server, Self::Mixed];

    /// Returns the name of the workload on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Storm => "storm",
            Self::Server => "server",
            Self::Mixed => "mixed",
        }
    }

    pub(super) fn services(self) -> &'static [&'static Service] {
        match self {
            Self::Build => BUILD,
            Self::Storm => STORM,
            Self::Server => SERVER,
            Self::Mixed => MIXED,
        }
    }
}

/// A process that runs all the time and starts others.
pub(super) struct Service {
    pub(super) program: Program,
    /// Content of `/proc/<pid>/cgroup`.
    pub(super) cgroup: &'static str,
    pub(super) uid: u32,
    /// Programs of its children; `None` is a child without an exec.
    pub(super) starts: &'static [Option<&'static Program>],
}

impl Service {
    pub(super) const fn of_system(
        path: &'static str,
        args: &'static [&'static str],
        cgroup: &'static str,
    ) -> Self {
        Self { program: Program::new(path, args), cgroup, uid: 0, starts: &[] }
    }
}

/// A program, and the behavior of its processes.
pub(super) struct Program {
    pub(super) path: &'static str,
    /// Arguments, in which `#` is replaced by a number.
    pub(super) args: &'static [&'static str],
    pub(super) cwd: &'static str,
    /// Programs of the children; `None` is a child without an exec.
    pub(super) children: &'static [Option<&'static Program>],
    /// Minimum and maximum number of children.
    pub(super) spawns: (u32, u32),
    /// Maximum number of children at a time.
    pub(super) parallel: u32,
    /// Minimum and maximum number of threads other than the first.
    pub(super) threads: (u32, u32),
    pub(super) behavior: Behavior,
}

/// Special behavior of a process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    None,
    /// Creates a session and changes to another user.
    LogsIn,
    /// Changes its name.
    Renames,
    /// Is usually killed by a signal.
    Crashes,
    /// Traces its child.
    Traces,
    /// Ends before its children do.
    Leaves,
    /// Executes its program again from one of its threads.
    Restarts,
}

impl Program {
    const fn new(path: &'static str, args: &'static [&'static str]) -> Self {
        Self {
            path,
            args,
            cwd: "/",
            children: &[],
            spawns: (0, 0),
            parallel: 1,
            threads: (0, 0),
            behavior: Behavior::None,
        }
    }

    const fn at(self, cwd: &'static str) -> Self {
        Self { cwd, ..self }
    }

    const fn runs(
        self,
        children: &'static [Option<&'static Self>],
        spawns: (u32, u32),
        parallel: u32,
    ) -> Self {
        Self { children, spawns, parallel, ..self }
    }

    const fn threads(self, threads: (u32, u32)) -> Self {
        Self { threads, ..self }
    }

    const fn behavior(self, behavior: Behavior) -> Self {
        Self { behavior, ..self }
    }
}

static BUILD: &[&Service] = &[&MAKE_SHELL, &MAKE_SHELL_2];
static STORM: &[&Service] = &[&FORKERS, &THREADERS];
static SERVER: &[&Service] = &[&SSHD, &HTTPD, &APPS, &CRON];
static MIXED: &[&Service] = &[&MAKE_SHELL, &FORKERS, &SSHD, &HTTPD, &APPS, &CRON];

const SRC: &str = "/home/ada/src/engine";

static CC1: Program = Program::new(
    "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1",
    &[
        "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1",
        "-quiet",
        "-I",
        "include",
        "src/part#.c",
        "-O2",
        "-o",
        "/tmp/cc#.s",
    ],
)
.at(SRC);
static AS: Program =
    Program::new("/usr/bin/as", &["as", "--64", "-o", "build/part#.o", "/tmp/cc#.s"]).at(SRC);
static LD: Program =
    Program::new("/usr/bin/ld", &["ld", "-o", "build/engine", "build/part#.o", "-lc"]).at(SRC);
static CC: Program =
    Program::new("/usr/bin/cc", &["cc", "-O2", "-Iinclude", "-c", "src/part#.c", "-o", "build/part#.o"])
        .at(SRC)
        .runs(&[Some(&CC1), Some(&AS)], (2, 2), 1);
static LINK: Program = Program::new("/usr/bin/cc", &["cc", "-o", "build/engine", "build/part#.o"])
    .at(SRC)
    .runs(&[Some(&LD)], (1, 1), 1);
static SED: Program = Program::new("/usr/bin/sed", &["sed", "-e", "s/@N@/#/", "config.in"]).at(SRC);
static MKDIR: Program = Program::new("/usr/bin/mkdir", &["mkdir", "-p", "build/#"]).at(SRC);
static SH: Program =
    Program::new("/usr/bin/dash", &["/bin/sh", "-c", "mkdir -p build/# && sed -e s/@N@/1/ config.in"])
        .at(SRC)
        .runs(&[Some(&SED), Some(&MKDIR)], (1, 3), 1);
static MAKE: Program = Program::new("/usr/bin/make", &["make", "-j8", "-C", "part#"]).at(SRC).runs(
    &[Some(&CC), Some(&CC), Some(&CC), Some(&CC), Some(&SH), Some(&LINK), Some(&RUSTC)],
    (4, 40),
    8,
);
static RUSTC: Program =
    Program::new("/usr/bin/rustc", &["rustc", "--crate-name", "part#", "--edition=2024", "src/lib.rs"])
        .at(SRC)
        .runs(&[Some(&LINK)], (0, 1), 1)
        .threads((2, 12));
static TRUE: Program = Program::new("/usr/bin/true", &["true"]).at("/tmp");
static FORKER: Program =
    Program::new("/usr/bin/stress", &["stress", "--fork", "#"]).at("/tmp").runs(&[None], (8, 60), 4);
static THREADER: Program = Program::new("/usr/bin/stress", &["stress", "--pthread", "#"])
    .at("/tmp")
    .threads((8, 48))
    .behavior(Behavior::Renames);
static CURL: Program =
    Program::new("/usr/bin/curl", &["curl", "-fsS", "http://localhost:8080/job/#"]).threads((0, 1));
static GZIP: Program =
    Program::new("/usr/bin/gzip", &["gzip", "-9", "/var/log/app/#.log"]).at("/var/log/app");
static SLEEP: Program = Program::new("/usr/bin/sleep", &["sleep", "#"]);
static JOB: Program = Program::new("/usr/bin/dash", &["/bin/sh", "/usr/local/bin/nightly", "--part", "#"])
    .at("/root")
    .runs(&[Some(&CURL), Some(&GZIP), Some(&SLEEP), Some(&SED)], (1, 6), 1);
static STARTER: Program = Program::new("/usr/sbin/start-job", &["start-job", "--detach", "#"])
    .runs(&[Some(&JOB)], (1, 1), 1)
    .behavior(Behavior::Leaves);
static LS: Program = Program::new("/usr/bin/ls", &["ls", "-l", "release-#"]).at("/home/ada");
static GREP: Program = Program::new("/usr/bin/grep", &["grep", "-rn", "todo #", "."]).at("/home/ada");
static STRACE: Program = Program::new("/usr/bin/strace", &["strace", "-f", "-p", "#"])
    .at("/home/ada")
    .runs(&[Some(&LS)], (1, 1), 1)
    .behavior(Behavior::Traces);
static BASH: Program = Program::new("/usr/bin/bash", &["-bash"]).at("/home/ada").runs(
    &[Some(&LS), Some(&GREP), Some(&LS), Some(&STRACE), Some(&JOB)],
    (1, 12),
    2,
);
static SESSION: Program = Program::new("/usr/sbin/sshd", &["sshd: session #", "-R"])
    .runs(&[Some(&BASH)], (1, 1), 1)
    .behavior(Behavior::LogsIn);
static APP: Program =
    Program::new("/opt/app/bin/worker", &["worker", "--shard", "#", "--config", "/etc/app.toml"])
        .at("/opt/app")
        .runs(&[Some(&CURL), None], (0, 4), 2)
        .threads((2, 16))
        .behavior(Behavior::Crashes);
static UPDATED: Program = Program::new("/opt/app/bin/agent", &["agent", "--epoch", "#"])
    .at("/opt/app")
    .threads((1, 4))
    .behavior(Behavior::Restarts);

static MAKE_SHELL: Service = Service {
    program: Program::new("/usr/bin/bash", &["bash", "build.sh"]).at(SRC),
    cgroup: "0::/user.slice/user-1000.slice/session-1.scope",
    uid: 1000,
    starts: &[Some(&MAKE)],
};
static MAKE_SHELL_2: Service = Service {
    program: Program::new("/usr/bin/python3", &["python3", "ci.py"]).at(SRC),
    cgroup: "0::/system.slice/ci.service",
    uid: 998,
    starts: &[Some(&MAKE), Some(&SH), Some(&RUSTC)],
};
static FORKERS: Service = Service {
    program: Program::new("/usr/bin/stress", &["stress", "--all"]).at("/tmp"),
    cgroup: "0::/system.slice/stress.service",
    uid: 0,
    starts: &[Some(&FORKER), None, None, Some(&TRUE)],
};
static THREADERS: Service = Service {
    program: Program::new("/usr/bin/stress", &["stress", "--threads"]).at("/tmp"),
    cgroup: "0::/system.slice/stress.service",
    uid: 0,
    starts: &[Some(&THREADER), None],
};
static SSHD: Service = Service {
    program: Program::new("/usr/sbin/sshd", &["sshd", "-D"]),
    cgroup: "0::/system.slice/ssh.service",
    uid: 0,
    starts: &[Some(&SESSION)],
};
static HTTPD: Service = Service {
    program: Program::new("/usr/sbin/httpd", &["httpd", "-k", "start"])
        .at("/var/www")
        .behavior(Behavior::Renames),
    cgroup: "0::/system.slice/httpd.service",
    uid: 33,
    starts: &[None],
};
static APPS: Service = Service {
    program: Program::new("/opt/app/bin/supervisor", &["supervisor", "--config", "/etc/app.toml"])
        .at("/opt/app"),
    cgroup: "0::/system.slice/app.service",
    uid: 990,
    starts: &[Some(&APP), Some(&APP), Some(&UPDATED)],
};
static CRON: Service = Service {
    program: Program::new("/usr/sbin/cron", &["cron", "-f"]),
    cgroup: "0::/system.slice/cron.service",
    uid: 0,
    starts: &[Some(&JOB), Some(&STARTER)],
};
