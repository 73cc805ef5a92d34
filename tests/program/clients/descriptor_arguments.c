/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Makes the calls on addresses and descriptors with every kind of argument; see arguments.h. */
#include "arguments.h"
#include <sys/ioctl.h>

/* Addresses. */

/* Prints the addresses of a socket, of automatic ports only that there is one. */
static void print_names(int fd) {
    struct sockaddr_nl name = {0}, peer = {0};
    socklen_t length = sizeof name;
    getsockname(fd, (struct sockaddr *)&name, &length);
    length = sizeof peer;
    getpeername(fd, (struct sockaddr *)&peer, &length);
    int is_automatic = name.nl_pid != 0 && name.nl_pid != other_port;
    printf(" name %u %#x peer %u %#x", is_automatic ? 1 : name.nl_pid, name.nl_groups, peer.nl_pid, peer.nl_groups);
}

static void test_addresses(void) {
    static const int families[] = {AF_NETLINK, AF_UNSPEC, AF_UNIX};
    for (int connects = 0; connects < 2; connects++)
        for EACH(family, families) for EACH(at, all_places) for EACH(length, lengths) {
            begin(0);
            struct sockaddr_nl address = {.nl_family = families[family], .nl_pid = other_port, .nl_groups = 0x10};
            put(NAME, at, &address, sizeof address);
            printf("%s family %d at %s length %d", connects ? "connect" : "bind", families[family], place_names[at], lengths[length]);
            int fd = connector(0);
            ready();
            long result = syscall(connects ? SYS_connect : SYS_bind, fd, place(NAME, at), lengths[length]);
            int error = errno;
            print_names(fd);
            errno = error, end(result, 0);
            close(fd);
        }
    for (int peer = 0; peer < 2; peer++) for EACH(at, all_places) for EACH(length, lengths) for (int is_length = 0; is_length < 2; is_length++) {
        begin(0);
        put(LENGTH, is_length ? at : RW, &lengths[length], 4);
        printf("%s %s %s length %d", peer ? "getpeername" : "getsockname", is_length ? "length at" : "at", place_names[at], lengths[length]);
        ready();
        CALL(peer ? SYS_getpeername : SYS_getsockname, receiver, place(NAME, is_length ? RW : at), place(LENGTH, is_length ? at : RW));
    }
}

/* Other calls on descriptors. */

static void test_descriptors(void) {
    static const unsigned long requests[] = {FIONBIO, FIOASYNC, FIONREAD, 0x8901, 0x8902, 0x8903, 0x8904, 0x8905, 0x8906,
        0x8907, 0x5450, 0x5451, 0x5460, 0x5411, 0x5401, 0x5413, 2, 0, 0xFFFFFFFF, 0x89F0, 0x80108907, 0x40086602};
    for EACH(request, requests) for EACH(at, all_places) {
        begin(1);
        static const int zero = 0;
        put(DATA, at, &zero, sizeof zero);
        printf("ioctl %#lx at %s", requests[request], place_names[at]), ready();
        CALL(SYS_ioctl, receiver, requests[request], place(DATA, at));
    }
    for (int command = -1; command < 20; command++) for EACH(value, ((int[]){0, 1, 2})) {
        static const long values[] = {0, -1, 0x7FFFFFFF};
        /* Locks take an address. */
        if (command >= F_GETLK && command <= F_SETLKW) continue;
        int number = command == 18 ? F_DUPFD_CLOEXEC : command == 19 ? F_GETPIPE_SZ : command;
        begin(1);
        printf("fcntl %d %ld", number, values[value]), ready();
        long result = syscall(SYS_fcntl, receiver, number, values[value]);
        int error = errno;
        if (number == F_SETFL) printf(" %#x", fcntl(receiver, F_GETFL) & 0x7FFFFF);
        errno = error, end(result, number == F_DUPFD || number == F_DUPFD_CLOEXEC);
    }
    static const int numbers[] = {-1, 0x7FFFFFFF, 1 << 20, 100};
    static const int dup_flags[] = {0, O_CLOEXEC, O_NONBLOCK, 1, -1};
    for EACH(number, numbers) {
#ifdef SYS_dup2
        if (numbers[number] != 100) {
            begin(0);
            printf("dup2 %d", numbers[number]), ready();
            CALL(SYS_dup2, receiver, numbers[number]);
        }
#endif
        for EACH(flag, dup_flags) {
            if (numbers[number] == 100 && !(dup_flags[flag] & ~O_CLOEXEC)) continue;
            begin(0);
            printf("dup3 %d %#x", numbers[number], dup_flags[flag]), ready();
            CALL(SYS_dup3, receiver, numbers[number], dup_flags[flag]);
        }
    }
    for EACH(flag, dup_flags) {
        begin(1);
        printf("dup3 itself %#x", dup_flags[flag]), ready();
        CALL(SYS_dup3, receiver, receiver, dup_flags[flag]);
    }
#ifdef SYS_dup2
    begin(1);
    printf("dup2 itself"), ready();
    long same = syscall(SYS_dup2, receiver, receiver);
    end(same == receiver ? 0 : same < 0 ? -1 : 1, 0);
#endif
    for EACH(at, all_places) for EACH(flag, dup_flags) {
        begin(1);
        printf("accept4 %s %#x", place_names[at], dup_flags[flag]), ready();
        CALL(SYS_accept4, receiver, areas[NAME], place(LENGTH, at), dup_flags[flag]);
        begin(1);
        printf("accept %s", place_names[at]), ready();
        CALL(SYS_accept, receiver, place(NAME, at), areas[LENGTH]);
    }
    for EACH(value, lengths) {
        begin(1);
        printf("listen %d", lengths[value]), ready();
        CALL(SYS_listen, receiver, lengths[value]);
        begin(1);
        printf("shutdown %d", lengths[value]), ready();
        CALL(SYS_shutdown, receiver, lengths[value]);
    }
    begin(1);
    printf("lseek"), ready();
    CALL(SYS_lseek, receiver, 0, SEEK_CUR);
    begin(1);
    printf("fsync"), ready();
    CALL(SYS_fsync, receiver);
    begin(1);
    printf("ftruncate"), ready();
    CALL(SYS_ftruncate, receiver, 0);
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    test_addresses(), test_descriptors();
    return 0;
}
