/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Waits with every kind of argument; see arguments.h. */
#include "arguments.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

#ifdef SYS_poll
static void test_poll(int state) {
    static const short requested[] = {0, POLLIN, POLLOUT, POLLIN | POLLPRI | POLLERR | POLLHUP, 0x7FFF, -1};
    for EACH(at, all_places) for EACH(event, requested) {
        begin_state(state);
        struct pollfd polled = {receiver, requested[event], FILL << 8 | FILL};
        put(DATA, at, &polled, sizeof polled);
        printf("poll %s at %s events %#x", states[state], place_names[at], (unsigned short)requested[event]), ready();
        CALL(SYS_poll, place(DATA, at), 1, 0);
    }
    static const unsigned nfds[] = {0, 1, 2, 0x7FFFFFFF, ~0u};
    for EACH(count, nfds) for EACH(at, all_places) {
        begin_state(state);
        struct pollfd polled[] = {{-1, POLLIN, FILL << 8 | FILL}, {receiver, POLLIN, FILL << 8 | FILL}};
        put(DATA, at, polled, sizeof polled);
        printf("poll %s count %d at %s", states[state], (int)nfds[count], place_names[at]), ready();
        CALL(SYS_poll, place(DATA, at), nfds[count], 0);
    }
}
#endif

static void test_ppoll(int state) {
    static const unsigned set_sizes[] = {0, 4, 8, 16};
    static const struct timespec times[] = {{0, 0}, {0, 1000}, {0, 1000000000}, {0, -1}, {-1, 0}};
    for EACH(at, all_places) for EACH(time, times) for EACH(size, set_sizes) {
        if (at == NUL && state == 0) continue;
        begin_state(state);
        struct pollfd polled = {receiver, POLLIN, 0};
        uint64_t mask = 0;
        put(DATA, RW, &polled, sizeof polled), put(TIME, at, &times[time], sizeof *times), put(CONTROL, RW, &mask, 8);
        printf("ppoll %s time at %s %ld %ld set %u", states[state], place_names[at], times[time].tv_sec, times[time].tv_nsec, set_sizes[size]);
        ready();
        long result = syscall(SYS_ppoll, areas[DATA], 1, place(TIME, at), areas[CONTROL], set_sizes[size]);
        if (at != RO) memcpy(areas[TIME], before[TIME], PAGE);
        end(result, 0);
    }
    for EACH(at, all_places) {
        begin_state(state);
        struct pollfd polled = {receiver, POLLIN, 0};
        struct timespec none = {0, 0};
        uint64_t mask = 0;
        put(DATA, RW, &polled, sizeof polled), put(TIME, RW, &none, sizeof none), put(CONTROL, at, &mask, 8);
        printf("ppoll %s mask at %s", states[state], place_names[at]), ready();
        CALL(SYS_ppoll, areas[DATA], 1, areas[TIME], place(CONTROL, at), 8);
    }
}

#ifdef SYS_select
static void test_select(int state) {
    for EACH(read, all_places) for EACH(write, ((int[]){0, 1, 2})) {
        static const int few[] = {NUL, RW, UNMAPPED};
        /* The kernel reads as many bytes as the number of the descriptor needs. */
        if (read == EDGE8 || read == EDGE60) continue;
        begin_state(state);
        unsigned char bits[128] = {0};
        if (receiver < 1024) bits[receiver / 8] |= 1 << receiver % 8;
        put(DATA, read, bits, 128), put(NAME, few[write], bits, 128), put(CONTROL, RW, bits, 128);
        struct timeval none = {0, 0};
        put(TIME, RW, &none, sizeof none);
        printf("select %s at %s and %s", states[state], place_names[read], place_names[few[write]]), ready();
        long result = syscall(SYS_select, receiver + 1, place(DATA, read), place(NAME, few[write]), areas[CONTROL], areas[TIME]);
        /* The place of the descriptor's bit differs. */
        int error = errno;
        for (int area = 0; area < 3; area++) {
            static const enum area sets[] = {DATA, NAME, CONTROL};
            unsigned char *bytes = areas[sets[area]];
            int was = 0, is = 0;
            for (int at = 0; at < PAGE; at++) was += __builtin_popcount(before[sets[area]][at]), is += __builtin_popcount(bytes[at]);
            printf(" %d", was - is);
            memcpy(bytes, before[sets[area]], PAGE);
        }
        errno = error, end(result, 0);
    }
    static const int select_counts[] = {-1, 0, -0x7FFFFFFF - 1};
    for EACH(count, select_counts) for EACH(at, all_places) {
        begin_state(state);
        struct timeval time = {0, at == ODD ? -1 : 0};
        put(TIME, at, &time, sizeof time);
        if (at == NUL && select_counts[count] == 0) continue;
        printf("select %s count %d time at %s", states[state], select_counts[count], place_names[at]), ready();
        CALL(SYS_select, select_counts[count], NULL, NULL, NULL, place(TIME, at));
    }
}
#endif

static void test_epoll_wait(int state) {
    static const int maximums[] = {-0x7FFFFFFF - 1, -1, 0, 1, 2, 0x7FFFFFFF};
    for EACH(at, all_places) for EACH(maximum, maximums) for EACH(kind, ((int[]){0, 1, 2, 3})) {
        begin_state(state);
        int set_fd = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788};
        if (epoll_ctl(set_fd, EPOLL_CTL_ADD, receiver, &event) < 0) die("epoll_ctl");
        uint64_t mask = 0;
        struct timespec none = {0, 0};
        put(CONTROL, RW, &mask, 8), put(TIME, RW, &none, sizeof none);
        static const char *const kinds[] = {"epoll_wait", "epoll_pwait", "epoll_pwait2", "epoll_pwait of 4"};
        printf("%s %s at %s maximum %d", kinds[kind], states[state], place_names[at], maximums[maximum]), ready();
        void *output = place(DATA, at);
        if (kind == 0) end(epoll_wait(set_fd, output, maximums[maximum], 0), 0);
        else if (kind == 1) CALL(SYS_epoll_pwait, set_fd, output, maximums[maximum], 0, areas[CONTROL], 8);
        else if (kind == 2) CALL(SYS_epoll_pwait2, set_fd, output, maximums[maximum], areas[TIME], areas[CONTROL], 8);
        else CALL(SYS_epoll_pwait, set_fd, output, maximums[maximum], 0, areas[CONTROL], 4);
        close(set_fd);
    }
}

static void test_epoll_ctl(int state) {
    for EACH(at, all_places) for (int operation = 0; operation < 5; operation++) for EACH(events, ((int[]){0, 1, 2})) {
        static const uint32_t masks[] = {EPOLLIN, EPOLLIN | EPOLLEXCLUSIVE, EPOLLRDHUP | EPOLLEXCLUSIVE | EPOLLONESHOT};
        begin_state(state);
        int set_fd = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLOUT, .data.u64 = 5}, changed = {.events = masks[events], .data.u64 = 6};
        if (operation > 1 && epoll_ctl(set_fd, EPOLL_CTL_ADD, receiver, &event) < 0) die("epoll_ctl");
        put(DATA, at, &changed, sizeof changed);
        printf("epoll_ctl %s %d at %s events %#x", states[state], operation, place_names[at], masks[events]), ready();
        long result = syscall(SYS_epoll_ctl, set_fd, operation, receiver, place(DATA, at));
        int error = errno;
        struct epoll_event found = {0};
        int count = epoll_wait(set_fd, &found, 1, 0);
        printf(" then %d %#x %lu", count, found.events, (unsigned long)found.data.u64);
        errno = error, end(result, 0);
        close(set_fd);
    }
}

/* Waits for the receiver and for other files. */
static void test_others(int state) {
    static const char *const fills[] = {"empty pipe", "readable pipe", "closed pipe"};
    for EACH(fill, fills) for EACH(place_of_events, ((int[]){0, 1})) for (int maximum = 0; maximum < 4; maximum++) {
        int ends[2], set_fd = epoll_create1(0);
        if (pipe(ends) < 0) die("pipe");
        begin_state(state);
        if (fill == 1 && write(ends[1], "", 1) < 0) die("write");
        if (fill == 2) close(ends[1]);
        struct epoll_event first = {.events = EPOLLIN, .data.u64 = 1}, second = {.events = EPOLLIN, .data.u64 = 2};
        int files[] = {ends[0], receiver};
        if (epoll_ctl(set_fd, EPOLL_CTL_ADD, files[place_of_events], &first) < 0) die("epoll_ctl");
        if (epoll_ctl(set_fd, EPOLL_CTL_ADD, files[!place_of_events], &second) < 0) die("epoll_ctl");
        printf("epoll_wait %s and %s order %zu maximum %d", states[state], fills[fill], place_of_events, maximum), ready();
        struct epoll_event found[4];
        int count = epoll_wait(set_fd, found, maximum, 0), error = errno;
        for (uint64_t data = 1; data < 3; data++) /* The order may differ. */
            for (int at = 0; at < count; at++) if (maximum > 1 && found[at].data.u64 == data) printf(" %#x %d", found[at].events, (int)data);
        errno = error, end(count, 0);
        begin_state(state);
        struct pollfd polled[] = {{ends[0], POLLIN, 0x1111}, {-5, POLLIN, 0x1111}, {receiver, POLLIN, 0x1111}, {12345, POLLIN, 0x1111}};
        printf("poll %s and %s count %d", states[state], fills[fill], maximum + 1), ready();
        int polled_count = syscall(SYS_ppoll, polled, maximum + 1, &(struct timespec){0}, NULL, 0);
        for (int at = 0; at <= maximum; at++) printf(" %#x", (unsigned)polled[at].revents);
        end(polled_count, 0);
        close(ends[0]), close(set_fd);
        if (fill != 2) close(ends[1]);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    start(argv);
    for (int state = 0; state < 3; state++) {
#ifdef SYS_poll
        test_poll(state), test_select(state);
#endif
        test_ppoll(state), test_epoll_wait(state), test_epoll_ctl(state), test_others(state);
    }
    return 0;
}
