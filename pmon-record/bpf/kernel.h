// SPDX-License-Identifier: MIT OR GPL-2.0
//
// The fields of kernel structures that the programs read. Names and nesting are the kernel's; the
// loader takes offsets and sizes from the running kernel's BTF. A suffix after `___` distinguishes
// the forms that a structure has in different kernels.
#pragma once

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sk_buff {
	char cb[48];
};

struct netlink_skb_parms {
	__u32 portid;
};

struct list_head {
	struct list_head *next;
};

// Identity.

struct ns_common {
	__u32 inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	__u32 level;
	struct upid numbers[1];
};

enum pid_type { PIDTYPE_PGID = 2, PIDTYPE_SID = 3 };

typedef struct {
	__u32 val;
} kid_t;

struct cred {
	kid_t uid, euid, gid, egid;
};

struct kernfs_node {
	__u64 id;
	struct kernfs_node *parent; // Until 6.14.
	const char *name;
};

struct kernfs_node___rcu { // Since 6.15.
	struct kernfs_node *__parent;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup *ancestors[1]; // Since 6.1.
};

struct cgroup___old { // Until 6.0.
	__u64 ancestor_ids[1];
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

// Paths.

struct qstr {
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct fs_struct {
	struct path pwd;
};

// Memory and resource usage.

struct percpu_counter {
	__s64 count;
	__s32 *counters; // Per-CPU deltas, not yet included in the count.
};

struct mm_struct {
	unsigned long hiwater_rss, arg_start, arg_end, env_end;
	struct percpu_counter rss_stat[4]; // Since 6.2: file, anonymous, swapped, shared.
	struct file *exe_file;
};

struct mm_rss_stat {
	struct {
		long counter;
	} count[4];
};

struct mm_struct___old {
	struct mm_rss_stat rss_stat;
};

// An array map. For a per-CPU array, `pptrs` are addresses without a CPU's offset.
struct bpf_array {
	void *pptrs[1];
};

struct task_io_accounting {
	__u64 read_bytes, write_bytes;
};

struct seqcount {
	__u32 sequence;
};

struct seqcount_spinlock {
	struct seqcount seqcount;
};

typedef struct {
	struct seqcount_spinlock seqcount;
} seqlock_t;

typedef struct {
	int counter;
} atomic_t;

struct sigaction {
	void *sa_handler; // SIG_DFL, SIG_IGN, or an address.
};

struct k_sigaction {
	struct sigaction sa;
};

struct sighand_struct {
	struct k_sigaction action[1];
};

typedef struct {
	__u64 sig[1];
} sigset_t;

struct kernel_siginfo {
	int si_code;
};

struct signal_struct {
	struct mm_struct *oom_mm;
	atomic_t live; // Threads that have not passed do_exit()'s decrement.
	struct list_head thread_head;
	int group_exit_code;
	unsigned int flags;
	struct pid *pids[4];
	seqlock_t stats_lock;
	__u64 utime, stime;
	unsigned long min_flt, maj_flt;
	struct task_io_accounting ioac;
	unsigned long long sum_sched_runtime;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct task_struct {
	struct sched_entity se;
	struct mm_struct *mm;
	int exit_state, exit_code;
	int pid, tgid;
	void *stack;
	struct sighand_struct *sighand;
	sigset_t blocked;
	struct task_struct *real_parent, *group_leader;
	struct pid *thread_pid;
	struct list_head thread_node;
	__u64 utime, stime, start_boottime;
	unsigned long min_flt, maj_flt;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct signal_struct *signal;
	kid_t loginuid;
	struct task_io_accounting ioac;
	struct css_set *cgroups;
};

#pragma clang attribute pop
