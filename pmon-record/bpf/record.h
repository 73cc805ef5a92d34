// SPDX-License-Identifier: MIT OR GPL-2.0
//
// Layout of the ring's entries, which `src/transport/ring/entry.rs` reads.
#pragma once

#include <linux/types.h>

#define FRAME 76 // Bytes of a netlink message with one proc_event.

#define FORK 0x00000001u
#define EXEC 0x00000002u
#define COMM 0x00000200u
#define EXIT 0x80000000u

// An event. Every entry except a cgroup path begins with it, and most consist of it.
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
				}; // FORK
				char comm[16]; // COMM
			};
		};
	};
	__u32 left_out; // Number of events of this CPU that the scope excluded so far; wraps.
};

#define PATH 1024 // Maximum bytes of a path.
#define NAME 256  // Maximum bytes of one name of a path, including its zero byte.

// A path: its names from the last to the first, each followed by a zero byte.
struct names {
	__u16 len, state;
	char text[PATH + NAME];
};

// Flags of a path. Without WHOLE, the path is truncated.
#define WHOLE 1
#define DELETED 2
#define NO_FILE 4 // The file is in no mounted filesystem and has only a name.

// An EXEC with its details.
struct exec {
	struct event event;
	__u32 ppid, uid, euid, gid, egid, login_uid, session, group, ns_pid, pid_ns;
	__u64 start, parent_start; // Nanoseconds since boot.
	__u64 cgroup;
	__u64 args_len;  // Bytes of all arguments.
	__u32 args_kept; // Number of bytes in `args`, from the first argument on.
	__s32 filename_len; // Includes the zero byte; PATH if truncated, negative if unreadable.
	__s32 args_error;
	char comm[16];
	struct names exe, cwd;
	char filename[PATH];
	char args[];
};

#define CGROUP_PATH 4096 // Maximum bytes of a cgroup's path.

// Path of a cgroup, sent before the first exec in it. Names are laid out as in `struct names`.
struct cgroup_path {
	__u64 id;
	__u16 len, state;
	char text[CGROUP_PATH + NAME];
};

// State of the process after an exit.
#define GOES_ON 1 // Other threads still run.
#define ENDED 2   // No thread remains.

// Origin of a signal.
#define FROM_KERNEL 1
#define FROM_PROCESS 2

struct origin {
	__u32 kind;  // FROM_KERNEL or FROM_PROCESS; 0 if unknown.
	__s32 code;  // `si_code` of the signal.
	__u64 start; // Of the sending process: nanoseconds since boot, process ID, real user ID, name.
	__u32 tgid, uid;
	char comm[16];
};

// Whether the OOM killer had selected the process.
#define NO_OOM_VICTIM 1
#define OOM_VICTIM 2

// An EXIT with its details: the usage of the process for its first thread, and of the thread
// otherwise.
struct exit {
	struct event event;
	__u32 threads;  // Number of other threads that still run; the sums include their usage so far.
	__u32 at_least; // Whether the sums may lack threads.
	__u64 start;    // Nanoseconds since boot.
	__u64 runtime;  // Nanoseconds on a CPU.
	__u64 utime, stime; // Nanoseconds, sampled at clock ticks.
	__u64 min_flt, maj_flt;
	__u64 read_bytes, write_bytes; // Bytes read from and written to storage.
	__u64 rss; // Peak of resident pages of the address space; 0 if unknown.
	__u32 process; // GOES_ON or ENDED
	__u32 status;  // Wait status (wait(2)) if the process has ended.
	__u64 process_runtime; // Nanoseconds of CPU time of all threads, if the process has ended.
	// Of a process that a signal killed. If both are unknown, the recorder does not keep them.
	struct origin origin;
	__u32 oom; // NO_OOM_VICTIM or OOM_VICTIM; 0 if unknown.
	__u32 unused;
};
