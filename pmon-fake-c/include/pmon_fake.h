/*
 * pmon_fake.h - a model of the kernel's proc connector, for tests of programs that consume process
 * events. No privileges are needed.
 *
 * A test creates a kernel and opens a socket of it. The socket is a file descriptor, which the program
 * under test reads with recv(2), poll(2) or epoll(7). The test then makes the processes of the kernel
 * fork, exec and exit, and chooses which events are lost. docs/testing-c.md has a complete example,
 * and docs/fake-kernel.md describes the model.
 *
 * Results: a function that returns int or pid_t returns a negative errno if it fails, such as -ESRCH
 * for a process that does not exist, and -EINVAL for a null pointer; a function that returns a pointer
 * returns NULL. pmon_last_error() then returns the reason. A failed call changes nothing, except that
 * an event has happened if the reason is that it cannot be delivered, for example because the process
 * has changed its effective user id. No function changes errno or raises a signal.
 *
 * Events: when a function that causes events returns, the events are in the sockets' receive buffers,
 * or were dropped because a buffer is full. Requests that a program has sent before are handled first.
 * A thread of the library handles the others, so that a program may wait for an acknowledgement.
 *
 * Threads: a kernel may be used by several threads at once; the calls happen one after the other.
 * pmon_kernel_free() must be the last call. A descriptor may be read by any thread or process. In a
 * child process that fork(2) created, only the descriptors may be used, not the functions.
 *
 * Strings end with a zero byte and must be UTF-8. They are copied.
 */


#ifndef PMON_FAKE_H
#define PMON_FAKE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

// The socket is non-blocking (O_NONBLOCK).
#define PMON_SOCK_NONBLOCK 1

// The socket has subscribed to all events already, and has read the acknowledgement.
#define PMON_SOCK_LISTEN 2

// The socket is one end of a SOCK_SEQPACKET pair of AF_UNIX sockets, which every system
// allows. It never returns ENOBUFS: an overrun shows only by missing sequence numbers. After
// pmon_kernel_end_of_file(), recv returns 0.
#define PMON_SOCK_PAIR 4

// The socket is a netlink socket if this system allows it, or else one end of a pair. SO_DOMAIN
// distinguishes the two.
#define PMON_SOCK_ANY 8

// A fake kernel.
typedef struct pmon_kernel pmon_kernel;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Returns the version of the library, such as 0.1.0.
const char *pmon_fake_version(void);

// Returns the reason of the last call of this thread that failed, or an empty text. It stays valid
// until another call of this thread fails.
const char *pmon_last_error(void);

// Creates a kernel with 1 to 8192 CPUs, on which only process 1, init, runs.
//
// Returns NULL if there is no such number of CPUs (EINVAL), or no descriptor left.
pmon_kernel *pmon_kernel_new(uint32_t cpus);

// Frees a kernel; NULL has no effect.
//
// The descriptors of its sockets stay open, and can still be closed by close. What they have in
// their receive buffers can still be read. After that, one end of a pair is at the end of file,
// and a netlink socket receives three messages of type NLMSG_NOOP and then no more.
void pmon_kernel_free(pmon_kernel *kernel);

// Opens a socket of a privileged process, bound to the group of process events, and returns its
// descriptor, with FD_CLOEXEC. The caller closes it.
//
// flags is 0, or a sum of PMON_SOCK_*. Without PMON_SOCK_LISTEN, the program subscribes by
// sending a request (PROC_CN_MCAST_LISTEN) without an address; a request to an explicit address
// has no effect. The kernel then sends an acknowledgement.
//
// By default the socket is a netlink socket in a network namespace of its own. Its overruns return
// ENOBUFS, SO_RCVBUF and NETLINK_NO_ENOBUFS have their usual effects, and events come from
// port 0. That needs unprivileged user namespaces: where they are missing, the call fails with the
// error of clone3, such as -EPERM, unless flags has PMON_SOCK_PAIR or PMON_SOCK_ANY.
int pmon_kernel_socket(const pmon_kernel *kernel, unsigned int flags);

// Handles the requests that programs have sent until now. All other functions do so too.
int pmon_kernel_sync(const pmon_kernel *kernel);

// Stores the kernel's count of listeners in *count. While it is below 1, no event is emitted.
int pmon_kernel_listeners(const pmon_kernel *kernel, int32_t *count);

// Stores the number of events that have happened in *count, including those that were not
// emitted. The next event has this number in a fault script.
int pmon_kernel_events(const pmon_kernel *kernel, uint64_t *count);

// Sets the CPU on which the next events happen; at first, it is CPU 0.
//
// Returns -EINVAL if there is no such CPU.
int pmon_kernel_run_on(const pmon_kernel *kernel, uint32_t cpu);

// Advances the clock by ns nanoseconds. With each event, it advances by 1,000.
int pmon_kernel_advance(const pmon_kernel *kernel, uint64_t ns);

// Ends the input: a pair is at the end of file, for good, once its receive buffer is empty.
//
// Returns -EOPNOTSUPP if the kernel has a netlink socket, which has no end of file.
int pmon_kernel_end_of_file(const pmon_kernel *kernel);

// Adds a process that already runs, without an event; returns its id. Its parent is init, and it
// is named comm, of which 15 bytes are used.
pid_t pmon_kernel_add_process(const pmon_kernel *kernel, const char *comm);

// Sets the id of the next process or thread, from 1 to 4194303. If it is taken, the next free one
// is used. At first, it is 300.
int pmon_kernel_set_next_pid(const pmon_kernel *kernel, pid_t pid);

// The thread parent forks (fork); returns the id of the child.
pid_t pmon_kernel_fork(const pmon_kernel *kernel, pid_t parent);

// The thread creator starts a thread in its process (clone(CLONE_THREAD)); returns the id of
// the thread. The parent in the event is the thread that forked the process.
pid_t pmon_kernel_clone_thread(const pmon_kernel *kernel, pid_t creator);

// The thread tid executes a program (execve); argv ends with NULL. The other threads of its
// process end first. After that, the only thread of the process has the id of the process.
int pmon_kernel_exec(const pmon_kernel *kernel,
                     pid_t tid,
                     const char *path,
                     const char *const *argv);

// The thread tid ends (exit), with the lowest 8 bits of status as its exit status. With its
// last thread, the process ends.
int pmon_kernel_exit(const pmon_kernel *kernel, pid_t tid, int status);

// The process of the thread tid ends with all its threads (exit_group), with the lowest 8 bits
// of status as its exit status.
int pmon_kernel_exit_group(const pmon_kernel *kernel, pid_t tid, int status);

// The process of the thread tid ends by signal, from 1 to 64. A signal that dumps core, such
// as SIGSEGV, emits a core-dump event; core decides whether a core is written, which the exit
// status reports.
int pmon_kernel_kill(const pmon_kernel *kernel, pid_t tid, int signal, bool core);

// The thread tid is renamed (prctl(PR_SET_NAME)). Of comm, 15 bytes are used.
int pmon_kernel_rename(const pmon_kernel *kernel, pid_t tid, const char *comm);

// The thread tid sets its real and effective user id (setresuid). There is no event if neither
// changes.
int pmon_kernel_setuid(const pmon_kernel *kernel, pid_t tid, uid_t real, uid_t effective);

// The thread tid sets its real and effective group id (setresgid). There is no event if
// neither changes.
int pmon_kernel_setgid(const pmon_kernel *kernel, pid_t tid, gid_t real, gid_t effective);

// The process of the thread tid becomes the leader of a session (setsid). There is no event if
// it leads one already.
int pmon_kernel_setsid(const pmon_kernel *kernel, pid_t tid);

// The thread tracer attaches to the thread tid (ptrace(PTRACE_ATTACH)).
int pmon_kernel_ptrace_attach(const pmon_kernel *kernel, pid_t tracer, pid_t tid);

// The tracer of the thread tid detaches (ptrace(PTRACE_DETACH)).
int pmon_kernel_ptrace_detach(const pmon_kernel *kernel, pid_t tid);

// The next events events are lost: they happen, but each socket drops them as if its receive
// buffer were full. Their sequence numbers are missing, and the next recv returns ENOBUFS,
// before the events that are still in the buffer. Until a receive call leaves the buffer empty,
// the socket drops everything, as after any overrun.
//
// The functions for overruns report ENOBUFS on netlink sockets only.
int pmon_kernel_lose(const pmon_kernel *kernel, uint64_t events);

// Loses the next events, as pmon_kernel_lose() does, up to but not including the one that
// place names, such as { kind = "exec", pid = 5071 }: docs/fake-kernel.md lists the
// conditions.
//
// Returns -EINVAL if the place is invalid.
int pmon_kernel_lose_until(const pmon_kernel *kernel, const char *place);

// events events of CPU cpu happen at once, and are dropped as if all receive buffers were
// full: their sequence numbers are missing, and the next recv returns ENOBUFS, before the
// events that are still in the buffer. They are events of no process, and no other event is
// dropped.
int pmon_kernel_overrun(const pmon_kernel *kernel, uint32_t cpu, uint64_t events);

// events events of CPU cpu happen at once, for which the kernel has no memory: their sequence
// numbers are missing, without an error. They are events of no process.
int pmon_kernel_no_memory(const pmon_kernel *kernel, uint32_t cpu, uint64_t events);

// Starts a fault script, the text of a TOML file as docs/fake-kernel.md describes it. It replaces
// the previous one. seed selects its random numbers.
//
// Returns -EINVAL if the script is invalid; pmon_last_error() then names the line.
int pmon_kernel_inject(const pmon_kernel *kernel, const char *script, uint64_t seed);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PMON_FAKE_H */
