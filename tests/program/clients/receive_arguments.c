/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Receives with every kind of argument; see arguments.h. */
#include "arguments.h"

static void test_recvfrom(void) {
    for EACH(at, all_places) for EACH(size, sizes) {
        begin(1);
        printf("recvfrom %s %ld", place_names[at], sizes[size]), ready();
        CALL(SYS_recvfrom, receiver, place(DATA, at), sizes[size], 0, NULL, NULL);
        begin(1);
        printf("read %s %ld", place_names[at], sizes[size]), ready();
        CALL(SYS_read, receiver, place(DATA, at), sizes[size]);
    }
    for EACH(flag, receive_flags) for EACH(size, ((int[]){0, 12, 30})) {
        static const int rooms[] = {0, 12, 30};
        begin(1);
        printf("recvfrom flags %#x %d", receive_flags[flag], rooms[size]), ready();
        CALL(SYS_recvfrom, receiver, areas[DATA], rooms[size], receive_flags[flag], NULL, NULL);
    }
    for EACH(name, all_places) for EACH(length, lengths) {
        begin(1);
        put(LENGTH, RW, &lengths[length], 4);
        printf("recvfrom name %s length %d", place_names[name], lengths[length]), ready();
        CALL(SYS_recvfrom, receiver, areas[DATA], 64, 0, place(NAME, name), areas[LENGTH]);
    }
    for EACH(at, all_places) for EACH(length, lengths) {
        begin(1);
        put(LENGTH, at, &lengths[length], 4);
        printf("recvfrom length at %s %d", place_names[at], lengths[length]), ready();
        CALL(SYS_recvfrom, receiver, areas[DATA], 64, 0, areas[NAME], place(LENGTH, at));
        begin(1);
        put(LENGTH, at, &lengths[length], 4);
        printf("recvfrom no name, length at %s %d", place_names[at], lengths[length]), ready();
        CALL(SYS_recvfrom, receiver, areas[DATA], 64, MSG_PEEK, NULL, place(LENGTH, at));
    }
    begin(0);
    printf("recvfrom empty, bad length"), ready();
    CALL(SYS_recvfrom, receiver, areas[DATA], 64, 0, areas[NAME], NULL);
}

static void test_readv(void) {
    for EACH(at, vectors) {
        begin(1);
        printf("readv %s", vectors[at].name);
        put_vector(&vectors[at]), ready();
        CALL(SYS_readv, receiver, areas[VECTOR], vectors[at].count);
    }
    for EACH(at, all_places) for EACH(count, counts) {
        begin(1);
        put_bytes(at);
        printf("readv at %s count %d", place_names[at], counts[count]), ready();
        CALL(SYS_readv, receiver, place(VECTOR, at), (long)(int)counts[count]);
    }
    for EACH(flag, rw_flags) for EACH(offset, offsets) {
        begin(1);
        put_vector(&vectors[1]);
        printf("preadv2 flags %#x offset %ld", rw_flags[flag], offsets[offset]), ready();
        CALL(SYS_preadv2, receiver, areas[VECTOR], 1, offsets[offset], 0, rw_flags[flag]);
        begin(1);
        printf("preadv2 flags %#x offset %ld, nothing", rw_flags[flag], offsets[offset]), ready();
        CALL(SYS_preadv2, receiver, areas[VECTOR], 0, offsets[offset], 0, rw_flags[flag]);
        begin(1);
        printf("preadv2 flags %#x offset %ld, null", rw_flags[flag], offsets[offset]), ready();
        CALL(SYS_preadv2, receiver, NULL, 1, offsets[offset], 0, rw_flags[flag]);
    }
    begin(1);
    printf("pread"), ready();
    CALL(SYS_pread64, receiver, areas[DATA], 64, 0);
}

static void receive_message(enum place where, struct msghdr it, unsigned flags) {
    put(HEADER, where, &it, sizeof it);
    ready();
    CALL(SYS_recvmsg, receiver, place(HEADER, where), flags);
}

static void test_recvmsg(void) {
    for EACH(at, all_places) for EACH(flag, ((int[]){0, 1})) {
        begin(1);
        printf("recvmsg at %s%s", place_names[at], flag ? ", peek" : "");
        receive_message(at, message(), flag ? MSG_PEEK : 0);
    }
    for EACH(flag, receive_flags) {
        begin(1);
        printf("recvmsg flags %#x", receive_flags[flag]);
        receive_message(RW, message(), receive_flags[flag]);
    }
    for EACH(at, vectors) {
        begin(1);
        printf("recvmsg %s", vectors[at].name);
        struct msghdr it = message();
        put_vector(&vectors[at]);
        it.msg_iovlen = vectors[at].count;
        receive_message(RW, it, 0);
    }
    for EACH(at, all_places) for EACH(count, counts) {
        begin(1);
        printf("recvmsg vector at %s count %d", place_names[at], counts[count]);
        struct msghdr it = message();
        put_bytes(at);
        it.msg_iov = place(VECTOR, at), it.msg_iovlen = (long)(int)counts[count];
        receive_message(RW, it, 0);
    }
    for EACH(at, all_places) for EACH(length, lengths) {
        begin(1);
        printf("recvmsg name %s length %d", place_names[at], lengths[length]);
        struct msghdr it = message();
        it.msg_name = place(NAME, at), it.msg_namelen = lengths[length];
        receive_message(RW, it, 0);
    }
    static const size_t rooms[] = {0, 1, 8, 15, 16, 17, 19, 20, 21, 24, 31, 40, 51, 52, 56, 64, 0x7FFFFFFF, 0x80000000, -1};
    for EACH(at, all_places) for EACH(room, rooms) for (int options = 0; options < 2; options++) {
        begin(1);
        if (options) set(SOL_NETLINK, NETLINK_PKTINFO, 1);
        printf("recvmsg control %s room %zd%s", place_names[at], rooms[room], options ? ", pktinfo" : "");
        struct msghdr it = message();
        it.msg_control = place(CONTROL, at), it.msg_controllen = rooms[room];
        receive_message(RW, it, 0);
    }
    for EACH(at, vectors) {
        begin(1);
        set(SOL_NETLINK, NETLINK_PKTINFO, 1);
        printf("recvmsg with pktinfo %s", vectors[at].name);
        struct msghdr it = message();
        put_vector(&vectors[at]);
        it.msg_iovlen = vectors[at].count;
        receive_message(RW, it, 0);
    }
    for (int peek = 0; peek < 2; peek++) {
        begin(1);
        printf("recvmsg short%s", peek ? ", peek" : "");
        struct msghdr it = message();
        ((struct iovec *)areas[VECTOR])->iov_len = 7;
        receive_message(RW, it, peek ? MSG_PEEK | MSG_TRUNC : 0);
    }
    begin(0);
    printf("recvmsg empty");
    receive_message(RW, message(), 0);
}

/* Puts four messages, of which number `bad` is `bad_message`. */
static void put_messages(enum place where, int bad, struct msghdr bad_message) {
    struct mmsghdr messages[4];
    for EACH(at, messages) {
        messages[at] = (struct mmsghdr){message(), 0xA5A5A5A5};
        if ((int)at == bad) messages[at].msg_hdr = bad_message;
    }
    put(HEADER, where, messages, sizeof messages);
}

static void test_recvmmsg(void) {
    struct msghdr none = {0};
    for EACH(at, all_places) for EACH(count, counts) {
        begin(1);
        put_messages(at, -1, none);
        printf("recvmmsg at %s count %d", place_names[at], counts[count]), ready();
        CALL(SYS_recvmmsg, receiver, place(HEADER, at), counts[count], 0, NULL);
    }
    for EACH(flag, receive_flags) {
        begin(1);
        put_messages(RW, -1, none);
        printf("recvmmsg flags %#x", receive_flags[flag]), ready();
        CALL(SYS_recvmmsg, receiver, areas[HEADER], 2, receive_flags[flag], NULL);
    }
    static const struct timespec times[] = {
        {0, 0}, {1000, 0}, {0, 1000000000}, {0, -1}, {-1, 0}, {-1, 999999999}, {0x7FFFFFFFFFFFFFFF, 0}, {5, 1L << 33}};
    for EACH(at, all_places) for EACH(time, times) for (int empty = 0; empty < 2; empty++) {
        begin(!empty);
        put_messages(RW, -1, none);
        put(TIME, at, &times[time], sizeof *times);
        printf("recvmmsg time at %s %ld %ld%s", place_names[at], times[time].tv_sec, times[time].tv_nsec, empty ? ", empty" : "");
        ready();
        long result = syscall(SYS_recvmmsg, receiver, areas[HEADER], 3, 0, place(TIME, at));
        /* The remaining time varies. */
        static const struct timespec some = {0x11, 0x11};
        struct timespec left = {0};
        if (at == RW || at == ODD || at == EDGE60) memcpy(&left, place(TIME, at), sizeof left);
        if (result > 0 && left.tv_nsec) memcpy(place(TIME, at), &some, sizeof some);
        end(result, 0);
    }
    /* The length of a message crosses the end of the page. */
    for (int room = 50; room < 250; room += 3) for (int count = 1; count < 4; count++) {
        begin(1);
        struct mmsghdr messages[4];
        for EACH(at, messages) messages[at] = (struct mmsghdr){message(), 0xA5A5A5A5};
        memcpy(areas[HEADER] + PAGE - room, messages, room);
        printf("recvmmsg %d of %d bytes", count, room), ready();
        CALL(SYS_recvmmsg, receiver, areas[HEADER] + PAGE - room, count, 0, NULL);
    }
    for (int bad = 0; bad < 3; bad++) for EACH(at, vectors) {
        begin(1);
        struct msghdr it = message();
        struct iovec *parts = (struct iovec *)areas[VECTOR];
        put_vector(&vectors[at]);
        memcpy(parts + 8, parts, sizeof *parts * 3);
        put_vector(&vectors[1]);
        it.msg_iov = parts + 8, it.msg_iovlen = vectors[at].count;
        put_messages(RW, bad, it);
        printf("recvmmsg with bad message %d, %s", bad, vectors[at].name), ready();
        CALL(SYS_recvmmsg, receiver, areas[HEADER], 3, 0, NULL);
    }
    for (int bad = 0; bad < 3; bad++) for EACH(length, lengths) {
        begin(1);
        struct msghdr it = message();
        it.msg_namelen = lengths[length];
        if (length % 2) it.msg_name = NULL;
        put_messages(RW, bad, it);
        printf("recvmmsg with bad message %d, name length %d", bad, lengths[length]), ready();
        CALL(SYS_recvmmsg, receiver, areas[HEADER], 3, 0, NULL);
    }
}

/* Calls while ENOBUFS is pending. */
static void test_pending_errors(void) {
    struct msghdr none = {0};
    for (int call = 0; call < 10; call++) {
        begin_state(2);
        put_messages(RW, -1, none);
        printf("overrun, call %d", call), ready();
        socklen_t four = 4;
        put(LENGTH, RW, &four, 4), ready();
        if (call == 0) CALL(SYS_recvfrom, receiver, NULL, 64, 0, areas[NAME], NULL);
        else if (call == 1) CALL(SYS_recvfrom, receiver, areas[DATA], 64, MSG_PEEK, NULL, NULL);
        else if (call == 2) CALL(SYS_read, receiver, areas[DATA], 0);
        else if (call == 3) CALL(SYS_recvmmsg, receiver, areas[HEADER], 0, 0, NULL);
        else if (call == 4) CALL(SYS_recvmmsg, receiver, NULL, 2, 0, NULL);
        else if (call == 5) CALL(SYS_recvmmsg, receiver, areas[HEADER], 2, MSG_ERRQUEUE, NULL);
        else if (call == 6) CALL(SYS_recvfrom, receiver, areas[DATA], 64, MSG_OOB, NULL, NULL);
        else if (call == 7) CALL(SYS_getsockopt, receiver, SOL_SOCKET, SO_ERROR, NULL, areas[LENGTH]);
        else if (call == 8) CALL(SYS_recvmsg, receiver, NULL, 0);
        else CALL(SYS_recvfrom, receiver, place(DATA, KERNEL), 64, 0, NULL, NULL);
    }
}

/* Blocking calls, which a time-out ends. */
static void test_timeouts(void) {
    struct timeval limit = {0, 4000};
    struct msghdr none = {0};
    for (int datagrams = 0; datagrams < 2; datagrams++) for EACH(at, all_places) for (int call = 0; call < 3; call++) {
        begin(datagrams);
        if (fcntl(receiver, F_SETFL, 0) < 0) die("F_SETFL");
        if (setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0) die("SO_RCVTIMEO");
        put_messages(RW, -1, none);
        printf("blocking call %d at %s, %d datagrams", call, place_names[at], 2 * datagrams), ready();
        if (call == 0) CALL(SYS_recvfrom, receiver, place(DATA, at), 64, 0, areas[NAME], place(LENGTH, at));
        else if (call == 1) CALL(SYS_recvmmsg, receiver, areas[HEADER], 3, 0, NULL);
        else CALL(SYS_recvmmsg, receiver, areas[HEADER], 3, MSG_WAITFORONE, NULL);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    test_recvfrom(), test_readv(), test_recvmsg(), test_recvmmsg(), test_pending_errors(), test_timeouts();
    return 0;
}
