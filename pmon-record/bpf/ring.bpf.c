// SPDX-License-Identifier: MIT OR GPL-2.0
//
// A filter on the recorder's socket. It runs for each event, in the task that causes it, before the event is queued:
// it copies the event into a ring that the recorder has mapped, and keeps it from the queue. What does not fit into
// the ring, and whatever is not a kernel's event in its usual form, goes to the queue.
//
// With an exec goes what the process is from then on, with an exit what it has used: details.h. Where not all events are wanted
// (wanted.h), nothing spills: the count of those left out comes by the ring only.
//
// Built by ./build; the object beside this file is what the recorder loads.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel.h"
#include "record.h"

#define QUEUE -1 // accept all bytes of it

// What the recorder wants; constants, so that the verifier leaves out what is not wanted, also where it could not be had.
const volatile __u32 ARGS = 4096; // most bytes of arguments
const volatile __u32 FILTER = 0;  // whether not all events are wanted

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20); // the loader sets another
} RING SEC(".maps");

// Whether the recorder sleeps: then the next event wakes it, and only that one.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ASLEEP SEC(".maps");

// What did not come into the ring, of each CPU.
struct counts {
	__u64 spilled, dropped, left_out;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} COUNTS SEC(".maps");

// Ends an entry of the ring.
static __always_inline void submit(void *entry)
{
	// The recorder says that it sleeps, and then looks at the ring; this looks in the other order. In between, each needs a full
	// barrier, lest both miss the other's news: an atomic operation on whatever.
	__u64 barrier = 0;
	__sync_fetch_and_add(&barrier, 1);
	__u32 zero = 0;
	__u32 *asleep = bpf_map_lookup_elem(&ASLEEP, &zero);
	__u64 wakeup = BPF_RB_NO_WAKEUP;
	if (asleep && *asleep) {
		*asleep = 0;
		wakeup = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(entry, wakeup);
}

#include "details.h"
#include "wanted.h"

static __always_inline int take_event(const struct event *event)
{
	struct event *entry = bpf_ringbuf_reserve(&RING, sizeof(*entry), 0);
	if (!entry)
		return 0;
	*entry = *event;
	submit(entry);
	return 1;
}

static __always_inline int filter(struct __sk_buff *skb, int details)
{
	if (skb->len != FRAME)
		return QUEUE;

	// Only the kernel sends from port 0. The context is the kernel's sk_buff.
	__u32 port = 1;
	__u32 at = bpf_core_field_offset(struct sk_buff, cb) + bpf_core_field_offset(struct netlink_skb_parms, portid);
	if (bpf_probe_read_kernel(&port, sizeof(port), (char *)skb + at) || port)
		return QUEUE;

	struct event event = {};
	if (bpf_skb_load_bytes(skb, 0, event.frame, FRAME))
		return QUEUE;

	__u32 zero = 0;
	struct counts *counts = bpf_map_lookup_elem(&COUNTS, &zero);
	if (!counts)
		return QUEUE;
	if (FILTER && !is_wanted(&event)) {
		counts->left_out++;
		return 0;
	}
	event.left_out = counts->left_out;

	int taken;
	if (details && event.what == EXEC)
		taken = take_exec(&event);
	else if (details && event.what == EXIT)
		taken = take_exit(&event);
	else
		taken = take_event(&event);
	if (taken)
		return 0;
	if (FILTER) {
		counts->dropped++;
		return 0;
	}
	counts->spilled++;
	return QUEUE;
}

SEC("socket/details")
int take_with_details(struct __sk_buff *skb)
{
	return filter(skb, 1);
}

// For kernels that refuse the other.
SEC("socket/bare")
int take_bare(struct __sk_buff *skb)
{
	return filter(skb, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
