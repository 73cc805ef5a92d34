/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * A 32-bit program without a C library, so that it can be built and run on every x86-64 system. It
 * receives events and prints them as the other clients do. Modes: direct, with a system call for
 * each operation on sockets; socketcall, with the older call whose arguments are in memory; proc:
 * prints what /proc shows of each process that executes a program; structs: checks the calls whose
 * structs differ from those of 64-bit programs; probe: exits at once. */

typedef unsigned int u32;
typedef unsigned short u16;

/* Numbers of system calls. */
enum { READ = 3, WRITE = 4, OPEN = 5, CLOSE = 6, GETPID = 20, KILL = 37, DUP = 41, FCNTL64 = 221 };
enum { READLINK = 85, SOCKETCALL = 102, LSTAT64 = 196, FSTAT64 = 197, GETDENTS64 = 220, EXIT_GROUP = 252 };
enum { SOCKET = 359, BIND = 361, GETSOCKOPT = 365, SETSOCKOPT = 366, GETSOCKNAME = 367 };
enum { SENDTO = 369, SENDMSG = 370, RECVFROM = 371 };
/* Operations of socketcall. */
enum { OP_SOCKET = 1, OP_BIND = 2, OP_SEND = 9, OP_RECV = 10 };
enum { AF_NETLINK = 16, SOCK_DGRAM = 2, NETLINK_CONNECTOR = 11, SOL_SOCKET = 1, SCM_CREDENTIALS = 2 };
enum { SO_RCVTIMEO = 20, SO_ATTACH_FILTER = 26, SO_RCVTIMEO_NEW = 66 };
enum { EINVAL = 22, ESRCH = 3, EMSGSIZE = 90, F_DUPFD = 0 };
enum { FORK = 1, EXEC = 2, COMM = 0x200, EXIT = 0x80000000u };

long syscall6(long nr, long a, long b, long c, long d, long e, long f);
__asm__("syscall6: pushl %ebp; pushl %edi; pushl %esi; pushl %ebx\n"
        "movl 20(%esp), %eax; movl 24(%esp), %ebx; movl 28(%esp), %ecx; movl 32(%esp), %edx\n"
        "movl 36(%esp), %esi; movl 40(%esp), %edi; movl 44(%esp), %ebp; int $0x80\n"
        "popl %ebx; popl %esi; popl %edi; popl %ebp; ret");

static long call(long nr, long a, long b, long c, long d) { return syscall6(nr, a, b, c, d, 0, 0); }

void *memcpy(void *to, const void *from, u32 length) {
    for (u32 i = 0; i < length; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int value, u32 length) {
    for (u32 i = 0; i < length; i++) ((char *)to)[i] = value;
    return to;
}

/* A line of output. */
static char line[512];
static u32 used;

static void put(const char *text) {
    while (*text && used < sizeof line) line[used++] = *text++;
}

static void put_number(u32 number) {
    char digits[12] = "";
    int at = 11;
    do digits[--at] = '0' + number % 10;
    while (number /= 10);
    put(&digits[at]);
}

static void put_event(const char *name, u32 first) {
    put(name);
    put_number(first);
}

static void end_line(void) {
    put("\n");
    call(WRITE, 1, (long)line, used, 0);
    used = 0;
}

/* Terminates a path in the line, and clears the line. */
static void end_path(void) {
    line[used] = 0;
    used = 0;
}

static void check(int holds, const char *what) {
    if (holds) return;
    put("wrong: ");
    put(what);
    end_line();
    call(EXIT_GROUP, 9, 0, 0, 0);
}

static int is_mode(const char *arg, const char *mode) {
    while (*arg && *arg == *mode) arg++, mode++;
    return *arg == *mode;
}

/* A request with its headers, as in <linux/cn_proc.h>. */
static u32 request[10] = {40, 3, 0, 0, 1, 1, 0, 0, 4, 1};
static u32 address[3] = {AF_NETLINK, 0, 1};
static struct {
    u32 headers[9], what, cpu, time[2], data[6];
} message;

static void put_message(void) {
    const u32 *data = message.data;
    switch (message.what) {
    case 0: put("ack"); break;
    case FORK: put_event("fork ", data[0]), put_event(" ", data[2]); break;
    case EXEC: put_event("exec ", data[0]); break;
    case 4: put_event("uid ", data[0]), put_event(" ", data[2]), put_event(" ", data[3]); break;
    case 0x40: put_event("gid ", data[0]), put_event(" ", data[2]), put_event(" ", data[3]); break;
    case 0x80: put_event("sid ", data[0]); break;
    case 0x100: put_event("ptrace ", data[0]), put_event(" ", data[2]); break;
    case COMM: put_event("comm ", data[0]), put(" "), put((const char *)&data[2]); break;
    case 0x40000000: put_event("coredump ", data[0]); break;
    case EXIT: put_event("exit ", data[0]), put_event(" ", data[2]); break;
    }
    end_line();
}

static long socketcall(long operation, long a, long b, long c, long d) {
    u32 words[] = {a, b, c, d};
    return call(SOCKETCALL, operation, (long)words, 0, 0);
}

static int open_directly(void) {
    int fd = call(SOCKET, AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR, 0);
    check(fd >= 0, "socket");
    check(call(BIND, fd, (long)address, 12, 0) == 0, "bind");
    return fd;
}

static void subscribe(int fd) { check(call(SENDTO, fd, (long)request, 40, 0) == 40, "sendto"); }

/* Checks that all inode numbers of a process's directory have 32 bits, as in the kernel's procfs. */
static void check_listing(u32 pid) {
    char entries[4096];
    put_event("/proc/", pid);
    end_path();
    int fd = call(OPEN, (long)line, 0200000, 0, 0);
    long length = call(GETDENTS64, fd, (long)entries, sizeof entries, 0);
    check(length > 0, "getdents64");
    for (long at = 0; at < length; at += *(u16 *)&entries[at + 16])
        check(*(u32 *)&entries[at + 4] == 0 && *(u32 *)&entries[at + 12] == 0, "length of an inode number");
    call(CLOSE, fd, 0, 0, 0);
}

/* Prints what /proc shows of a process. */
static void put_process(u32 pid) {
    char buffer[128];
    u32 stat[24];
    used = 0;
    put_event("/proc/", pid), put("/comm");
    end_path();
    int fd = call(OPEN, (long)line, 0, 0, 0);
    if (fd < 0) {
        put_event("exec ", pid), end_line();
        return;
    }
    long length = call(READ, fd, (long)buffer, sizeof buffer - 1, 0);
    check(call(FSTAT64, fd, (long)stat, 0, 0) == 0, "fstat64");
    check(stat[4] == 0100444 && stat[5] == 1, "mode and links of a file");
    call(CLOSE, fd, 0, 0, 0);
    u32 owner = stat[6];
    put_event("/proc/", pid), put("/exe");
    end_path();
    check(call(LSTAT64, (long)line, (long)stat, 0, 0) == 0, "lstat64");
    check(stat[4] == 0120777 && stat[3] == stat[22], "mode and inode of a link");
    char target[128];
    long target_length = call(READLINK, (long)line, (long)target, sizeof target - 1, 0);
    check(call(KILL, pid, 0, 0, 0) == 0 && call(KILL, 4194000, 0, 0, 0) == -ESRCH, "kill");
    check_listing(pid);
    check(length > 0 && target_length > 0, "comm and exe");
    buffer[length - 1] = target[target_length] = 0;
    put_event("exec ", pid), put(" "), put(buffer), put(" "), put(target), put_event(" uid ", owner);
    end_line();
}

static void check_structs(int fd) {
    /* struct timeval; the newer option has 64-bit numbers. */
    u32 time[4] = {1, 500000, 7, 7}, length = 16;
    check(call(SETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)time) == -EINVAL, "no length");
    check(syscall6(SETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)time, 8, 0) == 0, "SO_RCVTIMEO");
    time[0] = time[1] = 0;
    check(syscall6(GETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)time, (long)&length, 0) == 0, "getsockopt");
    check(length == 8 && time[0] == 1 && time[1] == 500000 && time[2] == 7, "struct timeval");
    u32 new_time[4] = {0, 0, 20000, 0};
    check(syscall6(SETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO_NEW, (long)new_time, 16, 0) == 0, "SO_RCVTIMEO_NEW");
    length = 8;
    check(syscall6(GETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)time, (long)&length, 0) == 0, "getsockopt");
    check(time[0] == 0 && time[1] == 20000, "time-out in both layouts");
    time[1] = 0;
    check(syscall6(SETSOCKOPT, fd, SOL_SOCKET, SO_RCVTIMEO, (long)time, 8, 0) == 0, "no time-out");
    u32 name[3];
    length = 12;
    check(call(GETSOCKNAME, fd, (long)name, (long)&length, 0) == 0 && length == 12, "getsockname");
    check(name[1] == (u32)call(GETPID, 0, 0, 0, 0) && name[2] == 1, "port and groups");
    /* struct sock_fprog: accepts all. */
    struct {
        u16 code;
        unsigned char jt, jf;
        u32 k;
    } accept = {6, 0, 0, ~0u};
    u32 program[2] = {1, (u32)&accept};
    check(syscall6(SETSOCKOPT, fd, SOL_SOCKET, SO_ATTACH_FILTER, (long)program, 16, 0) == -EINVAL, "length of sock_fprog");
    check(syscall6(SETSOCKOPT, fd, SOL_SOCKET, SO_ATTACH_FILTER, (long)program, 8, 0) == 0, "SO_ATTACH_FILTER");
    int copy = call(DUP, fd, 0, 0, 0), other = call(FCNTL64, fd, F_DUPFD, 0, 0);
    check(copy >= 0 && other >= 0 && other != copy, "dup");
    /* struct msghdr with two parts and credentials. */
    u32 parts[] = {(u32)request, 20, (u32)&request[5], 20};
    u32 control[] = {24, SOL_SOCKET, SCM_CREDENTIALS, 0, 0, 0};
    u32 header[] = {0, 0, (u32)parts, 2, (u32)control, sizeof control, 0};
    control[0] = 11;
    check(call(SENDMSG, copy, (long)header, 0, 0) == -EINVAL, "short control message");
    control[0] = 24;
    parts[3] = -1;
    check(call(SENDMSG, copy, (long)header, 0, 0) == -EINVAL, "negative length");
    parts[3] = 20;
    header[3] = 1025;
    check(call(SENDMSG, copy, (long)header, 0, 0) == -EMSGSIZE, "number of parts");
    header[3] = 2;
    check(call(SENDMSG, copy, (long)header, 0, 0) == 40, "sendmsg");
    call(CLOSE, copy, 0, 0, 0), call(CLOSE, other, 0, 0, 0);
}

void start(u32 *stack) {
    const char *mode = stack[0] > 1 ? (const char *)stack[2] : "";
    if (is_mode(mode, "probe")) call(EXIT_GROUP, 0, 0, 0, 0);
    address[1] = request[3] = call(GETPID, 0, 0, 0, 0);
    int by_socketcall = is_mode(mode, "socketcall"), fd;
    if (by_socketcall) {
        fd = socketcall(OP_SOCKET, AF_NETLINK, SOCK_DGRAM, NETLINK_CONNECTOR, 0);
        check(fd >= 0 && socketcall(OP_BIND, fd, (long)address, 12, 0) == 0, "bind");
        check(socketcall(OP_SEND, fd, (long)request, 40, 0) == 40, "send");
    } else {
        fd = open_directly();
        if (is_mode(mode, "structs")) check_structs(fd);
        else subscribe(fd);
    }
    for (;;) {
        memset(&message, 0, sizeof message);
        long length = by_socketcall ? socketcall(OP_RECV, fd, (long)&message, sizeof message, 0)
                                    : syscall6(RECVFROM, fd, (long)&message, sizeof message, 0, 0, 0);
        check(length >= 0, "receive");
        if (!is_mode(mode, "proc")) put_message();
        else if (message.what == EXEC) put_process(message.data[1]);
    }
}

__asm__(".globl _start\n_start: movl %esp, %eax; andl $-16, %esp; subl $12, %esp; pushl %eax; call start");
