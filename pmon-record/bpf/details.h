// SPDX-License-Identifier: MIT OR GPL-2.0
//
// What a task says of itself at an exec and at its exit.
#pragma once

#define STEPS 128 // most names and mounts of a path
#define THREADS 4096 // most threads of a process that are looked at
#define TRIES 4

#define read_field BPF_CORE_READ

struct walk {
	struct names *names;
	struct mount *mount;
	struct dentry *dentry;
};

// One step up; 1 ends the way.
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

// The names of a path, from its end to the root of its mount namespace.
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

// Room for the arguments, in the steps in which entries of the ring can be had.
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
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 args_start = task->mm->arg_start, args_len = task->mm->arg_end - args_start, kept = args_len, room;
	if (kept > ARGS)
		kept = ARGS;
	struct exec *exec = reserve_exec(kept, &room);
	if (!exec)
		return 0;

	exec->event = *event;
	exec->ppid = task->real_parent->tgid;
	exec->uid = task->cred->uid.val;
	exec->euid = task->cred->euid.val;
	exec->gid = task->cred->gid.val;
	exec->egid = task->cred->egid.val;
	exec->login_uid = -1;
	if (bpf_core_field_exists(task->loginuid))
		exec->login_uid = task->loginuid.val;
	exec->session = read_field(task, signal, pids[PIDTYPE_SID], numbers[0].nr);
	exec->group = read_field(task, signal, pids[PIDTYPE_PGID], numbers[0].nr);
	struct pid *pid = read_field(task, thread_pid);
	__u64 level = read_field(pid, level);
	struct upid *number = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);
	exec->ns_pid = read_field(number, nr);
	exec->pid_ns = read_field(number, ns, ns.inum);
	exec->start = task->start_boottime;
	exec->parent_start = task->real_parent->group_leader->start_boottime;
	exec->cgroup = read_field(task, cgroups, dfl_cgrp, kn, id);
	bpf_probe_read_kernel(exec->comm, sizeof(exec->comm), task->comm);

	read_path(&exec->exe, read_field(task, mm, exe_file, f_path.mnt), read_field(task, mm, exe_file, f_path.dentry));
	read_path(&exec->cwd, read_field(task, fs, pwd.mnt), read_field(task, fs, pwd.dentry));
	// Behind the environment, the kernel keeps what execve was given.
	exec->filename_len = bpf_probe_read_user_str(exec->filename, PATH, (void *)task->mm->env_end);
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
	// The threads that are looked at.
	struct list_head *head, *node;
	struct task_struct *task, *other;
	__u32 others;
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
	}
	sum->node = read_field(node, next);
	return sum->node == sum->head;
}

// The sums over a process's threads: the kernel keeps those of threads that are gone; the others are looked at. A thread that ends
// meanwhile goes from these to those; `sequence` is odd while one does, and tells whether one has: then it is in neither, and
// this is no success.
static __always_inline int add_process(struct sum *sum, struct task_struct *task)
{
	struct signal_struct *signal = read_field(task, signal);
	__u32 sequence = read_field(signal, stats_lock.seqcount.seqcount.sequence) & ~1; // if it is odd, it will differ

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
	sum->others = 0;
	sum->task = task;
	struct list_head *head = (void *)signal + bpf_core_field_offset(struct signal_struct, thread_head);
	sum->head = head;
	sum->node = read_field(head, next);
	if (sum->node != sum->head)
		bpf_loop(THREADS, add_thread, sum, 0);
	return sum->node == sum->head && sequence == read_field(signal, stats_lock.seqcount.seqcount.sequence);
}

// Pages that an address space has, and has had.
static __always_inline __u64 most_pages(struct mm_struct *mm)
{
	__s64 now = 0, most = read_field(mm, hiwater_rss);
	if (bpf_core_field_exists(mm->rss_stat[0].count)) {
		now = read_field(mm, rss_stat[0].count) + read_field(mm, rss_stat[1].count) + read_field(mm, rss_stat[3].count);
	} else {
		struct mm_struct___old *old = (void *)mm;
		now = read_field(old, rss_stat.count[0].counter) + read_field(old, rss_stat.count[1].counter) +
		      read_field(old, rss_stat.count[3].counter);
	}
	return now > most ? now : most;
}

static __noinline int take_exit(const struct event *event)
{
	struct exit *exit = bpf_ringbuf_reserve(&RING, sizeof(*exit), 0);
	if (!exit)
		return 0;

	struct task_struct *task = bpf_get_current_task_btf();
	struct sum sum = {};
	exit->event = *event;
	exit->start = task->start_boottime;
	exit->rss = exit->at_least = 0;
	if (event->tid != event->tgid) {
		add_task(&sum, task);
	} else {
		exit->at_least = 1;
		for (int i = 0; i < TRIES && exit->at_least; i++)
			exit->at_least = !add_process(&sum, task);
		exit->rss = read_field(task, signal, maxrss);
		// Where the first thread ends before others, the memory is still theirs, and not in the sum.
		struct task_struct *other = sum.other;
		struct mm_struct *mm = other ? read_field(other, mm) : 0;
		__u64 pages = mm ? most_pages(mm) : 0;
		if (exit->rss < pages)
			exit->rss = pages;
	}
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
