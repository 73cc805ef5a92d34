// SPDX-License-Identifier: MIT OR GPL-2.0
//
// What stands in the ring, as `src/transport/ring/entry.rs` reads it.
#pragma once

#include <linux/types.h>

#define FRAME 76 // a netlink message with one proc_event

#define FORK 0x00000001u
#define EXEC 0x00000002u
#define COMM 0x00000200u
#define EXIT 0x80000000u

// Every entry begins with this, and most end with it.
struct event {
	union {
		__u8 frame[FRAME];
		struct {
			__u8 before_what[36];
			__u32 what, cpu;
			__u32 time[2];
			__u32 tid, tgid;
			union {
				struct {
					__u32 child_tid, child_tgid;
				}; // of a FORK
				char comm[16]; // of a COMM
			};
		};
	};
	__u32 left_out; // events of this CPU that were not wanted, until now; wraps
};

#define PATH 1024 // most bytes of a path,
#define NAME 256 // and of one name of it, with a zero byte

// A path: its names one behind the other, each with a zero byte behind it, the last one first.
struct names {
	__u16 len, state;
	char text[PATH + NAME];
};

// States of a path. Without WHOLE, it is cut.
#define WHOLE 1
#define DELETED 2
#define NO_FILE 4 // of no filesystem that is mounted: its name is all there is

// What goes with an EXEC.
struct exec {
	struct event event;
	__u32 ppid, uid, euid, gid, egid, login_uid, session, group, ns_pid, pid_ns;
	__u64 start, parent_start; // ns since boot
	__u64 cgroup;
	__u64 args_len;  // of all arguments
	__u32 args_kept; // the first bytes of them
	__s32 filename_len; // with its zero byte; PATH if it is cut, below 0 if it could not be read
	__s32 args_error;
	char comm[16];
	struct names exe, cwd;
	char filename[PATH];
	char args[];
};

#define CGROUP_PATH 4096 // maximum bytes of a cgroup's path

// Path of a cgroup, sent before the first exec in it. Names are laid out as in `struct names`.
struct cgroup_path {
	__u64 id;
	__u16 len, state;
	char text[CGROUP_PATH + NAME];
};

// State of the process after an exit.
#define GOES_ON 1 // other threads are still running
#define ENDED 2   // no thread is left

// What goes with an EXIT: what the process has used, or only this thread of it if it is not the first.
struct exit {
	struct event event;
	__u32 threads; // others that have not ended yet, whose use until now is in the sums
	__u32 at_least; // whether threads may be missing in the sums
	__u64 start; // ns since boot
	__u64 runtime; // ns on a CPU
	__u64 utime, stime; // ns, as the clock's ticks found it
	__u64 min_flt, maj_flt;
	__u64 read_bytes, write_bytes; // from and to storage
	__u64 rss; // peak resident pages of the address space; 0 if unknown
	__u32 process; // GOES_ON or ENDED
	__u32 status; // wait status, as of wait(2), if the process has ended
	__u64 process_runtime; // CPU time of all threads in ns, if the process has ended
};
