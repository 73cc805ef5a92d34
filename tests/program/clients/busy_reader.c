/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Pauses in a call that neither receives nor waits for files. Modes: pause: one of three readers
 * pauses early; prints the number of events of each; sleep, pipe, child: sleeps after the last
 * event, whose number is the second argument, waits until a pipe accepts data, or waits for a
 * child; prints whether a signal has arrived meanwhile. */
#include "client.h"
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

enum { READERS = 3, PAUSE_AFTER = 10, PAUSE_MS = 400, LONG_PAUSE_S = 2 };

static int fds[READERS], events[READERS];

/* Sleeps, signals notwithstanding. */
static void sleep_ms(long ms) {
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) < 0) {
    }
}

static void *count(void *number) {
    int reader = (int)(intptr_t)number;
    char datagram[4096];
    for (;;) {
        ssize_t received = recv(fds[reader], datagram, sizeof datagram, 0);
        if (received <= 0) continue;
        events[reader] += decoded(datagram, received).what != ACK;
        if (reader == 0 && events[0] == PAUSE_AFTER) sleep_ms(PAUSE_MS);
    }
    return NULL;
}

static void pause_one_reader(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < READERS; i++) {
        fds[i] = connector(0);
        bind_to(fds[i], 0, GROUP);
        send_request(fds[i], LISTEN, 0);
    }
    for (int i = 0; i < READERS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, count, (void *)(intptr_t)i) != 0) die("pthread_create");
    }
    int signal;
    sigwait(&signals, &signal);
    for (int i = 0; i < READERS; i++) printf("%d events\n", events[i]);
}

/* A child sleeps; with `ends`, it drains the pipe afterwards. */
static pid_t start_child(const int *ends) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (child > 0) return child;
    sleep_ms(LONG_PAUSE_S * 1000);
    while (ends && read(ends[0], buffer, sizeof buffer) > 0) {
    }
    _exit(0);
}

static void work(char **argv) {
    if (mode_is(argv, "sleep")) {
        sleep_ms(LONG_PAUSE_S * 1000);
        return;
    }
    int ends[2];
    if (pipe(ends) < 0) die("pipe");
    pid_t child = start_child(mode_is(argv, "pipe") ? ends : NULL);
    if (mode_is(argv, "pipe")) {
        static char data[1 << 17];
        size_t left = sizeof data;
        while (left > 0) {
            ssize_t written = write(ends[1], data, left);
            if (written > 0) left -= written;
        }
    }
    close(ends[1]);
    if (mode_is(argv, "pipe")) kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
}

int main(int argc, char **argv) {
    stop_on_signals();
    if (mode_is(argv, "pause")) {
        pause_one_reader();
        return 0;
    }
    if (argc < 3) return 9;
    int left = atoi(argv[2]);
    int fd = subscribed(0);
    while (!done) {
        ssize_t received = recv(fd, buffer, sizeof buffer, 0);
        if (received <= 0 || decoded(buffer, received).what == ACK || --left > 0) continue;
        work(argv);
        printf(done ? "interrupted\n" : "worked\n");
    }
    return 0;
}
