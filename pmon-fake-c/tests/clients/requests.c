/* A program subscribes and unsubscribes itself, and a waiting one is served by the library's thread. */
#include "client.h"

static void *subscribe_and_wait(void *argument) {
    int fd = *(int *)argument;
    struct event event;
    request(fd, PROC_CN_MCAST_LISTEN);
    /* No function of the library is called meanwhile. */
    CHECK(next(fd, 0, &event) == 0 && event.what == 0 && event.value == 0);
    return NULL;
}

static void run(unsigned flags) {
    pmon_kernel *kernel = new_kernel(1);
    int fd = open_socket(kernel, flags);
    pid_t shell = pmon_kernel_add_process(kernel, "sh");
    struct event event;
    int listeners = -1;

    pmon_kernel_fork(kernel, shell);
    CHECK(next(fd, MSG_DONTWAIT, &event) == EAGAIN);
    CHECK(pmon_kernel_listeners(kernel, &listeners) == 0 && listeners == 0);

    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, subscribe_and_wait, &fd) == 0);
    CHECK(pthread_join(reader, NULL) == 0);
    CHECK(pmon_kernel_listeners(kernel, &listeners) == 0 && listeners == 1);

    /* A request precedes the call that follows it. */
    for (int i = 0; i < 100; i++) {
        request(fd, PROC_CN_MCAST_IGNORE);
        pid_t child = pmon_kernel_fork(kernel, shell);
        CHECK(next(fd, MSG_DONTWAIT, &event) == EAGAIN);
        request(fd, PROC_CN_MCAST_LISTEN);
        CHECK(pmon_kernel_exit(kernel, child, 0) == 0);
        CHECK(next(fd, 0, &event) == 0 && event.what == 0);
        CHECK(next(fd, 0, &event) == 0 && event.pid == child);
    }
    request(fd, 99);
    CHECK(pmon_kernel_sync(kernel) == 0);
    CHECK(next(fd, 0, &event) == 0 && event.what == 0 && event.value == EINVAL);
    close(fd);
    pmon_kernel_free(kernel);
}

int main(void) {
    run(PMON_SOCK_PAIR);
    run(0);
}
