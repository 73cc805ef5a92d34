/* Several threads use a kernel at once: each event is received once. */
#include "client.h"

/* The receive buffer holds all events. */
enum { THREADS = 4, FORKS = 60 };

static pmon_kernel *kernel;

static void *make_forks(void *argument) {
    pid_t shell = pmon_kernel_add_process(kernel, argument);
    for (int i = 0; i < FORKS; i++)
        CHECK(pmon_kernel_fork(kernel, shell) > 0);
    return NULL;
}

static void run(unsigned flags) {
    kernel = new_kernel(1);
    int fd = open_socket(kernel, flags | PMON_SOCK_LISTEN);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, make_forks, "busy") == 0);
    for (unsigned i = 1; i <= THREADS * FORKS; i++) {
        struct event event;
        CHECK(next(fd, 0, &event) == 0 && event.what == 1 && event.seq == i);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    uint64_t events;
    CHECK(pmon_kernel_events(kernel, &events) == 0 && events == THREADS * FORKS);
    pmon_kernel_free(kernel);
    close(fd);
}

int main(void) {
    run(PMON_SOCK_PAIR);
    run(0);
}
