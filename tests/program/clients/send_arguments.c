/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Sends with every kind of argument; see arguments.h. */
#include "arguments.h"

static struct sockaddr_nl to_receiver = {.nl_family = AF_NETLINK};

/* Connects the sender to the receiver, or not to any socket. */
static void connect_sender(int is_connected) {
    struct sockaddr_nl to = to_receiver;
    if (!is_connected) to.nl_family = AF_UNSPEC;
    if (connect(sender, (struct sockaddr *)&to, sizeof to) < 0) die("connect");
}

static const unsigned send_flags[] = {
    MSG_OOB, MSG_PEEK, MSG_DONTROUTE, MSG_CTRUNC, 0x10, MSG_TRUNC, MSG_DONTWAIT, MSG_EOR, MSG_WAITALL, MSG_CONFIRM,
    MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_MORE, 0x10000, 0x40000, 0x80000, 0x1000000, MSG_ZEROCOPY, MSG_FASTOPEN,
    MSG_CMSG_CLOEXEC, 0x80000000u, ~0u & ~MSG_OOB};

static void test_send(void) {
    static const long send_sizes[] = {0, 1, 2, 6, 7, 60, 64, 4096, 4097, 0x7FFFFFFF, 0x80000000, -1};
    static const int families[] = {AF_NETLINK, AF_UNSPEC, AF_UNIX, 0xFFFF};
    for EACH(at, all_places) for EACH(size, send_sizes) {
        begin(0), connect_sender(1);
        printf("sendto %s %ld", place_names[at], send_sizes[size]), ready();
        CALL(SYS_sendto, sender, place(DATA, at), send_sizes[size], 0, NULL, 0);
        begin(0);
        printf("write %s %ld", place_names[at], send_sizes[size]), ready();
        CALL(SYS_write, sender, place(DATA, at), send_sizes[size]);
        connect_sender(0);
    }
    for EACH(flag, send_flags) for EACH(size, ((int[]){0, 8})) {
        begin(0);
        printf("sendto flags %#x %d", send_flags[flag], size ? 8 : 0), ready();
        CALL(SYS_sendto, sender, areas[DATA], size ? 8 : 0, send_flags[flag], &to_receiver, sizeof to_receiver);
    }
    for EACH(at, all_places) for EACH(length, lengths) for EACH(data, ((int[]){0, 1, 2})) {
        begin(0);
        put(NAME, at, &to_receiver, sizeof to_receiver);
        printf("sendto name %s length %d data %s", place_names[at], lengths[length], data == 0 ? "none" : data == 1 ? "rw" : "unmapped");
        ready();
        CALL(SYS_sendto, sender, place(DATA, data == 2 ? UNMAPPED : RW), data ? 8 : 0, 0, place(NAME, at), lengths[length]);
    }
    for EACH(family, families) for EACH(length, lengths) {
        begin(0);
        struct sockaddr_nl to = to_receiver;
        to.nl_family = families[family], to.nl_pad = 7;
        put(NAME, RW, &to, sizeof to);
        printf("sendto family %d length %d", families[family], lengths[length]), ready();
        CALL(SYS_sendto, sender, areas[DATA], 8, 0, areas[NAME], lengths[length]);
    }
    const uint32_t ports[] = {receiver_port, sender_port, other_port, 0xFFFFFFFF};
    static const uint32_t group_masks[] = {0, 1u << (OTHER_GROUP - 1), 1u << 31, 0x30};
    for EACH(port, ports) for EACH(groups, group_masks) for (int data = 0; data < 3; data++) {
        begin(0);
        struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = ports[port], .nl_groups = group_masks[groups]};
        set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, OTHER_GROUP);
        put(NAME, RW, &to, sizeof to);
        printf("sendto port %zu groups %#x data %d", port, group_masks[groups], data), ready();
        CALL(SYS_sendto, sender, place(DATA, data == 2 ? UNMAPPED : RW), data ? 8 : 0, 0, areas[NAME], 12);
        while (recv(sender, buffer, sizeof buffer, MSG_DONTWAIT) >= 0) {}
    }
    /* What a failed call binds. */
    for EACH(at, ((int[]){0, 1, 2, 3})) {
        begin(0);
        int unbound = connector(SOCK_NONBLOCK);
        struct sockaddr_nl to = to_receiver, own = {0};
        socklen_t length = sizeof own;
        if (at == 1) to.nl_family = AF_UNIX;
        printf("sendto unbound %zu", at), ready();
        long result = syscall(SYS_sendto, unbound, at == 2 ? place(DATA, UNMAPPED) : areas[DATA], at == 0 ? 0 : at == 3 ? 1 << 20 : 8, 0, &to, sizeof to);
        int error = errno;
        getsockname(unbound, (struct sockaddr *)&own, &length);
        printf(" bound %d", own.nl_pid != 0);
        errno = error, end(result, 0);
        close(unbound);
    }
    static const int buffers[] = {-1, 0, 4608, 100000, 1 << 20, 1 << 30};
    static const long datagram_sizes[] = {4000, 4575, 4576, 4577, 9184, 9185, 199968, 199969, 212960, 212961, 400000, 2097120, 2097121};
    unsigned char *large = mmap(NULL, 1 << 22, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for EACH(buffer_size, buffers) for EACH(size, datagram_sizes) {
        begin(0);
        int other = opened(other_port), force = 1 << 24;
        if (buffers[buffer_size] >= 0 && setsockopt(other, SOL_SOCKET, SO_SNDBUF, &buffers[buffer_size], 4) < 0) die("SO_SNDBUF");
        if (setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &force, 4) < 0) die("SO_RCVBUFFORCE");
        printf("sendto buffer %d size %ld", buffers[buffer_size], datagram_sizes[size]), ready();
        CALL(SYS_sendto, other, large, datagram_sizes[size], 0, &to_receiver, sizeof to_receiver);
        close(other);
    }
    munmap(large, 1 << 22);
}

static void test_writev(void) {
    begin(0), connect_sender(1);
    for EACH(at, vectors) {
        begin(0);
        printf("writev %s", vectors[at].name);
        put_vector(&vectors[at]), ready();
        CALL(SYS_writev, sender, areas[VECTOR], vectors[at].count);
    }
    for EACH(at, all_places) for EACH(count, counts) {
        begin(0);
        put_bytes(at);
        printf("writev at %s count %d", place_names[at], counts[count]), ready();
        CALL(SYS_writev, sender, place(VECTOR, at), (long)(int)counts[count]);
    }
    for EACH(flag, rw_flags) for EACH(offset, offsets) for (int count = 0; count < 2; count++) {
        begin(0);
        put_vector(&vectors[1]);
        printf("pwritev2 flags %#x offset %ld count %d", rw_flags[flag], offsets[offset], count), ready();
        CALL(SYS_pwritev2, sender, areas[VECTOR], count, offsets[offset], 0, rw_flags[flag]);
    }
    connect_sender(0);
}

static void send_message_at(enum place where, struct msghdr it, unsigned flags) {
    put(HEADER, where, &it, sizeof it);
    ready();
    CALL(SYS_sendmsg, sender, place(HEADER, where), flags);
}

static struct msghdr sendable(void) {
    put(NAME, RW, &to_receiver, sizeof to_receiver);
    return (struct msghdr){areas[NAME], sizeof to_receiver, put_vector(&vectors[1]), 1, NULL, 0, ~0};
}

static void test_sendmsg(void) {
    for EACH(at, all_places) {
        begin(0);
        printf("sendmsg at %s", place_names[at]);
        send_message_at(at, sendable(), 0);
    }
    for EACH(flag, send_flags) {
        begin(0);
        printf("sendmsg flags %#x", send_flags[flag]);
        send_message_at(RW, sendable(), send_flags[flag]);
    }
    for EACH(at, vectors) {
        begin(0);
        printf("sendmsg %s", vectors[at].name);
        struct msghdr it = sendable();
        put_vector(&vectors[at]), it.msg_iovlen = vectors[at].count;
        send_message_at(RW, it, 0);
    }
    for EACH(at, all_places) for EACH(count, counts) {
        begin(0);
        printf("sendmsg vector at %s count %d", place_names[at], counts[count]);
        struct msghdr it = sendable();
        put_bytes(at), it.msg_iov = place(VECTOR, at), it.msg_iovlen = (long)(int)counts[count];
        send_message_at(RW, it, 0);
    }
    for EACH(at, all_places) for EACH(length, lengths) {
        begin(0), connect_sender(1);
        printf("sendmsg name %s length %d", place_names[at], lengths[length]);
        struct msghdr it = sendable();
        put(NAME, at, &to_receiver, sizeof to_receiver);
        it.msg_name = place(NAME, at), it.msg_namelen = lengths[length];
        send_message_at(RW, it, 0);
        connect_sender(0);
    }
    static const size_t rooms[] = {0, 1, 15, 16, 20, 27, 28, 32, 1000, 1 << 16, 1 << 17, (1 << 17) + 1, 1 << 20, 0x7FFFFFFF, 0x80000000, -1};
    for EACH(at, all_places) for EACH(room, rooms) {
        begin(0);
        printf("sendmsg control %s room %zd", place_names[at], rooms[room]);
        struct msghdr it = sendable();
        memset(areas[CONTROL], 0, PAGE);
        it.msg_control = place(CONTROL, at), it.msg_controllen = rooms[room];
        send_message_at(RW, it, 0);
    }
    static const size_t control_lengths[] = {0, 15, 16, 17, 20, 24, 27, 28, 29, 32, 48, 49, -1};
    static const int levels[] = {SOL_SOCKET, SOL_NETLINK, 0}, types[] = {SCM_RIGHTS, SCM_CREDENTIALS, 3, 4, 37, 99};
    for EACH(length, control_lengths) for EACH(level, levels) for EACH(type, types) for (int data = 0; data < 2; data++) {
        begin(0);
        printf("sendmsg control message %zd level %d type %d data %d", control_lengths[length], levels[level], types[type], data);
        struct msghdr it = sendable();
        struct cmsghdr control = {control_lengths[length], levels[level], types[type]};
        uint32_t credentials[] = {getpid(), getuid(), getgid()};
        memset(areas[CONTROL], 0, PAGE);
        memcpy(areas[CONTROL], &control, sizeof control);
        memcpy(areas[CONTROL] + sizeof control, credentials, sizeof credentials);
        it.msg_control = areas[CONTROL], it.msg_controllen = 48;
        if (!data) it.msg_iovlen = 0;
        send_message_at(RW, it, 0);
    }
}

static void test_sendmmsg(void) {
    struct msghdr none = {0};
    for EACH(at, all_places) for EACH(count, counts) {
        begin(0);
        struct mmsghdr messages[4];
        for EACH(nth, messages) messages[nth] = (struct mmsghdr){nth < 3 ? sendable() : none, 0xA5A5A5A5};
        put(HEADER, at, messages, sizeof messages);
        printf("sendmmsg at %s count %d", place_names[at], counts[count]), ready();
        CALL(SYS_sendmmsg, sender, place(HEADER, at), counts[count], 0);
    }
    for EACH(flag, send_flags) {
        begin(0);
        struct mmsghdr messages[] = {{sendable(), 0xA5A5A5A5}, {sendable(), 0xA5A5A5A5}};
        put(HEADER, RW, messages, sizeof messages);
        printf("sendmmsg flags %#x", send_flags[flag]), ready();
        CALL(SYS_sendmmsg, sender, areas[HEADER], 2, send_flags[flag]);
    }
    for (int room = 50; room < 250; room += 3) {
        begin(0);
        struct mmsghdr messages[4];
        for EACH(at, messages) messages[at] = (struct mmsghdr){sendable(), 0xA5A5A5A5};
        memcpy(areas[HEADER] + PAGE - room, messages, room);
        printf("sendmmsg of %d bytes", room), ready();
        CALL(SYS_sendmmsg, sender, areas[HEADER] + PAGE - room, 3, 0);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    to_receiver.nl_pid = receiver_port;
    test_send(), test_writev(), test_sendmsg(), test_sendmmsg();
    return 0;
}
