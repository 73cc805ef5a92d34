/* Each call of a process emits its events, which recv, poll, select and epoll report. */
#include "client.h"

static void wait_by_poll(int fd) {
    struct pollfd polled = {.fd = fd, .events = POLLIN};
    CHECK(poll(&polled, 1, -1) == 1 && polled.revents == POLLIN);
}

static void wait_by_select(int fd) {
    fd_set fds;
    FD_ZERO(&fds);
    FD_SET(fd, &fds);
    CHECK(select(fd + 1, &fds, NULL, NULL, NULL) == 1);
}

static int epoll = -1;

static void wait_by_epoll(int fd) {
    struct epoll_event event;
    CHECK(epoll_wait(epoll, &event, 1, -1) == 1 && event.data.fd == fd && event.events == EPOLLIN);
}

static void wait_by_recv(int fd) { (void)fd; }

static void expect(int fd, void (*wait)(int), unsigned seq, int what, pid_t pid, int value) {
    struct event event;
    wait(fd);
    CHECK(next(fd, 0, &event) == 0);
    if (event.seq != seq || event.what != what || event.pid != pid || event.value != value)
        fprintf(stderr, "event %u: kind %#x, process %d, value %#x\n", event.seq, event.what, event.pid, event.value);
    CHECK(event.seq == seq && event.what == what && event.pid == pid && event.value == value);
}

static void run(unsigned flags, void (*wait)(int)) {
    pmon_kernel *kernel = new_kernel(2);
    int fd = open_socket(kernel, flags | PMON_SOCK_LISTEN);
    epoll = epoll_create1(0);
    struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) == 0);
    struct event event;
    CHECK(next(fd, MSG_DONTWAIT, &event) == EAGAIN);

    pid_t shell = pmon_kernel_add_process(kernel, "sh");
    CHECK(shell > 0);
    CHECK(pmon_kernel_set_next_pid(kernel, 5071) == 0);
    CHECK(pmon_kernel_fork(kernel, shell) == 5071);
    /* The acknowledgement had number 0. */
    expect(fd, wait, 1, 1, 5071, 0);
    pid_t thread = pmon_kernel_clone_thread(kernel, 5071);
    CHECK(thread == 5072);
    expect(fd, wait, 2, 1, 5072, 0);
    const char *const argv[] = {"make", "-j8", NULL};
    CHECK(pmon_kernel_exec(kernel, thread, "/usr/bin/make", argv) == 0);
    expect(fd, wait, 3, (int)0x80000000, 5071, 0);
    expect(fd, wait, 4, 2, 5071, 0);
    CHECK(pmon_kernel_rename(kernel, 5071, "renamed") == 0);
    expect(fd, wait, 5, 0x200, 5071, 0);
    CHECK(pmon_kernel_setuid(kernel, 5071, 1000, 1000) == 0);
    expect(fd, wait, 6, 4, 5071, 0);
    CHECK(pmon_kernel_setgid(kernel, 5071, 1000, 1000) == 0);
    expect(fd, wait, 7, 0x40, 5071, 0);
    CHECK(pmon_kernel_setsid(kernel, 5071) == 0);
    expect(fd, wait, 8, 0x80, 5071, 0);
    CHECK(pmon_kernel_ptrace_attach(kernel, shell, 5071) == 0);
    expect(fd, wait, 9, 0x100, 5071, 0);
    CHECK(pmon_kernel_ptrace_detach(kernel, 5071) == 0);
    expect(fd, wait, 10, 0x100, 5071, 0);
    CHECK(pmon_kernel_kill(kernel, 5071, 11, true) == 0);
    expect(fd, wait, 11, 0x40000000, 5071, 0);
    expect(fd, wait, 12, (int)0x80000000, 5071, 11 | 0x80);

    /* Sequence numbers are per CPU. */
    CHECK(pmon_kernel_run_on(kernel, 1) == 0);
    CHECK(pmon_kernel_advance(kernel, 1000000) == 0);
    pid_t child = pmon_kernel_fork(kernel, shell);
    CHECK(next(fd, 0, &event) == 0 && event.cpu == 1 && event.seq == 0 && event.other == shell);
    CHECK(pmon_kernel_exit(kernel, child, 0x103) == 0);
    expect(fd, wait, 1, (int)0x80000000, child, 3 << 8);
    CHECK(pmon_kernel_exit_group(kernel, shell, 1) == 0);
    expect(fd, wait, 2, (int)0x80000000, shell, 1 << 8);

    uint64_t events = 0;
    CHECK(pmon_kernel_events(kernel, &events) == 0 && events == 15);
    CHECK(next(fd, MSG_DONTWAIT, &event) == EAGAIN);
    pmon_kernel_free(kernel);
    close(epoll);
    close(fd);
}

int main(void) {
    void (*const waits[])(int) = {wait_by_recv, wait_by_poll, wait_by_select, wait_by_epoll};
    for (unsigned i = 0; i < sizeof waits / sizeof *waits; i++) {
        run(PMON_SOCK_PAIR, waits[i]);
        run(0, waits[i]);
        run(PMON_SOCK_NONBLOCK, waits[i]);
    }
}
