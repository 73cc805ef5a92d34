/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Reads the clocks in all ways. Modes: events: at each event; thread: the same, in another thread;
 * waits: sleeps and waits with time-outs; spin: waits for a time by reading a clock. */
#include "client.h"
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#define SECOND 1000000000LL

static long long ns(struct timespec time) { return time.tv_sec * SECOND + time.tv_nsec; }

/* Reads a clock as the C library does, and checks that the system call returns the same. */
static long long now(clockid_t clock) {
    struct timespec read, called;
    if (clock_gettime(clock, &read) < 0 || syscall(SYS_clock_gettime, clock, &called) < 0) die("clock_gettime");
    if (ns(read) != ns(called)) printf("clock %d: %lld, by system call %lld\n", clock, ns(read), ns(called));
    return ns(read);
}

/* Checks that two readings are equal. */
static void same(const char *name, long long expected, long long found) {
    if (expected != found) printf("%s: %lld instead of %lld\n", name, found, expected);
}

/* Returns the first number of a file, in hundredths. */
static long long hundredths(const char *path) {
    double number = -1;
    FILE *file = fopen(path, "r");
    if (!file || fscanf(file, "%lf", &number) != 1) printf("%s is unreadable\n", path);
    if (file) fclose(file);
    return number * 100 + 0.5;
}

static void print_clocks(void) {
    long long mono = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME), boot = now(CLOCK_BOOTTIME);
    struct timeval time_of_day;
    struct timezone zone = {1, 1};
    time_t seconds;
    struct sysinfo info;
    if (gettimeofday(&time_of_day, &zone) < 0 || sysinfo(&info) < 0) die("gettimeofday");
    same("gettimeofday", real / 1000, time_of_day.tv_sec * 1000000LL + time_of_day.tv_usec);
    same("zone", 0, zone.tz_minuteswest);
    if (syscall(SYS_gettimeofday, &time_of_day, NULL) < 0) die("gettimeofday");
    same("system call gettimeofday", real / 1000, time_of_day.tv_sec * 1000000LL + time_of_day.tv_usec);
    same("time", real / SECOND, time(&seconds));
    same("time's argument", real / SECOND, seconds);
    same("sysinfo", boot / SECOND, info.uptime);
    same("memory", 1, info.totalram * info.mem_unit > 1 << 20);
    same("uptime", boot / 10000000, hundredths("/proc/uptime"));
    same("RAW", mono, now(CLOCK_MONOTONIC_RAW));
    same("MONOTONIC_COARSE", mono, now(CLOCK_MONOTONIC_COARSE));
    same("REALTIME_COARSE", real, now(CLOCK_REALTIME_COARSE));
    same("TAI", real, now(CLOCK_TAI));
    /* The processor time of this process is real. */
    struct timespec used;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) < 0) die("clock_gettime");
    same("processor time", 1, ns(used) > 0 && ns(used) < 60 * SECOND);
    same("a bad clock", EINVAL, clock_gettime(77, &used) < 0 ? errno : 0);
    same("a bad address", EFAULT, syscall(SYS_clock_gettime, CLOCK_REALTIME, 8L) < 0 ? errno : 0);
    printf("clocks %lld %lld %lld\n", mono, real, boot);
}

static void *print_events(void *unused) {
    int fd = subscribed(0);
    while (receive(fd, 0)) print_clocks();
    return unused;
}

static struct timespec after(clockid_t clock, long long time) {
    time += now(clock);
    return (struct timespec){time / SECOND, time % SECOND};
}

/* Prints by how much the clocks have advanced, in microseconds. */
static void print_since(const char *what, long long mono, long long real) {
    long long since = now(CLOCK_MONOTONIC) - mono;
    same("the clocks agree", since, now(CLOCK_REALTIME) - real);
    printf("%s %lld\n", what, since / 1000);
}

#define WAIT(what, call) \
    do { \
        long long mono = now(CLOCK_MONOTONIC), real = now(CLOCK_REALTIME); \
        call; \
        print_since(what, mono, real); \
    } while (0)

static const long long MS = 1000000;

/* Advances a time by 20 ms. */
static struct timespec *later(struct timespec *time) {
    long long sum = ns(*time) + 20 * MS;
    *time = (struct timespec){sum / SECOND, sum % SECOND};
    return time;
}

/* Waits until a timer has expired. */
static void wait_for_timer(int clock, int flags, struct timespec time) {
    struct itimerspec value = {.it_value = time}, first = {.it_value = {3600, 0}}, before;
    uint64_t expired = 0;
    int fd = timerfd_create(clock, TFD_CLOEXEC);
    if (fd < 0 || timerfd_settime(fd, 0, &first, NULL) < 0) die("timerfd_settime");
    if (timerfd_settime(fd, flags, &value, &before) < 0) die("timerfd_settime");
    same("the former time", 1, ns(before.it_value) > 3590 * SECOND && ns(before.it_value) <= 3600 * SECOND);
    if (read(fd, &expired, sizeof expired) != sizeof expired) die("read");
    same("expired", 1, expired);
    same("bad timer", EINVAL, timerfd_settime(fd, 77, &value, NULL) < 0 ? errno : 0);
    close(fd);
}

static void print_waits(void) {
    struct timespec relative = {0, 30 * MS}, time, past = {1, 0};
    struct timeval interval = {0, 30000};
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond[2];
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_cond_init(&cond[0], &attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond[1], &attributes);
    pthread_mutex_lock(&mutex);
    WAIT("nanosleep", nanosleep(&relative, NULL));
    WAIT("usleep", usleep(2000));
    WAIT("relative", clock_nanosleep(CLOCK_REALTIME, 0, &relative, NULL));
    WAIT("poll", poll(NULL, 0, 30));
    WAIT("select", select(0, NULL, NULL, NULL, &interval));
    WAIT("past", same("past", 0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, NULL)));
    for (int clock = 0; clock < 2; clock++) {
        time = after(clock, 0);
        for (int i = 0; i < 3; i++) {
            WAIT("absolute", same("sleep", 0, clock_nanosleep(clock, TIMER_ABSTIME, later(&time), NULL)));
        }
        for (int i = 0; i < 3; i++) {
            WAIT("condition", same("condition", ETIMEDOUT,
                                   pthread_cond_timedwait(&cond[clock], &mutex, later(&time))));
        }
        WAIT("timer", wait_for_timer(clock, TFD_TIMER_ABSTIME, *later(&time)));
        WAIT("timer", wait_for_timer(clock, 0, relative));
        WAIT("past timer", wait_for_timer(clock, TFD_TIMER_ABSTIME, past));
        WAIT("past", same("past condition", ETIMEDOUT, pthread_cond_timedwait(&cond[clock], &mutex, &past)));
    }
}

static void spin(long long time) {
    long long until = now(CLOCK_MONOTONIC) + time;
    struct timespec read = {0};
    while (ns(read) < until) clock_gettime(CLOCK_MONOTONIC, &read);
    printf("reached\n");
}

int main(int argc, char **argv) {
    (void)argc;
    stop_on_signals();
    if (mode_is(argv, "events")) print_events(NULL);
    if (mode_is(argv, "thread")) {
        pthread_t thread;
        sigset_t all;
        sigfillset(&all);
        if (pthread_create(&thread, NULL, print_events, NULL) != 0) die("pthread_create");
        /* The other thread gets the signals. */
        pthread_sigmask(SIG_BLOCK, &all, NULL);
        pthread_join(thread, NULL);
    }
    if (mode_is(argv, "waits")) print_waits();
    if (mode_is(argv, "spin")) spin(SECOND / 20);
    return 0;
}
