// SPDX-License-Identifier: MIT OR GPL-2.0
//
// Selects the events of the scope. The kernel also numbers the others, so they are counted per
// CPU.
#pragma once

#define LEVELS 256 // Maximum depth of the scope's cgroup; the recorder rejects deeper ones.
#define ANCESTORS 64 // Maximum number of ancestors searched for a mark.

const volatile __u32 KINDS = -1;   // Kinds of events, as bits of `proc_event.what`.
const volatile __u32 UIDS = 0;     // Number of user ids in UID; 0 selects all users.
const volatile __u32 UID[16] = {};
const volatile __u64 CGROUP = 0;   // Id of the cgroup; 0 selects all.
const volatile __u32 BY_TREE = 0;  // Whether to select the processes of a tree.
const volatile __u32 CHILDREN = 0; // Whether the recorder's children are in the tree.
const volatile __u32 RECORDER = 0; // Process id of the recorder, whose heartbeats always pass.

// One byte per process ID: whether the process is in the tree. The recorder maps this memory and
// marks processes while the BPF program does the same; separate bytes need no lock.
struct slab {
	__u8 is_member[64];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); // The loader sets the actual number.
	__type(key, __u32);
	__type(value, struct slab);
} TREE SEC(".maps");

// Whether the recorder is still marking the processes that are older than the recording.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} MARKING SEC(".maps");

static __always_inline __u8 *member(__u32 tgid)
{
	__u32 key = tgid / 64;
	struct slab *slab = bpf_map_lookup_elem(&TREE, &key);
	return slab ? &slab->is_member[tgid % 64] : 0;
}

static __always_inline int is_member(__u32 tgid)
{
	__u8 *byte = member(tgid);
	return byte && *byte;
}

// Returns whether an ancestor of a task is in the tree. While the recorder marks older processes,
// an unmarked process can fork; one of its ancestors is marked, at the latest the root.
static __noinline int has_ancestor_in_tree(struct task_struct *task)
{
	for (int i = 0; i < ANCESTORS; i++) {
		task = read_field(task, real_parent);
		__u32 tgid = read_field(task, tgid);
		if (!tgid)
			return 0;
		if (is_member(tgid))
			return 1;
	}
	return 0;
}

// A new process is in the tree if its creator is. Its fork event precedes all its other events, and
// every fork writes the mark, so a reused process ID keeps no mark from its earlier use.
static __always_inline void grow_tree(const struct event *event)
{
	if (event->what != FORK || event->child_tid != event->child_tgid)
		return;
	struct task_struct *task = current_task();
	__u32 creator = read_field(task, tgid), zero = 0;
	__u8 *byte = member(event->child_tgid);
	if (!byte)
		return;
	int is_in = is_member(creator) || (CHILDREN && creator == RECORDER);
	__u32 *marking = bpf_map_lookup_elem(&MARKING, &zero);
	if (!is_in && marking && *marking)
		is_in = has_ancestor_in_tree(task);
	*byte = is_in;
}

// Returns whether a task's cgroup (version 2) is the scope's or a descendant of it.
static __always_inline int is_in_cgroup(struct task_struct *task)
{
	struct cgroup *cgroup = read_field(task, cgroups, dfl_cgrp);
	int level = read_field(cgroup, level);
	for (int i = 0; i < LEVELS && i <= level; i++) {
		__u64 id = 0;
		if (bpf_core_field_exists(cgroup->ancestors)) {
			struct cgroup **at = (void *)cgroup + bpf_core_field_offset(struct cgroup, ancestors);
			struct cgroup *ancestor = 0;
			bpf_probe_read_kernel(&ancestor, sizeof(ancestor), &at[i]);
			id = read_field(ancestor, kn, id);
		} else {
			__u64 *at = (void *)cgroup + bpf_core_field_offset(struct cgroup___old, ancestor_ids);
			bpf_probe_read_kernel(&id, sizeof(id), &at[i]);
		}
		if (id == CGROUP)
			return 1;
	}
	return 0;
}

static __noinline int is_in_scope(const struct event *event)
{
	if (BY_TREE)
		grow_tree(event);
	struct task_struct *task = current_task();
	// The kernel sends each acknowledgement to all listeners, in the task that subscribed.
	if (!event->what)
		return read_field(task, tgid) == RECORDER;
	// The recorder's fences and heartbeats are renames of its threads to names that begin with
	// "pmon/".
	if (event->what == COMM && event->tgid == RECORDER && event->comm[4] == '/')
		return 1;
	if (!(event->what & KINDS))
		return 0;
	if (BY_TREE && !is_member(event->what == FORK ? event->child_tgid : event->tgid))
		return 0;
	if (CGROUP && !is_in_cgroup(task))
		return 0;
	if (!UIDS)
		return 1;
	__u32 uid = read_field(task, cred, uid.val);
	for (int i = 0; i < 16; i++)
		if (i < UIDS && UID[i] == uid)
			return 1;
	return 0;
}
