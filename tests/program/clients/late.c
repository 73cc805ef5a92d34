/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Two listeners, of which the second one works for a while before it subscribes. Modes: threads:
 * the listeners are threads; processes: the second listener is a child. Prints the number of
 * events that each listener has received. */
#include "client.h"
#include <pthread.h>
#include <sys/wait.h>

static volatile unsigned long turns;
static volatile int counts[2];

static void work(void) {
    while (turns < 50000000) turns++;
}

static void listen_to_events(int listener) {
    int fd = connector(0);
    bind_to(fd, 0, GROUP);
    send_request(fd, LISTEN, 0);
    while (!done) {
        ssize_t received = recv(fd, buffer, sizeof buffer, MSG_TRUNC);
        if (received > 0) counts[listener]++;
    }
}

static void *first(void *unused) {
    listen_to_events(0);
    return unused;
}

static void *second(void *unused) {
    listen_to_events(1);
    return unused;
}

static void start(void *(*run)(void *)) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) die("pthread_create");
}

int main(int argc, char **argv) {
    (void)argc;
    if (mode_is(argv, "processes")) {
        stop_on_signals();
        pid_t child = fork();
        if (child == 0) work();
        listen_to_events(child == 0);
        printf("%d\n", counts[child == 0]);
        if (child > 0) waitpid(child, NULL, 0);
        return 0;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    start(first);
    work();
    start(second);
    int signal;
    sigwait(&signals, &signal);
    printf("%d\n%d\n", counts[0], counts[1]);
    return 0;
}
