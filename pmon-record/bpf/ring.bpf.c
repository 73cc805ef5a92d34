// SPDX-License-Identifier: MIT OR GPL-2.0
//
// A filter on the recorder's socket. The kernel runs it for each event, in the task that causes the
// event, before the event is queued. The filter copies the event into a ring that the recorder has
// mapped, and drops it from the socket. Events that do not fit into the ring, and datagrams of
// another form or sender, go to the socket's queue.
//
// Execs and exits carry details (details.h, signals.h). If the scope excludes events (scope.h), none goes to
// the queue: only the ring transports the count of excluded events.
//
// ./build compiles this file to the object beside it, which the recorder loads.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "kernel.h"
#include "record.h"

#define QUEUE -1 // Accept all bytes of the datagram.

// Settings of the recorder. They are constants, so the verifier removes code that is not used, even
// if the kernel does not support it.
const volatile __u32 ARGS = 4096; // Maximum bytes of arguments.
const volatile __u32 FILTER = 0;  // Whether the scope excludes events.

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20); // The loader sets the actual size.
} RING SEC(".maps");

// Whether the recorder sleeps. Only the next event wakes it.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} ASLEEP SEC(".maps");

// Numbers of events that are not in the ring, per CPU.
struct counts {
	__u64 spilled, dropped, left_out;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} COUNTS SEC(".maps");

// Makes an entry visible to the recorder.
static __always_inline void submit(void *entry)
{
	// The recorder sets ASLEEP and then reads the ring; this function writes the ring and then reads
	// ASLEEP. Each needs a full barrier in between, or both can miss the other's write. Any atomic
	// operation is one.
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

#define read_field BPF_CORE_READ

// The current task, as an address without a type. The verifier searches the kernel's BTF by name
// three times for each load through a typed pointer: that took 50 ms of a start.
static __always_inline struct task_struct *current_task(void)
{
	return (void *)bpf_get_current_task();
}

#include "signals.h"
#include "details.h"
#include "scope.h"

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
	__u32 at = bpf_core_field_offset(struct sk_buff, cb) +
		   bpf_core_field_offset(struct netlink_skb_parms, portid);
	if (bpf_probe_read_kernel(&port, sizeof(port), (char *)skb + at) || port)
		return QUEUE;

	struct event event = {};
	if (bpf_skb_load_bytes(skb, 0, event.frame, FRAME))
		return QUEUE;

	__u32 zero = 0;
	struct counts *counts = bpf_map_lookup_elem(&COUNTS, &zero);
	if (!counts)
		return QUEUE;
	if (FILTER && !is_in_scope(&event)) {
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

// For kernels that reject the program with details.
SEC("socket/bare")
int take_bare(struct __sk_buff *skb)
{
	return filter(skb, 0);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
