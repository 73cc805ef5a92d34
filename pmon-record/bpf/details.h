// SPDX-License-Identifier: MIT OR GPL-2.0
//
// Details of a process: identity and arguments at an exec, resource usage at an exit.
#pragma once

#define STEPS 128    // Maximum number of names and mount points in a path.
#define THREADS 4096 // Maximum number of threads of a process whose usage is added.
#define TRIES 4      // Maximum number of attempts to read a consistent sum.

struct walk {
	struct names *names;
	struct mount *mount;
	struct dentry *dentry;
};

// Appends one name of the path and moves to its parent; returns 1 at the end.
static long step(__u32 unused, struct walk *walk)
{
	struct names *names = walk->names;
	struct mount *mount = walk->mount;
	struct dentry *dentry = walk->dentry;
	if (dentry == read_field(mount, mnt.mnt_root)) {
		walk->mount = read_field(mount, mnt_parent);
		walk->dentry = read_field(mount, mnt_mountpoint);
		if (walk->mount == mount)
			names->state |= WHOLE;
		return walk->mount == mount;
	}
	__u64 at = names->len;
	if (at >= PATH)
		return 1;
	long read = bpf_probe_read_kernel_str(&names->text[at], NAME, read_field(dentry, d_name.name));
	if (read <= 0)
		return 1;
	names->len = at + read;
	walk->dentry = read_field(dentry, d_parent);
	if (walk->dentry == dentry)
		names->state |= WHOLE | NO_FILE;
	return walk->dentry == dentry;
}

// Reads the names of a path, from its end to the root of its mount namespace.
static __always_inline void read_path(struct names *names, struct vfsmount *vfsmount, struct dentry *dentry)
{
	names->len = names->state = 0;
	if (!dentry || !vfsmount)
		return;
	if (!read_field(dentry, d_hash.pprev) && read_field(dentry, d_parent) != dentry)
		names->state |= DELETED;
	struct walk walk = {
		.names = names,
		.mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt),
		.dentry = dentry,
	};
	bpf_loop(STEPS, step, &walk, 0);
}

// Maps each cgroup whose path is in the ring to the round of that entry. The recorder starts a
// round after it has dropped paths. A path evicted from this map is sent again.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u32);
} CGROUPS SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ROUND SEC(".maps");

struct climb {
	struct cgroup_path *path;
	struct kernfs_node *node;
};

// Appends one name of the path and moves to the parent cgroup; returns 1 at the end.
static long climb(__u32 unused, struct climb *climb)
{
	struct cgroup_path *path = climb->path;
	struct kernfs_node *node = climb->node, *parent;
	if (bpf_core_field_exists(struct kernfs_node___rcu, __parent))
		parent = read_field((struct kernfs_node___rcu *)node, __parent);
	else
		parent = read_field(node, parent);
	if (!parent) {
		path->state |= WHOLE;
		return 1;
	}
	__u64 at = path->len;
	if (at >= CGROUP_PATH)
		return 1;
	long read = bpf_probe_read_kernel_str(&path->text[at], NAME, read_field(node, name));
	if (read <= 0)
		return 1;
	path->len = at + read;
	climb->node = parent;
	return 0;
}

// Puts the path of a cgroup into the ring, unless it is there already.
static __always_inline void take_cgroup(struct kernfs_node *node, __u64 id)
{
	__u32 zero = 0;
	__u32 *round = bpf_map_lookup_elem(&ROUND, &zero), *known = bpf_map_lookup_elem(&CGROUPS, &id);
	if (!round || (known && *known == *round))
		return;
	__u32 now = *round;
	struct cgroup_path *path = bpf_ringbuf_reserve(&RING, sizeof(*path), 0);
	if (!path)
		return;
	path->id = id;
	path->len = path->state = 0;
	struct climb way = {.path = path, .node = node};
	bpf_loop(CGROUP_PATH / 2 + 1, climb, &way, 0);
	submit(path);
	bpf_map_update_elem(&CGROUPS, &id, &now, BPF_ANY);
}

// Reserves an entry with room for the arguments. The verifier requires constant sizes.
static __always_inline struct exec *reserve_exec(__u64 args, __u64 *room)
{
	if (args <= (*room = 512))
		return bpf_ringbuf_reserve(&RING, sizeof(struct exec) + 512, 0);
	if (args <= (*room = 4096))
		return bpf_ringbuf_reserve(&RING, sizeof(struct exec) + 4096, 0);
	if (args <= (*room = 32768))
		return bpf_ringbuf_reserve(&RING, sizeof(struct exec) + 32768, 0);
	*room = 131072;
	return bpf_ringbuf_reserve(&RING, sizeof(struct exec) + 131072, 0);
}

static __noinline int take_exec(const struct event *event)
{
	struct task_struct *task = current_task();
	struct kernfs_node *cgroup = read_field(task, cgroups, dfl_cgrp, kn);
	__u64 cgroup_id = read_field(cgroup, id);
	take_cgroup(cgroup, cgroup_id);
	struct mm_struct *mm = read_field(task, mm);
	__u64 args_start = read_field(mm, arg_start), args_len = read_field(mm, arg_end) - args_start;
	__u64 kept = args_len, room;
	if (kept > ARGS)
		kept = ARGS;
	struct exec *exec = reserve_exec(kept, &room);
	if (!exec)
		return 0;

	exec->event = *event;
	struct task_struct *parent = read_field(task, real_parent);
	const struct cred *cred = read_field(task, cred);
	exec->ppid = read_field(parent, tgid);
	exec->uid = read_field(cred, uid.val);
	exec->euid = read_field(cred, euid.val);
	exec->gid = read_field(cred, gid.val);
	exec->egid = read_field(cred, egid.val);
	exec->login_uid = -1;
	if (bpf_core_field_exists(task->loginuid))
		exec->login_uid = read_field(task, loginuid.val);
	exec->session = read_field(task, signal, pids[PIDTYPE_SID], numbers[0].nr);
	exec->group = read_field(task, signal, pids[PIDTYPE_PGID], numbers[0].nr);
	struct pid *pid = read_field(task, thread_pid);
	__u64 level = read_field(pid, level);
	struct upid *number = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			      level * bpf_core_type_size(struct upid);
	exec->ns_pid = read_field(number, nr);
	exec->pid_ns = read_field(number, ns, ns.inum);
	exec->start = read_field(task, start_boottime);
	exec->parent_start = read_field(parent, group_leader, start_boottime);
	exec->cgroup = cgroup_id;
	bpf_probe_read_kernel(exec->comm, sizeof(exec->comm), task->comm);

	read_path(&exec->exe, read_field(mm, exe_file, f_path.mnt),
		  read_field(mm, exe_file, f_path.dentry));
	read_path(&exec->cwd, read_field(task, fs, pwd.mnt), read_field(task, fs, pwd.dentry));
	// After the environment, the kernel stores the file name that was passed to execve.
	exec->filename_len = bpf_probe_read_user_str(exec->filename, PATH, (void *)read_field(mm, env_end));
	exec->args_len = args_len;
	if (kept > room)
		kept = room;
	exec->args_kept = kept;
	exec->args_error = bpf_probe_read_user(exec->args, kept, (void *)args_start);
	submit(exec);
	return 1;
}

struct sum {
	__u64 runtime, utime, stime, min_flt, maj_flt, read_bytes, write_bytes;
	// State of the walk over the threads.
	struct list_head *head, *node;
	struct task_struct *task, *other;
	__u32 others, alive;
};

static __always_inline void add_task(struct sum *sum, struct task_struct *task)
{
	sum->runtime += read_field(task, se.sum_exec_runtime);
	sum->utime += read_field(task, utime);
	sum->stime += read_field(task, stime);
	sum->min_flt += read_field(task, min_flt);
	sum->maj_flt += read_field(task, maj_flt);
	if (bpf_core_field_exists(task->ioac.read_bytes)) {
		sum->read_bytes += read_field(task, ioac.read_bytes);
		sum->write_bytes += read_field(task, ioac.write_bytes);
	}
}

static long add_thread(__u32 unused, struct sum *sum)
{
	struct list_head *node = sum->node;
	struct task_struct *thread = (void *)node - bpf_core_field_offset(struct task_struct, thread_node);
	add_task(sum, thread);
	if (thread != sum->task) {
		sum->others++;
		sum->other = thread;
		sum->alive += !read_field(thread, exit_state);
	}
	sum->node = read_field(node, next);
	return sum->node == sum->head;
}

// Adds the usage of a process's threads. The kernel keeps the sums of ended threads; the others are
// read one by one. A thread that ends meanwhile moves from one group to the other. `sequence` is
// odd during such a move, and different after it. Returns 0 in that case, since the thread may be
// in neither group.
static __always_inline int add_process(struct sum *sum, struct task_struct *task)
{
	struct signal_struct *signal = read_field(task, signal);
	__u32 sequence = read_field(signal, stats_lock.seqcount.seqcount.sequence) & ~1; // An odd value thus differs at the end.

	sum->runtime = read_field(signal, sum_sched_runtime);
	sum->utime = read_field(signal, utime);
	sum->stime = read_field(signal, stime);
	sum->min_flt = read_field(signal, min_flt);
	sum->maj_flt = read_field(signal, maj_flt);
	sum->read_bytes = sum->write_bytes = 0;
	if (bpf_core_field_exists(signal->ioac.read_bytes)) {
		sum->read_bytes = read_field(signal, ioac.read_bytes);
		sum->write_bytes = read_field(signal, ioac.write_bytes);
	}
	sum->others = sum->alive = 0;
	sum->task = task;
	struct list_head *head = (void *)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	sum->head = head;
	sum->node = read_field(head, next);
	if (sum->node != sum->head)
		bpf_loop(THREADS, add_thread, sum, 0);
	return sum->node == sum->head && sequence == read_field(signal, stats_lock.seqcount.seqcount.sequence);
}

const volatile __u32 CPUS = 1; // Number of possible CPUs.

// Resident pages of an address space, including the deltas of each CPU.
struct pages {
	__s64 now, most;
	__u64 base; // Address of the per-CPU map values, without a CPU's offset.
	char *counters[3];
	__u32 are_adjacent;
};

static long add_cpu(__u32 cpu, struct pages *pages)
{
	__u32 zero = 0;
	__s32 counted[4] = {};
	void *element = bpf_map_lookup_percpu_elem(&COUNTS, &zero, cpu);
	if (!element)
		return 0;
	// The per-CPU offset of this element, relative to the first CPU, as a number.
	__u64 offset = 0;
	bpf_probe_read_kernel(&offset, sizeof(offset), &element);
	offset -= pages->base;
	if (pages->are_adjacent) {
		bpf_probe_read_kernel(counted, sizeof(counted), pages->counters[0] + offset);
	} else {
		bpf_probe_read_kernel(&counted[0], sizeof(counted[0]), pages->counters[0] + offset);
		bpf_probe_read_kernel(&counted[1], sizeof(counted[1]), pages->counters[1] + offset);
		bpf_probe_read_kernel(&counted[3], sizeof(counted[3]), pages->counters[2] + offset);
	}
	pages->now += counted[0] + counted[1] + counted[3];
	return 0;
}

// Adds the per-CPU deltas. They are dozens of pages per CPU, which is all that a small program has.
static __always_inline void add_cpus(struct pages *pages)
{
	void *map = &COUNTS;
	bpf_probe_read_kernel(&pages->base, sizeof(pages->base), &map);
	bpf_probe_read_kernel(&pages->base, sizeof(pages->base),
			      (void *)pages->base + bpf_core_field_offset(struct bpf_array, pptrs));
	// Since 6.5, the four counters of an address space are allocated together.
	pages->are_adjacent = pages->counters[1] == pages->counters[0] + sizeof(__s32) &&
			      pages->counters[2] == pages->counters[0] + 3 * sizeof(__s32);
	bpf_loop(CPUS, add_cpu, pages, 0);
}

// Returns the peak of resident pages of an address space: `VmHWM` of /proc/PID/status.
static __always_inline __u64 most_pages(struct mm_struct *mm)
{
	struct pages pages = {.most = read_field(mm, hiwater_rss)};
	if (bpf_core_field_exists(mm->rss_stat[0].count)) {
		pages.now = read_field(mm, rss_stat[0].count) + read_field(mm, rss_stat[1].count) +
			    read_field(mm, rss_stat[3].count);
		pages.counters[0] = (char *)read_field(mm, rss_stat[0].counters);
		pages.counters[1] = (char *)read_field(mm, rss_stat[1].counters);
		pages.counters[2] = (char *)read_field(mm, rss_stat[3].counters);
		add_cpus(&pages);
	} else {
		struct mm_struct___old *old = (void *)mm;
		pages.now = read_field(old, rss_stat.count[0].counter) +
			    read_field(old, rss_stat.count[1].counter) +
			    read_field(old, rss_stat.count[3].counter);
	}
	return pages.now > pages.most ? pages.now : pages.most;
}

// An exit event comes after the task has released its address space, and `signal->maxrss` includes
// earlier programs. Therefore another BPF program stores the peak before, for the first and the
// last thread: the tgid in the upper half of a word, the pages in the lower half.
#define ENDING 8192

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENDING);
	__type(key, __u32);
	__type(value, __u64);
} PEAKS SEC(".maps");

static __always_inline int keep_peak(void)
{
	struct task_struct *task = current_task();
	__u32 tgid = read_field(task, tgid), key = tgid % ENDING;
	if (read_field(task, pid) != tgid && read_field(task, signal, live.counter))
		return 0;
	struct mm_struct *mm = read_field(task, mm);
	__u64 *word = bpf_map_lookup_elem(&PEAKS, &key);
	if (word)
		*word = (__u64)tgid << 32 | (mm ? (__u32)most_pages(mm) : 0);
	return 0;
}

// Used if the kernel supports fentry programs.
SEC("fentry/exit_mm_release")
int keep_peak_at_release(void *context)
{
	return keep_peak();
}

// Used otherwise. Before Linux 6.15, the address space is already released then.
SEC("raw_tp/sched_process_exit")
int keep_peak_at_exit(void *context)
{
	return keep_peak();
}

static __always_inline __u64 peak_of(__u32 tgid)
{
	__u32 key = tgid % ENDING;
	__u64 *word = bpf_map_lookup_elem(&PEAKS, &key);
	return word && *word >> 32 == tgid ? (__u32)*word : 0;
}

// Returns the wait status (wait(2)) of a process without remaining threads.
static __always_inline __u32 status_of(struct task_struct *task)
{
	struct signal_struct *signal = read_field(task, signal);
	if (read_field(signal, flags) & SIGNAL_GROUP_EXIT)
		return read_field(signal, group_exit_code);
	return read_field(task, group_leader, exit_code); // Until 5.19, if each thread ended by itself.
}

static __noinline int take_exit(const struct event *event)
{
	struct exit *exit = bpf_ringbuf_reserve(&RING, sizeof(*exit), 0);
	if (!exit)
		return 0;

	struct task_struct *task = current_task();
	struct sum sum = {}, all = {};
	exit->event = *event;
	exit->start = read_field(task, start_boottime);
	exit->rss = exit->at_least = exit->status = exit->process_runtime = 0;
	exit->process = GOES_ON;
	exit->origin.kind = exit->oom = 0;
	int is_first = event->tid == event->tgid;
	int may_be_last = !read_field(task, signal, live.counter);
	if (is_first || may_be_last) {
		int is_unsure = 1;
		for (int i = 0; i < TRIES && is_unsure; i++)
			is_unsure = !add_process(&all, task);
		exit->rss = peak_of(event->tgid);
		// If the first thread exits before others, they still use the address space.
		struct task_struct *other = all.other;
		struct mm_struct *mm = other ? read_field(other, mm) : 0;
		__u64 pages = mm ? most_pages(mm) : 0;
		if (exit->rss < pages)
			exit->rss = pages;
		// Other threads past their exit event are gone, or they wait for a debugger.
		if (may_be_last && !all.alive) {
			exit->process = ENDED;
			exit->status = status_of(task);
			exit->process_runtime = all.runtime;
			take_origin(exit, task, all.others);
		}
		exit->at_least = is_first && is_unsure;
	}
	if (is_first)
		sum = all;
	else
		add_task(&sum, task);
	exit->threads = sum.others;
	exit->runtime = sum.runtime;
	exit->utime = sum.utime;
	exit->stime = sum.stime;
	exit->min_flt = sum.min_flt;
	exit->maj_flt = sum.maj_flt;
	exit->read_bytes = sum.read_bytes;
	exit->write_bytes = sum.write_bytes;
	submit(exit);
	return 1;
}
