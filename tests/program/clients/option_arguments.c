/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Sets and returns every option with every kind of argument; see arguments.h. */
#include "arguments.h"
#include <linux/filter.h>

static const int option_values[] = {0, 1, 2, -1, 100, 0x7FFFFFFF, -0x7FFFFFFF - 1};
static const int option_lengths[] = {0, 1, 3, 4, 5, 8, 12, 15, 16, 17, 24, 128, -1, -0x7FFFFFFF - 1, 0x7FFFFFFF};

/* Prints the value of an option after it was set. */
static void print_option_now(int level, int option) {
    unsigned char value[64] = {0};
    socklen_t length = sizeof value;
    if (getsockopt(receiver, level, option, value, &length) < 0) {
        printf(" now"), print_error(errno);
        return;
    }
    printf(" now ");
    for (socklen_t at = 0; at < length; at++) printf("%02x", value[at]);
}

/* Options whose values differ for each socket or system, or that another test examines. */
static int is_excluded(int level, int option) {
    return level == SOL_SOCKET && (option == SO_COOKIE || option == 56 /* SO_INCOMING_NAPI_ID */);
}

static void test_setsockopt(int level, int option) {
    for EACH(length, option_lengths) for EACH(value, option_values) {
        /* Other values matter only where the length is right. */
        if (value && !(option_lengths[length] == 4 || option_lengths[length] == 16)) continue;
        begin(0);
        int words[] = {option_values[value], 0, option_values[value], 0};
        for (int at = 0; at < PAGE; at += 16) memcpy(areas[DATA] + at, words, 16);
        printf("setsockopt %d %d length %d value %d", level, option, option_lengths[length], option_values[value]), ready();
        long result = syscall(SYS_setsockopt, receiver, level, option, areas[DATA], option_lengths[length]);
        int error = errno;
        print_option_now(level, option);
        errno = error, end(result, 0);
    }
    for EACH(at, all_places) for EACH(length, ((int[]){0, 4, 16})) {
        static const int few[] = {0, 4, 16};
        static const int zeros[4];
        begin(0);
        put(DATA, at, zeros, sizeof zeros);
        printf("setsockopt %d %d at %s length %d", level, option, place_names[at], few[length]), ready();
        CALL(SYS_setsockopt, receiver, level, option, place(DATA, at), few[length]);
    }
}

static void test_getsockopt(int level, int option) {
    for EACH(at, all_places) for EACH(length, option_lengths) {
        if (at != RW && option_lengths[length] != 0 && option_lengths[length] != 4 && option_lengths[length] != 128) continue;
        begin(0);
        put(LENGTH, RW, &option_lengths[length], 4);
        printf("getsockopt %d %d at %s length %d", level, option, place_names[at], option_lengths[length]), ready();
        CALL(SYS_getsockopt, receiver, level, option, place(DATA, at), areas[LENGTH]);
    }
    for EACH(at, all_places) for EACH(length, ((int[]){0, 1, 2})) {
        static const int few[] = {0, 4, -1};
        begin(0);
        put(LENGTH, at, &few[length], 4);
        printf("getsockopt %d %d length at %s %d", level, option, place_names[at], few[length]), ready();
        CALL(SYS_getsockopt, receiver, level, option, areas[DATA], place(LENGTH, at));
    }
}

static void test_options(void) {
    static const int other_levels[] = {0, 6, 17, 41, 271, -1};
    for (int option = 0; option < 90; option++) {
        if (is_excluded(SOL_SOCKET, option)) continue;
        test_setsockopt(SOL_SOCKET, option), test_getsockopt(SOL_SOCKET, option);
    }
    for (int option = 0; option < 16; option++) test_setsockopt(SOL_NETLINK, option), test_getsockopt(SOL_NETLINK, option);
    for EACH(level, other_levels) for (int option = 0; option < 3; option++)
        test_setsockopt(other_levels[level], option), test_getsockopt(other_levels[level], option);
    test_setsockopt(SOL_SOCKET, -1), test_getsockopt(SOL_NETLINK, -1);
    /* Options that depend on others. */
    static const int sizes_of_buffers[] = {SO_RCVBUF, SO_RCVBUFFORCE, SO_SNDBUF, SO_SNDBUFFORCE};
    for EACH(option, sizes_of_buffers) for EACH(value, option_values) {
        begin(0);
        printf("buffer option %d value %d", sizes_of_buffers[option], option_values[value]), ready();
        long result = syscall(SYS_setsockopt, receiver, SOL_SOCKET, sizes_of_buffers[option], &option_values[value], 4);
        int error = errno;
        print_option_now(SOL_SOCKET, sizes_of_buffers[option]), print_option_now(SOL_SOCKET, 72 /* SO_BUF_LOCK */);
        errno = error, end(result, 0);
    }
    for EACH(at, all_places) for EACH(length, option_lengths) for EACH(group, option_values) {
        if (at != RW && group) continue;
        begin(0);
        setsockopt(receiver, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &option_values[group], 4);
        put(LENGTH, RW, &option_lengths[length], 4);
        printf("list memberships at %s length %d group %d", place_names[at], option_lengths[length], option_values[group]), ready();
        CALL(SYS_getsockopt, receiver, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, place(DATA, at), areas[LENGTH]);
    }
    /* Filters. */
    static const int filter_lengths[] = {0, 4, 15, 16, 17, 24};
    static const int filter_counts[] = {0, 1, 2, 510, 4096, 4097, 65535};
    for EACH(length, filter_lengths) for EACH(count, filter_counts) for EACH(at, all_places) {
        begin(0);
        static const struct sock_filter accept = {6, 0, 0, 0xFFFF};
        for (int nth = 0; nth < PAGE / 8; nth++) memcpy(areas[VECTOR] + nth * 8, &accept, 8);
        if (at == RO) memcpy(read_only + VECTOR * 512, &accept, 8);
        struct sock_fprog program = {filter_counts[count], place(VECTOR, at)};
        put(DATA, RW, &program, sizeof program);
        printf("filter length %d of %d at %s", filter_lengths[length], filter_counts[count], place_names[at]), ready();
        CALL(SYS_setsockopt, receiver, SOL_SOCKET, SO_ATTACH_FILTER, areas[DATA], filter_lengths[length]);
    }
    static const int get_counts[] = {0, 1, 2, 3, 100, -1};
    for EACH(count, get_counts) for EACH(at, all_places) for (int is_attached = 0; is_attached < 2; is_attached++) {
        begin(0);
        struct sock_filter instructions[] = {{6, 0, 0, 0xFFFF}, {6, 0, 0, 0xFFFF}};
        struct sock_fprog program = {2, instructions};
        if (is_attached && setsockopt(receiver, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0) die("filter");
        put(LENGTH, RW, &get_counts[count], 4);
        printf("get filter %d at %s%s", get_counts[count], place_names[at], is_attached ? ", attached" : ""), ready();
        CALL(SYS_getsockopt, receiver, SOL_SOCKET, SO_ATTACH_FILTER, place(DATA, at), areas[LENGTH]);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    test_options();
    return 0;
}
