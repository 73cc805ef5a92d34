/* Overruns return ENOBUFS, before what is queued, and leave a gap. */
#include "client.h"

static pmon_kernel *kernel;
static int fd;
static pid_t shell;

static void start(void) {
    kernel = new_kernel(1);
    fd = open_socket(kernel, PMON_SOCK_LISTEN | PMON_SOCK_NONBLOCK);
    shell = pmon_kernel_add_process(kernel, "sh");
}

static void end(void) {
    pmon_kernel_free(kernel);
    close(fd);
}

static int seq(void) {
    struct event event;
    int error = next(fd, 0, &event);
    return error ? -error : (int)event.seq;
}

static short conditions(void) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    poll(&polled, 1, 0);
    return polled.revents;
}

static void forced_overrun(void) {
    start();
    pmon_kernel_fork(kernel, shell);
    CHECK(pmon_kernel_overrun(kernel, 0, 3) == 0);
    pmon_kernel_fork(kernel, shell);
    CHECK(conditions() == (POLLIN | POLLERR));
    CHECK(seq() == -ENOBUFS && seq() == 1 && seq() == 5 && seq() == -EAGAIN);
    CHECK(pmon_kernel_no_memory(kernel, 0, 2) == 0);
    pmon_kernel_fork(kernel, shell);
    CHECK(seq() == 8 && seq() == -EAGAIN);
    end();
}

static void lost_fork(void) {
    start();
    pmon_kernel_set_next_pid(kernel, 5071);
    pmon_kernel_lose(kernel, 1);
    CHECK(pmon_kernel_fork(kernel, shell) == 5071);
    CHECK(seq() == -ENOBUFS);
    struct event event;
    CHECK(pmon_kernel_exit(kernel, 5071, 0) == 0);
    CHECK(next(fd, 0, &event) == 0 && event.pid == 5071 && event.seq == 2);
    end();
}

static void lost_until_a_place(void) {
    start();
    const char *const argv[] = {"make", NULL};
    CHECK(pmon_kernel_lose_until(kernel, "{ kind = \"exec\", comm = \"make\" }") == 0);
    pid_t child = pmon_kernel_fork(kernel, shell);
    CHECK(pmon_kernel_rename(kernel, child, "x") == 0);
    CHECK(seq() == -ENOBUFS && seq() == -EAGAIN);
    CHECK(pmon_kernel_exec(kernel, child, "/usr/bin/make", argv) == 0);
    CHECK(seq() == 3);
    end();
}

static void full_buffer(void) {
    start();
    int size = 0, received = 0, last = -1;
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    for (int i = 0; i < 10; i++)
        CHECK(pmon_kernel_fork(kernel, shell) > 0);
    CHECK(seq() == -ENOBUFS);
    for (int number; (number = seq()) >= 0; received++)
        last = number;
    /* Before Linux 6.16, the smallest buffer holds 3 events. */
    CHECK((received == 2 || received == 3) && last == received);
    pmon_kernel_fork(kernel, shell);
    CHECK(seq() == 11);
    end();
}

static void without_enobufs(void) {
    start();
    int on = 1;
    CHECK(setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) == 0);
    CHECK(pmon_kernel_overrun(kernel, 0, 3) == 0);
    pmon_kernel_fork(kernel, shell);
    CHECK(conditions() == POLLIN && seq() == 4);
    end();
}

static void script(void) {
    start();
    CHECK(pmon_kernel_inject(kernel, "[[fault]]\nat = 2\noverrun = 5\n", 7) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pmon_kernel_fork(kernel, shell) > 0);
    CHECK(seq() == -ENOBUFS && seq() == 1 && seq() == 2 && seq() == 8 && seq() == 9);
    end();
}

static void *wait_for_overrun(void *argument) {
    struct event event;
    (void)argument;
    CHECK(fcntl(fd, F_SETFL, 0) == 0);
    CHECK(next(fd, 0, &event) == ENOBUFS);
    return NULL;
}

static void waiting_reader(void) {
    start();
    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, wait_for_overrun, NULL) == 0);
    CHECK(pmon_kernel_overrun(kernel, 0, 1) == 0);
    CHECK(pthread_join(reader, NULL) == 0);
    end();
}

int main(void) {
    forced_overrun();
    lost_fork();
    lost_until_a_place();
    full_buffer();
    without_enobufs();
    script();
    waiting_reader();
}
