// SPDX-License-Identifier: MIT OR GPL-2.0
//
// A filter on the recorder's socket. It runs for each event, in the task that causes it, before the event is queued:
// it copies the event into a ring that the recorder has mapped, and keeps it from the queue. What does not fit into
// the ring, and whatever is not a kernel's event in its usual form, goes to the queue.
//
// Built by ./build; the object beside this file is what the recorder loads.

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define FRAME 76 // a netlink message with one proc_event
#define QUEUE -1 // accept all bytes of it

// What is needed of the kernel's structures; where the fields are, the loader finds out.
struct sk_buff {
	char cb[48];
} __attribute__((preserve_access_index));

struct netlink_skb_parms {
	__u32 portid;
} __attribute__((preserve_access_index));

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

SEC("socket")
int take(struct __sk_buff *skb)
{
	if (skb->len != FRAME)
		return QUEUE;

	// Only the kernel sends from port 0. The context is the kernel's sk_buff.
	__u32 port = 1;
	__u32 at = bpf_core_field_offset(struct sk_buff, cb) + bpf_core_field_offset(struct netlink_skb_parms, portid);
	if (bpf_probe_read_kernel(&port, sizeof(port), (char *)skb + at) || port)
		return QUEUE;

	char *frame = bpf_ringbuf_reserve(&RING, FRAME, 0);
	if (!frame)
		return QUEUE;
	if (bpf_skb_load_bytes(skb, 0, frame, FRAME)) {
		bpf_ringbuf_discard(frame, BPF_RB_NO_WAKEUP);
		return QUEUE;
	}
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
	bpf_ringbuf_submit(frame, wakeup);
	return 0;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
