// SPDX-License-Identifier: MIT OR GPL-2.0
//
// The senders of signals that can kill. A program at the tracepoint `signal_generate` keeps the
// last sender of each signal to each process; the exit that ends a process reads the sender of the
// signal that killed it. Signals themselves take no room in the ring.
#pragma once

#define SIGNALS 64 // Highest signal number.
#define SIGKILL 9

// Signals whose default action does not kill: SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU,
// SIGURG, SIGWINCH (signal(7), with the numbers of x86, Arm and RISC-V).
#define HARMLESS (1u << 17 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 21 | 1u << 22 | 1u << 23 | 1u << 28)

// Results of the tracepoint (include/trace/events/signal.h) of signals that are queued.
#define DELIVERED 0
#define LOSE_INFO 4

// Values instead of a pointer to a siginfo (include/linux/sched/signal.h).
#define SEND_SIG_NOINFO 0
#define SEND_SIG_PRIV 1

#define SI_USER 0
#define SI_KERNEL 0x80

#define SIG_IGN 1             // Higher values are addresses of handlers.
#define STACK 65536           // Maximum bytes of a kernel stack.
#define SIGNAL_GROUP_EXIT 4

struct target {
	__u32 tgid, signal;
};

struct sent {
	__u64 target_start; // Nanoseconds since boot: another process can get the ID.
	__u32 is_final;     // Whether the process is ending by this signal.
	struct origin origin;
};

// A sender that is evicted before the exit is unknown.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, struct target);
	__type(value, struct sent);
} SENDERS SEC(".maps");

// Whether the process handles the signal. If it is blocked, the process can still change that, for
// example by an exec.
static __always_inline int is_handled(struct task_struct *task, __u32 signal)
{
	struct k_sigaction *action = (void *)read_field(task, sighand) +
				     bpf_core_field_offset(struct sighand_struct, action) +
				     (signal - 1) * bpf_core_type_size(struct k_sigaction);
	return (__u64)read_field(action, sa.sa_handler) > SIG_IGN &&
	       !(read_field(task, blocked.sig[0]) >> (signal - 1) & 1);
}

// Whether the kernel has already decided that the process ends by this signal.
static __always_inline int is_ending(struct task_struct *task, __u32 signal)
{
	struct signal_struct *shared = read_field(task, signal);
	return read_field(shared, flags) & SIGNAL_GROUP_EXIT && read_field(shared, group_exit_code) == signal;
}

// Reads the origin of a signal from its siginfo. A process cannot forge SI_USER and SI_TKILL, but
// any other code up to 0. Its siginfo is on its stack then; that of a timer is not.
static __always_inline void read_origin(struct origin *origin, __u64 info, struct target *target)
{
	struct task_struct *sender = current_task();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	int is_process;
	if (info == SEND_SIG_NOINFO) {
		// The kernel sends SIGPIPE and SIGXFSZ to the current process like this. Writes to cgroup.kill
		// and ends of parents (PR_SET_PDEATHSIG) are the others.
		origin->code = SI_USER;
		is_process = tgid != target->tgid || target->signal == SIGKILL;
	} else if (info == SEND_SIG_PRIV) {
		origin->code = SI_KERNEL;
		is_process = 0;
	} else {
		origin->code = read_field((struct kernel_siginfo *)info, si_code);
		is_process = origin->code <= 0 && info - (__u64)read_field(sender, stack) < STACK;
	}
	if (!is_process) {
		origin->kind = FROM_KERNEL;
		return;
	}
	struct task_struct *leader = read_field(sender, group_leader);
	origin->kind = FROM_PROCESS;
	origin->tgid = tgid;
	origin->uid = bpf_get_current_uid_gid();
	origin->start = read_field(leader, start_boottime);
	bpf_probe_read_kernel(origin->comm, sizeof(origin->comm), leader->comm);
}

SEC("raw_tp/signal_generate")
int keep_sender(struct bpf_raw_tracepoint_args *context)
{
	struct target target = {.signal = context->args[0]};
	if (target.signal < 32 && HARMLESS >> target.signal & 1)
		return 0;
	__u64 result = context->args[4];
	if (result != DELIVERED && result != LOSE_INFO)
		return 0;
	struct task_struct *task = (void *)context->args[2];
	if (!target.signal || target.signal > SIGNALS || is_handled(task, target.signal))
		return 0;

	struct sent sent = {};
	target.tgid = read_field(task, tgid);
	sent.target_start = read_field(task, group_leader, start_boottime);
	struct sent *before = bpf_map_lookup_elem(&SENDERS, &target);
	if (before && before->is_final && before->target_start == sent.target_start)
		return 0;
	sent.is_final = is_ending(task, target.signal);
	read_origin(&sent.origin, context->args[1], &target);
	// The tracepoint is reached with the lock of the process's signals, so no other sender writes here.
	if (before)
		*before = sent;
	else
		bpf_map_update_elem(&SENDERS, &target, &sent, BPF_ANY);
	return 0;
}

// Adds the origin of the signal that killed the process. `exit->status` is its wait status. The sender
// is removed only if the process never had another thread: several threads that end at the same time
// each take themselves for the last one. Other senders are left to be evicted.
static __always_inline void take_origin(struct exit *exit, struct task_struct *task, __u32 others)
{
	struct target target = {.tgid = exit->event.tgid, .signal = exit->status & 0x7f};
	if (!target.signal)
		return;
	struct signal_struct *shared = read_field(task, signal);
	if (bpf_core_field_exists(shared->oom_mm))
		exit->oom = read_field(shared, oom_mm) ? OOM_VICTIM : NO_OOM_VICTIM;
	struct sent *sent = bpf_map_lookup_elem(&SENDERS, &target);
	if (!sent || sent->target_start != read_field(task, group_leader, start_boottime))
		return;
	exit->origin = sent->origin;
	// The sum is that of the threads that have been removed already.
	if (!others && !read_field(shared, sum_sched_runtime))
		bpf_map_delete_elem(&SENDERS, &target);
}
